"""Registry: which calibration was valid when, why it was chosen, and where it came from.

`Registry` itself is imported when it is first used: the records of this room need no database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibrant.registry.store import Registry

__all__ = ["Registry"]


def __getattr__(name: str) -> Any:
    if name == "Registry":
        return import_module("calibrant.registry.store").Registry
    raise AttributeError(f"module 'calibrant.registry' has no attribute {name!r}")
