"""A raft: nine detectors from one table, amplifiers assembled from the sections of their own headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import calibrant as cal
from calibrant.effects import overscan
from calibrant.errors import ConfigError
from calibrant.exposures import Exposures
from calibrant.exposures.fit import fit
from calibrant.files.fits import write_raw
from calibrant.instrument import FocalPlane, Instrument, check, load, recognise
from calibrant.pipeline import recipe

ROWS, COLS = 40, 24  # data of one amplifier
PRESCAN, SERIAL, PARALLEL = 3, 8, 5
LEVEL = 1000  # adu
TOP = [f"1{k}" for k in range(8)]
BOTTOM = [f"0{k}" for k in range(7, -1, -1)]
PRIMARY: dict[str, Any] = {
    "INSTRUME": "ComCam",
    "TELESCOP": "LSST",
    "OBSID": "CC_O_20241108_000246",
    "DAYOBS": "20241108",
    "SEQNUM": 246,
    "IMGTYPE": "OBJECT",
    "FILTER": "r_03",
    "FILTBAND": "r",
    "CCDSLOT": "S00",
    "RAFTBAY": "R22",
    "EXPTIME": 30.0,
    "DARKTIME": 30.5,
    "DATE-BEG": "2024-11-09T04:00:37.000",
    "TIMESYS": "TAI",
    "CCDTEMP": -100.0,
    "RUNNUM": "DP1",
}

Amplifiers = list[tuple[str, NDArray[np.uint16], dict[str, Any]]]


def detector_image() -> NDArray[np.uint16]:
    """An image whose values tell the row and the column."""
    rows, cols = np.indices((2 * ROWS, 8 * COLS))
    return (200 * rows + cols).astype(np.uint16)


def place_of(name: str) -> str:
    """DETSEC as the files of the sensors have it: all are read towards the right, C1x to the top."""
    k = int(name[1])
    rows = f"{2 * ROWS}:{ROWS + 1}" if name[0] == "1" else f"1:{ROWS}"
    return f"[{COLS * (k + 1)}:{COLS * k + 1},{rows}]"


def amplifiers() -> Amplifiers:
    """Images in the order of reading, each with its header."""
    image, found = detector_image(), []
    for index, name in enumerate(TOP + BOTTOM):
        k, upper = int(name[1]), name[0] == "1"
        data = image[ROWS if upper else 0 :, COLS * k :][:ROWS, :COLS]
        raw = np.full((ROWS + PARALLEL, PRESCAN + COLS + SERIAL), LEVEL + index, np.uint16)
        raw[:ROWS, PRESCAN : PRESCAN + COLS] += data[:: -1 if upper else 1, ::-1]
        end = PRESCAN + COLS
        cards = {
            "DATASEC": f"[{PRESCAN + 1}:{end},1:{ROWS}]",
            "BIASSEC": f"[{end + 1}:{end + SERIAL},1:{ROWS}]",
            "DETSEC": place_of(name),
            "GAIN": 1.3 + 0.01 * index,
            "RDNOISE": 6.0 + 0.1 * index,
        }
        found.append((f"Segment{name}", raw, cards))
    return found


def write(folder: Path, units: Amplifiers | None = None, name: str = "raw.fits", **cards: Any) -> Path:
    write_raw(folder / name, None, {**PRIMARY, **cards}, amplifiers() if units is None else units)
    return folder / name


def problem(folder: Path, units: Amplifiers) -> str:
    found = Exposures.scan(write(folder, units), "comcam")
    assert len(found) == 0
    (one,) = found.problems
    return one.sentence


def loaded(exposures: Exposures) -> NDArray[Any]:
    """Pixels of the first exposure, read as a combination reads them."""
    (source,) = exposures.sources()
    data = np.empty(source.shape, np.dtype(source.encoding.dtype))
    source.read_into(slice(0, source.shape[0]), data)
    return data


# --- headers ---


def test_facts_of_an_exposure(tmp_path: Path) -> None:
    exposure = Exposures.scan(write(tmp_path), "auto")[0]
    assert (exposure.instrument, exposure.identifier) == ("comcam", "2024110800246")
    assert exposure.time == "2024-11-09T04:00:00.000Z"  # 37 s of TAI are taken off
    assert (exposure.kind, exposure.detector, exposure.filter) == ("light", "0", "r")
    assert (exposure.temperature, exposure.duration, exposure.dark_time) == (-100.0, 30.0, 30.5)
    assert (exposure.campaign, exposure.gain_setting) == ("DP1", None)
    assert (exposure.get("physical_filter"), exposure.get("sequence")) == ("r_03", 246.0)
    assert exposure.gain == pytest.approx(1.375)
    assert exposure.read_noise == pytest.approx(6.75)


@pytest.mark.parametrize(
    ("slot", "detector"), [("S00", "0"), ("S02", "2"), ("S10", "3"), ("S21", "7"), ("S22", "8")]
)
def test_the_slot_gives_the_detector(slot: str, detector: str) -> None:
    assert load("comcam").exposure({**PRIMARY, "CCDSLOT": slot}).detector == detector


@pytest.mark.parametrize(("slot", "told"), [("S33", "'S33'"), (None, "'without CCDSLOT'")])
def test_a_slot_that_is_not_in_the_raft_is_refused(slot: str | None, told: str) -> None:
    cards = {key: value for key, value in PRIMARY.items() if key != "CCDSLOT"}
    with pytest.raises(ConfigError, match=f"no detector {told}"):
        load("comcam").exposure(cards if slot is None else {**cards, "CCDSLOT": slot})


@pytest.mark.parametrize(
    ("word", "kind"), [("BIAS", "bias"), ("DARK", "dark"), ("FLAT", "flat"), ("OBJECT", "light")]
)
def test_kinds(word: str, kind: str) -> None:
    assert load("comcam").exposure({**PRIMARY, "IMGTYPE": word}).kind == kind


def test_recognised_by_camera_and_raft() -> None:
    assert recognise(PRIMARY) == "comcam"
    assert recognise({**PRIMARY, "RAFTBAY": "R01"}) == "generic-ccd"


def test_a_master_among_the_raws_does_not_hide_the_camera(tmp_path: Path) -> None:
    write(tmp_path)
    cal.write(cal.Product("truth", planes={"flat": np.ones((4, 4), np.float32)}), tmp_path / "another.fits")
    found = Exposures.scan(tmp_path, "auto")
    assert (found.instrument.name, found.problems) == ("comcam", ())


def test_groups_of_a_pattern_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[header.identifier]\nkeywords = ["ID"]\npattern = "(\\\\d+)-(x)?(\\\\d)"')
    instrument = load(path)
    assert instrument.exposure({"ID": "a12-34"}).identifier == "123"
    assert instrument.exposure({"ID": "none"}).identifier is None


# --- nine detectors, one table ---


def test_nine_detectors_share_one_table() -> None:
    camera = load("comcam")
    assert list(camera.detectors) == [str(n) for n in range(9)]
    assert all(detector is camera.detectors["0"] for detector in camera.detectors.values())
    again = Instrument.model_validate_json(camera.model_dump_json())
    assert again == camera


def test_geometry_of_the_real_size() -> None:
    camera = load("comcam")
    exposure = camera.exposure(PRIMARY)
    assert exposure.shape == (2048, 16 * 576)
    assembly = overscan.assembly_of(exposure, camera)
    assert assembly.shape == (4000, 4072)
    names = [amp.name for amp in assembly.amplifiers]
    assert names == [f"C{name}" for name in TOP + BOTTOM]
    for readout in camera.readouts(exposure):  # the corner says in words what the place says
        rows, cols = readout.place
        assert readout.corner == f"{'upper' if rows.step == -1 else 'lower'}-right"
        assert cols.step == -1
        assert (rows.step == -1) == (readout.name[1] == "1")


def test_two_tables_for_one_detector_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\n[detectors.a]\nnames = ["x", "y"]\ngain = 1.0\n[detectors.y]\ngain = 2.0\n'
    )
    (finding,) = check(path)
    assert finding.what == "two tables describe the detector 'y'"


def test_a_mistake_in_a_shared_table_is_told_once_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\n[detectors.all]\nnames = ["x", "y"]\nshape = [9, 9]\n'
        '[[detectors.all.amplifiers]]\nname = "L"\ndata = "[1:10,1:9]"\n'
    )
    (finding,) = check(path)
    assert (finding.place, finding.line) == ("detectors.all.amplifiers[0].data", 7)


# --- focal plane and levels ---


def test_the_focal_plane_counts_from_the_lower_left() -> None:
    plane = load("comcam").focal_plane
    assert plane is not None
    assert [plane.where(str(n)) for n in range(9)] == [divmod(n, 3) for n in range(9)]
    assert plane.offset("0", (4000, 4072)) == (0, 0)
    assert plane.offset("5", (4000, 4072)) == (4225, 2 * 4225)  # 42.25 mm of 0.01 mm
    assert plane.offset("7", (80, 192), gap=(2, 3)) == (2 * 82, 195)
    assert plane.shape((80, 192), gap=(2, 3)) == (3 * 80 + 2 * 2, 3 * 192 + 2 * 3)
    with pytest.raises(ConfigError, match="no detector '9'"):
        plane.where("9")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[focal_plane]\nrows = [["0", "0"]]', "detector '0' stands in 2 places"),
        ('[focal_plane]\nrows = [["0"], ["1", "2"]]', "as many in each row"),
        ("[focal_plane]\nrows = []", "as many in each row"),
        ('[focal_plane]\nrows = [["0", "soth"]]', "no detector is called 'soth' (did you mean 'south'?)"),
        ('[focal_plane]\nrows = [["0"]]\ngap = [-1, 0]', "greater than or equal to 0"),
        ("[levels]\nbias = [1, 1]", "positive and rising"),
        ("[levels]\nbias = [0, 1]", "positive and rising"),
        ("[levels]\nbias = []", "positive and rising"),
        ("[levels]\nbias = [nan]", "positive and rising"),
        ("[levels]\nbias = [1, 2, 3, 4]", "up to 3 numbers"),
        ("[levels]\ndefect = [1]", "unknown kind 'defect' (did you mean 'defects'?)"),
    ],
)
def test_mistakes_in_focal_plane_and_levels(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        f'name = "mine"\n{text}\n[detectors.0]\nshape = [9, 9]\n[detectors.south]\nshape = [9, 9]'
    )
    (finding,) = check(path)
    assert words in finding.what
    assert finding.level == "error" and finding.line is not None


def test_levels_add_to_those_of_the_extended_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nextends = "generic-ccd"\n[levels]\nflat = [0.5, 2]\n')
    assert load(path).levels == {**load("generic-ccd").levels, "flat": (0.5, 2.0)}


def test_a_plane_of_one_detector() -> None:
    plane = FocalPlane(rows=(("0",),))
    assert plane.shape((10, 20)) == (10, 20)


# --- pixels ---


def test_every_amplifier_comes_to_its_place_the_right_way_round(tmp_path: Path) -> None:
    exposures = Exposures.scan(write(tmp_path), "comcam")
    frame = overscan.apply(exposures.frame(0), instrument=exposures.instrument, parallel=True)
    expected = detector_image()
    data = np.asarray(frame.data)
    assert data.shape == (2 * ROWS, 8 * COLS)
    for row in (0, ROWS - 1, ROWS, 2 * ROWS - 1):
        for col in (edge for k in range(8) for edge in (COLS * k, COLS * (k + 1) - 1)):
            assert data[row, col] == expected[row, col], (row, col)
    np.testing.assert_array_equal(data, expected)
    assert not np.asarray(frame.dq).any()


def test_reading_by_steps_gives_the_same(tmp_path: Path) -> None:
    exposures = Exposures.scan(write(tmp_path), "comcam")
    corrected = exposures.through(overscan.step(exposures[0], instrument=exposures.instrument))
    np.testing.assert_array_equal(loaded(corrected), detector_image())


def test_a_raw_file_is_read_as_one_frame(tmp_path: Path) -> None:
    frame = cal.read(write(tmp_path))
    assert isinstance(frame, cal.Frame)
    assert (frame.exposure.instrument, frame.exposure.identifier) == ("comcam", "2024110800246")
    np.testing.assert_array_equal(overscan.apply(frame).data, detector_image())
    assert isinstance(again := cal.read(frame.name, instrument=load("comcam")), cal.Frame)
    assert again.exposure == frame.exposure
    with pytest.raises(cal.errors.FileError, match="holds 16 images"):
        cal.read(write(tmp_path, name="other.fits", INSTRUME="another"))


def test_gains_are_those_of_the_units(tmp_path: Path) -> None:
    exposures = Exposures.scan(write(tmp_path), "comcam")
    readouts = exposures.instrument.readouts(exposures[0])
    gains = {readout.name: readout.gain for readout in readouts}
    assert [gains["C10"], gains["C00"]] == pytest.approx([1.3, 1.45])


def test_strips_lie_where_the_file_has_them_if_no_card_says(tmp_path: Path) -> None:
    exposures = Exposures.scan(write(tmp_path), "comcam")
    first = exposures.instrument.readouts(exposures[0])[0]
    data = slice(PRESCAN, PRESCAN + COLS)
    assert first.prescan == (slice(0, ROWS), slice(0, PRESCAN))
    assert first.overscan == (slice(0, ROWS), slice(PRESCAN + COLS, PRESCAN + COLS + SERIAL))
    assert first.parallel_overscan == (slice(ROWS, ROWS + PARALLEL), data)


def test_no_rows_beyond_the_data_are_no_strip(tmp_path: Path) -> None:
    units = [(name, raw[:ROWS], cards) for name, raw, cards in amplifiers()]
    exposures = Exposures.scan(write(tmp_path, units), "comcam")
    assert exposures.instrument.readouts(exposures[0])[0].parallel_overscan is None
    frame = overscan.apply(exposures.frame(0), instrument=exposures.instrument, parallel=True)
    np.testing.assert_array_equal(frame.data, detector_image())


def test_sections_of_the_instrument_file_are_not_repeated_in_the_exposure() -> None:
    camera = load("comcam")
    headers = {
        amp.name: {
            "NAXIS": 2, "NAXIS1": 576, "NAXIS2": 2048,
            "DATASEC": amp.data, "BIASSEC": amp.overscan, "DETSEC": amp.place, "GAIN": 1.4, "RDNOISE": 6.0,
        }
        for amp in camera.detectors["0"].amplifiers
    }  # fmt: skip
    exposure = camera.with_amplifiers(camera.exposure(PRIMARY), headers)
    assert exposure.shape == (2048, 16 * 576)
    assert not [key for key in exposure.keys if key.startswith(("data_of", "place_of"))]
    turned = {**headers, "C10": {**headers["C10"], "DETSEC": "[1:509,4000:2001]"}}
    other = camera.with_amplifiers(camera.exposure(PRIMARY), turned)
    assert camera.readouts(other)[0].place[1].step is None
    assert camera.readouts(exposure)[0].place[1].step == -1


def test_without_sections_in_the_headers_those_of_the_file_hold(tmp_path: Path) -> None:
    units = [(name, raw, {"GAIN": 1.4}) for name, raw, _ in amplifiers()]
    exposures = Exposures.scan(write(tmp_path, units), "comcam")
    assert exposures[0].shape == (2048, 16 * 576)
    with pytest.raises(cal.errors.ShapeError, match=r"reaches outside the image of HDU 'Segment10'"):
        exposures.sources()


def test_a_frame_of_ours_among_raws_is_one_assembled_image(tmp_path: Path) -> None:
    exposures = Exposures.scan(write(tmp_path), "comcam")
    frame = overscan.apply(exposures.frame(0), instrument=exposures.instrument)
    cal.write(frame, tmp_path / "done.fits")
    found = Exposures.scan(tmp_path / "done.fits", "comcam")
    assert found.problems == ()
    assert found[0].shape == (2 * ROWS, 8 * COLS)
    np.testing.assert_array_equal(found.frame(0).load().data, detector_image())
    np.testing.assert_array_equal(loaded(found), detector_image())


# --- sections that are wrong ---


def changed(index: int, **cards: Any) -> Amplifiers:
    units = amplifiers()
    name, raw, own = units[index]
    own = {key: value for key, value in {**own, **cards}.items() if value is not None}
    units[index] = (name, raw, own)
    return units


@pytest.mark.parametrize(
    ("index", "cards", "words"),
    [
        (2, {"DATASEC": None}, "the HDU of amplifier C12 has no DATASEC"),
        (0, {"DATASEC": None}, "the HDU of amplifier C10 has no DATASEC"),
        (15, {"DETSEC": None}, "the HDU of amplifier C00 has no DETSEC"),
        (1, {"DETSEC": place_of("10")}, "the amplifiers C10 and C11 have the same place"),
        (3, {"DETSEC": "[1:10,1:40]"}, "the DATASEC of amplifier C13 has another size than its DETSEC"),
        (4, {"BIASSEC": "[28:60,1:40]"}, "the overscan section of amplifier C14 lies outside its image"),
        (5, {"DATASEC": "4:27,1:40"}, "the data section of amplifier C15 cannot be read"),
        (6, {"DETSEC": "[0:23,1:40]"}, "the place section of amplifier C16 cannot be read"),
    ],
)
def test_wrong_sections_are_one_sentence(
    index: int, cards: dict[str, Any], words: str, tmp_path: Path
) -> None:
    sentence = problem(tmp_path, changed(index, **cards))
    assert words in sentence
    assert str(tmp_path / "raw.fits") in sentence
    assert "\n" not in sentence


def test_images_of_several_sizes_are_told(tmp_path: Path) -> None:
    units = amplifiers()
    units[7] = (units[7][0], units[7][1][:, :-1], units[7][2])
    assert "the images of the amplifiers differ in size" in problem(tmp_path, units)


def test_a_gap_between_the_amplifiers_is_told(tmp_path: Path) -> None:
    places = {index: place_of(name).replace("1:40]", "101:140]") for index, name in enumerate(TOP + BOTTOM)}
    units = amplifiers()
    units = [(n, raw, {**own, "DETSEC": places[i]}) for i, (n, raw, own) in enumerate(units)]
    exposures = Exposures.scan(write(tmp_path, units), "comcam")
    with pytest.raises(cal.errors.ShapeError, match=r"do not tile|same place"):
        overscan.apply(exposures.frame(0), instrument=exposures.instrument)


def test_the_instrument_file_fits_a_small_raft(tmp_path: Path) -> None:
    assert fit("comcam", write(tmp_path)) == []
    path = write(tmp_path, changed(15, DETSEC=None), name="bad.fits")
    (finding,) = fit("comcam", path)
    assert "the HDU of amplifier C00 has no DETSEC" in str(finding)
    assert finding.place == "detectors.default" and finding.line is not None


# --- recipe ---


def test_the_recipe_suits_the_instrument() -> None:
    found = recipe.load(load("comcam").recipe)
    steps = [step for step in found.steps if found.enabled(step)]
    assert steps == [
        "overscan", "crosstalk", "bias", "linearity", "amplifier_offsets", "charge_transfer", "read_noise",
        "dark", "flat", "illumination", "defects", "gain", "brighter_fatter", "fringe_frame",
    ]  # fmt: skip
    assert overscan.model_of(found.options("overscan")["parallel"]) is not None
    switched = recipe.load("comcam", {"steps_options.cosmic_rays.enabled": "true"})
    assert switched.enabled("cosmic_rays")
