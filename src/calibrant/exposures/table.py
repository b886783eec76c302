"""Exposures: frames known by their headers, to select, group, prepare lazily and read."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, overload

from calibrant.errors import HeaderError, OptionError, SelectionError, ShapeError
from calibrant.exposures.grouping import cell_text, order, split
from calibrant.exposures.newest import newest
from calibrant.exposures.reading import Step, copies, frame_of, hashes_of, parents_of, source_of
from calibrant.exposures.scan import Item, KindTable, Paths, Problem, Progress, resolve, scan
from calibrant.exposures.where import Predicate, check_name, equals, fact, parse_query
from calibrant.frame import Exposure, Frame
from calibrant.instrument import Instrument, names

if TYPE_CHECKING:
    from calibrant.exposures.ramps import Ramp
    from calibrant.files.hashing import HashCache
    from calibrant.product import Input
    from calibrant.stack.source import Source

GENERIC = "generic-ccd"
NAMED = 3  # files that a message names before it counts
COLUMNS = ("file", "kind", "exptime", "filter", "temperature", "binning", "shape", "time")
HTML_ROWS = 20


class Exposures(Sequence[Exposure]):
    """A table of exposures. Selecting gives a new table; only headers are read until pixels are asked for.

    Made by `scan`, `from_paths` or `from_frames`.

    Attributes
    ----------
    instrument : Instrument
        Whose rules translated the headers, and whose tolerances decide what is equal.
    problems : tuple of Problem
        Files that could not be used.
    """

    def __init__(
        self,
        items: Iterable[Item] = (),
        instrument: Instrument | str = GENERIC,
        problems: Iterable[Problem] = (),
        steps: Iterable[Step] = (),
    ) -> None:
        self._items = tuple(items)
        self.instrument = resolve(instrument)
        self.problems = tuple(problems)
        self._steps = tuple(steps)

    # --- making ---

    @classmethod
    def scan(
        cls,
        paths: Paths,
        instrument: str | PathLike[str] | Instrument = GENERIC,
        recursive: bool = True,
        progress: Progress | None = None,
        kinds: str | PathLike[str] | Mapping[str, Any] | None = None,
    ) -> Exposures:
        """Read the headers of FITS files.

        Parameters
        ----------
        paths : path, or sequence of paths
            Folders, files, globs, and ``@list.txt`` with one of these a line.
        instrument : str, path or Instrument
            Name or TOML file; ``auto`` asks the headers.
        recursive : bool
            Whether to go into folders of folders.
        progress : callable, optional
            Called as progress(done, total, what).
        kinds : path or mapping, optional
            The user's own word on what files are: name or glob -> kind; CSV (``file,kind,...``) or TOML.

        Returns
        -------
        Exposures
            Files that could not be used are in `problems`. A folder without FITS files gives an empty table.

        Raises
        ------
        FileError
            If the one path given is missing, or a folder that cannot be read.
        ConfigError
            If the instrument is unknown, or its file or the table of kinds has a mistake.
        """
        table = KindTable.of(kinds)
        chosen, found = scan(paths, instrument, recursive=recursive, kinds=table, progress=progress)
        return cls(found.items, chosen, found.problems)

    @classmethod
    def from_paths(
        cls,
        paths: str | PathLike[str] | Iterable[str | PathLike[str]],
        instrument: str | PathLike[str] | Instrument = GENERIC,
    ) -> Exposures:
        """As `scan`, of files that are all needed.

        Raises
        ------
        SelectionError
            If one of them cannot be used.
        """
        found = cls.scan(paths if isinstance(paths, str | PathLike) else list(paths), instrument)
        if found.problems:
            first, more = found.problems[0], len(found.problems) - 1
            raise SelectionError(
                first.sentence.rstrip(".") + (f"; and {more} more files" if more else ""),
                do="leave them out, or copy them again",
            )
        return found

    @classmethod
    def from_frames(
        cls, frames: Iterable[Frame], instrument: str | PathLike[str] | Instrument | None = None
    ) -> Exposures:
        """Frames in memory; everything works as with files.

        Parameters
        ----------
        instrument : str, path or Instrument, optional
            By default the one that all exposures name, else ``generic-ccd``.
        """
        items = [
            Item(
                frame.exposure
                if frame.exposure.shape == frame.shape
                else replace(frame.exposure, shape=frame.shape),
                frame,
            )
            for frame in frames
        ]
        if instrument is None:
            stated = {item.exposure.instrument for item in items}
            instrument = stated.pop() if len(stated) == 1 and stated <= set(names()) else GENERIC
        return cls(items, resolve(instrument))

    def _with(self, items: Iterable[Item]) -> Exposures:
        return Exposures(items, self.instrument, self.problems, self._steps)

    # --- as a sequence ---

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Exposure: ...
    @overload
    def __getitem__(self, index: slice) -> Exposures: ...
    def __getitem__(self, index: int | slice) -> Exposure | Exposures:
        if isinstance(index, slice):
            return self._with(self._items[index])
        return self._items[index].exposure

    def __iter__(self) -> Iterator[Exposure]:
        return (item.exposure for item in self._items)

    def __add__(self, other: Exposures) -> Exposures:
        """Both tables, one after the other.

        Raises
        ------
        SelectionError
            If they are of different instruments, or prepared by different steps.
        """
        if not isinstance(other, Exposures):
            return NotImplemented
        if other.instrument.name != self.instrument.name:
            raise SelectionError(
                "exposures of two instruments cannot be joined",
                expected=self.instrument.name,
                got=other.instrument.name,
            )
        if other._steps != self._steps:
            raise SelectionError(
                "exposures prepared by different steps cannot be joined", do="join them, then call through"
            )
        problems = dict.fromkeys((*self.problems, *other.problems))
        return Exposures((*self._items, *other._items), self.instrument, problems, self._steps)

    def take(self, indices: Iterable[int]) -> Exposures:
        """Those at the indices, in that order."""
        return self._with(self._items[index] for index in indices)

    # --- facts ---

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of those that are files."""
        return tuple(exposure.path for exposure in self if exposure.path is not None)

    def where(self, predicate: Predicate | str | None = None, **facts: Any) -> Exposures:
        """Those that a predicate, a text and all facts agree with.

        Parameters
        ----------
        predicate : callable or str, optional
            A function of an `Exposure`, or text such as ``exptime>10 and kind=dark``.
        **facts
            Name -> value; a list, set or tuple means any of; a function is asked. Numbers agree within the
            instrument's tolerance, texts may hold ``*`` and ``?``.

        Raises
        ------
        OptionError
            If there is no such fact, or the text cannot be understood.

        Examples
        --------
        >>> Exposures().where("kind=dark and exptime>10", temperature=-10)
        <Exposures: none>
        """
        tests: list[Predicate] = []
        if isinstance(predicate, str):
            tests.append(parse_query(predicate, self, self.instrument))
        elif predicate is not None:
            tests.append(predicate)
        for key, wanted in facts.items():
            check_name(key, self, self.instrument)
            tests.append(equals(key, wanted, self.instrument))
        return self._with(item for item in self._items if all(test(item.exposure) for test in tests))

    def newest(self) -> Exposures:
        """Of files that come in several versions the newest, as the instrument ranks them; others stay.

        Files that lost because their names do not say their whole version are in `problems`.

        Raises
        ------
        OptionError
            If the instrument does not say what a version is.
        SelectionError
            If two files are equally new.
        """
        kept, lost = newest(self, self.instrument)
        items = [self._items[index] for index in kept]
        return Exposures(items, self.instrument, (*self.problems, *lost), self._steps)

    def group_by(self, *keys: str) -> dict[tuple[Any, ...], Exposures]:
        """One table for each setting, by a label of its values; in the order of the labels.

        Numbers within the instrument's tolerance of their middle are one setting, labelled by their median.
        """
        parts: list[tuple[tuple[Any, ...], list[int]]] = [((), list(range(len(self))))]
        for key in keys:
            check_name(key, self, self.instrument)
            values = [fact(exposure, key) for exposure in self]
            parts = [
                ((*labels, label), members)
                for labels, indices in parts
                for label, members in split(key, values, indices, self.instrument)
            ]
        return {labels: self.take(members) for labels, members in parts if members}

    def values(self, key: str) -> list[Any]:
        """The different values of a fact, in order; numbers within the tolerance count as one."""
        return [labels[0] for labels in self.group_by(key)]

    def one(self, key: str) -> Any:
        """The value of a fact that all share.

        Raises
        ------
        SelectionError
            If there are no exposures, or their values differ; files are named.
        """
        self._require_any()
        groups = self.group_by(key)
        if len(groups) > 1:
            told = "; ".join(f"{labels[0]} in {part._named()}" for labels, part in groups.items())
            raise SelectionError(f"exposures of mixed {key}: {told}", do=f"select or group by {key}")
        return next(iter(groups))[0]

    def require(self, *keys: str) -> None:
        """See that every exposure knows these facts.

        Raises
        ------
        HeaderError
            Naming the files, and the keywords where the fact was looked for.
        """
        for key in keys:
            without = self._with(item for item in self._items if item.exposure.get(key) is None)
            if len(without):
                rule = getattr(self.instrument.header, key, None)
                tried = ", ".join(entry.keyword for entry in rule.keywords) if rule is not None else ""
                raise HeaderError(
                    f"no card says the {key}",
                    where=without._named(),
                    expected=f"one of {tried}" if tried else None,
                    do="add it to the header, or a rule for it to the instrument file",
                )

    def sort(self, *keys: str) -> Exposures:
        """In the order of facts; a minus before a name reverses it, unknown values come last."""
        items = list(self._items)
        for key in reversed(keys):
            name = key.removeprefix("-")
            check_name(name, self, self.instrument)
            known = [item for item in items if fact(item.exposure, name) is not None]
            unknown = [item for item in items if fact(item.exposure, name) is None]
            known.sort(key=lambda item: order(fact(item.exposure, name)), reverse=name != key)
            items = known + unknown
        return self._with(items)

    def table(self, keys: Iterable[str] = COLUMNS) -> list[dict[str, Any]]:
        """Facts as rows: name -> value, in the order of `keys`."""
        keys = list(keys)
        for key in keys:
            check_name(key, self, self.instrument)
        return [{key: fact(exposure, key) for key in keys} for exposure in self]

    @property
    def epoch(self) -> int | None:
        """Mean of the middles of the exposures, microseconds since 1970 UTC; None if none is known."""
        middles = [exposure.mid for exposure in self if exposure.mid is not None]
        return round(sum(middles) / len(middles)) if middles else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns that all images share, as their files have them.

        Raises
        ------
        ShapeError
            If they differ; files are named.
        """
        self._require_any()
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, exposure in enumerate(self):
            groups.setdefault(tuple(exposure.shape), []).append(index)
        if len(groups) > 1:
            told = "; ".join(f"{_size(size)} in {self.take(part)._named()}" for size, part in groups.items())
            raise ShapeError(f"images of several sizes: {told}", do="select one size (rows x cols)")
        return next(iter(groups))

    # --- pixels ---

    def through(self, *steps: Step) -> Exposures:
        """The same exposures, prepared by steps when their pixels are read.

        Parameters
        ----------
        *steps : callable or object
            A function Exposure -> `PixelStep`, or an object whose `wrap(source, exposure)` gives a Source.
        """
        for step in steps:
            if not callable(step) and not hasattr(step, "wrap"):
                raise OptionError(
                    "a step is a function of an exposure, or has a method wrap", got=type(step).__name__
                )
        return Exposures(self._items, self.instrument, self.problems, (*self._steps, *steps))

    @property
    def steps(self) -> tuple[Step, ...]:
        """What `through` added, in order."""
        return self._steps

    @property
    def parents(self) -> tuple[str, ...]:
        """Identities of the products that the steps use."""
        return parents_of(self._steps, self)

    def sources(self) -> list[Source]:
        """One Source for each exposure, raw or prepared by the steps; no pixel is read.

        Raises
        ------
        SelectionError
            If there are none, or their binning differs.
        ShapeError
            If their sizes differ.
        """
        return list(self._sources)

    @cached_property
    def _sources(self) -> tuple[Source, ...]:
        self.one("binning")
        _ = self.shape
        return tuple(source_of(item, self.instrument, self._steps) for item in self._items)

    def ramps(self) -> list[Ramp]:
        """The exposures as ramps, to be read some rows at a time; no pixel of a file is read.

        Raises
        ------
        FileError, ShapeError
            If a file, or a frame, holds none.
        OptionError
            If steps were to prepare them.
        """
        from calibrant.exposures.ramps import ramp_of

        if self._steps:
            raise OptionError("ramps are read as they are: steps prepare images", do="leave through out")
        return [ramp_of(item, self.instrument) for item in self._items]

    def frame(self, index: int) -> Frame:
        """One frame; its planes stay in the file until `load`, unless steps are to be done."""
        return frame_of(self._items[index], self.instrument, self._steps)

    def frames(self) -> Iterator[Frame]:
        """The frames one after the other."""
        return (self.frame(index) for index in range(len(self)))

    def hashed(self, cache: HashCache) -> Exposures:
        """The same exposures with the hashes of their files, from a cache that knows unchanged files."""
        from calibrant.files.hashing import file_hash

        return self._with(
            replace(item, hash=file_hash(item.exposure.path, cache)) if item.exposure.path else item
            for item in self._items
        )

    def updated(self, facts: Mapping[int, Exposure]) -> Exposures:
        """The same frames with other facts: index -> what is known better than its header."""
        return self._with(
            replace(item, exposure=facts.get(index, item.exposure)) for index, item in enumerate(self._items)
        )

    def inputs(self, *, known: bool = False) -> tuple[Input, ...]:
        """Names and hashes of the raw files, for provenance; `known`: only hashes that need no reading."""
        from calibrant.product import Input

        hashes = [item.hash for item in self._items] if known else hashes_of(self._items)
        return tuple(Input(_name(self[i], i), value) for i, value in enumerate(hashes))

    def duplicates(self) -> list[tuple[str, ...]]:
        """Names of exposures whose pixels are the same, byte by byte: copies, that would count twice.

        Only pixels of exposures that begin at the same moment are read, and all of them only of those that
        agree in a few rows.
        """
        return [tuple(_name(self[i], i) for i in same) for same in copies(self._items, self.instrument)]

    # --- words ---

    def _require_any(self) -> None:
        if not self._items:
            more = f" ({len(self.problems)} files could not be used)" if self.problems else ""
            raise SelectionError(f"there are no exposures{more}", do="check the folder and the selection")

    def _named(self) -> str:
        """A few of the files, for messages."""
        told = [_name(exposure, i).rpartition("/")[2] for i, exposure in enumerate(self[:NAMED])]
        more = len(self) - NAMED
        return ", ".join(told) + (f" and {more} more" if more > 0 else "")

    def __repr__(self) -> str:
        if not self._items:
            return "<Exposures: none>"
        counts: dict[str, int] = {}
        for exposure in self:
            counts[exposure.kind] = counts.get(exposure.kind, 0) + 1
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        problems = f"; {len(self.problems)} files could not be used" if self.problems else ""
        return f"<Exposures: {told} of {self.instrument.name}{problems}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{key}</th>" for key in COLUMNS)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell_text(row[key]))}</td>" for key in COLUMNS) + "</tr>"
            for row in self[:HTML_ROWS].table()
        )
        more = len(self) - HTML_ROWS
        last = f"<p>and {more} more</p>" if more > 0 else ""
        return f"<p>{html.escape(repr(self)[1:-1])}</p><table><tr>{head}</tr>{rows}</table>{last}"


def _name(exposure: Exposure, index: int) -> str:
    return exposure.path or exposure.identifier or f"frame {index}"


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(axis) for axis in shape)
