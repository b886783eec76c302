"""Exposures of lamps and sources by what they are, and with their background subtracted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import MissingCalibrationError, SelectionError
from calibrant.exposures.table import Exposures
from calibrant.frame import Applied, Exposure, Frame

BACKGROUND = "background"
READOUT = ("detector", "mode", "groups", "gain_setting", "binning", "band")
F4 = NDArray[np.float32]


def narrowed(exposures: Exposures, **facts: Any) -> Exposures:
    """Those that all facts agree with; one of a list of values, each of which must be there.

    Raises
    ------
    SelectionError
        If there are none, with the fact that rules all out named.
    """
    left = exposures
    for name, wanted in facts.items():
        before = left
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if not len(before.where(**{name: value})):
                rest = ", ".join(f"{key} {_said(told)}" for key, told in facts.items() if key != name)
                raise SelectionError(
                    f"no exposure has the {name} {value}" + (f" among those of {rest}" if rest else ""),
                    expected=", ".join(str(known) for known in before.values(name)) or "none at all",
                    got=value,
                )
        left = before.where(**{name: wanted})
    return left


def only(exposures: Exposures, **facts: Any) -> Exposure:
    """The one exposure that all facts agree with.

    Raises
    ------
    SelectionError
        If there is none, with the fact that rules all out named, or there are several.
    """
    return _one(exposures, facts)[0]


def frame_of(exposures: Exposures, **facts: Any) -> Frame:
    """The frame of the one exposure that all facts agree with; as `only`."""
    return _one(exposures, facts).frame(0).load()


def subtracted(exposures: Exposures, *, background: str = BACKGROUND, **facts: Any) -> Frame:
    """The frame of the one exposure that all facts agree with, less its background.

    Parameters
    ----------
    background : str
        Name of its source; see `background_of`.
    **facts
        As of `Exposures.where`, such as ``source="extended-800K", campaign="FM", band="1A"``.

    Returns
    -------
    Frame
        Differences, their variances added, flags of both.

    Raises
    ------
    SelectionError
        As `only`.
    MissingCalibrationError
        If there is no background.
    """
    found = _one(exposures, facts)
    dark = background_of(exposures, found[0], background)
    return less(found.frame(0).load(), dark.frame(0).load())


def background_of(exposures: Exposures, exposure: Exposure, background: str = BACKGROUND) -> Exposures:
    """The exposure of the source `background` that belongs to another, as a table of one.

    It is of the same campaign, band and detector: what campaigns lack in common is no background of each
    other.

    Raises
    ------
    MissingCalibrationError
        If there is none.
    SelectionError
        If there are several.
    """
    same = {"campaign": exposure.campaign, "band": exposure.get("band"), "detector": exposure.detector}
    told = {name: value for name, value in same.items() if value is not None}
    if not len(exposures.where(source=background, **told)):
        raise MissingCalibrationError(
            "there is no background to subtract",
            where=exposure.path or exposure.identifier,
            expected=f"an exposure of the source {background} with "
            + ", ".join(f"{name} {value}" for name, value in told.items()),
            do="add it, or use the frame with its background",
        )
    return _one(exposures, {"source": background, **told})


def less(frame: Frame, dark: Frame) -> Frame:
    """A frame less its background: differences, variances added, flags of both.

    Raises
    ------
    HistoryError
        If it was subtracted already.
    """
    frame.require(BACKGROUND)
    step = Applied(BACKGROUND, options={"file": dark.name.rsplit("/", 1)[-1]})
    return replace(
        frame,
        data=_plane(frame.data) - _plane(dark.data),
        variance=_sum(frame.variance, dark.variance),
        dq=_flags(frame, dark),
        history=(*frame.history, step),
    )


def same_readout(exposures: Mapping[str, Exposure], what: str = "exposures") -> None:
    """Refuse what was read out differently, by names; what is not stated is no difference.

    Raises
    ------
    SelectionError
    """
    for key in READOUT:
        stated = {name: exposure.get(key) for name, exposure in exposures.items()}
        if len({str(value) for value in stated.values() if value is not None}) > 1:
            raise SelectionError(
                f"the {what} differ in {key.replace('_', ' ')}",
                got=", ".join(f"{name} {value}" for name, value in stated.items()),
                do="take the same from each, or allow any readout",
            )


def _one(exposures: Exposures, facts: dict[str, Any]) -> Exposures:
    left = narrowed(exposures, **facts)
    if len(left) > 1:
        raise SelectionError(
            f"{len(left)} exposures agree where one is wanted",
            got=", ".join(str(one.path or one.identifier).rsplit("/", 1)[-1] for one in left[:5]),
            do="name more facts, such as pointing and position",
        )
    return left


def _said(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)


def _plane(plane: Any) -> F4:
    return np.asarray(plane, np.float32)


def _sum(one: Any, other: Any) -> F4 | None:
    return None if one is None or other is None else _plane(one) + _plane(other)


def _flags(one: Frame, other: Frame) -> NDArray[np.uint32] | None:
    known = [np.asarray(frame.dq, np.uint32) for frame in (one, other) if frame.dq is not None]
    return None if not known else np.bitwise_or.reduce(known)
