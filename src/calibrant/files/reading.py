"""Bytes of files: the state they are in, the ways to read them, and what is said when that fails."""

from __future__ import annotations

import gzip
import os
import zlib
from os import PathLike
from typing import NamedTuple, Protocol

from calibrant.errors import FileError

Pathish = str | PathLike[str]


class Stamp(NamedTuple):
    """What tells one state of a file from another: device, inode, size in bytes, time of change in ns."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, info: os.stat_result) -> Stamp:
        """The stamp of a stat result."""
        return cls(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)


class Reader(Protocol):
    """Bytes of a file at their place, whatever it is packed in."""

    @property
    def size(self) -> int | None:
        """Bytes in the file; None if it is packed."""
        ...

    def read(self, count: int, offset: int) -> bytes:
        """At most `count` bytes from `offset` on."""
        ...

    def ends_at(self, offset: int) -> bool:
        """Whether nothing follows, as far as that can be known without unpacking."""
        ...


class PlainFile:
    """A file that is open."""

    def __init__(self, file: int, size: int) -> None:
        self.file, self.size = file, size

    def read(self, count: int, offset: int) -> bytes:
        """At most `count` bytes from `offset` on."""
        return os.pread(self.file, count, offset)

    def ends_at(self, offset: int) -> bool:
        """Whether the file is not longer."""
        return self.size <= offset


class MemoryFile:
    """A file in memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def read(self, count: int, offset: int) -> bytes:
        """At most `count` bytes from `offset` on."""
        return self.data[offset : offset + count]

    def ends_at(self, offset: int) -> bool:
        """Whether the file is not longer."""
        return self.size <= offset


class GzippedFile:
    """Reads forward through a packed file, unpacking no more than is asked for."""

    size = None

    def __init__(self, file: int, packed_size: int) -> None:
        self.file, self.packed_size = file, packed_size
        self.stream = gzip.GzipFile(fileobj=os.fdopen(file, "rb", closefd=False), mode="rb")

    def read(self, count: int, offset: int) -> bytes:
        """At most `count` bytes from `offset` on."""
        self.stream.seek(offset)
        return self.stream.read(count)

    def ends_at(self, offset: int) -> bool:
        """Whether the trailer says so: it holds the unpacked size of the last member, modulo 4 GiB."""
        trailer = os.pread(self.file, 4, self.packed_size - 4)
        return int.from_bytes(trailer, "little") == offset % (1 << 32)


def unreadable(path: str, error: BaseException) -> FileError:
    """The sentence for a file that the system would not give."""
    if isinstance(error, FileNotFoundError):
        return FileError("there is no such file", where=path)
    if isinstance(error, IsADirectoryError):
        return FileError("this is a folder, not a file", where=path)
    if isinstance(error, PermissionError):
        return FileError("reading is not allowed", where=path, do="change its permissions")
    if isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile)):
        return FileError(
            "the packed file is broken or ends early", where=path, do="copy it again or leave it out"
        )
    return FileError(f"the file cannot be read ({error})", where=path)


def truncated(path: str, expected: int, got: int) -> FileError:
    """The sentence for a file that ends before its last pixel."""
    return FileError(
        "the file ends early",
        where=path,
        expected=f"{expected} bytes",
        got=f"{got} bytes",
        do="copy it again or leave it out",
    )
