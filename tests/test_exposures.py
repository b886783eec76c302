"""Exposures: scanning, selecting, grouping; bad input gives one clear sentence each."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibrant.errors import (
    ConfigError,
    FileError,
    HeaderError,
    OptionError,
    SelectionError,
    ShapeError,
)
from calibrant.exposures import Exposures
from calibrant.files.fits import write_raw
from calibrant.frame import Exposure, Frame


def write(path: Path, value: int = 1000, shape: tuple[int, int] = (4, 6), **cards: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    given = {"IMAGETYP": "Dark Frame", "EXPTIME": 60.0, "CCD-TEMP": -10.0, **cards}
    named = {key.replace("_", "-"): card for key, card in given.items() if card is not None}
    write_raw(path, np.full(shape, value, np.uint16), named)
    return path


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Three biases, four darks of two times, two flats of two filters, one light in a folder below."""
    folder = tmp_path / "night"
    for n in range(3):
        write(folder / f"b{n}.fit", 1000 + n, IMAGETYP="Bias Frame", EXPTIME=0.0, CCD_TEMP=-10.2 + 0.2 * n)
    for n, time in enumerate((60, 60, 300, 300.1)):
        stamp = f"2020-01-01T0{n}:00:00"
        write(folder / f"d{n}.FTS", 1100 + n, EXPTIME=time, DATE_OBS=stamp, CCD_TEMP=-10 + 4 * (n == 3))
    for n, name in enumerate("RV"):
        write(folder / f"f{n}.fits", 9000 + n, IMAGETYP="flat", EXPTIME=2.5, FILTER=name)
    write(folder / "more" / "l0.fit", 1500, IMAGETYP="object", EXPTIME=120.0, FILTER="R", XBINNING=1)
    (folder / "notes.txt").write_text("not an image")
    return folder


# --- scanning ---


def test_a_folder_is_read_with_its_folders(night: Path) -> None:
    exposures = Exposures.scan(night)
    assert repr(exposures) == "<Exposures: 3 bias, 4 dark, 2 flat, 1 light of generic-ccd>"
    assert exposures.problems == ()
    assert [Path(path).name for path in exposures.paths[:3]] == ["b0.fit", "b1.fit", "b2.fit"]
    assert exposures[0].shape == (4, 6)
    assert len(Exposures.scan(night, recursive=False)) == 9


def test_no_pixel_is_read(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = os.pread
    monkeypatch.setattr(
        os, "pread", lambda file, count, at: read.append((at, count)) or real(file, count, at)
    )
    exposures = Exposures.scan(night).where(kind="dark").sort("start")
    exposures.group_by("exptime", "temperature")
    exposures.sources()
    assert {at for at, _ in read} == {0} and max(count for _, count in read) <= 4 * 2880


def test_globs_lists_and_several_paths(night: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("# biases\nnight/b0.fit\n\nnight/b[12].fit  # two more\n")
    assert len(Exposures.scan(f"@{listed}")) == 3
    assert len(Exposures.scan([night / "more", night / "d*.FTS"])) == 5
    assert len(Exposures.scan(str(night / "**" / "*.fit"))) == 4


def test_progress_is_told(night: Path) -> None:
    said: list[tuple[int, int, str]] = []
    Exposures.scan(night, progress=lambda *told: said.append(told))
    assert said[-1] == (10, 10, "headers") and len(said) == 10


def test_files_that_cannot_be_used_are_problems_not_the_end(night: Path) -> None:
    (night / "empty.fit").write_bytes(b"")
    (night / "words.fit").write_text("hello " * 1000)
    whole = (night / "b0.fit").read_bytes()
    (night / "short.fit").write_bytes(whole[: 2880 + 10])
    write(night / "bad.fit", EXPTIME="long")
    exposures = Exposures.scan(night)
    assert len(exposures) == 10
    told = {Path(problem.path).name: problem.sentence for problem in exposures.problems}
    assert set(told) == {"empty.fit", "words.fit", "short.fit", "bad.fit"}
    assert "empty" in told["empty.fit"] and "not a FITS" in told["words.fit"]
    assert "ends early" in told["short.fit"]
    assert "EXPTIME is not a number: got 'long'" in told["bad.fit"] and "bad.fit" in told["bad.fit"]
    assert "4 files could not be used" in repr(exposures)
    with pytest.raises(SelectionError, match="and 3 more files"):
        Exposures.from_paths([night])


def test_an_empty_folder_gives_an_empty_table(tmp_path: Path) -> None:
    exposures = Exposures.scan(tmp_path)
    assert len(exposures) == 0 and repr(exposures) == "<Exposures: none>"
    assert exposures.epoch is None and exposures.group_by("kind") == {}
    for call in (exposures.sources, lambda: exposures.one("kind"), lambda: exposures.shape):
        with pytest.raises(SelectionError, match="there are no exposures"):
            call()


def test_a_missing_path_is_an_error_alone_and_a_problem_beside_others(night: Path) -> None:
    with pytest.raises(FileError, match="no such file or folder"):
        Exposures.scan(night / "nowhere")
    with pytest.raises(FileError, match="no file matches"):
        Exposures.scan(str(night / "x*.fit"))
    exposures = Exposures.scan([night / "b0.fit", night / "nowhere"])
    assert len(exposures) == 1 and "no such file" in exposures.problems[0].sentence


def test_an_unreadable_folder_is_told(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    closed = "more"
    exposures = Exposures.scan(night)
    assert len(exposures) == 9
    assert "the folder cannot be read (Permission denied)" in exposures.problems[0].sentence
    closed = "night"
    with pytest.raises(FileError, match="the folder cannot be read"):
        Exposures.scan(night)


def test_a_file_given_twice_is_used_once_and_told(night: Path) -> None:
    exposures = Exposures.scan([night, night / "b0.fit"])
    assert len(exposures) == 10
    assert "b0.fit: the file was given twice, and is used once" in exposures.problems[0].sentence


def test_copies_under_other_names_are_found_by_their_pixels(night: Path) -> None:
    write(night / "copy.fit", 1101, EXPTIME=60, DATE_OBS="2020-01-01T01:00:00", OBSERVER="another")
    (same,) = Exposures.scan(night).duplicates()
    assert [Path(path).name for path in same] == ["copy.fit", "d1.FTS"]
    assert Exposures.scan(night / "more").duplicates() == []


@pytest.mark.parametrize("form", ["csv", "toml", "mapping"])
def test_the_user_may_state_the_kinds(form: str, night: Path, tmp_path: Path) -> None:
    table: Any = tmp_path / f"kinds.{form}"
    if form == "csv":
        table.write_text("file, kind, lamp\nb*.fit, arc, hg\nb2.fit, light,\n")
    elif form == "toml":
        table.write_text('"b*.fit" = { kind = "arc", lamp = "hg" }\n"b2.fit" = "light"\n')
    else:
        table = {"b*.fit": {"kind": "arc", "lamp": "hg"}, "b2.fit": "light"}
    exposures = Exposures.scan(night, kinds=table)[:3]
    assert [exposure.kind for exposure in exposures] == ["arc", "arc", "light"]
    assert exposures.where(lamp="hg")[0].kind == "arc"


def test_a_broken_table_of_kinds_is_told(night: Path, tmp_path: Path) -> None:
    table = tmp_path / "kinds.csv"
    table.write_text("name,sort\na,b\n")
    with pytest.raises(ConfigError, match="needs the columns file and kind"):
        Exposures.scan(night, kinds=table)
    with pytest.raises(ConfigError, match="cannot be read"):
        Exposures.scan(night, kinds=tmp_path / "none.csv")


def test_the_instrument_may_be_found_in_the_headers(tmp_path: Path) -> None:
    write(tmp_path / "one" / "flat1.fit", INSTRUME="SBIG STL-1001 3 CCD Camera", IMAGETYP="Light Frame")
    assert Exposures.scan(tmp_path / "one", "auto")[0].kind == "flat"
    write(tmp_path / "one" / "another.fit", INSTRUME="other", IMAGETYP="Light Frame")
    found = Exposures.scan(
        tmp_path / "one", "auto"
    )  # one foreign file, though it comes first, changes nothing
    assert found.instrument.name == "stl1001" and found[0].kind == "flat" and len(found) == 1
    assert "another.fit: left out: it is of no instrument that is known" in found.problems[0].sentence
    write(tmp_path / "one" / "third.fit", INSTRUME="other", IMAGETYP="Light Frame")
    found = Exposures.scan(tmp_path / "one", "auto")
    assert found.instrument.name == "generic-ccd" and len(found) == 2
    assert "it is of stl1001, and the files here were read as of generic-ccd" in found.problems[0].sentence
    assert len(Exposures.scan(tmp_path / "one", "stl1001")) == 3


# --- selecting ---


@pytest.mark.parametrize(
    "facts, count",
    [
        ({"kind": "dark"}, 4),
        ({"kind": ["bias", "dark"]}, 7),
        ({"kind": ("bias", "flat"), "temperature": -10}, 5),
        ({"exptime": 300}, 2),
        ({"exptime": (60, 120)}, 3),
        ({"temperature": -10.5}, 9),
        ({"temperature": -6}, 1),
        ({"filter": None}, 7),
        ({"filter": lambda name: name == "V"}, 1),
        ({"binning": (1, 1)}, 10),
        ({"binning": 2}, 0),
        ({"file": "d*"}, 4),
        ({"applied": "dark"}, 0),
    ],
)
def test_facts_select(facts: dict[str, Any], count: int, night: Path) -> None:
    assert len(Exposures.scan(night).where(**facts)) == count


@pytest.mark.parametrize(
    "text, count",
    [
        ("kind=dark", 4),
        ("kind == 'dark' and exptime > 100", 2),
        ("kind=dark or kind=bias", 7),
        ("kind = dark & !(exptime >= 300)", 2),
        ("not kind=dark", 6),
        ("kind in [bias, flat]", 5),
        ("exptime in (60, 300)", 4),
        ("temperature=-10.5 and temperature<=-10", 8),
        ("filter != R", 8),
        ("filter=R or filter=V and exptime<1", 2),
        ("file ~ '^d[01]'", 2),
        ("file = *.FTS", 4),
        ("binning=1x1", 10),
        ("start > 2020-01-01T00:30:00", 3),
        ("time < '2020-01-01T02:30:00'", 3),
        ("mid<2020-01-01T00:00:31", 1),
    ],
)
def test_text_selects(text: str, count: int, night: Path) -> None:
    assert len(Exposures.scan(night).where(text)) == count


@pytest.mark.parametrize(
    "text, words",
    [
        ("exptme>3", "did you mean 'exptime'"),
        ("kind=", "it ends where a value should stand"),
        ("kind", "it ends where a comparison should stand"),
        ("(kind=dark", "a parenthesis is not closed"),
        ("kind=dark exptime>3", "'exptime' does not belong there"),
        ("kind in dark", "after 'in' comes a list"),
        ("exptime>long", "exptime is a number, and 'long' is none"),
        ("file ~ '('", "not a regular expression"),
        ("", "it is empty"),
        ("kind='dark", "cannot read"),
        ("__import__('os')=1", "exposures have no fact '__import__'"),
    ],
)
def test_text_that_cannot_be_understood_is_told(text: str, words: str, night: Path) -> None:
    with pytest.raises(OptionError) as caught:
        Exposures.scan(night).where(text)
    assert words in str(caught.value)


def test_an_unknown_fact_is_told_with_the_nearest(night: Path) -> None:
    exposures = Exposures.scan(night)
    for call in (
        lambda: exposures.where(filtre="R"),
        lambda: exposures.group_by("filtre"),
        lambda: exposures.sort("filtre"),
        lambda: exposures.table(["filtre"]),
    ):
        with pytest.raises(OptionError, match="did you mean 'filter'"):
            call()


def test_a_function_selects(night: Path) -> None:
    assert len(Exposures.scan(night).where(lambda e: e.duration == 2.5, filter="R")) == 1


# --- grouping, sorting, tables ---


def test_groups_are_cut_at_the_tolerance(night: Path) -> None:
    exposures = Exposures.scan(night)
    groups = exposures.where(kind=["bias", "dark"]).group_by("kind", "temperature", "exptime")
    assert {key: len(part) for key, part in groups.items()} == {
        ("bias", -10.0, 0.0): 3,
        ("dark", -10.0, 60.0): 2,
        ("dark", -10.0, 300.0): 1,
        ("dark", -6.0, 300.1): 1,
    }
    assert exposures.values("temperature") == [-10.0, -6.0]
    assert exposures.values("filter") == ["R", "V", None]
    assert sum(len(part) for part in exposures.group_by("filter", "binning").values()) == len(exposures)


def test_one_value_or_the_files_that_differ(night: Path) -> None:
    exposures = Exposures.scan(night)
    assert exposures.where(kind="dark", exptime=60).one("exptime") == 60.0
    assert exposures.where(kind="bias").one("temperature") == -10.0
    with pytest.raises(
        SelectionError, match=r"mixed exptime: 60.0 in d0.FTS, d1.FTS; 300.05 in d2.FTS, d3.FTS"
    ):
        exposures.where(kind="dark").one("exptime")


def test_sorting_by_several_facts(night: Path) -> None:
    exposures = Exposures.scan(night).sort("-exptime", "file")
    assert [row["file"] for row in exposures.table(["file"])][:4] == ["d3.FTS", "d2.FTS", "l0.fit", "d0.FTS"]
    assert Exposures.scan(night).sort("-start")[0].get("time") == "2020-01-01T03:00:00.000Z"
    assert Exposures.scan(night).sort("start")[-1].start is None


def test_a_table_of_facts(night: Path) -> None:
    row = Exposures.scan(night).where(kind="light").table(["file", "kind", "exptime", "binning", "shape"])[0]
    assert row == {"file": "l0.fit", "kind": "light", "exptime": 120.0, "binning": (1, 1), "shape": (4, 6)}
    html = Exposures.scan(night)._repr_html_()
    assert html.count("<tr>") == 11 and "<td>1x1</td>" in html and "<td>300.1</td>" in html


def test_slices_indices_and_sums(night: Path) -> None:
    exposures = Exposures.scan(night)
    darks = exposures.where(kind="dark")
    assert isinstance(exposures[2], Exposure) and len(exposures[2:5]) == 3
    assert [e.path for e in exposures.take([5, 1])] == [exposures[5].path, exposures[1].path]
    assert len(darks + exposures.where(kind="bias")) == 7
    with pytest.raises(SelectionError, match="two instruments"):
        _ = darks + Exposures.scan(night, "stl1001")
    assert len(pickle.loads(pickle.dumps(exposures))) == 10


def test_the_epoch_is_the_mean_of_the_middles(night: Path) -> None:
    darks = Exposures.scan(night).where(kind="dark", exptime=60)
    begin = 1577836800_000_000  # 2020-01-01
    assert darks.epoch == begin + (30 + 3600 + 30) * 1_000_000 // 2


def test_a_missing_fact_is_told_with_its_keywords(night: Path) -> None:
    write(night / "no.fit", EXPTIME=None)
    exposures = Exposures.scan(night)
    assert exposures.where(file="no.fit")[0].duration is None
    with pytest.raises(
        HeaderError, match=r"no.fit: no card says the exptime: expected one of EXPTIME, EXPOSURE"
    ):
        exposures.require("kind", "exptime")


def test_mixed_binning_and_sizes_are_told_with_their_files(night: Path) -> None:
    write(night / "e0.fit", XBINNING=2, YBINNING=2)
    write(night / "e1.fit", shape=(5, 6))
    darks = Exposures.scan(night).where(kind="dark")
    with pytest.raises(
        SelectionError, match=r"mixed binning: \(1, 1\) in d0.FTS.* and 2 more; \(2, 2\) in e0.fit"
    ):
        darks.sources()
    with pytest.raises(ShapeError, match=r"4 x 6 in d0.FTS.*; 5 x 6 in e1.fit"):
        darks.where(binning=1).sources()


def test_frames_in_memory_work_as_files_do() -> None:
    frames = [
        Frame(
            np.full((3, 4), n, np.float32),
            exposure=Exposure(kind="dark", duration=float(n), identifier=f"n{n}"),
        )
        for n in (1, 2, 2)
    ]
    exposures = Exposures.from_frames(frames)
    assert exposures.shape == (3, 4) and exposures.instrument.name == "generic-ccd"
    assert {key: len(part) for key, part in exposures.group_by("exptime").items()} == {(1.0,): 1, (2.0,): 2}
    assert exposures.where("exptime>1").frame(0) is not None
    assert exposures.inputs()[0].name == "n1" and (exposures.inputs()[0].hash or "").startswith("sha256:")
    assert exposures.duplicates() == [("n2", "n2")]


# --- several images in a file; the limit of the stored numbers ---


def amplifiers(path: Path, names: tuple[str, ...] = ("AMP1", "AMP2"), **more: Any) -> Path:
    planes = [(name, np.full((4, 6), 1000 + n, np.uint16), {}) for n, name in enumerate(names)]
    write_raw(path, None, {"IMAGETYP": "bias", "EXPTIME": 0.0}, planes)
    return path


def test_half_a_detector_is_not_dropped_in_silence(tmp_path: Path) -> None:
    amplifiers(tmp_path / "two.fit")
    found = Exposures.scan(tmp_path)
    assert len(found) == 0
    (problem,) = found.problems
    assert "holds 2 images (AMP1, AMP2) where one is wanted" in problem.sentence
    assert "form = 'amplifiers'" in problem.sentence
    assert "two.fit" in problem.sentence


def test_an_instrument_may_name_the_image(tmp_path: Path) -> None:
    amplifiers(tmp_path / "two.fit")
    mine = tmp_path / "mine.toml"
    mine.write_text('name = "mine"\nextends = "generic-ccd"\nlayout = { hdu = "AMP2" }\n')
    found = Exposures.scan(tmp_path / "two.fit", mine)
    assert found.problems == ()
    assert found.frame(0).load().data[0, 0] == 1001
    assert found.sources()[0].load()[0, 0] == 1001  # type: ignore[attr-defined]


@pytest.mark.parametrize("names", [("SCI", "ERR", "DQ"), ("IMAGE", "MASK", "VARIANCE"), ("", "WEIGHT")])
def test_planes_about_an_image_are_no_second_one(names: tuple[str, ...], tmp_path: Path) -> None:
    amplifiers(tmp_path / "one.fits", names)
    found = Exposures.scan(tmp_path)
    assert found.problems == ()
    assert len(found) == 1


@pytest.mark.parametrize(
    ("dtype", "top"), [("u2", 65535), ("u1", 255), ("i2", 32767), ("i4", None), ("f4", None)]
)
def test_the_type_of_the_numbers_limits_them(dtype: str, top: float | None, tmp_path: Path) -> None:
    write_raw(tmp_path / "f.fit", np.ones((4, 6), dtype), {"IMAGETYP": "flat", "EXPTIME": 1.0})
    found = Exposures.scan(tmp_path)
    assert found[0].saturation == top
    assert found.instrument.nominal(found[0]).saturation == top


def test_a_stated_limit_counts_before_that_of_the_type(tmp_path: Path) -> None:
    write(tmp_path / "stated.fit", SATURATE=50000)
    assert Exposures.scan(tmp_path)[0].saturation == 50000
    mine = tmp_path / "mine.toml"
    mine.write_text('name = "mine"\nextends = "generic-ccd"\n[detectors.default]\nsaturation = 40000\n')
    write(tmp_path / "plain.fit")
    found = Exposures.scan(tmp_path / "plain.fit", mine)
    assert found.instrument.nominal(found[0]).saturation == 40000
