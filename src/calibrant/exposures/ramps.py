"""Ramps: exposures read again and again without a reset, some rows at a time, from files or from memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import FileError, SelectionError, ShapeError
from calibrant.exposures.grouping import cell_text
from calibrant.exposures.ramp_seen import Seen, wrapped
from calibrant.exposures.scan import Item, ramp_keys
from calibrant.files.header import inspect
from calibrant.files.layouts import FlagPlane
from calibrant.files.ramp import AXES, RampFile, four_axes, group_times, read_rows
from calibrant.files.source import FitsSource
from calibrant.frame import Exposure, Frame
from calibrant.instrument import Instrument

PATTERN = (
    "detector", "readpatt", "subarray", "nframes", "groupgap", "frame_time", "group_time", "fastaxis",
    "slowaxis", "outputs",
)  # fmt: skip
"""Facts that ramps measured together share, beside their rows and columns."""
NAMED = 12  # files of one pattern that a message names before it counts
EVERY = slice(None)
Shape = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Ramp:
    """One exposure read up the ramp. Picklable when it is a file: it holds no open file and no pixel of it.

    Attributes
    ----------
    exposure : Exposure
    shape : tuple of int
        Integrations, groups, rows, columns.
    unit : str
    name : str
        The file, or what the frame is called.
    seen : Seen
        What is wrong with the numbers read so far: see `remarks_of`.
    """

    exposure: Exposure
    shape: Shape
    unit: str
    name: str
    _file: RampFile | None = field(default=None, repr=False)
    _planes: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    seen: Seen = field(default_factory=Seen, repr=False)

    @property
    def integrations(self) -> int:
        """How many ramps, each from a reset on."""
        return self.shape[0]

    @property
    def groups(self) -> int:
        """Groups of an integration."""
        return self.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what `values` gives: uint16 or float32."""
        whole = self._planes["data"].dtype == np.uint16 if self._file is None else self._file.is_unsigned
        return np.dtype(np.uint16 if whole else np.float32)

    @property
    def has_read_dq(self) -> bool:
        """Whether single groups have flags."""
        return "read_dq" in self._planes if self._file is None else self._file.read_dq is not None

    @property
    def has_dq(self) -> bool:
        """Whether pixels have flags."""
        return "dq" in self._planes if self._file is None else self._file.dq is not None

    @property
    def has_first(self) -> bool:
        """Whether the first read of each integration is there by itself (ZEROFRAME)."""
        return self._file is not None and self._file.first is not None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know of this ramp before it is measured, known without its pixels."""
        told = []
        if not self.has_read_dq:
            told.append("no flags of groups (GROUPDQ): no group is known to be saturated or hit")
        if self.groups == 1:
            told.append("a single group: nothing can be learnt of its noise or slope")
        return tuple(f"{self.name}: {sentence}" for sentence in told)

    def values(
        self,
        rows: slice = EVERY,
        *,
        integrations: slice = EVERY,
        groups: slice = EVERY,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Counts of some rows, read now, in memory of their own.

        Parameters
        ----------
        rows, integrations, groups : slice
            Steps are allowed for integrations and groups.
        out : array, optional
            Of the result's shape and `dtype`, C-contiguous: filled and returned. Fresh memory costs as much
            time as reading does.

        Returns
        -------
        array of uint16 or float32 (integrations, groups, rows, cols)
            In `unit`, native byte order. NaN stays NaN. Counts of 16 bits that wrapped around become 65535,
            from there to the end of the ramp: such a pixel is saturated; `seen` counts it.

        Raises
        ------
        FileError
            If the file ends early, was changed since it was looked at, or its numbers wrap around: 16 bits
            with a sign where counts need them all.
        ShapeError
            If `out` does not fit.
        """
        leading, first = self._leading(integrations, groups), rows.indices(self.shape[2])[0]
        if self._file is None:
            found = np.empty_like(part := self._planes["data"][integrations, groups, rows], self.dtype, "C")
            found = found if out is None else out
            found[...] = part
        else:
            found = read_rows(self._file.data, rows, leading, out)
            if self._file.is_signed:
                self._refuse_wrapped(found, leading)
            found = found.astype(self.dtype, copy=False)
        self.seen.look(found, first, leading)
        return found

    def read_dq(
        self, rows: slice = EVERY, *, integrations: slice = EVERY, groups: slice = EVERY
    ) -> NDArray[np.uint8] | None:
        """Flags of single groups, low bits of `DQ`, uint8, shaped as `values`; None where there are none."""
        if self._file is None:
            flags = self._planes.get("read_dq")
            return None if flags is None else np.array(flags[integrations, groups, rows], np.uint8)
        if self._file.read_dq is None:
            return None
        found = read_rows(self._file.read_dq, rows, self._leading(integrations, groups))
        return found.astype(np.uint8, copy=False)

    def dq(self, rows: slice = EVERY) -> NDArray[np.uint32] | None:
        """Flags of pixels, uint32 bits of `DQ`, (rows, cols); None where there are none."""
        if self._file is None:
            flags = self._planes.get("dq")
            return None if flags is None else np.array(flags[rows], np.uint32)
        if self._file.dq is None:
            return None
        begin, stop, _ = rows.indices(self.shape[2])
        found = np.empty((max(stop - begin, 0), self.shape[3]), np.uint32)
        self._file.dq.read_into(slice(begin, stop), found)
        return found

    def first(self, rows: slice = EVERY) -> NDArray[Any] | None:
        """The first read of each integration, (integrations, rows, cols), as `values`; None if unknown.

        It is the ZEROFRAME of files whose groups are averages; 0 there means that it was saturated, too.
        """
        if self._file is None or self._file.first is None:
            return None
        return read_rows(self._file.first, rows, (range(self.shape[0]),))

    def times(self) -> NDArray[np.float64] | None:
        """Ends of groups as the table GROUP has them, s after the very first, (integrations, groups)."""
        if self._file is None:
            return None
        seconds = group_times(inspect(self._file.data.name), self.shape[:2])
        return None if seconds is None else seconds - seconds.flat[0]

    def bands(self, budget: int, itemsize: int | None = None) -> list[slice]:
        """Bands of rows, about equally high, whose values fit into a budget; of one row at least.

        Parameters
        ----------
        budget : int
            Bytes for one band of all integrations and groups.
        itemsize : int, optional
            Bytes that the caller needs for one value; those of `dtype` by default.
        """
        ints, groups, rows, cols = self.shape
        line = ints * groups * cols * (self.dtype.itemsize if itemsize is None else itemsize)
        most = min(max(int(budget) // line, 1), rows)
        count = -(-rows // most)
        return [slice(a, b) for a, b in pairwise(rows * k // count for k in range(count + 1))]

    def _leading(self, integrations: slice, groups: slice) -> tuple[range, range]:
        return range(self.shape[0])[integrations], range(self.shape[1])[groups]

    def _refuse_wrapped(self, values: NDArray[Any], leading: tuple[range, range]) -> None:
        late = wrapped(values)
        if late.any():
            number, group, row, col = (int(axis[0]) for axis in np.nonzero(late))
            before, after = values[number, group - 1 : group + 1, row, col]
            raise FileError(
                f"numbers wrap around at group {leading[1][group]} of integration {leading[0][number]}: "
                "16 bits with a sign do not hold these counts",
                where=self.name,
                got=f"{before:g}, then {after:g}",
                do="write them as unsigned numbers (BZERO = 32768), or as wider ones",
            )


def ramp_of(item: Item, instrument: Instrument) -> Ramp:
    """The ramp of one exposure; no pixel of a file is read.

    Raises
    ------
    FileError
        If its file holds none.
    ShapeError
        If the frame in memory is a single image.
    """
    exposure, frame = item.exposure, item.frame
    if frame is None:
        if exposure.path is None:
            raise SelectionError("the exposure has neither a file nor a frame", where=exposure.identifier)
        planes = RampFile.open(exposure.path, instrument.layout.hdu)
        return _ramp(exposure, planes.shape, exposure.unit, exposure.path, file=planes)
    if not AXES - 1 <= len(frame.shape) <= AXES:
        raise ShapeError(
            "a ramp has the axes integration, group, row, column, or the last three",
            where=frame.name,
            got=frame.shape,
        )
    shape = cast(Shape, four_axes(frame.shape))
    if isinstance(frame.data, FitsSource):
        return _ramp(exposure, shape, frame.unit, frame.name, file=_of_frame(frame, shape))
    loaded = {"data": _array(frame.data).reshape(shape)}
    if frame.read_dq is not None:
        loaded["read_dq"] = _array(frame.read_dq).reshape(shape)
    if frame.dq is not None:
        loaded["dq"] = _array(frame.dq)
    return _ramp(exposure, shape, frame.unit, frame.name, planes=loaded)


def refuse_mixed(ramps: Sequence[Ramp], *, also: Sequence[str] = ()) -> None:
    """See that ramps are of one detector, read pattern and size, and that there are any.

    Parameters
    ----------
    also : sequence of str
        Further facts that have to agree, such as ``groups``.

    Raises
    ------
    SelectionError
        If there are none, or they differ: what differs, and which file has what.
    """
    if not ramps:
        raise SelectionError("there are no ramps", do="check the folder and the selection")
    for key in ("size", *PATTERN, *also):
        found: dict[Any, list[str]] = {}
        for one in ramps:
            found.setdefault(one.shape[2:] if key == "size" else one.exposure.get(key), []).append(one.name)
        if len(found) > 1:
            told = "; ".join(f"{_word(value)} in {_named(names)}" for value, names in found.items())
            raise SelectionError(
                f"ramps of several kinds cannot be measured together, their {key} differs: {told}",
                do=f"select one, such as by {key}" if key != "size" else "select one size (rows x cols)",
            )


def remarks_of(ramps: Sequence[Ramp], *, flags: bool = True) -> list[str]:
    """What is to be known of ramps that were read: wrapped counters, empty groups, flags not there."""
    lacking = [ramp.name for ramp in ramps if ramp._file is not None and not ramp.has_read_dq]
    notes = [f"{ramp.name}: {sentence}" for ramp in ramps for sentence in ramp.seen.sentences()]
    if lacking and flags:
        many = "no file has" if len(lacking) == len(ramps) else f"{_named(lacking)} have"
        no = "" if len(lacking) == len(ramps) else "no "
        notes.append(f"{many} {no}flags of groups (GROUPDQ): no group is known to be saturated or hit")
    return notes


def _ramp(
    exposure: Exposure,
    shape: Shape,
    unit: str,
    name: str,
    *,
    file: RampFile | None = None,
    planes: dict[str, NDArray[Any]] | None = None,
) -> Ramp:
    return Ramp(replace(exposure, keys=ramp_keys(exposure, shape)), shape, unit, name, file, planes or {})


def _of_frame(frame: Frame, shape: Shape) -> RampFile:
    """The planes of a frame that are still in its file."""
    flags = frame.read_dq if isinstance(frame.read_dq, FitsSource) else None
    pixels = frame.dq if isinstance(frame.dq, FlagPlane) else None
    return RampFile(
        replace(cast(FitsSource, frame.data), shape=shape),
        None if flags is None else replace(flags, shape=shape),
        pixels,
    )


def _array(plane: Any) -> NDArray[Any]:
    return plane if isinstance(plane, np.ndarray) else cast(NDArray[Any], plane.load())


def _word(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else cell_text(value) or "unknown"


def _named(names: Sequence[str]) -> str:
    told = [name.rpartition("/")[2] for name in names[:NAMED]]
    return ", ".join(told) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
