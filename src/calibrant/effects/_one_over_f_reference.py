"""What reference streams know of the outputs: coherence, and the best weights of a linear correction.

The best linear time-invariant estimate of an output x from streams r has the weights ``h = S_xr S_rr^-1``
at each frequency and leaves ``S_xx (1 - coherence)``, ``coherence = S_xr S_rr^-1 S_rx / S_xx`` (Bendat and
Piersol 2010, chapter 7): no correction from these streams, of whatever window or smoothing, leaves less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._one_over_f_spectra import Scale
from calibrant.errors import SelectionError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """Of the scale of rows.

    Attributes
    ----------
    frequency : array (bins,)
        Hz.
    coherence : array (outputs, bins)
        Multiple coherence, less what as many streams of pure noise would show; may be below 0.
    sigma : array (outputs, bins)
        Of the coherence.
    weights : array (outputs, streams, bins), complex
        DN of the output for a DN of the stream.
    power, remaining : array (outputs, bins)
        One-sided density, and what the best correction leaves of it, single read, DN^2/Hz.
    counts : array (bins,)
        Frequencies in each bin.
    """

    frequency: Floats
    coherence: Floats
    sigma: Floats
    weights: NDArray[np.complex128]
    power: Floats
    remaining: Floats
    counts: Floats

    @property
    def removable(self) -> tuple[Floats, Floats]:
        """Part of the variance of each output that the best correction removes, and sigma, (outputs,)."""
        weights = self.power * self.counts
        total = weights.sum(axis=1)
        value = (self.coherence * weights).sum(axis=1) / total
        return value, np.sqrt(((self.sigma * weights) ** 2).sum(axis=1)) / total


def reference(scale: Scale, outputs: int, white_of_difference: float = 2.0) -> Reference:
    """Coherence and weights of the streams that follow the outputs in a scale.

    Parameters
    ----------
    scale : Scale
        With ``streams`` = outputs + reference streams.
    outputs : int
    white_of_difference : float
        Of white noise, for single reads of variance 1.

    Raises
    ------
    SelectionError
        If the scale has no reference streams, or fewer than two looks at each more than them.
    """
    matrix = scale.matrix
    streams = matrix.shape[1] - outputs
    known = scale.modes > streams + 1
    if streams < 1 or not known.any():
        raise SelectionError(
            "coherence needs reference streams and several frames",
            where="one_over_f",
            got=f"{streams} streams, {scale.modes.max():.0f} independent values",
        )
    modes = scale.modes[known]
    own = np.einsum("bii->ib", matrix[known, :outputs, :outputs]).real
    cross, among = matrix[known, :outputs, outputs:], matrix[known, outputs:, outputs:]
    weights = cross @ np.linalg.pinv(among, hermitian=True)
    explained = np.einsum("bis,bis->ib", weights, cross.conj()).real
    raw = explained / np.where(own > 0, own, np.nan)
    # streams of noise alone explain streams / modes; the power left is unbiased with modes - streams
    coherence = 1 - (1 - raw) * modes / (modes - streams)
    sigma = np.sqrt(2 * np.clip(raw, 1 / modes, 1) / modes) * (1 - np.clip(raw, 0, 1))
    remaining = (own - explained) * modes / (modes - streams) / white_of_difference
    return Reference(
        scale.frequency[known],
        coherence,
        sigma,
        weights.transpose(1, 2, 0),
        own / white_of_difference,
        remaining,
        np.diff(scale.edges)[known].astype(np.float64),
    )
