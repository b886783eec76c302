"""The parts of the noise: white, pink of each output, pink that outputs have in common, alternating columns.

``S_ij(f) = delta_ij [W_i + U_i(f) + A_i(f)] + g_i g_j C(f)``, A the noise whose sign turns from column to
column, g 1 on average. The own part of each output is taken from the powers of contrasts of outputs in which
nothing common is left, exactly; so errors of the common part, which is often the larger, do not spoil it.
Bins next to each other are correlated by the taper, and weighted as such. All numbers are of single reads:
one-sided densities in DN^2/Hz.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from calibrant.effects._one_over_f_response import Responses, power_law
from calibrant.effects._one_over_f_spectra import Scale, Spectra

SIGNIFICANT = 8.0  # sigmas of an amplitude from which on its slope is fitted
SLOPES = 0.3, 2.5
TELLING = 20.0  # sigmas of the common amplitude from which on outputs may have it by different gains
ROUNDS = 4  # of weights from the model

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pink:
    """``amplitude * f**-slope`` [DN^2/Hz], f in Hz.

    Attributes
    ----------
    amplitude : float
        At 1 Hz, DN^2/Hz; may be below 0 within its sigma.
    slope_sigma : float
        NaN where the slope was not fitted, as the amplitude is not significant.
    covariance : array (2, 2)
        Of amplitude and slope.
    """

    amplitude: float
    slope: float
    covariance: Floats

    @property
    def sigma(self) -> float:
        """Of the amplitude."""
        return math.sqrt(self.covariance[0, 0])

    @property
    def slope_sigma(self) -> float:
        """Of the slope; NaN if it was not fitted."""
        return math.sqrt(self.covariance[1, 1]) if self.covariance[1, 1] > 0 else math.nan

    def density(self, frequency: Floats) -> Floats:
        """DN^2/Hz at frequencies [Hz]."""
        return np.asarray(self.amplitude * frequency**-self.slope)

    def density_sigma(self, frequency: float) -> float:
        """Of the density at one frequency [Hz], DN^2/Hz: smallest where the data say most."""
        slope = -self.amplitude * math.log(frequency)
        gradient = np.array([1.0, slope]) * frequency**-self.slope
        return math.sqrt(float(gradient @ self.covariance @ gradient))

    def variance(self, low: float, high: float) -> float:
        """Integral from `low` to `high` [Hz], DN^2."""
        flat = 1 - self.slope
        if abs(flat) < 1e-9:
            return self.amplitude * math.log(high / low)
        return float(self.amplitude * (high**flat - low**flat) / flat)

    def integral(self, low: float, high: float) -> tuple[float, float]:
        """`variance` and its sigma, DN^2."""
        step = 1e-4
        change = replace(self, slope=self.slope + step).variance(low, high)
        change -= replace(self, slope=self.slope - step).variance(low, high)
        unit = replace(self, amplitude=1.0).variance(low, high)
        gradient = np.array([unit, change / (2 * step)])
        return self.variance(low, high), math.sqrt(max(gradient @ self.covariance @ gradient, 0.0))

    def knee(self, white: float) -> tuple[float, float]:
        """Where it is as strong as a white noise [DN^2/Hz], and sigma, Hz; NaN if it nowhere is."""
        if self.amplitude <= 0 or white <= 0:
            return math.nan, math.nan
        ratio = math.log(self.amplitude / white)
        found = math.exp(ratio / self.slope)
        gradient = np.array([1 / (self.amplitude * self.slope), -ratio / self.slope**2]) * found
        return found, math.sqrt(gradient @ self.covariance @ gradient)


@dataclass(frozen=True)
class Own:
    """Of one output.

    Attributes
    ----------
    white, white_sigma : float
        DN^2/Hz.
    chi2 : float
        Per degree of freedom.
    """

    white: float
    white_sigma: float
    pink: Pink
    alternating: Pink
    chi2: float


@dataclass(frozen=True)
class Parts:
    """All of them; `common` is None for a single output.

    Attributes
    ----------
    gains, gain_sigma : array (outputs,)
        By which each output has what is common, 1 on average; sigma is NaN where they were not fitted.
    """

    own: tuple[Own, ...]
    common: Pink | None
    common_chi2: float
    gains: Floats
    gain_sigma: Floats


@dataclass(frozen=True)
class Linear:
    """Quadratic forms that take the parts out of a matrix: trace(form @ matrix) is the part."""

    own: Floats
    common: Floats

    @classmethod
    def of(cls, gains: Floats) -> Linear:
        """For outputs of these gains; one keeps everything, two lose what they have in common on average."""
        outputs = len(gains)
        one, pairs = np.eye(outputs), np.outer(gains, gains)
        off = pairs * (1 - one)
        common = off / max((off**2).sum(), 1e-300)
        if outputs < 3:
            return cls(np.array([np.diag(row) - common for row in one]), common)
        contrasts = one - pairs / (gains @ gains)
        forms = np.array([np.outer(row, row) for row in contrasts])
        mixing = np.array([np.diag(form) for form in forms])
        return cls(np.tensordot(np.linalg.inv(mixing), forms, 1), common)


def part(form: Floats, scale: Scale) -> Floats:
    """A part of the matrices of a scale, (bins,), DN^2/Hz of a difference."""
    n = len(form)
    return np.asarray(np.einsum("ij,bji->b", form, scale.matrix[:, :n, :n]).real)


def covariance(form: Floats, matrix: NDArray[np.complex128], scale: Scale) -> Floats:
    """Of `part`, (bins, bins), for complex Wishart matrices of these means: trace(F S F S) overlap."""
    product = np.einsum("ij,bjk->bik", form, matrix[:, : len(form), : len(form)])
    sigma = np.sqrt(np.einsum("bij,bji->b", product, product).real)
    return np.asarray(np.outer(sigma, sigma) * scale.overlap)


def parts(spectra: Spectra, responses: Responses) -> Parts:
    """The fit of all parts; weights come from the fit, so that no bin is favoured for being low by chance.

    Parameters
    ----------
    spectra : Spectra
    responses : Responses
        Of the same clock.
    """
    outputs = spectra.clock.outputs
    expected = [_smooth(scale, outputs) for scale in spectra.scales]
    gains, gain_sigma = np.ones(outputs), np.full(outputs, math.nan)
    own: list[Own] = []
    common: Pink | None = None
    chi2 = math.nan
    for turn in range(ROUNDS):
        forms = Linear.of(gains)
        if outputs > 1:
            common, chi2 = _fit_common(forms.common, spectra, responses, expected)
        own = [_fit_own(i, forms.own[i], spectra, responses, expected) for i in range(outputs)]
        found = Parts(tuple(own), common, chi2, gains, gain_sigma)
        expected = model(found, spectra, responses)
        if turn + 1 < ROUNDS and outputs > 2 and common and common.amplitude > TELLING * common.sigma:
            gains, gain_sigma = _gains(spectra, expected, gains)
    return found


def _gains(
    spectra: Spectra, expected: Sequence[NDArray[np.complex128]], gains: Floats
) -> tuple[Floats, Floats]:
    """Gains of outputs from what pairs of them have in common, and sigma."""
    form, outputs = Linear.of(gains).common, len(gains)
    scales, weights = list(zip(spectra.scales[:2], expected[:2], strict=True)), []
    total = np.zeros((outputs, outputs))
    for scale, matrix in scales:
        shared = np.einsum("ij,bji->b", form, matrix).real
        weights.append(shared / np.diag(covariance(form, matrix, scale)))
        total += np.tensordot(weights[-1], scale.matrix[:, :outputs, :outputs].real, 1)
    found, variance = _rank_one(total, gains), np.zeros(outputs)
    for number, one in enumerate(_gradients(total, found)):
        for (scale, matrix), weight in zip(scales, weights, strict=True):
            variance[number] += weight @ covariance(one, matrix, scale) @ weight
    return found, np.sqrt(variance)


def _gradients(matrix: Floats, gains: Floats) -> Floats:
    """Forms F_k of `_rank_one`: a small change D of the matrix changes gain k by trace(F_k D)."""
    forms = np.zeros((len(gains), *matrix.shape))
    step = 1e-5 * np.abs(matrix).max()
    for i, j in combinations(range(len(gains)), 2):
        change = np.zeros(matrix.shape)
        change[i, j] = change[j, i] = step
        moved = _rank_one(matrix + change, gains) - _rank_one(matrix - change, gains)
        forms[:, i, j] = forms[:, j, i] = moved / (4 * step)  # of the two elements half each
    return forms


def _rank_one(matrix: Floats, gains: Floats) -> Floats:
    """g with matrix_ij ~ g_i g_j for i not j, by least squares of one g after the other; mean 1."""
    found, off = gains.copy(), matrix * (1 - np.eye(len(gains)))
    off *= (gains.sum() ** 2 - gains @ gains) / off.sum()  # the scale is that of the gains
    for _ in range(30):
        for i in range(len(found)):
            others = np.delete(found, i)
            found[i] = off[i] @ found / (others @ others)
    return np.asarray(found / found.mean())


def shares(found: Parts, spectra: Spectra, responses: Responses) -> list[dict[str, Floats]]:
    """What each part gives in the bins of each scale: ``white``, ``own``, ``common``, ``alternating``.

    Returns
    -------
    list of dict
        Of the scales; arrays (outputs, bins), DN^2/Hz of a difference.
    """
    made = []
    for number, response in enumerate(responses.scales):
        shared = np.zeros(len(response.white))
        if found.common is not None and number < 2:
            shared = np.maximum(_pink(response.pink, responses.cells, found.common), 0)
        white = [one.white * good for one, good in zip(found.own, spectra.good, strict=True)]
        made.append(
            {
                "white": np.outer(white, response.white),
                "own": np.array([_pink(response.pink, responses.cells, one.pink) for one in found.own]),
                "common": np.outer(found.gains**2, shared),
                "alternating": np.array(
                    [_pink(response.alternating, responses.cells, one.alternating) for one in found.own]
                ),
            }
        )
    return made


def model(found: Parts, spectra: Spectra, responses: Responses) -> list[NDArray[np.complex128]]:
    """Expected matrices of differences, one array (bins, outputs, outputs) for each scale."""
    matrices = []
    for one in shares(found, spectra, responses):
        own = one["white"] + one["own"] + one["alternating"]
        floor = 1e-3 * own.max(axis=0)  # of a dead output
        matrix = np.einsum("ib,ij->bij", np.maximum(own, floor), np.eye(len(own)))
        root = np.sqrt(one["common"]) * np.sign(found.gains)[:, None]
        matrices.append((matrix + np.einsum("ib,jb->bij", root, root)).astype(np.complex128))
    return matrices


def _pink(kernel: Floats, cells: Floats, pink: Pink) -> Floats:
    return np.asarray(pink.amplitude * (kernel @ power_law(cells, pink.slope)))


def _smooth(scale: Scale, outputs: int) -> NDArray[np.complex128]:
    """Matrices to begin with: means of three bins."""
    matrix = scale.matrix[:, :outputs, :outputs]
    padded = np.concatenate([matrix[:1], matrix, matrix[-1:]])
    return np.asarray((padded[:-2] + padded[1:-1] + padded[2:]) / 3)


def _fit_common(
    form: Floats, spectra: Spectra, responses: Responses, expected: Sequence[NDArray[np.complex128]]
) -> tuple[Pink, float]:
    """Of pixels and rows; alternating noise of one output has nothing in common with that of another."""
    values, whitening = _weighed(form, spectra.scales[:2], expected[:2])
    kernel = np.concatenate([response.pink for response in responses.scales[:2]])
    _, pinks, chi2 = Fit(values, whitening, [kernel], responses.cells, None).solve()
    return pinks[0], chi2


def _fit_own(
    output: int,
    form: Floats,
    spectra: Spectra,
    responses: Responses,
    expected: Sequence[NDArray[np.complex128]],
) -> Own:
    values, whitening = _weighed(form, spectra.scales, expected)
    kernels = [
        np.concatenate([response.pink for response in responses.scales]),
        np.concatenate([response.alternating for response in responses.scales]),
    ]
    white = np.concatenate([response.white for response in responses.scales]) * spectra.good[output]
    flat, pinks, chi2 = Fit(values, whitening, kernels, responses.cells, white).solve()
    return Own(flat[0], flat[1], pinks[0], pinks[1], chi2)


def _weighed(
    form: Floats, scales: Sequence[Scale], expected: Sequence[NDArray[np.complex128]]
) -> tuple[Floats, Floats]:
    """A part in all bins, and the matrix that makes its errors independent and of size 1."""
    values = np.concatenate([part(form, scale) for scale in scales])
    whitening = np.zeros((len(values), len(values)))
    first = 0
    for scale, matrix in zip(scales, expected, strict=True):
        last = first + len(scale.frequency)
        root = np.linalg.cholesky(covariance(form, matrix, scale))
        whitening[first:last, first:last] = np.linalg.inv(root)
        first = last
    return values, whitening


@dataclass(frozen=True)
class Fit:
    """Weighted least squares of a white part (where there is one) and of power laws."""

    values: Floats
    whitening: Floats
    kernels: Sequence[Floats]
    cells: Floats
    white: Floats | None

    def solve(self) -> tuple[tuple[float, float], list[Pink], float]:
        """White level and sigma, the power laws, chi2 per degree of freedom.

        Amplitudes are linear and may be negative: nothing is taken for something because it must be positive.
        Slopes are 1 until an amplitude is significant.
        """
        slopes = [1.0] * len(self.kernels)
        amplitude, errors = self._linear(slopes)
        start = int(self.white is not None)
        sigma = np.sqrt(np.diag(errors))
        fitted = [k for k in range(len(slopes)) if amplitude[k + start] > SIGNIFICANT * sigma[k + start]]
        if fitted:
            slopes = self._slopes(slopes, fitted)
            amplitude, _ = self._linear(slopes)
        design = self._design(slopes)
        residual = self.whitening @ (self.values - design @ amplitude)
        columns = [*design.T, *(self._slope_column(k, slopes[k], amplitude[k + start]) for k in fitted)]
        jacobian = self.whitening @ np.array(columns).T
        errors = _inverse(jacobian)
        found = []
        for k in range(len(slopes)):
            at = [k + start] + ([len(amplitude) + fitted.index(k)] if k in fitted else [])
            block = np.zeros((2, 2))
            block[: len(at), : len(at)] = errors[np.ix_(at, at)]
            found.append(Pink(float(amplitude[k + start]), float(slopes[k]), block))
        flat = (float(amplitude[0]), math.sqrt(errors[0, 0])) if start else (0.0, 0.0)
        return flat, found, float((residual**2).sum() / max(len(residual) - jacobian.shape[1], 1))

    def _design(self, slopes: Sequence[float]) -> Floats:
        columns = [
            kernel @ power_law(self.cells, slope) for kernel, slope in zip(self.kernels, slopes, strict=True)
        ]
        return np.array(columns if self.white is None else [self.white, *columns]).T

    def _slope_column(self, k: int, slope: float, amplitude: float) -> Floats:
        """Derivative by the slope."""
        step = 1e-4
        change = power_law(self.cells, slope + step) - power_law(self.cells, slope - step)
        return np.asarray(amplitude * (self.kernels[k] @ change) / (2 * step))

    def _linear(self, slopes: Sequence[float]) -> tuple[Floats, Floats]:
        scaled = self.whitening @ self._design(slopes)
        errors = _inverse(scaled)
        return errors @ (scaled.T @ (self.whitening @ self.values)), errors

    def _slopes(self, slopes: Sequence[float], fitted: Sequence[int]) -> list[float]:
        """Best slopes; amplitudes follow from them (variable projection)."""

        def placed(free: Floats) -> list[float]:
            trial = list(slopes)
            for k, value in zip(fitted, free, strict=True):
                trial[k] = float(value)
            return trial

        def residual(free: Floats) -> Floats:
            trial = placed(free)
            return np.asarray(self.whitening @ (self.values - self._design(trial) @ self._linear(trial)[0]))

        return placed(least_squares(residual, np.ones(len(fitted)), bounds=SLOPES).x)


def _inverse(jacobian: Floats) -> Floats:
    """Covariance of the parameters; columns are brought to one length first."""
    length = np.sqrt((jacobian**2).sum(axis=0))
    length[length == 0] = 1.0
    return np.asarray(np.linalg.pinv((jacobian / length).T @ (jacobian / length)) / np.outer(length, length))
