"""Every rejection against an independent form, pixel by pixel in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from calibrant.errors import OptionError
from calibrant.frame import NO_DATA
from calibrant.stack.combine import Noise, combine
from calibrant.stack.reject import (
    GESD,
    REJECTIONS,
    AvSigClip,
    CCDClip,
    LinearFit,
    MinMax,
    PClip,
    Percentile,
    Rejection,
    SigmaClip,
    Winsorised,
    rejection,
)
from calibrant.stack.source import ArraySource

NOISE = Noise(read_noise=4.0, gain=2.0)
ROWS, COLS = 2, 12


# --- the independent forms: sorted values of one pixel -> (first, end) of what is kept
# -----------------------


def within(values, first, end, bottom, top, n_keep):
    """Ranks of the values within limits; as before where fewer than n_keep would stay."""
    inside = [i for i in range(first, end) if bottom <= values[i] <= top]
    if len(inside) < max(n_keep, 1):
        return first, end
    return inside[0], inside[-1] + 1


def sigma(values, clip, n_keep):
    kept, limits = values, (-np.inf, np.inf)
    for _ in range(clip.iterations or 1000):
        centre = np.mean(kept) if clip.centre == "mean" else np.median(kept)
        if clip.deviation == "mad":
            deviation = 1.482602218505602 * np.median(np.abs(kept - np.median(kept)))
        else:
            deviation = np.std(kept)
        bottom, top = centre - clip.low * deviation, centre + clip.upper * deviation
        fewer = kept[(kept >= bottom) & (kept <= top)]
        if len(fewer) < max(n_keep, 1):
            break
        limits = bottom, top
        if len(fewer) == len(kept):
            break
        kept = fewer
    return within(values, 0, len(values), *limits, 0)


def min_max(values, clip, n_keep, frames):
    first = int(np.floor(clip.low * len(values) / frames))
    end = len(values) - int(np.floor(clip.high * len(values) / frames))
    return (first, end) if end - first >= max(n_keep, 1) else (0, len(values))


def percentile(values, clip, n_keep):
    median = np.median(values)
    bottom, top = median - clip.low * abs(median), median + clip.high * abs(median)
    return within(values, 0, len(values), bottom, top, n_keep)


def p_clip(values, clip, n_keep):
    n = len(values)
    rank = clip.rank * n / 2 if abs(clip.rank) < 1 else clip.rank
    middle = n // 2 - (1 if rank < 0 and n % 2 == 0 else 0)
    chosen = values[min(max(int(np.floor(middle + rank + 0.5)), 0), n - 1)]
    median = np.median(values)
    deviation = abs(median - chosen)
    return within(values, 0, n, median - clip.low * deviation, median + clip.high * deviation, n_keep)


def winsorised(values, clip, n_keep):
    first, end = 0, len(values)
    for _ in range(clip.iterations or 1000):
        kept = values[first:end]
        if len(kept) < 3:
            break
        median, deviation = np.median(kept), np.std(kept, ddof=1)
        for _ in range(100):
            before = deviation
            drawn = np.clip(kept, median - 1.5 * before, median + 1.5 * before)
            deviation = 1.134 * np.std(drawn, ddof=1)
            if abs(deviation - before) <= 0.0005 * before:
                break
        now = within(
            values, first, end, median - clip.low * deviation, median + clip.high * deviation, n_keep
        )
        if now == (first, end):
            break
        first, end = now
    return first, end


def linear_fit(values, clip, n_keep):
    first, end = 0, len(values)
    for _ in range(clip.iterations or 1000):
        kept = values[first:end]
        if len(kept) < 3:
            break
        residual = kept - np.polyval(np.polyfit(np.arange(len(kept)), kept, 1), np.arange(len(kept)))
        distance = np.mean(np.abs(residual))
        a, b = 0, len(kept)
        while a < b and -residual[a] > clip.low * distance:
            a += 1
        while b > a and residual[b - 1] > clip.high * distance:
            b -= 1
        if b - a < max(n_keep, 1) or b - a == len(kept):
            break
        first, end = first + a, first + b
    return first, end


def gesd(values, clip, n_keep):
    n = len(values)
    most = min(max(1, int(clip.fraction * n)), n - max(n_keep, 3))
    first, end, found = 0, n, (0, n)
    for i in range(1, most + 1):
        kept = values[first:end]
        mean, deviation = np.mean(kept), np.std(kept, ddof=1)
        low, high = mean - kept[0], kept[-1] - mean
        if abs(low - high) < 1e-9 * max(low, high, 1):
            return None  # either may go: no one answer
        t = scipy_stats.t.ppf(1 - clip.alpha / (2 * (n - i + 1)), n - i - 1)
        critical = (n - i) * t / np.sqrt((n - i - 1 + t * t) * (n - i + 1))
        first, end = (first + 1, end) if low > high else (first, end - 1)
        if max(low, high) > critical * deviation:
            found = (first, end)
    return found


def ccd_clip(values, clip, n_keep, noise):
    first, end = 0, len(values)
    for _ in range(clip.iterations or 1000):
        kept = values[first:end]
        centre = np.float64(np.float32(np.median(kept) if clip.centre == "median" else np.mean(kept)))
        deviation = np.sqrt(noise.read_noise**2 + max(centre, 0) / noise.gain)
        now = within(
            values, first, end, centre - clip.low * deviation, centre + clip.upper * deviation, n_keep
        )
        if now == (first, end):
            break
        first, end = now
    return first, end


def average_sigma(columns, clip, n_keep):
    """All columns of a row at once: they share one noise."""
    ranks = [(0, len(values)) for values in columns]

    def mean_of(values, a, b):
        return np.mean(values[a + 1 : b - 1]) if b - a > 2 else np.mean(values[a:b])

    for _ in range(clip.iterations or 1000):
        squares, freedom = 0.0, 0
        for values, (a, b) in zip(columns, ranks, strict=True):
            if b - a >= 3:
                mean = mean_of(values, a, b)
                squares += np.sum((values[a:b] - mean) ** 2) / max(mean, 1.0)
                freedom += b - a - 1
        if not freedom:
            break
        now = []
        for values, (a, b) in zip(columns, ranks, strict=True):
            if b - a < 3:
                now.append((a, b))
                continue
            centre = np.median(values[a:b]) if clip.centre == "median" else mean_of(values, a, b)
            deviation = np.sqrt(squares / freedom * max(centre, 1.0))
            now.append(
                within(values, a, b, centre - clip.low * deviation, centre + clip.high * deviation, n_keep)
            )
        if now == ranks:
            break
        ranks = now
    return ranks


def kept_ranks(columns, clip, n_keep, frames):
    """Ranks kept of the columns of one row; None where there is no one answer."""
    if isinstance(clip, AvSigClip):
        return average_sigma(columns, clip, n_keep)
    forms = {
        "none": lambda v: (0, len(v)),
        "sigma": lambda v: sigma(v, clip, n_keep),
        "minmax": lambda v: min_max(v, clip, n_keep, frames),
        "percentile": lambda v: percentile(v, clip, n_keep),
        "pclip": lambda v: p_clip(v, clip, n_keep),
        "winsorised": lambda v: winsorised(v, clip, n_keep),
        "linearfit": lambda v: linear_fit(v, clip, n_keep),
        "gesd": lambda v: gesd(v, clip, n_keep),
        "ccdclip": lambda v: ccd_clip(v, clip, n_keep, NOISE),
    }
    return [forms[clip.name](values) if len(values) > 1 else (0, len(values)) for values in columns]


# --- the comparison
# -------------------------------------------------------------------------------------------

# limits that no rational arithmetic of small integers meets exactly: ties on a limit have their own test
CLIPS = (
    Rejection(),
    SigmaClip(2.13),
    SigmaClip(1.73, 2.71, centre="mean", iterations=None),
    SigmaClip(2.37, deviation="mad"),
    SigmaClip(2.37, 3.17, centre="mean", deviation="mad", iterations=2),
    MinMax(1, 2),
    Percentile(0.0123457, 0.0234571),
    PClip(-0.5, 1.713, 2.171),
    PClip(2.0, 1.713, 2.171),
    Winsorised(2.137, 2.137),
    LinearFit(2.371, 2.713),
    GESD(0.05, 0.3),
    AvSigClip(2.371, 2.137),
    AvSigClip(1.371, 2.137, centre="mean"),
    CCDClip(2.137),
    CCDClip(2.71, 1.73, centre="mean", iterations=None),
)


def stack_of(rng, frames, dtype, spread):
    """Integers around 1000 with outliers; a small spread makes many ties."""
    cube = 1000 + np.round(spread * rng.standard_normal((frames, ROWS, COLS)))
    hits = rng.random(cube.shape) < 0.05
    return (cube + hits * rng.integers(-400, 4000, cube.shape)).astype(dtype)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    clip=st.sampled_from(CLIPS),
    frames=st.integers(1, 130),
    dtype=st.sampled_from([">u2", "<u2", ">i2", "<i4", ">f4", "<f8"]),
    masked=st.sampled_from([0.0, 0.2, 0.9, 1.0]),
    spread=st.sampled_from([1.0, 10.0]),
    method=st.sampled_from(["mean", "median", "sum", "weighted"]),
    scaled=st.booleans(),
    n_keep=st.sampled_from([0, 1, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_rejection_is_that_of_plain_numpy(clip, frames, dtype, masked, spread, method, scaled, n_keep, seed):
    if frames < clip.least_frames():
        return
    n_keep = min(n_keep, frames)
    rng = np.random.default_rng(seed)
    cube = stack_of(rng, frames, dtype, spread)
    flags = np.where(rng.random(cube.shape) < masked, np.uint32(NO_DATA), np.uint32(0))
    scale = rng.choice([0.5, 1.0, 2.0], frames) if scaled and clip.name != "ccdclip" else np.ones(frames)
    weights = rng.integers(1, 9, frames).astype(float)
    result = combine(
        [ArraySource(data, dq if masked else None) for data, dq in zip(cube, flags, strict=True)],
        method=method,
        reject=clip,
        scale=scale,
        weights=weights if method == "weighted" else None,
        noise=NOISE,
        n_keep=n_keep,
        runner="serial",
    )
    values = cube.astype(float) * scale[:, None, None]
    check(result, values, flags == 0 if masked else np.ones(cube.shape, bool), weights, clip, n_keep, method)


def check(result, values, good, weights, clip, n_keep, method):
    frames = len(values)
    for row in range(ROWS):
        columns = [np.sort(values[good[:, row, col], row, col]) for col in range(COLS)]
        ranks = kept_ranks(columns, clip, n_keep, frames)
        for col, (column, kept) in enumerate(zip(columns, ranks, strict=True)):
            if kept is None:
                continue
            at = row, col
            assert result.count[at] == kept[1] - kept[0], (at, column, kept)
            assert result.low[at] == kept[0]
            assert result.high[at] == len(column) - kept[1]
            if not len(column):
                assert np.isnan(result.data[at]) and result.dq[at] == int(NO_DATA)
                continue
            check_value(result, at, column, kept, values[:, row, col], good[:, row, col], weights, method)


def check_value(result, at, column, kept, values, good, weights, method):
    chosen = column[slice(*kept)]
    if method == "weighted":
        ends = chosen[0], chosen[-1]
        edge = (column == ends[0]).sum() + (column == ends[1]).sum()
        if kept != (0, len(column)) and edge > 2:
            return  # which of the tied frames stays is not a matter of values
        use = good & (values >= ends[0]) & (values <= ends[1])
        expected = np.average(values[use], weights=weights[use])
    else:
        expected = {"mean": np.mean, "median": np.median, "sum": np.sum}[method](chosen)
    if method == "median":
        assert result.data[at] == np.float32(expected)
    else:
        np.testing.assert_allclose(result.data[at], expected, rtol=3e-7)
    n = len(chosen)
    if n > 1 and method != "weighted":
        one = np.var(chosen, ddof=1) * (n if method == "sum" else 1 / n)
        np.testing.assert_allclose(result.variance[at], one * ratio_of(result, n), rtol=2e-5, atol=1e-9)
    if n == 1:
        assert np.isnan(result.variance[at])


def ratio_of(result, n):
    return result.variance_factor[n]


# --- single facts
# -----------------------------------------------------------------------------------------------


def column(*values, **options):
    """Combine the values of one pixel."""
    sources = [ArraySource(np.array([[value]], np.float32)) for value in values]
    return combine(sources, runner="serial", **{"method": "mean", **options})


@pytest.mark.parametrize(
    "clip", [SigmaClip(2.0, centre="mean", iterations=1), SigmaClip(2.0, centre="mean", iterations=None)]
)
def test_a_value_on_the_limit_is_kept(clip):
    # the hit lies exactly 2 standard deviations from the mean of five values
    result = column(0, 0, 0, 0, 10, reject=SigmaClip(1.9999, centre="mean", iterations=1))
    assert result.count == 4
    with pytest.raises(OptionError, match="at least 6 frames"):
        column(0, 0, 0, 0, 10, reject=clip)
    assert column(0, 0, 0, 0, 10, 2, reject=clip).count == 5
    on = column(100, 100, 100, 110, 90, reject=Percentile(0.1, 0.1))
    assert on.count == 5


def test_sigma_clip_is_that_of_astropy():
    astropy_stats = pytest.importorskip("astropy.stats")
    rng = np.random.default_rng(3)
    cube = rng.normal(500, 10, (25, 40, 50)).astype(np.float32)
    cube[rng.random(cube.shape) < 0.02] += 300
    for centre, deviation in (("median", "std"), ("mean", "std"), ("median", "mad")):
        theirs = astropy_stats.sigma_clip(
            cube.astype(float),
            sigma_lower=2.5,
            sigma_upper=3.5,
            maxiters=5,
            cenfunc=centre,
            stdfunc="std" if deviation == "std" else "mad_std",
            axis=0,
        )
        clip = SigmaClip(2.5, 3.5, centre=centre, deviation=deviation, iterations=5)
        ours = combine([ArraySource(frame) for frame in cube], method="mean", reject=clip)
        np.testing.assert_array_equal(ours.count, theirs.count(axis=0))
        np.testing.assert_allclose(ours.data, theirs.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("frames", [3, 5, 10, 30])
def test_a_hit_of_50_sigma_does_not_survive_noise_limits(frames):
    rng = np.random.default_rng(frames)
    cube = rng.normal(1000, 5, (frames, 20, 30)).astype(np.float32)
    hit = rng.integers(0, frames, (20, 30))
    np.put_along_axis(cube, hit[None], np.take_along_axis(cube, hit[None], 0) + 250, 0)
    result = combine(
        [ArraySource(frame) for frame in cube], method="mean", reject="ccdclip", noise=Noise(5.0, np.inf)
    )
    assert (result.high == 1).all()
    assert np.abs(result.data - 1000).max() < 5 * 5 / np.sqrt(frames - 1)


@pytest.mark.parametrize("name", sorted(set(REJECTIONS) - {"none"}))
def test_one_frame_is_refused_or_kept_whole(name):
    clip = rejection(name)
    if name == "minmax":
        with pytest.raises(OptionError, match="would leave nothing"):
            column(7.0, reject=clip, noise=NOISE)
    else:
        result = column(7.0, reject=clip, noise=NOISE)
        assert result.data == 7 and result.count == 1 and np.isnan(result.variance)


@pytest.mark.parametrize(
    ("clip", "fewest"),
    [
        (SigmaClip(3, centre="mean"), 11),
        (SigmaClip(3, centre="median"), 8),
        (SigmaClip(2, centre="mean"), 6),
        (SigmaClip(3, deviation="mad"), 3),
        (CCDClip(3), 3),
        (MinMax(1, 1), 3),
    ],
)
def test_a_rejection_that_cannot_act_is_refused_and_one_more_frame_lets_it(clip, fewest):
    assert clip.least_frames() == fewest
    with pytest.raises(OptionError, match=f"at least {fewest} frames"):
        column(*[1.0] * (fewest - 1), reject=clip, noise=NOISE)
    values = [1.0, 1.01] * fewest
    if clip.name != "minmax":
        assert column(*values[: fewest - 1], 1e6, reject=clip, noise=NOISE).high == 1


def test_the_refusal_names_rejections_that_act():
    with pytest.raises(OptionError) as error:
        column(*[1.0] * 9, reject=SigmaClip(3, centre="mean"))
    assert "CCDClip" in str(error.value) and "SigmaClip(3, centre='median')" in str(error.value)
    assert "deviation='mad'" in str(error.value)


def test_names_and_mistakes():
    assert rejection("sigma") == SigmaClip() and rejection(None) == Rejection()
    with pytest.raises(OptionError, match="no such rejection"):
        rejection("sigmaclip")
    for wrong in (
        lambda: SigmaClip(0),
        lambda: SigmaClip(3, centre="mode"),
        lambda: SigmaClip(3, iterations=0),
        lambda: MinMax(-1, 0),
        lambda: GESD(alpha=2),
        lambda: PClip(0),
        lambda: CCDClip(-1),
    ):
        with pytest.raises(OptionError):
            wrong()
    with pytest.raises(OptionError, match="noise"):
        column(1, 2, 3, reject="ccdclip")
