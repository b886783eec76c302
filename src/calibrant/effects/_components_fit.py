"""Principal components of many darks: sums of products of frames, band by band, and their number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import BudgetError
from calibrant.frame import DQ
from calibrant.stack.plan import exactly, megabytes
from calibrant.stack.run import default_runner, parse_budget
from calibrant.stack.source import Source, decode
from calibrant.stats import MAD_TO_STD

Array = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
LIMIT = 5.0  # sigmas; what is beyond is a hit
SHARED = 0.1  # of the darks, that a component must be made of to tell hits from swings
ROUNDS = 3  # of finding hits: the first may hide the second
STRIPE = 8  # rows that are fitted, and rows that are foretold, by turns
BAND = 1 << 20  # values of all frames that are worked on together
MATERIAL = 0.005  # of the squared error: less is not worth a component
BAD = np.uint32(DQ.DO_NOT_USE | DQ.SATURATED)


@dataclass(frozen=True, eq=False)
class Band:
    """One band of all darks, (frames, pixels) float32; middle, noise (NaN without values) of each pixel."""

    values: NDArray[np.float32]
    middle: NDArray[np.float32]
    noise: NDArray[np.float32]
    good: NDArray[np.bool_]

    def weighted(self, guide: Array | None) -> tuple[Array, NDArray[np.float32]]:
        """Deviations from the middle over the noise, 0 where a pixel is not good; and that noise, adu.

        Without a guide they are cut at 5 robust widths of the pixel over the darks. With one, (frames,
        components) orthonormal, what a pixel does beyond it is its own noise: hits are replaced by what the
        guide foretells, and unstable pixels weigh less.
        """
        z = ((self.values - self.middle) / self.noise).astype(np.float64)
        noise = self.noise
        most = LIMIT * np.maximum(MAD_TO_STD * np.median(np.abs(z), axis=0), 1.0)
        drawn = np.clip(z, -most, most)
        if guide is None:
            z = drawn
        else:
            drawn = drawn.mean(axis=0)
            for _ in range(ROUNDS):
                own = z - drawn
                left = own - guide @ (guide.T @ own)
                width = np.maximum(MAD_TO_STD * np.median(np.abs(left), axis=0), 1.0)
                z -= np.where(np.abs(left) > LIMIT * width, left, 0.0)
            z /= width
            noise = noise * width.astype(np.float32)
        return np.where(self.good, z, 0.0), noise


@dataclass(frozen=True)
class Noise:
    """Of a pixel in one dark: read noise [adu], gain [e-/adu], level without electrons [adu]."""

    read_noise: float
    gain: float
    zero: float

    def of(self, level: NDArray[np.float32]) -> NDArray[np.float32]:
        """At a level, adu."""
        square = self.read_noise**2 + np.maximum(level - self.zero, 0) / self.gain
        return np.asarray(np.sqrt(square), np.float32)


def read_band(
    sources: Sequence[Source], shifts: Array, rows: slice, bad: NDArray[np.bool_] | None, noise: Noise
) -> Band:
    """Rows of all darks, each less its shift."""
    cols = sources[0].shape[1]
    values = np.empty((len(sources), (rows.stop - rows.start) * cols), np.float32)
    for source, shift, out in zip(sources, shifts, values, strict=True):
        raw = np.empty((rows.stop - rows.start, cols), np.dtype(source.encoding.dtype))
        dq = np.zeros(raw.shape, np.uint32) if source.has_dq else None
        source.read_into(rows, raw, dq)
        out[:] = decode(raw, source.encoding).reshape(-1)
        out -= np.float32(shift)
        if dq is not None:
            out[(dq & BAD).reshape(-1) != 0] = np.nan
    known = np.asarray(np.isfinite(values).all(axis=0))
    values[:, ~known] = 0.0
    middle = np.median(values, axis=0)
    width = noise.of(middle)
    width[~known] = np.nan
    good = known if bad is None else np.asarray(known & ~bad[rows].reshape(-1))
    return Band(values, middle, width, good)


@dataclass(frozen=True, eq=False)
class Task:
    """What the runner does with a band: the sums of products, or (with a basis) the planes."""

    sources: tuple[Source, ...]
    shifts: Array
    bad: NDArray[np.bool_] | None
    noise: Noise
    guide: Array | None = None
    basis: Array | None = None

    def __call__(self, rows: slice) -> tuple[slice, Any]:
        band = read_band(self.sources, self.shifts, rows, self.bad, self.noise)
        z, noise = band.weighted(self.guide)
        if self.basis is None:
            odd = np.repeat(np.arange(rows.start, rows.stop) // STRIPE % 2 == 1, self.sources[0].shape[1])
            return rows, np.array([z[:, ~odd] @ z[:, ~odd].T, z[:, odd] @ z[:, odd].T])
        mean = z.mean(axis=0)
        planes = (self.basis.T @ (z - mean)) * noise
        return rows, (band.middle + mean * noise, noise, planes, band.good)


def bands_of(sources: Sequence[Source], workers: int, planes: int, budget: str | int) -> list[slice]:
    """Bands of rows within a budget.

    Raises
    ------
    BudgetError
        If a row of all darks does not fit.
    """
    rows, cols = sources[0].shape
    allowed = parse_budget(budget)
    per_row = cols * (len(sources) * 32 + planes * 16)
    out = rows * cols * (4 * planes + 16)
    count = min((allowed - out) // max(1, workers * per_row), max(1, BAND // (cols * len(sources))), rows)
    if count < 1:
        raise BudgetError(
            "the memory budget is too small for the components of these darks",
            where="budget",
            expected=f"at least {megabytes(out + workers * per_row)}",
            got=exactly(allowed),
            do="give a larger budget, or ask for fewer components",
        )
    return [slice(first, min(first + count, rows)) for first in range(0, rows, count)]


def products_of(
    task: Task,
    most: int,
    *,
    runner: Any,
    budget: str | int,
    progress: Progress | None,
) -> Array:
    """Sums of products of all pairs of darks over the even and the odd stripes, (2, frames, frames)."""
    hands = default_runner(runner)
    sources = task.sources
    total = np.zeros((2, len(sources), len(sources)))
    for rows, part in hands.map(task, bands_of(sources, hands.workers, most, budget)):
        total += part
        if progress is not None:
            progress(rows.stop, sources[0].shape[0], "products of darks")
    return total


def cross_validate(products: Array, most: int) -> Array:
    """Squared error of foretelling a dark that took no part, with 0, 1 ... `most` components.

    Each dark in turn is left out; components of the others are fitted to its even stripes and held against
    its odd ones, and the other way round. All of it follows from sums of products of pairs of frames.

    Parameters
    ----------
    products : ndarray
        (2, frames, frames).

    Returns
    -------
    ndarray
        (frames, most + 1), over the mean of that of no component.
    """
    every = np.arange(products.shape[1])
    errors = np.array([_left_out(products, np.delete(every, out), int(out), most) for out in every])
    return np.asarray(errors / errors[:, 0].mean())


def _left_out(products: Array, rest: NDArray[np.intp], out: int, most: int) -> Array:
    n = rest.size
    # Columns: the darks of the rest less their mean, and the one left out less that mean.
    change = np.zeros((n + 1, products.shape[1]))
    change[:n, rest] = np.eye(n) - 1.0 / n
    change[n, rest] = -1.0 / n
    change[n, out] = 1.0
    centred = np.array([change @ part @ change.T for part in products])
    vectors = np.linalg.eigh(centred[:, :n, :n].sum(axis=0))[1]
    errors = np.empty(most + 1)
    for k in range(most + 1):
        basis = vectors[:, n - k :]
        total = 0.0
        for fitted, foretold in ((0, 1), (1, 0)):
            a = basis.T @ centred[fitted, :n, :n] @ basis
            right = basis.T @ centred[fitted, :n, n]
            found = np.linalg.lstsq(a, right, rcond=1e-10)[0] if k else np.empty(0)
            cross = basis.T @ centred[foretold, :n, n]
            square = basis.T @ centred[foretold, :n, :n] @ basis
            total += float(centred[foretold, n, n] - 2 * found @ cross + found @ square @ found)
        errors[k] = total
    return errors


def choose(errors: Array) -> tuple[int, Array]:
    """The fewest components that are as good as the best: their number, and the errors of the means.

    As good: the mean error exceeds the least by no more than the standard error of the difference, which is
    taken dark by dark, since some darks are harder to foretell than others; or by no more than `MATERIAL`.
    Of millions of pixels that standard error is so small that each way in which a single dark differs seems
    worth a component.
    """
    best = errors[:, int(np.argmin(errors.mean(axis=0)))]
    worse = errors - best[:, None]
    sigma = worse.std(axis=0, ddof=1) / math.sqrt(len(errors))
    return int(np.flatnonzero(worse.mean(axis=0) <= np.maximum(sigma, MATERIAL * best.mean()))[0]), sigma


def basis_of(products: Array, count: int) -> tuple[Array, Array]:
    """Darks in each component, (frames, count), orthonormal, and the share of the variance of each."""
    n = products.shape[1]
    centre = np.eye(n) - 1.0 / n
    values, vectors = np.linalg.eigh(centre @ products.sum(axis=0) @ centre)
    values = np.maximum(values[::-1], 0.0)
    return vectors[:, ::-1][:, :count], values / max(float(values.sum()), 1e-300)


def guide_of(products: Array, most: int) -> Array:
    """Components that many darks share, as many as serve to foretell: those of one dark alone are hits."""
    found = basis_of(products, choose(cross_validate(products, most))[0])[0]
    many = 1.0 / (found**4).sum(axis=0)
    return found[:, many >= max(2.0, SHARED * len(found))]
