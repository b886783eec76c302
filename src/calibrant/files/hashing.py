"""Hashes of files, made once for each state of a file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from pathlib import Path

from calibrant.errors import WriteError
from calibrant.files.atomic import atomic_write
from calibrant.files.reading import Pathish, Stamp, unreadable

_CHUNK = 1 << 20  # bytes


class HashCache:
    """Hashes by device, inode, size and time of change; thread-safe.

    Parameters
    ----------
    path : path, optional
        Where to keep them between runs; one that is missing or cannot be understood is begun anew.
    """

    def __init__(self, path: Pathish | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._hashes: dict[Stamp, str] = {}
        self._lock = threading.Lock()
        self._changed = False
        if self.path is not None:
            with contextlib.suppress(OSError, ValueError, TypeError):
                known = json.loads(self.path.read_text(encoding="utf-8"))
                self._hashes = {Stamp(*stamp): str(value) for *stamp, value in known}

    def __len__(self) -> int:
        return len(self._hashes)

    def get(self, stamp: Stamp) -> str | None:
        """The hash of a file in a state, if it is known."""
        return self._hashes.get(stamp)

    def put(self, stamp: Stamp, value: str) -> None:
        """Remember a hash."""
        with self._lock:
            self._hashes[stamp] = value
            self._changed = True

    def save(self) -> None:
        """Write the hashes to the cache's file, if it has one; a cache that cannot be kept is no error."""
        with self._lock:
            if self.path is None or not self._changed:
                return
            text = json.dumps([[*stamp, value] for stamp, value in self._hashes.items()])
            with contextlib.suppress(WriteError), atomic_write(self.path, overwrite=True) as out:
                out.write(text.encode())
            self._changed = False


def file_hash(path: Pathish, cache: HashCache | None = None) -> str:
    """``sha256:`` of a file's bytes, from `cache` if the file has not changed since.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    name = os.fspath(path)
    try:
        with Path(name).open("rb", buffering=0) as stream:
            stamp = Stamp.of(os.fstat(stream.fileno()))
            known = None if cache is None else cache.get(stamp)
            if known is not None:
                return known
            digest = hashlib.sha256()
            buffer = bytearray(_CHUNK)
            view = memoryview(buffer)
            while count := stream.readinto(view):
                digest.update(view[:count])
    except OSError as error:
        raise unreadable(name, error) from None
    value = f"sha256:{digest.hexdigest()}"
    if cache is not None:
        cache.put(stamp, value)
    return value
