"""Bad input: each gives one clear sentence on standard error and the right exit code, and no traceback."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

NO_IMAGE = (
    b"".join(
        line.ljust(80)
        for line in (
            b"SIMPLE  =                    T",
            b"BITPIX  =                    8",
            b"NAXIS   =                    0",
            b"END",
        )
    )
).ljust(2880)


@pytest.fixture
def bad(frame, tmp_path):
    """Bad files by name."""

    def make(name):
        path = tmp_path / f"{name}.fit"
        if name == "truncated":
            whole = frame("whole.fit")
            path.write_bytes(whole.read_bytes()[:3500])
            whole.unlink()
        elif name == "empty":
            path.write_bytes(b"")
        elif name == "text":
            path.write_bytes(b"no FITS at all\n" * 400)
        elif name == "no image":
            path.write_bytes(NO_IMAGE)
        elif name == "folder":
            path.mkdir()
            (path / "inside.txt").write_text("")
        return path

    return make


FILES = [
    ("truncated", r"truncated.fit: the file ends early: expected \d+ bytes, got 3500 bytes; copy it again"),
    ("empty", "empty.fit: the file is empty"),
    ("text", "text.fit: this is not a FITS file: it does not begin with SIMPLE"),
    ("no image", "no image.fit: the file holds no image: NAXIS is 0"),
    ("gone", "gone.fit: there is no such file or folder"),
]


@pytest.mark.parametrize(("name", "sentence"), FILES)
@pytest.mark.parametrize("command", ["combine", "show", "debug-pixel"])
def test_files_that_cannot_be_used(calibrant, four, bad, tmp_path, name, sentence, command):
    path = bad(name)
    out = ("--out", tmp_path / "out.png")
    words = {
        "combine": ("combine", *four, path, *out),
        "show": ("show", path, *out),
        "debug-pixel": ("debug-pixel", *four, path, "--row", 1, "--col", 1),
    }[command]
    told = calibrant(*words)
    assert told.code == 2
    assert told.out == ""
    if command == "show" and name == "gone":
        sentence = "gone.fit: there is no such file"
    assert re.search(sentence, told.sentence), told.sentence
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(("name", "sentence"), FILES[:-1])
def test_files_that_cannot_be_used_are_left_out_of_a_night_and_told(
    calibrant, four, bad, tmp_path, name, sentence
):
    path = bad(name)
    told = calibrant("ls", tmp_path, "--json")
    assert told.code == 0 and len(told.json["exposures"]) == 4
    (problem,) = told.json["problems"]
    assert problem["file"] == str(path) and re.search(sentence, problem["problem"])
    told = calibrant("reduce", tmp_path, "--out", tmp_path / "out", "--no-plots")
    assert told.code == 0
    assert re.search(f"left out: .*{sentence}", told.out)


def test_frames_of_several_sizes(calibrant, four, frame, tmp_path):
    other = frame("other.fit", np.zeros((12, 32), np.uint16))
    told = calibrant("combine", *four, other, "--out", tmp_path / "o.fits")
    assert told.code == 2
    assert "images of several sizes: 24 x 32 in g0.fit" in told.sentence
    assert "12 x 32 in other.fit" in told.sentence
    told = calibrant("reduce", tmp_path, "--out", tmp_path / "out", "--no-plots")
    assert told.code == 0  # each size has a master of its own
    names = sorted(path.name for path in (tmp_path / "out" / "masters").iterdir())
    assert len(names) == 2 and "12x32" in names[0] and "24x32" in names[1]


def test_mixed_binning(calibrant, four, frame, tmp_path):
    frame("binned.fit", XBINNING=2, YBINNING=2)
    told = calibrant("combine", *four, tmp_path / "binned.fit", "--out", tmp_path / "o.fits")
    assert told.code == 2 and "mixed binning" in told.sentence and "binned.fit" in told.sentence


def test_units_that_do_not_fit(calibrant, four, frame, tmp_path):
    frame("electrons.fit", BUNIT="electron")
    told = calibrant("combine", *four, tmp_path / "electrons.fit", "--out", tmp_path / "o.fits")
    assert told.code == 2
    assert "electrons.fit: images of different units cannot be combined" in told.sentence
    assert "'adu'" in told.sentence and "'electron'" in told.sentence


def test_planes_of_nan_are_no_data_and_never_a_silent_nan(calibrant, frame, tmp_path):
    from calibrant.files.fits import read
    from calibrant.frame import NO_DATA

    nothing = np.full((24, 32), np.nan, np.float32)
    nothing[0, 0] = np.inf
    paths = [frame(f"n{count}.fit", nothing) for count in range(3)]
    told = calibrant("combine", *paths, "--out", tmp_path / "o.fits", "--json")
    assert told.code == 0 and told.json["no_data"] == 24 * 32 and told.json["median"] is None
    assert np.all(read(tmp_path / "o.fits").load().dq & NO_DATA == NO_DATA)
    good = frame("good.fit")
    told = calibrant("combine", *paths, good, "--out", tmp_path / "p.fits", "--json")
    assert told.json["no_data"] == 0 and told.json["frames"] == 1


def test_missing_exposure_time(calibrant, frame, tmp_path):
    for count in range(3):
        frame(f"d{count}.fit", EXPTIME=None)
        frame(f"b{count}.fit", IMAGETYP="Bias Frame", EXPTIME=0.0)
    told = calibrant("ls", tmp_path, "--json", "--where", "kind=dark")
    assert [row["exptime"] for row in told.json["exposures"]] == [None] * 3
    told = calibrant("reduce", tmp_path, "--out", tmp_path / "out")
    # The darks are left out, each with its sentence; the biases are not held up by them.
    assert told.code == 0
    for count in range(3):
        assert f"left out: {tmp_path}/d{count}.fit" in told.out
    assert "exposure time" in told.out.lower()


def test_unknown_kinds(calibrant, frame, tmp_path):
    for count in range(2):
        frame(f"x{count}.fit", IMAGETYP="banana")
    told = calibrant("reduce", tmp_path, "--out", tmp_path / "out")
    assert told.code == 2
    assert "2 files of unknown kind; name the instrument, give a table with --kinds" in told.sentence
    (tmp_path / "kinds.csv").write_text("file;kind\n")
    told = calibrant("reduce", tmp_path, "--out", tmp_path / "out", "--kinds", tmp_path / "kinds.csv")
    assert told.code == 2 and "the table of kinds needs the columns file and kind" in told.sentence


@pytest.fixture
def lamps(frame):
    """Biases, and flats of a level."""

    def make(level, holes=False):
        rng = np.random.default_rng(4)
        for count in range(4):
            bias = rng.normal(1000, 3, (48, 64)).astype(np.uint16)
            frame(f"b{count}.fit", bias, IMAGETYP="Bias Frame", EXPTIME=0.0, EGAIN=1.5, SATURATE=60000)
            data = np.clip(rng.normal(level, max(np.sqrt(level), 1), (48, 64)), 0, 65535)
            if holes:
                data[10:12, 10:20] = 1000
            frame(
                f"f{count}.fit", data.astype(np.uint16), IMAGETYP="Flat Field", FILTER="R", EXPTIME=1.0,
                EGAIN=1.5, SATURATE=60000,
            )  # fmt: skip

    return make


@pytest.mark.parametrize(
    ("level", "sentence"),
    [
        (65000, "all pixels are saturated in every flat"),
        (900, "there is no light in every flat|no flat is usable"),
    ],
)
def test_flats_that_are_no_flats(calibrant, lamps, tmp_path, level, sentence):
    lamps(level)
    told = calibrant("reduce", tmp_path, "--out", tmp_path / "out", "--allow-missing", "--no-plots")
    assert told.code == 2
    assert re.search(sentence, told.sentence), told.sentence


def test_a_flat_with_zeros_is_held_at_its_floor_and_flagged(calibrant, lamps, tmp_path):
    from calibrant.files.fits import read
    from calibrant.frame import DQ

    lamps(20000, holes=True)
    told = calibrant(
        "reduce", tmp_path, "--out", tmp_path / "out", "--allow-missing", "--no-plots", "--quiet"
    )
    assert told.code == 0
    flat = read(tmp_path / "out" / "masters" / "flat_R.fits")
    assert np.all(flat.data > 0) and np.isfinite(flat.data).all()
    holes = flat.planes["dq"][10:12, 10:20]
    assert np.all(holes & (DQ.UNRELIABLE_FLAT | DQ.DEAD | DQ.LOW_QE))


def test_a_folder_that_cannot_be_read(calibrant, tmp_path, monkeypatch):
    """The super-user may read everything, so the system's answer is played."""
    import os

    folder = tmp_path / "closed"
    folder.mkdir()
    real = os.scandir

    def refuse(path="."):
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for words in (("ls", folder), ("reduce", folder, "--out", tmp_path / "out")):
        told = calibrant(*words)
        assert told.code == 2
        assert told.sentence.startswith(f"{folder}: the folder cannot be read (Permission denied)")


def test_an_output_in_the_way(calibrant, four, tmp_path):
    told = calibrant("combine", *four, "--out", four[0])
    assert told.code == 2
    assert told.sentence == f"{four[0]}: the file exists already; choose another name, or overwrite."


def test_an_output_that_cannot_be_written_is_failed_work(calibrant, four, tmp_path):
    told = calibrant("combine", *four, "--out", tmp_path / "no" / "o.fits")
    assert told.code == 1 and "the folder does not exist; make the folder first" in told.sentence
    (tmp_path / "file").write_text("")
    told = calibrant("reduce", tmp_path, "--out", tmp_path / "file")
    assert told.code == 1 and "the folder cannot be made" in told.sentence


def test_duplicated_files(calibrant, four, tmp_path):
    told = calibrant("combine", *four, four[0], "--out", tmp_path / "o.fits")
    assert told.code == 2
    assert told.sentence == f"{four[0]}: the file was given twice; give each file once."


OPTIONS = [
    (("--method", "medain"), "there is no such method: got 'medain'"),
    (("--reject", "sgima"), "there is no such rejection: got 'sgima'"),
    (("--reject", "sigma:3"), "cannot reject anything from 4 frames"),
    (("--reject", "sigma:3,wide=2"), "sigma has no option 'wide'"),
    (("--reject", "minmax:1,2,3"), "minmax takes at most 2 numbers"),
    (("--budget", "lots"), 'a memory budget is a size: expected such as "512MB"'),
    (
        ("--budget", "1kB"),
        "the memory budget is too small .* expected at least [0-9.]+ MB, got [0-9.]+ [kM]?B",
    ),
    (("--scale", "mode", "--section", "[1:3"), "section"),
    (("--scale", "1,2"), "scale"),
    (("--scale", "mdoe"), "no such statistic: got 'mdoe'"),
    (("--jobs", "-3"), "runner|jobs|workers"),
]


@pytest.mark.parametrize(("words", "sentence"), OPTIONS)
def test_options_without_meaning(calibrant, four, tmp_path, words, sentence):
    told = calibrant("combine", *four, "--out", tmp_path / "o.fits", *words)
    assert told.code == 2, told
    assert re.search(sentence, told.sentence), told.sentence
    assert not (tmp_path / "o.fits").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ls", "{raw}", "-k", "exptmie"), "exposures have no fact 'exptmie' (did you mean 'exptime'?)"),
        (("ls", "{raw}", "--where", "kind=="), "cannot be understood"),
        (("ls", "{raw}", "--sort", "nope"), "exposures have no fact 'nope'"),
        (("ls", "{raw}", "-i", "nope"), "no instrument is called 'nope'"),
        (("reduce", "{raw}", "-o", "{out}", "--recipe", "cdc"), "no recipe 'cdc'; did you mean 'ccd'?"),
        (("reduce", "{raw}", "-o", "{out}", "--set", "foo"), "a change of the recipe is name=value"),
        (("reduce", "{raw}", "-o", "{out}", "--set", "steps_options.gian.x=1"), "did you mean 'gain'?"),
        (("reduce", "{raw}", "-o", "{out}", "--set", "measure.dark.methd=mean"), "did you mean 'method'?"),
        (("reduce", "{raw}", "-o", "{out}", "--set", "steps_options.bias.x=1"), "option 'x'; it takes none"),
        (("reduce", "{raw}", "-o", "{out}", "--set", "measure.bias.method=medain"), "medain"),
        (("reduce", "{raw}", "-o", "{out}", "--budget", "lots"), "a memory budget is a size"),
        (("reduce", "{out}", "-o", "{out}"), "there is no such file or folder"),
        (("show", "{raw}/bias-001.fit", "-o", "{out}.txt"), "a picture is written as PNG or JPEG"),
        (("show", "{raw}/bias-001.fit", "-o", "{out}.png", "--plane", "dp"), "there is no plane 'dp'"),
        (("show", "{raw}/bias-001.fit", "-o", "{out}.png", "--limits", "zscael"), "zscael"),
        (("show", "{raw}/bias-001.fit", "-o", "{out}.png", "--cmap", "gery"), "gery"),
        (("debug-pixel", "{raw}/bias-001.fit", "--row", "900", "--col", "1"), "900"),
        (("instrument", "print", "nope"), "no instrument is called 'nope'"),
        (("simulate", "ccd-night", "-o", "{out}", "--size", "0"), "size|shape"),
    ],
)  # fmt: skip
def test_words_that_cannot_be_understood(calibrant, raw, tmp_path, words, sentence):
    told = calibrant(*(word.format(raw=raw, out=tmp_path / "out") for word in words))
    assert told.code == 2, told
    assert sentence in told.sentence or re.search(sentence, told.sentence), told.sentence


# --- how an error leaves the program ---


def test_an_error_as_json(calibrant, tmp_path):
    told = calibrant("ls", tmp_path / "gone", "--json")
    assert told.code == 2
    error = told.json["error"]
    assert error["type"] == "FileError" and error["exit_code"] == 2
    assert error["where"] == str(tmp_path / "gone") and error["what"] == "there is no such file or folder"
    assert error["message"] == told.sentence


def test_debug_shows_the_traceback(calibrant, tmp_path):
    told = calibrant("ls", tmp_path / "gone", "--debug")
    assert told.code == 2
    assert told.err.startswith("Traceback (most recent call last)")
    assert told.err.splitlines()[-1].startswith("calibrant: ")


def test_quiet_still_says_what_is_wrong(calibrant, tmp_path):
    assert calibrant("ls", tmp_path / "gone", "--quiet").sentence


def test_a_fault_of_ours_asks_for_a_report(calibrant, raw, monkeypatch):
    from calibrant.exposures import Exposures

    def fault(*a, **k):
        raise RuntimeError("boom")

    monkeypatch.setattr(Exposures, "scan", fault)
    told = calibrant("ls", raw)
    assert told.code == 1
    assert told.sentence == "RuntimeError: boom; this is a fault of Calibrant, please report it with --debug."


def test_an_interrupt_says_that_nothing_is_lost(calibrant, raw, monkeypatch):
    from calibrant.exposures import Exposures

    def stop(*a, **k):
        raise KeyboardInterrupt

    monkeypatch.setattr(Exposures, "scan", stop)
    told = calibrant("ls", raw, "--json")
    assert told.code == 130
    assert json.loads(told.out)["error"]["type"] == "KeyboardInterrupt"
    assert told.sentence.startswith("Interrupted: what was finished is kept")
