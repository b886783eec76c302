"""What the page is told about images: the facts, the flags that are set, one pixel, the header."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import CalibrantError
from calibrant.frame import DQ, Exposure
from calibrant.web.flags import legend
from calibrant.web.images import Viewable
from calibrant.web.planes import Plane, exact_text, number
from calibrant.web.pyramid import level_shape, levels_of
from calibrant.web.shelf import Entry, Shelf, Unknown
from calibrant.web.statistics import limits, numbers
from calibrant.web.tiles import SIDE

FACTS = (
    "kind", "time", "duration", "dark_time", "temperature", "filter", "mode", "gain_setting",
    "offset_setting", "binning", "detector", "instrument", "campaign", "identifier", "object", "gain",
    "read_noise", "saturation",
)  # fmt: skip


def summary(entry: Entry) -> dict[str, Any]:
    """One line of the list of images."""
    view = entry.viewable
    if view is None:
        return {
            "id": entry.id,
            "name": entry.name,
            "kind": "unreadable",
            "shape": None,
            "reads": 0,
            "unit": "",
        }
    unit = view.planes[0].unit if view.planes else ""
    shape = None if view.shape is None else list(view.shape)
    return {
        "id": entry.id, "name": view.name, "kind": view.kind, "shape": shape, "reads": view.reads,
        "unit": unit,
    }  # fmt: skip


def meta(shelf: Shelf, image: str) -> dict[str, Any]:
    """Everything that the page needs to show an image; of a changed file the state that it has now."""
    try:
        view = shelf.reopened(image)
    except CalibrantError as error:
        return _unreadable(shelf, image, error)
    entry = shelf.entry(image)
    main = view.planes[0] if view.planes else None
    found_limits = None if main is None else limits_of(shelf, image, main, 0)
    found: dict[str, Any] = {
        **summary(entry),
        "dtype": None if main is None else main.dtype.name,
        "version": view.version,
        "tile": SIDE,
        "axes": [] if main is None else list(main.axes),
        "levels": [] if main is None else _levels(main.shape),
        "planes": [_plane(plane) for plane in view.planes],
        "has_dq": view.dq is not None,
        "limits": found_limits,
        "amplifiers": [_amplifier(one) for one in view.amplifiers],
        "pieces": [
            {"name": one.name, "image": one.image, "rows": list(one.rows), "cols": list(one.cols)}
            for one in view.pieces
        ],
        "dq": [] if view.dq is None else legend(present_flags(shelf, image, view.dq)),
        "sky": has_sky(view),
        "exposure": {} if view.exposure is None else facts(view.exposure),
        "quantities": [
            {
                "name": q.name,
                "place": q.place,
                "value": number(q.value),
                "sigma": _maybe(q.sigma),
                "unit": q.unit,
            }
            for q in view.quantities
        ],
        "message": view.message or _empty(view, found_limits),
    }
    return found


def _empty(view: Viewable, limits: dict[str, Any] | None) -> str | None:
    """What is to be said of an image without a single value."""
    if limits is None or limits["min"] is not None:
        return None
    return f"{view.name}: no pixel{' of the first read' if view.reads > 1 else ''} has a finite value."


def _unreadable(shelf: Shelf, image: str, error: CalibrantError) -> dict[str, Any]:
    entry = shelf.entry(image)
    if entry.error is not error:
        raise error
    return {
        **summary(entry), "dtype": None, "version": "", "tile": SIDE, "axes": [], "levels": [], "planes": [],
        "has_dq": False, "limits": None, "amplifiers": [], "pieces": [],
        "dq": [], "sky": False, "exposure": {},
        "quantities": [], "message": without_paths(str(error), entry),
    }  # fmt: skip


def without_paths(sentence: str, entry: Entry) -> str:
    """A sentence that names the image, and no folder of this machine."""
    return sentence if entry.path is None else sentence.replace(entry.path, entry.name)


def _levels(shape: tuple[int, int]) -> list[dict[str, int]]:
    sizes = [level_shape(shape, level) for level in range(levels_of(shape))]
    return [{"level": level, "rows": rows, "cols": cols} for level, (rows, cols) in enumerate(sizes)]


def _plane(plane: Plane) -> dict[str, Any]:
    return {
        "name": plane.name, "unit": plane.unit, "encoding": plane.wire, "exact": plane.is_exact,
        "dtype": plane.dtype.name, "reads": plane.reads,
    }  # fmt: skip


def _amplifier(one: Any) -> dict[str, Any]:
    return {
        "name": one.name, "rows": list(one.rows), "cols": list(one.cols),
        "gain": _maybe(one.gain), "read_noise": _maybe(one.read_noise),
    }  # fmt: skip


def _maybe(value: float | None) -> Any:
    return None if value is None else number(value)


def facts(exposure: Exposure) -> dict[str, Any]:
    """What is known of an exposure, without its path."""
    known = {name: getattr(exposure, name) for name in FACTS}
    return {name: plain(value) for name, value in known.items() if value not in (None, "")}


def plain(value: Any) -> Any:
    """Values that JSON can hold; what is no finite number is None."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


# --- numbers of the whole image ---


def limits_of(shelf: Shelf, image: str, plane: Plane, read: int) -> dict[str, Any]:
    """Limits of a plane, kept with its pixels."""
    pyramid = shelf.pyramid(image, plane, read)
    key = (image, shelf.view(image).version, plane.name, read, "limits")
    rows = partial(shelf.rows, image, plane, read)
    return shelf.cache.get(key, lambda: Numbers(limits(rows, pyramid))).values


class Numbers:
    """A few numbers to be kept beside pixels."""

    nbytes = 1024

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values


def present_flags(shelf: Shelf, image: str, plane: Plane) -> int:
    """All bits that are set anywhere."""
    pyramid = shelf.pyramid(image, plane, 0)
    top = pyramid.levels[max(pyramid.levels)][0] if pyramid.levels else shelf.band(image, plane, 0, 0)
    return int(np.bitwise_or.reduce(top, axis=None))


# --- the sky ---


def has_sky(view: Viewable) -> bool:
    """Whether the header has a place on the sky that works."""
    return bool(view.header and "CTYPE1" in view.header) and _solution(view.header, view.shape) is not None


@lru_cache(maxsize=64)
def _solution(header: str | None, shape: tuple[int, int] | None) -> Any:
    from calibrant.files.sky import solution

    return None if shape is None else solution(header, shape)


def sky(view: Viewable, row: int, col: int) -> dict[str, Any] | None:
    """Where a pixel looks: degrees, and as text in hours and degrees."""
    if not has_sky(view):
        return None
    from astropy.coordinates import Angle

    wcs = _solution(view.header, view.shape)
    found = wcs.wcs_pix2world([[col, row]], 0)[0]
    ra, dec = float(found[wcs.wcs.lng]), float(found[wcs.wcs.lat])
    if not (math.isfinite(ra) and math.isfinite(dec)):
        return None
    hours = Angle(ra, "deg").to_string(unit="hourangle", sep=":", precision=3, pad=True)
    degrees = Angle(dec, "deg").to_string(unit="deg", sep=":", precision=2, pad=True, alwayssign=True)
    return {"ra": ra, "dec": dec, "text": f"{hours} {degrees}", "system": str(wcs.wcs.ctype[wcs.wcs.lng])[:4]}


# --- one pixel ---


def pixel(shelf: Shelf, image: str, row: int, col: int, read: int) -> dict[str, Any]:
    """All that is known of a pixel: each plane exactly, flags, amplifier, place on the sky.

    Raises
    ------
    Unknown
        If the image has no such pixel or read.
    """
    view = shelf.view(image)
    check_pixel(view, row, col, read)

    def value(plane: Plane) -> Any:
        own = min(read, plane.reads - 1)
        return shelf.rows(image, plane, own, row, row + 1)[0, col]

    flags = 0 if view.dq is None else int(value(view.dq))
    read_flags = None if view.read_dq is None else int(value(view.read_dq))
    amplifier = next(filter(None, (one.told(row, col) for one in view.amplifiers)), None)
    return {
        "row": row,
        "col": col,
        "read": read,
        "planes": {plane.name: _value(value(plane), plane.unit) for plane in view.planes},
        "dq": None if view.dq is None else {"value": flags, "names": list(DQ.names(flags))},
        "read_dq": None if read_flags is None else {"value": read_flags, "names": list(DQ.names(read_flags))},
        "amplifier": amplifier,
        "sky": sky(view, row, col),
    }


def _value(value: Any, unit: str) -> dict[str, Any]:
    return {"value": number(value), "text": exact_text(value), "unit": unit}


def check_pixel(view: Viewable, row: int, col: int, read: int) -> None:
    """See that the image has this pixel.

    Raises
    ------
    Unknown
        If not.
    """
    if view.shape is None:
        raise Unknown("there is no image, and so no pixel", where=view.name)
    if not (0 <= row < view.shape[0] and 0 <= col < view.shape[1]):
        raise Unknown("the image has no such pixel", expected=f"within {view.shape}", got=f"{row}, {col}")
    if not 0 <= read < max(1, view.reads):
        raise Unknown("the image has no such read", expected=f"0 to {view.reads - 1}", got=read)


def ramp(shelf: Shelf, image: str, row: int, col: int) -> dict[str, Any]:
    """A pixel through all reads, with the flags of each read."""
    view = shelf.view(image)
    check_pixel(view, row, col, 0)
    main = view.planes[0]
    found: dict[str, Any] = {
        "row": row, "col": col, "axes": list(main.axes), "unit": main.unit,
        "values": numbers(_through(main, row, col)), "times": _times(view),
    }  # fmt: skip
    flags = view.read_dq
    found["read_dq"] = None if flags is None else numbers(_through(flags, row, col))
    return found


def _through(plane: Plane, row: int, col: int) -> NDArray[Any]:
    # One row of each read: the pixels of a ramp lie far apart in the file.
    return np.array([plane.rows(read, row, row + 1)[0, col] for read in range(plane.reads)])


def _times(view: Viewable) -> list[float] | None:
    """Ends of the groups in seconds since the reset, where the header says how long one takes."""
    exposure, axes = view.exposure, view.planes[0].axes
    step = None if exposure is None else exposure.keys.get("group_time")
    if not axes or not isinstance(step, int | float):
        return None
    return [(n % axes[-1] + 1) * float(step) for n in range(math.prod(axes))]


def header(view: Viewable) -> list[dict[str, str]]:
    """The original cards: keyword and text."""
    text = view.header or ""
    cards = (text[at : at + 80] for at in range(0, len(text), 80))
    return [
        {"key": card[:8].strip(), "text": card[8:].removeprefix("=").strip()}
        for card in cards
        if card.strip()
    ]
