"""Interrupts and full disks: nothing half-written, and the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from calibrant.errors import WriteError
from calibrant.files.fits import read
from calibrant.pipeline import run as pipeline
from calibrant.pipeline import workshop
from calibrant.pipeline.run import reduce

OFF = {"steps_options.cosmic_rays.enabled": "false"}


def sound(out):
    """Every result is whole, and nothing else lies there."""
    names = []
    for path in out.rglob("*"):
        assert ".tmp" not in path.name
        if path.suffix == ".fits":
            read(path)  # verifies the identity of products
            names.append(path.name)
    return names


def identities(reduction):
    return {entry["name"]: entry["identity"] for entry in reduction.summary.masters}


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory):
    return reduce(raw, out=tmp_path_factory.mktemp("whole") / "out", changes=OFF)


@pytest.mark.parametrize("moment", [("headers", 5), ("combine", 1), ("levels", 2), ("calibrating", 2)])
def test_an_interrupt_at_any_moment(moment, raw, tmp_path, whole):
    seen = []

    def progress(done, total, what):
        seen.append(what)
        if (what, seen.count(what)) == moment:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        reduce(raw, out=out, changes=OFF, progress=progress)
    before = sound(out) if out.exists() else []
    again = reduce(raw, out=out, changes=OFF)
    reused = [e["name"] for e in (*again.summary.masters, *again.summary.frames) if e["reused"]]
    assert {f"{name}.fits" for name in reused} == set(before)
    assert identities(again) == identities(whole)
    assert len(again.summary.frames) == 3


@pytest.mark.parametrize("after", range(1, 10, 2))
def test_an_interrupt_between_a_file_and_its_record(after, raw, tmp_path, whole, monkeypatch):
    """The worst moment: the file has its name, and the ledger does not know yet."""
    written = []

    def interrupted(real):
        def write(thing, path, overwrite=False):
            real(thing, path, overwrite=overwrite)
            written.append(path.name)
            if len(written) == after:
                raise KeyboardInterrupt

        return write

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        for room in (workshop, pipeline):
            patch.setattr(room, "write", interrupted(room.write))
        with pytest.raises(KeyboardInterrupt):
            reduce(raw, out=out, changes=OFF)
    assert sorted(sound(out)) == sorted(written)
    again = reduce(raw, out=out, changes=OFF)
    reused = {e["name"] for e in (*again.summary.masters, *again.summary.frames) if e["reused"]}
    assert {f"{name}.fits" for name in reused} == set(written[:-1])
    assert identities(again) == identities(whole)


def test_a_signal_stops_the_program_and_the_next_one_goes_on(raw, tmp_path, whole):
    out = tmp_path / "out"
    words = [sys.executable, "-m", "calibrant.cli", "reduce", str(raw), "--out", str(out), "--no-plots"]
    words += ["--set", "steps_options.cosmic_rays.enabled=false"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (out / "masters" / "dark.fits").exists() and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip().startswith("calibrant: Interrupted: what was finished is kept")
    assert errors.count("\n") == 1
    assert "bias.fits" in sound(out)
    again = reduce(raw, out=out, changes=OFF)
    assert identities(again) == identities(whole)
    assert next(e for e in again.summary.masters if e["name"] == "bias")["reused"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not done or done.returncode:
        if "tmpfs" in os.environ.get("CALIBRANT_REQUIRE", "").split(","):
            pytest.fail("a tmpfs is required, and cannot be mounted")
        pytest.skip("no leave to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(raw, small_disk):
    out = small_disk / "out"
    with pytest.raises(WriteError, match="the disk is full; nothing was written; make room first") as caught:
        reduce(raw, out=out, changes=OFF)
    assert caught.value.exit_code == 1
    sound(out)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert len(reduce(raw, out=out, changes=OFF).summary.frames) == 3


@pytest.mark.parametrize("fails", [1, 4, 9])
def test_a_writer_that_fails(fails, raw, tmp_path, monkeypatch):
    """As of a full disk, at any file of the run."""
    calls = []

    def failing(real):
        def write(thing, path, overwrite=False):
            calls.append(path.name)
            if len(calls) == fails:
                raise WriteError("the disk is full; nothing was written", where=path)
            real(thing, path, overwrite=overwrite)

        return write

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        for room in (workshop, pipeline):
            patch.setattr(room, "write", failing(room.write))
        with pytest.raises(WriteError, match="the disk is full"):
            reduce(raw, out=out, changes=OFF)
    assert len(sound(out)) == fails - 1
    again = reduce(raw, out=out, changes=OFF)
    assert sum(e["reused"] for e in (*again.summary.masters, *again.summary.frames)) == fails - 1


def test_a_name_that_failed_does_not_become_ours(raw, tmp_path, monkeypatch):
    """After a failed write, a file that somebody else puts there is not replaced."""
    from calibrant.errors import OutputExistsError

    out = tmp_path / "out"

    def write(thing, path, overwrite=False):
        raise WriteError("the disk is full; nothing was written", where=path)

    with monkeypatch.context() as patch:
        patch.setattr(workshop, "write", write)
        with pytest.raises(WriteError):
            reduce(raw, out=out, changes=OFF)
    (out / "masters").mkdir(parents=True, exist_ok=True)
    (out / "masters" / "bias.fits").write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        reduce(raw, out=out, changes=OFF)
    assert (out / "masters" / "bias.fits").read_bytes() == b"precious"


def test_a_folder_that_cannot_be_made(raw, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match=r"the folder cannot be made"):
        reduce(raw, out=tmp_path / "file" / "out")
