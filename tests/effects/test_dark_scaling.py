"""Dark scaling: published numbers, closed forms against their oracles, choices, cuts, bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import curve_fit

from calibrant.effects import dark_scaling
from calibrant.effects._scaling_fit import Triangles, least_squares
from calibrant.effects._scaling_hot import Cut, sort_pixels
from calibrant.effects._scaling_judge import choose, fold_blocks, judge_least_squares
from calibrant.effects._scaling_lines import Noise, line
from calibrant.effects.dark_scaling import NoiseModel, calm_window, interpolate, measure, measure_all
from calibrant.errors import (
    CalibrantError,
    HistoryError,
    OptionError,
    SelectionError,
    ShapeError,
    UnitError,
)
from calibrant.exposures import Exposures
from calibrant.files.fits import read, write
from calibrant.frame import DQ, Exposure, Frame
from calibrant.simulate import dark_pair

PUBLISHED = {
    "add": [235.82480370850152],
    "mult": [1.4510501785354721],
    "poly1": [1.2535862923342835, 129.03443681032883],
    "poly2": [-0.00010518865504002474, 1.4888327725011952, 58.913645957805009],
    "poly3": [1.203598772902105e-08, -0.00015978889457175823, 1.5420174307729337, 47.513171648014264],
}
STD = {"add": 104.15115, "mult": 91.49142342107493, "poly1": 67.495304, "poly2": 55.21877}
SECOND = 1_000_000


@pytest.fixture(scope="module")
def published():
    return dark_pair.pair(np.random.default_rng(5))


@pytest.fixture(scope="module")
def floats(published):
    return measure_all(published.dark1, published.dark2)


def coefficients(product, model):
    table = product.tables["coefficients"]
    return table["value"][table["model"] == model]


def column(product, model, name, table="models"):
    rows = product.tables[table]
    return rows[name][rows["model"] == model][0]


# --- published numbers ---


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_coefficients_of_floats(floats, model):
    assert coefficients(floats, model) == pytest.approx(PUBLISHED[model], rel=1e-8)


def test_published_statistics_of_floats(floats):
    for model, value in STD.items():
        assert column(floats, model, "std") == pytest.approx(value, rel=1e-7), model
    assert column(floats, "mult", "std") == pytest.approx(91.49142342107493, rel=1e-8)
    assert column(floats, "mult", "mean") == pytest.approx(45.878361, abs=1e-6)
    assert floats.quantity("ratio_of_means", "mult").value == pytest.approx(1.559994, abs=1e-6)
    assert column(floats, "mult", "rms") == pytest.approx(102.34991, rel=1e-7)
    table = floats.tables["coefficients"]
    errors = dict(zip(table["model"], table["sigma"], strict=True))
    assert errors["add"] == pytest.approx(104.15115 / math.sqrt(62 * 341 - 1), rel=1e-6)
    assert errors["mult"] == pytest.approx(0.00134187, abs=1e-8)
    assert column(floats, "poly3", "std") <= 55.21877
    assert floats.quantity("c1", "deming").value == pytest.approx(1.27644, abs=1e-5)
    assert floats.quantity("c0", "deming").value == pytest.approx(119.4, abs=0.05)


@pytest.mark.parametrize("rank", range(1, 10))
def test_polynomials_leave_no_mean(floats, rank):
    assert abs(floats.planes[f"residual_poly{rank}"].mean()) < 1e-9
    assert abs(column(floats, f"poly{rank}", "mean")) < 1e-9


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_coefficients_of_integers(published, model):
    first, second = published.whole
    assert first.dtype == second.dtype == np.int32
    found = measure(first, second, model=model)
    assert coefficients(found, model) == pytest.approx(PUBLISHED[model], rel=1e-4)
    assert found.planes["dark_from"].dtype == np.int32


def test_integers_do_not_overflow():
    rng = np.random.default_rng(1)
    x = rng.integers(1_000_000, 2_000_000, (40, 50)).astype(np.int32)
    found = measure(x, (3 * x.astype(np.int64)).astype(np.int32) // 2, model="mult")
    assert coefficients(found, "mult")[0] == pytest.approx(1.5, rel=1e-6)


def test_std_never_grows_with_the_degree(floats):
    std = [column(floats, f"poly{rank}", "std") for rank in range(1, 10)]
    assert (np.diff(std) < 1e-9).all()
    assert std[0] <= min(column(floats, name, "rms") for name in ("add", "mult"))


# --- closed forms against their oracles ---


def test_closed_forms_are_those_of_curve_fit_and_polyfit(published):
    x, y = published.dark1.ravel(), published.dark2.ravel()
    found = measure_all(x.reshape(62, 341), y.reshape(62, 341), models=())
    table, held = found.tables["coefficients"], found.tables["covariance"]
    for name, model in (("add", lambda x, a: x + a), ("mult", lambda x, a: a * x)):
        p, cov = curve_fit(model, x, y, p0=1.0)
        own = table["model"] == name
        assert table["value"][own] == pytest.approx(p, rel=1e-8)
        assert table["sigma"][own] == pytest.approx(np.sqrt(np.diag(cov)), rel=1e-6)
    for rank in (1, 2, 3, 4):
        p, cov = np.polyfit(x, y, rank, cov=True)
        own, mine = table["model"] == f"poly{rank}", held["model"] == f"poly{rank}"
        assert table["value"][own] == pytest.approx(p, rel=1e-8)
        assert held["value"][mine].reshape(rank + 1, rank + 1) == pytest.approx(cov, rel=1e-6)
        assert list(table["power"][own]) == list(range(rank, -1, -1))


def test_as_published_statistics_keep_their_names():
    x = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    y = np.array([[2.0, 3.0, -1.0, 0.0], [5.5, 7.0, 8.0, 9.0]])
    found = measure(x, y, model="add")
    r = y - x - (y - x).mean()
    assert column(found, "add", "fractional") == pytest.approx(np.mean(r[y != 0] / y[y != 0]))
    assert column(found, "add", "not_positive") == 2
    assert column(found, "add", "std") == pytest.approx(r.std())
    assert column(found, "add", "sum_ratio") == pytest.approx(0.0, abs=1e-12)


def test_held_out_error_is_that_of_fits_to_the_rest():
    rng = np.random.default_rng(2)
    x = rng.gamma(3.0, 100.0, 3000)
    y = 1.2 * x + 50 + rng.normal(0, 20, x.size)
    labels = np.repeat(np.arange(30), 100)
    folds = fold_blocks(30, 10, 0)
    triangles = Triangles.of(x, y, labels, 3)
    for rank in (-1, 0, 1, 3):
        fitted = least_squares(triangles, rank, "any")
        judged = judge_least_squares(fitted, triangles, folds, x, y, None)
        total = 0.0
        for fold in folds:
            out = np.isin(labels, fold)
            if rank == -1:
                guess = x[out] + np.mean(y[~out] - x[~out])
            elif rank == 0:
                guess = x[out] * (x[~out] @ y[~out]) / (x[~out] @ x[~out])
            else:
                guess = np.polyval(np.polyfit(x[~out], y[~out], rank), x[out])
            total += np.sum((y[out] - guess) ** 2)
        assert judged.statistics.cv == pytest.approx(math.sqrt(total / x.size), rel=1e-9)


def test_a_parabola_is_chosen_for_a_parabola():
    rng = np.random.default_rng(3)
    x = rng.gamma(4.0, 100.0, (64, 128))
    y = 2e-4 * x**2 + 1.1 * x + 40 + rng.normal(0, 25, x.shape)
    found = measure_all(x, y, models=())
    assert list(found.tables["models"]["model"][found.tables["models"]["chosen"]]) == ["poly2"]
    line_only = measure_all(x, 1.1 * x + 40 + rng.normal(0, 25, x.shape), models=())
    assert list(line_only.tables["models"]["model"][line_only.tables["models"]["chosen"]]) == ["poly1"]


def test_information_criteria_take_correlated_residuals_for_news():
    """A smooth pattern in the second dark: BIC follows it to a high degree, held-out blocks do not."""
    rng = np.random.default_rng(4)
    shape = (64, 128)
    across = np.linspace(0, 1, shape[1])[None, :]
    x = 300 + 200 * across + 0 * rng.normal(size=shape) + rng.normal(0, 3, shape)
    glow = rng.normal(0, 12, (8, 16)).repeat(8, axis=0).repeat(8, axis=1)
    found = measure_all(x, 1.2 * x + 30 + glow, models=())
    table = found.tables["models"]
    bic = int(table["rank"][np.argmin(table["bic"])])
    chosen = int(table["rank"][table["chosen"]][0])
    assert chosen <= 1 < bic
    assert any("BIC" in note for note in found.provenance.notes)


def test_errors_from_blocks_see_correlated_pixels():
    rng = np.random.default_rng(6)
    glow = rng.normal(0, 10, (8, 16)).repeat(8, axis=0).repeat(8, axis=1)
    x = rng.normal(400, 60, glow.shape)
    table = measure(x, x + 30 + glow, model="add").tables["coefficients"]
    assert table["block_sigma"][0] > 3 * table["sigma"][0]
    white = measure(x, x + 30 + rng.normal(0, 10, x.shape), model="add").tables["coefficients"]
    assert white["block_sigma"][0] == pytest.approx(white["sigma"][0], rel=0.3)


def test_degree_too_high_is_told_with_the_condition_number():
    rng = np.random.default_rng(7)
    x = rng.normal(10_000, 10, (40, 50))
    found = measure(x, 1.2 * x + rng.normal(0, 5, x.shape), model="poly3")
    assert any("condition number" in note for note in found.provenance.notes)
    assert (
        found.quantity("raw_condition", "poly3").value
        > 1e8
        > 1e3
        > found.quantity("condition", "poly3").value
    )


# --- lines with errors in both darks ---


def test_deming_with_equal_noise_is_the_total_least_squares_line():
    rng = np.random.default_rng(8)
    true = rng.gamma(4.0, 50.0, 4000)
    x, y = true + rng.normal(0, 20, true.size), 1.3 * true + 10 + rng.normal(0, 20, true.size)
    centred = np.column_stack([x - x.mean(), y - y.mean()])
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    found = line(x, y, Noise.ratio(1.0), np.zeros(x.size, int), name="deming")
    assert found.coefficients[0] == pytest.approx(direction[1] / direction[0], rel=1e-12)


def test_york_of_published_points():
    """Pearson's data with York's weights: slope -0.4805 and offset 5.4799 are in every textbook."""
    x = np.array([0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4])
    y = np.array([5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5])
    wx = np.array([1000, 1000, 500, 800, 200, 80, 60, 20, 1.8, 1.0])
    wy = np.array([1, 1.8, 4, 8, 20, 20, 70, 70, 100, 500])
    found = line(x, y, Noise(1 / wx, 1 / wy, True), np.arange(10), name="york")
    assert found.coefficients == pytest.approx([-0.480533407, 5.479910224], rel=1e-8)


@pytest.mark.parametrize("model", ["robust", "huber"])
def test_robust_lines_withstand_hot_pixels(model):
    rng = np.random.default_rng(9)
    truth = dark_pair.noisy_pair(rng, sigma_from=20.0, sigma_to=25.0, outliers=0.02)
    found = measure(truth.dark_from, truth.dark_to, model=model, sigma_from=20.0, sigma_to=25.0)
    slope = found.quantity("c1", model)
    within = 5 if model == "robust" else 12  # Huber's weights never vanish: one-sided outliers push it
    assert abs(slope.value - truth.slope) < within * slope.sigma
    assert 0.97 < found.quantity("inliers", model).value < 0.985
    plain = measure(truth.dark_from, truth.dark_to, model="poly1").quantity("c0", "poly1")
    assert abs(found.quantity("c0", model).value - truth.offset) < abs(plain.value - truth.offset) / 2


def test_noise_model_sets_the_weights():
    rng = np.random.default_rng(10)
    noise = NoiseModel(gain=2.0, read_noise=8.0, zero=100.0)
    true = 100 + rng.gamma(2.0, 200.0, (62, 341))
    x = true + rng.normal(0, np.sqrt(noise(true)))
    y = 1.2 * true + 20 + rng.normal(0, np.sqrt(noise(1.2 * true + 20)))
    found = measure(x, y, model="york", noise=noise)
    slope = found.quantity("c1", "york")
    assert abs(slope.value - 1.2) < 4 * slope.sigma
    chi2 = found.quantity("chi2", "york").value / x.size
    assert chi2 == pytest.approx(1.0, abs=0.05)
    assert found.quantity("noise_scale", "york").value == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("model", ["york", "robust", "huber"])
def test_noise_that_is_not_that_of_the_pixels_is_told(model):
    """A bias that the noise model takes for signal makes the noise too large, and the weights wrong."""
    rng = np.random.default_rng(31)
    true = rng.gamma(9.0, 20.0, (60, 60))
    x, y = (1000 + rng.poisson(f * true) + rng.normal(0, 5, true.shape) for f in (1.0, 1.3))
    for zero, least, most in ((1000.0, 0.95, 1.05), (0.0, 0.3, 0.6)):
        found = measure(x, y, model=model, noise=NoiseModel(1.0, 5.0, zero))
        assert least < found.quantity("noise_scale", model).value < most
        assert any("as much as the noise given" in note for note in found.provenance.notes) == (zero == 0)
    told = measure(x, y, model=model, noise=NoiseModel(1.0, 1.0, 1150.0)).provenance.notes
    assert any("times as much" in note and "bias" not in note for note in told)


def test_affine_knows_temperature_and_bias():
    rng = np.random.default_rng(11)
    dark = rng.gamma(2.0, 200.0, (62, 341))
    factor = 2 ** (5.0 / 7.0)
    facts = {"kind": "dark", "duration": 60.0}
    one = Frame(1000 + dark + rng.normal(0, 5, dark.shape), exposure=Exposure(temperature=-15.0, **facts))
    other = Frame(
        1003 + factor * dark + rng.normal(0, 5, dark.shape), exposure=Exposure(temperature=-10.0, **facts)
    )
    found = measure(one, other, model="affine", bias=1000.0)
    assert found.quantity("temperature_factor", "affine").value == pytest.approx(factor, rel=1e-3)
    drift = found.quantity("drift", "affine")
    assert abs(drift.value - 3.0) < 5 * drift.sigma
    assert found.quantity("doubling_temperature", "affine").value == pytest.approx(7.0, rel=2e-3)
    without = measure(one, other, model="affine").quantity("implied_bias", "affine")
    assert without.value == pytest.approx(1000 - 3 / (factor - 1), abs=2.0)


def test_affine_compares_slope_and_level():
    """Common dark current that doubles, patterns that do not: the slope is not the temperature factor."""
    rng = np.random.default_rng(32)
    pattern = rng.gamma(4.0, 10.0, (60, 60))
    for rise, told in ((1.4, False), (2.0, True)):
        x = 500 + 100 + pattern + rng.normal(0, 2, pattern.shape)
        y = 500 + 100 * rise + 1.4 * pattern + rng.normal(0, 2, pattern.shape)
        found = measure(x, y, model="affine", bias=500.0)
        level = found.quantity("level_factor", "affine")
        expected = (100 * rise + 1.4 * np.median(pattern)) / (100 + np.median(pattern))
        assert level.value == pytest.approx(expected, abs=5 * level.sigma)
        assert any("several activation energies" in note for note in found.provenance.notes) == told
    assert not [q for q in measure(x, y, model="affine").quantities if q.name == "level_factor"]


def test_affine_divides_the_times_out():
    rng = np.random.default_rng(12)
    dark = rng.gamma(2.0, 200.0, (40, 60))
    one, other = (
        Frame(1000 + k * dark + rng.normal(0, 3, dark.shape), exposure=Exposure("dark", duration=60.0 * k))
        for k in (1.0, 2.0)
    )
    found = measure(one, other, model="affine", bias=1000.0)
    assert found.quantity("temperature_factor", "affine").value == pytest.approx(1.0, abs=3e-3)
    with pytest.raises(SelectionError, match="exposure time"):
        measure(one, other)


# --- hot pixels ---


def test_cut_as_published_removes_only_the_hot_of_the_first():
    rng = np.random.default_rng(13)
    x = rng.gamma(4.0, 100.0, (62, 341))
    y = 1.25 * x + 130 + rng.normal(0, 30, x.shape)
    x[3, 5], y[3, 6] = 4000.0, 9000.0
    found = measure(x, y, hot=2500)
    used = found.planes["used"].astype(bool)
    assert (used == (x <= 2500)).all()
    assert used[3, 6] and not used[3, 5]
    assert any("first dark alone" in note for note in found.provenance.notes)
    assert {"uncut", "cuts"} <= set(found.tables)


def test_persistent_cut_asks_every_dark():
    x = np.random.default_rng(14).normal(400, 30, (40, 50))
    y = x + 100 + np.random.default_rng(15).normal(0, 20, x.shape)
    x[1, 1] = y[1, 1] = 4000.0
    x[2, 2] = y[2, 2] = 4100.0
    x[3, 3] = 4000.0
    third = x.copy()
    third[2, 2] = 400.0
    used = measure(x, y, hot="persistent:2500", darks=[third]).planes["used"]
    assert used[1, 1] == 0 and used[2, 2] == 1 and used[3, 3] == 1
    assert int((used == 0).sum()) == 1


def test_persistent_cut_without_a_level_takes_the_width_of_the_core():
    rng = np.random.default_rng(16)
    x = rng.normal(400, 30, (40, 50))
    x[:5, 0] = 3000.0
    y = 1.2 * x + rng.normal(0, 20, x.shape)
    used = measure(x, y, hot="persistent").planes["used"]
    assert int((used == 0).sum()) == 5


def test_left_asymmetry_stays_after_a_cut_on_one_dark():
    """Pixels that were hit or high in the first dark only lie below the line, most of them below the cut."""
    rng = np.random.default_rng(17)
    true = rng.gamma(6.0, 70.0, (62, 341))
    x, y = true + rng.normal(0, 20, true.shape), 1.25 * true + 130 + rng.normal(0, 20, true.shape)
    fell = rng.random(true.shape) < 0.004
    x[fell] += rng.uniform(200, 1800, int(fell.sum()))
    x[0, :4] = 5000.0

    def row(hot):
        cuts = measure(x, y, hot=hot).tables["cuts"]
        return {name: values[-1] for name, values in cuts.items()}

    published, joint = row(2500), row("5sigma")
    before = measure(x, y).tables["cuts"]
    assert before["skewness"][0] < -1
    assert published["skewness"] < -1
    assert published["left_tail"] > 20
    assert abs(joint["skewness"]) < 0.1 and joint["left_tail"] < 3


def test_populations_are_kept_apart():
    rng = np.random.default_rng(18)
    true = rng.normal(400, 30, 20_000)
    true[:300] += 400.0
    true[300:500] += rng.uniform(2000, 4000, 200)
    x, y = true + rng.normal(0, 10, true.size), 1.2 * true + rng.normal(0, 10, true.size)
    x[500:540] += 500.0
    found = sort_pixels(x, y, Noise(np.full(1, 100.0), np.full(1, 100.0), True), None)
    counts = dict(zip(found.table["population"], found.table["pixels"], strict=True))
    assert abs(counts["warm"] - 300) < 10 and abs(counts["hot"] - 200) < 10
    assert abs(counts["telegraph"] - 40) < 10
    assert (found.population[500:540] == 3).mean() > 0.9
    planes = measure(x.reshape(100, 200), y.reshape(100, 200), sigma_from=10.0, sigma_to=10.0).planes
    assert (planes["dq"].ravel()[300:500] & np.uint32(DQ.HOT) > 0).mean() > 0.95
    assert (planes["dq"].ravel()[500:540] & np.uint32(DQ.TELEGRAPH) > 0).mean() > 0.9


def test_populations_that_follow_other_lines_are_told():
    rng = np.random.default_rng(33)
    true = rng.normal(400, 40, (100, 200))
    true[:5] += rng.uniform(2000, 4000, (5, 200))
    for slope, told in ((1.6, False), (1.3, True)):
        y = np.where(true > 1500, slope * true, 1.6 * true) + rng.normal(0, 10, true.shape)
        found = measure(true + rng.normal(0, 10, true.shape), y, sigma_from=10.0, sigma_to=10.0)
        table = found.tables["populations"]
        assert table["slope"][2] == pytest.approx(slope, abs=5 * table["slope_sigma"][2])
        assert any("different lines" in note for note in found.provenance.notes) == told


def test_a_core_of_noise_alone_is_judged_by_differences():
    rng = np.random.default_rng(34)
    x, y = rng.normal(100, 10, 20_000), rng.normal(120, 10, 20_000)
    x[:50] += 200.0
    y[50:100] += 200.0
    found = sort_pixels(x, y, Noise.ratio(), None)
    assert np.isnan(found.table["slope"][0])
    assert (found.population[:100] == 3).all() and (found.population[100:] == 3).sum() < 3


@pytest.mark.parametrize(
    ("text", "rule", "threshold"),
    [(2500, "from", 2500.0), ("2500", "from", 2500.0), ("5sigma", "sigma", 5.0), ("5 sigma", "sigma", 5.0),
     ("persistent:800", "persistent", 800.0)],
)  # fmt: skip
def test_cuts_are_read(text, rule, threshold):
    assert Cut.of(text) == Cut(rule, threshold)


@pytest.mark.parametrize("text", ["hot", "-3", "0", "persistent:-2", "sigma", "persistent:x"])
def test_cuts_that_make_no_sense(text):
    with pytest.raises(OptionError, match="cut of hot pixels"):
        Cut.of(text)


# --- the light ---


def lit(rng):
    dark = rng.gamma(4.0, 100.0, (62, 341)) + 50
    light = 0.9 * dark + 15 + rng.normal(0, 3, dark.shape)
    light[15:50, 20:] += 800.0
    return dark, light


def test_calm_window_lies_in_the_dark():
    _, light = lit(np.random.default_rng(19))
    rows, cols = calm_window(light)
    assert 0 <= rows.start < rows.stop <= 62 and 0 <= cols.start < cols.stop <= 341
    assert rows.stop <= 17 or rows.start >= 48 or cols.stop <= 22
    whole = calm_window(np.kron(light, np.ones((8, 8))))
    assert (whole[0].stop - whole[0].start) <= 62 * 8 // 5


def test_light_loses_the_dark_scaled_on_its_calm_window():
    dark, light = lit(np.random.default_rng(20))
    exposure = Exposure("light")
    found = measure(dark, Frame(light, exposure=exposure), where="calm")
    assert found.planes["used"].sum() < 62 * 341 / 40
    clean = dark_scaling.apply(Frame(light, exposure=exposure), found)
    assert clean.did("dark") and clean.data.dtype == np.float32
    unlit = np.ones(light.shape, bool)
    unlit[15:50, 20:] = False
    assert abs(clean.data[unlit].mean()) < 2.0
    assert clean.data[~unlit].mean() == pytest.approx(800, abs=2)
    cube = dark_scaling.apply(Frame(np.stack([light, light + 5]), exposure=exposure), found)
    assert cube.data[1] - cube.data[0] == pytest.approx(5.0, abs=1e-3)
    with pytest.raises(HistoryError):
        dark_scaling.apply(clean, found)


def test_small_windows_have_blocks_of_their_own():
    dark, light = lit(np.random.default_rng(30))
    found = measure_all(dark, light, ranks=range(-1, 3), where=(slice(0, 8), slice(0, 40)))
    assert np.isfinite(found.tables["models"]["cv"]).all()
    one = measure(dark, light, where=(slice(3, 4), slice(5, 25)), blocks=(1, 1))
    assert np.isnan(column(one, "poly1", "cv")) and np.isfinite(column(one, "poly1", "std"))


def test_unlit_cells_are_those_without_light():
    dark, light = lit(np.random.default_rng(31))
    used = measure(dark, light, where="unlit").planes["used"].astype(bool)
    assert not used[15:50, 20:].any()
    assert used[:12].mean() > 0.8 and used[51:].mean() > 0.8


def test_windows_are_given_in_other_ways():
    dark, light = lit(np.random.default_rng(21))
    mask = np.zeros(dark.shape, bool)
    mask[:10] = True
    by_mask = measure(dark, light, where=mask)
    by_window = measure(dark, light, where=(slice(0, 10), slice(None)))
    assert coefficients(by_mask, "poly1") == pytest.approx(coefficients(by_window, "poly1"), rel=1e-12)
    for wrong in ("bright", np.ones((3, 3), bool), (slice(70, 80), slice(None)), mask.astype(int)):
        with pytest.raises(OptionError):
            measure(dark, light, where=wrong)


def test_a_dark_scaled_has_its_errors():
    rng = np.random.default_rng(22)
    x = rng.gamma(4.0, 100.0, (62, 341))
    frame = Frame(x, variance=np.full(x.shape, 25.0), exposure=Exposure("dark"))
    found = measure(frame, 1.3 * x + 20 + rng.normal(0, 5, x.shape), model="poly1", sigma_to=5.0)
    scaled = dark_scaling.apply(frame, found)
    assert scaled.data == pytest.approx(1.3 * x + 20, rel=1e-3)
    assert scaled.variance == pytest.approx(25.0 * 1.3**2, rel=1e-3)
    middle = np.argmin(np.abs(x - x.mean()))
    assert scaled.systematic.ravel()[middle] == pytest.approx(25.0 / x.size, rel=0.1)
    assert found.identity in scaled.systematic_from


@pytest.mark.parametrize("model", ["add", "mult", "poly1", "poly7", "deming"])
def test_models_come_back_from_the_product(floats, model):
    fitted = dark_scaling.restored(floats, model)
    again = floats.planes["dark_to"] - fitted(floats.planes["dark_from"])
    assert again == pytest.approx(floats.planes[f"residual_{model}"], abs=1e-8)


def test_apply_needs_to_know_which_model(floats):
    assert dark_scaling.apply(Frame(floats.planes["dark_from"]), floats).history[0].options["model"]
    with pytest.raises(OptionError, match="no model"):
        dark_scaling.apply(Frame(floats.planes["dark_from"]), floats, model="york")
    with pytest.raises(UnitError):
        dark_scaling.apply(Frame(floats.planes["dark_from"], unit="electron"), floats)


# --- between two darks ---


def dark_at(second, level, **more):
    data = np.full((4, 5), level, np.float32)
    facts = {"duration": 10.0, **more}
    return Frame(data, variance=data * 0 + 4.0, exposure=Exposure("dark", start=second * SECOND, **facts))


def test_interpolation_weighs_by_time():
    one, other = dark_at(0, 100.0), dark_at(100, 200.0)
    found = interpolate(other, one, Exposure("light", start=25 * SECOND, duration=10.0))
    assert found.data == pytest.approx(125.0)
    assert found.variance == pytest.approx(4.0 * (0.75**2 + 0.25**2))
    assert found.history[-1].options["weight"] == pytest.approx(0.25)
    assert found.exposure.mid == 30 * SECOND


def test_interpolation_never_extrapolates_silently():
    one, other = dark_at(0, 100.0), dark_at(100, 200.0)
    with pytest.raises(SelectionError, match="between"):
        interpolate(one, other, 300 * SECOND)
    near = interpolate(one, other, 300 * SECOND, outside="nearest")
    assert near.data == pytest.approx(200.0)
    assert "not extrapolated" in near.history[-1].note
    for wrong in (dark_at(0, 1.0), dark_at(50, 1.0, duration=20.0), replace(other, unit="electron")):
        with pytest.raises((SelectionError, UnitError)):
            interpolate(one, wrong, 10 * SECOND)


# --- the product ---


def test_everything_drawn_stands_in_tables(floats):
    needed = {"models", "coefficients", "covariance", "scale", "curves", "density", "profiles", "histograms",
              "residual_histograms", "fractional_histograms", "populations", "cuts"}  # fmt: skip
    assert needed <= set(floats.tables)
    for name, table in floats.tables.items():
        assert len({len(values) for values in table.values()}) == 1, name
    assert floats.tables["density"]["count"].sum() == 62 * 341
    profiles = floats.tables["profiles"]
    own = profiles["series"] == "dark_from"
    assert profiles["value"][own] == pytest.approx(floats.planes["dark_from"].mean(axis=0))


def test_notebook_histograms(published):
    found = measure(published.dark1, published.dark2, factors=(1.4, 1.5, 1.6), span=(0.0, 5000.0))
    table = found.tables["histograms"]
    assert set(table["series"]) >= {"dark_from x 1.4", "dark_from x 1.5", "dark_from x 1.6"}
    expected, _ = np.histogram(1.5 * published.dark1, 100, range=(0, 5000))
    assert (table["count"][table["series"] == "dark_from x 1.5"] == expected).all()


def test_exposures_of_two_are_scaled_in_time():
    rng = np.random.default_rng(23)
    x = rng.gamma(4.0, 100.0, (40, 60))
    frames = [
        Frame(k * x, exposure=Exposure("dark", start=second * SECOND, identifier=str(k)))
        for k, second in ((2.0, 100), (1.0, 0))
    ]
    found = measure(Exposures.from_frames(frames), model="mult")
    assert coefficients(found, "mult")[0] == pytest.approx(2.0)
    assert found.epoch == 50 * SECOND
    with pytest.raises(SelectionError, match="two darks"):
        measure(Exposures.from_frames(frames[:1]))


def test_the_same_measurement_has_the_same_identity(published):
    one, other = (measure_all(published.dark1, published.dark2, ranks=range(-1, 3)) for _ in range(2))
    assert one.identity == other.identity


def test_a_product_is_what_its_file_says(floats, tmp_path):
    path = tmp_path / "scaling.fits"
    write(floats, path)
    again = read(path)
    assert again.identity == floats.identity
    assert dark_scaling.restored(again, "poly2").coefficients == pytest.approx(PUBLISHED["poly2"], rel=1e-8)


@pytest.mark.real
def test_real_darks_at_two_temperatures(real_data):
    """The robust scatter of 150 s darks at -10 and -5 C is the noise of the photon transfer curve."""
    names = [f"darks-expos150s-Neg{t}-Vis.00000000.DARK.FIT" for t in (10, 5)]
    frames = [Exposures.from_paths([real_data / "stl1001" / name]).frame(0) for name in names]
    cut = [replace(f, data=f.load().data[300:556, 300:556]) for f in frames]
    noise = NoiseModel(gain=1.94, read_noise=6.6, zero=992.0)
    found = measure(*cut, model="affine", noise=noise, bias=992.0)
    assert found.quantity("noise_scale", "affine").value == pytest.approx(1.0, abs=0.05)
    assert found.quantity("inliers", "affine").value > 0.995
    assert found.quantity("doubling_temperature", "affine").value == pytest.approx(8.0, abs=1.0)


# --- bad input ---

GOOD = np.random.default_rng(24).gamma(4.0, 100.0, (30, 40))
OTHER = 1.2 * GOOD + np.random.default_rng(25).normal(0, 10, GOOD.shape)


@pytest.mark.parametrize(
    ("one", "other", "error", "said"),
    [
        (GOOD, OTHER[:-1], ShapeError, "shape"),
        (np.zeros_like(GOOD), OTHER, SelectionError, "zero everywhere"),
        (GOOD, np.zeros_like(GOOD), SelectionError, "zero everywhere"),
        (np.full_like(GOOD, 7.0), OTHER, SelectionError, "constant"),
        (GOOD, np.full_like(GOOD, np.nan), SelectionError, "no pixel"),
        (np.stack([GOOD, GOOD]), np.stack([OTHER, OTHER]), ShapeError, "one image"),
        (Frame(GOOD, exposure=Exposure("dark", binning=(2, 2))), Frame(OTHER), SelectionError, "binning"),
        (Frame(GOOD, exposure=Exposure("dark", duration=10.0)),
         Frame(OTHER, exposure=Exposure("dark", duration=20.0)), SelectionError, "exposure time"),
        (Frame(GOOD, unit="electron"), Frame(OTHER), UnitError, "unit"),
        (GOOD.astype(complex), OTHER, ShapeError, "numbers"),
        (GOOD, None, SelectionError, "two darks"),
        (Frame(GOOD, exposure=Exposure("dark", applied=frozenset({"dark"}))), OTHER, HistoryError,
         "subtracted"),
    ],
)  # fmt: skip
def test_darks_that_do_not_fit(one, other, error, said):
    with pytest.raises(error, match=said):
        measure(one, other)


def test_a_cube_of_one_is_a_dark():
    assert coefficients(measure(GOOD[None], OTHER[None]), "poly1").size == 2


def test_pixels_without_value_are_left_out():
    broken, flagged = GOOD.copy(), OTHER.copy()
    broken[0, :3] = np.nan
    dq = np.zeros(GOOD.shape, np.uint32)
    dq[1, :4] = DQ.DO_NOT_USE
    flagged[1, :4] = 1e6
    found = measure(broken, Frame(flagged, dq=dq))
    assert column(found, "poly1", "n") == GOOD.size - 7
    assert any(note.endswith("are left out: 3") for note in found.provenance.notes)
    assert (found.planes["dq"][0, :3] & np.uint32(DQ.DO_NOT_USE)).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
def test_values_that_cannot_be_computed_with_are_left_out(value):
    broken = GOOD.copy()
    broken[2, 3] = value
    found = measure_all(broken, OTHER, ranks=range(-1, 4), models=("deming", "robust"))
    left = measure_all(np.where(broken == value, np.nan, broken), OTHER, ranks=[1], models=())
    assert column(found, "poly1", "n") == GOOD.size - 1
    assert coefficients(found, "poly1") == pytest.approx(coefficients(left, "poly1"), rel=1e-12)
    assert np.isnan(found.planes["residual_poly1"][2, 3]) and found.planes["dark_from"][2, 3] == value
    clean = dark_scaling.apply(Frame(OTHER, exposure=Exposure("light")), found, model="poly1")
    assert int(np.isfinite(clean.data).sum()) == GOOD.size - 1
    assert np.asarray(clean.dq)[2, 3] & np.uint32(DQ.DO_NOT_USE)


def test_the_same_image_twice_is_told():
    notes = measure_all(GOOD, GOOD, models=(), ranks=range(-1, 3)).provenance.notes
    assert any("same image" in note for note in notes)
    assert not any("hides" in note for note in notes)
    assert not any("same image" in note for note in measure(GOOD, OTHER).provenance.notes)


@pytest.mark.parametrize("model", ["deming", "robust", "huber", "york"])
def test_darks_that_share_nothing_have_no_line(model):
    rng = np.random.default_rng(35)
    x, y = rng.normal(500, 50, (2, 62, 341))
    known = {"sigma_from": 50.0, "sigma_to": 50.0} if model == "york" else {}
    with pytest.raises(SelectionError, match="no line"):
        measure(x, y, model=model, **known)
    found = measure_all(x, y, models=(model,), ranks=(-1, 1), **known)
    assert list(found.tables["models"]["model"]) == ["add", "poly1"]
    assert any(note.startswith(f"{model} is left out") for note in found.provenance.notes)


def test_fewer_pixels_than_coefficients():
    x = np.arange(6.0).reshape(2, 3)
    y = x**2 + 1
    with pytest.raises(CalibrantError, match="pixels"):
        measure(x, y, model="poly6")
    found = measure_all(x, y)
    assert any(note.startswith("poly9 is left out") for note in found.provenance.notes)
    assert "poly9" not in found.tables["models"]["model"]


@pytest.mark.parametrize("copy", [GOOD, 2 * GOOD + 3, -GOOD])
def test_darks_without_any_noise(copy):
    found = measure_all(GOOD, copy, models=("deming", "robust", "huber", "affine"), ranks=range(-1, 4))
    assert column(found, "poly1", "rms") < 1e-9
    assert column(found, "robust", "rms") < 1e-6
    assert np.isfinite(found.tables["models"]["bic"]).all()


def test_degree_beyond_the_values_there_are():
    x = np.random.default_rng(26).integers(0, 3, (30, 40)).astype(float)
    with pytest.raises(OptionError, match="do not tell all coefficients"):
        measure(x, 2 * x + np.random.default_rng(27).normal(0, 1, x.shape), model="poly5")


@pytest.mark.parametrize("name", ["poly0", "poly31", "poly", "multiply", "quadratic", ""])
def test_models_that_there_are_not(name):
    with pytest.raises(OptionError, match="no model"):
        measure(GOOD, OTHER, model=name)
    with pytest.raises(OptionError):
        measure_all(GOOD, OTHER, ranks=[-2])


def test_options_that_make_no_sense():
    for options in (
        {"sigma_from": -1.0, "sigma_to": 1.0}, {"sigma_from": np.ones(3), "sigma_to": 1.0}, {"folds": 1},
        {"model": "york"}, {"model": "deming", "ratio": 0.0}, {"hot": 1e-9},
        {"where": (slice(0, 31), slice(None))}, {"where": (slice(None), slice(41, 50))},
    ):  # fmt: skip
        with pytest.raises(CalibrantError):
            measure(GOOD, OTHER, **options)
    for wrong in ((0.0, 1.0), (1.0, -1.0), (1.0, 1.0, math.nan)):
        with pytest.raises(OptionError):
            NoiseModel(*wrong)
    with pytest.raises(SelectionError, match="not correlated"):
        measure(GOOD, _uncorrelated(GOOD), model="deming")


def _uncorrelated(x):
    """Values whose product with x vanishes to rounding."""
    noise = np.random.default_rng(28).normal(size=x.shape)
    centred = x - x.mean()
    noise -= noise.mean()
    return noise - centred * (noise * centred).sum() / (centred**2).sum()


def test_choose_marks_one_model_at_most(floats):
    assert floats.tables["models"]["chosen"].sum() == 1
    assert choose([]) == []
