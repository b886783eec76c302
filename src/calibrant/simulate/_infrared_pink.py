"""Stationary power-law noise that streams: its spectrum depends neither on the length nor on where it is cut.

White noise goes through a cascade of first-order sections whose poles and zeros alternate evenly in
log-frequency, which makes a power law to a few parts in a thousand (Saletti 1986; Kasdin 1995, Proc. IEEE 83,
802). The state before the first sample is drawn from its stationary distribution, so that there is no
transient, and is carried from call to call. Below the low-frequency cut the spectrum is flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.signal import sosfilt

from calibrant.errors import OptionError

F8 = NDArray[np.float64]
PER_DECADE = 2.0  # poles: the ripple is then below 3 parts in a thousand
FREE = 3  # poles and zeros next to the Nyquist frequency that are fitted: there the even spacing ends
FITTED = 0.9  # of the Nyquist frequency: up to here


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """A filter that makes noise of one-sided PSD ``(f^2 + low_cut^2)^(-exponent/2)``, in 1/Hz at 1 Hz.

    Attributes
    ----------
    poles, zeros : array of float64
        One minus the pole or zero of each section: these come close to 1, and their distance to it counts.
    gain : float
        Of the cascade, for white noise of unit variance.
    dt : float
        Seconds between samples.
    """

    poles: F8
    zeros: F8
    gain: float
    dt: float

    def psd(self, frequency: F8) -> F8:
        """One-sided PSD that the noise really has, 1/Hz; exact, in closed form.

        Parameters
        ----------
        frequency : array of float64
            Hz, up to the Nyquist frequency.
        """
        return 2.0 * self.dt * self.gain**2 * np.exp(_log_ratio(self.poles, self.zeros, frequency * self.dt))

    @property
    def sections(self) -> F8:
        """The cascade as second-order sections, (len(poles) / 2, 6)."""
        numerator, denominator = _pairs(1.0 - self.zeros), _pairs(1.0 - self.poles)
        return np.concatenate([numerator, denominator], axis=1)


@lru_cache(maxsize=32)
def power_law(exponent: float, low_cut: float, dt: float) -> PowerLaw:
    """The filter for a spectrum, which agrees with it within 0.3 % up to half the Nyquist frequency.

    Parameters
    ----------
    exponent : float
        1 is 1/f; 0 to 2.
    low_cut : float
        Hz; below it the spectrum is flat.
    dt : float
        Seconds between samples.

    Raises
    ------
    OptionError
        If the exponent is not of a power law that this cascade makes, or the cut is not far below Nyquist.
    """
    nyquist = 0.5 / dt
    if not 0.0 < exponent < 2.0 or not 0.0 < low_cut < nyquist / 20.0:
        raise OptionError(
            "the power law cannot be made",
            expected=f"an exponent between 0 and 2, a low cut between 0 and {nyquist / 20.0:g} Hz",
            got=f"{exponent:g}, {low_cut:g} Hz",
        )
    count = max(2 * FREE, int(np.ceil(PER_DECADE * np.log10(nyquist / low_cut))) // 2 * 2)
    step = (nyquist / low_cut) ** (1.0 / (count - 0.5))
    pole = low_cut * step ** np.arange(count)
    corners = np.log(-np.expm1(-2.0 * np.pi * dt * np.concatenate([pole, pole * step ** (exponent / 2.0)])))
    frequency = np.geomspace(low_cut / 10.0, FITTED * nyquist, 40 * count)
    target = -0.5 * exponent * np.log(frequency**2 + low_cut**2)
    ends = np.r_[0, count - FREE : count]
    free = np.concatenate([ends, count + ends])

    def residual(x: F8) -> F8:
        distance = corners.copy()
        distance[free] = x[:-1]
        poles, zeros = np.exp(distance).reshape(2, count)
        found: F8 = _log_ratio(poles, zeros, frequency * dt) + x[-1] - target
        return found

    start = np.append(corners[free], 0.0)
    start[-1] = -np.mean(residual(start))
    best = least_squares(residual, start, max_nfev=300).x
    corners[free] = best[:-1]
    # A section pairs a low corner with a high one: two poles next to 1 would lose their distances to it.
    order = np.stack([np.arange(count // 2), count - 1 - np.arange(count // 2)], axis=1).ravel()
    poles, zeros = np.exp(corners).reshape(2, count)[:, order]
    return PowerLaw(poles, zeros, float(np.exp(0.5 * best[-1]) / np.sqrt(2.0 * dt)), dt)


class Streams:
    """Independent streams of power-law noise, which go on from call to call.

    Parameters
    ----------
    law : PowerLaw
    count : int
        Streams.
    """

    def __init__(self, law: PowerLaw, count: int, rng: np.random.Generator) -> None:
        self._law, self._sections = law, law.sections
        self._state = _stationary(law, count, rng)

    def take(self, samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """The next samples of all streams, (count, samples), for a PSD of 1 at 1 Hz."""
        out = np.empty((self._state.shape[1], samples), np.float32)
        for number in range(len(out)):
            white = rng.standard_normal(samples)
            found, state = sosfilt(self._sections, white, zi=self._state[:, number])
            self._state[:, number] = state
            np.multiply(found, self._law.gain, out=out[number], casting="same_kind")
        return out


def _log_ratio(poles: F8, zeros: F8, cycles: F8) -> F8:
    """Log of the power response at `cycles` per sample: |1 - r e^-iw|^2 = (1 - r)^2 + 4 r sin^2(w/2)."""
    chord = 4.0 * np.sin(np.pi * cycles) ** 2
    total = np.zeros_like(cycles)
    for pole, zero in zip(poles, zeros, strict=True):
        total += np.log((zero**2 + (1.0 - zero) * chord) / (pole**2 + (1.0 - pole) * chord))
    return total


def _pairs(roots: F8) -> F8:
    """Polynomials of second order in the delay, from two roots each: (n / 2, 3)."""
    first, second = roots[::2], roots[1::2]
    return np.stack([np.ones_like(first), -(first + second), first * second], axis=1)


def _stationary(law: PowerLaw, count: int, rng: np.random.Generator) -> F8:
    """States of the sections as if the filter had run for ever, (sections, count, 2).

    The past enters through one decaying sum for each pole, s_k = sum p_k^m x(n - m), whose covariance is
    1 / (1 - p_j p_k). The signal between the sections is a sum of these (partial fractions), and the state of
    a section follows from the last two samples of what goes in and out of it.
    """
    pole, zero = 1.0 - law.poles, 1.0 - law.zeros
    one_minus = law.poles[:, None] + law.poles - law.poles[:, None] * law.poles
    value, vector = np.linalg.eigh(1.0 / one_minus)
    past = (vector * np.sqrt(np.maximum(value, 0.0))) @ rng.standard_normal((len(pole), count))
    weights, direct = _partial_fractions(law)
    signals = []
    for _ in range(2):
        new = rng.standard_normal(count)
        past = pole[:, None] * past + new
        signals.append(np.vstack([new, weights @ past + direct[:, None] * new]))
    before, last = signals
    numerator, denominator = _pairs(zero), _pairs(pole)

    def passed(term: int, signal: F8) -> F8:
        return numerator[:, term, None] * signal[:-1] - denominator[:, term, None] * signal[1:]

    return np.stack([passed(1, last) + passed(2, before), passed(2, last)], axis=-1)


def _partial_fractions(law: PowerLaw) -> tuple[F8, F8]:
    """Weights (sections, poles) of the sums, and of the sample itself (sections,), after each section."""
    poles, zeros = law.poles, law.zeros
    count = len(poles)
    weights, direct = np.zeros((count // 2, count)), np.zeros(count // 2)
    for row, used in enumerate(range(2, count + 1, 2)):
        # 1 - z / p = (z' - p') / p with the distances z' = 1 - z and p' = 1 - p: no digits are lost.
        above = (zeros[:used] - poles[:used, None]) / (1.0 - poles[:used, None])
        below = (poles[:used] - poles[:used, None]) / (1.0 - poles[:used, None])
        np.fill_diagonal(below, 1.0)
        weights[row, :used] = above.prod(axis=1) / below.prod(axis=1)
        direct[row] = np.prod((1.0 - zeros[:used]) / (1.0 - poles[:used]))
    return weights, direct
