"""Bad pixels and dark slopes of ramps: simulated defects are found, and nothing else is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from calibrant.effects import bad_pixels, dark_slope
from calibrant.effects._bad_pixels_find import from_flats
from calibrant.effects._bad_pixels_kinds import Limits
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError
from calibrant.frame import DQ, Frame
from calibrant.instrument.clock import Clock
from calibrant.simulate import infrared

SPEC = importlib.util.spec_from_file_location("ramps_of_arrays", Path(__file__).with_name("ramps.py"))
assert SPEC is not None
assert SPEC.loader is not None
ramps = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ramps)

CLOCK = Clock(96, 128, pixel_time=2e-3)  # a frame takes 8.5 s
FACTS = {"frame_time": CLOCK.frame_time}
GAIN, DARK, LIGHT = 1.8, 0.02, 400.0
GIVEN = {"gain": GAIN, "read_noise": 5.0}
INSIDE = (slice(4, -4), slice(4, -4))


def array_of(**changes):
    numbers = {"clock": CLOCK, "white": 5.0, "bias_pattern": 50.0, "ktc": 20.0, "gain": GAIN, **changes}
    return infrared.Array(infrared.Design.flawless(**numbers))


def places(rng, count):
    """Pixels far from each other and from the edge."""
    rows, cols = np.meshgrid(np.arange(8, 88, 6), np.arange(8, 120, 6), indexing="ij")
    order = rng.permutation(rows.size)[:count]
    return rows.ravel()[order], cols.ravel()[order]


@pytest.fixture(scope="module")
def truth():
    """Rates in the dark and in light, and which pixel is what."""
    rng = np.random.default_rng(0)
    rows, cols = places(rng, 100)
    kinds = {}
    dark = np.full((96, 128), DARK)
    light = np.full((96, 128), LIGHT) * np.linspace(0.8, 1.2, 128)
    for k, (name, many) in enumerate((("hot", 20), ("dead", 15), ("low_qe", 15), ("open", 15))):
        mask = np.zeros(dark.shape, bool)
        mask[rows[20 * k : 20 * k + many], cols[20 * k : 20 * k + many]] = True
        kinds[name] = mask
    dark[kinds["hot"]] = rng.uniform(5, 200, 20)
    light[kinds["dead"]] *= 0.005
    light[kinds["low_qe"]] *= rng.uniform(0.15, 0.4, 15)
    adjacent = np.zeros(dark.shape, bool)
    for row, col in zip(*np.nonzero(kinds["open"]), strict=True):
        light[row, col] *= 0.2
        adjacent[row - 1 : row + 2, col - 1 : col + 2] = True
        for step in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            light[row + step[0], col + step[1]] *= 1.2
    kinds["adjacent_open"] = adjacent & ~kinds["open"]
    kinds["rc"] = np.zeros(dark.shape, bool)
    kinds["rc"][rows[80:95], cols[80:95]] = True
    return dark, light, kinds


@pytest.fixture(scope="module")
def cubes(truth):
    dark, light, kinds = truth
    array = array_of(telegraph=3e-3, telegraph_amplitude=60.0, telegraph_time=40.0, cosmic_rate=2e-5)
    darks = ramps.simulated(array, 4, 2, 20, 1, rate=dark)
    curve = 1500 * (1 - np.exp(-np.arange(1, 21) / 3.0))
    for cube in darks:
        cube[..., kinds["rc"]] += curve[:, None]
    flats = ramps.simulated(array, 2, 1, 8, 2, rate=light)
    return array, darks, flats


@pytest.fixture(scope="module")
def product(cubes):
    _, darks, flats = cubes
    items = [
        *ramps.exposures(darks, **FACTS).frames(),
        *ramps.exposures(flats, kind="flat", **FACTS).frames(),
    ]
    return bad_pixels.measure(ramps.Exposures.from_frames(items, "hxrg-generic"), **GIVEN)


def flagged(product, flag):
    return (product.planes["dq"] & np.uint32(flag)) != 0


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("hot", DQ.HOT), ("dead", DQ.DEAD), ("low_qe", DQ.LOW_QE), ("open", DQ.OPEN),
        ("adjacent_open", DQ.ADJ_OPEN), ("rc", DQ.RC),
    ],
)  # fmt: skip
def test_kinds_are_those_simulated(product, truth, cubes, name, flag):
    array, kinds = cubes[0], truth[2]
    found = flagged(product, flag)
    assert found[kinds[name]].mean() > 0.9
    # RC pixels and large jumps are hot too: their slope is large
    others = kinds["rc"] | (array.maps.telegraph > 0) if name == "hot" else np.zeros_like(found)
    assert (found & ~kinds[name] & ~others).sum() <= 1


def test_telegraph_pixels(product, truth, cubes):
    jumping = cubes[0].maps.telegraph[INSIDE] > 30
    found = flagged(product, DQ.TELEGRAPH)[INSIDE]
    assert jumping.sum() > 10
    assert found[jumping].mean() > 0.8
    good = (cubes[0].maps.telegraph[INSIDE] == 0) & ~truth[2]["rc"][INSIDE]
    assert (found & good).sum() <= 1


def test_good_pixels_stay_good(product, truth, cubes):
    good = cubes[0].maps.telegraph == 0
    for mask in truth[2].values():
        good &= ~mask
    assert ((product.planes["dq"] & np.uint32(DQ.DO_NOT_USE)) != 0)[good].mean() < 1e-3


def test_numbers(product, truth):
    table = dict(zip(product.tables["kinds"]["kind"], product.tables["kinds"]["pixels"], strict=True))
    assert table["open"] == truth[2]["open"].sum()
    seen = 88 * 120
    assert product.quantity("open").value == pytest.approx(table["open"] / seen)
    assert product.quantity("hot_limit").value > DARK / GAIN
    assert flagged(product, DQ.REFERENCE_PIXEL).sum() == 96 * 128 - seen


def test_noisy_pixels():
    """Pixels of three times the noise; those of the twin are as the others."""
    array = array_of()
    rng = np.random.default_rng(4)
    rows, cols = places(rng, 40)
    for factor, least, most in ((4.0, 0.9, 1.0), (1.0, 0.0, 0.0)):
        darks = ramps.simulated(array, 5, 2, 12, 3, rate=DARK)
        for cube in darks:
            noise = rng.normal(0, 5.0, (*cube.shape[:2], len(rows)))
            cube[..., rows, cols] += np.sqrt(max(factor**2 - 1, 0)) * noise
        found = bad_pixels.measure(ramps.exposures(darks, **FACTS), **GIVEN)
        noisy = flagged(found, DQ.OTHER_BAD_PIXEL)
        assert least <= noisy[rows, cols].mean() <= most
        noisy[rows, cols] = False
        assert not noisy.any()


def test_saturated_from_the_first_group_is_hot():
    darks = [np.clip(cube, 0, 65535).astype(np.uint16) for cube in ramps.simulated(array_of(), 3, 1, 6, 1)]
    for cube in darks:
        cube[..., 20, 20] = 65535
    product = bad_pixels.measure(ramps.exposures(darks, **FACTS))
    assert flagged(product, DQ.HOT)[20, 20]
    assert flagged(product, DQ.HOT).sum() == 1


def test_all_saturated():
    cubes = [np.full((1, 5, 32, 64), 65535, np.uint16)]
    product = bad_pixels.measure(ramps.exposures(cubes, frame_time=1.0))
    assert flagged(product, DQ.HOT)[INSIDE].all()


def test_published_search_of_dead_pixels(truth):
    light = truth[1].astype(np.float32)
    seen = np.zeros(light.shape, bool)
    seen[INSIDE] = True
    masks, response = from_flats(light, seen, np.zeros(light.shape, bool), Limits(dead_search="sigma"))
    assert masks["dead"][truth[2]["low_qe"]].all()
    assert np.isnan(response[0, 0])
    assert abs(np.nanmedian(response) - 1) < 1e-3


def test_one_group():
    with pytest.raises(SelectionError, match="two groups"):
        bad_pixels.measure(ramps.exposures(ramps.simulated(array_of(), 1, 1, 1, 1), **FACTS))


def test_flats_without_light_and_lost_reads():
    cubes = ramps.simulated(array_of(), 2, 1, 6, 1)
    cubes[0][0, 2] = np.nan
    product = bad_pixels.measure(ramps.exposures(cubes, kind="flat", **FACTS), **GIVEN)
    assert any("no light" in note or "no darks" in note for note in product.provenance.notes)
    product = bad_pixels.measure(ramps.exposures(cubes, **FACTS), **GIVEN)
    assert product.quantity("hot").value == 0


def test_options():
    exposures = ramps.exposures(ramps.simulated(array_of(), 1, 1, 6, 1), **FACTS)
    with pytest.raises(OptionError, match="no limit"):
        bad_pixels.measure(exposures, hottt=3.0)
    with pytest.raises(OptionError, match="fraction"):
        bad_pixels.measure(exposures, hot_fraction=3.0)
    with pytest.raises(OptionError, match="unknown search"):
        bad_pixels.measure(exposures, dead_search="best")
    with pytest.raises(OptionError, match="gain"):
        bad_pixels.measure(exposures, gain=-1.0)
    with pytest.raises(OptionError, match="no bad pixel called"):
        bad_pixels.measure(exposures, unusable=["cold"])


def test_apply(product):
    frame = Frame(np.zeros((96, 128), np.float32))
    done = bad_pixels.apply(frame, product).load()
    assert np.array_equal(done.dq, product.planes["dq"])
    with pytest.raises(HistoryError):
        bad_pixels.apply(done, product)
    with pytest.raises(ShapeError):
        bad_pixels.apply(Frame(np.zeros((8, 8), np.float32)), product)


# --- dark slopes ---


@pytest.fixture(scope="module")
def slopes():
    rng = np.random.default_rng(1)
    rate = rng.uniform(0.5, 2.0, (96, 128))
    cubes = ramps.simulated(array_of(cosmic_rate=2e-5), 3, 2, 16, 5, rate=rate)
    return rate / GAIN, dark_slope.measure(ramps.exposures(cubes, **FACTS), **GIVEN)


def test_dark_slopes_have_pulls_of_unit_width(slopes):
    rate, product = slopes
    pulls = ((product.data - rate) / np.sqrt(product.planes["variance"]))[INSIDE]
    assert abs(np.median(pulls)) < 0.06
    assert 0.95 < 1.4826 * np.median(np.abs(pulls)) < 1.06
    twin = ((product.data - rate * 1.1) / np.sqrt(product.planes["variance"]))[INSIDE]
    assert abs(np.median(twin)) > 0.3


def test_dark_slope_of_outputs(slopes):
    rate, product = slopes
    found = product.quantity("dark", "2")
    truth = np.median(rate[4:-4, 32:64])
    assert abs(found.value - truth) < 5 * found.sigma
    assert product.quantity("reduced_chi2").value == pytest.approx(1, abs=0.1)
    assert product.quantity("dark_electrons").value == pytest.approx(product.quantity("dark").value * GAIN)


def test_error_of_the_dark_knows_what_pixels_drift_together():
    """Each ramp drifts as a whole: the scatter from pixel to pixel does not know it, that of ramps does."""
    rng, pulls, blind = np.random.default_rng(4), [], []
    for seed in range(12):
        cubes = ramps.simulated(array_of(), 6, 1, 4, seed, rate=0.0)
        ends = np.arange(4.0)[:, None, None] * FACTS["frame_time"]
        cubes = [cube + np.float32(0.2 * rng.standard_normal()) * ends for cube in cubes]
        cubes = [cube.astype(np.float32) for cube in cubes]
        product = dark_slope.measure(ramps.exposures(cubes, **FACTS), **GIVEN)
        found, width = product.quantity("dark"), product.quantity("width").value
        pulls.append(found.value / found.sigma)
        blind.append(found.value / (1.25 * width / np.sqrt(88 * 120)))
    assert 0.6 < np.sqrt(np.mean(np.square(pulls))) < 1.7
    assert np.sqrt(np.mean(np.square(blind))) > 10
    alone = dark_slope.measure(ramps.exposures(cubes[:1], **FACTS), **GIVEN)
    assert any("of one ramp" in note for note in alone.provenance.notes)


def test_read_noise_is_measured_where_it_is_not_given():
    cubes = ramps.simulated(array_of(), 2, 1, 10, 5, rate=0.1)
    product = dark_slope.measure(ramps.exposures(cubes, **FACTS))
    assert product.provenance.options["read_noise"] == pytest.approx(5.0, rel=0.05)
    assert any("gain is not known" in note for note in product.provenance.notes)
    with pytest.raises(SelectionError, match="two groups"):
        dark_slope.measure(ramps.exposures(ramps.simulated(array_of(), 1, 1, 1, 1), **FACTS))


def test_bands_do_not_matter():
    exposures = ramps.exposures(ramps.simulated(array_of(), 2, 1, 6, 5, rate=0.1), **FACTS)
    whole = dark_slope.measure(exposures, **GIVEN)
    assert whole.identity == dark_slope.measure(exposures, budget="300kB", **GIVEN).identity


def test_trend_of_dark_slopes():
    year = 365 * 86_400_000_000
    epochs = [
        dark_slope.measure(
            ramps.exposures(ramps.simulated(array_of(), 2, 1, 8, k, rate=rate), start=k * year, **FACTS),
            **GIVEN,
        )
        for k, rate in enumerate((1.0, 1.0, 1.0, 1.5), 1)
    ]
    table = dark_slope.history(epochs).tables["verdict"]
    words = dict(zip(zip(table["quantity"], table["place"], strict=True), table["verdict"], strict=True))
    assert words["dark", ""] == "unlike history"
