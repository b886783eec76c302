"""Files that hold several exposures as planes: facts from names and tables, versions, and bad files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from calibrant.cli.app import app
from calibrant.errors import OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.files.fits import write_raw
from calibrant.frame import iso_time
from calibrant.instrument import check, load
from calibrant.registry import Registry
from calibrant.simulate.dark_pair_file import simulate

NAME = "mvn_iuv_l1b_cruisecal2-mode080-muv_20140521T120029_v00_r00.fits"
CASE = (
    (1.8195, -6.221e-3, 1.6259e-7, -7.3832e-11, -2.9933e-16),
    (450.47, -6.5734e-2, 3.3093e-6, -5.4216e-11, -2.933e-16),
)


def cube(planes: int = 3, shape: tuple[int, int] = (4, 6)) -> np.ndarray:
    return np.random.default_rng(planes).integers(0, 70_000, (planes, *shape)).astype(np.int32)


def write(
    folder: Path, name: str = NAME, darks: np.ndarray | None = None, tables: dict | None = None
) -> Path:
    """A file of darks, with such tables as are given."""
    units = [] if darks is None else [("detector_dark", darks, {})]
    units += [(table, columns, {}) for table, columns in (tables or {}).items()]
    write_raw(folder / name, None, {}, units)
    return folder / name


def scan(path: Path) -> Exposures:
    return Exposures.scan(path, "iuvs")


def ls(*words) -> object:
    return CliRunner().invoke(app, ["ls", *map(str, words), "--instrument", "iuvs"])


# --- planes ---


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_each_plane_is_an_exposure(tmp_path, suffix):
    darks = cube()
    found = scan(write(tmp_path, NAME + suffix, darks))
    assert [(one.kind, one.get("plane"), one.get("order")) for one in found] == [
        ("dark", 0, "first"),
        ("dark", 1, "later"),
        ("dark", 2, "later"),
    ]
    assert found.shape == (4, 6)
    for plane, frame in enumerate(found.frames()):
        np.testing.assert_array_equal(frame.load().data, darks[plane])
    sources = found.sources()
    band = np.empty((2, 6), sources[2].encoding.dtype)
    sources[2].read_into(slice(1, 3), band)
    np.testing.assert_array_equal(band, darks[2, 1:3])


def test_a_single_image_is_a_cube_of_one(tmp_path):
    dark = cube(1)[0]
    found = scan(write(tmp_path, darks=dark, tables={"dark_integration": {"DET_TEMP_C": np.array([-12.5])}}))
    assert [(one.get("plane"), one.shape, one.temperature) for one in found] == [(0, (4, 6), -12.5)]
    np.testing.assert_array_equal(found.frame(0).load().data, dark)


def test_lights_stand_beside_darks_where_there_are_any(tmp_path):
    darks, lights = cube(2), cube(2) + 5
    temperatures = {"DET_TEMP_C": np.array([-10.0, -11.0])}
    write_raw(
        tmp_path / NAME,
        None,
        {},
        [("detector_raw", lights, {}), ("detector_dark", darks, {}), ("dark_integration", temperatures, {})],
    )
    found = scan(tmp_path / NAME)
    assert [(one.kind, one.temperature) for one in found] == [
        ("dark", -10.0),
        ("dark", -11.0),
        ("light", None),  # the table describes the darks, though there are as many lights
        ("light", None),
    ]
    np.testing.assert_array_equal(found.where(kind="light").frame(1).load().data, lights[1])


def test_files_without_darks_are_said(tmp_path):
    write_raw(tmp_path / NAME, None, {}, [("detector_raw", cube(), {})])
    write_raw(tmp_path / NAME.replace("v00", "v01"), None, {}, [("detector_dark", cube()[None], {})])
    found = scan(tmp_path)
    assert len(found) == 0
    without, deep = sorted(found.problems, key=lambda problem: problem.path)
    assert "the file has no image 'detector_dark'" in without.sentence and "DETECTOR_RAW" in without.sentence
    assert "a cube has the axes plane, row and column" in deep.sentence and "1 x 3 x 4 x 6" in deep.sentence


# --- facts ---


@pytest.mark.parametrize(
    ("phase", "facts"),
    [
        (
            "apoapse-orbit01234-mode080-muv",
            {"segment": "apoapse", "cycle_orbit": "orbit01234", "orbit": 1234.0, "mode": "mode080"},
        ),
        (
            "cruisecal2-mode080-muv",
            {"segment": "cruisecal2", "cycle_orbit": "mode080", "mode": "mode080", "orbit": None},
        ),
        (
            "periapse-orbit00099-muv",
            {"segment": "periapse", "cycle_orbit": "orbit00099", "orbit": 99.0, "mode": None},
        ),
        ("outlimb-muv", {"segment": "outlimb", "cycle_orbit": None, "mode": None}),
    ],
)
def test_the_grammar_of_names(tmp_path, phase, facts):
    for suffix, stage in (("_v07_r03.fits", "production"), ("_v07_s03.fits.gz", "stage")):
        name = f"mvn_iuv_l1b_{phase}_20140521T120029{suffix}"
        (one,) = scan(write(tmp_path, name, cube(1)))
        assert {key: one.get(key) for key in facts} == facts
        assert one.identifier == f"mvn_iuv_l1b_{phase}_20140521T120029"
        assert (one.get("level"), one.get("channel"), one.detector) == ("l1b", "muv", "muv")
        assert (one.get("version"), one.get("revision"), one.get("stage")) == (7, 3, stage)
        assert iso_time(one.start) == "2014-05-21T12:00:29.000Z"


@pytest.mark.parametrize(("channel", "detector"), [("fuv", "fuv"), ("ech", "fuv"), ("muvdark", "muv")])
def test_channels_have_their_detectors(tmp_path, channel, detector):
    (one,) = scan(write(tmp_path, NAME.replace("muv_", f"{channel}_"), cube(1)))
    assert (one.get("channel"), one.detector) == (channel, detector)


def test_other_names_say_nothing(tmp_path):
    (one,) = scan(write(tmp_path, "dark.fits", cube(1)))
    assert one.kind == "dark" and one.get("version") is None and one.identifier is None and one.start is None


@pytest.mark.parametrize("joint", ["_", ""])
def test_temperatures_by_their_formulas(tmp_path, joint):
    numbers = np.array([2557, 2500, 2400], np.int32)
    case = np.array([100, 8191, 8192], np.int32)
    table = {f"dark{joint}engineering": {"DET_TEMP": numbers, "CASE_TEMP": case}}
    found = scan(write(tmp_path, darks=cube(), tables=table))
    for one, number, other in zip(found, numbers, case, strict=True):
        assert one.temperature == pytest.approx(-0.0749 * number + 174.08, abs=1e-9)
        branch = CASE[0] if other < 8192 else CASE[1]
        expected = sum(c * float(other) ** power for power, c in enumerate(branch))
        assert one.get("case_temperature") == pytest.approx(expected, abs=1e-9)
    assert found[1].get("case_temperature") < -50 < 50 < found[2].get("case_temperature")


def test_degrees_count_before_numbers(tmp_path):
    tables = {
        "dark_engineering": {"DET_TEMP": np.array([2557] * 3)},
        "dark_integration": {
            "DET_TEMP_C": np.array([-17.0, -16.0, -15.0]),
            "UTC": np.array([f"2014/141 May 21 11:5{minute}:00.25000UTC" for minute in range(3)]),
        },
        "binning": {
            "SPABINWIDTH": np.array([[60, 16, 16, 90]], np.int16),
            "SPEBINWIDTH": np.array([[9, 3, 3, 3, 3, 9]], np.int16),
        },
        "observation": {"INT_TIME": np.array([4.2]), "MCP_VOLT": np.array([-1.83])},
    }
    found = scan(write(tmp_path, darks=cube(), tables=tables))
    assert [one.temperature for one in found] == [-17.0, -16.0, -15.0]
    assert iso_time(found[1].start) == "2014-05-21T11:51:00.250Z"
    assert found.one("binning") == (16, 3) and found.one("exptime") == 4.2
    assert found.one("mcp_volt") == -1.83


def test_rows_that_are_not_those_of_the_planes_say_nothing(tmp_path):
    table = {"dark_integration": {"DET_TEMP_C": np.array([-17.0, -16.0])}}
    assert [one.temperature for one in scan(write(tmp_path, darks=cube(), tables=table))] == [None] * 3


# --- versions ---


def versions(folder: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        write(folder, NAME.replace("_v00_r00", suffix), cube(2))


@pytest.mark.parametrize(
    ("suffixes", "newest"),
    [
        (("_v01_r00", "_v00_r09"), "_v01_r00"),  # version first
        (("_v00_s09", "_v00_r01"), "_v00_r01"),  # then production, though s sorts behind r
        (("_v01_s00", "_v00_r05"), "_v01_s00"),  # a version counts before production
        (("_v00_r02", "_v00_r10"), "_v00_r10"),
        (("_v9_r00", "_v10_r00"), "_v10_r00"),  # numbers, not text
        (("_v00_r99", "_v00_r100"), "_v00_r100"),
        (("_v00", "_v00_s00"), "_v00_s00"),
        (("_v01", "_v00_r03"), "_v01"),
    ],
)
def test_the_newest_version(tmp_path, suffixes, newest):
    for order in (suffixes, suffixes[::-1]):
        folder = tmp_path / order[0]
        folder.mkdir()
        versions(folder, *order)
        found = scan(folder).newest()
        assert {Path(path).name for path in found.paths} == {NAME.replace("_v00_r00", newest)}
        assert [one.get("plane") for one in found] == [0, 1]


def test_a_version_without_revision_is_said_where_it_lost(tmp_path):
    versions(tmp_path, "_v00", "_v00_r00")
    found = scan(tmp_path)
    assert len(found) == 4 and not found.problems
    (problem,) = found.newest().problems
    assert "does not say its production and revision" in problem.sentence and "_v00.fits" in problem.path


def test_other_observations_stay(tmp_path):
    versions(tmp_path, "_v00_r00", "_v00_r01")
    write(tmp_path, NAME.replace("120029", "130029"), cube(1))
    write(tmp_path, "one.fits", cube(1))
    write(tmp_path, "two.fits", cube(1))
    found = scan(tmp_path).newest()
    assert sorted({Path(path).name[-24:] for path in found.paths}) == sorted(
        {NAME.replace("_r00", "_r01")[-24:], NAME.replace("120029", "130029")[-24:], "one.fits", "two.fits"}
    )


def test_equally_new_files_are_refused(tmp_path):
    versions(tmp_path, "_v00_r00")
    (tmp_path / "copy").mkdir()
    versions(tmp_path / "copy", "_v00_r00")
    with pytest.raises(SelectionError, match="equally new") as error:
        scan(tmp_path).newest()
    assert "copy" in str(error.value)


def test_instruments_that_know_no_versions(tmp_path):
    write_raw(tmp_path / "a.fits", cube(1)[0])
    with pytest.raises(OptionError, match="does not say how versions"):
        Exposures.scan(tmp_path).newest()


# --- the command ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("raw")
    raw, _ = simulate(out, seed=1, lights=2)
    (out / raw.name.replace("_r00", "_s01")).write_bytes(raw.read_bytes())
    (out / raw.name.replace("muv", "fuv")).write_bytes(raw.read_bytes())
    return out


def test_ls_shows_each_dark(folder):
    told = ls(folder, "--where", "kind = dark and file ~ cruisecal2-mode080-muv", "--newest")
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert lines[0].split()[:8] == [
        "file",
        "plane",
        "kind",
        "order",
        "channel",
        "exptime",
        "temperature",
        "case_temperature",
    ]
    assert [line.split()[1:8] for line in lines[2:]] == [
        ["0", "dark", "first", "muv", "60", "-17.2", "1.19895"],
        ["1", "dark", "later", "muv", "60", "-17", "1.19895"],
        ["2", "dark", "later", "muv", "60", "-14.8", "1.19895"],
    ]
    assert all(line.startswith(NAME) for line in lines[2:])


def test_files_are_recognised_by_their_names(folder, tmp_path):
    assert Exposures.scan(folder, "auto").instrument.name == "iuvs"
    write(tmp_path, "dark.fits", cube(1)[0])
    assert Exposures.scan(tmp_path, "auto").instrument.name == "generic-ccd"


def test_ls_finds_by_pattern(folder):
    for where in ("file = '*cruisecal2-mode080-muv*'", "file ~ cruisecal2-mode080-muv", "channel = muv"):
        told = ls(folder, "--where", f"{where} and kind = dark", "--json")
        assert len(json.loads(told.stdout)["exposures"]) == 6, where
    assert json.loads(ls(folder, "--where", "file ~ mode081", "--json").stdout)["exposures"] == []


def test_ls_without_versions_leaves_a_sentence(tmp_path):
    write_raw(tmp_path / "a.fits", cube(1)[0])
    told = CliRunner().invoke(app, ["ls", str(tmp_path), "--newest", "--instrument", "generic-ccd"])
    assert told.exit_code == 2 and "does not say how versions" in told.stderr


# --- the instrument file ---


def test_the_file_has_no_mistakes():
    assert check("iuvs") == []
    assert load("iuvs").newest.rank == ("version", "production", "revision")


def test_mistakes_in_such_files_are_found(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nextends = "iuvs"\ncolumns = ["fiel"]\nfile_name = "("\n'
        '[newest]\ngroup = ["identifier"]\nrank = ["versoin"]\n'
    )
    told = [str(finding) for finding in check(path)]
    assert any("did you mean 'file'" in line for line in told)
    assert any("did you mean 'version'" in line for line in told)
    assert any("not a regular expression" in line for line in told)


def test_a_registry_records_the_file_once_and_says_so(folder, tmp_path):
    raw = sorted(folder.glob("*-muv_*_r00*"))[0]
    registry = Registry.create(tmp_path / "r.db")
    done = registry.ingest(Exposures.scan(raw, "iuvs"))
    assert (done.new, done.moved) == (1, 0)
    assert any("several exposures" in note for note in done.notes)
