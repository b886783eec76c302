"""Copies of files: byte for byte, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from calibrant.errors import OptionError
from calibrant.files.atomic import atomic_write, refuse_existing
from calibrant.files.reading import Pathish, unreadable

PACKED = (".gz", ".fz")


def copy(source: Pathish, target: Pathish, overwrite: bool = False) -> None:
    """Copy a file.

    Raises
    ------
    FileError
        If the source cannot be read.
    OptionError
        If the names disagree on whether the file is packed: its bytes stay as they are.
    OutputExistsError
        If the target exists and `overwrite` is false, or is the source itself.
    WriteError
        If the target cannot be written.
    """
    packed = [suffix for suffix in PACKED if str(source).endswith(suffix)]
    if packed != [suffix for suffix in PACKED if str(target).endswith(suffix)]:
        name = f"{target}{packed[0]}" if packed else str(target)[: -len(Path(target).suffix)]
        raise OptionError(
            f"the file is {'packed' if packed else 'not packed'}, and is copied as it is",
            where=target,
            do=f"name the copy {name}",
        )
    same = Path(target).exists() and Path(target).samefile(source)
    refuse_existing(target, overwrite and not same)
    try:
        with Path(source).open("rb") as stream, atomic_write(target, overwrite) as out:
            shutil.copyfileobj(stream, out, 1 << 20)
    except OSError as error:  # those of the target are errors of ours already
        raise unreadable(str(source), error) from None
