"""What may be seen: opaque names for files, products and frames in memory. Nothing else is opened."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock, Semaphore
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import CalibrantError, FileError
from calibrant.exposures.scan import SUFFIX
from calibrant.files.reading import Stamp, unreadable
from calibrant.web.cache import Cache
from calibrant.web.images import Part, Viewable, parts_of_file, parts_of_thing
from calibrant.web.planes import Plane
from calibrant.web.pyramid import BAND, Pyramid, build

BUDGET = 512 << 20
"""Bytes of pixels and pyramids that are kept."""


FEW = 32
"""Rows that are read by themselves, and not as a part of a band."""


READERS = 2
"""Bands that are read at the same time: on their way each takes three times its room."""


class Gone(CalibrantError):
    """The file of an image is not there any more, or is another one."""


class Altered(CalibrantError):
    """The file of an image was changed since the image was opened."""


class Unknown(CalibrantError):
    """No image, plane or page has this name."""


@dataclass
class Entry:
    """One image on the shelf.

    Attributes
    ----------
    path : str or None
        The file, its links resolved when it was put here.
    part : str
        Which image of the file.
    open : callable or None
        How to open an image in memory.
    family : str
        What images of one file or Product have in common.
    """

    id: str
    name: str
    path: str | None = None
    part: str = ""
    open: Callable[[], Viewable] | None = None
    viewable: Viewable | None = None
    error: CalibrantError | None = None
    family: str = ""


@dataclass
class Shelf:
    """Images by opaque names, and the pixels that were read of them.

    Attributes
    ----------
    cache : Cache
    problems : list of str
        A sentence for each file that was left out.
    """

    cache: Cache = field(default_factory=lambda: Cache(BUDGET))
    problems: list[str] = field(default_factory=list)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)
    _reading: Semaphore = field(default_factory=lambda: Semaphore(READERS))

    # --- putting ---

    def add_paths(self, paths: Iterable[str | os.PathLike[str]]) -> list[str]:
        """Files and folders as they are named on a command line; returns the names of their images.

        Raises
        ------
        FileError
            If a path that was named is missing. Files that cannot be shown have their sentence instead.
        """
        given, found = [Path(path) for path in paths], list[str]()
        alike = Counter(path.name for path in given)
        for path in given:
            if path.is_dir():
                found += self._add_folder(path)
            else:
                whose = f"{path.resolve().parent.name}/" if alike[path.name] > 1 else ""
                found += self.add_file(path, whose + path.name)
        return list(dict.fromkeys(found))

    def add_file(self, path: str | os.PathLike[str], name: str | None = None, key: str = "") -> list[str]:
        """One file; its links are resolved now, once.

        Parameters
        ----------
        name : str, optional
            For the reader; the file's own by default.
        key : str
            What the opaque name is made of, e.g. an identity; the path by default.

        Raises
        ------
        FileError
            If there is no such file.
        """
        real = os.path.realpath(path)
        label = name or Path(path).name
        if not Path(real).is_file():
            raise unreadable(os.fspath(path), _why_not(real))
        try:
            parts = parts_of_file(real, label)
        except CalibrantError as error:
            return [self._put(Entry(_name(key or real), label, real, error=error))]
        return [self._put(self._of_part(part, opener, label, real, key or real)) for part, opener in parts]

    @staticmethod
    def _of_part(part: str, opener: Callable[[], Viewable], label: str, real: str, key: str) -> Entry:
        entry = Entry(_name(f"{key}\n{part}" if part else key), label, real, part, family=key)
        try:
            entry.viewable = opener()
            entry.name = entry.viewable.name
        except CalibrantError as error:
            entry.error = error
        return entry

    def _add_folder(self, folder: Path) -> list[str]:
        """The FITS files below a folder; links that lead out of it are refused."""
        root, found = Path(os.path.realpath(folder)), []
        for here, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if name.startswith(".") or not SUFFIX.search(name):
                    continue
                path = Path(here) / name
                if not Path(os.path.realpath(path)).is_relative_to(root):
                    self.problems.append(f"{path.name}: the link leads out of the folder; it is not shown.")
                    continue
                try:
                    found += self.add_file(path, str(path.relative_to(root)))
                except CalibrantError as error:
                    self.problems.append(str(error))
        if not found:
            raise FileError("the folder holds no FITS file", where=folder)
        return found

    def add(self, thing: Any, title: str = "") -> list[str]:
        """A Frame, a Product or an array in memory; returns the names of its images.

        Raises
        ------
        OptionError
            If it cannot be shown.
        """
        label = title or str(getattr(thing, "kind", "") or "") or "in memory"
        if not title and hasattr(thing, "exposure"):
            label = Path(thing.name).name
        key = secrets.token_hex(8)
        return [self._put(_in_memory(part, opener, key)) for part, opener in parts_of_thing(thing, label)]

    def _put(self, entry: Entry) -> str:
        with self._lock:
            self._entries.setdefault(entry.id, entry)  # the same file once more
        return entry.id

    def stand(self, image: str, viewable: Viewable) -> None:
        """An image that is made of others, such as a focal plane, under an opaque name of its own."""
        self._put(Entry(image, viewable.name, viewable=viewable))

    def drop(self, image: str) -> None:
        """Take an image off the shelf, with all that was read of it."""
        with self._lock:
            self._entries.pop(image, None)
        self.cache.forget(lambda key: isinstance(key, tuple) and key[0] == image)

    def drop_family(self, image: str) -> None:
        """Take an image off the shelf, and the others that came with it: of one file, or one Product."""
        with self._lock:
            entry = self._entries.get(image)
            kin = [] if entry is None else [one.id for one in self.entries() if one.family == entry.family]
        for one in kin:
            self.drop(one)

    # --- looking ---

    def entries(self) -> list[Entry]:
        """All images, in the order in which they were put here."""
        with self._lock:
            return list(self._entries.values())

    def entry(self, image: str) -> Entry:
        """One image by its opaque name.

        Raises
        ------
        Unknown
            If there is none.
        """
        with self._lock:
            found = self._entries.get(image)
        if found is None:
            raise Unknown("there is no such image", do="go back to the list of images")
        return found

    def view(self, image: str) -> Viewable:
        """An image as it was opened, its file being unchanged.

        Raises
        ------
        Gone, Altered
            If the file is not what it was.
        CalibrantError
            Why it cannot be shown.
        """
        entry = self.entry(image)
        if entry.error is not None:
            raise entry.error
        assert entry.viewable is not None
        if entry.viewable.stamp is not None and _stamp(entry) != entry.viewable.stamp:
            raise Altered(
                "the file was changed since it was opened", where=entry.name, do="open the image again"
            )
        return entry.viewable

    def reopened(self, image: str) -> Viewable:
        """As `view`; a file that was changed is opened again.

        Raises
        ------
        Gone
            If the file is not there, or is a link now.
        """
        entry = self.entry(image)
        if entry.path is None:
            return self.view(image)
        stamp = _stamp(entry)
        if entry.viewable is None or entry.viewable.stamp != stamp:
            self.cache.forget(lambda key: isinstance(key, tuple) and key[0] == image)
            self._open(entry)
        return self.view(image)

    def _open(self, entry: Entry) -> None:
        assert entry.path is not None
        label = entry.viewable.name if entry.viewable else entry.name
        base = label if not entry.part else label.partition("[")[0].partition(":")[0]
        entry.viewable, entry.error = None, None
        try:
            parts = dict(parts_of_file(entry.path, base))
            if entry.part not in parts:
                raise Gone("the file holds this image no more", where=entry.name)
            entry.viewable = parts[entry.part]()
        except CalibrantError as error:
            entry.error = error

    # --- pixels ---

    def band(self, image: str, plane: Plane, read: int, number: int) -> NDArray[Any]:
        """The rows of one row of tiles, as the file means them."""
        view = self.view(image)
        begin = number * BAND
        key = (image, view.version, plane.name, read, number)
        stop = min(begin + BAND, plane.shape[0])

        def make() -> NDArray[Any]:
            with self._reading:
                return plane.rows(read, begin, stop)

        return self.cache.get(key, make)

    def rows(self, image: str, plane: Plane, read: int, begin: int, stop: int) -> NDArray[Any]:
        """Any rows of a plane: what is kept already, or read anew."""
        view = self.view(image)
        if stop - begin >= FEW and (begin // BAND) == (stop - 1) // BAND and self._keeps(plane):
            first = begin // BAND * BAND
            return self.band(image, plane, read, begin // BAND)[begin - first : stop - first]
        part: NDArray[Any] = plane.rows(read, begin, stop)
        assert view.version  # the file was what it was before
        return part

    def _keeps(self, plane: Plane) -> bool:
        """Whether all of a plane may stay: a larger one would push everything else out at each pass."""
        return plane.shape[0] * plane.shape[1] * plane.dtype.itemsize <= self.cache.budget // 4

    def pyramid(self, image: str, plane: Plane, read: int) -> Pyramid:
        """The smaller levels of a plane, made at the first call."""
        view = self.view(image)
        flags = plane.dtype == np.uint32 and plane.name == "dq"
        kept = self._keeps(plane)

        def rows(begin: int, stop: int) -> NDArray[Any]:
            if kept:
                return self.band(image, plane, read, begin // BAND)
            return plane.rows(read, begin, stop)

        key = (image, view.version, plane.name, read, "pyramid")
        return self.cache.get(key, lambda: build(rows, plane.shape, flags=flags))


def _name(key: str) -> str:
    return hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=9).hexdigest()


def _in_memory(part: str, opener: Callable[[], Viewable], key: str) -> Entry:
    viewable = opener()
    return Entry(_name(f"{key}\n{part}"), viewable.name, open=opener, viewable=viewable, family=key)


def _why_not(path: str) -> OSError:
    return IsADirectoryError() if Path(path).exists() else FileNotFoundError()


def _stamp(entry: Entry) -> Stamp:
    """The state of the file now; its name must still lead to itself."""
    assert entry.path is not None
    try:
        if os.path.realpath(entry.path) != entry.path:
            raise Gone("the file was replaced by a link", where=entry.name, do="start the viewer again")
        info = os.stat(entry.path, follow_symlinks=False)  # noqa: PTH116
    except OSError as error:
        raise Gone("the file is not there any more", where=entry.name, do="put it back") from error
    if not stat.S_ISREG(info.st_mode):
        raise Gone("the file is none any more", where=entry.name, do="put it back")
    return Stamp.of(info)


__all__ = ["BUDGET", "Altered", "Entry", "Gone", "Part", "Shelf", "Unknown"]
