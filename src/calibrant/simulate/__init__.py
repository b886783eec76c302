"""Simulate: light to raw files, with the truth beside them. Never imports effects."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibrant.simulate import camera, detector, infrared, observe, raft, readout, scene
    from calibrant.simulate.exercise import pixels

__all__ = ["camera", "detector", "infrared", "observe", "pixels", "raft", "readout", "scene"]


def __getattr__(name: str) -> Any:
    """Load a part of the simulator when it is first used."""
    if name == "pixels":
        return import_module(f"{__name__}.exercise").pixels
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
