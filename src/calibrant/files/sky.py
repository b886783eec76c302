"""Sky: the celestial solution of a header, if it has one that works."""

from __future__ import annotations

import re

import numpy as np
from astropy.wcs import WCS

from calibrant.files.header import Header

KEYWORD = re.compile(
    r"(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)[12]|(CD|PC)[12]_[12]|PC00[12]00[12]|P[VS][12]_\d+"
    r"|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|(A|B|AP|BP)_(ORDER|DMAX|\d_\d)"
)
"""The keywords that say where the sky is. Dates, observatories and the camera's own cards stay outside: they
have nothing to add, and what is wrong with them is no concern of a grid."""


def sky_cards(header: Header) -> dict[str, str | float | int]:
    """The cards that concern the sky, text and numbers as what they mean.

    Numbers that were written as text (``'12.5'``) are read as numbers; cards without a value are left out.
    """
    found: dict[str, str | float | int] = {}
    for name in header:
        value = header.get(name) if KEYWORD.fullmatch(name) else None
        if name.startswith(("CTYPE", "CUNIT", "RADE")):
            if isinstance(value, str) and value.strip():
                found[name] = value.strip()
            continue
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
        found[name] = int(number) if name.endswith("_ORDER") else number
    return _modern(found)


def _modern(found: dict[str, str | float | int]) -> dict[str, str | float | int]:
    """Names and forms of today for those of the past, of which the library would warn for every frame."""
    for old, new in (("RADECSYS", "RADESYS"), ("EPOCH", "EQUINOX")):
        if old in found:
            found.setdefault(new, found.pop(old))
    for unit in ("CUNIT1", "CUNIT2"):
        if str(found.get(unit, "")).lower().startswith("deg"):
            found[unit] = "deg"
    for axis in ("CTYPE1", "CTYPE2"):
        kind = str(found.get(axis, ""))
        if "A_ORDER" in found and kind and not kind.endswith("-SIP"):
            found[axis] = f"{kind}-SIP"  # many solvers forget to say that their polynomials are to be used
    return found


def solution(header: str | None, shape: tuple[int, int]) -> WCS | None:
    """The celestial solution of a header, if it has one that works over the whole image.

    Parameters
    ----------
    header : str or None
        Original cards, 80 characters each.
    shape : (int, int)
        Rows, columns of the image.

    Returns
    -------
    wcs : WCS or None
        None where the header has no celestial axes, no scale, or a solution that does not invert.
    """
    if not header:
        return None
    known = Header(header)
    found = sky_cards(known)
    if "CTYPE1" not in found or not _fits(known, shape):
        return None
    try:
        # fix=False: the library would warn of every card it mends; Wcsprm.fix mends the same without a word.
        wcs = WCS(found, naxis=2, fix=False)
        wcs.wcs.fix()
        wcs.wcs.set()
    except (ValueError, KeyError):  # every error of the library for a broken header: then there is no grid
        return None
    return wcs if wcs.has_celestial and _works(wcs, shape) else None


def _fits(header: Header, shape: tuple[int, int]) -> bool:
    """Whether the header speaks of an image of this size: a trimmed one has its reference pixel elsewhere."""
    sizes = [header.get(f"NAXIS{axis}") for axis in (2, 1)]
    # A tile-compressed image has the sizes of its table there, and its own as ZNAXIS.
    sizes = [header.get(f"ZNAXIS{axis}", size) for axis, size in zip((2, 1), sizes, strict=True)]
    return all(not isinstance(size, int) or size == n for size, n in zip(sizes, shape, strict=True))


def _works(wcs: WCS, shape: tuple[int, int]) -> bool:
    """Whether corners and middle have a place on the sky and come back to where they were."""
    rows, cols = shape
    x = np.array([0.0, cols - 1, 0, cols - 1, (cols - 1) / 2])
    y = np.array([0.0, 0, rows - 1, rows - 1, (rows - 1) / 2])
    try:
        world = wcs.wcs_pix2world(x, y, 0)
        back = wcs.wcs_world2pix(*world, 0)
    except ValueError:  # as above
        return False
    return bool(np.all(np.isfinite(world)) and np.allclose(back, (x, y), atol=0.01))
