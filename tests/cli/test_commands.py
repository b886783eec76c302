"""Every command as a person uses it: text, --json, --quiet, --overwrite."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest

from calibrant.files.fits import read

OFF = ("--set", "steps_options.cosmic_rays.enabled=false", "--no-plots")


def tidy(text):
    """No line ends in blanks, none is broken, none holds control characters."""
    assert all(line == line.rstrip() for line in text.splitlines())
    assert "\x1b" not in text
    return text


# --- ls ---


def test_ls_tells_what_is_there(calibrant, raw):
    told = calibrant("ls", raw)
    assert told.code == 0
    lines = tidy(told.out).splitlines()
    assert lines[0].split() == ["file", "kind", "exptime", "filter", "temperature", "time"]
    assert len(lines) == 2 + 17  # heads, rule, sixteen frames and the truth
    assert lines[2].split()[:3] == ["bias-001.fit", "bias", "0"]
    assert told.err == "16 exposures and 1 of our products (all: binning 1x1, shape 64x128)\n"


def test_ls_keys_where_sort(calibrant, raw):
    told = calibrant("ls", raw, "-k", "kind,exptime", "--where", "kind=flat", "--sort", "exptime")
    rows = [line.split() for line in told.out.splitlines()[2:]]
    assert [row[1] for row in rows] == ["flat"] * 5
    times = [float(row[2]) for row in rows]
    assert times == sorted(times)
    assert told.out.splitlines()[0].split() == ["file", "kind", "exptime"]


def test_ls_json(calibrant, raw):
    told = calibrant("ls", raw, "--json", "--where", "exptime>10 and kind=dark")
    assert [row["exptime"] for row in told.json["exposures"]] == [60.0] * 4
    assert told.json["problems"] == []
    assert told.err == ""


def test_ls_csv(calibrant, raw, frame, tmp_path):
    told = calibrant("ls", raw, "--csv", "-k", "file,kind,binning,temperature")
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert rows[0]["file"] == "bias-001.fit" and rows[0]["binning"] == "1x1"
    assert len(rows) == 17
    frame("good.fit")
    (tmp_path / "empty.fit").write_bytes(b"")
    told = calibrant("ls", tmp_path, "--csv")
    assert "empty.fit: the file is empty" in told.err and "empty.fit" not in told.out


def test_ls_of_a_list_and_quiet(calibrant, raw, tmp_path):
    (tmp_path / "list.txt").write_text(f"# darks\n{raw}/dark-60s-001.fit\n{raw}/dark-60s-002.fit\n")
    assert len(calibrant("ls", f"@{tmp_path}/list.txt", "--json").json["exposures"]) == 2
    told = calibrant("ls", raw, "--quiet")
    assert (told.code, told.out, told.err) == (0, "", "")


def test_duplicates_are_used_once_and_told(calibrant, raw):
    told = calibrant("ls", raw / "bias-001.fit", raw / "bias-001.fit", "--json")
    assert len(told.json["exposures"]) == 1
    assert "given twice" in told.json["problems"][0]["problem"]


# --- reduce ---


@pytest.fixture(scope="module")
def night(calibrant, raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("night") / "out"
    return out, calibrant("reduce", raw, "--out", out, "--set", "steps_options.cosmic_rays.enabled=false")


def test_reduce_writes_folders_and_a_table(night):
    out, told = night
    assert told.code == 0 and told.err == ""
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "masters",
        "calibrated",
        "plots",
        "summary.json",
    }
    text = tidy(told.out)
    assert "5 bias, 4 dark, 5 flat, 2 light (generic-ccd)" in text
    assert "calibrated frames: overscan, bias, dark, flat, defects, gain" in text
    assert "spiral-R-001" in text and "flat_R" in text
    assert "note: bias: made of 5 frames; at least 10 are advised for a bias" in text
    assert text.count("spiral-R-001") == 1
    pictures = {path.name for path in (out / "plots").iterdir()}
    assert {"masters.png", "sequence.png", "histogram.png", "spiral-R-001.png", "bias_drift.png"} <= pictures


def test_a_second_reduce_draws_nothing_again(calibrant, raw, night):
    out, _ = night
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.suffix in (".png", ".fits")}
    told = calibrant(
        "reduce", raw, "--out", out, "--set", "steps_options.cosmic_rays.enabled=false", "--json"
    )
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert all(entry["reused"] for entry in told.json["masters"] + told.json["frames"])
    assert len(told.json["pictures"]) == len(list((out / "plots").iterdir()))


def test_a_picture_that_is_older_than_its_frame_is_drawn_again(calibrant, raw, tmp_path):
    words = ("reduce", raw, "--out", tmp_path / "out", "--quiet")
    off = ("--set", "steps_options.cosmic_rays.enabled=false")
    calibrant(*words, *off)
    picture = tmp_path / "out" / "plots" / "spiral-R-001.png"
    first = picture.read_bytes()
    gain = ("--set", "steps_options.gain.enabled=false", "--overwrite")
    calibrant(*words, *off, *gain, "--no-plots")
    assert picture.read_bytes() == first
    calibrant(*words, *off, *gain)
    assert picture.read_bytes() != first


def test_reduce_json_is_summary_json(calibrant, raw, tmp_path):
    told = calibrant("reduce", raw, "--out", tmp_path / "out", "--json", *OFF)
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {**told.json, "pictures": None} == {**found, "pictures": None}
    assert told.err == "" and told.json["pictures"] == []


def test_reduce_without_science_frames_is_no_failure(calibrant, raw, tmp_path):
    import shutil

    folder = shutil.copytree(raw, tmp_path / "raw")
    for path in folder.glob("spiral-*"):
        path.unlink()
    told = calibrant("reduce", folder, "--out", tmp_path / "out")
    assert told.code == 0
    assert told.out.count("there are no science frames: only masters were made") == 1


def test_reduce_missing_flats(calibrant, raw, tmp_path):
    import shutil

    folder = shutil.copytree(raw, tmp_path / "raw")
    for path in folder.glob("flat-*"):
        path.unlink()
    words = ("reduce", folder, "--out", tmp_path / "out", *OFF)
    told = calibrant(*words)
    assert told.code == 2
    assert told.sentence.startswith(
        "calibrations are missing: no flat (none at all) for spiral-R-001.fit, spiral-R-002.fit;"
    )
    told = calibrant(*words, "--allow-missing")
    assert told.code == 0 and "no_flat" in told.out
    assert "without flat: spiral-R-001.fit, spiral-R-002.fit" in told.out


def test_reduce_other_options_need_overwrite(calibrant, raw, night):
    out, _ = night
    words = ("reduce", raw, "--out", out, *OFF, "--set", "measure.bias.method=median")
    told = calibrant(*words)
    assert told.code == 2
    assert "bias.fits: the file was made of other frames or with other options" in told.sentence
    assert "--overwrite" in told.sentence


# --- combine, debug-pixel, show ---


def test_combine(calibrant, four, tmp_path):
    out = tmp_path / "master.fits"
    told = calibrant("combine", *four, "--method", "median", "--out", out)
    assert told.code == 0 and tidy(told.out).endswith(f"written: {out}\n")
    images = [read(path).load().data for path in four]
    frame = read(out).load()
    np.testing.assert_array_equal(frame.data, np.median(images, axis=0).astype(np.float32))
    told = calibrant("combine", *four, "--out", out)
    assert told.code == 2 and "exists already" in told.sentence
    assert calibrant("combine", *four, "--out", out, "--overwrite", "--quiet") == (0, "", "")


def test_combine_json_options_and_section(calibrant, four, tmp_path):
    told = calibrant(
        "combine", *four, "--out", tmp_path / "m.fits", "--json", "--method", "mean",
        "--reject", "minmax:1,1",
        "--scale", "median", "--section", "[1:20,1:10]", "--budget", "64MB", "--jobs", "1",
    )  # fmt: skip
    assert told.json["frames"] == 2 and told.json["rejected"] == 2 * 24 * 32
    assert told.json["shape"] == [24, 32] and told.json["unit"] == "adu"


def test_combine_with_given_numbers(calibrant, four, tmp_path):
    calibrant(
        "combine", *four, "-o", tmp_path / "m.fits", "--method", "sum", "--scale", "1,1,2,0.5", "--quiet"
    )
    images = [read(path).load().data for path in four]
    expected = images[0] + images[1] + 2 * images[2] + 0.5 * images[3]
    np.testing.assert_allclose(read(tmp_path / "m.fits").load().data, expected, rtol=1e-6)


def test_debug_pixel(calibrant, four):
    told = calibrant("debug-pixel", *four, "--row", "3", "--col", "5")
    assert told.code == 0 and "3" in told.out
    value = float(np.median([read(path).load().data[3, 5] for path in four]))
    assert f"{value:g}" in told.out
    assert calibrant("debug-pixel", *four, "--row", "3", "--col", "5", "--json").json


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_show(calibrant, four, tmp_path, ending):
    out = tmp_path / f"x.{ending}"
    told = calibrant("show", four[0], "--out", out, "--limits", "900,1100")
    assert told.code == 0 and told.out == f"written: {out}\n"
    assert out.read_bytes()[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0")
    assert calibrant("show", four[0], "--out", out).code == 2
    assert calibrant("show", four[0], "--out", out, "--overwrite", "--json").json == {"out": str(out)}


@pytest.mark.parametrize("plane", ["variance", "dq", "count"])
def test_show_planes(calibrant, four, tmp_path, plane):
    calibrant("combine", *four, "-o", tmp_path / "m.fits", "--quiet")
    assert calibrant("show", tmp_path / "m.fits", "-o", tmp_path / "x.png", "--plane", plane).code == 0


# --- simulate, instrument ---


def test_simulate(calibrant, tmp_path):
    words = ("simulate", "ccd-night", "--out", tmp_path / "raw", "--seed", "3", "--size", "48")
    told = calibrant(*words, "--json")
    assert told.json["files"] == 44 and told.json["truth"].startswith("sha256:")
    again = calibrant(*words)
    assert again.code == 2 and "exists already" in again.sentence
    assert calibrant(*words, "--overwrite", "--json").json["truth"] == told.json["truth"]


def test_instruments(calibrant, tmp_path):
    told = calibrant("instrument", "ls", "--json")
    assert {row["name"] for row in told.json} >= {"generic-ccd", "thacher", "stl1001", "st402"}
    text = calibrant("instrument", "print", "stl1001").out
    mine = tmp_path / "mine.toml"
    mine.write_text(text.replace('name = "stl1001"', 'name = "mine"'))
    told = calibrant("instrument", "check", mine)
    assert told.code == 0 and told.err == f"{mine}: no mistakes found.\n"
    mine.write_text(text.replace("[match]", "[mtach]") + "\n[mtach2]\n")
    told = calibrant("instrument", "check", mine)
    assert told.code == 2
    assert "line" in told.err and "unknown key 'mtach2'" in told.err
    assert calibrant("instrument", "check", mine, "--json").json["findings"]


# --- the program ---


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom calibrant.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as left:\n    assert not left.code\n"
        "heavy = {'numpy', 'astropy', 'numba', 'scipy', 'matplotlib', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in ("ls", "reduce", "combine", "debug-pixel", "show", "simulate", "instrument"):
        assert command in done.stdout


@pytest.mark.parametrize(
    "words", [["ls"], ["reduce"], ["combine"], ["show"], ["debug-pixel"], ["simulate", "ccd-night"],
              ["instrument", "ls"], ["instrument", "print"], ["instrument", "check"]],
)  # fmt: skip
def test_every_command_has_the_four_options(calibrant, words):
    told = calibrant(*words, "--help")
    assert told.code == 0
    for option in ("--quiet", "--json", "--debug", "--overwrite"):
        assert option in told.out


def test_version(calibrant):
    assert calibrant("--version").out.startswith("calibrant 0.")


def test_an_instrument_is_tried_on_a_file(calibrant, frame, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('name = "mine"\nextends = "generic-ccd"\n[detectors.default]\nshape = [24, 32]\n')
    raw = frame("a.fit")
    told = calibrant("instrument", "check", mine, "--with", raw)
    assert told.code == 0 and told.err == f"{mine}: no mistakes found, and it fits {raw}.\n"
    mine.write_text(mine.read_text().replace("32", "33"))
    told = calibrant("instrument", "check", mine, "--with", raw)
    assert told.code == 2 and f"line 4, detectors.default.shape: {raw}: the image of HDU 0" in told.err
