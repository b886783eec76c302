"""Read noise of ramps, band by band of rows: scatter of differences, or about straight lines.

A map is in the unit of the reads: that of a difference of two groups (CDS) for the methods ``stack`` and
``ramp``, that of one group for ``residual``, as it comes: `_ramp_noise_factors` says what normal noise gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.stack.networks import sorting_network
from calibrant.stats import clip_factor

Method = Literal["stack", "ramp", "residual"]
Differences = Literal["independent", "consecutive"]
Centre = Literal["median", "mean"]
METHODS: tuple[Method, ...] = ("stack", "ramp", "residual")
Planes = dict[str, NDArray[Any]]
STRIP = 16
"""Rows of a strip, within which outliers of the spatial noise are looked for."""
HEIGHTS = (4 * STRIP, 2 * STRIP, STRIP, STRIP // 2, STRIP // 4, STRIP // 8, 1)
"""Rows of a band: strips where memory allows."""
MAXIMUM = 65  # characters of a description in the archive of references


class Reads(Protocol):
    """What is asked of a ramp: see `calibrant.exposures.ramps.Ramp`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Integrations, groups, rows, columns."""
        ...

    def values(self, rows: slice) -> NDArray[Any]:
        """(integrations, groups, rows, columns), uint16 or float32."""
        ...

    def read_dq(self, rows: slice) -> NDArray[np.uint8] | None:
        """Flags of the same shape."""
        ...


@dataclass(frozen=True)
class Options:
    """How the read noise of ramps is measured; the names are those of the published module.

    Attributes
    ----------
    group_diff_type : str
        ``independent`` differences share no group; ``consecutive`` are those of all neighbours.
    clipping_sigma, max_clipping_iters : float, int
        Differences farther from the centre are left out. Of the method ``residual`` they break the line.
    centre : str
        Of the clip: ``median``, as published, or ``mean``.
    as_published : bool
        Numbers as they come: standard deviation with ddof 0, no correction for small samples, for clipping or
        for averaged groups; flags of reads are not looked at.
    single_value : bool
        One number in all pixels: the clipped mean, of arrays with several outputs that of the first output.
    save_intermediate : bool
        Whether maps without corrections, and those of single files, become planes too.
    box : int
        Pixels on a side of the boxes of the spatial noise; 0: none.
    author, description, pedigree, useafter, history, subarray, readpatt : str
        Words for a reference file; the last two as the files say, and ``ANY``, if not given.

    Raises
    ------
    OptionError
        If a number has no meaning, or a description is longer than 65 characters.
    """

    group_diff_type: Differences = "independent"
    clipping_sigma: float = 3.0
    max_clipping_iters: int = 3
    centre: Centre = "median"
    as_published: bool = False
    single_value: bool = False
    save_intermediate: bool = False
    box: int = 128
    author: str = "calibrant"
    description: str = "CDS Noise Image"
    pedigree: str = "GROUND"
    useafter: str = "2015-10-01T00:00:00"
    history: str = ""
    subarray: str | None = None
    readpatt: str | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("group_diff_type", ("independent", "consecutive")),
            ("centre", ("median", "mean")),
        ):
            if getattr(self, name) not in known:
                raise OptionError(
                    f"unknown {name}", where=name, expected=" or ".join(known), got=getattr(self, name)
                )
        if not self.clipping_sigma > 0 or self.max_clipping_iters < 0 or self.box < 0:
            raise OptionError(
                "a clip needs a limit above 0, and rounds and boxes cannot be negative",
                got=(self.clipping_sigma, self.max_clipping_iters, self.box),
            )
        if len(self.description) > MAXIMUM:
            raise OptionError(
                "the description is too long for a reference file",
                where="description",
                expected=f"at most {MAXIMUM} characters",
                got=len(self.description),
            )


@dataclass(frozen=True, eq=False)
class Scatter:
    """The task of the runner: the noise of one band of rows.

    Attributes
    ----------
    ramps : sequence of Reads
        Files of one detector and read pattern; the numbers of groups and integrations may differ.
    good : ndarray
        (rows, cols) bool: pixels that count for the spatial noise.
    edges : ndarray
        (boxes, 2): first and last column + 1 of the boxes.
    saturation : float
        Reads from there on are left out.
    """

    ramps: Sequence[Reads]
    method: Method
    options: Options
    good: NDArray[np.bool_]
    edges: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    saturation: float = np.inf
    uses_blas = False

    @property
    def pairs(self) -> list[NDArray[np.int64]]:
        """Of each file, the reads whose differences are taken: (differences, 2)."""
        kind: Differences = "consecutive" if self.method == "residual" else self.options.group_diff_type
        return [pairs_of(ramp.shape[0], ramp.shape[1], kind) for ramp in self.ramps]

    def __call__(self, band: tuple[int, int]) -> tuple[slice, Planes]:
        """The band's planes: ``noise``, ``count`` and ``offered`` (rows, cols), and ``moments`` of the boxes.

        ``offered`` are the differences that there were, or the degrees of freedom of the lines.
        """
        from calibrant.stack import kernels_read_noise as kernels  # brings numba, as late as it can

        rows, cols = slice(*band), self.ramps[0].shape[3]
        pixels = (rows.stop - rows.start) * cols
        parts = np.cumsum([0, *(len(pairs) for pairs in self.pairs)])
        steps = np.empty((parts[-1], pixels), np.float32)
        kept = []
        for ramp, pairs, first, last in zip(self.ramps, self.pairs, parts, parts[1:], strict=False):
            reads = flat(ramp.values(rows))
            kernels.subtract(reads, pairs, min(self.saturation, 3e38), steps[first:last])
            flags = None if self.options.as_published else ramp.read_dq(rows)
            if flags is not None:
                kernels.strike(
                    np.ascontiguousarray(flags, np.uint8).reshape(-1, pixels), pairs, steps[first:last]
                )
            if self.method == "residual":
                kept.append(reads)
        made = getattr(self, f"_{self.method}")(steps, parts, kept)
        planes = {name: plane.reshape(-1, cols) for name, plane in made.items()}
        if len(self.edges):
            planes["moments"] = self._moments(steps, rows)
        return rows, planes

    def _spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Clipped mean, scatter, count, and values there were, (4, pixels)."""
        from calibrant.stack import kernels_read_noise as kernels

        out, own = np.empty((4, values.shape[1]), np.float32), self.options
        kernels.spread(
            values, sorting_network(len(values)), own.clipping_sigma, own.max_clipping_iters,
            own.centre == "median", out,
        )  # fmt: skip
        return out

    def _stack(self, steps: NDArray[np.float32], parts: NDArray[Any], reads: Any) -> Planes:
        _, noise, count, offered = self._spread(steps)
        return {"noise": noise, "count": count, "offered": offered}

    def _ramp(self, steps: NDArray[np.float32], parts: NDArray[Any], reads: Any) -> Planes:
        """The mean of what each file gives."""
        each = np.stack([self._spread(steps[a:b])[1:] for a, b in pairwise(parts)])
        noise = self._spread(np.ascontiguousarray(each[:, 0]))[0]
        found = {"noise": noise, "count": each[:, 1].sum(axis=0), "offered": each[:, 2].sum(axis=0)}
        if self.options.save_intermediate:
            found |= {f"cds_{number}": one for number, one in enumerate(each[:, 0], 1)}
        return found

    def _residual(self, steps: NDArray[np.float32], parts: NDArray[Any], reads: Any) -> Planes:
        """Scatter about one line for each integration, broken where a step is clipped or not good."""
        from calibrant.stack import kernels_read_noise as kernels

        mean, scatter, _, _ = self._spread(steps)
        width = self.options.clipping_sigma * scatter * np.float32(clip_factor(self.options.clipping_sigma))
        limits, out = np.stack([mean - width, mean + width]), np.zeros((2, len(mean)))
        for own, ramp, a, b in zip(reads, self.ramps, parts, parts[1:], strict=False):
            many, groups = ramp.shape[:2]
            each = np.stack([np.arange(many) * groups, np.full(many, groups)], axis=1)
            kernels.lines(own, each, steps[a:b], limits, out)
        free = out[1]
        noise = np.sqrt(out[0] / np.where(free > 0, free, np.nan))
        return {
            "noise": noise.astype(np.float32),
            "count": free.astype(np.float32),
            "offered": free.astype(np.float32),
            "cds": scatter,
        }

    def _moments(self, steps: NDArray[np.float32], rows: slice) -> NDArray[np.float64]:
        """(strips, differences, boxes, 4), of strips of `STRIP` rows."""
        from calibrant.stack import kernels_read_noise as kernels

        cols, found, own = self.good.shape[1], [], self.options
        for first in range(0, rows.stop - rows.start, STRIP):
            good = self.good[rows.start + first : min(rows.start + first + STRIP, rows.stop)]
            out = np.empty((len(steps), len(self.edges), 4))
            use = np.ascontiguousarray(good, np.float32).ravel()
            kernels.boxes(
                steps, first * cols, cols, use, self.edges, own.clipping_sigma, own.max_clipping_iters, out
            )
            found.append(out)
        return np.stack(found)


def pairs_of(integrations: int, groups: int, kind: Differences) -> NDArray[np.int64]:
    """Reads whose differences are taken, (differences, 2): an odd group is left over."""
    first = np.arange(0, groups - 1, 2 if kind == "independent" else 1)
    start = np.arange(integrations)[:, None] * groups + first
    return np.stack([start.ravel(), start.ravel() + 1], axis=1)


def flat(values: NDArray[Any]) -> NDArray[Any]:
    """Reads as the kernels take them: (reads, pixels), uint16 or float32."""
    kind = np.uint16 if values.dtype == np.uint16 else np.float32
    return np.ascontiguousarray(values, kind).reshape(values.shape[0] * values.shape[1], -1)
