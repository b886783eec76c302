"""The inventory of flats against the parts that they were made of: what was put in is found, nothing else."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import label

from calibrant.effects import bias, flat, flat_structure, overscan
from calibrant.exposures import Exposures
from calibrant.instrument import load
from calibrant.product import Product, Quantity
from calibrant.simulate.flat_structure import amplitudes
from calibrant.simulate.raft import simulate
from calibrant.simulate.raft_plan import Counts


def helpers():
    """The module beside this one: tests are not a package."""
    spec = importlib.util.spec_from_file_location(
        "flats_of_raft", Path(__file__).with_name("flats_of_raft.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


raft_flats = helpers()
BANDS, COMCAM, OFF = raft_flats.BANDS, raft_flats.COMCAM, raft_flats.OFF
masters, without = raft_flats.masters, raft_flats.without
INSTRUMENT = load("comcam")
NAMES = {
    "amplifiers": "amplifier_steps",
    "vignetting": "vignetting",
    "dust": "dust_shadow",
    "edges": "edge_roll_off",
    "tree_rings": "tree_rings",
    "coating": "chromatic_pattern",
    "fringes": "fringes",
    "columns": "column",
    "pixels": "pixel_response",
}
EVERYTHING = set(NAMES.values())
FEW = "ugzy"
# Each is left out with one that is not taken for it; each by itself in `make soak`.
ABSENT = [
    ("amplifiers", "dust"), ("vignetting", "fringes"), ("edges", "tree_rings"), ("coating", "columns"),
    ("pixels",),
]  # fmt: skip


def inventory(camera=COMCAM, detectors=(0,), bands=BANDS, **options):
    flats, sensors = masters(camera, detectors, bands, **options)
    return flat_structure.measure(flats, instrument=INSTRUMENT), sensors


def found(product):
    table = product.tables["inventory"]
    return {str(name) for name, seen in zip(table["structure"], table["detected"], strict=True) if seen}


def rows(product, structure, **where):
    table = product.tables["structures"]
    use = table["structure"] == structure
    for column, value in where.items():
        use &= table[column] == value
    return {name: values[use] for name, values in table.items()}


@pytest.fixture(scope="module")
def raft():
    """A corner and the middle of the raft, all bands."""
    return inventory(detectors=(0, 4))


def test_each_structure_is_found_and_none_invented(raft):
    assert found(raft[0]) == EVERYTHING


@pytest.mark.parametrize(
    "parts",
    [*ABSENT, *(pytest.param((part,), marks=pytest.mark.soak) for part in OFF if (part,) not in ABSENT)],
    ids="-".join,
)
def test_a_structure_that_is_not_there_is_not_found(parts):
    product, _ = inventory(without(*parts), bands=FEW)
    assert found(product) == EVERYTHING - {NAMES[part] for part in parts}


def test_every_structure_is_left_out_once():
    assert sorted(part for parts in ABSENT for part in parts) == sorted(OFF)


@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.soak), 4])
def test_noise_alone_gives_an_empty_inventory(number):
    product, _ = inventory(without(*OFF), detectors=(number,), bands=FEW)
    assert not found(product)
    assert all("not found" in text for text in product.tables["inventory"]["sentence"])


# --- amplitudes against the truth, in units of the stated sigma ---


def steps_of(sensor):
    ln = -np.log([amplifier.gain for amplifier in sensor.detector.amplifiers])
    return dict(
        zip([a.name for a in sensor.detector.amplifiers], 100 * np.expm1(ln - ln.mean()), strict=True)
    )


@pytest.mark.parametrize("band", ["g", "z"])
def test_steps_are_those_of_the_gains(raft, band):
    product, sensors = raft
    for sensor in sensors:
        truth, table = (
            steps_of(sensor),
            rows(product, "amplifier_steps", detector=str(sensor.number), band=band),
        )
        expected = np.array([truth[name] for name in table["amplifier"]])
        pulls = (table["amplitude"] - expected) / table["sigma"]
        assert np.abs(pulls).max() < 4.5
        assert (
            np.abs((table["amplitude"] + expected) / table["sigma"]).max() > 10
        )  # gains the wrong way round


def test_vignetting_is_that_of_the_optics(raft):
    product, sensors = raft
    light = [sensor.parts["vignetting"] for sensor in sensors]
    loss = 100 * (1 - min(part.min() for part in light) / max(part.max() for part in light))
    table = rows(product, "vignetting")
    best = np.argmin(table["sigma"])
    # The corner itself is not fitted: it is 5 % of the detector farther in.
    assert table["amplitude"][best] == pytest.approx(loss, abs=4 * table["sigma"][best] + 0.4)
    assert table["detected"][best] and table["sigma"][best] < 0.5


@pytest.mark.parametrize("band", BANDS)
def test_edges_fall_as_they_were_made(raft, band):
    table = rows(raft[0], "edge_roll_off", band=band)
    truth = 100 * amplitudes(COMCAM.bands[band])["edges"]
    assert table["detected"].all()
    # The scale was fitted as well: 3 %.
    assert np.all(np.abs(table["amplitude"] - truth) < 4 * np.hypot(table["sigma"], 0.03 * truth))
    assert np.abs(table["scale"] - COMCAM.structure.edge).max() < 0.06


@pytest.mark.parametrize("band", BANDS)
def test_rings_have_the_strength_of_the_band(raft, band):
    table = rows(raft[0], "tree_rings", band=band)
    truth = 100 * amplitudes(COMCAM.bands[band])["tree_rings"]
    if truth > 0.1:
        assert table["detected"].all() or band == "u"  # where the coating is stronger than the rings
        assert np.abs((table["amplitude"] - truth) / table["sigma"]).max() < 4
        assert np.abs((table["amplitude"] - 2 * truth) / table["sigma"]).max() > 4
    else:
        assert table["amplitude"].max() < 0.12


def test_the_centre_of_the_rings_is_beyond_a_corner(raft):
    for number in ("0", "4"):
        table = rows(raft[0], "tree_rings", detector=number)
        outside = [(c < 0) | (c > 288) for c in (table["row"], table["col"])]
        assert np.all(outside[0]) and np.all(outside[1])


@pytest.mark.parametrize(
    ("structure", "part", "factor", "least"),
    [("chromatic_pattern", "coating", 1.0, 0.2), ("fringes", "fringes", 2**-0.5, 0.05)],
)
def test_patterns_have_the_strength_of_the_band(raft, structure, part, factor, least):
    for band in BANDS:
        truth = 100 * factor * amplitudes(COMCAM.bands[band])[part]
        for number in ("0", "4"):
            table = rows(raft[0], structure, band=band, detector=number)
            amplitude, sigma = float(table["amplitude"][0]), float(table["sigma"][0])
            # Against what most bands have, which for the coating is 0.05 %.
            assert abs(amplitude - truth) < 4 * sigma + 0.06, (band, number)
            assert bool(table["detected"][0]) or truth < least


def test_shadows_lie_where_the_dust_does(raft):
    product, sensors = raft
    for sensor in sensors:
        dust = sensor.parts["dust_1"]
        table = rows(product, "dust_shadow", detector=str(sensor.number), band="")
        for row, col, radius in zip(table["row"], table["col"], table["scale"] / (40.72 / 288), strict=True):
            near = dust[patch(row, radius), patch(col, radius)]
            assert near.min() < 0.993, "no dust there"
        marks, count = label(dust < 0.99)
        for number in range(1, count + 1):
            size = int((marks == number).sum())
            place = np.argwhere(marks == number).mean(axis=0)
            apart = np.hypot(table["row"] - place[0], table["col"] - place[1])
            assert size < 60 or np.min(apart - table["scale"] / (40.72 / 288)) < 5, "not seen"


def patch(middle, radius):
    return slice(max(0, int(middle - radius)), int(middle + radius) + 1)


def test_columns_are_those_that_are_bad(raft):
    product, sensors = raft
    for sensor in sensors:
        flags = sensor.detector.dq & np.uint32((1 << 10) | (1 << 11))
        truth = set(np.flatnonzero((sensor.detector.dq > 0).sum(axis=0) > 20).tolist())
        table = rows(product, "column", detector=str(sensor.number))
        assert {int(col) for col in table["col"]} == truth and flags.any()
        assert {np.sign(value) for value in table["amplitude"]} == {-1.0, 1.0}


def test_pixels_scatter_as_they_were_made(raft):
    table = rows(raft[0], "pixel_response")
    pulls = (table["amplitude"] - 100 * COMCAM.structure.prnu) / table["sigma"]
    assert table["detected"].all() and np.abs(pulls).max() < 4


def test_a_doubled_structure_fails_the_comparison(raft):
    """The twin: rings twice as strong are not those of the camera."""
    bands = {n: b.model_copy(update={"tree_rings": 2 * b.tree_rings}) for n, b in COMCAM.bands.items()}
    product, _ = inventory(COMCAM.model_copy(update={"bands": bands}), bands=FEW)
    table = rows(product, "tree_rings", band="g")
    truth = 100 * amplitudes(COMCAM.bands["g"])["tree_rings"]
    assert abs(table["amplitude"][0] - truth) > 5 * table["sigma"][0]
    assert abs(table["amplitude"][0] - 2 * truth) < 4 * table["sigma"][0]


def test_gains_explain_the_steps(raft):
    flats, (sensor,) = masters(detectors=(0,), bands="z")
    amplifiers = sensor.detector.amplifiers

    def told(values):
        gain = Product("gain", quantities=tuple(Quantity("gain", v, None, "", n) for n, v in values.items()))
        product = flat_structure.measure(flats, instrument=INSTRUMENT, products={"0": gain})
        return str(product.tables["inventory"]["sentence"][0])

    assert "the steps are those of the gains" in told({a.name: a.gain for a in amplifiers})
    assert "the gains do not explain them" in told({a.name: 1.0 / a.gain for a in amplifiers})


# --- light or counts ---


def verdicts(product):
    table = product.tables["inventory"]
    return dict(zip(table["structure"].tolist(), table["light"].tolist(), strict=True))


def test_two_levels_tell_light_from_counts():
    bright, _ = masters(detectors=(0,), bands=FEW)
    faint, _ = masters(detectors=(0,), bands=FEW, dim=0.25, frames=12)
    product = flat_structure.measure([*bright, *faint], instrument=INSTRUMENT)
    assert found(product) == EVERYTHING
    seen = verdicts(product)
    for structure in ("amplifier_steps", "vignetting", "dust_shadow", "edge_roll_off", "pixel_response"):
        assert seen[structure] == "light", structure
    assert "added" not in {value for name, value in seen.items() if name != "column"}
    assert seen["column"] == "added"  # the lamp was dimmed, and shone as long
    assert len(product.tables["flats"]["level"]) == 8


def test_offsets_of_amplifiers_are_added_and_not_to_be_divided():
    camera = without("amplifiers")
    _, (sensor,) = masters(camera, (0,), "r")
    offsets = np.zeros(sensor.grid.shape)
    rng = np.random.default_rng(3)
    for amplifier in sensor.detector.amplifiers:
        offsets[amplifier.window] = 1000.0 * rng.standard_normal()
    flats = [
        flat
        for dim in (1.0, 0.4)
        for flat in masters(camera, (0,), "rz", dim=dim, frames=12, additive=offsets)[0]
    ]
    product = flat_structure.measure(flats, instrument=INSTRUMENT)
    table = product.tables["inventory"]
    row = table["structure"].tolist().index("amplifier_steps")
    assert table["detected"][row] and table["light"][row] == "added"
    assert "subtract" in table["cure"][row] and "never divide" in table["sentence"][row]


def test_the_way_through_files(tmp_path):
    """Raw frames of the raft, overscan, bias, flats: the same inventory as of flats made in memory."""
    counts = Counts(biases=5, darks=0, flats=4, visits=False)
    taken = simulate(COMCAM, tmp_path, seed=5, detectors=(0,), bands=tuple("urzy"), counts=counts)
    day = [path for path in taken.raw if COMCAM.epochs[0].day in path.name]
    frames = Exposures.from_paths(day, instrument=INSTRUMENT)
    frames = frames.through(overscan.step(frames[0], instrument=INSTRUMENT))
    zero = bias.measure(frames.where(kind="bias"))
    flats = (flat.measure(frames.where(kind="flat", filter=band), products={"bias": zero}) for band in "urzy")
    assert found(flat_structure.measure(flats, instrument=INSTRUMENT)) == EVERYTHING


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(6))
def test_the_whole_raft(seed):
    product, _ = inventory(detectors=range(9), seed=100 + seed)
    assert found(product) == EVERYTHING


@pytest.mark.soak
@pytest.mark.parametrize("part", OFF)
def test_the_whole_raft_without(part):
    product, _ = inventory(without(part), detectors=range(9), seed=200)
    assert found(product) == EVERYTHING - {NAMES[part]}


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_the_whole_raft_of_noise(seed):
    assert not found(inventory(without(*OFF), detectors=range(9), seed=300 + seed)[0])
