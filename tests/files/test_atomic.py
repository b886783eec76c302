"""Writing happens or does not; nothing is left over, nothing is overwritten unasked."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from calibrant.errors import OutputExistsError, WriteError
from calibrant.files.fits import atomic_write, write, write_raw
from calibrant.frame import Frame

FRAME = Frame(np.ones((600, 600), np.float32), dq=np.zeros((600, 600), np.uint32))


def test_the_file_appears_at_the_end(tmp_path):
    target = tmp_path / "a.txt"
    with atomic_write(target) as out:
        out.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208


def test_permissions_follow_the_umask(tmp_path):
    with atomic_write(tmp_path / "a") as out:
        out.write(b"x")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_nothing_or_the_old_file(tmp_path, error):
    target = tmp_path / "a.fits"
    for old in (None, b"old"):
        if old:
            target.write_bytes(old)
        with pytest.raises(error), atomic_write(target, overwrite=True) as out:
            out.write(b"half")
            raise error
        assert [p.name for p in tmp_path.iterdir()] == (["a.fits"] if old else [])
    assert target.read_bytes() == b"old"


def test_nothing_is_overwritten_unasked(tmp_path):
    target = tmp_path / "a.fits"
    target.write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="the file exists already; choose another name"):
        write(FRAME, target)
    assert target.read_bytes() == b"old"
    write(FRAME, target, overwrite=True)
    assert target.stat().st_size > 1000


def test_nor_if_the_file_came_into_being_meanwhile(tmp_path):
    target = tmp_path / "a"
    with pytest.raises(OutputExistsError), atomic_write(target) as out:
        out.write(b"ours")
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(WriteError, match="the folder does not exist; make the folder first"):
        write(FRAME, tmp_path / "none" / "a.fits")


class Full:
    """A file on a disk without room."""

    def write(self, data):
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    class Stream:
        def __init__(self, handle):
            self.handle = handle

        def __enter__(self):
            return Full()

        def __exit__(self, *_):
            os.close(self.handle)

    monkeypatch.setattr("calibrant.files.atomic.os.fdopen", lambda handle, mode: Stream(handle))
    for name in ("a.fits", "a.fits.gz", "a.fits.fz"):
        with pytest.raises(WriteError, match="the disk is full; nothing was written; make room first"):
            write(FRAME, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.fits.fz"])
def test_a_file_that_may_not_grow_leaves_nothing(tmp_path, name):
    """The real thing, as far as an ordinary user can have it: a limit of the size of files."""
    code = textwrap.dedent(
        """
        import resource, signal, sys
        import numpy as np
        from calibrant.errors import WriteError
        from calibrant.files.fits import write
        from calibrant.frame import Frame
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        frame = Frame(np.random.default_rng(0).normal(size=(600, 600)).astype("f4"))
        try:
            write(frame, sys.argv[1])
        except WriteError as error:
            print(error)
        """
    )
    command = [sys.executable, "-c", code, str(tmp_path / name)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "the disk is full; nothing was written" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_small_disk(tmp_path):
    """A file system of one megabyte, where the tests may mount one."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small file system; a limit of the size of files is tested")
    try:
        with pytest.raises(WriteError, match="the disk is full; nothing was written"):
            write(FRAME, tmp_path / "a.fits")
        assert not list(tmp_path.iterdir())
        write_raw(tmp_path / "small.fits", np.ones((10, 10), np.uint16))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_killed_writer_leaves_no_file_of_the_name(tmp_path):
    code = textwrap.dedent(
        """
        import os, signal, sys
        from calibrant.files.fits import atomic_write
        with atomic_write(sys.argv[1]) as out:
            out.write(b"half" * 10_000)
            out.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.fits")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.fits").exists()
    assert all(Path(name).name.startswith(".") for name in tmp_path.iterdir())
    with atomic_write(tmp_path / "a.fits") as out:
        out.write(b"whole")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0


TRIALS = 300 if os.environ.get("CALIBRANT_SOAK") else 15
WRITER = textwrap.dedent(
    """
    import sys
    from calibrant.files.atomic import atomic_write
    folder = sys.argv[1]
    print("ready", flush=True)
    count = 0
    while True:
        for name, over in (("same", True), (f"new{count}", False)):
            with atomic_write(f"{folder}/{name}", overwrite=over) as out:
                out.write(b"x" * 5000)
                out.write(b"y" * 5000)
        count += 1
    """
)


def test_an_interrupt_at_any_moment_leaves_whole_files_and_no_other(tmp_path):
    """Also between making the temporary file and the block that removes it."""
    rng = np.random.default_rng(20241108)
    written = 0
    for trial, pause in enumerate(rng.uniform(0.0, 0.05, TRIALS)):
        folder = tmp_path / f"{trial}"
        folder.mkdir()
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(pause)
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=60)
        finally:
            child.kill()  # it writes for ever, where the signal was ignored
        assert b"KeyboardInterrupt" in errors
        for path in folder.iterdir():
            assert not path.name.startswith("."), f"trial {trial}: {path.name} was left"
            assert path.read_bytes() == b"x" * 5000 + b"y" * 5000, f"trial {trial}: {path.name} is not whole"
            written += 1
    assert written > TRIALS  # the signals came while files were written
