"""Side by side: ours and the alternative, in one run."""
