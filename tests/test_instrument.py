"""Instruments: headers and file names translated into facts, with dictionaries as headers."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from calibrant.errors import ConfigError, HeaderError
from calibrant.instrument import Instrument, load, names, recognise
from calibrant.instrument.sections import binned, bounds, format_section, overlap, parse_section

PLAIN = {"NAXIS": 2, "NAXIS1": 765, "NAXIS2": 255}


def make(text: str, folder: Path) -> Instrument:
    path = folder / "mine.toml"
    path.write_text('name = "mine"\n' + text)
    return load(path)


def generic(**cards: Any) -> Any:
    return load("generic-ccd").exposure({**PLAIN, **cards}, "x.fit")


@pytest.mark.parametrize("name", names())
def test_all_that_come_with_us_load_and_travel(name: str) -> None:
    instrument = load(name)
    assert instrument.name == name
    assert pickle.loads(pickle.dumps(instrument)) == instrument
    assert {"bias", "dark", "flat"} <= set(instrument.match)


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'generic-ccd'"):
        load("generic-cdd")
    with pytest.raises(ConfigError, match="no such instrument file"):
        load("nowhere/my.toml")


# --- families of keywords ---

FAMILIES = {
    "IRAF": {"IMAGETYP": "zero", "EXPTIME": 0, "CCDSUM": "2 1", "FILTERS": "x", "GAIN": 1.5, "RDNOISE": 4.2},
    "MaxIm": {"IMAGETYP": "Bias Frame", "EXPOSURE": 0.0, "XBINNING": 2, "YBINNING": 1, "EGAIN": 1.5},
    "CCDSoft": {"IMAGETYP": "Bias Frame   ", "EXPTIME": "0.0", "CCDXBIN": 2, "CCDYBIN": 1, "E-GAIN": 1.5},
    "NINA": {"IMAGETYP": "BIAS", "EXPTIME": 0, "CCDSUM": "2 1", "GAIN": 100, "OFFSET": 10, "EGAIN": 1.5},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_keywords_say_the_same(family: str) -> None:
    exposure = generic(**FAMILIES[family])
    assert (exposure.kind, exposure.duration, exposure.binning, exposure.gain) == ("bias", 0.0, (1, 2), 1.5)
    assert exposure.shape == (255, 765)
    assert exposure.dark_time == 0.0


@pytest.mark.parametrize(
    "text, kind",
    [
        ("Dark Frame", "dark"),
        ("DARK", "dark"),
        ("flat_field", "flat"),
        ("Flat Field", "flat"),
        ("object", "light"),
        ("comp", "arc"),
        ("soup", "unknown"),
    ],
)
def test_kinds_are_blind_to_case_and_space(text: str, kind: str) -> None:
    assert generic(IMAGETYP=text).kind == kind


def test_gain_is_a_setting_where_an_offset_stands_beside_it() -> None:
    cmos, ccd = generic(GAIN=100, OFFSET=10), generic(GAIN=1.5)
    assert (cmos.gain, cmos.gain_setting, cmos.offset_setting) == (None, "100", "10")
    assert ccd.gain == 1.5


def test_gain_in_adu_per_electron_is_turned_over(tmp_path: Path) -> None:
    instrument = make('[header.gain]\nkeywords = ["CONAD"]\nunit = "adu/electron"', tmp_path)
    assert instrument.exposure({"CONAD": 0.5}).gain == 2.0
    assert instrument.exposure({"CONAD": 0}).gain is None


def test_units_and_polynomials(tmp_path: Path) -> None:
    text = """
    [header.temperature]
    keywords = ["TEMP", { keyword = "VOLT", unit = "C" }]
    unit = "K"
    [header.exptime]
    keywords = ["MSEC"]
    unit = "ms"
    [header.darktime]
    keywords = ["VOLTAGE"]
    polynomial = [1, 2, 3]
    """
    instrument = make(text, tmp_path)
    first = instrument.exposure({"TEMP": 263.15, "MSEC": 1500, "VOLTAGE": 2})
    assert first.temperature == pytest.approx(-10.0)
    assert (first.duration, first.dark_time) == (1.5, 1 + 2 * 2 + 3 * 4)
    assert instrument.exposure({"VOLT": -3}).temperature == -3.0


def test_darktime_counts_before_the_exposure_time() -> None:
    assert generic(EXPTIME=10, DARKTIME=12).dark_time == 12.0
    assert generic(EXPTIME=10).dark_time == 10.0


def test_missing_facts_are_none_never_zero() -> None:
    exposure = generic()
    for fact in ("duration", "dark_time", "temperature", "filter", "gain", "start", "mode"):
        assert exposure.get(fact) is None


@pytest.mark.parametrize("value", ["N/A", "", "unknown", "nan", float("inf")])
def test_cards_that_say_nothing_are_passed_over(value: Any) -> None:
    assert generic(**{"CCD-TEMP": value, "DETTEMP": -5}).temperature == -5.0


def test_a_card_that_cannot_be_read_is_told() -> None:
    with pytest.raises(HeaderError, match=r"x\.fit: EXPTIME is not a number: got 'long'"):
        generic(EXPTIME="long")
    with pytest.raises(HeaderError, match="DATE-OBS is not a date"):
        generic(**{"DATE-OBS": "yesterday night"})


@pytest.mark.parametrize(
    "cards",
    [
        {"DATE-OBS": "2017-10-18T04:10:07.926", "TIME-OBS": "11:11:11"},
        {"DATE-OBS": "2017-10-18", "TIME-OBS": "04:10:07.926"},
        {"DATE-OBS": "2017-10-18", "UT": "04:10:07.926"},
        {"DATE-BEG": "2017-10-18T04:10:07.926"},
        {"DATE-OBS": "2017-10-18T04:10:44.926", "TIMESYS": "TAI"},
        {"MJD-OBS": 58044.17370284722},
    ],
)
def test_times(cards: dict[str, Any]) -> None:
    assert generic(**cards).time == "2017-10-18T04:10:07.926Z"


def test_the_middle_of_the_exposure() -> None:
    exposure = generic(**{"DATE-OBS": "1970-01-01T00:00:00", "EXPTIME": 3.0})
    assert exposure.mid == 1_500_000


# --- marks of what was done ---


@pytest.mark.parametrize(
    "history", ["Auto-Dark Subtraction", "one\nAuto-Dark Subtraction", ["a", "AUTO-DARK SUBTRACTION"]]
)
def test_a_dark_taken_away_in_the_camera_is_seen(history: Any) -> None:
    assert generic(HISTORY=history).applied == {"bias", "dark"}


def test_marks_of_reduction_packages() -> None:
    assert generic(CALSTAT="BDF").applied == {"bias", "dark", "flat"}
    assert generic(CALSTAT="D").applied == {"dark"}
    assert generic(ZEROCOR="Mar 2 10:32 Zero is Zero.fits").applied == {"bias"}
    assert generic(HISTORY="taken by night").applied == frozenset()


# --- names of files ---


@pytest.mark.parametrize(
    "name, kind",
    [
        ("Bias-001.fts", "bias"),
        ("Dark-001.fts", "dark"),
        ("M51_R_flat.fit", "flat"),
        ("M51-4.solved.fits", "light"),
    ],
)
def test_names_say_the_kind_before_the_header(name: str, kind: str) -> None:
    header = {**PLAIN, "IMAGETYP": "Light Frame" if kind != "light" else "Dark Frame"}
    assert load("thacher").exposure(header, f"/somewhere/{name}").kind == kind


@pytest.mark.parametrize(
    "name, kind, setting",
    [
        ("L2-flat-red-180.00000001.FIT", "flat", "neon"),
        ("L2-flat-hg-360.00000001.FIT", "flat", "hg"),
        ("L2-sci-neon-1200.00000001.FIT", "light", "neon"),
        ("L2-arc-neon.00000000.FIT", "arc", "neon"),
        ("L2-star-hg-10.00000000.FIT", "star", "hg"),
        ("L2-dark-flat-360.00000000.DARK.FIT", "dark", None),
    ],
)
def test_the_spectrograph_names_its_setting(name: str, kind: str, setting: str | None) -> None:
    instrument = load("st402")
    exposure = instrument.exposure({**PLAIN, "IMAGETYP": "Light Frame"}, name)
    assert (exposure.kind, exposure.get("setting")) == (kind, setting)
    assert "setting" in instrument.match["flat"]
    assert "setting" not in instrument.match["dark"]


def test_rules_of_ones_own_come_before_those_that_are_extended(tmp_path: Path) -> None:
    text = """
    extends = "generic-ccd"
    [[kinds.rule]]
    regex = "^night1_([a-z]+)_"
    map = { "obj" = "light", "zer" = "bias" }
    [[kinds.rule]]
    file = "sky/*"
    kind = "flat"
    """
    instrument = make(text, tmp_path)
    header = {"IMAGETYP": "dark"}
    assert instrument.exposure(header, "/a/night1_zer_3.fit").kind == "bias"
    assert instrument.exposure(header, "/a/night1_foo_3.fit").kind == "dark"
    assert instrument.exposure(header, "/a/sky/3.fit").kind == "flat"
    assert instrument.exposure({}, "/a/3.fit").kind == "unknown"


def test_headers_are_recognised() -> None:
    assert recognise({"INSTRUME": "SBIG STL-1001 3 CCD Camera"}) == "stl1001"
    assert recognise({"INSTRUME": "SBIG ST-402 CCD Camera"}) == "st402"
    assert recognise({"INSTRUME": "another"}) == recognise({}) == "generic-ccd"


# --- nominal values and sameness ---


def test_nominal_values_come_from_the_header_first(tmp_path: Path) -> None:
    text = """
    extends = "generic-ccd"
    [detectors.main]
    gain = 2.0
    read_noise = 10.0
    [[detectors.main.amplifiers]]
    name = "L"
    data = "[1:10,1:20]"
    read_noise = 4.0
    [[detectors.main.amplifiers]]
    name = "R"
    data = "[11:20,1:20]"
    read_noise = 6.0
    """
    instrument = make(text, tmp_path)
    assert instrument.nominal(instrument.exposure({})) == (2.0, 5.0, None)
    stated = instrument.exposure({"EGAIN": 1.1, "SATURATE": 5e4})
    assert instrument.nominal(stated) == (1.1, 5.0, 5e4)


def test_sameness_is_within_the_tolerance() -> None:
    instrument = load("generic-ccd")
    assert instrument.same("temperature", -10.2, -9.8)
    assert not instrument.same("temperature", -10.2, -9.0)
    assert instrument.same("exptime", 300.0, 300.2) and instrument.same("duration", 300.0, 300.2)
    assert not instrument.same("exptime", 300.0, 301.0)
    assert instrument.same("filter", None, None) and not instrument.same("filter", "R", None)


# --- amplifiers ---

TWO = """
[detectors.main]
shape = [20, 28]
gain = 1.5
[[detectors.main.amplifiers]]
name = "L"
data = "[1:10,1:20]"
overscan = "[11:14,1:20]"
[[detectors.main.amplifiers]]
name = "R"
data = "[28:19,1:20]"
overscan = "[15:18,1:20]"
gain = 1.6
"""


def test_amplifiers_become_slices(tmp_path: Path) -> None:
    instrument = make(TWO, tmp_path)
    left, right = instrument.readouts(instrument.exposure({"NAXIS": 2, "NAXIS1": 28, "NAXIS2": 20}))
    assert left.data == (slice(0, 20), slice(0, 10)) and left.overscan == (slice(0, 20), slice(10, 14))
    assert right.data == (slice(0, 20), slice(27, 17, -1))
    assert (left.gain, right.gain) == (1.5, 1.6)
    # What lies between the data is taken out where they are put together.
    assert left.place == (slice(0, 20), slice(0, 10)) and right.place == (slice(0, 20), slice(10, 20))


def test_amplifiers_of_a_binned_image(tmp_path: Path) -> None:
    instrument = make(TWO, tmp_path)
    header = {"NAXIS": 2, "NAXIS1": 14, "NAXIS2": 10, "XBINNING": 2, "YBINNING": 2}
    left, right = instrument.readouts(instrument.exposure(header))
    assert left.data == (slice(0, 10), slice(0, 5))
    assert right.data == (slice(0, 10), slice(13, 8, -1))


def test_a_section_outside_the_image_is_told(tmp_path: Path) -> None:
    instrument = make(TWO, tmp_path)
    with pytest.raises(HeaderError, match="lies outside the image: expected within 10 x 28"):
        instrument.readouts(instrument.exposure({"NAXIS": 2, "NAXIS1": 28, "NAXIS2": 10}, "a.fit"))


def test_sections_may_stand_in_the_header() -> None:
    instrument = load("generic-ccd")
    header = {"NAXIS": 2, "NAXIS1": 28, "NAXIS2": 20, "TRIMSEC": "[1:24,1:20]", "BIASSEC": "[25:28,1:20]"}
    (readout,) = instrument.readouts(instrument.exposure(header))
    assert readout.data == (slice(0, 20), slice(0, 24)) and readout.overscan == (slice(0, 20), slice(24, 28))
    (whole,) = instrument.readouts(generic())
    assert whole.data == (slice(None), slice(None)) and whole.overscan is None
    broken = instrument.exposure({**header, "TRIMSEC": "all of it"}, "a.fit")
    with pytest.raises(HeaderError, match=r"a\.fit: all of it in the header"):
        instrument.readouts(broken)


@pytest.mark.parametrize(
    "text", ["[1:28,1:20]", "[28:1,20:1]", "[3:7,9:2]", "[*,1:4]", "[-*,*]", "[5:5,3:3]"]
)
def test_sections_go_there_and_back(text: str) -> None:
    assert parse_section(format_section(parse_section(text))) == parse_section(text)


def test_sections_cover_what_they_say() -> None:
    assert bounds(parse_section("[7:3,*]"), (20, 30)) == (0, 20, 2, 7)
    assert binned(parse_section("[4:9,1:20]"), (2, 3)) == (slice(0, 10), slice(1, 3))
    assert overlap(parse_section("[5:1,1:5]"), parse_section("[5:9,5:9]"), (20, 20))
    assert not overlap(parse_section("[5:1,1:5]"), parse_section("[6:9,5:9]"), (20, 20))


def test_text_where_a_number_could_stand_is_passed_over_but_not_for_times() -> None:
    exposure = generic(GAIN="High", BIAS="zero.fits", RDNOISE="low", EXPTIME=3)
    assert (exposure.gain, exposure.gain_setting, exposure.read_noise, exposure.get("pedestal")) == (
        None,
        "High",
        None,
        None,
    )


def test_an_overscan_in_the_header_leaves_the_wider_side_for_the_data() -> None:
    instrument = load("generic-ccd")
    for text, columns in (("[25:28,1:20]", slice(0, 24)), ("[1:4,1:20]", slice(4, 28))):
        header = {"NAXIS": 2, "NAXIS1": 28, "NAXIS2": 20, "BIASSEC": text}
        (readout,) = instrument.readouts(instrument.exposure(header))
        assert readout.data == (slice(0, 20), columns)


def test_amplifiers_in_units_of_their_own_stand_side_by_side(tmp_path: Path) -> None:
    text = TWO.replace("[28:19,1:20]", "[11:2,1:20]").replace("[15:18,1:20]", "[12:14,1:20]")
    text = text.replace("shape = [20, 28]", "shape = [20, 14]")
    text = text.replace('name = "L"', 'name = "L"\nhdu = 1\nplace = "[1:10,1:20]"')
    text = text.replace('name = "R"', 'name = "R"\nhdu = 2\nplace = "[11:20,1:20]"')
    instrument = make('[layout]\nform = "amplifiers"\n' + text, tmp_path)
    exposure = instrument.exposure({"NAXIS": 0, "XBINNING": 2, "YBINNING": 1})
    assert exposure.shape == (20, 14)
    left, right = instrument.readouts(exposure)
    assert (left.data[1], left.overscan) == (slice(0, 5), (slice(0, 20), slice(5, 7)))
    assert (right.data[1], right.overscan) == (slice(11, 7, -1), (slice(0, 20), slice(13, 14)))
    assert (left.place[1], right.place[1]) == (slice(0, 5), slice(5, 10))


def test_instruments_are_frozen() -> None:
    instrument = copy.deepcopy(load("generic-ccd"))
    with pytest.raises(ValueError, match="frozen"):
        instrument.name = "other"
