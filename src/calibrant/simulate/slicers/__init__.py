"""Scenes of image slicers, a TOML file each."""

from __future__ import annotations

from importlib.resources import files


def names() -> tuple[str, ...]:
    """Names of the scenes that come with the package."""
    return tuple(sorted(one.name[:-5] for one in files(__name__).iterdir() if one.name.endswith(".toml")))
