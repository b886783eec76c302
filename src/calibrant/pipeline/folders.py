"""Folders: where the results of a reduction lie, and how its calibrated files are called."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

from calibrant.errors import SelectionError, WriteError
from calibrant.exposures import Exposures
from calibrant.exposures.scan import Paths
from calibrant.frame import Exposure
from calibrant.instrument import Instrument
from calibrant.pipeline.ledger import NAME as LEDGER

Progress = Callable[[int, int, str], None]
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


def make_folders(out: Path, *inner: str) -> list[Path]:
    """Make the folders of the results, `inner` in `out`; returns those that were not there, outer first."""
    wanted = [*reversed(out.parents), out, *(out / name for name in inner)]
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
            path.is_file() for folder in made if folder.parent == out for path in folder.iterdir()
        ):
            for name in (HASHES, LEDGER):
                (out / name).unlink(missing_ok=True)
    for path in reversed(made):
        with contextlib.suppress(OSError):
            path.rmdir()


def scan(
    folder: Paths,
    out: Path,
    instrument: str | Path | Instrument,
    kinds: str | Path | None,
    progress: Progress | None,
    known: bool = True,
) -> Exposures:
    """The raw frames of a folder: what lies in `out`, and results of ours elsewhere, are none.

    Raises
    ------
    SelectionError
        If there is none, or the rules of the instrument must know what they are (`known`), and know none.
    """
    found = Exposures.scan(folder, instrument=instrument, kinds=kinds, progress=progress)
    inside = str(out.resolve()) + "/"
    results = len(found)
    found = found.where(lambda exposure: _is_raw(exposure, inside))
    more = (
        f"; {len(found.problems)} files could not be used, first: {found.problems[0].sentence}"
        if found.problems
        else ""
    )
    if results and not len(found):
        raise SelectionError(
            f"the folder holds results of an earlier reduction, and no raw frame{more}",
            where=_told(folder),
            got=f"{results} masters or calibrated frames",
            do="name the folder of the raw frames",
        )
    if not len(found):
        raise SelectionError(f"there are no FITS images{more}", where=_told(folder), do="check the folder")
    unknown = found.where(kind="unknown")
    if known and len(unknown) == len(found):
        raise SelectionError(
            "the rules of the instrument do not say what any of these files is",
            where=_told(folder),
            got=f"{len(found)} files of unknown kind",
            do="name the instrument, give a table with --kinds, or add rules to its TOML file",
        )
    return found


def _told(folder: Paths) -> str:
    """Where something was looked for, in a message."""
    given = [folder] if isinstance(folder, (str, os.PathLike)) else list(folder)
    more = f" and {len(given) - 1} more" if len(given) > 1 else ""
    return f"{given[0]}{more}" if given else "nothing"


def _is_raw(exposure: Exposure, out: str) -> bool:
    """Whether a file is a camera's: not a result of ours, here or of an earlier reduction."""
    ours = exposure.kind == "product" or "read_noise" in exposure.applied
    return not ours and not str(Path(exposure.path or "").resolve()).startswith(out)
