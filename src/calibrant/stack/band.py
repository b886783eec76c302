"""One band of rows: read, decoded, judged, rejected, combined. The task that a runner carries out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.frame import DQ, NO_DATA
from calibrant.stack import kernels, kernels_values
from calibrant.stack.door import Door, store, values_of
from calibrant.stack.limits import grow, reject_ranks, rounds_of
from calibrant.stack.networks import median_blocks, sorting_blocks
from calibrant.stack.noise import NoiseModel
from calibrant.stack.reject import CCDClip, Rejection, SigmaClip
from calibrant.stack.source import Source

METHODS = {"mean": kernels.MEAN, "median": kernels.MEDIAN, "sum": kernels.SUM}

SUSPECT = DQ.WARM | DQ.LOW_QE | DQ.NONLINEAR | DQ.PERSISTENCE | DQ.CHARGELOSS | DQ.FLUX_ESTIMATED
SUSPECT |= DQ.UNRELIABLE_BIAS | DQ.UNRELIABLE_DARK | DQ.UNRELIABLE_SLOPE | DQ.UNRELIABLE_FLAT
DEFECTIVE = DQ.DEAD | DQ.HOT | DQ.RC | DQ.TELEGRAPH | DQ.BAD_REF_PIXEL | DQ.NO_FLAT_FIELD | DQ.NO_GAIN_VALUE
DEFECTIVE |= DQ.NO_LIN_CORR | DQ.OPEN | DQ.ADJ_OPEN | DQ.MSA_FAILED_OPEN | DQ.OTHER_BAD_PIXEL
WRONG = DQ.SATURATED | DQ.JUMP_DET | DQ.DROPOUT | DQ.OUTLIER | DQ.AD_FLOOR
SEVERITY = (SUSPECT, DEFECTIVE, WRONG, NO_DATA)
"""Flags by badness, least first. A pixel uses its least bad values; those of the last level are never
used."""

_SEVERE = np.array([int(level) for level in SEVERITY], np.uint32)
_MARKS = np.array([int(DQ.AD_FLOOR), int(DQ.SATURATED)], np.uint32)
_NOTHING_U2 = np.empty(0, np.uint16)
_NOTHING_U4 = np.empty(0, np.uint32)
_NOTHING_F4 = np.empty(0, np.float32)
_NOTHING_F8 = np.empty(0, np.float64)


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that the bands of one combination share; picklable.

    Attributes
    ----------
    sources : tuple of Source
    door : Door
        How their numbers become values.
    method : str
        mean, median, sum or weighted.
    reject : Rejection
    zero, scale, weights : ndarray
        float64 (frames,): ``value = (stored value + zero) * scale``.
    floor, ceiling : float
        Raw limits: below, and at or above which a value is flagged.
    mask : ndarray or None
        uint32 (rows, cols), flags of all frames.
    noise : NoiseModel or None
    factor, propagated_factor : ndarray
        float64 (frames + 1,) by count: what to multiply the variance of a mean by.
    spread : float
        Mean sample variance of what the rejection keeps of pure noise, over that of all.
    grow : float
        Radius in pixels.
    n_keep : int
        Rejection leaves at least so many values.
    planes : frozenset of str
        What is wanted beside the data.
    """

    sources: tuple[Source, ...]
    door: Door
    method: str
    reject: Rejection
    zero: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    floor: float
    ceiling: float
    mask: NDArray[np.uint32] | None
    noise: NoiseModel | None
    factor: NDArray[np.float64]
    propagated_factor: NDArray[np.float64]
    spread: float
    grow: float
    n_keep: int
    planes: frozenset[str]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.sources)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        rows, cols = self.sources[0].shape
        return rows, cols

    @property
    def flagged(self) -> bool:
        """Whether any value may carry a flag."""
        limited = np.isfinite(self.floor) or np.isfinite(self.ceiling)
        return bool(limited or self.mask is not None or any(source.has_dq for source in self.sources))

    @property
    def plain_sigma(self) -> bool:
        """Whether the rejection is one that the hot kernel does itself."""
        return isinstance(self.reject, SigmaClip) and self.reject.deviation == "std"

    @property
    def one_sweep(self) -> bool:
        """Whether the hot kernel can do rejection and combination at once, not caring which frame a value is
        of."""
        if self.reject.name == "none":
            return self.method != "weighted"
        quiet = self.noise is None or self.noise.uniform
        return self.plain_sigma and self.method != "weighted" and quiet and not self.grow

    @property
    def stays_u2(self) -> bool:
        """Whether uint16 stays uint16 to the end."""
        plain = self.door.common and not self.flagged and self.one_sweep
        quiet = self.noise is None or self.noise.uniform
        return plain and quiet and len(set(self.zero)) == 1 and len(set(self.scale)) == 1

    def bytes_per_pixel(self) -> int:
        """Bytes that one pixel of a band takes while it is worked on, all frames together."""
        if self.stays_u2:
            return 2 * self.frames + 8
        size = 4 * self.frames + max(source.encoding.itemsize for source in self.sources) * 2 + 64
        if any(source.has_dq for source in self.sources):
            size += 4 * self.frames
        if self.grow:
            size += self.frames
        if self.noise is not None:
            size += 8 * len(self.noise.planes)
        return size


def tile_width(frames: int, itemsize: int) -> int:
    """Pixels of a tile: as many as let all frames' rows stay in the second-level cache."""
    width = 1 << 10
    while width > 64 and width * frames * itemsize > 1 << 20:
        width >>= 1
    return width


class Scratch:
    """Buffers of a worker thread, made once and used for every band; not carried in a pickle."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __reduce__(self) -> tuple[type[Scratch], tuple[()]]:
        return Scratch, ()

    def get(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array with arbitrary contents; a piece of the same memory each time."""
        size = int(np.prod(shape))
        buffer: NDArray[Any] | None = getattr(self._local, name, None)
        if buffer is None or buffer.size < size or buffer.dtype != dtype:
            buffer = np.empty(size, dtype)
            setattr(self._local, name, buffer)
        return buffer[:size].reshape(shape)


@dataclass(frozen=True, eq=False)
class Band:
    """What comes out of one band: planes by name, flattened or (rows, cols)."""

    first: int
    end: int
    planes: dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Task:
    """Combines one band; called with its first and end row."""

    job: Job
    halo: int = 0
    scratch: Scratch = field(default_factory=Scratch)
    uses_blas = False

    def __call__(self, rows: tuple[int, int]) -> Band:
        """Read and combine rows ``first`` to ``end``."""
        first, end = rows
        planes = self._u2(first, end) if self.job.stays_u2 else self._f4(first, end)
        cols = self.job.sources[0].shape[1]
        return Band(first, end, {name: plane.reshape(-1, cols) for name, plane in planes.items()})

    def _u2(self, first: int, end: int) -> dict[str, NDArray[Any]]:
        job = self.job
        cols = job.sources[0].shape[1]
        raw = self.scratch.get("raw", (job.frames, end - first, cols), np.uint16)
        for i, source in enumerate(job.sources):
            store(source, slice(first, end), raw[i])
        word = job.door.words[0]
        assert word is not None
        scale = word.scale * job.scale[0]
        zero = (word.zero + job.zero[0]) * job.scale[0]
        out = self._stack(raw.reshape(job.frames, -1), METHODS[job.method], job.reject, (scale, zero))
        if job.noise is not None and "propagated" in job.planes:
            out["propagated"] = self._uniform_noise(out, first, end)
        return self._wanted(out)

    def _f4(self, first: int, end: int) -> dict[str, NDArray[Any]]:
        job = self.job
        total = job.sources[0].shape[0]
        begin, stop = max(0, first - self.halo), min(total, end + self.halo)
        values, dq = self._read(begin, stop)
        bits = self._admit(values, dq, begin, stop)
        low = np.zeros(values.shape[1], np.uint16)
        high = np.zeros(values.shape[1], np.uint16)
        if job.one_sweep:
            out = self._stack(values, METHODS[job.method], job.reject)
        else:
            self._reject(values, begin, stop, low, high)
            out = self._merge(values)
            out["low"], out["high"] = low, high
        if job.noise is not None and "propagated" in job.planes:
            if job.one_sweep and job.reject.name != "none":
                out["propagated"] = self._uniform_noise(out, begin, stop)
            else:
                out["propagated"] = self._propagate(values, out, begin, stop)
        if "dq" in job.planes:
            out["dq"] = _final_flags(bits, out["count"])
        inner = slice((first - begin) * job.sources[0].shape[1], (end - begin) * job.sources[0].shape[1])
        return {name: plane[inner] for name, plane in self._wanted(out).items()}

    def values(self, row: int, *, rejected: bool = True) -> NDArray[np.float32]:
        """Values of one row, (frames, cols), as they go into the combination; +inf where none does."""
        job = self.job
        begin, stop = max(0, row - self.halo), min(job.shape[0], row + self.halo + 1)
        values, dq = self._read(begin, stop)
        self._admit(values, dq, begin, stop)
        if rejected:
            unused = np.zeros((2, values.shape[1]), np.uint16)
            self._reject(values, begin, stop, unused[0], unused[1])
        return values.reshape(job.frames, -1, job.shape[1])[:, row - begin].copy()

    def _wanted(self, out: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        kept = {name: plane for name, plane in out.items() if name == "data" or name in self.job.planes}
        if "dq" in self.job.planes and "dq" not in kept:
            kept["dq"] = _final_flags(None, out["count"])
        return kept

    def _read(self, first: int, end: int) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
        """Rows of all frames as float32 (frames, pixels), and their flags where any source has some."""
        job = self.job
        cols = job.sources[0].shape[1]
        shape = (end - first, cols)
        values = self.scratch.get("values", (job.frames, *shape), np.float32)
        has_dq = any(source.has_dq for source in job.sources)
        dq = self.scratch.get("dq", (job.frames, *shape) if has_dq else (0, 0, 0), np.uint32)
        for i, source in enumerate(job.sources):
            flags = None
            if has_dq:
                flags = dq[i] if source.has_dq else None
                if not source.has_dq:
                    dq[i] = 0
            self._read_one(source, i, slice(first, end), values[i], flags)
        return values.reshape(job.frames, -1), dq.reshape(dq.shape[0], values[0].size if has_dq else 0)

    def _read_one(
        self, source: Source, i: int, rows: slice, values: NDArray[np.float32], dq: NDArray[np.uint32] | None
    ) -> None:
        encoding = source.encoding
        stored = np.dtype(encoding.dtype)
        word = self.job.door.words[i]
        if stored == np.dtype("=f4") and encoding.scale == 1 and encoding.zero == 0:
            source.read_into(rows, values, dq)
            return
        if word is not None:
            raw = self.scratch.get("one", values.shape, np.uint16)
            store(source, rows, raw, dq)
            kernels_values.widen_u2(
                raw.reshape(-1), values.reshape(-1), word.swap, np.uint16(word.flip), word.scale, word.zero,
                word.blank
            )  # fmt: skip
            return
        other = self.scratch.get(f"other{stored.str}", values.shape, stored)
        source.read_into(rows, other, dq)
        values_of(other, encoding, values)

    def _admit(
        self, values: NDArray[np.float32], dq: NDArray[np.uint32], first: int, end: int
    ) -> NDArray[np.uint32] | None:
        """Make bad values absent and scale the others; returns the flags of those that are used."""
        job = self.job
        if not job.flagged:
            kernels_values.admit_all(values, job.zero, job.scale)
            return None
        pixels = values.shape[1]
        mask = _NOTHING_U4 if job.mask is None else np.ascontiguousarray(job.mask[first:end]).reshape(-1)
        best = self.scratch.get("best", (pixels,), np.uint8)
        bits = np.empty(pixels, np.uint32)
        floor, ceiling = np.full(job.frames, job.floor), np.full(job.frames, job.ceiling)
        kernels_values.judge(values, dq, mask, floor, ceiling, _MARKS, _SEVERE, best, bits)
        kernels_values.admit(values, dq, mask, floor, ceiling, _MARKS, _SEVERE, best, job.zero, job.scale)
        bits[best == len(SEVERITY) - 1] |= int(DQ.DO_NOT_USE)
        return bits

    def _reject(
        self,
        values: NDArray[np.float32],
        first: int,
        end: int,
        low: NDArray[np.uint16],
        high: NDArray[np.uint16],
    ) -> None:
        """Make rejected values absent, and count them."""
        job = self.job
        cols = job.sources[0].shape[1]
        before = np.isfinite(values).view(np.uint8) if job.grow else None
        if isinstance(job.reject, CCDClip):
            self._noise_clip(values, job.reject, first, end, low, high)
        elif job.plain_sigma:
            found = self._stack(values, kernels.MEAN, job.reject, limits=True)
            kernels_values.cut(values, found["bottom"], found["top"], low, high)
        elif job.reject.name != "none":
            reject_ranks(values, job.reject, job.n_keep, cols, low, high)
        if before is not None:
            grow(values, before, job.grow, end - first, job.n_keep, high)

    def _noise_clip(
        self,
        values: NDArray[np.float32],
        reject: CCDClip,
        first: int,
        end: int,
        low: NDArray[np.uint16],
        high: NDArray[np.uint16],
    ) -> None:
        noise = self.job.noise
        assert noise is not None
        planes = noise.band(first, end)
        limits = np.array([reject.low, reject.upper], np.float64)
        count = np.empty(values.shape[1], np.uint16)
        for _ in range(rounds_of(reject)):
            centre = self._stack(values, METHODS[reject.centre], Rejection(), only_data=True)["data"]
            if not kernels_values.noise_cut(
                values, centre, limits, self.job.n_keep, noise.model, noise.index, planes, low, high, count
            ):
                break

    def _merge(self, values: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Combine what is present, without further rejection."""
        job = self.job
        if job.method != "weighted":
            return self._stack(values, METHODS[job.method], Rejection())
        pixels = values.shape[1]
        data, count = np.empty(pixels, np.float32), np.empty(pixels, np.uint16)
        variance = np.empty(pixels, np.float32) if "variance" in job.planes else _NOTHING_F4
        kernels_values.weigh(values, job.weights, job.factor, data, variance, count)
        return {"data": data, "variance": variance, "count": count}

    def _stack(
        self,
        band: NDArray[Any],
        method: int,
        reject: Rejection,
        affine: tuple[float, float] = (1.0, 0.0),
        *,
        limits: bool = False,
        only_data: bool = False,
    ) -> dict[str, NDArray[Any]]:
        """Call the hot kernel on a band of stored 16-bit numbers or of float32 values."""
        job = self.job
        frames, pixels = band.shape
        stored = band.dtype == np.uint16
        width = min(tile_width(frames, 2 if stored else 4), pixels)
        get = self.scratch.get
        clip = kernels.KEEP_ALL
        if isinstance(reject, SigmaClip):
            clip = kernels.CLIP_MEAN if reject.centre == "mean" else kernels.CLIP_MEDIAN
        rounds = rounds_of(reject) if isinstance(reject, SigmaClip) else 0
        reach = (reject.low, reject.upper) if isinstance(reject, SigmaClip) else (0.0, 0.0)
        whole = not only_data
        out: dict[str, NDArray[Any]] = {"data": np.empty(pixels, np.float32)}
        out["variance"] = np.empty(pixels, np.float32) if whole and "variance" in job.planes else _NOTHING_F4
        out["count"] = np.empty(pixels if whole else 0, np.uint16)
        counts = pixels if clip != kernels.KEEP_ALL or whole else 0
        out["low"], out["high"] = np.zeros(counts, np.uint16), np.zeros(counts, np.uint16)
        ends = pixels if limits else 0
        out["bottom"], out["top"] = np.empty(ends), np.empty(ends)
        planes = (out["variance"], out["count"], out["low"], out["high"], out["bottom"], out["top"])
        buffers = (
            get("tile", (frames, width), np.uint16 if stored else np.int32),
            get("scratch", (kernels.SCRATCH_ROWS, width), np.float64),
            get("tally", (width,), np.int32),
        )
        shared = (
            (sorting_blocks(frames), median_blocks(frames)),
            np.array([method, clip, rounds, job.n_keep]),
            np.array(reach, np.float64),  # whole numbers would be kernels of their own
            job.factor,
            np.array(affine),
            buffers,
            out["data"],
            planes,
        )
        if stored:
            run = kernels.stack_u2 if clip == kernels.KEEP_ALL else kernels.clip_u2
            run(band, job.door.swap, job.door.flip, *shared)
        else:
            run = kernels.stack_f4 if clip == kernels.KEEP_ALL else kernels.clip_f4
            run(band.view(np.int32), *shared)
        return out

    def _single(self, out: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
        """The combined value as that of one frame."""
        value = out["data"].astype(np.float64)
        return value / np.maximum(out["count"], 1) if self.job.method == "sum" else value

    def _propagate(
        self, values: NDArray[np.float32], out: dict[str, NDArray[Any]], first: int, end: int
    ) -> NDArray[np.float32]:
        noise = self.job.noise
        assert noise is not None
        result = np.empty(values.shape[1], np.float32)
        kernels_values.propagate(
            values, self._single(out), self.job.weights, self.job.method == "sum",
            noise.model, noise.index, noise.band(first, end), self.job.propagated_factor, result,
        )  # fmt: skip
        return result

    def _uniform_noise(self, out: dict[str, NDArray[Any]], first: int, end: int) -> NDArray[np.float32]:
        """Propagated variance where all frames have the same noise."""
        noise = self.job.noise
        assert noise is not None
        planes = noise.band(first, end)
        read, background, factor, inverse_gain, unit, zero, scale = noise.model[0]
        at = noise.index[0]
        read = planes[at[0]].astype(np.float64) if at[0] >= 0 else read
        background = planes[at[1]].astype(np.float64) if at[1] >= 0 else background
        signal = (self._single(out) / scale - zero) / unit + background * factor
        one = (unit * scale) ** 2 * (read * read + np.maximum(signal, 0) * inverse_gain)
        count = out["count"]
        n = np.maximum(count, 1).astype(np.float64)
        result = one * self.job.propagated_factor[count] * (n if self.job.method == "sum" else 1 / n)
        result[count == 0] = np.nan
        return np.asarray(result, np.float32)


def _final_flags(bits: NDArray[np.uint32] | None, count: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """Flags of the result: those of the values used, and "no data" where there was no value."""
    flags = np.zeros(count.shape, np.uint32) if bits is None else bits
    flags[count == 0] |= int(NO_DATA)
    return flags


def reads(sources: Sequence[Source]) -> int:
    """Bytes per pixel that are read of one frame, at most."""
    return max(source.encoding.itemsize for source in sources)
