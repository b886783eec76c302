"""The colours in which flags are shown, those that displays of the field usually have."""

from __future__ import annotations

from typing import Any

from calibrant.frame import DQ

BAD, HIT, SATURATED, SUSPECT, EMPTY = "#ff3b30", "#ff2ee6", "#2ed158", "#ffe14d", "#ff9500"
OTHERS = ("#40c8ff", "#b48cff", "#00d5c8", "#ff8fa3", "#a3d65c", "#c9a26b", "#7f9cff", "#e0b0ff")
"""For bits without a colour of their own, one after the other."""
COLOURS: dict[DQ, str] = {
    DQ.DO_NOT_USE: BAD,
    DQ.SATURATED: SATURATED,
    DQ.AD_FLOOR: SATURATED,
    DQ.JUMP_DET: HIT,
    DQ.NON_SCIENCE: EMPTY,
    DQ.FLUX_ESTIMATED: SATURATED,
    DQ.NONLINEAR: SUSPECT,
    DQ.OTHER_BAD_PIXEL: BAD,
}
"""Red: bad; magenta: cosmic rays; green: saturated or filled; yellow: suspect; orange: no data."""


def colour(bit: DQ) -> str:
    """The colour of a bit, as ``#rrggbb``."""
    return COLOURS.get(bit, OTHERS[(int(bit).bit_length() - 1) % len(OTHERS)])


def legend(present: int) -> list[dict[str, Any]]:
    """Bit, name, sentence and colour of each bit that is set in `present`."""
    return [
        {
            "bit": int(bit).bit_length() - 1,
            "value": int(bit),
            "name": bit.name,
            "sentence": bit.sentence,
            "colour": colour(bit),
        }
        for bit in DQ
        if present & bit
    ]
