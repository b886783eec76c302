"""Reference pixels: simulated levels, noise and jumps against what is found, and twins that must differ."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibrant import compare
from calibrant.effects import reference_pixels
from calibrant.effects._reference_allan import allan
from calibrant.effects._reference_layout import layout
from calibrant.effects._reference_levels import Series, excess_read
from calibrant.effects._reference_unstable import Watch
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError
from calibrant.frame import DQ, Frame
from calibrant.instrument.clock import Border, Clock
from calibrant.simulate import infrared
from calibrant.stack.kernels_reference import gather

SPEC = importlib.util.spec_from_file_location("ramps_of_arrays", Path(__file__).with_name("ramps.py"))
assert SPEC is not None
assert SPEC.loader is not None
ramps = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ramps)
simulated = ramps.simulated

CLOCK = Clock(64, 256, pixel_time=5e-4)  # a frame takes 2.5 s
PEDESTALS = {"pedestal": 0.5, "pedestal_common": 2.0, "pedestal_time": 40.0}
GROUPS = 20


def array_of(**changes):
    numbers = {"clock": CLOCK, "white": 5.0, "bias_pattern": 50.0, "ktc": 20.0, **PEDESTALS, **changes}
    return infrared.Array(infrared.Design.flawless(**numbers))


@pytest.fixture(scope="module")
def product():
    return reference_pixels.measure(exposures(simulated(array_of(), 4, 4, GROUPS, 1, rate=0.02)))


def exposures(cubes, **keys):
    return ramps.exposures(cubes, frame_time=CLOCK.frame_time, **keys)


def values(product, name, places=None):
    found = [q for q in product.quantities if q.name == name and (places is None or q.place in places)]
    return np.array([q.value for q in found]), np.array(
        [np.nan if q.sigma is None else q.sigma for q in found]
    )


def within(sigma, time, step, groups):
    """Variance within a ramp of a level that forgets itself in `time`."""
    lag = np.abs(np.subtract.outer(np.arange(groups), np.arange(groups))) * step
    rho = np.exp(-lag / time)
    return sigma**2 * (1 - (rho.sum() - groups) / groups / (groups - 1))


def wrong(product):
    """How far the numbers are from what was simulated, the largest pull of each."""
    step = CLOCK.frame_time
    expected = within(2.0, 40.0, step, GROUPS) + within(0.5, 40.0, step, GROUPS)
    truths = {"noise_ratio": 0.8, "tracking": 1.0, "excess_reference": expected, "excess_difference": 0.0}
    pulls = {}
    for name, truth in truths.items():
        value, sigma = values(product, name, ("1", "2", "3", "4"))
        pulls[name] = float(np.abs((value - truth) / sigma).max())
    return pulls


def test_numbers_are_those_simulated(product):
    pulls = wrong(product)
    assert max(pulls.values()) < 4, pulls


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("noise_ratio", {"reference_ratio": 0.85}),
        ("excess_reference", {"pedestal_common": 6.0}),
        ("excess_difference", {"pink_own": 2.0}),
    ],
)
def test_another_array_is_told(name, change):
    twin = array_of(**change)
    found = reference_pixels.measure(exposures(simulated(twin, 4, 4, GROUPS, 1, rate=0.02)))
    assert wrong(found)[name] > 5


def test_nothing_is_unstable_where_nothing_is(product):
    assert product.quantity("unstable").value == 0
    assert product.quantity("telegraph").value == 0


def test_layout_of_levels(product):
    regions, levels = product.tables["regions"], product.tables["levels"]
    assert list(regions["side"][[0, 8, 16, 18]]) == ["bottom", "top", "left", "right"]
    assert regions["pixels"].sum() == 64 * 256 - 56 * 248
    assert len(levels["mean"]) == 16 * GROUPS * 20
    assert np.ptp(levels["time"]) > 3 * 3600
    one = (levels["region"] == 0) & (levels["integration"] == 0) & (levels["file"] == 0)
    assert np.allclose(np.diff(levels["time"][one]), CLOCK.frame_time)
    assert np.abs(levels["mean"] - levels["median"]).max() < 25


def test_dark_current_is_no_drift_of_the_reference(product):
    slope, sigma = values(product, "dark_slope")
    assert np.all(np.abs(slope - 0.02 / 1.8) < 4 * sigma)


def test_allan_deviation(product):
    table = product.tables["allan"]
    white = table["series"] == "difference"
    assert np.all(np.abs(table["deviation"] - table["expected"])[white] < 4 * table["sigma"][white])
    wander = (table["series"] == "reference") & (table["groups"] == 4)
    assert np.all(table["deviation"][wander] > 3 * table["expected"][wander])


def test_allan_deviation_of_white_levels_has_pulls_of_unit_width():
    rng, pulls = np.random.default_rng(5), []
    for _ in range(300):
        series = Series(rng.normal(0, 2, (4, 24)), np.full(4, 2.0), np.zeros((4, 24)))
        span, deviation, sigma = allan(series)
        pulls.append((deviation - 2 / np.sqrt(span)) / sigma)
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 0.45)
    assert np.all(np.abs(np.std(pulls, axis=0) - 1) < 0.2)


def test_excess_of_white_levels_has_pulls_of_unit_width():
    rng = np.random.default_rng(6)
    found = [
        excess_read(Series(rng.normal(0, 1, (5, 20)), np.ones(5), np.zeros((5, 20)))) for _ in range(300)
    ]
    pulls = np.array([one.value / one.sigma for one in found])
    assert abs(pulls.mean()) < 0.4
    assert 0.85 < pulls.std() < 1.15


def test_outputs_share_the_common_pedestal(product):
    table = product.tables["covariance"]
    apart = table["one"] != table["other"]
    common = within(2.0, 40.0, CLOCK.frame_time, GROUPS)
    pulls = (table["reference"] - common)[apart] / table["reference_sigma"][apart]
    assert np.abs(pulls).max() < 4
    left = table["difference"] / table["difference_sigma"]
    assert np.abs(left).max() < 4


def test_correlation_is_at_lag_zero(product):
    table = product.tables["lags"]
    best = table["lag"][np.argmax(table["correlation"])]
    assert best == 0


@pytest.fixture(scope="module")
def telegraph():
    array = array_of(telegraph_reference=0.02, telegraph_amplitude=40.0, telegraph_time=12.0)
    return array, reference_pixels.measure(exposures(simulated(array, 4, 2, GROUPS, 2)))


def test_telegraph_pixels_are_found(telegraph):
    array, product = telegraph
    dq, high = product.planes["dq"], array.maps.telegraph > 25
    edge = (dq & np.uint32(DQ.REFERENCE_PIXEL)) != 0
    assert np.array_equal(np.isfinite(product.planes["scatter"]), edge)
    jumping = edge & high
    assert jumping.sum() > 20
    assert ((dq & np.uint32(DQ.BAD_REF_PIXEL)) != 0)[jumping].mean() > 0.97
    assert ((dq & np.uint32(DQ.TELEGRAPH)) != 0)[jumping].mean() > 0.9
    good = edge & (array.maps.telegraph == 0)
    assert not ((dq & np.uint32(DQ.BAD_REF_PIXEL)) != 0)[good].any()


def test_distance_of_levels(telegraph):
    array, product = telegraph
    table = product.tables["pixels"]
    truth = array.maps.telegraph[table["row"], table["col"]]
    found = table["telegraph"] > 0
    assert np.abs(table["telegraph"][found] / truth[found] - 1).max() < 0.35
    assert abs(np.median(table["telegraph"][found] / truth[found]) - 1) < 0.03


def test_flags_agree_with_the_truth(telegraph):
    array, product = telegraph
    found = {one.flag: one for one in compare(product, array.truth()).flags}
    assert found["REFERENCE_PIXEL"].one == found["REFERENCE_PIXEL"].other == 0


def test_ground_against_flight(product):
    """Another epoch of the same array agrees; one whose reference pixels became noisier does not."""
    cubes = simulated(array_of(), 4, 4, GROUPS, 11, rate=0.02)
    same = reference_pixels.measure(exposures(cubes))
    far = [q for q in compare(same, product).quantities if q.pull is not None and abs(q.pull) > 6]
    assert not far
    cubes = simulated(array_of(reference_ratio=0.9), 4, 4, GROUPS, 11, rate=0.02)
    worse = compare(reference_pixels.measure(exposures(cubes)), product)
    assert any(q.name == "noise_ratio" and q.pull > 6 for q in worse.quantities)


def test_a_drifting_pixel_is_unstable_and_no_telegraph():
    rng = np.random.default_rng(3)
    watch = Watch(np.zeros(1000, np.int16))
    for _ in range(4):
        own = rng.normal(0, 4, (GROUPS, 1000))
        own[:, :20] += np.cumsum(rng.normal(0, 6, (GROUPS, 20)), axis=0)
        watch.add((own - own.mean(axis=0)).astype(np.float32))
    found = watch.result()
    assert found.bad(5.0)[:20].mean() > 0.9
    assert not found.bad(5.0)[20:].any()
    assert (found.telegraph[:20] > 0).mean() < 0.2


def test_bands_do_not_matter():
    cubes = simulated(array_of(), 1, 1, 6, 4)
    whole = reference_pixels.measure(exposures(cubes))
    bands = reference_pixels.measure(exposures(cubes), budget="250kB")
    assert np.array_equal(whole.planes["dq"], bands.planes["dq"])
    for one in whole.quantities:
        other = bands.quantity(one.name, one.place)
        assert other.value == pytest.approx(one.value, rel=0.02, abs=0.05)


def test_the_other_readout_axis_gives_the_same():
    """Arrays whose rows run up the image are the same, transposed."""
    cubes = simulated(array_of(), 2, 2, 6, 4)
    plain = reference_pixels.measure(exposures(cubes))
    turned = [np.ascontiguousarray(cube.swapaxes(-1, -2)) for cube in cubes]
    found = reference_pixels.measure(exposures(turned, fastaxis=2, slowaxis=1))
    for name in ("instability", "noise_ratio", "excess_reference"):
        for place in ("1", "4"):
            assert found.quantity(name, place).value == pytest.approx(
                plain.quantity(name, place).value, rel=0.02
            )
    level = plain.quantity("level", "bottom 2 odd").value
    assert found.quantity("level", "left 2 odd").value == pytest.approx(level)


def test_cosmic_rays_and_hot_pixels_are_no_level():
    array = array_of(pedestal=0.0, pedestal_common=0.0, cosmic_rate=1e-4)
    cubes = simulated(array, 2, 2, GROUPS, 7)
    cubes[0][:, :, 30, 30] += 500 * np.arange(GROUPS)
    product = reference_pixels.measure(exposures(cubes))
    assert np.all(np.abs(values(product, "dark_slope")[0]) < 0.01)


def test_a_side_without_reference_pixels():
    cubes = [cube[..., 4:, :] for cube in simulated(array_of(), 1, 3, 8, 1)]
    keys = {"border_bottom": 0, "border_top": 4, "border_left": 4, "border_right": 4}
    product = reference_pixels.measure(exposures(cubes, **keys))
    assert set(product.tables["regions"]["side"]) == {"top", "left", "right"}
    assert any("bottom" in note for note in product.provenance.notes)
    assert np.isfinite(product.quantity("instability", "2").value)


def test_columns_of_the_sides_alone_serve_all_outputs():
    cubes = [cube[..., 4:-4, :] for cube in simulated(array_of(), 1, 3, 8, 1)]
    keys = {"border_bottom": 0, "border_top": 0, "border_left": 4, "border_right": 4}
    product = reference_pixels.measure(exposures(cubes, **keys))
    assert np.isfinite(product.quantity("instability", "2").value)
    assert {q.place for q in product.quantities if q.name == "instability"} == {"1", "2", "3", "4"}


def test_no_reference_pixels_at_all():
    cubes = simulated(array_of(), 1, 1, 4, 1)
    none = {f"border_{side}": 0 for side in ("bottom", "top", "left", "right")}
    with pytest.raises(SelectionError, match="no reference pixels"):
        reference_pixels.measure(exposures(cubes, **none))


def test_one_group():
    product = reference_pixels.measure(exposures(simulated(array_of(), 3, 1, 1, 1)))
    assert np.isfinite(product.quantity("level", "bottom 1 even").value)
    assert product.quantity("unstable").value == 0
    assert any("four groups" in note for note in product.provenance.notes)


def test_all_groups_saturated():
    cubes = simulated(array_of(), 1, 3, 6, 1)
    whole = [np.clip(cube, 0, 65535).astype(np.uint16) for cube in cubes]
    whole[0][..., 4:-4, 4:-4] = 65535
    product = reference_pixels.measure(exposures(whole))
    assert np.isfinite(product.quantity("level", "top 3 odd").value)
    assert not any(q.name == "instability" for q in product.quantities)
    assert any("all are saturated" in note for note in product.provenance.notes)


def test_lost_groups_and_flagged_reads():
    cubes = simulated(array_of(), 2, 2, 12, 1)
    cubes[0][0, 3] = np.nan
    flags = [np.zeros(cube.shape, np.uint8) for cube in cubes]
    flags[1][1, 5] = DQ.DO_NOT_USE
    product = reference_pixels.measure(exposures(cubes, read_dq=flags))
    assert (
        len(product.tables["outputs"]["time"]) == (4 * 12 - 2) * 4
        or np.isnan(product.tables["outputs"]["active"]).sum() == 2 * 4
    )
    assert sum("cannot be used" in note for note in product.provenance.notes) == 2
    assert np.isfinite(product.quantity("instability", "1").value)


def test_a_dead_reference_pixel_is_flagged():
    cubes = simulated(array_of(), 2, 1, 12, 1)
    for cube in cubes:
        cube[..., 1, 40] = np.nan
        cube[..., 2, 50] = 7000.0
    dq = reference_pixels.measure(exposures(cubes)).planes["dq"]
    assert dq[1, 40] & np.uint32(DQ.BAD_REF_PIXEL)
    assert dq[2, 50] & np.uint32(DQ.BAD_REF_PIXEL)


def test_ramps_of_several_lengths():
    cubes = simulated(array_of(), 1, 2, 12, 1) + simulated(array_of(), 1, 2, 8, 2)
    product = reference_pixels.measure(exposures(cubes))
    assert len(product.tables["outputs"]["time"]) == 4 * 2 * (12 + 8)
    assert np.isfinite(product.tables["outputs"]["difference"]).all()


def test_mixed_sizes_are_named():
    cubes = [*simulated(array_of(), 1, 1, 4, 1), *(c[..., :32, :] for c in simulated(array_of(), 1, 1, 4, 1))]
    with pytest.raises(SelectionError, match="file1"):
        reference_pixels.measure(exposures(cubes))


def test_verdicts(product):
    array = array_of()
    cubes = simulated(array, 2, 2, 8, 1)
    found = reference_pixels.measure(
        exposures(cubes), limits={"noise_ratio": [0.7, 0.9], "instability": 0.01}
    )
    table = found.tables["verdict"]
    word = {(q, p): w for q, p, w in zip(table["quantity"], table["place"], table["verdict"], strict=True)}
    assert word["noise_ratio", "1"] == "ok"
    assert word["instability", "1"] == "beyond limit"
    assert word["level", "bottom 1 even"] == "no limit"
    assert any("4 beyond limit" in note for note in found.provenance.notes)
    with pytest.raises(OptionError, match="nothing is measured"):
        reference_pixels.measure(exposures(cubes), limits={"instabilty": 1.0})
    with pytest.raises(OptionError, match="limit is a number"):
        reference_pixels.measure(exposures(cubes), limits={"instability": [1.0]})


def test_history():
    month = 30 * 86_400_000_000
    epochs = [
        reference_pixels.measure(
            exposures(simulated(array_of(reference_ratio=ratio), 2, 3, 10, seed), start=seed * month)
        )
        for seed, ratio in enumerate((0.8, 0.8, 0.8, 0.8, 0.9), 1)
    ]
    trend = reference_pixels.history(epochs)
    table = trend.tables["verdict"]
    unlike = {
        (q, p) for q, p, w in zip(table["quantity"], table["place"], table["verdict"], strict=True)
        if w == "unlike history"
    }  # fmt: skip
    assert ("noise_ratio", "") in unlike
    assert ("active_noise", "1") not in unlike
    again = reference_pixels.history(epochs[:4]).tables["verdict"]
    assert (np.asarray(again["verdict"]) == "unlike history").mean() < 0.15
    assert len(set(trend.tables["trend"]["epoch"])) == 5


def test_apply(product):
    frame = Frame(np.zeros((64, 256), np.float32))
    done = reference_pixels.apply(frame, product).load()
    assert np.array_equal(done.dq, product.planes["dq"])
    with pytest.raises(HistoryError):
        reference_pixels.apply(done, product)
    with pytest.raises(ShapeError):
        reference_pixels.apply(Frame(np.zeros((8, 8), np.float32)), product)
    with pytest.raises(SelectionError):
        reference_pixels.apply(frame, replace(product, kind="dark"))


def test_corners_belong_to_the_rows():
    where = layout(Clock(32, 64), Border(4, 4, 4, 4))
    names = [where.regions[i].side for i in (where.region[0, 0], where.region[10, 0], where.region[31, 63])]
    assert names == ["bottom", "left", "top"]
    with pytest.raises(SelectionError, match="all pixels"):
        layout(Clock(32, 64), Border(16, 16, 0, 0))


def test_noise_of_columns_beside_noisier_pixels_is_theirs():
    rng, shape = np.random.default_rng(6), (2, 20000, 16)
    place = np.tile((np.arange(16) >= 4).astype(np.int16), (shape[1], 1))
    values = (rng.standard_normal(shape) * np.where(place, 5.0, 2.0)).astype(np.float32)

    def noise(regions):
        squares, freedom = np.zeros(2), np.zeros(2)
        good, lanes = np.ones(shape[1:], bool), np.zeros(16, np.int16)
        gather(values, lanes, good, place, np.zeros((2, 2)), squares, freedom, regions)
        return np.sqrt(squares / freedom / 2)

    np.testing.assert_allclose(noise(1), [2, 5], rtol=0.012)
    assert noise(0)[0] > 1.05 * 2, "a mean of both is too noisy for the quiet ones"
