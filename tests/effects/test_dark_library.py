"""The dark library: what it says, what it refuses, and its kernels against NumPy."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibrant.effects import _library_fit, bias, dark_library
from calibrant.effects._levels import level, spread
from calibrant.effects._library_law import doubling, inverse_kt, law_of, temperature_groups
from calibrant.errors import (
    BudgetError,
    HeaderError,
    HistoryError,
    OptionError,
    SelectionError,
    ShapeError,
)
from calibrant.frame import DQ
from calibrant.product import Quantity
from calibrant.stack import kernels_arrhenius

SPEC = importlib.util.spec_from_file_location("darks_of_a_grid", Path(__file__).with_name("darks.py"))
DARKS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(DARKS)
KNOWN, REFERENCE, Library, series = DARKS.KNOWN, DARKS.REFERENCE, DARKS.Library, DARKS.series


@pytest.fixture(scope="module")
def made():
    camera = Library()
    return camera, dark_library.measure(series(camera.grid()), **KNOWN)


def master(camera, n=9):
    frames = [camera.expose(0.0, -10, kind="bias", number=k) for k in range(n)]
    found = bias.measure(series(frames))
    return found[0] if isinstance(found, tuple) else found


# --- the numbers ---


def test_energy_and_doubling_temperature(made):
    camera, product = made
    energy = product.quantity("activation_energy")
    assert abs(energy.value - np.median(camera.energy)) < 5 * energy.sigma + 0.002
    step = product.quantity("doubling_temperature")
    assert step.value == pytest.approx(doubling(energy.value, REFERENCE))
    ratio = np.median(camera.dark(1, REFERENCE + step.value / 2) / camera.dark(1, REFERENCE - step.value / 2))
    assert ratio == pytest.approx(2.0, rel=0.01)
    assert product.quantity("activation_energy_width").value == pytest.approx(0.03, abs=0.004)
    assert all(isinstance(q, Quantity) and np.isfinite(q.value) for q in product)


def test_every_plane_and_quantity_is_explained(made):
    _, product = made
    assert set(product.planes) <= set(dark_library.KIND.planes)
    assert {q.name for q in product} <= set(dark_library.KIND.quantities)
    assert set(product.planes) - {"dq", "chi2", "count", "law_chi2"} <= set(product.units)


def test_noise_has_a_chi_squared_of_one(made):
    _, product = made
    assert product.quantity("chi2").value == pytest.approx(1.0, abs=0.06)
    assert np.nanmean(product.planes["law_chi2"]) == pytest.approx(1.0, abs=0.06)


def test_the_same_as_normal_equations():
    """Without outliers: float64 weighted least squares of the whole model in one."""
    camera = Library(shape=(8, 12), width=0.02)
    frames = camera.grid(repeat=3)
    product = dark_library.measure(series(frames), limit=1e6, level="keep", **KNOWN)
    times = np.array([f.exposure.duration for f in frames])
    celsius = np.array([f.exposure.temperature for f in frames])
    groups = np.unique(celsius)
    a = np.column_stack([np.ones(len(frames)), *((celsius == c) * times for c in groups)])
    law = product.tables["temperatures"]["law"]
    w = 1 / (KNOWN["read_noise"] ** 2 + law[np.searchsorted(groups, celsius)] * times / KNOWN["gain"])
    y = np.array([f.data for f in frames], float).reshape(len(frames), -1)
    zero, *rates = np.linalg.solve((a.T * w) @ a, (a.T * w) @ y)
    np.testing.assert_allclose(product.planes["bias"].ravel(), zero, atol=2e-3)
    x = inverse_kt(groups, REFERENCE)
    for k in range(y.shape[1]):
        r = np.array([one[k] for one in rates])
        fitted = np.exp(np.log(product.data.ravel()[k]) - product.planes["energy"].ravel()[k] * x)
        # Stationary: weighted residuals of ln rate are orthogonal to 1 and x.
        left = np.log(r / fitted)
        weight = fitted**2 / dark_variance(r, times, celsius, groups, w)
        assert abs((weight * left).sum()) < 0.02 * np.sqrt(weight.sum())
        assert abs((weight * x * left).sum()) < 0.02 * np.sqrt((weight * x * x).sum())


def dark_variance(rates, times, celsius, groups, w):
    """Of each rate at a given zero level, with the weights of all pixels and the noise of this one."""
    found = []
    for r, c in zip(rates, groups, strict=True):
        t, one = times[celsius == c], w[celsius == c]
        sigma2 = KNOWN["read_noise"] ** 2 + max(r, 0) * t / KNOWN["gain"]
        found.append((one**2 * t**2 * sigma2).sum() / (one * t * t).sum() ** 2)
    return np.array(found)


def test_logarithms_and_exponentials():
    x = np.random.default_rng(1).uniform(-60, 60, 2000).astype(np.float32)
    log = [kernels_arrhenius.ln.py_func(one) for one in np.exp(x)]
    np.testing.assert_allclose(log, np.log(np.exp(x).astype(float)), rtol=2e-7, atol=1e-7)
    found = [kernels_arrhenius.exp.py_func(one) for one in x]
    np.testing.assert_allclose(found, np.exp(x.astype(float)), rtol=3e-7)
    assert {np.asarray(one).dtype for one in (*log, *found)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_level_is_the_median_of_a_spread(dtype):
    rng = np.random.default_rng(2)
    for size in (1, 2, 3, 10, 1001, 5000):
        for width in (0.1, 3.0, 300.0):
            values = rng.normal(1000, width, size).astype(dtype)
            assert level(values) == pytest.approx(spread(values).median, rel=1e-12)


def test_bands_runners_and_budgets_do_not_matter(made):
    frames, product = series(Library().grid()), made[1]
    other = dark_library.measure(frames, runner="serial", budget="700kB", **KNOWN)
    assert other.identity == dark_library.measure(frames, runner=3, **KNOWN).identity == product.identity
    with pytest.raises(BudgetError, match="row by row"):
        dark_library.measure(frames, budget="100kB", **KNOWN)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_planes_of_one_cube_are_not_copied_and_give_the_same(dtype, monkeypatch):
    """In any order, with some planes left out, hits and saturated values among them."""
    camera = Library()
    frames = camera.grid()
    order = np.random.default_rng(3).permutation(len(frames) + 2)[: len(frames)]
    cube = np.zeros((len(frames) + 2, *frames[0].shape), dtype)
    for place, frame in zip(order, frames, strict=True):
        cube[place] = np.round(frame.data).clip(0, 65535)
    cube[order[3], 5, 6] += 9000
    cube[order[7], 8, 1] = 65000
    copied = series([replace(f, data=cube[p].copy()) for p, f in zip(order, frames, strict=True)])
    lying = series([replace(f, data=cube[p]) for p, f in zip(order, frames, strict=True)])
    one = dark_library.measure(copied, **KNOWN)
    monkeypatch.setattr(_library_fit.Bands, "_read", None)  # whoever copies a band fails
    other = dark_library.measure(lying, **KNOWN)
    for name, plane in one.planes.items():
        np.testing.assert_array_equal(plane, other.planes[name], err_msg=name)
    assert (one.planes["count"] < len(frames)).any()


def test_pixels_at_the_end_of_a_band_are_rounded_as_all_others():
    """Not so where compilers may add in another order: the last pixels of a band are done one by one."""
    grid = {"times": (60, 120, 300, 600, 900), "temperatures": (-25, -20, -15, -10, -5), "repeat": 3}
    frames = series(Library(shape=(100, 333)).grid(**grid))
    large, small = (dark_library.measure(frames, budget=budget, **KNOWN) for budget in ("512MB", "2600kB"))
    assert large.provenance.options["memory"] != small.provenance.options["memory"]
    assert large.identity == small.identity


def test_hits_are_left_out():
    camera = Library(seed=4)
    clean = dark_library.measure(series(Library(seed=4).grid()), **KNOWN)
    hit = dark_library.measure(series(camera.grid(hits=3e-3)), **KNOWN)
    assert (hit.planes["count"] < 24).mean() == pytest.approx(1 - (1 - 3e-3) ** 24, rel=0.15)
    for name in ("data", "energy"):
        sigma = np.sqrt(hit.planes["variance" if name == "data" else "energy_variance"])
        pulls = (hit.planes[name] - (camera.rate if name == "data" else camera.energy)) / sigma
        assert pulls.std() == pytest.approx(1.0, abs=0.04), name
    assert (clean.planes["count"] < 24).mean() < 1e-3
    kept = dark_library.measure(series(Library(seed=4).grid(hits=3e-3)), limit=1e6, **KNOWN)
    worst = (kept.data - camera.rate) / np.sqrt(kept.planes["variance"])
    assert worst.std() > 1.5


def test_hot_and_unstable_pixels_are_flagged():
    camera = Library(seed=5)
    camera.rate[3, 4] = 40.0
    frames = camera.grid(repeat=4)
    for n, frame in enumerate(frames):
        frame.data[10, 20] += 300 * (n * 7 % 5 < 2)  # jumps between two levels
        frame.data[11, 21] += 45 * (n * 7 % 5)  # as noisy as a pixel can be
    product = dark_library.measure(series(frames), **KNOWN)
    dq = product.planes["dq"]
    assert dq[3, 4] & DQ.HOT and not dq[3, 4] & DQ.TELEGRAPH
    assert dq[10, 20] & DQ.TELEGRAPH and dq[11, 21] & DQ.TELEGRAPH
    assert np.count_nonzero(dq) <= 6
    assert abs(product.data[3, 4] - 40) < 5 * np.sqrt(product.planes["variance"][3, 4])


def test_saturated_and_missing_values_take_no_part():
    camera = Library(seed=6)
    camera.rate[5, 5], camera.energy[5, 5] = 80.0, 0.6
    frames = camera.grid(repeat=3)
    frames = [replace(f, data=f.data.astype(np.float32)) for f in frames]
    for frame in frames:
        np.minimum(frame.data, 20000, out=frame.data)
    frames[0].data[7, 7] = np.nan
    for frame in frames:
        frame.data[8, 8] = np.nan
    saturated = [replace(f, exposure=replace(f.exposure, saturation=20000.0)) for f in frames]
    product = dark_library.measure(series(saturated), **KNOWN)
    assert product.planes["count"][7, 7] == len(frames) - 1
    assert product.planes["count"][8, 8] == 0 and np.isnan(product.data[8, 8])
    assert product.planes["dq"][8, 8] & DQ.DO_NOT_USE
    pull = (product.data[5, 5] - 80) / np.sqrt(product.planes["variance"][5, 5])
    assert product.planes["count"][5, 5] < len(frames) and abs(pull) < 5


def test_pixels_without_a_rate_follow_the_median_law():
    camera = Library(seed=7)
    camera.rate[:4] = 1e-3
    product = dark_library.measure(series(camera.grid()), **KNOWN)
    few = product.planes["covariance"] == 0
    assert few[:4].mean() > 0.97 and few[4:].mean() < 0.01
    assert np.ptp(product.planes["energy"][few]) == 0
    assert product.planes["energy"][few][0] == pytest.approx(0.65, abs=0.01)
    assert any("follow the law of the median pixel" in note for note in product.provenance.notes)
    assert product.quantity("median_law_fraction").value == pytest.approx(few.mean())
    truth = camera.rate[:4][few[:4]]
    pulls = (product.data[:4][few[:4]] - truth) / np.sqrt(product.planes["variance"][:4][few[:4]])
    assert abs(pulls.mean()) < 0.2 and pulls.std() == pytest.approx(1.0, abs=0.1)


def test_levels_that_wander_do_not_spoil_rates():
    camera = Library(seed=8, shape=(128, 128))
    rng = np.random.default_rng(2)
    pairs = [(t, c) for c in (-20, -10, 0) for t in (60, 120, 300, 600)]
    frames = [camera.expose(t, c, number=n, level=rng.normal(0, 20)) for n, (t, c) in enumerate(pairs)]
    common = dark_library.measure(series(frames), **KNOWN)
    keep = dark_library.measure(series(frames), level="keep", **KNOWN)
    assert common.quantity("level_scatter").value > 2
    assert (
        common.quantity("chi2").value < 1.2 < 2 * common.quantity("chi2").value < keep.quantity("chi2").value
    )


# --- what is given, what is missing ---


def test_one_temperature_is_a_rate(made):
    camera = Library(seed=9)
    product = dark_library.measure(series(camera.grid(temperatures=(-10,))), **KNOWN)
    assert "energy" not in product.planes and "law_chi2" not in product.planes
    assert any("of one temperature (-10.0 C): a rate without" in note for note in product.provenance.notes)
    found = dark_library.predict(product, 300, -10.3)
    assert found.notes == () and found.temperature == -10.0
    pulls = (found.data - camera.bias - camera.dark(300, -10)) / np.sqrt(found.variance)
    assert pulls.std() == pytest.approx(1.0, abs=0.04)
    with pytest.raises(SelectionError, match="of one temperature, and has no law for others"):
        dark_library.predict(product, 300, -5)


def test_temperatures_that_nobody_knows():
    camera = Library(seed=10)
    frames = [
        replace(f, exposure=replace(f.exposure, temperature=None)) for f in camera.grid(temperatures=(-10,))
    ]
    product = dark_library.measure(series(frames), **KNOWN)
    assert any("no dark states its temperature" in note for note in product.provenance.notes)
    assert not [q.name for q in product if "temperature" in q.name and q.name != "temperature_width"]
    assert dark_library.predict(product, 60, -3.0).notes == ()
    with pytest.raises(HeaderError, match="no card says the temperature"):
        dark_library.measure(series([*frames, camera.expose(60, -10, number=99)]), **KNOWN)


def test_one_time_needs_a_bias():
    camera = Library(seed=11)
    frames = camera.grid(times=(300,))
    with pytest.raises(SelectionError, match="do not tell their zero level from their dark current"):
        dark_library.measure(series(frames), **KNOWN)
    zero = master(camera)
    product = dark_library.measure(series(frames), products={"bias": zero}, **KNOWN)
    assert "bias" not in product.planes and zero.identity in product.provenance.parents
    pulls = (product.data - camera.rate) / np.sqrt(product.planes["variance"])
    assert pulls.std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (lambda c: c.grid(repeat=1, times=(60,), temperatures=(-20, -10))[:2], "fewer darks than numbers"),
        (lambda c: c.grid(times=(0,)), "no dark has a dark time above zero"),
        (lambda c: [*c.grid(), c.expose(60, -10, number=50, detector="1")], "mixed detector"),
        (lambda c: [*c.grid(), c.expose(60, -10, number=50, binning=(2, 2))], "mixed binning"),
        (lambda c: [*c.grid(), c.expose(60, -10, kind="light", number=50)], "mixed kinds"),
        (lambda c: [], "no exposures"),
    ],
)
def test_darks_that_do_not_serve(frames, words):
    with pytest.raises(SelectionError, match=words):
        dark_library.measure(series(frames(Library(seed=12))), **KNOWN)


def test_darks_of_other_sizes_and_histories():
    camera = Library(seed=12)
    small = Library(shape=(32, 96)).expose(60, -10, number=70)
    with pytest.raises(ShapeError, match="several sizes"):
        dark_library.measure(series([*camera.grid(), small]), **KNOWN)
    done = camera.expose(60, -10, number=71, applied=frozenset({"dark"}))
    with pytest.raises(HistoryError, match="their dark removed"):
        dark_library.measure(series([*camera.grid(), done]), **KNOWN)


@pytest.mark.parametrize("options", [{"level": "both"}, {"width": 0.0}, {"limit": -1.0}])
def test_options_without_a_meaning(options):
    with pytest.raises(OptionError):
        dark_library.measure(series(Library().grid()), **KNOWN, **options)


# --- predicting and applying ---


def test_beyond_the_grid_is_said(made):
    camera, product = made
    inside = dark_library.predict(product, 600, -5)
    assert not inside.outside and inside.notes == ()
    late, warm = dark_library.predict(product, 900, -5), dark_library.predict(product, 600, 5)
    assert late.outside and "longer than the darks" in late.notes[0]
    assert warm.outside and "5 C is beyond the library (-20.0 to 0.0 C)" in warm.notes[0]
    with pytest.raises(SelectionError, match="temperature is unknown"):
        dark_library.predict(product, 60)
    frame = dark_library.apply(camera.expose(300, 5, kind="light"), product)
    assert (frame.dq & DQ.UNRELIABLE_DARK).all() and "extrapolated" in frame.history[-1].note
    good = dark_library.apply(camera.expose(300, -4, kind="light"), product)
    assert not (good.dq & DQ.UNRELIABLE_DARK).any() and good.history[-1].note == ""


def test_apply_takes_zero_level_and_dark(made):
    camera, product = made
    frame = dark_library.apply(
        camera.expose(450, -6, kind="light"), product, gain=KNOWN["gain"], read_noise=KNOWN["read_noise"]
    )
    pulls = frame.data / np.sqrt(frame.variance + frame.systematic)
    assert abs(pulls.mean()) < 0.05 and pulls.std() == pytest.approx(1.0, abs=0.03)
    assert frame.did("dark") and product.identity in frame.systematic_from
    with pytest.raises(HistoryError):
        dark_library.apply(frame, product)
    with pytest.raises(SelectionError, match="another kind"):
        dark_library.predict(master(camera), 60, -10)


def test_a_shared_bias_cancels():
    """At the times of the library the error of the bias is in the rates with the opposite sign."""
    camera = Library(seed=13)
    zero = master(camera, 3)
    product = dark_library.measure(series(camera.grid()), products={"bias": zero}, **KNOWN)
    frame = bias.apply(camera.expose(500, -10, kind="light"), zero)
    with pytest.raises(HistoryError, match="needs the bias"):
        dark_library.apply(camera.expose(500, -6, kind="light"), product)
    done = dark_library.apply(frame, product)
    left = done.data.astype(float)
    noise = KNOWN["read_noise"] ** 2 + camera.dark(500, -10) / KNOWN["gain"]
    width = (left / np.sqrt(noise + done.systematic)).std()
    assert width == pytest.approx(1.0, abs=0.03)
    apart = dark_library.predict(product, 500, -10).variance + zero.planes["propagated"]
    assert done.systematic.mean() < 0.8 * apart.mean()


# --- the parts ---


def test_groups_do_not_chain():
    groups = temperature_groups([-10.2, -5.0, -9.8, -4.8, -5.2, -9.0], 1.0)
    assert groups == [[0, 2], [5], [1, 3, 4]]


def test_law_of_levels():
    times = np.array([10.0, 20, 30, 10, 20, 30])
    levels = 1000 + np.array([1.0, 1, 1, 3, 3, 3]) * times
    law = law_of(levels, times, [[0, 1, 2], [3, 4, 5]], np.array([1.0, 0.0]), known=False)
    assert law.rates == pytest.approx([1, 3]) and law.energy == pytest.approx(np.log(3))
    assert law.shifts == pytest.approx(np.zeros(6), abs=1e-9) and law.sigma is None
    flat = law_of(np.full(6, 1000.0), times, [[0, 1, 2], [3, 4, 5]], np.array([1.0, 0.0]), known=False)
    assert flat.assumed and flat.energy == 0.65


def test_doubling():
    assert doubling(0.65, -10) == pytest.approx(6.36, abs=0.01)
    half = np.exp(-0.65 * inverse_kt(-10 + 6.36 / 2, -10)) / np.exp(-0.65 * inverse_kt(-10 - 6.36 / 2, -10))
    assert half == pytest.approx(2.0, rel=2e-3)
