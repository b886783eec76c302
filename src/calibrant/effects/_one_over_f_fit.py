"""The parts of the noise: white, pink of each output, pink that outputs have in common, alternating columns.

``S_ij(f) = delta_ij [W_i + U_i(f) + A_i(f)] + C(f)``. The own part of each output is taken from the powers
of the outputs less their mean, in which nothing common is left, exactly; so errors of the common part,
which is often the larger, do not spoil it. All numbers are of single reads: one-sided densities in DN^2/Hz.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from calibrant.effects._one_over_f_response import Responses, power_law
from calibrant.effects._one_over_f_spectra import Scale, Spectra

SIGNIFICANT = 8.0  # sigmas of an amplitude from which on its slope is fitted
SLOPES = 0.3, 2.5
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
    """All of them; `common` is None for a single output."""

    own: tuple[Own, ...]
    common: Pink | None
    common_chi2: float


@dataclass(frozen=True)
class Linear:
    """Quadratic forms that take the parts out of a matrix: trace(form @ matrix) is the part."""

    own: Floats
    common: Floats

    @classmethod
    def of(cls, outputs: int) -> Linear:
        """For so many outputs; one keeps everything, two lose what they have in common on average."""
        one, all_ones = np.eye(outputs), np.ones((outputs, outputs))
        common = (all_ones - one) / max(outputs * (outputs - 1), 1)
        if outputs < 3:
            return cls(np.array([np.diag(row) - common for row in one]), common)
        contrasts = one - all_ones / outputs
        forms = np.array([np.outer(row, row) for row in contrasts])
        mixing = np.array([np.diag(form) for form in forms])
        return cls(np.tensordot(np.linalg.inv(mixing), forms, 1), common)


def part(form: Floats, scale: Scale) -> Floats:
    """A part of the matrices of a scale, (bins,), DN^2/Hz of a difference."""
    n = len(form)
    return np.asarray(np.einsum("ij,bji->b", form, scale.matrix[:, :n, :n]).real)


def variance(form: Floats, matrix: NDArray[np.complex128], modes: Floats) -> Floats:
    """Of `part`, by the matrices that are expected (complex Wishart): trace(F S F S) / modes."""
    product = np.einsum("ij,bjk->bik", form, matrix[:, : len(form), : len(form)])
    return np.asarray(np.einsum("bij,bji->b", product, product).real / modes)


def parts(spectra: Spectra, responses: Responses) -> Parts:
    """The fit of all parts; weights come from the fit, so that no bin is favoured for being low by chance.

    Parameters
    ----------
    spectra : Spectra
    responses : Responses
        Of the same clock.
    """
    outputs = spectra.clock.outputs
    forms = Linear.of(outputs)
    expected = [_smooth(scale, outputs) for scale in spectra.scales]
    own: list[Own] = []
    common: Pink | None = None
    chi2 = math.nan
    for _ in range(ROUNDS):
        if outputs > 1:
            common, chi2 = _fit_common(forms.common, spectra, responses, expected)
        own = [_fit_own(i, forms.own[i], spectra, responses, expected) for i in range(outputs)]
        expected = model(Parts(tuple(own), common, chi2), spectra, responses)
    return Parts(tuple(own), common, chi2)


def model(found: Parts, spectra: Spectra, responses: Responses) -> list[NDArray[np.complex128]]:
    """Expected matrices of differences, one array (bins, outputs, outputs) for each scale."""
    matrices = []
    for number, response in enumerate(responses.scales):
        shared = np.zeros(len(response.white))
        if found.common is not None and number < 2:
            shared = _pink(response.pink, responses.cells, found.common)
        own = np.array(
            [
                one.white * good * response.white
                + _pink(response.pink, responses.cells, one.pink)
                + _pink(response.pink + response.alternating, responses.cells, one.alternating)
                for one, good in zip(found.own, spectra.good, strict=True)
            ]
        )
        floor = 1e-3 * own.max(axis=0)  # of a dead output
        matrix = np.einsum("ib,ij->bij", np.maximum(own, floor), np.eye(len(own)))
        matrices.append((matrix + np.maximum(shared, 0)[:, None, None]).astype(np.complex128))
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
    values, sigma, kernels = [], [], []
    for scale, response, matrix in zip(spectra.scales[:2], responses.scales[:2], expected[:2], strict=True):
        values.append(part(form, scale))
        sigma.append(np.sqrt(variance(form, matrix, scale.modes)))
        kernels.append(response.pink)
    fit = Fit(np.concatenate(values), np.concatenate(sigma), [np.concatenate(kernels)], responses.cells, None)
    _, pinks, chi2 = fit.solve()
    return pinks[0][0], chi2


def _fit_own(
    output: int,
    form: Floats,
    spectra: Spectra,
    responses: Responses,
    expected: Sequence[NDArray[np.complex128]],
) -> Own:
    values, sigma, pink, alternating, white = [], [], [], [], []
    for scale, response, matrix in zip(spectra.scales, responses.scales, expected, strict=True):
        values.append(part(form, scale))
        sigma.append(np.sqrt(variance(form, matrix, scale.modes)))
        pink.append(response.pink)
        # columns of one parity are a noise of their own: half of it is slow, half is turned
        alternating.append(response.pink + response.alternating)
        white.append(response.white * spectra.good[output])
    fit = Fit(
        np.concatenate(values),
        np.concatenate(sigma),
        [np.concatenate(pink), np.concatenate(alternating)],
        responses.cells,
        np.concatenate(white),
    )
    flat, pinks, chi2 = fit.solve()
    return Own(flat[0], flat[1], pinks[0][0], pinks[1][0], chi2)


@dataclass(frozen=True)
class Fit:
    """Weighted least squares of a white part (where there is one) and of power laws."""

    values: Floats
    sigma: Floats
    kernels: Sequence[Floats]
    cells: Floats
    white: Floats | None

    def solve(self) -> tuple[tuple[float, float], list[tuple[Pink]], float]:
        """White level and sigma, the power laws, chi2 per degree of freedom.

        Amplitudes are linear and may be negative: nothing is taken for something because it must be positive.
        Slopes are 1 until an amplitude is significant.
        """
        slopes = [1.0] * len(self.kernels)
        amplitude, covariance = self._linear(slopes)
        start = self.white is not None
        fitted = [
            k
            for k in range(len(slopes))
            if amplitude[k + start] > SIGNIFICANT * math.sqrt(covariance[k + start, k + start])
        ]
        if fitted:
            slopes = self._slopes(slopes, fitted)
            amplitude, _ = self._linear(slopes)
        design = self._design(slopes)
        residual = (self.values - design @ amplitude) / self.sigma
        columns = [*design.T, *(self._slope_column(k, slopes[k], amplitude[k + start]) for k in fitted)]
        jacobian = np.array(columns).T / self.sigma[:, None]
        covariance = _inverse(jacobian)
        found = []
        for k in range(len(slopes)):
            at = [k + start] + ([len(amplitude) + fitted.index(k)] if k in fitted else [])
            block = np.zeros((2, 2))
            block[: len(at), : len(at)] = covariance[np.ix_(at, at)]
            found.append((Pink(float(amplitude[k + start]), float(slopes[k]), block),))
        flat = (float(amplitude[0]), math.sqrt(covariance[0, 0])) if start else (0.0, 0.0)
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
        scaled = self._design(slopes) / self.sigma[:, None]
        covariance = _inverse(scaled)
        return covariance @ (scaled.T @ (self.values / self.sigma)), covariance

    def _slopes(self, slopes: Sequence[float], fitted: Sequence[int]) -> list[float]:
        """Best slopes; amplitudes follow from them (variable projection)."""

        def placed(free: Floats) -> list[float]:
            trial = list(slopes)
            for k, value in zip(fitted, free, strict=True):
                trial[k] = float(value)
            return trial

        def residual(free: Floats) -> Floats:
            trial = placed(free)
            return np.asarray((self.values - self._design(trial) @ self._linear(trial)[0]) / self.sigma)

        return placed(least_squares(residual, np.ones(len(fitted)), bounds=SLOPES).x)


def _inverse(jacobian: Floats) -> Floats:
    """Covariance of the parameters; columns are brought to one length first."""
    length = np.sqrt((jacobian**2).sum(axis=0))
    length[length == 0] = 1.0
    return np.asarray(np.linalg.pinv((jacobian / length).T @ (jacobian / length)) / np.outer(length, length))
