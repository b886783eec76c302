"""Scratch: packed files unpacked once, so that their bands can be read like those of any other file."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from calibrant.errors import FileError, WriteError
from calibrant.files.reading import Stamp, truncated, unreadable

_PREFIX = "calibrant-scratch-"
_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Packed:
    """An image inside a packed file: ``.gz``, ``.fz``, or both.

    Attributes
    ----------
    path, stamp : str, Stamp
        The packed file, and the state in which it was looked at.
    hdu : int
        Index of the unit.
    size : int
        Bytes of the whole image when it is unpacked.
    tiled : bool
        Whether the image is a compressed table (``.fz``); otherwise the whole file is packed by gzip.
    folder : str
        Where it is unpacked to; every process that gets this description unpacks into the same place.
    """

    path: str
    stamp: Stamp
    hdu: int
    size: int
    tiled: bool
    folder: str = field(default_factory=lambda: scratch_folder())

    def unpacked(self) -> tuple[str, Stamp]:
        """Path and stamp of the unpacked file; unpacks it at the first call.

        Raises
        ------
        FileError
            If the packed file is broken, or was changed.
        WriteError
            If the scratch folder has no room.
        """
        key = hashlib.sha256(repr((self.path, self.stamp, self.hdu if self.tiled else None)).encode())
        # The folder goes with the process that described the file; a description may outlive it.
        folder = self.folder if Path(self.folder).is_dir() else scratch_folder()
        target = Path(folder) / key.hexdigest()[:24]
        if not target.exists():
            self._check()
            with _alone(target):
                if not target.exists():
                    _write_once(target, self._unpack)
        return os.fspath(target), Stamp.of(target.stat())

    def read_whole(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` without scratch, from `offset` in the unpacked file; tiled images only as a whole."""
        self._check()
        if self.tiled:
            from calibrant.files.compressed import read_tiles

            read_tiles(self.path, self.hdu, buffer)
            return
        with _translated(self.path), gzip.open(self.path, "rb") as stream:
            stream.seek(offset)
            got = 0
            while got < len(buffer):
                count = stream.readinto(buffer[got:])
                if not count:
                    raise truncated(self.path, offset + len(buffer), offset + got)
                got += count

    def _check(self) -> None:
        with _translated(self.path):
            if Stamp.of(Path(self.path).stat()) != self.stamp:
                raise FileError("the file was changed while it was in use", where=self.path, do="start again")

    def _unpack(self, out: BinaryIO) -> None:
        if self.tiled:
            from calibrant.files.compressed import tile_rows

            for band in tile_rows(self.path, self.hdu):
                out.write(band)
            return
        with gzip.open(self.path, "rb") as stream:
            while True:
                with _translated(self.path):
                    chunk = stream.read(_CHUNK)
                if not chunk:
                    return
                out.write(chunk)


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let one thread of one process unpack a file while the others wait: they all begin with the same one."""
    path = target.with_suffix(".lock")
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        # Whoever waits for the lock still gets it, and then finds the file.
        path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _write_once(target: Path, fill: Callable[[BinaryIO], None]) -> None:
    """Write a scratch file under another name first, so that nobody reads half of it."""
    handle, name = tempfile.mkstemp(dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            fill(out)
        Path(name).replace(target)
    except OSError as error:
        raise WriteError(
            f"unpacking failed ({error.strerror})",
            where=target.parent,
            do="make room there, or name another folder in TMPDIR",
        ) from None
    finally:
        Path(name).unlink(missing_ok=True)


class _Folder:
    """A folder that goes when the process does; its lock tells others that the process still lives."""

    def __init__(self) -> None:
        base = Path(tempfile.gettempdir())
        for left_over in base.glob(f"{_PREFIX}*"):
            _remove_if_dead(left_over)
        self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=base)
        new = Path(self.path) / "new"
        lock = os.open(new, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(new.with_name("lock"))  # only now can another process find it, and it is held already
        weakref.finalize(self, _remove, self.path, lock, os.getpid())


def _remove(path: str, lock: int, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child: the parent still reads there
        shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def _remove_if_dead(folder: Path) -> None:
    """Remove the scratch of a process that was killed: the lock of a living one cannot be had."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return  # being made, or another user's
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def scratch_folder() -> str:
    """The scratch folder of this process, made at the first call and removed at its end."""
    return _folder_of(os.getpid()).path


@lru_cache(maxsize=1)
def _folder_of(process: int) -> _Folder:
    return _Folder()
