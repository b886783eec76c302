"""The joint model of one slice in all campaigns: illumination, structure, spectrum; gain, shifts, pedestals.

``value = gain S(along - dispersion) E(across - edge) P(across - structure) + pedestal``, with the spectrum S,
the illumination E of a slice with blurred edges and its structure P common to all campaigns. S and P are cubic
B-splines; all is solved at once by damped Gauss-Newton steps, so that sigmas know of each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import erf

from calibrant.effects._campaign_strips import Strip
from calibrant.stats import mad_std

KNOTS = 0.6  # columns between the knots of the structure: it may vary within three
BLUR = 0.8, 0.25, 3.0  # columns: first guess, least and largest sigma of edges
OWN = ("gain", "edge", "structure", "dispersion", "pedestal")
STEPS = 15
STILL = 1e-4  # columns, rows: a step as small as this is the last one
SMOOTHED = 1e-6  # of second differences of the structure, relative to what the best measured place weighs
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
        """The state after a step; blur and edges stay within bounds."""
        n, m = len(self.structure), len(self.spectrum)
        edges = self.edges + np.clip(step[:3], -0.5, 0.5)
        edges[2] = np.clip(edges[2], *BLUR[1:])
        own = step[3 + n + m :].reshape(self.own.shape).copy()
        own[:, 1:4] = np.clip(own[:, 1:4], -0.5, 0.5)
        return State(
            edges,
            self.structure + step[3 : 3 + n],
            self.spectrum + step[3 + n : 3 + n + m],
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
    spectrum = spline(state.spectrum, strip.along - dispersion + 1)[0]
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
    level = np.interp(np.arange(-1, strip.rows + 2), known, total[known] / count[known])
    first = strip.across.min() - 2 * KNOTS - np.abs(shifts).max()
    last = strip.across.max() + 2 * KNOTS + np.abs(shifts).max()
    structure = np.ones(int(np.ceil((last - first) / KNOTS)) + 3)
    return State(edges, structure, level, own, float(first))


WIDE = 0.8  # of a slice: where its edges do not matter


def solve(
    strip: Strip, values: F8, variance: F8, used: Bools, state: State, reference: int, steps: int = STEPS
) -> Fitted:
    """The joint fit of a slice, from a first guess.

    Parameters
    ----------
    values, variance, used : ndarray
        (campaigns, n): of the strip's pixels, light of other slices taken off.
    """
    damping, used, kept = 1e-3, used.copy(), used
    equations = _equations(strip, values, variance, used, state, reference)
    for number in range(steps):
        step = _step(*equations[:2], damping)
        trial = state.moved(step)
        tried = _equations(strip, values, variance, used, trial, reference)
        if tried[2] > equations[2] * (1 + 1e-9):
            damping *= 10
            if damping > 1e8:
                break
            continue
        moved = np.abs(trial.own - state.own)[:, 1:4].max()
        state, equations, damping = trial, tried, max(damping / 10, 1e-9)
        if number >= 2:
            kept = _kept(strip, values, variance, used, state)
        if moved < STILL and np.array_equal(kept & used, used):
            break
        if not np.array_equal(kept & used, used):
            used &= kept
            equations = _equations(strip, values, variance, used, state, reference)
    freedom = max(int(used.sum()) - len(equations[1]), 1)
    chi = float(np.sqrt(equations[3] / freedom))
    covariance = _covariance(equations[0], state.own.size)
    fixed = slice(len(OWN) * reference, len(OWN) * reference + 4)
    covariance[fixed] = covariance[:, fixed] = 0.0
    seen = np.array([light(state, strip, k) for k in range(len(values))])
    return Fitted(state, covariance * max(chi, 1.0) ** 2, chi, seen, used)


def _covariance(matrix: F8, count: int) -> F8:
    """Of the last `count` parameters."""
    scale = np.sqrt(np.diag(matrix))
    inverse = np.linalg.inv(matrix / np.outer(scale, scale))[-count:, -count:]
    found: F8 = inverse / np.outer(scale[-count:], scale[-count:])
    return found


def _kept(strip: Strip, values: F8, variance: F8, used: Bools, state: State) -> Bools:
    """Pixels that are as the model says, as far as noise and edges let one expect."""
    kept = used.copy()
    for k in range(len(values)):
        seen = light(state, strip, k)
        rest = np.abs(values[k] - seen - state.own[k, 4])
        sigma = np.sqrt(variance[k])
        scale = max(float(mad_std((rest / sigma)[used[k]])), 1.0)
        kept[k] &= rest < np.maximum(CLIP[0] * scale * sigma, CLIP[1] * np.abs(seen))
    return kept


def _step(matrix: F8, gradient: F8, damping: float) -> F8:
    scale = np.sqrt(np.diag(matrix))
    scaled = matrix / np.outer(scale, scale) + damping * np.eye(len(scale))
    found: F8 = np.linalg.solve(scaled, gradient / scale) / scale
    return found


def _equations(
    strip: Strip, values: F8, variance: F8, used: Bools, state: State, reference: int
) -> tuple[F8, F8, float, float]:
    """Normal matrix, gradient, what is made least, and its part that comes from the pixels."""
    n, m = len(state.structure), len(state.spectrum)
    size = 3 + n + m + state.own.size
    matrix, gradient, chi = np.zeros((size, size)), np.zeros(size), 0.0
    for k in range(len(values)):
        here = np.flatnonzero(used[k])
        columns, slopes, model = _derivatives(strip, state, k, here)
        weight = 1 / np.sqrt(variance[k][here])
        rest = (values[k][here] - model) * weight
        jacobian = csr_matrix(
            (
                (slopes * weight[:, None]).ravel(),
                columns.ravel(),
                np.arange(0, columns.size + 1, columns.shape[1]),
            ),
            shape=(len(here), size),
        )
        matrix += (jacobian.T @ jacobian).toarray()
        gradient += jacobian.T @ rest
        chi += float(rest @ rest)
    total = chi + _regular(state, matrix, gradient)
    base = 3 + n + m + len(OWN) * reference
    for fixed in range(base, base + 4):  # the reference is where all others are measured from
        matrix[fixed] = matrix[:, fixed] = gradient[fixed] = 0.0
        matrix[fixed, fixed] = 1.0
    return matrix, gradient, total, chi


def _derivatives(
    strip: Strip, state: State, k: int, here: NDArray[np.int64]
) -> tuple[NDArray[np.int64], F8, F8]:
    """Parameters that each pixel knows of, (n, 16), its derivatives by them, and the model, (n,)."""
    gain, edge, structure, dispersion, pedestal = state.own[k]
    across, along = strip.across[here], strip.along[here]
    n, m = len(state.structure), len(state.spectrum)
    first_s, values_s, slopes_s = cubic(along - dispersion + 1, m)
    first_p, values_p, slopes_p = cubic(_knots(across - structure, state), n)
    near_s = state.spectrum[first_s[:, None] + np.arange(4)]
    near_p = state.structure[first_p[:, None] + np.arange(4)]
    spectrum, spectrum_slope = (np.einsum("ij,ij->i", v, near_s) for v in (values_s, slopes_s))
    inner, inner_slope = (np.einsum("ij,ij->i", v, near_p) for v in (values_p, slopes_p))
    lit, lit_slopes = illumination(state.edges, across - edge)
    seen = spectrum * lit * inner
    own = np.stack(
        [
            seen,
            gain * spectrum * inner * (lit_slopes[:, 0] + lit_slopes[:, 1]),
            -gain * spectrum * lit * inner_slope / KNOTS,
            -gain * spectrum_slope * lit * inner,
            np.ones(len(here)),
        ],
        axis=-1,
    )
    shapes = (gain * spectrum * inner)[:, None] * lit_slopes
    parts = [
        shapes,
        (gain * spectrum * lit)[:, None] * values_p,
        (gain * lit * inner)[:, None] * values_s,
        own,
    ]
    columns = [
        np.broadcast_to(np.arange(3), (len(here), 3)),
        3 + first_p[:, None] + np.arange(4),
        3 + n + first_s[:, None] + np.arange(4),
        np.broadcast_to(3 + n + m + 5 * k + np.arange(5), (len(here), 5)),
    ]
    return np.concatenate(columns, axis=1), np.concatenate(parts, axis=1), gain * seen + pedestal


def _regular(state: State, matrix: F8, gradient: F8) -> float:
    """Structure is smooth where no pixel looks, and 1 on average; spectra stay where no pixel looks."""
    n, m = len(state.structure), len(state.spectrum)
    structure, spectrum = slice(3, 3 + n), slice(3 + n, 3 + n + m)
    best = float(np.diag(matrix)[structure].max())
    second = np.diff(np.eye(n), 2, axis=0) * np.sqrt(SMOOTHED * best)
    mean = np.full((1, n), np.sqrt(best) / n)
    total = 0.0
    for rows, wanted in ((second, 0.0), (mean, np.sqrt(best))):
        rest = wanted - rows @ state.structure
        matrix[structure, structure] += rows.T @ rows
        gradient[structure] += rows.T @ rest
        total += float(rest @ rest)
    curve = np.diff(np.eye(m), 2, axis=0)
    weight = 1e-8 * float(np.diag(matrix)[spectrum].max())
    matrix[spectrum, spectrum] += weight * (curve.T @ curve)
    bent = curve @ state.spectrum
    gradient[spectrum] -= weight * (curve.T @ bent)
    return total + weight * float(bent @ bent)
