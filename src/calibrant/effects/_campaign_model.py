"""The joint model of one slice in all campaigns: illumination, structure, spectrum; gain, shifts, pedestals.

``value = gain S(along - dispersion) E(across - edge) P(across - structure) + pedestal``, with the spectrum
S, the illumination E of a slice with blurred edges and its structure P common to all campaigns. S and P are
cubic B-splines; all is solved at once by damped Gauss-Newton steps, so that sigmas know of each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.linalg import solveh_banded

from calibrant.effects._campaign_strips import Strip
from calibrant.stack.kernels_slices import equations
from calibrant.stats import mad_std

KNOTS = 0.5
BLUR = 0.8, 0.25, 3.0  # columns: first guess, least and largest sigma of edges
OWN = ("gain", "edge", "structure", "dispersion", "pedestal")
PAD = 4  # rows of the spectrum beyond the detector, where lines of one wavelength are tilted
STEPS = 40
WIDE = 0.8  # of a slice: where its edges do not matter
DAMPING = 1e-3  # of the first step
LEAST_DAMPING = 1e-6  # with less, steps leave the curved valley in which edges and structure trade
PASSES = (1e-4, 1e-2), (3e-6, 1e-3), (1e-7, 1e-4)
"""Weight of second differences of the structure, relative to its best measured place; columns or rows: a step
as small as this is the last one."""
CLIP = 8.0, 0.1  # sigmas, and part of the light: pixels further off both are left out
F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(eq=False)
class State:
    """Values of all parameters of a slice.

    Attributes
    ----------
    edges : ndarray
        float64, (3,): left edge, right edge, sigma of the blur; columns from the middle.
    structure, spectrum : ndarray
        float64: coefficients of splines; the spectrum in the unit of the frames.
    own : ndarray
        float64, (campaigns, 5): `OWN`; rows, columns and the unit of the frames.
    """

    edges: F8
    structure: F8
    spectrum: F8
    own: F8
    first: float  # place of the first knot of the structure

    def moved(self, step: F8) -> State:
        """The state after a step (spectrum first); blur and edges stay within bounds."""
        m, n = len(self.spectrum), len(self.structure)
        spectrum, step = step[:m], step[m:]
        edges = self.edges + np.clip(step[:3], -0.5, 0.5)
        edges[2] = np.clip(edges[2], *BLUR[1:])
        own = step[3 + n :].reshape(self.own.shape).copy()
        own[:, 1:4] = np.clip(own[:, 1:4], -0.5, 0.5)
        return State(
            edges,
            self.structure + step[3 : 3 + n],
            self.spectrum + spectrum,
            self.own + own,
            self.first,
        )


@dataclass(frozen=True, eq=False)
class Fitted:
    """A slice as the model has it.

    Attributes
    ----------
    covariance : ndarray
        float64, (5 campaigns, 5 campaigns): of `State.own`, with the scatter that the noise leaves open.
    chi : float
        Width of residuals in units of the noise.
    light : ndarray
        float64, (campaigns, n): the model without pedestals.
    used : ndarray
        bool, (campaigns, n).
    """

    state: State
    covariance: F8
    chi: float
    light: F8
    used: Bools = field(repr=False)


def spline(coefficients: F8, place: F8) -> F8:
    """Values of a cubic spline whose knots are the whole numbers."""
    knots = np.arange(-3.0, len(coefficients) + 1)
    values: F8 = BSpline(knots, coefficients, 3)(np.clip(place, 0.0, len(coefficients) - 3.0))
    return values


def start(strip: Strip, values: F8, used: Bools, shifts: F8, reference: int) -> State:
    """First guess: edges of the map, even structure, and shifts from profiles."""
    across = strip.across[strip.inside]
    half = WIDE * (across.max() - across.min()) / 2
    edges = np.array([across.min() - 0.4, across.max() + 0.4, BLUR[0]])
    core = np.abs(strip.across) < half
    own = np.zeros((len(values), 5))
    own[:, 2] = shifts
    means = []
    for k, row in enumerate(values):
        outside = ~strip.inside & used[k]
        away = outside & (np.abs(strip.across) > np.quantile(np.abs(strip.across), 0.9))
        own[k, 4] = np.median(row[away]) if away.any() else 0.0
        means.append(np.median(row[core & used[k]]) - own[k, 4])
    own[:, 0] = np.array(means) / means[reference]
    here = core & used[reference]
    count = np.bincount(strip.row[here], minlength=strip.rows)
    total = np.bincount(strip.row[here], values[reference][here] - own[reference, 4], strip.rows)
    known = np.flatnonzero(count)
    level = np.interp(np.arange(-1 - PAD, strip.rows + 2 + PAD), known, total[known] / count[known])
    first = strip.across.min() - 2 * KNOTS - np.abs(shifts).max()
    last = strip.across.max() + 2 * KNOTS + np.abs(shifts).max()
    structure = np.ones(int(np.ceil((last - first) / KNOTS)) + 3)
    return State(edges, structure, level, own, float(first))


@dataclass(frozen=True, eq=False)
class _Equations:
    """Normal equations: the spectrum knows of itself in a narrow band, of all else in `cross`.

    Attributes
    ----------
    band : ndarray
        (4, m): upper diagonals, as of `scipy.linalg.solveh_banded`.
    cross, rest : ndarray
        (m, q), (q, q): of edges, structure and `State.own`, in this order.
    gradient : ndarray
        (m + q,).
    total, chi : float
        What is made least, and its part that comes from the pixels.
    light : ndarray
        (campaigns, n): the model without pedestals.
    """

    band: F8
    cross: F8
    rest: F8
    gradient: F8
    total: float
    chi: float
    light: F8 = field(repr=False)

    def schur(self, damping: float) -> tuple[F8, F8]:
        """The spectrum solved for all else and for its gradient, (m, q + 1), and what is left of `rest`."""
        band, rest = self.band.copy(), self.rest + np.diag(damping * np.diag(self.rest))
        band[-1] *= 1 + damping
        m = len(self.cross)
        solved: F8 = solveh_banded(band, np.column_stack([self.cross, self.gradient[:m]]))
        return solved, rest - self.cross.T @ solved[:, :-1]

    def step(self, damping: float) -> F8:
        """The damped step, (m + q,)."""
        m = len(self.cross)
        solved, left = self.schur(damping)
        scale = np.sqrt(np.diag(self.rest))
        wanted = (self.gradient[m:] - self.cross.T @ solved[:, -1]) / scale
        left = left / np.outer(scale, scale)
        others = np.linalg.solve(left, wanted) / scale
        return np.concatenate([solved[:, -1] - solved[:, :-1] @ others, others])

    def covariance(self, count: int) -> F8:
        """Of the last `count` parameters."""
        scale = np.sqrt(np.diag(self.rest))
        inverse = np.linalg.inv(self.schur(0.0)[1] / np.outer(scale, scale))[-count:, -count:]
        found: F8 = inverse / np.outer(scale[-count:], scale[-count:])
        return found


@dataclass(frozen=True, eq=False)
class _Data:
    """Pixels of a strip: place among splines of the spectrum, and what campaigns show; (campaigns, n)."""

    across: F8
    along: F8
    values: F8
    weights: F8
    reference: int


def solve(
    strip: Strip,
    values: F8,
    variance: F8,
    used: Bools,
    state: State,
    reference: int,
    goal: tuple[float, float],
) -> Fitted:
    """The joint fit of a slice, from a first guess.

    Parameters
    ----------
    values, variance, used : ndarray
        (campaigns, n): of the strip's pixels, light of other slices taken off.
    goal : tuple of float
        Of `PASSES`: edges and structure trade in a long valley, which is entered from its smooth end.
    """
    smooth, still = goal
    sharp = 1 / np.sqrt(variance)
    data = _Data(strip.across, strip.along + 1 + PAD, values, np.where(used, sharp, 0.0), reference)
    damping, kept = DAMPING, used
    found = _equations(data, state, smooth)
    for number in range(STEPS):
        trial = state.moved(found.step(damping))
        tried = _equations(data, trial, smooth)
        if tried.total > found.total * (1 + 1e-9):
            damping *= 10
            if damping > 1e8:
                break
            continue
        moved = np.abs(trial.own - state.own)[:, 1:4].max()
        state, found, damping = trial, tried, max(damping / 10, LEAST_DAMPING)
        if number < 2 and moved > still:
            continue
        before, kept = kept, kept & _kept(values, sharp, kept, state, found.light)
        if not np.array_equal(kept, before):
            data = replace(data, weights=np.where(kept, sharp, 0.0))
            found = _equations(data, state, smooth)
        elif moved < still:
            break
    freedom = max(int(kept.sum()) - len(found.gradient), 1)
    chi = float(np.sqrt(found.chi / freedom))
    covariance = found.covariance(state.own.size)
    fixed = slice(len(OWN) * reference, len(OWN) * reference + 4)
    covariance[fixed] = covariance[:, fixed] = 0.0
    return Fitted(state, covariance * max(chi, 1.0) ** 2, chi, found.light, kept)


def _kept(values: F8, sharp: F8, used: Bools, state: State, light: F8) -> Bools:
    """Pixels that are as the model says, as far as noise and edges let one expect."""
    rest = np.abs(values - light - state.own[:, 4:])
    pulls = rest * sharp
    scale = [[max(float(mad_std(pull[own])), 1.0)] for pull, own in zip(pulls, used, strict=True)]
    with np.errstate(invalid="ignore"):
        kept: Bools = rest < np.maximum(CLIP[0] * np.array(scale) / sharp, CLIP[1] * np.abs(light))
    return kept


def _equations(data: _Data, state: State, smooth: float) -> _Equations:
    m, n, few = len(state.spectrum), len(state.structure), 3 + len(OWN)
    band, cross_p, near = np.zeros((m, 4)), np.zeros((m, n)), np.zeros((n, 4))
    by_s, by_p, light, chi = np.zeros(m), np.zeros(n), np.empty(data.values.shape), 0.0
    q = 3 + n + state.own.size
    cross, rest, gradient = np.zeros((m, q)), np.zeros((q, q)), np.zeros(q)
    for k, own in enumerate(state.own):
        crossed, fixed, mixed, slopes = (np.zeros(shape) for shape in ((m, few), (few, few), (n, few), few))
        chi += equations(
            data.across,
            data.along,
            data.values[k],
            data.weights[k],
            np.append(own, (state.first, 1 / KNOTS)),
            state.edges,
            state.structure,
            state.spectrum,
            (band, crossed, cross_p, fixed, mixed, near, slopes, by_s, by_p),
            light[k],
        )
        at = np.r_[:3, 3 + n + len(OWN) * k : 3 + n + len(OWN) * (k + 1)]
        cross[:, at] += crossed
        rest[np.ix_(at, at)] += fixed + np.triu(fixed, 1).T
        rest[3 : 3 + n, at] += mixed
        rest[at, 3 : 3 + n] += mixed.T
        gradient[at] += slopes
    cross[:, 3 : 3 + n], gradient[3 : 3 + n] = cross_p, by_p
    rest[3 : 3 + n, 3 : 3 + n] = _symmetric(near)
    bands = np.zeros((4, m))
    for i in range(4):
        bands[3 - i, i:] = band[: m - i, i]
    gradient = np.concatenate([by_s, gradient])
    total = chi + _smooth(state, bands, rest, gradient, smooth)
    base = q - state.own.size + len(OWN) * data.reference
    for still in range(base, base + 4):  # the reference is where all others are measured from
        cross[:, still] = rest[still] = rest[:, still] = gradient[m + still] = 0.0
        rest[still, still] = 1.0
    return _Equations(bands, cross, rest, gradient, total, chi, light)


def _symmetric(diagonals: F8) -> F8:
    """The matrix of a main diagonal, (n, 0), and those above."""
    n = len(diagonals)
    made = sum(np.diag(diagonals[: n - i, i], i) for i in range(diagonals.shape[1]))
    return np.asarray(made + np.triu(made, 1).T, np.float64)


def _smooth(state: State, band: F8, rest: F8, gradient: F8, smooth: float) -> float:
    """Structure is smooth where no pixel looks, and 1 on average; spectra stay where no pixel looks."""
    m, n = len(state.spectrum), len(state.structure)
    structure, total = slice(3, 3 + n), 0.0
    best = float(np.diag(rest)[structure].max())
    bent = np.diff(np.eye(n), 2, axis=0) * np.sqrt(smooth * best)
    mean = np.full((1, n), np.sqrt(best) / n)
    for rows, wanted in ((bent, 0.0), (mean, np.sqrt(best))):
        off = wanted - rows @ state.structure
        rest[structure, structure] += rows.T @ rows
        gradient[m:][structure] += rows.T @ off
        total += float(off @ off)
    weight = 1e-8 * float(band[-1].max())
    curve = np.diff(state.spectrum, 2)
    for offset, factors in ((0, (1, 4, 1)), (1, (-2, -2)), (2, (1,))):
        for i, factor in enumerate(factors):
            band[3 - offset, offset + i : offset + i + m - 2] += weight * factor
    gradient[:m] -= weight * np.convolve(curve, (1, -2, 1))
    return total + weight * float(curve @ curve)
