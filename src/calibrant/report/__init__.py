"""Report: products and frames as pictures."""
