"""Continuum times Fabry-Perot fringes, fitted to all columns at once.

The model is linear in the splines of continuum and reflectivity once phase and thickness are known (variable
projection); all of them share one basis along the rows, so that the normal equations of hundreds of columns
are a few products of matrices.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from threadpoolctl import threadpool_limits

from calibrant.effects._etalon_model import attenuation, harmonics, series

F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]
ROUNDS = 15
CLIPPED = 2, 3  # rounds before which outliers are looked for
SETTLED = 1e-4  # relative change of chi squared: the next one is of its square
ATONCE = 48  # columns: their arrays stay in the cache
PLANES = "value", "weight", "wavenumber", "slope", "spread"
LIMITS = -0.5, 0.9  # of a reflectivity on the way
RIDGE = 1e-10  # where a column has no pixels for a spline
SEARCH = 16  # stretches of the continuum that the search for a period takes off
SEARCHED = 100  # columns at most
LEAST_CYCLES = 1.5 * SEARCH  # slower waves are continuum


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns of slices: (columns, rows) each.

    `value` and `weight` (1 / variance) are 0 where there is no good pixel; `slope` is the wavenumber per row
    and `spread` the sigma of a line, 1/cm.
    """

    value: F8
    weight: F8
    wavenumber: F8
    slope: F8
    spread: F8
    weighed: bool = True

    @property
    def span(self) -> F8:
        """Of the wavenumbers of each column."""
        used = self.weight > 0
        high: F8 = np.where(used, self.wavenumber, -np.inf).max(axis=1)
        low: F8 = np.where(used, self.wavenumber, np.inf).min(axis=1)
        return high - low


@dataclass(frozen=True, eq=False)
class Fit:
    """What was found, with the covariance of (reflectivity splines, phase, thickness).

    Everything with one line per column; `continuum` and `fringe` along the rows, of the model
    continuum (1 + fringe); `lag` is the phase that is left along the rows, as splines, with its covariance.
    """

    continuum: F8
    reflectivity: F8
    phase: F8
    thickness: F8
    covariance: F8
    chi2: F8
    used: Bools
    fringe: F8
    fringe_variance: F8
    lag: F8
    lag_covariance: F8


def splines(rows: int, stretches: int, degree: int = 3) -> F8:
    """B-splines along the rows, (rows, stretches + degree)."""
    inner = np.linspace(0.0, rows - 1.0, stretches + 1)
    knots = np.r_[[inner[0]] * degree, inner, [inner[-1]] * degree]
    return np.asarray(BSpline.design_matrix(np.arange(rows, dtype=np.float64), knots, degree).todense())


class _Products:
    """Products of two bases, so that sum_r x[n, r] a[r, i] b[r, j] is one product of matrices.

    Steps need their normal equations in single precision only: what is wrong in a step, the next one mends.
    """

    def __init__(self, one: F8, other: F8) -> None:
        overlap = (one > 0).astype(np.float64).T @ (other > 0)
        self.symmetric = one is other
        self.pairs = np.nonzero(np.triu(overlap) if self.symmetric else overlap)
        self.shape = one.shape[1], other.shape[1]
        self.table = (one.T[self.pairs[0]] * other.T[self.pairs[1]]).T
        self.single = self.table.astype(np.float32)

    def __call__(self, values: NDArray[np.floating]) -> F8:
        made = np.zeros((len(values), *self.shape))
        one, other = self.pairs
        found = values @ (self.single if values.dtype == np.float32 else self.table)
        made[:, one, other] = found
        if self.symmetric:
            made[:, other, one] = found
        return made


class _Bases:
    """Splines of continuum and reflectivity, (rows, splines), and their products."""

    def __init__(self, continuum: F8, slow: F8) -> None:
        self.continuum, self.slow = continuum, slow
        self.cc, self.cr = _Products(continuum, continuum), _Products(continuum, slow)
        self.rr = _Products(slow, slow)


def _scaled(normal: F8) -> tuple[F8, F8]:
    """Normal equations of unit diagonal, with a ridge where there is nothing, and the scales."""
    diagonal = np.einsum("nii->ni", normal)
    largest = diagonal.max(axis=1, keepdims=True)
    scale = 1.0 / np.sqrt(np.where(diagonal > 1e-14 * largest, diagonal, np.where(largest > 0, largest, 1.0)))
    scaled = normal * scale[:, :, None] * scale[:, None, :]
    scaled += RIDGE * np.eye(normal.shape[1])
    return scaled, scale


def solve(normal: F8, right: F8) -> F8:
    """Solutions of many normal equations."""
    scaled, scale = _scaled(normal)
    made: F8 = np.linalg.solve(scaled, (right * scale)[:, :, None])[:, :, 0] * scale
    return made


def inverse(normal: F8) -> F8:
    """Their covariances."""
    scaled, scale = _scaled(normal)
    made: F8 = np.linalg.inv(scaled) * scale[:, :, None] * scale[:, None, :]
    return made


def _blocks(cc: F8, cr: F8, rr: F8, ct: F8, rt: F8, tt: F8) -> F8:
    """Symmetric matrices of the blocks of their upper half."""
    first, second = cc.shape[1], cc.shape[1] + rr.shape[1]
    made = np.empty((len(cc), second + tt.shape[1], second + tt.shape[1]))
    made[:, :first, :first], made[:, first:second, first:second], made[:, second:, second:] = cc, rr, tt
    for one, other, block in (
        (slice(first), slice(first, second), cr),
        (slice(first), slice(second, None), ct),
        (slice(first, second), slice(second, None), rt),
    ):
        made[:, one, other], made[:, other, one] = block, block.transpose(0, 2, 1)
    return made


def continua(columns: Columns, basis: F8) -> F8:
    """Splines through columns as if they had no fringes, (columns, rows)."""
    normal = _Products(basis, basis)(columns.weight)
    made: F8 = solve(normal, (columns.weight * columns.value) @ basis) @ basis.T
    return made


def search(columns: Columns, between: tuple[float, float] | None) -> tuple[float, float]:
    """Thickness (cm) whose fringes are strongest in all columns together, and power over its median.

    Columns (some of them, where there are many) are laid on even wavenumbers and transformed; their phases
    need not agree.
    """
    some = np.unique(np.linspace(0, len(columns.value) - 1, SEARCHED).astype(int))
    columns = replace(columns, **{name: getattr(columns, name)[some] for name in PLANES})
    level = continua(columns, splines(columns.value.shape[1], SEARCH))
    used = (columns.weight > 0) & (level > 0)
    rest = np.where(used, columns.value / np.where(used, level, 1.0) - 1.0, 0.0)
    high = columns.wavenumber[used].max()
    low = columns.wavenumber[used].min()
    count = 2 * columns.value.shape[1]
    even = np.linspace(low, high, count)
    laid = np.zeros((len(rest), count))
    for n, row in enumerate(used):
        order = np.argsort(columns.wavenumber[n, row])
        laid[n] = np.interp(even, columns.wavenumber[n, row][order], rest[n, row][order], left=0, right=0)
    power = (np.abs(np.fft.rfft(laid, 4 * count, axis=1)) ** 2).sum(axis=0)
    thickness = 0.5 * np.arange(power.size) / (4 * (high - low) * count / (count - 1))
    nyquist = 0.25 / float(np.median(columns.slope[used]))
    first, last = between or (0.5 * LEAST_CYCLES / (high - low), nyquist)
    inside = (thickness >= first) & (thickness <= last)
    if not inside.any():
        return 0.5 * (first + last), 0.0
    best = int(np.flatnonzero(inside)[power[inside].argmax()])
    return float(thickness[best]), float(power[best] / max(float(np.median(power[inside])), 1e-300))


def fit(columns: Columns, thickness: float, pivot: float, bases: tuple[F8, F8], clip: float) -> Fit:
    """Continuum, reflectivity along the rows, phase at the pivot and thickness of each column.

    Parameters
    ----------
    columns : Columns
    thickness : float
        To begin with, cm: right within a fringe over the band.
    pivot : float
        Wavenumber at which the phase is told, 1/cm.
    bases : tuple of ndarray
        Of continuum and of reflectivity, (rows, splines).
    clip : float
        Pixels further off than so many sigmas are left out.
    """
    parts, both = [], _Bases(*bases)
    with threadpool_limits(1):  # matrices are small: threads cost more than they give
        for first in range(0, len(columns.value), ATONCE):
            some = slice(first, first + ATONCE)
            planes = {name: getattr(columns, name)[some] for name in PLANES}
            parts.append(_fitted(replace(columns, **planes), thickness, pivot, both, clip))
    return Fit(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Fit)))


def _fitted(columns: Columns, thickness: float, pivot: float, bases: _Bases, clip: float) -> Fit:
    """Of some columns."""
    state = _begin(columns, thickness, pivot, bases)
    step = _Step(columns, pivot, bases, harmonics(1.3 * float(state.reflectivity.max())))
    step.weaken(state)
    used, before = columns.weight > 0, None
    for number in range(ROUNDS):
        model = step.model(state)
        rest = columns.value - model.value
        if number in CLIPPED:
            if number == CLIPPED[0]:
                step.weaken(state)
            used = _without_outliers(columns, rest, clip)
        weight = np.where(used, columns.weight, 0.0)
        chi2 = (weight * rest**2).sum(axis=1)
        if number >= CLIPPED[-1] and before is not None and np.all(np.abs(before - chi2) <= SETTLED * before):
            break
        before = chi2
        change = solve(step.normal(model, weight), step.right(model, weight, rest))
        state = step.moved(state, change)
    else:
        model = step.model(state)
        rest = columns.value - model.value
    return step.told(state, model, weight, rest)


def _without_outliers(columns: Columns, rest: F8, clip: float) -> Bools:
    good = columns.weight > 0
    pull = np.where(good, np.abs(rest) * np.sqrt(columns.weight), np.inf)
    middle = good.sum(axis=1, keepdims=True) // 2
    sigma = 1.4826 * np.take_along_axis(np.sort(pull, axis=1), middle, axis=1)
    return good & (pull <= clip * (np.maximum(sigma, 1.0) if columns.weighed else sigma))


@dataclass(frozen=True, eq=False)
class _State:
    level: F8  # splines of the continuum
    reflectivity: F8  # splines
    phase: F8
    thickness: F8


@dataclass(frozen=True, eq=False)
class _Model:
    value: F8
    level: F8
    fringe: F8
    by_r: F8
    by_theta: F8


def _begin(columns: Columns, thickness: float, pivot: float, bases: _Bases) -> _State:
    basis, slow = bases.continuum, bases.slow
    normal = bases.cc(columns.weight)
    coefficients = solve(normal, (columns.weight * columns.value) @ basis)
    level, used = coefficients @ basis.T, columns.weight > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = np.where(used & (level > 0), columns.value / level - 1.0, 0.0)
    wave = np.exp(-1j * 4 * np.pi * thickness * (columns.wavenumber - pivot))
    mean = 2 * (rest * wave).sum(axis=1) / used.sum(axis=1)
    typical = np.median(columns.slope, axis=1), np.median(columns.spread, axis=1)
    strength = np.abs(mean) / 2 / attenuation(np.array(thickness), *typical, 1)[0]
    return _State(
        coefficients,
        np.repeat(np.clip(strength, 1e-4, 0.5)[:, None], slow.shape[1], axis=1),
        np.angle(mean),
        np.full(len(rest), thickness),
    )


class _Step:
    """Gauss-Newton on all columns: the model, its equations, and what is told in the end."""

    def __init__(self, columns: Columns, pivot: float, bases: _Bases, count: int) -> None:
        self.columns, self.basis, self.slow = columns, bases.continuum, bases.slow
        self.cc, self.cr, self.rr = bases.cc, bases.cr, bases.rr
        self.count = count
        self.kept = np.ones((0, 1, 1))
        self.away = columns.wavenumber - pivot

    def weaken(self, state: _State) -> None:
        """Line spread and pixel at the thickness that is known so far: it matters in the fourth digit."""
        self.kept = attenuation(state.thickness[:, None], self.columns.slope, self.columns.spread, self.count)

    def model(self, state: _State) -> _Model:
        thickness = state.thickness[:, None]
        theta = 4 * np.pi * thickness * self.away + state.phase[:, None]
        fringe, by_r, by_theta = series(theta, state.reflectivity @ self.slow.T, self.kept)
        level = state.level @ self.basis.T
        return _Model(level * (1 + fringe), level, fringe, by_r, by_theta)

    def normal(self, model: _Model, weight: F8) -> F8:
        """Normal matrix by continuum, reflectivity, phase and thickness, for a step."""
        slopes = self._slopes(model, weight)
        return self._with_places(self._smooth(slopes, np.float32), slopes)

    def normals(self, model: _Model, weight: F8) -> tuple[F8, F8]:
        """The same in full, and the one with the lag along the rows in the place of phase and thickness."""
        slopes = self._slopes(model, weight)
        smooth = self._smooth(slopes, np.float64)
        (p, q, u), (_, _, wu) = slopes
        ct, rt, tt = self.cr(wu * p), self.rr(wu * q), self.rr(wu * u)
        return self._with_places(smooth, slopes), _blocks(*smooth, ct, rt, tt)

    def _slopes(self, model: _Model, weight: F8) -> tuple[list[F8], list[F8]]:
        """Of the model by continuum, reflectivity and phase, and the same weighed; (columns, rows) each."""
        slopes = [1 + model.fringe, model.level * model.by_r, model.level * model.by_theta]
        return slopes, [weight * slope for slope in slopes]

    def _smooth(self, slopes: tuple[list[F8], list[F8]], kind: type[np.floating]) -> tuple[F8, F8, F8]:
        """What is the same whatever turns the fringes."""
        (p, q, _), (wp, wq, _) = slopes
        cc, cr, rr = (
            products((one * other).astype(kind, copy=False))
            for products, one, other in ((self.cc, wp, p), (self.cr, wp, q), (self.rr, wq, q))
        )
        return cc, cr, rr

    def _with_places(self, smooth: tuple[F8, F8, F8], slopes: tuple[list[F8], list[F8]]) -> F8:
        (_, _, u), (wp, wq, wu) = slopes
        x = 4 * np.pi * self.away
        ux = u * x
        ct = np.stack([(wp * u) @ self.basis, (wp * ux) @ self.basis], axis=2)
        rt = np.stack([(wq * u) @ self.slow, (wq * ux) @ self.slow], axis=2)
        sums = [np.einsum("nr,nr->n", *pair) for pair in ((wu, u), (wu, ux), (wu * x, ux))]
        tt = np.moveaxis(np.array([[sums[0], sums[1]], [sums[1], sums[2]]]), 2, 0)
        return _blocks(*smooth, ct, rt, tt)

    def right(self, model: _Model, weight: F8, rest: F8, lag: bool = False) -> F8:
        """Right-hand side of the same equations."""
        rest = weight * rest
        turned = rest * model.level * model.by_theta
        parts = [(rest * (1 + model.fringe)) @ self.basis, (rest * model.level * model.by_r) @ self.slow]
        if lag:
            parts.append(turned @ self.slow)
        else:
            parts.append(np.stack([turned.sum(axis=1), (turned * 4 * np.pi * self.away).sum(axis=1)], axis=1))
        return np.concatenate(parts, axis=1)

    def moved(self, state: _State, change: F8) -> _State:
        first, second = self.basis.shape[1], self.basis.shape[1] + self.slow.shape[1]
        return replace(
            state,
            level=state.level + change[:, :first],
            reflectivity=np.clip(state.reflectivity + change[:, first:second], *LIMITS),
            phase=state.phase + np.clip(change[:, second], -1.0, 1.0),
            thickness=state.thickness + np.clip(change[:, second + 1], -1e-3, 1e-3),
        )

    def told(self, state: _State, model: _Model, weight: F8, rest: F8) -> Fit:
        covariance, lag_covariance = (inverse(matrix) for matrix in self.normals(model, weight))
        first = self.basis.shape[1]
        free = (weight > 0).sum(axis=1) - covariance.shape[1]
        chi2 = (weight * rest**2).sum(axis=1) / np.maximum(free, 1)
        scale = np.maximum(chi2, 1.0) if self.columns.weighed else chi2
        lag = (lag_covariance @ self.right(model, weight, rest, lag=True)[:, :, None])[:, :, 0]
        after = first + self.slow.shape[1]
        turning = model.by_theta * np.stack([np.ones(self.away.shape), 4 * np.pi * self.away])
        slopes = np.concatenate([model.by_r[:, :, None] * self.slow, np.moveaxis(turning, 0, 2)], axis=2)
        own = covariance[:, first:, first:] * scale[:, None, None]
        return Fit(
            continuum=model.level,
            reflectivity=state.reflectivity,
            phase=state.phase,
            thickness=state.thickness,
            covariance=own,
            chi2=chi2,
            used=weight > 0,
            fringe=model.fringe,
            fringe_variance=((slopes @ own) * slopes).sum(axis=2),
            lag=lag[:, after:],
            lag_covariance=lag_covariance[:, after:, after:] * scale[:, None, None],
        )
