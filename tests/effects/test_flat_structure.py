"""The inventory of flats: its tables and sentences, what is not simulated elsewhere, and bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import flat_structure
from calibrant.effects._structure_finding import STRUCTURES, Finding
from calibrant.effects._structure_light import judge
from calibrant.effects._structure_words import KINDS, chromatic, sentence
from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.files.fits import read, write
from calibrant.frame import DQ
from calibrant.instrument import Instrument
from calibrant.product import Product, Quantity

SHAPE = (160, 192)
NOISE = 0.002
ROWS, COLS = 80, 48


def places():
    return {
        f"A{row}{col}": (slice(row * ROWS, (row + 1) * ROWS), slice(col * COLS, (col + 1) * COLS))
        for row in range(2)
        for col in range(4)
    }


def camera(detectors=("0",), pixel=0.015):
    amplifiers = []
    for name, (rows, cols) in places().items():
        section = f"[{cols.start + 1}:{cols.stop},{rows.start + 1}:{rows.stop}]"
        amplifiers.append({"name": name, "data": section, "place": section})
    return Instrument.model_validate(
        {
            "name": "test",
            "detectors": {name: {"shape": SHAPE, "amplifiers": amplifiers} for name in detectors},
            "focal_plane": {"rows": [list(detectors)], "gap": [0, 20], "pixel": pixel},
        }
    )


def flat(response=1.0, *, band="r", detector="0", seed=1, level=20_000.0, noise=NOISE, **planes):
    """A master flat: a response with noise, whose variance is stated."""
    rng = np.random.default_rng((seed, sum(map(ord, band + detector))))
    data = np.asarray(response * np.ones(SHAPE)) + rng.normal(0.0, noise, SHAPE)
    return Product(
        "flat",
        instrument="test",
        keys={"detector": detector, "filter": band},
        planes={
            "data": (data / np.nanmedian(data)).astype(np.float32),
            "variance": np.full(SHAPE, noise**2, np.float32),
            "dq": np.zeros(SHAPE, np.uint32),
            **planes,
        },
        quantities=(Quantity("level", level, None, "adu"),),
    )


def measure(*flats, instrument=None, **options):
    return flat_structure.measure(flats, instrument=instrument or camera(), **options)


def found(product):
    table = product.tables["inventory"]
    return [str(name) for name, seen in zip(table["structure"], table["detected"], strict=True) if seen]


def row(product, structure):
    table = product.tables["inventory"]
    index = table["structure"].tolist().index(structure)
    return {name: values[index] for name, values in table.items()}


def test_an_even_flat_has_no_structure():
    product = measure(flat(), flat(band="i"), flat(band="z"))
    assert found(product) == []
    assert product.tables["inventory"]["structure"].tolist() == list(STRUCTURES)
    assert all("not found at 5 sigma" in text for text in product.tables["inventory"]["sentence"])


def test_a_ripple_of_the_readout_is_found_with_its_period():
    wave = 0.002 * np.sin(2 * np.pi * np.arange(ROWS) / 8.0)
    product = measure(flat(1.0 + np.tile(wave, 2)[:, np.newaxis]))
    assert found(product) == ["periodic_pattern"]
    entry = row(product, "periodic_pattern")
    assert entry["amplitude"] == pytest.approx(0.2, abs=5 * entry["sigma"] + 0.02)
    assert "readout" in entry["sentence"]
    table = product.tables["structures"]
    at = table["structure"].tolist().index("periodic_pattern")
    assert table["scale"][at] == pytest.approx(8.0 * 0.015, rel=0.05)


def test_a_ripple_along_columns_too():
    wave = 0.003 * np.cos(2 * np.pi * np.arange(COLS) / 4.0)
    assert "periodic_pattern" in found(measure(flat(1.0 + np.tile(wave, 4)[np.newaxis, :])))


def test_waves_that_run_over_the_amplifiers_are_no_ripple():
    wave = 0.002 * np.sin(2 * np.pi * (np.arange(SHAPE[0])[:, np.newaxis] + 0.5 * np.arange(SHAPE[1])) / 21.0)
    assert "periodic_pattern" not in found(measure(flat(1.0 + wave)))


def test_one_amplifier_that_is_brighter():
    response = np.ones(SHAPE)
    response[places()["A12"]] = 1.03
    product = measure(flat(response), flat(response, band="i"))
    entry = row(product, "amplifier_steps")
    assert found(product) == ["amplifier_steps"]
    assert entry["amplitude"] == pytest.approx(100 * (1.03 ** (7 / 8) - 1), abs=5 * entry["sigma"])
    table = product.tables["structures"]
    assert (
        table["amplifier"][
            np.argmax(np.where(table["structure"] == "amplifier_steps", table["amplitude"], 0))
        ]
        == "A12"
    )
    assert entry["chromatic"] == "no"
    assert "gain" in entry["sentence"] and "Is dividing by the flat right?" in entry["sentence"]


def test_columns_are_told_by_place_and_sign():
    response = np.ones(SHAPE)
    response[:80, 30] = 0.9
    response[100:, 100] = 1.05
    product = measure(flat(response))
    table = product.tables["structures"]
    use = table["structure"] == "column"
    seen = dict(zip(table["col"][use].tolist(), table["amplitude"][use].tolist(), strict=True))
    assert seen == {30.0: pytest.approx(-10.0, abs=0.5), 100.0: pytest.approx(5.0, abs=0.5)}
    entry = row(product, "column")
    assert "mask" in entry["cure"] and "subtract a dark" in entry["cure"]


def test_darks_tell_that_a_bright_column_is_charge():
    response = np.ones(SHAPE)
    response[100:, 100] = 1.05
    rng = np.random.default_rng(2)
    rate = rng.normal(0.0, 0.1, SHAPE).astype(np.float32)
    plain = Product("dark", instrument="test", planes={"data": rate.copy()})
    rate[100:, 100] += 1.0
    hot = Product("dark", instrument="test", planes={"data": rate})
    entry = row(measure(flat(response), darks={"0": hot}), "column")
    assert entry["light"] == "added" and "darks show 1 of 1" in entry["sentence"]
    entry = row(measure(flat(response), darks={"0": plain}), "column")
    assert entry["light"] == "unknown" and "darks show 0 of 1" in entry["sentence"]


def test_a_shadow_has_its_place_radius_and_depth():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    shadow = np.where(np.hypot(y - 60.0, x - 120.0) < 9.0, 0.97, 1.0)
    product = measure(flat(shadow), flat(shadow, band="i"))
    assert found(product) == ["dust_shadow"]
    table = product.tables["structures"]
    use = (table["structure"] == "dust_shadow") & (table["band"] == "")
    assert table["row"][use] == pytest.approx([60.0], abs=2) and table["col"][use] == pytest.approx(
        [120.0], abs=2
    )
    assert table["scale"][use] == pytest.approx([9.0 * 0.015], rel=0.3)
    assert table["amplitude"][use] == pytest.approx([3.0], rel=0.25)
    assert row(product, "dust_shadow")["chromatic"] == "no"


def test_a_dead_pixel_is_no_shadow():
    response = np.ones(SHAPE)
    response[[20, 50, 90], [48, 47, 0]] = 0.06  # first and last of an amplifier, and of the detector
    assert found(measure(flat(response), flat(response, band="i"))) == []


def test_vignetting_goes_by_the_focal_plane():
    """The same loss on two detectors, about the middle of both."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    flats = []
    for number in (0, 1):
        middle = SHAPE[1] + 10 - number * (SHAPE[1] + 20)
        r2 = (y - SHAPE[0] / 2) ** 2 + (x - middle) ** 2
        flats.append(flat(1.0 - 0.05 * r2 / 220.0**2, detector=str(number)))
    product = measure(*flats, instrument=camera(("0", "1")))
    assert found(product) == ["vignetting"]
    entry = row(product, "vignetting")
    assert entry["coordinates"] == "focal plane" and entry["amplitude"] == pytest.approx(4.3, abs=0.5)
    profiles = product.tables["profiles"]
    use = profiles["axis"] == "focal-plane radius"
    falls = []
    for detector in "01":  # the same line for both: it is optics, not one detector
        own = use & (profiles["detector"] == detector)
        at = np.interp([1.0, 2.0], profiles["position"][own], profiles["level"][own])
        falls.append(at[0] - at[1])
    assert falls == pytest.approx([5 * (2.0**2 - 1.0**2) / (220 * 0.015) ** 2] * 2, abs=0.4)


def test_tables_keep_their_columns_and_units(tmp_path):
    response = np.ones(SHAPE)
    response[places()["A12"]] = 1.03
    product = measure(flat(response), flat(response, band="i"))
    write(product, tmp_path / "inventory.fits")
    again = read(tmp_path / "inventory.fits")
    assert again.identity == product.identity
    assert set(product.tables) == {"inventory", "structures", "profiles", "flats"}
    columns = ("structure", "detector", "band", "amplifier", "amplitude", "sigma", "significance", "scale")
    assert set(columns) <= set(product.tables["structures"])
    assert {"row", "column", "focal-plane radius", "edge distance"} <= set(product.tables["profiles"]["axis"])
    assert product.units["profiles.position"] == "mm" and product.units["structures.amplitude"] == "%"
    assert product.quantity("amplifier_steps").unit == "%"
    assert len(product.provenance.parents) == 2


def test_a_mapping_of_detectors_and_bands_is_taken_as_well():
    both = flat(), flat(band="i")
    nested = flat_structure.measure({"0": {"r": both[0], "i": both[1]}}, instrument=camera())
    assert nested.identity == measure(*both).identity


def test_flats_are_asked_for_one_after_the_other():
    alive = []

    def one_by_one():
        for band in "riz":
            alive.append(band)
            yield flat(band=band)

    calls = []
    flat_structure.measure(
        one_by_one(), instrument=camera(), progress=lambda *a: calls.append((a, len(alive)))
    )
    assert [count for _, count in calls] == [1, 2, 3]


def test_without_an_instrument_lengths_are_pixels():
    product = flat_structure.measure([flat()])
    assert product.units["structures.scale"] == "pixel" and product.instrument == ""
    assert any("focal plane is unknown" in note for note in product.provenance.notes)
    assert any("one band only" in note for note in product.provenance.notes)


def test_places_of_a_product_come_before_the_instrument():
    table = {"name": np.array(["L", "R"]), "place": np.array(["[1:96,1:160]", "[97:192,1:160]"])}
    response = np.ones(SHAPE)
    response[:, 96:] = 1.02
    gain = Product("gain", tables={"amplifiers": table})
    product = measure(flat(response), products={"0": gain})
    assert set(product.tables["structures"]["amplifier"]) >= {"L", "R"}


def test_a_dead_amplifier_is_said_and_the_rest_is_looked_at():
    response = np.ones(SHAPE)
    response[places()["A12"]] = 1.03
    data = flat(response)
    dq = np.zeros(SHAPE, np.uint32)
    dq[places()["A03"]] = np.uint32(DQ.DO_NOT_USE)
    product = measure(replace(data, planes={**data.planes, "dq": dq}))
    assert found(product) == ["amplifier_steps"]
    assert any("A03" in note for note in product.provenance.notes)


def test_a_flat_without_good_pixels_is_left_out():
    dead = flat(band="i", dq=np.full(SHAPE, int(DQ.DO_NOT_USE), np.uint32))
    product = measure(flat(), dead)
    assert product.tables["flats"]["band"].tolist() == ["r"]
    assert any("no good pixel" in note for note in product.provenance.notes)
    with pytest.raises(SelectionError, match="none of the flats"):
        measure(dead)


@pytest.mark.parametrize(
    ("flats", "error", "words"),
    [
        ([], SelectionError, "no flats"),
        ([Product("bias", planes={"data": np.ones(SHAPE)})], SelectionError, "of flats"),
        ([flat(), replace(flat(), instrument="other")], SelectionError, "several instruments"),
        ([flat(), flat(band="i", data=np.ones((10, 10)))], ShapeError, "differ in size"),
    ],
)
def test_what_cannot_be_looked_at(flats, error, words):
    with pytest.raises(error, match=words):
        measure(*flats)


def test_a_low_threshold_is_refused():
    with pytest.raises(OptionError, match="invents"):
        measure(flat(), threshold=2.0)


# --- sentences and verdicts from findings alone ---


def finding(amplitude, band="r", sigma=0.01, structure="edge_roll_off", detector="0", **more):
    return Finding(structure, detector, band, "", amplitude, sigma, abs(amplitude) / sigma, True, **more)


LEVELS = {("0", "r"): (20_000.0, 5_000.0)}


@pytest.mark.parametrize(("faint", "verdict"), [(2.0, "light"), (8.0, "added"), (4.0, "unknown")])
def test_verdicts_on_light(faint, verdict):
    found = judge([finding(2.0)], [finding(faint)], LEVELS)["edge_roll_off"]
    assert found.verdict == verdict and found.compared == 1


def test_a_verdict_needs_significance():
    found = judge([finding(0.06)], [finding(0.07, sigma=0.2)], LEVELS)["edge_roll_off"]
    assert found.verdict == "unknown"


def test_chromatic_is_a_question_of_sigma():
    assert chromatic([finding(2.0), finding(2.01, "i"), finding(1.99, "z")])[0] == "no"
    verdict, words = chromatic([finding(2.0), finding(1.0, "i"), finding(0.5, "z")])
    assert verdict == "yes" and words == "2 % in r, 0.5 % in z"
    assert chromatic([finding(2.0)])[0] == "unknown"


def test_every_structure_has_words():
    assert set(KINDS) == set(STRUCTURES)
    text = sentence(finding(2.0, scale=0.35), "mm")
    assert (
        text.startswith("Roll-off at the edges of detectors, detector 0 band r: 2 +- 0.01 %")
        and "0.35 mm" in text
    )
