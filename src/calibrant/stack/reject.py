"""Rejections: small value objects that say which values of a pixel's column are left out, and when they
cannot act."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

from calibrant.errors import OptionError


@dataclass(frozen=True)
class Rejection:
    """Base of all rejections; itself the one that rejects nothing.

    Values that lie exactly on a limit are kept.
    """

    name: ClassVar[str] = "none"
    fewest: ClassVar[int] = 1
    """Frames below which it cannot act."""
    needs_noise: ClassVar[bool] = False

    def check(self, frames: int) -> None:
        """Refuse a rejection that could not reject anything, however strong the hit.

        Raises
        ------
        OptionError
            If it cannot act on so few frames; the sentence says which rejections can.
        """
        if frames > 1 and frames < self.least_frames():
            raise OptionError(
                f"{self} cannot reject anything from {frames} frames, however strong the hit",
                where="reject",
                expected=f"at least {self.least_frames()} frames",
                got=frames,
                do=f"use {_able(frames)}",
            )

    def least_frames(self) -> int:
        """Fewest frames of which one hit can be told from the others."""
        return self.fewest

    def __str__(self) -> str:
        options = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self))
        return f"{type(self).__name__}({options})"


def _able(frames: int) -> str:
    """Which rejections can act on so few frames."""
    if frames < 3:
        return "no rejection: two values cannot outvote each other"
    able = "CCDClip() with a noise model, SigmaClip(5, deviation='mad')"
    for clip in (SigmaClip(3.0), SigmaClip(3.0, centre="mean")):
        if frames >= clip.least_frames():
            able += f", SigmaClip(3, centre={clip.centre!r})"
    return able + ", or the median without rejection"


@dataclass(frozen=True)
class SigmaClip(Rejection):
    """Values further than `low` or `high` standard deviations from the centre, again and again.

    As `astropy.stats.sigma_clip` does it: the standard deviation is that of the values themselves (divided by
    n), or 1.4826 times the median absolute deviation; every round takes its limits from the values within the
    last ones, and what lies within the last limits of all is kept.

    Parameters
    ----------
    low, high : float
        Limits in standard deviations; `high` is `low` if not given.
    centre : str
        ``"median"`` or ``"mean"``.
    deviation : str
        ``"std"`` or ``"mad"``.
    iterations : int or None
        At most so many rounds; None until nothing changes.
    """

    low: float = 3.0
    high: float | None = None
    centre: str = "median"
    deviation: str = "std"
    iterations: int | None = 5

    name: ClassVar[str] = "sigma"

    def __post_init__(self) -> None:
        _positive(self, low=self.low, high=self.upper)
        _one_of(self, "centre", self.centre, ("median", "mean"))
        _one_of(self, "deviation", self.deviation, ("std", "mad"))
        _rounds(self, self.iterations)

    @property
    def upper(self) -> float:
        """The upper limit in standard deviations."""
        return self.low if self.high is None else self.high

    def least_frames(self) -> int:
        """Frames from which one infinitely strong hit exceeds the limit that it widens itself.

        A single hit lies at most sqrt(n - 1) standard deviations from the mean of n values, and at most
        n / sqrt(n - 1) from their median.
        """
        if self.deviation == "mad":
            return 3
        limit = min(self.low, self.upper)
        frames = 3
        while self._reach(frames) <= limit:
            frames += 1
        return frames

    def _reach(self, frames: int) -> float:
        root = math.sqrt(frames - 1)
        return root if self.centre == "mean" else frames / root


@dataclass(frozen=True)
class MinMax(Rejection):
    """The `low` lowest and the `high` highest values.

    Where values are missing, the numbers shrink in proportion (rounded down), and at least one value stays.
    """

    low: int = 1
    high: int = 1

    name: ClassVar[str] = "minmax"

    def __post_init__(self) -> None:
        if self.low < 0 or self.high < 0:
            raise OptionError("numbers of values to reject are not negative", where=str(self))

    def least_frames(self) -> int:
        """One more than are rejected."""
        return self.low + self.high + 1

    def check(self, frames: int) -> None:
        """Refuse to reject all values."""
        if frames < self.least_frames():
            raise OptionError(
                f"{self} would leave nothing of {frames} frames",
                where="reject",
                expected=f"at least {self.least_frames()} frames",
                got=frames,
                do="reject fewer",
            )


@dataclass(frozen=True)
class Percentile(Rejection):
    """Values below the median by more than `low` times the median, or above by more than `high` times it."""

    low: float = 0.2
    high: float = 0.2

    name: ClassVar[str] = "percentile"
    fewest: ClassVar[int] = 3

    def __post_init__(self) -> None:
        _positive(self, low=self.low, high=self.high)


@dataclass(frozen=True)
class PClip(Rejection):
    """IRAF's pclip: the standard deviation is the distance from the median to the value at a given rank.

    Parameters
    ----------
    rank : float
        Ranks from the median, negative below it; if smaller than 1 in size, a fraction of half the values.
    low, high : float
        Limits in units of that distance.
    """

    rank: float = -0.5
    low: float = 3.0
    high: float = 3.0

    name: ClassVar[str] = "pclip"
    fewest: ClassVar[int] = 3

    def __post_init__(self) -> None:
        _positive(self, low=self.low, high=self.high)
        if self.rank == 0:
            raise OptionError("the rank must lie beside the median", where=str(self), expected="not 0")


@dataclass(frozen=True)
class Winsorised(Rejection):
    """Sigma clipping about the median with a winsorised standard deviation.

    Values beyond 1.5 standard deviations from the median are drawn in to there, and the standard deviation
    of the outcome times 1.134 is taken again until it changes by less than 0.05 %; values beyond the limits
    are rejected, and all is repeated until none is, or `iterations` are done.
    """

    low: float = 3.0
    high: float = 3.0
    iterations: int | None = 5

    name: ClassVar[str] = "winsorised"
    fewest: ClassVar[int] = 4

    def __post_init__(self) -> None:
        _positive(self, low=self.low, high=self.high)
        _rounds(self, self.iterations)


@dataclass(frozen=True)
class LinearFit(Rejection):
    """Values off a straight line through the sorted values by more than the limits times the mean distance
    from it.

    The line is fitted by least squares to value against rank, values are rejected from both ends inward, and
    the fit is repeated until none is rejected or `iterations` are done. It suits columns with a drift.
    """

    low: float = 5.0
    high: float = 4.0
    iterations: int | None = 5

    name: ClassVar[str] = "linearfit"
    fewest: ClassVar[int] = 5

    def __post_init__(self) -> None:
        _positive(self, low=self.low, high=self.high)
        _rounds(self, self.iterations)


@dataclass(frozen=True)
class GESD(Rejection):
    """Generalised extreme Studentised deviate test (Rosner 1983, Technometrics 25, 165).

    Parameters
    ----------
    alpha : float
        Probability of rejecting anything from pure noise, for each pixel.
    fraction : float
        At most this fraction of the values may be outliers (at least one).
    """

    alpha: float = 0.05
    fraction: float = 0.3

    name: ClassVar[str] = "gesd"
    fewest: ClassVar[int] = 4

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or not 0 < self.fraction < 1:
            raise OptionError("alpha and fraction lie between 0 and 1", where=str(self))


@dataclass(frozen=True)
class AvSigClip(Rejection):
    """IRAF's avsigclip: the noise is taken as c times sqrt(mean), with c averaged along each row of the
    image.

    The mean leaves the lowest and highest value out; a mean below 1 counts as 1. With each iteration c is
    averaged again over what was kept.
    """

    low: float = 3.0
    high: float = 3.0
    centre: str = "median"
    iterations: int | None = 5

    name: ClassVar[str] = "avsigclip"
    fewest: ClassVar[int] = 3

    def __post_init__(self) -> None:
        _positive(self, low=self.low, high=self.high)
        _one_of(self, "centre", self.centre, ("median", "mean"))
        _rounds(self, self.iterations)


@dataclass(frozen=True)
class CCDClip(Rejection):
    """Limits from a noise model (read noise and photon noise) about the centre: acts from 3 frames on.

    The noise is that of the *centre*, for each frame with its own scale: a hit does not widen its own limit.
    """

    low: float = 5.0
    high: float | None = None
    centre: str = "median"
    iterations: int | None = 3

    name: ClassVar[str] = "ccdclip"
    fewest: ClassVar[int] = 3
    needs_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive(self, low=self.low, high=self.upper)
        _one_of(self, "centre", self.centre, ("median", "mean"))
        _rounds(self, self.iterations)

    @property
    def upper(self) -> float:
        """The upper limit in standard deviations."""
        return self.low if self.high is None else self.high


NoiseClip = CCDClip

REJECTIONS: dict[str, type[Rejection]] = {
    kind.name: kind
    for kind in (
        Rejection,
        SigmaClip,
        MinMax,
        Percentile,
        PClip,
        Winsorised,
        LinearFit,
        GESD,
        AvSigClip,
        CCDClip,
    )
}
"""Rejections by the name that a command line may use."""


def rejection(what: Rejection | str | None) -> Rejection:
    """A rejection from its name or itself; None rejects nothing.

    Raises
    ------
    OptionError
        If there is none of that name.
    """
    if what is None:
        return Rejection()
    if isinstance(what, Rejection):
        return what
    if what not in REJECTIONS:
        raise OptionError(
            "there is no such rejection", where="reject", got=repr(what), do=f"use {', '.join(REJECTIONS)}"
        )
    return REJECTIONS[what]()


def _positive(what: Rejection, **limits: float) -> None:
    for name, limit in limits.items():
        if not limit > 0:
            raise OptionError(f"the limit {name} must be positive", where=type(what).__name__, got=limit)


def _one_of(what: Rejection, name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise OptionError(f"{name} is {' or '.join(allowed)}", where=type(what).__name__, got=repr(value))


def _rounds(what: Rejection, iterations: int | None) -> None:
    if iterations is not None and iterations < 1:
        raise OptionError("there is at least one iteration", where=type(what).__name__, got=iterations)
