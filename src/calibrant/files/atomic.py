"""Writing that either happens or does not: a temporary file in the same folder, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from calibrant.errors import CalibrantError, OutputExistsError, WriteError
from calibrant.files.reading import Pathish


@contextlib.contextmanager
def atomic_write(path: Pathish, overwrite: bool = False) -> Iterator[BinaryIO]:
    """A file to write into: takes the name `path` when the block ends well, vanishes when it does not.

    Raises
    ------
    OutputExistsError
        If `path` exists and `overwrite` is false, also if it came into being meanwhile.
    WriteError
        If the disk is full or writing there is not allowed; nothing is left behind.
    """
    target = Path(path)
    refuse_existing(target, overwrite)
    # Not mkstemp, whose files nobody else may read: the umask has to count. The name is known before
    # the file is made, so that an interrupt between the two finds it, too.
    temporary = target.parent / f".{target.name[:100]}.{os.urandom(8).hex()}.tmp"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        _rename(temporary, target, overwrite)
    except CalibrantError:
        raise
    except OSError as error:
        raise _failed(target, error) from None
    finally:
        _remove(temporary)


def _remove(temporary: Path) -> None:
    """Remove a file that may be gone, also if an interrupt comes in this very moment."""
    try:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def refuse_existing(path: Pathish, overwrite: bool) -> None:
    """Say before the work that its output is in the way.

    Raises
    ------
    OutputExistsError
        If `path` exists and `overwrite` is false.
    """
    if not overwrite and Path(path).exists():
        raise _in_the_way(Path(path))


def _rename(temporary: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(target)
    else:
        try:
            os.link(temporary, target)  # unlike a rename, refuses a file that came into being meanwhile
        except FileExistsError:
            raise _in_the_way(target) from None
        except OSError:  # a file system without links
            if target.exists():
                raise _in_the_way(target) from None
            temporary.replace(target)
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _in_the_way(target: Path) -> OutputExistsError:
    return OutputExistsError("the file exists already", where=target, do="choose another name, or overwrite")


def _failed(target: Path, error: OSError) -> WriteError:
    if isinstance(error, FileNotFoundError):
        return WriteError("the folder does not exist", where=target, do="make the folder first")
    if isinstance(error, PermissionError):
        return WriteError("writing is not allowed there", where=target, do="choose another folder")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return WriteError("the disk is full; nothing was written", where=target, do="make room first")
    return WriteError(f"nothing was written ({error.strerror or error})", where=target)
