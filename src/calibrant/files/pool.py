"""Open files, kept open between bands as far as the system's limit allows."""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

from calibrant.errors import FileError
from calibrant.files.reading import Stamp, unreadable

FEWEST = 4  # files that the pool may hold whatever the limit
MOST = 1024  # files; more gain nothing and frighten other users of the limit


@dataclass
class _Open:
    file: int
    users: int = 0


class FilePool:
    """Descriptors of files being read, at most `limit` of them unless more are in use at once. Thread-safe.

    Parameters
    ----------
    limit : int, optional
        Files kept open; by default half of what the system still allows this process.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = default_limit() if limit is None else limit
        self._files: OrderedDict[tuple[str, Stamp], _Open] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    def take(self, path: str, stamp: Stamp) -> int:
        """A descriptor of `path`, to be given back by `give_back`.

        Raises
        ------
        FileError
            If the file cannot be opened, or is not the one that `stamp` was taken of.
        """
        key = (path, stamp)
        with self._lock:
            found = self._files.get(key)
            if found is None:
                self._shrink(self.limit - 1)
                found = self._files[key] = _Open(self._open(path, stamp))
            else:
                self._files.move_to_end(key)
            found.users += 1
            return found.file

    def give_back(self, path: str, stamp: Stamp) -> None:
        """Say that the descriptor is not in use any more; it stays open as long as there is room."""
        with self._lock:
            self._files[path, stamp].users -= 1
            if len(self._files) > self.limit:
                self._shrink(self.limit)

    def close(self) -> None:
        """Close every file that is not in use."""
        with self._lock:
            self._shrink(0)

    def _shrink(self, room: int) -> None:
        """Close idle files, the longest unused first, until `room` or fewer are open."""
        if len(self._files) <= room:
            return
        for key in [key for key, found in self._files.items() if not found.users]:
            os.close(self._files.pop(key).file)
            if len(self._files) <= room:
                return

    def _open(self, path: str, stamp: Stamp) -> int:
        try:
            file = self._descriptor(path)
        except OSError as error:
            raise unreadable(path, error) from None
        if Stamp.of(os.fstat(file)) != stamp:
            os.close(file)
            raise FileError("the file was changed while it was in use", where=path, do="start again")
        return file

    def _descriptor(self, path: str) -> int:
        flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)
        try:
            return os.open(path, flags)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self._shrink(0)  # others took what was left of the limit: do with one file at a time
        return os.open(path, flags)

    def __del__(self) -> None:
        for found in self._files.values():
            os.close(found.file)


def default_limit() -> int:
    """Half of the process's limit of open files: the other half belongs to everybody else."""
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    except (ImportError, OSError):
        return 128
    return MOST if soft == resource.RLIM_INFINITY else max(FEWEST, min(MOST, soft // 2))


def file_pool() -> FilePool:
    """The pool of this process: the limit of open files is the process's, so its pool must be too."""
    return _pool_of(os.getpid())


@lru_cache(maxsize=1)
def _pool_of(process: int) -> FilePool:
    """One per process: a forked child drops its parent's, which closes the descriptors that it inherited."""
    return FilePool()
