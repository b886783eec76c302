"""Reducing again: what is there is kept, what is missing is made, nothing is overwritten unasked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import calibrant
from calibrant.errors import OutputExistsError
from calibrant.files.fits import write_raw
from calibrant.pipeline.ledger import NAME
from calibrant.pipeline.run import reduce

HEADERS = 12_000  # bytes of a raw file that may be read: its first blocks
IO = Path("/proc/self/io")
PACKAGE = Path(calibrant.__file__).parent


def state(out):
    """Name, inode and time of change of every result."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*.fits")}


def bytes_read():
    return int(dict(line.split(": ") for line in IO.read_text().splitlines())["rchar"])


@pytest.mark.skipif(not IO.exists(), reason="no /proc/self/io")
def test_a_second_run_reads_headers_alone_and_writes_no_result(reduced):
    night, out, _ = reduced
    reduce(night, out=out)  # the files are copies: their hashes are taken once more
    before = state(out)
    journals = sum((out / name).stat().st_size for name in (NAME, ".hashes.json"))
    read = []
    for _ in range(2):  # the smaller of two: the counter is of the whole process, whose modules load lazily
        began = bytes_read()
        again = reduce(night, out=out)
        read.append(bytes_read() - began)
    count = sum(again.summary.exposures.values()) + 1
    own = sum(path.stat().st_size for path in PACKAGE.rglob("*.toml"))  # recipes, limits, instruments
    assert min(read) < count * HEADERS + 2 * journals + own
    assert min(read) < sum(path.stat().st_size for path in night.glob("*.fit")) / 2
    assert state(out) == before
    assert all(entry["reused"] for entry in (*again.summary.masters, *again.summary.frames))


def test_a_second_run_opens_no_master(reduced, monkeypatch):
    night, out, _ = reduced
    reduce(night, out=out)
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: opened.append(str(path)) or real(path, *a, **k))
    reduce(night, out=out)
    assert not [path for path in opened if path.endswith(".fits") and str(out) in path]


def test_results_do_not_change_when_made_again(reduced, tmp_path):
    night, _out, first = reduced
    second = reduce(night, out=tmp_path / "other", budget="64MB", runner="serial")
    assert [m["identity"] for m in second.summary.masters] == [m["identity"] for m in first.summary.masters]


def test_a_deleted_master_is_made_again_and_frames_are_kept(reduced):
    night, out, first = reduced
    (out / "masters" / "dark.fits").unlink()
    before = state(out)
    again = reduce(night, out=out)
    made = [entry["name"] for entry in again.summary.masters if not entry["reused"]]
    assert made == ["dark"]
    assert all(entry["reused"] for entry in again.summary.frames)
    now = state(out)
    assert {name: now[name] for name in before} == before
    old = {entry["name"]: entry["identity"] for entry in first.summary.masters}
    assert {entry["name"]: entry["identity"] for entry in again.summary.masters} == old


def test_other_options_need_leave_to_overwrite(reduced):
    night, out, first = reduced
    before = state(out)
    changes = {"measure.bias.method": "median"}
    with pytest.raises(
        OutputExistsError, match=r"bias.fits: the file was made of other frames or with other"
    ):
        reduce(night, out=out, changes=changes)
    assert state(out) == before
    again = reduce(night, out=out, changes=changes, overwrite=True)
    assert not any(entry["reused"] for entry in (*again.summary.masters, *again.summary.frames))
    assert again.summary.masters[0]["identity"] != first.summary.masters[0]["identity"]


def test_options_of_one_step_remake_only_what_depends_on_it(reduced):
    night, out, _ = reduced
    again = reduce(night, out=out, changes={"measure.flat.method": "median"}, overwrite=True)
    made = {entry["name"].partition("_")[0] for entry in again.summary.masters if not entry["reused"]}
    assert made == {"flat", "defects"}
    assert not any(entry["reused"] for entry in again.summary.frames)


def test_a_new_frame_is_added_and_a_changed_one_remade(reduced, edit):
    night, out, _ = reduced
    (night / "spiral-R-009.fit").write_bytes((night / "spiral-R-001.fit").read_bytes())
    again = reduce(night, out=out)
    assert [e["name"] for e in again.summary.frames if not e["reused"]] == ["spiral-R-009"]
    edit(night / "spiral-R-009.fit", lambda data: data + 1)
    with pytest.raises(OutputExistsError, match="spiral-R-009"):
        reduce(night, out=out)
    again = reduce(night, out=out, overwrite=True)
    assert [e["name"] for e in again.summary.frames if not e["reused"]] == ["spiral-R-009"]


def test_a_foreign_file_is_never_replaced_unasked(night, tmp_path):
    out = tmp_path / "out"
    (out / "calibrated").mkdir(parents=True)
    mine = out / "calibrated" / "spiral-R-001.fits"
    mine.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match=r"spiral-R-001.fits: the file is not one of this reduction"):
        reduce(night, out=out)
    assert mine.read_bytes() == b"precious"


def test_a_lost_or_broken_ledger_is_not_fatal(reduced):
    night, out, _ = reduced
    (out / NAME).write_text("{broken")
    with pytest.raises(OutputExistsError, match="not one of this reduction"):
        reduce(night, out=out)
    again = reduce(night, out=out, overwrite=True)
    assert json.loads((out / NAME).read_text())["records"]
    assert len(again.summary.frames) == 3


def test_results_inside_the_raw_folder_are_no_raw_frames(night):
    out = night / "results"
    first = reduce(night, out=out)
    again = reduce(night, out=out)
    other = reduce(night, out=night / "other")  # does not take the first results for frames either
    assert again.summary.exposures == first.summary.exposures == other.summary.exposures
    assert len(other.summary.frames) == len(first.summary.frames) == 3
    assert all(entry["reused"] for entry in again.summary.frames)


def test_names_of_frames_in_several_folders_do_not_clash(night, tmp_path):
    for folder in ("a", "b"):
        (night / folder).mkdir()
        source = night / ("spiral-R-001.fit" if folder == "a" else "spiral-R-002.fit")
        (night / folder / "frame.fit").write_bytes(source.read_bytes())
    summary = reduce(night, out=tmp_path / "out").summary
    assert {"a-frame", "b-frame"} <= {entry["name"] for entry in summary.frames}


def test_the_truth_beside_the_frames_is_left_alone(reduced):
    night, _, first = reduced
    assert (night / "truth" / "truth.fits").exists()
    assert "product" not in first.summary.exposures
    assert not first.summary.problems


def test_summary_json_is_what_reduce_returns(reduced):
    _, out, first = reduced
    found = json.loads((out / "summary.json").read_text())
    assert found == first.summary.as_dict()
    assert found["exposures"] == {"bias": 10, "dark": 9, "flat": 10, "light": 3}


def test_an_unreadable_member_of_a_master_is_left_out_and_told(night, tmp_path):
    """A file whose header is fine and whose pixels are not: a packed file with a broken stream."""
    import gzip

    whole = gzip.compress((night / "dark-60s-001.fit").read_bytes())
    broken = bytearray(whole)
    broken[len(whole) // 2 : len(whole) // 2 + 40] = b"\0" * 40
    (night / "dark-60s-001.fit").unlink()
    (night / "dark-60s-001.fit.gz").write_bytes(bytes(broken))
    found = reduce(night, out=tmp_path / "out")
    dark = next(entry for entry in found.summary.masters if entry["name"] == "dark")
    assert dark["frames"] == 8
    assert any("dark-60s-001.fit.gz" in note for note in found.summary.warnings)
    assert len(found.summary.frames) == 3
    again = reduce(night, out=tmp_path / "out")
    assert again.summary.warnings == found.summary.warnings


def test_a_truncated_science_frame_is_left_out_and_told(night, tmp_path):
    path = night / "spiral-R-001.fit"
    path.write_bytes(path.read_bytes()[:9000])
    found = reduce(night, out=tmp_path / "out").summary
    assert [entry["name"] for entry in found.frames] == ["spiral-R-002", "spiral-V-001"]
    (problem,) = found.problems
    assert "spiral-R-001.fit" in problem["file"]
    assert "ends early" in problem["problem"]


def test_a_science_frame_that_ends_while_it_is_read_is_told_and_the_rest_is_done(
    night, tmp_path, monkeypatch
):
    from calibrant.errors import FileError
    from calibrant.pipeline import run

    real = run.calibrate

    def calibrate(frame, *rest, **options):
        if "spiral-R-001" in frame.name:
            raise FileError("the file ends early", where=frame.name)
        return real(frame, *rest, **options)

    monkeypatch.setattr(run, "calibrate", calibrate)
    found = reduce(night, out=tmp_path / "out").summary
    assert len(found.frames) == 2
    assert "ends early" in found.problems[0]["problem"]


def test_two_detectors_and_binnings_are_kept_apart(night, edit, tmp_path):
    """A second camera of another size in the same folder: its own masters, named after it."""
    import numpy as np

    rng = np.random.default_rng(3)
    cards = {"INSTRUME": "Other", "IMAGETYP": "Bias Frame", "EXPTIME": 0.0, "EGAIN": 2.0}
    for count in range(4):
        size = (40, 60)
        write_raw(night / f"other-b{count}.fit", rng.normal(500, 4, size).astype(np.uint16), cards)
        more = {**cards, "XBINNING": 2, "YBINNING": 2}
        write_raw(night / f"other-bin{count}.fit", rng.normal(600, 4, (20, 30)).astype(np.uint16), more)
    found = reduce(night, out=tmp_path / "out").summary
    biases = {entry["name"]: entry["median"] for entry in found.masters if entry["kind"] == "bias"}
    assert len(biases) == 3
    assert any("Other" in name and "bin2x2" in name and abs(v - 600) < 3 for name, v in biases.items())
    assert any("Other" in name and "bin1x1" in name and abs(v - 500) < 3 for name, v in biases.items())
    assert len(found.frames) == 3
