"""The files of the cameras that can be simulated. It imports little: the command line asks for the names."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """Names of the cameras."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def table(name: str) -> dict[str, Any]:
    """What the file of a camera says, unchecked."""
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
