"""`combine` and `debug_pixel` for any files, frames or arrays: no instrument is needed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from calibrant.errors import HeaderError, OptionError, SelectionError, UnitError
from calibrant.exposures.scan import Found, Item, Progress, expand
from calibrant.exposures.table import Exposures
from calibrant.files.header import Contents, scan_headers
from calibrant.frame import MICROSECOND, Applied, Exposure, Frame
from calibrant.instrument import load

if TYPE_CHECKING:
    from calibrant.stack.combine import Combined
    from calibrant.stack.debug import PixelStory
    from calibrant.stack.reject import Rejection
    from calibrant.stack.run import Runner

GENERIC = "generic-ccd"


def combine(
    paths_or_frames: Any,
    method: str = "median",
    reject: Rejection | str = "none",
    scale: Any = None,
    zero: Any = None,
    weights: Any = None,
    budget: str | int = "512MB",
    runner: Runner | str | int | None = None,
    progress: Progress | None = None,
    **more: Any,
) -> Frame:
    """Combine images, pixel by pixel.

    Parameters
    ----------
    paths_or_frames : paths, frames, arrays, CCDData, or Exposures
        Files, folders, globs and ``@lists``, or images in memory, all of one shape (rows, cols).
    method : str
        ``median``, ``mean``, ``sum`` or ``weighted``.
    reject : Rejection or str
        Such as ``SigmaClip(3)``, or its name.
    scale, zero : str, array or None
        ``mode``, ``median``, ``mean``, or a number for each image: ``(value + zero) * scale`` is combined.
    weights : array or str, optional
        A weight for each image.
    budget : str or int
        Memory; a plan that does not fit is refused before pixels are read.
    runner : Runner, str or int, optional
        Where bands are worked on: ``serial``, a number of threads, or a Runner.
    progress : callable, optional
        Called as progress(done, total, what).
    **more
        Further options of `calibrant.stack.combine.combine`: mask, limits, noise, grow, n_keep, section.

    Returns
    -------
    Frame
        ``data`` float32 in the images' unit; ``variance`` from the scatter of the images; ``dq``; planes
        ``count``, ``low``, ``high`` (and ``propagated`` where a noise model was given) in ``extra``; header
        of the first image, the facts that all share, and their mean time.

    Raises
    ------
    SelectionError
        If there are none, or files cannot be used.
    ShapeError
        If sizes differ.
    UnitError
        If units differ.
    OptionError
        If an option has no meaning, or a rejection cannot act on so few images.
    BudgetError
        If the plan does not fit.
    """
    from calibrant.stack.combine import combine as stack_combine

    exposures = gather(paths_or_frames)
    unit = _unit(exposures)
    said = {"method": method, "reject": reject, "scale": scale, "zero": zero, "weights": weights, **more}
    combined = stack_combine(exposures.sources(), budget=budget, runner=runner, progress=progress, **said)
    return _framed(combined, exposures, unit, said)


def _framed(combined: Combined, exposures: Exposures, unit: str, said: dict[str, Any]) -> Frame:
    """The combination as a frame that tells how it was made."""
    planes = {name: getattr(combined, name) for name in ("count", "low", "high", "propagated")}
    options = {name: _said(value) for name, value in said.items() if value is not None}
    return Frame(
        combined.data,
        variance=combined.variance,
        dq=combined.dq,
        unit=unit,
        exposure=_common(exposures),
        history=(Applied("combine", options=options, note=_images(exposures)),),
        header=_first_header(exposures),
        extra={name: plane for name, plane in planes.items() if plane is not None},
    )


def _images(exposures: Exposures) -> str:
    """How many images, and of which kinds if their headers say several: they are seldom meant together."""
    kinds = Counter(exposure.kind for exposure in exposures if exposure.kind != "unknown")
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{len(exposures)} images" + (f"; of mixed kinds: {told}" if len(kinds) > 1 else "")


def debug_pixel(paths_or_frames: Any, row: int, col: int, **options: Any) -> PixelStory:
    """Follow one pixel through `combine`, stage by stage.

    Parameters
    ----------
    paths_or_frames : as of `combine`
    row, col : int
        The pixel, from 0.
    **options
        As of `combine`.

    Returns
    -------
    PixelStory
        Prints values, masks, scales, limits of each iteration, what was rejected, and the result.
    """
    from calibrant.stack.debug import debug_pixel as story

    return story(gather(paths_or_frames).sources(), row, col, **options)


def gather(given: Any) -> Exposures:
    """Exposures of whatever names or holds images.

    Raises
    ------
    SelectionError
        If there are none, or a file cannot be used.
    OptionError
        If something is no image.
    """
    if isinstance(given, Exposures):
        exposures = given
    else:
        if isinstance(given, (str, os.PathLike, Frame)) or _is_ccddata(given):
            given = [given]
        elif isinstance(given, np.ndarray):
            given = [given] if given.ndim == 2 else list(given)
        elif not isinstance(given, Iterable):
            raise OptionError(
                "these are no images", expected="paths, frames or arrays", got=type(given).__name__
            )
        exposures = _gathered(list(given))
    if not len(exposures):
        raise SelectionError("there are no images to combine", do="check the names")
    return exposures


def _gathered(given: list[Any]) -> Exposures:
    if all(isinstance(one, (str, os.PathLike)) for one in given):
        return _of_files(given)
    return Exposures.from_frames([_frame(one, index) for index, one in enumerate(given)], GENERIC)


def _of_files(given: list[Any]) -> Exposures:
    found = Found()
    files = list(expand(given, False, found))
    if found.problems:
        raise SelectionError(found.problems[0].sentence, do="leave it out")
    items, seen = [], set()
    for path, contents in scan_headers(files):
        if not isinstance(contents, Contents):
            raise contents
        if contents.stamp[:2] in seen:  # counted twice, its noise would be taken for signal
            raise SelectionError("the file was given twice", where=path, do="give each file once")
        seen.add(contents.stamp[:2])
        items.append(Item(_facts(path, contents)))
    return Exposures(items, GENERIC)


def _facts(path: str, contents: Contents) -> Exposure:
    """What the header says; a card that cannot be read must not keep images from being combined."""
    shape = contents.image().shape
    try:
        return replace(load(GENERIC).exposure(contents.header(), path), shape=shape)
    except HeaderError:
        return Exposure(path=path, shape=shape, instrument=GENERIC)


def _frame(one: Any, index: int) -> Frame:
    if isinstance(one, Frame):
        return one
    if isinstance(one, np.ndarray):
        return Frame(one, exposure=Exposure(identifier=f"array {index}", shape=one.shape))
    if _is_ccddata(one):
        return Frame.from_ccddata(one)
    if isinstance(one, (str, os.PathLike)):
        exposures = _of_files([one])
        if len(exposures) == 1:
            return exposures.frame(0)
    raise OptionError(
        "this is no image", where=f"input {index}", expected="path, frame, array", got=type(one).__name__
    )


def _is_ccddata(one: Any) -> bool:
    return any(base.__name__ == "CCDData" for base in type(one).__mro__)


def _unit(exposures: Exposures) -> str:
    if exposures.steps:
        return str(getattr(exposures.sources()[0], "unit_after", exposures[0].unit))
    units = {exposures.frame(i).unit if e.path is None else e.unit: e for i, e in enumerate(exposures)}
    if len(units) > 1:
        first, other = list(units)[:2]
        raise UnitError(
            "images of different units cannot be combined",
            where=units[other].path or units[other].identifier,
            expected=repr(first),
            got=repr(other),
        )
    return next(iter(units))


def _common(exposures: Exposures) -> Exposure:
    """The facts that all share; begin and duration such that the middle is the mean of the middles."""
    first = exposures[0]
    facts: dict[str, Any] = {}
    for field in fields(Exposure):
        value = getattr(first, field.name)
        if all(getattr(exposure, field.name) == value for exposure in exposures):
            facts[field.name] = value
    facts.update(path=None, identifier=None, keys=_shared_keys(exposures))
    temperatures = exposures.values("temperature")
    facts["temperature"] = temperatures[0] if len(temperatures) == 1 else None
    if exposures.epoch is not None:
        facts["start"] = exposures.epoch - round((facts.get("duration") or 0.0) * MICROSECOND / 2)
    return Exposure(**{**facts, "shape": first.shape})


def _shared_keys(exposures: Exposures) -> dict[str, Any]:
    first, others = exposures[0].keys, [exposure.keys for exposure in exposures[1:]]
    return {key: value for key, value in first.items() if all(keys.get(key) == value for keys in others)}


def _first_header(exposures: Exposures) -> str | None:
    if exposures[0].path is None:
        return exposures.frame(0).header
    from calibrant.files.header import read_header

    return read_header(exposures[0].path).cards


def _said(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(part, (int, float, str)) for part in value):
        return list(value)
    return type(value).__name__ if isinstance(value, np.ndarray) else str(value)
