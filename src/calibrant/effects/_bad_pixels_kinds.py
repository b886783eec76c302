"""Kinds of bad pixels, and their limits: those published with jwst_reffiles, and our own guards."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from calibrant.errors import OptionError
from calibrant.frame import DQ

FLAGS: Mapping[str, DQ] = {
    "hot": DQ.HOT,
    "noisy": DQ.OTHER_BAD_PIXEL | DQ.UNRELIABLE_SLOPE,
    "rc": DQ.RC,
    "telegraph": DQ.TELEGRAPH,
    "dead": DQ.DEAD,
    "low_qe": DQ.LOW_QE,
    "open": DQ.OPEN,
    "adjacent_open": DQ.ADJ_OPEN,
}
ABOUT: Mapping[str, str] = {
    "hot": "a dark slope far above that of the others, or saturated from the first group on",
    "noisy": "slopes that scatter from ramp to ramp",
    "rc": "a large signal that settles early in the ramp, as through resistor and capacitor",
    "telegraph": "reads that jump between two levels, or with many jumps in most ramps",
    "dead": "no response to light",
    "low_qe": "little response to light",
    "open": "little response to light, which the four neighbours have in excess",
    "adjacent_open": "beside an open pixel",
}
UNUSABLE = ("hot", "noisy", "rc", "telegraph", "dead", "open")
SEARCHES = ("absolute", "sigma")


@dataclass(frozen=True)
class Limits:
    """What makes a pixel bad. All but `chance`, `levels` and `bend` are those of jwst_reffiles.

    Attributes
    ----------
    noisy : float
        Standard deviation of the slopes of ramps without jumps, in (clipped) sigmas above its mean.
    chance : float
        Probability for a good pixel to be called noisy, by which few ramps raise the limit.
    hot : float
        Slope in (clipped) sigmas above the median of all slopes; `hot_fraction` of the ramps must have it.
    saturated_fraction : float
        Of the ramps, saturated from the first group on: hot.
    jumps : int
        Reads with jumps in a ramp that are many; in `many_fraction` of the ramps: telegraph.
    jump_ratio, early : float
        Rate of many jumps in the first `early` of the ramp over that in the last: RC.
    pedestal, change, fall : float
        First group above the level of the array, and change over the ramp, adu: RC above both if the ramp is
        bent, hot if the first is above alone (in `rc_fraction` of the ramps); a change below `fall` is RC.
    bend : float
        Change over the beginning beyond that of the later half, in sigmas: bent; RC with a change of more
        than half of `change` too.
    levels : float
        Fraction of the ramps whose reads jump between two levels, up and down: telegraph.
    dead, low_qe, open : float
        Response to light relative to the surroundings: below, and below, and above in all four neighbours.
    dead_search, dead_sigma : str, float
        ``absolute``: below `dead`; ``sigma``: so many (clipped) sigmas below the mean, which takes most
        pixels of low QE for dead.
    unusable : collection of str
        Kinds that are DO_NOT_USE.

    Raises
    ------
    OptionError
        If a limit has no meaning.
    """

    noisy: float = 5.0
    chance: float = 1e-7
    hot: float = 5.0
    hot_fraction: float = 0.75
    saturated_fraction: float = 0.5
    jumps: int = 10
    jump_ratio: float = 5.0
    early: float = 0.25
    pedestal: float = 1000.0
    change: float = 200.0
    fall: float = -100.0
    bend: float = 7.0
    rc_fraction: float = 0.8
    many_fraction: float = 0.8
    levels: float = 0.25
    dead: float = 0.05
    low_qe: float = 0.5
    open: float = 1.05
    dead_search: str = "absolute"
    dead_sigma: float = 5.0
    unusable: Collection[str] = UNUSABLE

    def __post_init__(self) -> None:
        positive = ("noisy", "hot", "jumps", "jump_ratio", "pedestal", "change", "bend", "dead_sigma")
        for name in positive:
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} must be positive", where=name, got=getattr(self, name))
        shares = ("chance", "hot_fraction", "saturated_fraction", "rc_fraction", "many_fraction", "levels")
        for name in shares:
            if not 0 < getattr(self, name) <= 1:
                raise OptionError(
                    f"{name} is a fraction", where=name, expected="0 to 1", got=getattr(self, name)
                )
        if not (0 < self.dead < self.low_qe < 1 < self.open and 0 < self.early <= 0.5):
            raise OptionError(
                "limits of bad pixels that have no meaning",
                expected="0 < dead < low_qe < 1 < open, early up to 0.5",
                got=f"{self.dead}, {self.low_qe}, {self.open}, {self.early}",
            )
        if self.dead_search not in SEARCHES:
            raise OptionError(
                "unknown search of dead pixels",
                where="dead_search",
                expected=" or ".join(SEARCHES),
                got=self.dead_search,
            )
        unknown = sorted(set(self.unusable) - set(FLAGS))
        if unknown:
            raise OptionError(f"there is no bad pixel called {unknown[0]!r}", expected=", ".join(FLAGS))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Limits:
        """From the options of a measurement."""
        known = [item.name for item in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise OptionError(f"bad pixels have no limit {unknown[0]!r}", expected=", ".join(known))
        return cls(**options)

    @property
    def table(self) -> dict[str, Any]:
        """As plain values."""
        return {item.name: getattr(self, item.name) for item in fields(self)} | {
            "unusable": sorted(self.unusable)
        }
