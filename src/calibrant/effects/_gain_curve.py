"""The curve of each amplifier: the options of a gain, and the fit or the estimate that comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calibrant.effects._gain_levels import F8, Amplifier
from calibrant.effects._gain_tables import Result
from calibrant.effects._pair_gain import estimate
from calibrant.effects._ptc_fit import PtcFit, fit
from calibrant.errors import OptionError

LEAST = 3  # levels of light that a photon transfer curve needs


@dataclass(frozen=True)
class Options:
    """Of `calibrant.effects.gain.measure`, where they are described."""

    edge: int = 0
    minimum: int = 1000
    saturation: float | None = None
    read_noise: float | None = None
    sigma_clip: float = 5.0
    max_signal: float | None = None
    bootstrap: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("edge", 0), ("minimum", 2), ("bootstrap", 0)):
            if getattr(self, name) < least:
                raise OptionError(
                    f"{name} is a number of at least {least}", where=name, got=getattr(self, name)
                )


@dataclass(frozen=True, eq=False)
class Solve:
    """The task of the runner: the curve of one amplifier, or the estimate of its pairs."""

    model: str
    lags: int
    choice: Options
    light: F8

    def __call__(self, part: Amplifier) -> Result:
        part.select(self.choice.minimum, self.light)
        levels = part.levels
        mean = np.where(part.good, part.mean, np.nan)
        fitted = self._fit(part, mean) if levels >= LEAST or not levels else None
        if fitted is None:
            words = "one level" if levels == 1 else "two levels"
            part.notes.append(f"{words} of light: gain from pairs, a photon transfer curve needs three")
            if not math.isfinite(part.noise):
                part.notes.append(
                    "the read noise is not known: taken as none, the gain is low at little light"
                )
        result = Result(part, fitted, estimate(mean, part.variance, part.pixels, part.square))
        result.judge()
        return result

    def _fit(self, part: Amplifier, mean: F8) -> PtcFit:
        several = self.lags > 1
        found = fit(
            mean,
            part.variance,
            part.pixels,
            model=self.model,
            covariance=part.covariance if several else None,
            covariance_pixels=part.counts if several else None,
            sigma_clip=self.choice.sigma_clip,
            max_signal=self.choice.max_signal,
            bootstrap=self.choice.bootstrap,
            rng=np.random.default_rng(self.choice.seed),
        )
        if not part.dead:
            part.notes += [_at_the_end(note) if part.full else note for note in found.notes]
        return found


def _at_the_end(note: str) -> str:
    """The fit does not see the levels that were saturated."""
    if "does not turn off" not in note:
        return note
    return (
        "the curve ends where pixels saturate: turn-off and full well are those of its highest level before "
        "that, and the true ones lie above"
    )
