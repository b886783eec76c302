"""Lines between two noisy darks against the truth: no bias, honest errors; least squares is attenuated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calibrant.effects._scaling_fit import Triangles, least_squares
from calibrant.effects._scaling_lines import Noise, line
from calibrant.effects.dark_scaling import NoiseModel, apply, measure
from calibrant.frame import Exposure, Frame
from calibrant.simulate import dark_pair, dark_pair_file

SHAPE = (40, 100)
PIXELS = SHAPE[0] * SHAPE[1]
LABELS = (np.arange(PIXELS) // 100).astype(np.intp)
COUNTS = [40, pytest.param(400, marks=pytest.mark.soak)]
TRUTH = np.array([1.25, 130.0])


def fit(model, truth, stated=1.0, law=None):
    """A line through one simulated pair; `stated` multiplies the variance said of the first dark."""
    x, y = truth.dark_from.ravel(), truth.dark_to.ravel()
    vx, vy = truth.sigma_from.ravel() ** 2 * stated, truth.sigma_to.ravel() ** 2
    if model == "least squares":
        return least_squares(Triangles.of(x, y, LABELS, 1), 1, "poly1")
    if model == "deming":
        return line(x, y, Noise.ratio(float(vy.mean() / vx.mean())), LABELS, name=model)
    if law is not None:
        return line(x, y, Noise(law(x), law(y), True, law), LABELS, name=model)
    loss = {"york": "none", "huber": "huber", "tukey": "tukey"}[model]
    return line(x, y, Noise(vx, vy, True), LABELS, name=model, loss=loss)


def trials(model, count, seed=1, stated=1.0, **design):
    """Pulls of slope and offset (trials, 2), from independent pixels and from blocks."""
    rng = np.random.default_rng(seed)
    single, blocks = [], []
    for _ in range(count):
        truth = dark_pair.noisy_pair(rng, SHAPE, **design)
        found = fit(model, truth, stated)
        off = found.coefficients - TRUTH
        single.append(off / found.sigma)
        blocks.append(off / np.sqrt(np.diag(found.block_covariance)))
    return np.array(single), np.array(blocks)


def judge(pulls):
    """Unbiased, and errors that are what they say: width 1 +- 0.05 over 400 trials, more for fewer."""
    count = len(pulls)
    assert (np.abs(pulls.mean(axis=0)) < 4.5 / math.sqrt(count)).all(), pulls.mean(axis=0)
    width = np.sqrt(np.mean(pulls**2, axis=0))
    room = 0.05 if count >= 400 else 4.5 / math.sqrt(2 * count)
    assert np.abs(np.sqrt(np.mean(pulls**2)) - 1) < room, width


def uneven(seed=0):
    """A sigma of its own for each pixel, 20 to 120 adu."""
    return np.random.default_rng(seed).uniform(20.0, 120.0, SHAPE)


DESIGNS = {
    "equal": {},
    "unequal": {"sigma_from": 120.0, "sigma_to": 40.0},
    "uneven": {"sigma_from": uneven(1), "sigma_to": uneven(2)},
}


@pytest.mark.parametrize(
    ("model", "design"),
    [("deming", "equal"), ("deming", "unequal"), ("york", "equal"), ("york", "uneven"), ("huber", "equal"),
     ("tukey", "uneven")],
)  # fmt: skip
@pytest.mark.parametrize("count", COUNTS)
def test_lines_are_unbiased_and_their_errors_hold(count, model, design):
    judge(trials(model, count, **DESIGNS[design])[0])


@pytest.mark.parametrize("count", COUNTS)
def test_errors_from_blocks_hold_as_well(count):
    """Forty blocks make a Student of them, and their own fit draws them in: a few per cent too small."""
    pulls = trials("york", count, seed=2)[1]
    assert (np.abs(pulls.mean(axis=0)) < 4.5 / math.sqrt(count)).all()
    width = math.sqrt(np.mean(pulls**2))
    assert 0.95 - 3 / math.sqrt(2 * count) < width < 1.12 + 3 / math.sqrt(2 * count)


@pytest.mark.parametrize(
    "wrong",
    [{"model": "least squares"}, {"model": "deming", "stated": 0.7}, {"model": "york", "stated": 1.4},
     {"model": "york", "slope": 1.25 + 5 * 0.006}, {"model": "deming", "offset": 130.0 + 5 * 2.5}],
    ids=["least squares", "ratio", "noise", "slope", "offset"],
)  # fmt: skip
@pytest.mark.parametrize("count", COUNTS)
def test_other_physics_is_noticed(count, wrong):
    """The twin: noise in the first dark forgotten or wrongly stated, another line."""
    with pytest.raises(AssertionError):
        judge(trials(count=count, **wrong)[0])


def test_least_squares_is_attenuated_as_predicted():
    """Slope of least squares over the true one is 1 - var(noise) / var(dark_from), as the product says."""
    rng = np.random.default_rng(3)
    for sigma in (40.0, 80.0, 160.0):
        truth = dark_pair.noisy_pair(rng, sigma_from=sigma, sigma_to=50.0)
        known = {"sigma_from": sigma, "sigma_to": 50.0}
        straight = measure(truth.dark_from, truth.dark_to, model="poly1").quantity("c1", "poly1")
        york = measure(truth.dark_from, truth.dark_to, model="york", **known)
        predicted = york.quantity("attenuation", "york").value
        ratio = straight.value / truth.slope
        spread = float(np.var(truth.true_from))
        assert predicted == pytest.approx(spread / (spread + sigma**2), rel=0.03)
        assert ratio == pytest.approx(predicted, abs=5 * straight.sigma)
        assert ratio < 1 - 5 * straight.sigma, "attenuation must be seen at all"
        assert abs(york.quantity("c1", "york").value - truth.slope) < 4.5 * york.quantity("c1", "york").sigma


@pytest.mark.parametrize("count", [15, pytest.param(400, marks=pytest.mark.soak)])
def test_noise_that_follows_the_signal(count):
    """Poisson and read noise, variances taken from the noisy darks themselves, moved onto the line."""
    rng = np.random.default_rng(4)
    law = NoiseModel(gain=0.25, read_noise=20.0)
    pulls = []
    for _ in range(count):
        clean = dark_pair.noisy_pair(rng, SHAPE, sigma_from=1e-9, sigma_to=1e-9)
        sigmas = {"sigma_from": np.sqrt(law(clean.true_from)), "sigma_to": np.sqrt(law(clean.true_to))}
        x = clean.true_from + sigmas["sigma_from"] * rng.normal(size=SHAPE)
        y = clean.true_to + sigmas["sigma_to"] * rng.normal(size=SHAPE)
        found = line(
            x.ravel(), y.ravel(), Noise(law(x).ravel(), law(y).ravel(), True, law), LABELS, name="york"
        )
        pulls.append((found.coefficients - TRUTH) / found.sigma)
    judge(np.array(pulls))


@pytest.mark.parametrize("count", [15, pytest.param(200, marks=pytest.mark.soak)])
def test_robust_line_stands_telegraph_pixels(count):
    """Two per cent of the second dark jump: Tukey's slope stays within its errors, York's line does not."""
    tukey = trials("tukey", count, seed=5, outliers=0.02)[0]
    york = trials("york", count, seed=5, outliers=0.02)[0]
    assert abs(tukey[:, 0].mean()) < 4.5 / math.sqrt(count)
    assert np.sqrt(np.mean(tukey**2)) < 1.3
    assert np.abs(york).mean() > 3 * np.abs(tukey).mean()


# --- the dark behind a light frame ---


def behind_light(count, where, model="york"):
    """Pulls of slope and offset, and the mean of what is left of the dark [adu], for simulated lights."""
    design = dark_pair.load()
    pulls, left = [], []
    for seed in range(count):
        taken = dark_pair_file.take(design, np.random.default_rng(seed), 1)
        light = Frame(taken.lights[0], exposure=Exposure("light"))
        noise = np.sqrt(design.light.read_noise**2 + np.maximum(taken.lights[0], 0) / design.light.gain)
        known = {"sigma_from": 0.3, "sigma_to": noise}  # the light holds this very dark
        found = measure(taken.darks[2], light, where=where, model=model, **known)
        line_found = [found.quantity(name, model) for name in ("c1", "c0")]
        truth = design.light.slope, design.light.offset
        pulls.append([(q.value - t) / (q.sigma or 0.0) for q, t in zip(line_found, truth, strict=True)])
        left.append(float((apply(light, found).data - taken.signal).mean()))
    return np.array(pulls), np.array(left)


@pytest.mark.parametrize("count", [6, pytest.param(60, marks=pytest.mark.soak)])
def test_the_dark_behind_a_light_is_found_where_no_light_falls(count):
    pulls, left = behind_light(count, "unlit")
    assert np.sqrt(np.mean(pulls**2)) < 1 + 4.5 / math.sqrt(2 * count)
    assert np.abs(left).max() < 1.5  # of 600 adu of dark


def test_the_calm_window_as_published_may_lie_in_faint_light():
    """The twin: where the dark's pattern is low, the lowest window of the frame as it is may be lit."""
    _, left = behind_light(6, "calm", "poly1")
    assert np.abs(left).max() > 20
