"""From folders, globs and lists to exposures: headers are read, pixels are not."""

from __future__ import annotations

import csv
import glob
import os
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from calibrant.errors import CalibrantError, ConfigError, FileError
from calibrant.files.cube import Tables, plane_cards
from calibrant.files.header import HDU, Contents, Header, inspect, scan_headers
from calibrant.files.layouts import refuse_several
from calibrant.files.ramp import find_ramp, four_axes
from calibrant.frame import Exposure, Frame
from calibrant.instrument import Instrument, load
from calibrant.instrument import names as instrument_names
from calibrant.instrument.model import PLANE_KEYS
from calibrant.instrument.rules import base_name, name_pattern

Progress = Callable[[int, int, str], None]
Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
AUTO = "auto"
GENERAL = "generic-ccd"
FORM = "CALFORM"  # card of files of ours: "product" or "frame"
SUFFIX = re.compile(r"\.(fits?|fts)(\.(gz|fz))?$", re.IGNORECASE)
TOPS = {"|u1": 255.0, ">i2": 32767.0}
"""Largest stored number of the types that a converter fills; no detector fills the wider ones."""
COUNTS = frozenset(
    {"nframes", "groupgap", "fastaxis", "slowaxis", "substrt1", "substrt2", "outputs"}
    | {f"border_{side}" for side in ("bottom", "top", "left", "right")}
)
"""Free facts of ramps that are whole numbers."""
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Problem:
    """A file that could not be used, and why.

    Attributes
    ----------
    path : str
    sentence : str
        What is wrong, and what to do.
    """

    path: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, eq=False)
class Item:
    """One exposure, its frame if it is in memory, and the hash of its file if it is known already."""

    exposure: Exposure
    frame: Frame | None = None
    hash: str | None = None


@dataclass
class Found:
    """What a scan gave."""

    items: list[Item] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add_problem(self, path: str, error: Exception | str) -> None:
        """Keep the sentence of an error, which names the path."""
        sentence = str(error)
        self.problems.append(Problem(path, sentence if path in sentence else f"{path}: {sentence}"))


def resolve(instrument: str | os.PathLike[str] | Instrument) -> Instrument:
    """The instrument itself, or the one of that name or file."""
    return instrument if isinstance(instrument, Instrument) else load(os.fspath(instrument))


def scan(
    paths: Paths,
    instrument: str | os.PathLike[str] | Instrument,
    *,
    recursive: bool = True,
    kinds: KindTable | None = None,
    progress: Progress | None = None,
) -> tuple[Instrument, Found]:
    """Translate the headers of all files under `paths`; those that cannot be used become problems."""
    found = Found()
    files = list(expand(paths, recursive, found))
    seen: set[tuple[int, int]] = set()
    headers: Iterable[tuple[str, Contents | CalibrantError]] = scan_headers(files)
    if instrument == AUTO:
        headers = list(headers)
        known = {path: c.header() for path, c in headers if isinstance(c, Contents)}
        chosen, others = _recognised({p: h for p, h in known.items() if h.get(FORM) != "product"})
        headers = [one for one in headers if one[0] not in others]
        for path, sentence in others.items():
            found.add_problem(path, sentence)
    else:
        chosen = resolve(instrument)
    for done, (path, contents) in enumerate(headers, 1):
        if isinstance(contents, CalibrantError):
            found.add_problem(path, contents)
        elif contents.stamp[:2] in seen:
            found.add_problem(path, "the file was given twice, and is used once")
        else:
            seen.add(contents.stamp[:2])
            try:
                found.items += [Item(one) for one in _exposures(chosen, contents, path, kinds)]
            except CalibrantError as error:
                found.add_problem(path, error)
        if progress is not None:
            progress(done, len(files), "headers")
    return chosen, found


def _exposures(
    instrument: Instrument, contents: Contents, path: str, kinds: KindTable | None
) -> list[Exposure]:
    """The exposures of a file: one, or a plane each."""
    if instrument.layout.form == "ramp":
        return [_ramp(instrument, contents, path, kinds)]
    if instrument.layout.form != "cube" or contents.header().get(FORM) is not None:
        return [_exposure(instrument, contents, path, kinds)]
    contents = inspect(path)
    cubes = [instrument.layout.hdu, *filter(contents.find, instrument.layout.also)]
    tables, found = Tables(contents, instrument.layout.tables), []
    for unit, cards in (one for hdu in cubes for one in plane_cards(contents, hdu, tables)):
        exposure = instrument.exposure(cards, path)
        keys = {**exposure.keys, **{key: cards[key.upper()] for key in PLANE_KEYS}}
        exposure = replace(exposure, keys=keys, shape=unit.shape[-2:])
        found.append(exposure if kinds is None else kinds.apply(exposure))
    return found


def _exposure(instrument: Instrument, contents: Contents, path: str, kinds: KindTable | None) -> Exposure:
    header = contents.header()
    if header.get(FORM) == "product":
        # Masters and truths lie among raw frames: they are listed, and no rule takes them for exposures.
        return Exposure(kind="product", instrument=instrument.name, path=path)
    unit = contents.image()
    form = instrument.layout.form
    if form in ("single", "slope") and header.get(FORM) is None:
        contents, unit = _one_image(contents, instrument.layout.hdu)
        header = contents.header(unit.index)
    exposure = instrument.exposure(header, path)
    if header.get(FORM) == "frame":
        exposure = replace(exposure, applied=exposure.applied | _done_by_us(header))
    by_amplifiers = form == "amplifiers" and header.get(FORM) is None
    shape = unit.shape[-2:] if form == "slope" else unit.shape
    if not by_amplifiers and shape != exposure.shape:
        exposure = replace(exposure, shape=shape)
    if by_amplifiers:
        exposure = _with_amplifiers(exposure, contents, instrument)
    exposure = _with_limit(exposure, unit, instrument)
    return exposure if kinds is None else kinds.apply(exposure)


def _ramp(instrument: Instrument, contents: Contents, path: str, kinds: KindTable | None) -> Exposure:
    """One exposure read up the ramp; images among them, such as slopes, are listed as they are."""
    contents = inspect(path)
    unit = find_ramp(contents, instrument.layout.hdu)
    if unit is None:
        return _exposure(instrument, contents, path, kinds)
    header, shape = contents.header(unit.index), four_axes(unit.shape)
    exposure = instrument.exposure(header, path)
    applied = exposure.applied | (_done_by_us(header) if header.get(FORM) == "frame" else frozenset())
    keys = ramp_keys(exposure, shape)
    if exposure.duration is None and "group_time" in keys:
        length = shape[0] * shape[1] * keys["group_time"]
        exposure = replace(exposure, duration=length, dark_time=length)
    exposure = replace(exposure, shape=shape, keys=keys, applied=applied)
    exposure = _with_limit(exposure, unit, instrument)
    return exposure if kinds is None else kinds.apply(exposure)


def ramp_keys(exposure: Exposure, shape: tuple[int, ...]) -> dict[str, Any]:
    """The free facts of a ramp: counts as whole numbers, those of its axes, and one time from the other."""
    keys = {
        key: int(value) if key in COUNTS and float(value).is_integer() else value
        for key, value in exposure.keys.items()
    }
    keys |= {"integrations": shape[0], "groups": shape[1]}
    frames = keys.get("nframes", 1) + keys.get("groupgap", 0)
    if "group_time" not in keys and "frame_time" in keys:
        keys["group_time"] = keys["frame_time"] * frames
    elif "frame_time" not in keys and "group_time" in keys:
        keys["frame_time"] = keys["group_time"] / frames
    return keys


def _one_image(contents: Contents, hdu: int | str | None) -> tuple[Contents, HDU]:
    """The image that the instrument means; units behind the first image are looked at where there are any.

    Raises
    ------
    FileError
        If several images have the same rank and the instrument names none: all but one would be dropped.
    """
    # A packed file would be unpacked to its end: only those that begin with an extension are.
    behind = contents.hdus[-1].index > 0 or hdu is not None if contents.gzipped else not contents.is_complete
    if behind:
        contents = inspect(contents.path)
    if hdu is None and behind:
        refuse_several(contents)
    return contents, contents.image(hdu)


def _with_amplifiers(exposure: Exposure, contents: Contents, instrument: Instrument) -> Exposure:
    """With what the HDUs of the amplifiers state, each of its own.

    Raises
    ------
    FileError
        If one of them is missing.
    """
    contents = contents if contents.is_complete else inspect(contents.path)
    amplifiers = instrument.detector(exposure.detector).amplifiers
    headers = {amp.name: contents.image(amp.hdu).header for amp in amplifiers}
    return instrument.with_amplifiers(exposure, headers)


def _with_limit(exposure: Exposure, unit: HDU, instrument: Instrument) -> Exposure:
    """With the largest number that the file can store as saturation, where nobody states a lower one."""
    encoding = unit.encoding
    top = TOPS.get(encoding.dtype)
    if top is None or exposure.unit != "adu" or instrument.nominal(exposure).saturation is not None:
        return exposure
    return replace(exposure, saturation=top * encoding.scale + encoding.zero)


def _done_by_us(header: Header) -> frozenset[str]:
    """Effects that the history of a frame of ours names, so that none is done twice."""
    mark = "calibrant: "
    told = (line.removeprefix(mark) for line in header.lines("HISTORY") if line.startswith(mark))
    return frozenset(line.replace(",", " ").split(maxsplit=1)[0] for line in told if line.strip())


def _recognised(files: Mapping[str, Header]) -> tuple[Instrument, dict[str, str]]:
    """The instrument of most files, and why the others are left out: path -> sentence."""
    known = [load(name) for name in instrument_names()]
    of = {
        path: next((one.name for one in known if one.recognises(header, path)), GENERAL)
        for path, header in files.items()
    }
    counts = Counter(of.values())
    most = max(counts, key=lambda name: (counts[name], name != GENERAL), default=GENERAL)
    return load(most), {
        path: f"left out: {_whose(name)}, and the files here were read as of {most}; "
        f"name its instrument, or give it a folder of its own"
        for path, name in of.items()
        if name != most
    }


def _whose(name: str) -> str:
    return "it is of no instrument that is known" if name == GENERAL else f"it is of {name}"


# --- paths ---


def expand(paths: Paths, recursive: bool, found: Found) -> Iterator[str]:
    """Files named by paths, folders, globs and ``@lists``, in a stable order.

    Raises
    ------
    FileError
        If the only path given is missing or a folder that cannot be read.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    for one in given:
        text = os.fspath(one)
        try:
            yield from _expand_one(text, recursive, found)
        except FileError as error:
            if len(given) == 1:
                raise
            found.add_problem(text, error)


def _expand_one(text: str, recursive: bool, found: Found) -> Iterator[str]:
    if text.startswith("@"):
        yield from expand(_listed(Path(text[1:])), recursive, found)
    elif os.path.isdir(text):  # noqa: PTH112 - a Path for each of thousands of files costs more than its header
        yield from _walk(text, recursive, found)
    elif os.path.exists(text):  # noqa: PTH110
        yield text
    elif _MAGIC.search(text):
        matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - patterns may be absolute
        if not matches:
            raise FileError("no file matches", where=text)
        for match in matches:
            yield from _expand_one(match, recursive, found)
    else:
        raise FileError("there is no such file or folder", where=text)


def _listed(path: Path) -> list[str]:
    """Paths in a list file, one a line, relative to it; ``#`` begins a comment."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise FileError(f"the list cannot be read ({error.strerror})", where=str(path)) from None
    wanted = [line.partition("#")[0].strip() for line in lines]
    return [str(path.parent / line) for line in wanted if line]


def _walk(folder: str, recursive: bool, found: Found) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        name = error.filename or folder
        sentence = FileError(f"the folder cannot be read ({error.strerror})", where=name)
        if name == folder:
            raise sentence
        found.add_problem(name, sentence)

    for here, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []
        for name in sorted(names):
            if SUFFIX.search(name) and not name.startswith("."):
                yield os.path.join(here, name)  # noqa: PTH118


# --- kinds that the user gives ---


class KindTable:
    """Kinds, and other facts, that the user states for files: names or globs, the last that fits counts.

    Parameters
    ----------
    rows : sequence of (str, mapping)
        Name or glob -> facts, ``kind`` among them.
    """

    def __init__(self, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        self._rows = [(name_pattern(name), "/" in name, dict(facts)) for name, facts in rows]

    @classmethod
    def of(cls, table: str | os.PathLike[str] | Mapping[str, Any] | None) -> KindTable | None:
        """From a mapping name -> kind, a CSV with columns ``file,kind,...``, or a TOML of ``name = "kind"``.

        Raises
        ------
        ConfigError
            If the file cannot be read, or has no such columns.
        """
        if table is None:
            return None
        if isinstance(table, Mapping):
            return cls(
                (name, {"kind": value} if isinstance(value, str) else value) for name, value in table.items()
            )
        path = Path(table)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("the table of kinds cannot be read", where=str(path), got=error) from None
        if path.suffix.lower() == ".toml":
            try:
                return cls.of(tomllib.loads(text))
            except tomllib.TOMLDecodeError as error:
                raise ConfigError(f"not TOML: {error}", where=str(path)) from None
        return cls(_csv_rows(text, path))

    def apply(self, exposure: Exposure) -> Exposure:
        """The exposure with what the table says of it."""
        path = exposure.path or ""
        name = base_name(path)
        facts: dict[str, Any] = {}
        for pattern, whole, more in self._rows:
            if pattern.match(path if whole else name):
                facts.update(more)
        if not facts:
            return exposure
        own = {key: value for key, value in facts.items() if key in Exposure.__dataclass_fields__}
        free = {key: value for key, value in facts.items() if key not in own}
        return replace(exposure, keys={**exposure.keys, **free}, **own)


def _csv_rows(text: str, path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    columns = list(reader.fieldnames or [])
    if not {"file", "kind"} <= set(columns):
        raise ConfigError(
            "the table of kinds needs the columns file and kind",
            where=str(path),
            expected="file,kind",
            got=",".join(columns),
        )
    for row in reader:
        yield (
            row["file"].strip(),
            {key: value.strip() for key, value in row.items() if key != "file" and value},
        )
