"""Units of pixels: what cameras and pipelines write, and the one word that we use for it."""

from __future__ import annotations

import re
from os import PathLike

from calibrant.errors import UnitError

CANONICAL = ("adu", "electron", "adu/s", "electron/s", "MJy/sr", "")
"""The units of planes; a variance has the square of its plane's."""

_COUNTS = {
    "adu": "adu adus dn dns dnu count counts ct cts datanumber datanumbers digitalnumber",
    "electron": "electron electrons e e- el elec electrons- photoelectron photoelectrons",
    "": "1 none dimensionless unitless normalized normalised relative ratio",
}
_ALIASES = {alias: name for name, aliases in _COUNTS.items() for alias in aliases.split()}
_RATES = {"cps": "adu/s", "mjy/sr": "MJy/sr", "mjysr-1": "MJy/sr"}
_PER_SECOND = re.compile(
    r"(?:/|per|[*.]?)(?P<s>s|sec|secs|second|seconds)(?P<power>\^|\*\*)?(?P<minus>\(?-1\)?)?$"
)


def parse_unit(text: str | None, where: str | PathLike[str] | None = None) -> str | None:
    """The canonical unit of a BUNIT, tolerant of case, blanks and plurals; None if there is none.

    Parameters
    ----------
    text : str or None
        ``ADU``, ``DN``, ``counts``, ``e-``, ``electrons/s``, ``DN s-1``, ...
    where : str or path, optional
        The file, for the message.

    Raises
    ------
    UnitError
        If the unit is none that pixels can have here.

    Examples
    --------
    >>> parse_unit("COUNTS / second"), parse_unit("e-"), parse_unit("  ")
    ('adu/s', 'electron', None)
    """
    if text is None or not text.strip():
        return None
    word = re.sub(r"[\s_]", "", text.strip().lower())
    if word in _ALIASES:
        return _ALIASES[word]
    if word in _RATES:
        return _RATES[word]
    rate = _PER_SECOND.search(word)
    if rate and (word[rate.start()] in "/p" or rate["minus"]):
        base = _ALIASES.get(word[: rate.start()])
        if base:
            return f"{base}/s"
    raise UnitError(
        f"the unit {text.strip()!r} is unknown",
        where=where,
        expected="adu (DN, counts), electron (e-), either of them per second, or none",
        do="mend BUNIT, or name the unit in the instrument file",
    )


def square(unit: str) -> str:
    """The unit of a variance as text for BUNIT: ``adu2``, ``electron2/s2``."""
    return "/".join(f"{part}2" for part in unit.split("/")) if unit else ""
