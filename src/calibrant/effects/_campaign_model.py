"""The joint model of one slice in all campaigns: illumination, structure, spectrum; gain, shifts, pedestals.

``value = gain S(along - dispersion) E(across - edge) P(across - structure) + pedestal``, with the spectrum
S, the illumination E of a slice with blurred edges and its structure P common to all campaigns. S and P are
cubic B-splines; all is solved at once by damped Gauss-Newton steps, so that sigmas know of each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.sparse import csr_matrix
from scipy.special import erf

from calibrant.effects._campaign_strips import Strip
from calibrant.stats import mad_std

KNOTS = 0.5
BLUR = 0.8, 0.25, 3.0  # columns: first guess, least and largest sigma of edges
OWN = ("gain", "edge", "structure", "dispersion", "pedestal")
PAD = 4  # rows of the spectrum beyond the detector, where lines of one wavelength are tilted
STEPS = 15
WIDE = 0.8  # of a slice: where its edges do not matter
DAMPING = 1e-3  # of the first step
STILL = 1e-4  # columns, rows: a step as small as this is the last one
SMOOTHED = 1e-4, 1e-5, 1e-6, 1e-6
"""Weight of second differences of the structure in each pass, relative to its best measured place."""
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


def cubic(place: F8, count: int) -> tuple[NDArray[np.int64], F8, F8]:
    """Cubic B-splines on whole numbers: index of the first of four, (n,); their values and slopes, (n, 4)."""
    first = np.clip(np.floor(place).astype(np.int64), 0, count - 4)
    x = np.clip(place - first, 0.0, 1.0)
    y = 1 - x
    values = np.stack([y**3, 3 * x**3 - 6 * x**2 + 4, 3 * y**3 - 6 * y**2 + 4, x**3], axis=-1) / 6
    slopes = np.stack([-(y**2), 3 * x**2 - 4 * x, -3 * y**2 + 4 * y, x**2], axis=-1) / 2
    return first, values, slopes


def spline(coefficients: F8, place: F8) -> tuple[F8, F8]:
    """Values and slopes of a spline on whole numbers."""
    first, values, slopes = cubic(place, len(coefficients))
    near = coefficients[first[:, None] + np.arange(4)]
    return np.einsum("ij,ij->i", values, near), np.einsum("ij,ij->i", slopes, near)


def illumination(edges: F8, place: F8) -> tuple[F8, F8]:
    """A slice with blurred edges: values (n,), and derivatives by left edge, right edge and blur, (n, 3)."""
    left, right, sigma = edges
    ends = [(place - left) / sigma, (place - right) / sigma]
    bells = [np.exp(-0.5 * z**2) / (np.sqrt(2 * np.pi) * sigma) for z in ends]
    values = 0.5 * (erf(ends[0] / np.sqrt(2)) - erf(ends[1] / np.sqrt(2)))
    blur = ends[1] * bells[1] - ends[0] * bells[0]
    return values, np.stack([-bells[0], bells[1], blur], axis=-1)


def light(state: State, strip: Strip, campaign: int) -> F8:
    """What one campaign shows of a slice, without its pedestal; (n,)."""
    gain, edge, structure, dispersion, _ = state.own[campaign]
    spectrum = spline(state.spectrum, strip.along - dispersion + 1 + PAD)[0]
    inner = spline(state.structure, _knots(strip.across - structure, state))[0]
    seen: F8 = gain * spectrum * illumination(state.edges, strip.across - edge)[0] * inner
    return seen


def _knots(place: F8, state: State) -> F8:
    return (place - state.first) / KNOTS


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
    """

    band: F8
    cross: F8
    rest: F8
    gradient: F8
    total: float
    chi: float

    def schur(self, damping: float) -> tuple[F8, F8]:
        """The spectrum solved for all else and for its gradient, (m, q + 1), and what is left of `rest`."""
        band, rest = self.band.copy(), self.rest + np.diag(damping * np.diag(self.rest))
        band[-1] *= 1 + damping
        m = len(self.cross)
        solved: F8 = solveh_banded(band, np.column_stack([self.cross, self.gradient[:m]]))
        return solved, rest - self.cross.T @ solved[:, :-1]

    def step(self, damping: float, still: Bools | None = None) -> F8:
        """The damped step, (m + q,); parameters that are `still`, (q,), do not move."""
        m = len(self.cross)
        solved, left = self.schur(damping)
        scale = np.sqrt(np.diag(self.rest))
        wanted = (self.gradient[m:] - self.cross.T @ solved[:, -1]) / scale
        left = left / np.outer(scale, scale)
        if still is not None:
            left[still] = left[:, still] = wanted[still] = 0.0
            left[still, still] = 1.0
        others = np.linalg.solve(left, wanted) / scale
        return np.concatenate([solved[:, -1] - solved[:, :-1] @ others, others])

    def covariance(self, count: int) -> F8:
        """Of the last `count` parameters."""
        scale = np.sqrt(np.diag(self.rest))
        inverse = np.linalg.inv(self.schur(0.0)[1] / np.outer(scale, scale))[-count:, -count:]
        found: F8 = inverse / np.outer(scale[-count:], scale[-count:])
        return found


def solve(
    strip: Strip, values: F8, variance: F8, used: Bools, state: State, reference: int, smooth: float
) -> Fitted:
    """The joint fit of a slice, from a first guess.

    Parameters
    ----------
    values, variance, used : ndarray
        (campaigns, n): of the strip's pixels, light of other slices taken off.
    smooth : float
        Weight of second differences of the structure: edges and structure trade in a long valley, which is
        entered from its smooth end.
    """
    damping, used = DAMPING, used.copy()
    equations = _equations(strip, values, variance, used, state, reference, smooth)
    for number in range(STEPS):
        trial = state.moved(equations.step(damping))
        tried = _equations(strip, values, variance, used, trial, reference, smooth)
        trial = trial.moved(tried.step(damping, _places(state)))
        tried = _equations(strip, values, variance, used, trial, reference, smooth)
        if tried.total > equations.total * (1 + 1e-9):
            damping *= 10
            if damping > 1e8:
                break
            continue
        moved = np.abs(trial.own - state.own)[:, 1:4].max()
        state, equations, damping = trial, tried, max(damping / 10, 1e-9)
        if number < 2 and moved > STILL:
            continue
        kept = used & _kept(strip, values, variance, used, state)
        if not np.array_equal(kept, used):
            used = kept
            equations = _equations(strip, values, variance, used, state, reference, smooth)
        elif moved < STILL:
            break
    freedom = max(int(used.sum()) - len(equations.gradient), 1)
    chi = float(np.sqrt(equations.chi / freedom))
    covariance = equations.covariance(state.own.size)
    fixed = slice(len(OWN) * reference, len(OWN) * reference + 4)
    covariance[fixed] = covariance[:, fixed] = 0.0
    seen = np.array([light(state, strip, k) for k in range(len(values))])
    return Fitted(state, covariance * max(chi, 1.0) ** 2, chi, seen, used)


def _places(state: State) -> Bools:
    """Edges and shifts: all that the model does not know by products alone; (q,)."""
    own = np.zeros(state.own.shape, bool)
    own[:, 1:4] = True
    return np.concatenate([np.ones(3, bool), np.zeros(len(state.structure), bool), own.ravel()])


def _kept(strip: Strip, values: F8, variance: F8, used: Bools, state: State) -> Bools:
    """Pixels that are as the model says, as far as noise and edges let one expect."""
    kept = used.copy()
    for k in range(len(values)):
        seen = light(state, strip, k)
        rest = np.abs(values[k] - seen - state.own[k, 4])
        sigma = np.sqrt(variance[k])
        scale = max(float(mad_std((rest / sigma)[used[k]])), 1.0)
        with np.errstate(invalid="ignore"):
            kept[k] &= rest < np.maximum(CLIP[0] * scale * sigma, CLIP[1] * np.abs(seen))
    return kept


def _equations(
    strip: Strip, values: F8, variance: F8, used: Bools, state: State, reference: int, smooth: float
) -> _Equations:
    m, q = len(state.spectrum), 3 + len(state.structure) + state.own.size
    band, cross, rest = np.zeros((4, m)), np.zeros((m, q)), np.zeros((q, q))
    gradient, chi = np.zeros(m + q), 0.0
    for k in range(len(values)):
        here = np.flatnonzero(used[k])
        first, by_spectrum, by_others, model = _derivatives(strip, state, k, here)
        weight = 1 / np.sqrt(variance[k][here])
        off = (values[k][here] - model) * weight
        by_spectrum *= weight[:, None]
        by_others *= weight[:, None]
        columns = first[:, None] + np.arange(4)
        spectrum = csr_matrix(
            (by_spectrum.ravel(), columns.ravel(), np.arange(0, columns.size + 1, 4)), (len(here), m)
        )
        for i in range(4):
            for j in range(i, 4):
                product = np.bincount(first, by_spectrum[:, i] * by_spectrum[:, j], m - j)
                band[3 - (j - i), j:] += product
        cross += spectrum.T @ by_others
        rest += by_others.T @ by_others
        gradient[:m] += spectrum.T @ off
        gradient[m:] += by_others.T @ off
        chi += float(off @ off)
    total = chi + _smooth(state, band, rest, gradient, smooth)
    base = q - state.own.size + len(OWN) * reference
    for fixed in range(base, base + 4):  # the reference is where all others are measured from
        cross[:, fixed] = rest[fixed] = rest[:, fixed] = gradient[m + fixed] = 0.0
        rest[fixed, fixed] = 1.0
    return _Equations(band, cross, rest, gradient, total, chi)


def _derivatives(
    strip: Strip, state: State, k: int, here: NDArray[np.int64]
) -> tuple[NDArray[np.int64], F8, F8, F8]:
    """By the spectrum, first index and (n, 4); by all else, (n, q); and the model, (n,)."""
    gain, edge, structure, dispersion, pedestal = state.own[k]
    across = strip.across[here]
    n = len(state.structure)
    first_s, values_s, slopes_s = cubic(strip.along[here] - dispersion + 1 + PAD, len(state.spectrum))
    first_p, values_p, slopes_p = cubic(_knots(across - structure, state), n)
    columns = first_p[:, None] + np.arange(4)
    near_s, near_p = state.spectrum[first_s[:, None] + np.arange(4)], state.structure[columns]
    spectrum, spectrum_slope = (np.einsum("ij,ij->i", v, near_s) for v in (values_s, slopes_s))
    inner, inner_slope = (np.einsum("ij,ij->i", v, near_p) for v in (values_p, slopes_p))
    lit, lit_slopes = illumination(state.edges, across - edge)
    others = np.zeros((len(here), 3 + n + state.own.size))
    others[:, :3] = (gain * spectrum * inner)[:, None] * lit_slopes
    others[np.arange(len(here))[:, None], 3 + columns] = (gain * spectrum * lit)[:, None] * values_p
    own = 3 + n + len(OWN) * k
    others[:, own] = spectrum * lit * inner
    others[:, own + 1] = others[:, 0] + others[:, 1]  # both edges together
    others[:, own + 2] = -gain * spectrum * lit * inner_slope / KNOTS
    others[:, own + 3] = -gain * spectrum_slope * lit * inner
    others[:, own + 4] = 1.0
    return first_s, (gain * lit * inner)[:, None] * values_s, others, gain * others[:, own] + pedestal


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
