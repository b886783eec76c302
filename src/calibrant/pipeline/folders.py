"""Folders: where the results of a reduction lie, and how its calibrated files are called."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from calibrant.errors import WriteError
from calibrant.frame import Exposure
from calibrant.pipeline.ledger import NAME as LEDGER
from calibrant.pipeline.workshop import FOLDER

CALIBRATED = "calibrated"
HASHES = ".hashes.json"


def names(exposures: list[Exposure]) -> list[str]:
    """Stems for the calibrated files, each of its own: those of the raw ones.

    Files of one folder that differ in their ending alone are told by it; those of several folders by as many
    of their folders as it takes.
    """
    paths = [Path(exposure.path or "frame") for exposure in exposures]
    here = _twice(str(path.with_name(_stem(path))) for path in paths)
    stems = [
        path.name.replace(".", "-") if str(path.with_name(_stem(path))) in here else _stem(path)
        for path in paths
    ]
    found = stems
    for depth in range(1, max((len(path.parts) for path in paths), default=0)):
        twice = _twice(found)
        if not twice:
            break
        found = [
            "-".join([*path.parent.parts[-depth:], stem]).lstrip("/-") if name in twice else name
            for path, stem, name in zip(paths, stems, found, strict=True)
        ]
    return _numbered(found)


def _numbered(words: Iterable[str]) -> list[str]:
    """Words that still clash, as of ``x/a`` and ``x-a``, with a number."""
    found: dict[str, None] = {}
    for word in words:
        tries = (f"{word}-{number}" for number in count(2))
        found[word if word not in found else next(one for one in tries if one not in found)] = None
    return list(found)


def _twice(words: Iterable[str]) -> set[str]:
    return {word for word, count in Counter(words).items() if count > 1}


def _stem(path: Path) -> str:
    name = path.name
    for ending in (".gz", ".fz"):
        name = name.removesuffix(ending)
    return name.rpartition(".")[0] or name


def make_folders(out: Path) -> list[Path]:
    """Make the folders of the results; returns those that were not there, outer ones first."""
    wanted = [*reversed(out.parents), out, out / FOLDER, out / CALIBRATED]
    new = [path for path in wanted if not path.exists()]
    try:
        for path in new:
            path.mkdir(exist_ok=True)
        return new
    except OSError as error:
        remove_empty(out, new)
        raise WriteError(
            f"the folder cannot be made ({error.strerror})", where=out, do="choose another --out"
        ) from None


def remove_empty(out: Path, made: list[Path]) -> None:
    """Take back the folders that a run made and left empty, but for our notes on the raw files."""
    with contextlib.suppress(OSError):
        if out in made and not any(
            path.is_file() for name in (FOLDER, CALIBRATED) for path in (out / name).iterdir()
        ):
            for name in (HASHES, LEDGER):
                (out / name).unlink(missing_ok=True)
    for path in reversed(made):
        with contextlib.suppress(OSError):
            path.rmdir()
