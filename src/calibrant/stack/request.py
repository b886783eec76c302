"""What is asked of a combination: options gathered, checked against the frames, and made into a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.stack.band import METHODS, Job
from calibrant.stack.door import ALLOWED, Door
from calibrant.stack.factors import rejection_factors, variance_factors
from calibrant.stack.levels import frame_levels
from calibrant.stack.noise import Noise, noise_model
from calibrant.stack.reject import Rejection, rejection
from calibrant.stack.run import Runner
from calibrant.stack.source import Source

PLANES = ("data", "variance", "count", "low", "high", "dq")
"""Planes that `combine` makes unless told otherwise; ``propagated`` comes with a noise model."""

DTYPES = {
    "data": np.float32,
    "variance": np.float32,
    "propagated": np.float32,
    "count": np.uint16,
    "low": np.uint16,
    "high": np.uint16,
    "dq": np.uint32,
}
"""Type of every plane."""

MOST_FRAMES = 65535
"""Counts are 16-bit numbers."""


@dataclass(frozen=True, eq=False)
class Request:
    """The options of a combination, as `calibrant.stack.combine.combine` explains them."""

    method: str = "median"
    reject: Rejection | str = "none"
    scale: str | Sequence[float] | None = None
    zero: str | Sequence[float] | None = None
    weights: Sequence[float] | None = None
    mask: NDArray[np.uint32] | None = None
    limits: tuple[float | None, float | None] | None = None
    noise: Sequence[Noise] | Noise | None = None
    grow: float = 0
    n_keep: int = 1
    section: tuple[slice, slice] | None = None
    planes: Sequence[str] = PLANES

    @property
    def passes(self) -> int:
        """How often the frames are read."""
        return 2 if isinstance(self.scale, str) or isinstance(self.zero, str) else 1

    def check(self, frames: int) -> None:
        """Refuse options that have no meaning.

        Raises
        ------
        OptionError
            Naming the option, and what could be given.
        """
        self._check_method()
        reject = rejection(self.reject)
        if frames > MOST_FRAMES:
            raise OptionError("there are too many frames", expected=f"at most {MOST_FRAMES}", got=frames)
        if reject.needs_noise and self.noise is None:
            raise OptionError(
                f"{reject} needs a noise model",
                where="reject",
                do="give noise=Noise(read_noise, gain), or --gain and --read-noise on the command line",
            )
        if self.n_keep < 0 or not self.grow >= 0 or np.isinf(self.grow):
            raise OptionError("n_keep and grow are not negative", got=(self.n_keep, self.grow))
        if self.n_keep > frames:
            raise OptionError(
                "more values are to be kept than there are frames",
                where="n_keep",
                expected=f"at most {frames}",
                got=self.n_keep,
            )
        if self.grow and reject.name == "none":
            raise OptionError("there is nothing to grow without a rejection", where="grow", got=self.grow)
        unknown = set(self.planes) - set(DTYPES)
        if unknown:
            raise OptionError("there is no such plane", where="planes", got=", ".join(sorted(unknown)))
        reject.check(frames)

    def _check_method(self) -> None:
        if self.method not in (*METHODS, "weighted"):
            raise OptionError(
                "there is no such method",
                where="method",
                got=repr(self.method),
                do=f"use {', '.join(METHODS)} or weighted",
            )
        if self.method == "weighted" and self.weights is None:
            raise OptionError(
                "a weighted mean needs weights", where="method", do="give one weight for each frame"
            )
        if self.method != "weighted" and self.weights is not None:
            raise OptionError(
                "only a weighted mean has weights",
                where="method",
                got=self.method,
                do="choose the method weighted, or leave the weights out",
            )


def prepare(sources: Sequence[Source], request: Request, runner: Runner) -> Job:
    """Check frames and options, take levels where they are asked for, and describe the job.

    Raises
    ------
    SelectionError, ShapeError, OptionError
        As `calibrant.stack.combine.combine`.
    """
    sources = tuple(sources)
    shape = check_sources(sources)
    frames = len(sources)
    request.check(frames)
    reject = rejection(request.reject)
    weights = _weights(request.weights, frames)
    zero, scale = _scales(sources, request, runner)
    factor = variance_factors(request.method, frames)
    losses = rejection_factors(
        request.method,
        reject,
        frames,
        max(1, request.n_keep),
        request.grow,
        () if request.weights is None else tuple(weights.tolist()),
    )
    low, high = request.limits or (None, None)
    wanted = set(request.planes) - {"propagated"}
    return Job(
        sources=sources,
        door=Door.of(sources),
        method=request.method,
        reject=reject,
        zero=zero,
        scale=scale,
        weights=weights,
        floor=-np.inf if low is None else float(low),
        ceiling=np.inf if high is None else float(high),
        mask=_mask(request.mask, shape),
        noise=noise_model(request.noise, shape, zero, scale),
        factor=factor * losses.scatter,
        propagated_factor=factor * losses.noise,
        spread=losses.spread,
        grow=request.grow,
        n_keep=max(1, request.n_keep),
        planes=frozenset(wanted if request.noise is None else wanted | {"propagated"}),
    )


def check_sources(sources: Sequence[Source]) -> tuple[int, int]:
    """The one shape of all frames.

    Raises
    ------
    SelectionError
        Without frames.
    ShapeError, OptionError
        Naming the frame that has another shape, or numbers of a type that cannot be combined.
    """
    if not sources:
        raise SelectionError("there is nothing to combine", expected="at least one frame", got=0)
    first = sources[0]
    for source in sources:
        if len(source.shape) != 2 or 0 in source.shape:
            raise ShapeError(
                "a frame has two axes", where=source.name, expected="(rows, cols)", got=source.shape
            )
        if source.shape != first.shape:
            raise ShapeError(
                f"the frame has another shape than {first.name}",
                where=source.name,
                expected=first.shape,
                got=source.shape,
                do="combine frames of one detector, binning and section",
            )
        if np.dtype(source.encoding.dtype).str[1:] not in ALLOWED:
            raise OptionError(
                "numbers of this type cannot be combined", where=source.name, got=source.encoding.dtype
            )
    return first.shape[0], first.shape[1]


def _scales(
    sources: Sequence[Source], request: Request, runner: Runner
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Zeros and scales of all frames.

    Shifts that are measured come last, as in IRAF: they level what the scale has left.
    """
    frames = len(sources)

    def measured(statistic: str) -> NDArray[np.float64]:
        return frame_levels(sources, statistic, limits=request.limits, section=request.section, runner=runner)

    shift = np.zeros(frames)
    if request.zero is not None and not isinstance(request.zero, str):
        shift = _numbers("zero", request.zero, frames)
    factor = np.ones(frames)
    if isinstance(request.scale, str):
        levels = measured(request.scale) + shift
        _check_levels(sources, levels)
        factor = levels.mean() / levels
    elif request.scale is not None:
        factor = _numbers("scale", request.scale, frames)
    if isinstance(request.zero, str):
        levels = measured(request.zero) * factor
        shift = (levels.mean() - levels) / factor
    return shift, factor


def _check_levels(sources: Sequence[Source], levels: NDArray[np.float64]) -> None:
    """Refuse levels that nothing can be scaled by."""
    for source, level in zip(sources, levels, strict=True):
        if level <= 0:
            raise OptionError(
                "the level to scale by is not positive",
                where=source.name,
                got=level,
                do="subtract the bias first",
            )


def _numbers(what: str, given: Sequence[float], frames: int) -> NDArray[np.float64]:
    numbers = np.asarray(given, np.float64)
    if numbers.shape != (frames,):
        raise ShapeError(
            f"there must be one {what} per frame", where=what, expected=frames, got=numbers.shape
        )
    if not np.isfinite(numbers).all() or (what == "scale" and (numbers == 0).any()):
        raise OptionError(
            f"{what} is not usable", where=what, got=numbers.tolist(), do="give finite numbers, not 0"
        )
    return numbers


def _weights(given: Sequence[float] | None, frames: int) -> NDArray[np.float64]:
    if given is None:
        return np.ones(frames)
    weights = _numbers("weights", given, frames)
    if (weights < 0).any() or not weights.any():
        raise OptionError("weights are not negative, and not all 0", where="weights", got=weights.tolist())
    return weights


def _mask(mask: NDArray[np.uint32] | None, shape: tuple[int, int]) -> NDArray[np.uint32] | None:
    if mask is None:
        return None
    if mask.shape != shape:
        raise ShapeError("the mask does not fit the frames", where="mask", expected=shape, got=mask.shape)
    return np.asarray(mask, np.uint32)
