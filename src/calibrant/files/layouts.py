"""How the planes of a frame sit in files: ours, and those of other pipelines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import FileError, OptionError, ShapeError
from calibrant.files.header import HDU, Contents
from calibrant.files.source import FitsSource
from calibrant.files.tables import read_table
from calibrant.frame import DQ, NO_DATA


@dataclass(frozen=True)
class Layout:
    """Names of the units that hold the planes; ``""`` where a layout has none.

    Attributes
    ----------
    data, error, dq : str
        EXTNAMEs. What `error` holds (variance or standard deviation) is told by `form`.
    form : str
        ``variance``, ``sigma``, or ``utype`` when a card of that unit says it.
    """

    name: str
    data: str
    error: str = ""
    dq: str = ""
    form: str = "variance"
    read_dq: str = ""


LAYOUTS = (
    Layout("sci-err-dq", "SCI", "ERR", "DQ", "sigma"),
    Layout("sci-var-dq", "SCI", "VAR", "DQ"),
    Layout("ramp", "SCI", "ERR", "PIXELDQ", "sigma", "GROUPDQ"),
    Layout("image-variance-mask", "IMAGE", "VARIANCE", "MASK"),
    Layout("primary-uncert-mask", "PRIMARY", "UNCERT", "MASK", "utype"),
)
"""Layouts of other pipelines, the most telling first; ``single`` is what remains: one image."""


_COMPANION = re.compile(
    r"(ERR|SIG|NOISE|STD|RMS|.?VAR|UNC|W(EIGH)?T|WHT|DQ|MASK|FLAG|BPM|BAD|QUAL|SYS|READDQ|PIXELDQ|GROUPDQ|"
    r"EXPT|EXPOSURE|COUNT|COVER|CON|CTX|AREA|BKG|BACKG|SKY|MODEL|PSF|SAMP|TIME|D2IM|WCSDVARR|PREVIEW|THUMB)"
)
"""How the names of planes begin that are about an image, and are not another one."""


@dataclass(frozen=True)
class Planes:
    """The units of one frame in a file.

    Attributes
    ----------
    form : str
        What `error` holds: ``variance``, ``sigma`` or ``inverse``.
    """

    layout: str
    data: HDU
    error: HDU | None = None
    form: str = "variance"
    dq: HDU | None = None
    read_dq: HDU | None = None


def find_planes(contents: Contents, layout: str | None = None, hdu: int | str | None = None) -> Planes:
    """Which units of a file make its frame.

    Parameters
    ----------
    layout : str, optional
        Name of one of `LAYOUTS`, or ``single``; by default the first that fits.
    hdu : int or str, optional
        The unit with the data; others belong to it if they have the same EXTVER.

    Raises
    ------
    FileError
        If there is no image, or no unit was named and there are several of the same rank.
    OptionError
        If the layout is unknown.
    """
    names = [known.name for known in LAYOUTS] + ["single"]
    if layout is not None and layout not in names:
        raise OptionError(
            "this layout is unknown", where=contents.path, expected=", ".join(names), got=layout
        )
    data = contents.image(hdu)
    best = _best(contents, layout, data)
    if hdu is None:
        refuse_several(contents, best)
    return best


def _best(contents: Contents, layout: str | None, data: HDU) -> Planes:
    """The layout that explains most units; ``single`` if none does."""
    best: Planes | None = None
    for known in LAYOUTS:
        if layout not in (None, known.name):
            continue
        found = _match(contents, known, data)
        if found is not None and (best is None or _count(found) > _count(best)):
            best = found
    return best or Planes("single", data)


def equals_of(contents: Contents, planes: Planes | None = None) -> list[HDU]:
    """The images of a file that have the same rank: amplifiers or chips. One, if the others are about it."""
    planes = planes or _best(contents, None, contents.image())
    data = planes.data
    alike = [
        unit
        for unit in contents.hdus
        if unit.is_image
        and unit.shape == data.shape
        and unit.encoding.dtype == data.encoding.dtype
        and (unit.name == data.name if planes.layout != "single" else not _COMPANION.match(unit.name))
    ]
    return alike if data in alike else [data]


def refuse_several(contents: Contents, planes: Planes | None = None) -> None:
    """See that a file has one image, so that the others are not dropped without a word.

    Raises
    ------
    FileError
        If it has several of the same rank, such as one for each amplifier.
    """
    alike = equals_of(contents, planes)
    if len(alike) > 1:
        names = [unit.name or str(unit.index) for unit in alike]
        if len(set(names)) < len(names):
            names = [f"{unit.index} {unit.name}" for unit in alike]
        raise FileError(
            f"the file holds {len(alike)} images ({', '.join(names)}) where one is wanted",
            where=contents.path,
            do="describe its amplifiers in an instrument file with [layout] form = 'amplifiers', "
            "or name the hdu",
        )


def _count(planes: Planes) -> int:
    return sum(unit is not None for unit in (planes.error, planes.dq, planes.read_dq))


def _match(contents: Contents, layout: Layout, data: HDU) -> Planes | None:
    """The layout's units beside `data`; None if it is not there, or has nothing but the data."""
    if data.name != layout.data and not (layout.data == "PRIMARY" and data.index == 0):
        return None
    version = data.version
    error = contents.find(layout.error, version) if layout.error else None
    dq = contents.find(layout.dq, version) if layout.dq else None
    read_dq = contents.find(layout.read_dq, version) if layout.read_dq else None
    form = layout.form if error is None or layout.form != "utype" else _utype(error)
    found = Planes(
        layout.name,
        data,
        error if error is not None and error.shape == data.shape else None,
        form,
        dq if dq is not None and dq.shape == data.shape[-2:] else None,
        read_dq if read_dq is not None and read_dq.shape == data.shape else None,
    )
    return found if _count(found) else None


def _utype(error: HDU) -> str:
    kind = str(error.header.get("UTYPE") or "").lower()
    if "inverse" in kind or kind == "ivar":
        return "inverse"
    return "variance" if "var" in kind else "sigma"


@dataclass(frozen=True, eq=False)
class ErrorPlane:
    """A plane of standard deviations or inverse variances, as the variance that it means."""

    source: FitsSource
    form: str

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the data."""
        return self.source.shape

    def load(self) -> NDArray[Any]:
        """The variance, float32; an inverse variance of zero is an infinite one."""
        values = self.source.load().astype(np.float32, copy=False)
        if self.form == "sigma":
            return np.square(values)
        with np.errstate(divide="ignore"):
            return np.reciprocal(values)


_OTHERS: dict[str, DQ] = {
    "BAD": DQ.DO_NOT_USE | DQ.OTHER_BAD_PIXEL,
    "SAT": DQ.SATURATED,
    "CR": DQ.JUMP_DET,
    "INTRP": DQ.FLUX_ESTIMATED,
    "SUSPECT": DQ.NONLINEAR,
    "NO_DATA": NO_DATA,
    "UNMASKEDNAN": DQ.DO_NOT_USE,
    "EDGE": DQ(0),
    "DETECTED": DQ(0),
    "DETECTED_NEGATIVE": DQ(0),
    "GOOD": DQ(0),
}
"""Names of mask planes in other pipelines; unknown ones make a pixel bad, to be safe."""


@dataclass(frozen=True, eq=False)
class FlagPlane:
    """A dq plane in a file, read as our bits. Picklable.

    Attributes
    ----------
    bits : tuple of (int, int), optional
        Each bit of the file with the bits of `DQ` that it means; None if they are the same.
    mask : bool
        Whether the plane only says good (0) or bad.
    """

    source: FitsSource
    bits: tuple[tuple[int, int], ...] | None = None
    mask: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, cols)."""
        return self.source.shape

    def read_into(self, rows: slice, dq: NDArray[np.uint32]) -> None:
        """Fill `dq` with the rows asked for."""
        raw = np.empty(dq.shape, self.source.encoding.dtype)
        self.source.read_into(rows, raw)
        dq[...] = self._translated(self.source.decoded(raw))

    def load(self) -> NDArray[np.uint32]:
        """The whole plane, uint32."""
        return self._translated(self.source.load())

    def _translated(self, raw: NDArray[Any]) -> NDArray[np.uint32]:
        if self.mask:
            return np.where(raw != 0, np.uint32(DQ.DO_NOT_USE), np.uint32(0))
        theirs = raw.astype(np.int64).astype(np.uint32) if raw.dtype != np.uint32 else raw
        if self.bits is None:
            return theirs
        ours = np.zeros(theirs.shape, np.uint32)
        for their_bit, our_bits in self.bits:
            ours |= np.where(theirs & np.uint32(their_bit), np.uint32(our_bits), np.uint32(0))
        return ours


@dataclass(frozen=True)
class Definitions:
    """What the bits of a file's dq plane mean, as far as the file says.

    Attributes
    ----------
    names : mapping of int to str
        Value of each bit -> its name.
    """

    names: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, contents: Contents, plane: HDU) -> Definitions:
        """From a table DQ_DEF beside the plane, or from cards ``MP_name`` in its header."""
        table = contents.find("DQ_DEF")
        if table is not None and table.is_table:
            columns = {name.upper(): values for name, values in read_table(contents, table).items()}
            if {"VALUE", "NAME"} <= columns.keys():
                pairs = zip(columns["VALUE"].tolist(), columns["NAME"].tolist(), strict=True)
                return cls({int(value): str(name).strip().upper() for value, name in pairs if value > 0})
        planes = {key[3:]: plane.header.get(key) for key in plane.header if key.startswith("MP_")}
        return cls({1 << bit: name.upper() for name, bit in planes.items() if isinstance(bit, int)})

    def bits(self) -> tuple[tuple[int, int], ...] | None:
        """Their bits with ours; None if they are the same."""
        if all(DQ.__members__.get(name) == value for value, name in self.names.items()):
            return None
        return tuple((value, int(meaning(name))) for value, name in sorted(self.names.items()))


def meaning(name: str) -> DQ:
    """Our bits for a flag of another pipeline."""
    found = DQ.__members__.get(name)
    return found if found is not None else _OTHERS.get(name, DQ.OTHER_BAD_PIXEL)


def flag_plane(contents: Contents, plane: HDU) -> FlagPlane:
    """The dq plane of a file with the meaning of its bits.

    Bits that the file defines are translated by their names; an undefined uint32 plane is taken to follow the
    table that we share with others; any other undefined plane says only good or bad.

    Raises
    ------
    ShapeError
        If the plane holds no integers.
    """
    source = FitsSource.of(contents, plane)
    if np.dtype(source.encoding.dtype).kind not in "iu":
        raise ShapeError(
            "the dq plane does not hold integers", where=contents.path, got=source.encoding.dtype
        )
    definitions = Definitions.of(contents, plane)
    if definitions.names:
        return FlagPlane(source, definitions.bits())
    unsigned = source.encoding.dtype == ">i4" and source.encoding.zero == 2.0**31
    return FlagPlane(source, mask=not unsigned)
