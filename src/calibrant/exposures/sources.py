"""Exposures of lamps and sources by what they are, and with their background subtracted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import MissingCalibrationError, SelectionError
from calibrant.exposures.table import Exposures
from calibrant.frame import Applied, Exposure, Frame

BACKGROUND = "background"
F4 = NDArray[np.float32]


def only(exposures: Exposures, **facts: Any) -> Exposure:
    """The one exposure that all facts agree with.

    Raises
    ------
    SelectionError
        If there is none, with the fact that rules all out named, or there are several.
    """
    return exposures.where(**facts)[_index(exposures, facts)]


def frame_of(exposures: Exposures, **facts: Any) -> Frame:
    """The frame of the one exposure that all facts agree with; as `only`."""
    return exposures.where(**facts).frame(_index(exposures, facts)).load()


def subtracted(exposures: Exposures, *, background: str = BACKGROUND, **facts: Any) -> Frame:
    """The frame of the one exposure that all facts agree with, less its background.

    The background is the exposure of the source `background` of the same campaign, band and detector. What
    campaigns lack in common is no background of each other.

    Parameters
    ----------
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
    found = only(exposures, **facts)
    same = {"campaign": found.campaign, "band": found.get("band"), "detector": found.detector}
    told = {name: value for name, value in same.items() if value is not None}
    if not len(exposures.where(source=background, **told)):
        raise MissingCalibrationError(
            "there is no background to subtract",
            where=found.path or found.identifier,
            expected=f"an exposure of the source {background} with "
            + ", ".join(f"{name} {value}" for name, value in told.items()),
            do="add it, or use the frame with its background",
        )
    frame, dark = frame_of(exposures, **facts), frame_of(exposures, source=background, **told)
    step = Applied(BACKGROUND, options={"file": dark.name.rsplit("/", 1)[-1]})
    return replace(
        frame,
        data=_plane(frame.data) - _plane(dark.data),
        variance=_sum(frame.variance, dark.variance),
        dq=_flags(frame, dark),
        history=(*frame.history, step),
    )


def _index(exposures: Exposures, facts: dict[str, Any]) -> int:
    left = exposures
    for name, wanted in facts.items():
        before, left = left, left.where(**{name: wanted})
        if not len(left):
            rest = ", ".join(f"{key} {value}" for key, value in facts.items() if key != name)
            raise SelectionError(
                f"no exposure has the {name} {wanted}" + (f" among those of {rest}" if rest else ""),
                expected=", ".join(str(value) for value in before.values(name)) or "none at all",
                got=wanted,
            )
    if len(left) > 1:
        raise SelectionError(
            f"{len(left)} exposures agree where one is wanted",
            got=", ".join(str(one.path or one.identifier).rsplit("/", 1)[-1] for one in left[:5]),
            do="name more facts, such as pointing and position",
        )
    return 0


def _plane(plane: Any) -> F4:
    return np.asarray(plane, np.float32)


def _sum(one: Any, other: Any) -> F4 | None:
    return None if one is None or other is None else _plane(one) + _plane(other)


def _flags(one: Frame, other: Frame) -> NDArray[np.uint32] | None:
    known = [np.asarray(frame.dq, np.uint32) for frame in (one, other) if frame.dq is not None]
    return None if not known else np.bitwise_or.reduce(known)
