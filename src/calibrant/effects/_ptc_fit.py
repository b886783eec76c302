"""The fit of a photon transfer curve: what the levels of one amplifier say of its gain, noise and charge."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibrant.effects._ptc_covariances import Matrices, all_lags, each_lag
from calibrant.effects._ptc_curves import FREE, evaluate, solve_curve, try_curve
from calibrant.effects._ptc_levels import Choice, Levels, Mask, Trial, choose, first_levels, standard_error
from calibrant.effects._ptc_solve import Solution
from calibrant.errors import OptionError, ShapeError

F8 = NDArray[np.float64]
MODELS = (*FREE, "full")
LEAST_PUSH = 1e-7  # per electron: less is no effect worth a word
LEAST = {"linear": 2, "quadratic": 3, "exponential": 3, "full": 4}  # levels


@dataclass(frozen=True, eq=False)
class PtcFit:
    """What a photon transfer curve says of one amplifier; NaN where it says nothing.

    Attributes
    ----------
    model : str
        linear, quadratic, exponential or full.
    gain, gain_sigma : float
        electron/adu.
    read_noise, read_noise_sigma : float
        electron: the root of the size of n00.
    n00 : float
        electron^2: the noise squared at zero light, which may come out negative.
    a00, a00_sigma : float
        1/electron; NaN for the linear model.
    a, a_sigma : array or None
        (n, n), 1/electron, lags along rows and columns; None without covariances.
    b, b_sigma : array or None
        (n, n), 1/electron; of the full model alone, and NaN where `a` is below five of its sigmas.
    noise : array or None
        (n, n), electron^2: covariances at zero light; None without covariances.
    chi2 : float
        Per degree of freedom; NaN if there is none.
    turnoff, turnoff_sigma : float
        adu: mean of the highest level on the curve, and half the gap to the next.
    full_well : float
        electron: turn-off times gain.
    used : array of bool
        (levels,), in the order given.
    model_variance : array
        (levels,), adu^2; NaN where the mean is.
    model_covariance : array or None
        (levels, n, n), adu^2.
    notes : tuple of str
        What the reader should know, each a clause without a full stop.
    """

    model: str
    gain: float
    gain_sigma: float
    read_noise: float
    read_noise_sigma: float
    n00: float
    a00: float
    a00_sigma: float
    a: F8 | None
    a_sigma: F8 | None
    b: F8 | None
    b_sigma: F8 | None
    noise: F8 | None
    chi2: float
    turnoff: float
    turnoff_sigma: float
    full_well: float
    used: NDArray[np.bool_]
    model_variance: F8
    model_covariance: F8 | None
    notes: tuple[str, ...]


def fit(
    mean: ArrayLike,
    variance: ArrayLike,
    pixels: ArrayLike,
    *,
    model: str = "exponential",
    covariance: ArrayLike | None = None,
    covariance_pixels: ArrayLike | None = None,
    sigma_clip: float = 5.0,
    max_signal: float | None = None,
    bootstrap: int = 0,
    rng: np.random.Generator | None = None,
) -> PtcFit:
    """Fit a model to the levels of one amplifier; never fails for what the data are.

    Parameters
    ----------
    mean : array
        (levels,), adu above the bias, in any order; levels with a NaN are left out.
    variance : array
        (levels,), adu^2, of one frame: half of that of a pair's difference.
    pixels : array
        (levels,) or one number: pixels of each variance.
    model : str
        ``linear``, ``quadratic``, ``exponential`` or ``full`` (which needs `covariance`).
    covariance : array, optional
        (levels, n, n), adu^2, of one frame; [:, 0, 0] is replaced by `variance`. The matrices come from the
        full model, or from one lag after the other if the levels do not determine it, whatever `model` gain,
        a00 and noise come from.
    covariance_pixels : array, optional
        (levels, n, n), pairs of pixels of each covariance; `pixels` if not given.
    sigma_clip : float
        Levels farther from the curve, and by more than 1 % of it, are left out.
    max_signal : float, optional
        adu: higher levels are not used.
    bootstrap : int
        If positive, sigmas are the scatter of so many fits to levels drawn with replacement.
    rng : numpy.random.Generator, optional
        Draws them; one of seed 0 if not given.

    Returns
    -------
    PtcFit
        All NaN, with a note that says why, where there is no fit.

    Raises
    ------
    OptionError
        If the model is unknown, or full and without covariances.
    ShapeError
        If the arrays do not belong together.

    Notes
    -----
    Weights come from the model and are renewed until it settles, so they favour no level that came out low.
    Sigmas are those of the known noise of variances; where chi2 is more than three of its sigmas above 1 they
    are multiplied by its root. How levels are chosen: `_ptc_levels.choose`.
    """
    given = _checked(model, mean, variance, pixels, covariance, covariance_pixels)
    order, levels = _good(given, max_signal)
    if len(order) < LEAST[model]:
        return _nothing(model, given, f"{len(order)} usable levels, the {model} model needs {LEAST[model]}")
    name = "exponential" if model == "full" else model
    least = len(FREE[name])
    choice = choose(partial(try_curve, name, levels), levels, first_levels(levels, least), least, sigma_clip)
    if choice is None:
        return _nothing(model, given, "the variance does not rise with the signal as photon noise does")
    found = _of_curve(model, given, levels, choice, order)
    if given.covariance is not None:
        found = _with_covariances(found, given, levels, order, sigma_clip)
    if bootstrap > 0:
        found = _bootstrapped(found, given, bootstrap, rng or np.random.default_rng(0))
    return found


class _Given(NamedTuple):
    """The input as float64 arrays of their full shapes."""

    mean: F8
    variance: F8
    pixels: F8
    covariance: F8 | None
    covariance_pixels: F8 | None


def _checked(model: str, mean: Any, variance: Any, pixels: Any, covariance: Any, counts: Any) -> _Given:
    if model not in MODELS:
        raise OptionError("unknown model of the photon transfer curve", expected=", ".join(MODELS), got=model)
    if model == "full" and covariance is None:
        raise OptionError("the full model needs covariances", do="give covariance=... or another model")
    mu, var = (np.asarray(values, np.float64) for values in (mean, variance))
    if mu.ndim != 1 or mu.shape != var.shape:
        raise ShapeError("means and variances must be two equal rows", expected=mu.shape, got=var.shape)
    n = np.broadcast_to(np.asarray(pixels, np.float64), mu.shape)
    if covariance is None:
        return _Given(mu, var, n, None, None)
    cov = np.array(covariance, np.float64)
    if cov.ndim != 3 or len(cov) != len(mu) or cov.shape[1] != cov.shape[2]:
        raise ShapeError("covariances must be (levels, n, n)", expected=f"({len(mu)}, n, n)", got=cov.shape)
    cov[:, 0, 0] = var
    each = n[:, np.newaxis, np.newaxis] if counts is None else np.asarray(counts, np.float64)
    lags = np.array(np.broadcast_to(each, cov.shape))
    lags[:, 0, 0] = n
    return _Given(mu, var, n, cov, lags)


def _good(given: _Given, max_signal: float | None) -> tuple[NDArray[np.intp], Levels]:
    """Places and values of the levels that can be used, by rising mean."""
    mean, variance, pixels = given[:3]
    good = np.isfinite(mean) & np.isfinite(variance) & (variance > 0) & (pixels > 1)
    if max_signal is not None:
        good &= mean <= max_signal
    order = np.argsort(mean, kind="stable")
    order = order[good[order]]
    return order, Levels(mean[order], variance[order], pixels[order])


def _nothing(model: str, given: _Given, note: str) -> PtcFit:
    nan = math.nan
    blank = None if given.covariance is None else np.full(given.covariance.shape[1:], nan)
    return PtcFit(
        model, nan, nan, nan, nan, nan, nan, nan, blank, blank, blank, blank, blank, nan, nan, nan, nan,
        used=np.zeros(len(given.mean), bool),
        model_variance=np.full(len(given.mean), nan),
        model_covariance=None if given.covariance is None else np.full(given.covariance.shape, nan),
        notes=(note,),
    )  # fmt: skip


def _of_curve(
    model: str, given: _Given, levels: Levels, choice: Choice[Solution], order: NDArray[np.intp]
) -> PtcFit:
    """The fit to the variances alone."""
    parameters, covariance, _ = choice.trial.result
    gain, a00, square = (float(value) for value in parameters)
    sigmas = np.sqrt(np.diag(covariance))
    pulls = (levels.variance - choice.trial.values) / standard_error(choice.trial.values, levels.pixels)
    freedom = int(choice.used.sum()) - len(FREE.get(model, FREE["exponential"]))
    chi2 = float(np.sum(pulls[choice.used] ** 2) / freedom) if freedom > 0 else math.nan
    wider, scatters = _widening(chi2, freedom)
    noise, noise_sigma, words = _root(square, float(sigmas[2]) * wider)
    turnoff, turnoff_sigma, notes = _turnoff(levels.mean, choice)
    return PtcFit(
        model=model,
        gain=gain,
        gain_sigma=float(sigmas[0]) * wider,
        read_noise=noise,
        read_noise_sigma=noise_sigma,
        n00=square,
        a00=math.nan if model == "linear" else a00,
        a00_sigma=float(sigmas[1]) * wider,
        a=None,
        a_sigma=None,
        b=None,
        b_sigma=None,
        noise=None,
        chi2=chi2,
        turnoff=turnoff,
        turnoff_sigma=turnoff_sigma,
        full_well=turnoff * gain,
        used=_placed(choice.used, order, len(given.mean)),
        model_variance=evaluate("exponential" if model == "full" else model, parameters, given.mean)[0],
        model_covariance=None,
        notes=notes + scatters + words + _attraction(a00, float(sigmas[1]) * wider),
    )


def _placed(used: Mask, order: NDArray[np.intp], size: int) -> Mask:
    """Levels by rising mean as levels in the order given."""
    placed = np.zeros(size, bool)
    placed[order] = used
    return placed


def _widening(chi2: float, freedom: int) -> tuple[float, tuple[str, ...]]:
    """Factor of the sigmas where the levels scatter more than their noise; chance alone changes nothing."""
    if freedom > 0 and chi2 > 1.0 + 3.0 * math.sqrt(2.0 / freedom):
        wider = math.sqrt(chi2)
        return wider, (
            f"levels scatter {wider:.2g} times their noise about the curve: sigmas enlarged by that",
        )
    return 1.0, ()


def _turnoff(mean: F8, choice: Choice[Any]) -> tuple[float, float, tuple[str, ...]]:
    """Highest level on the curve, half the gap to its neighbour, and what there is to say of the levels."""
    turn, used = choice.turn, choice.used
    notes: tuple[str, ...] = ()
    if turn + 1 == len(mean):
        notes = ("the curve does not turn off: full well lies above the highest level",)
    outliers = int((~used[: turn + 1]).sum())
    if outliers:
        notes += (f"{outliers} of {turn + 1} levels up to the turn-off left out as outliers",)
    neighbour = mean[turn + 1] if turn + 1 < len(mean) else mean[max(turn - 1, 0)]
    return float(mean[turn]), float(abs(neighbour - mean[turn]) / 2.0), notes


def _attraction(a00: float, sigma: float) -> tuple[str, ...]:
    if a00 > max(5.0 * sigma, LEAST_PUSH):
        return (f"a00 is positive, {a00:.2g} per electron: non-linearity or light that changes is likelier",)
    return ()


def _root(square: float, sigma: float) -> tuple[float, float, tuple[str, ...]]:
    """Read noise from its square [electron^2], its sigma, and a note if the square is negative."""
    noise = math.sqrt(abs(square))
    # Near zero the root is not linear; its error is at most the root of that of the square.
    error = min(sigma / (2.0 * noise), math.sqrt(sigma)) if noise > 0 else math.sqrt(sigma)
    if square < 0:
        return (
            noise,
            error,
            (f"noise squared at zero light is negative, {square:.4g} +- {sigma:.2g} electron^2",),
        )
    return noise, error, ()


def _with_covariances(
    found: PtcFit, given: _Given, levels: Levels, order: NDArray[np.intp], clip: float
) -> PtcFit:
    """Matrices of the lags; of the full model also gain, noise, a00 and its own choice of levels."""
    assert given.covariance is not None and given.covariance_pixels is not None
    facts = (given.mean, given.covariance, given.covariance_pixels)
    lags = each_lag(*facts, found.model_variance, found.gain, found.used)

    def attempt(used: Mask) -> Trial[Matrices] | None:
        placed = _placed(used, order, len(given.mean))
        whole = None if lags is None else all_lags(*facts, found.gain, placed, lags)
        return None if whole is None else Trial(whole, whole.values[order, 0, 0], whole.predicted[order])

    if found.model == "full":
        choice = choose(attempt, levels, found.used[order], LEAST["full"], clip)
        if choice is None:
            return _nothing("full", given, "the levels do not determine the full covariance model")
        return _of_matrices(found, levels, choice, order)
    if lags is None:
        blank = np.full(given.covariance.shape[1:], math.nan)
        note = "too few levels for the lags of the covariances"
        return replace(found, a=blank, a_sigma=blank, noise=blank, notes=(*found.notes, note))
    trial = attempt(found.used[order])
    best = lags if trial is None else trial.result
    return replace(found, a=best.a, a_sigma=best.a_sigma, noise=best.noise, model_covariance=best.values)


def _of_matrices(found: PtcFit, levels: Levels, choice: Choice[Matrices], order: NDArray[np.intp]) -> PtcFit:
    whole = choice.trial.result
    wider, scatters = _widening(whole.chi2, whole.freedom)
    square, a00 = float(whole.noise[0, 0]), float(whole.a[0, 0])
    noise, noise_sigma, words = _root(square, float(whole.noise_sigma[0, 0]) * wider)
    turnoff, turnoff_sigma, notes = _turnoff(levels.mean, choice)
    return replace(
        found,
        gain=whole.gain,
        gain_sigma=whole.gain_sigma * wider,
        read_noise=noise,
        read_noise_sigma=noise_sigma,
        n00=square,
        a00=a00,
        a00_sigma=float(whole.a_sigma[0, 0]) * wider,
        a=whole.a,
        a_sigma=whole.a_sigma * wider,
        b=whole.b,
        b_sigma=None if whole.b_sigma is None else whole.b_sigma * wider,
        noise=whole.noise,
        chi2=whole.chi2,
        turnoff=turnoff,
        turnoff_sigma=turnoff_sigma,
        full_well=turnoff * whole.gain,
        used=_placed(choice.used, order, len(found.used)),
        model_variance=whole.values[:, 0, 0],
        model_covariance=whole.values,
        notes=notes + scatters + words + _attraction(a00, float(whole.a_sigma[0, 0]) * wider),
    )


def _bootstrapped(found: PtcFit, given: _Given, draws: int, rng: np.random.Generator) -> PtcFit:
    """Sigmas from fits to levels drawn with replacement among those used."""
    places = np.flatnonzero(found.used)
    results = []
    for _ in range(draws):
        drawn = _again(found, given, np.sort(rng.choice(places, len(places))))
        if drawn is not None:
            results.append(drawn)
    if len(results) < max(2, draws // 2):
        return replace(
            found, notes=(*found.notes, "too few levels for a bootstrap: sigmas are those of the fit")
        )
    scatter = np.std(np.array(results), axis=0, ddof=1)
    note = f"sigmas by bootstrap of {len(results)} draws"
    _, noise_sigma, _ = _root(found.n00, float(scatter[2]))
    kept = tuple(words for words in found.notes if "enlarged" not in words)
    return replace(
        found,
        gain_sigma=float(scatter[0]),
        a00_sigma=math.nan if found.model == "linear" else float(scatter[1]),
        read_noise_sigma=noise_sigma,
        notes=(*kept, note),
    )


def _again(found: PtcFit, given: _Given, places: NDArray[np.intp]) -> tuple[float, float, float] | None:
    """Gain, a00 and noise squared of drawn levels."""
    if found.model != "full":
        solution = solve_curve(found.model, Levels(*(values[places] for values in given[:3])))
        return None if solution is None else tuple(solution.parameters.tolist())
    assert given.covariance is not None and given.covariance_pixels is not None
    assert found.a is not None and found.a_sigma is not None and found.noise is not None
    nothing = np.full(len(places), math.nan)
    start = Matrices(
        found.gain, math.nan, found.a, found.a_sigma, None, None, found.noise, found.a_sigma,
        values=found.a, predicted=nothing, chi2=math.nan, freedom=0,
    )  # fmt: skip
    every = np.ones(len(places), bool)
    whole = all_lags(
        given.mean[places],
        given.covariance[places],
        given.covariance_pixels[places],
        found.gain,
        every,
        start,
    )
    return None if whole is None else (whole.gain, float(whole.a[0, 0]), float(whole.noise[0, 0]))
