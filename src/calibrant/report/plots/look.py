"""Look: how values become grey levels: limits, stretch and colour map."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import Colormap, FuncNorm, Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.stats import zscale
from calibrant.stats.display import apart

LIMITS = ("zscale", "percentile", "median", "minmax")
STRETCHES = ("linear", "log", "sqrt", "asinh")
NO_DATA_COLOUR = "#6B4C9A"
"""Purple: no grey level looks like it, and no class of flags uses it."""

LOG_DEPTH = 1000.0
"""The log stretch is log(1 + 1000 x) / log(1001), with x from 0 to 1 between the limits, as DS9 has it."""
ASINH_SOFTENING = 0.1
"""The asinh stretch is asinh(x / 0.1) / asinh(10)."""

Limits = str | tuple[float, float]


@dataclass(frozen=True)
class Look:
    """How values become grey levels.

    Attributes
    ----------
    limits : str or (float, float)
        ``zscale``; ``percentile`` (`low` and `high` in percent, 0.5 and 99.5 unless given); ``median``:
        median plus `low` and `high` standard deviations (-2 and +5 unless given); ``minmax``; or two numbers.
    stretch : str
        ``linear``, ``log``, ``sqrt`` or ``asinh``, between the limits.
    low, high : float or None
        Of ``percentile`` and ``median``.
    cmap : str
        Name of a Matplotlib colour map.

    Raises
    ------
    OptionError
        For a name that is not known, limits in wrong order, or `low` and `high` where they have no meaning.
    """

    limits: Limits = "zscale"
    stretch: str = "linear"
    low: float | None = None
    high: float | None = None
    cmap: str = "gray"

    def __post_init__(self) -> None:
        _known("stretch", self.stretch, STRETCHES)
        if isinstance(self.limits, str):
            _known("limits", self.limits, LIMITS)
            if self.limits not in ("percentile", "median") and (self.low, self.high) != (None, None):
                raise OptionError(
                    "low and high belong to percentile and median limits",
                    where="limits",
                    got=self.limits,
                    do="give two numbers as limits instead",
                )
        low, high = self.numbers
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise OptionError(
                "limits need a lower and an upper number",
                where="limits",
                expected="low < high",
                got=(low, high),
            )
        if self.limits == "percentile" and not 0 <= low < high <= 100:
            raise OptionError("a percentile lies between 0 and 100", where="limits", got=(low, high))
        colour_map(self.cmap)

    @property
    def numbers(self) -> tuple[float, float]:
        """The two numbers that belong to the limits, as given or as the default has them."""
        if not isinstance(self.limits, str):
            low, high = self.limits
            return float(low), float(high)
        usual = {"percentile": (0.5, 99.5), "median": (-2.0, 5.0)}.get(self.limits, (0.0, 1.0))
        return usual[0] if self.low is None else self.low, usual[1] if self.high is None else self.high


def _known(option: str, name: str, names: Iterable[str]) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(str(name), list(names), n=1)
    raise OptionError(
        f"{option} has no choice {name!r}",
        where=option,
        expected=", ".join(names),
        do=f"did you mean {near[0]!r}?" if near else None,
    )


def colour_map(name: str) -> Colormap:
    """A colour map by name, with its own colour for pixels without data.

    Raises
    ------
    OptionError
        If Matplotlib has no such map.
    """
    from matplotlib import colormaps

    _known("cmap", name, tuple(colormaps))
    return colormaps[name].with_extremes(bad=NO_DATA_COLOUR)


def display_limits(plane: NDArray[Any], good: NDArray[Any], look: Look) -> tuple[float, float]:
    """The values shown as black and white.

    Parameters
    ----------
    plane : array
        (rows, cols): zscale samples it on a grid, so it needs the order of the pixels; NaN where bad.
    good : array
        The values to be trusted, 1-D; may be empty.
    look : Look

    Returns
    -------
    low, high : float
        In the unit of the values, low < high always: a constant image gets a small range about its value.
    """
    if not isinstance(look.limits, str):
        return look.numbers
    if good.size == 0:
        return 0.0, 1.0
    a, b = look.numbers
    if look.limits == "zscale":
        # Where few pixels can be trusted, the grid might meet none of them.
        low, high = zscale(plane if good.size > 0.5 * plane.size else good)
    elif look.limits == "minmax":
        low, high = good.min(), good.max()
    elif look.limits == "percentile":
        low, high = np.percentile(good, [a, b])
    else:
        centre, spread = np.median(good), np.std(good, dtype=np.float64)
        low, high = centre + a * spread, centre + b * spread
    return apart(float(low), float(high), float(good.min()), float(good.max()))


def norm(limits: tuple[float, float], stretch: str) -> Normalize:
    """The Matplotlib norm of a stretch between two limits; outside of them it goes on in a straight line."""
    low, high = limits
    if stretch == "linear":
        return Normalize(low, high)
    span = high - low
    curve, back = _curves(stretch)

    def forward(value: Any) -> Any:
        # Matplotlib masks what is not finite afterwards; a mask itself would not survive the curves.
        x = (np.ma.filled(np.ma.asarray(value, np.float64), np.nan) - low) / span
        inside = np.clip(x, 0.0, 1.0)
        return curve(inside) + (x - inside)

    def inverse(level: Any) -> Any:
        y = np.asarray(level, np.float64)
        inside = np.clip(y, 0.0, 1.0)
        return low + span * (back(inside) + (y - inside))

    return FuncNorm((forward, inverse), vmin=low, vmax=high)


def _curves(stretch: str) -> tuple[Any, Any]:
    if stretch == "sqrt":
        return np.sqrt, np.square
    if stretch == "log":
        depth = math.log1p(LOG_DEPTH)
        return (lambda x: np.log1p(LOG_DEPTH * x) / depth), (lambda y: np.expm1(y * depth) / LOG_DEPTH)
    top = math.asinh(1 / ASINH_SOFTENING)
    return (
        lambda x: np.arcsinh(x / ASINH_SOFTENING) / top,
        lambda y: np.sinh(y * top) * ASINH_SOFTENING,
    )


def ticks(scale: Normalize, count: int) -> tuple[list[float], list[str], int]:
    """Where a colour bar has its numbers, and how they read.

    Parameters
    ----------
    scale : Normalize
    count : int
        About how many.

    Returns
    -------
    places : list of float
    texts : list of str
    exponent : int
        The numbers are in units of ten to this power.
    """
    low, high = float(scale.vmin or 0.0), float(scale.vmax or 0.0)
    if isinstance(scale, FuncNorm):
        places = _round_apart([float(scale.inverse(f)) for f in np.linspace(0, 1, count)])
    else:
        places = [float(v) for v in MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    slack = 1e-9 * (high - low)
    places = [v for v in places if low - slack <= v <= high + slack]
    largest = max(abs(low), abs(high))
    exponent = math.floor(math.log10(largest)) if largest >= 1e6 or largest < 1e-3 else 0
    scaled = [v / 10.0**exponent for v in places]
    return places, _texts(scaled), exponent


def _round_apart(values: list[float]) -> list[float]:
    """Values rounded to less than a third of the gap to their neighbour: they read easily and stay in order.

    The first is rounded up and the last down, so that both stay on the bar.
    """
    ways = [math.ceil] + [round] * (len(values) - 2) + [math.floor]
    rounded = []
    for i, (value, way) in enumerate(zip(values, ways, strict=True)):
        step = 10.0 ** math.floor(math.log10(_gap(values, i) / 3))
        rounded.append(way(value / step) * step)
    return sorted(set(rounded))


def _gap(values: list[float], i: int) -> float:
    """Distance to the nearer neighbour."""
    gaps = [abs(values[i] - values[j]) for j in (i - 1, i + 1) if 0 <= j < len(values)]
    return min(gaps, default=abs(values[i]) or 1.0)


def _texts(values: list[float]) -> list[str]:
    """Each number with as many digits as tell it from its neighbours, and a true minus sign."""
    texts = []
    for i, value in enumerate(values):
        gap = _gap(values, i)
        digits = max(0, -math.floor(math.log10(gap) + 1e-9))
        # A step of 0.25 needs one digit more than a step of 0.2.
        if abs(round(value, digits) - value) > gap * 0.05:
            digits += 1
        texts.append(f"{value:.{digits}f}".replace("-", "−"))
    return texts
