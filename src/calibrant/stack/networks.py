"""Sorting networks: which rows of a tile are to be compared and exchanged, in order."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SINGLE, BUTTERFLY, FLIP, SORT_FOUR = range(4)
"""Blocks: one comparator; two layers of comparators over four rows; four rows sorted. As `kernels` has
them."""

Comparator = tuple[int, int]
Block = tuple[int, tuple[int, ...]]

_WITHIN: dict[int, tuple[Comparator, ...]] = {
    SINGLE: ((0, 1),),
    BUTTERFLY: ((0, 2), (1, 3), (0, 1), (2, 3)),
    FLIP: ((0, 3), (1, 2), (0, 1), (2, 3)),
}


@lru_cache(maxsize=64)
def sorting_network(n: int) -> NDArray[np.int64]:
    """Comparators (first, second) of Batcher's odd-even merge sort of `n` values, int64 (comparators, 2).

    Knuth, The Art of Computer Programming 3, section 5.2.2, algorithm M.
    """
    layers: list[NDArray[np.int64]] = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top if n > 1 else 0
    while p > 0:
        q, r, d = top, 0, p
        while True:
            first = np.arange(n - d, dtype=np.int64)
            first = first[(first & p) == r]
            layers.append(np.stack([first, first + d], axis=1))
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return np.concatenate(layers) if layers else np.empty((0, 2), np.int64)


@lru_cache(maxsize=64)
def sorting_blocks(n: int) -> NDArray[np.int64]:
    """Blocks that sort `n` rows by merging bitonic sequences: int64 (blocks, 5), kind and four rows.

    It has more comparators than `sorting_network`, but they come in blocks of four rows, which are loaded and
    stored once for four of them.
    """
    return _table(_fitting(_bitonic(n), n))


@lru_cache(maxsize=64)
def median_blocks(n: int) -> NDArray[np.int64]:
    """The blocks of `sorting_blocks` on which the one or two middle rows depend."""
    wanted = {(n - 1) // 2, n // 2}
    kept: list[Block] = []
    for kind, rows in reversed(list(_fitting(_bitonic(n), n))):
        needed = []
        for a, b in reversed(_WITHIN[kind]):
            if rows[a] in wanted or rows[b] in wanted:
                wanted |= {rows[a], rows[b]}
                needed.append((rows[a], rows[b]))
        if len(needed) > 2:
            kept.append((kind, rows))
        else:
            kept += [(SINGLE, pair) for pair in needed]
    return _table(kept[::-1])


def _bitonic(n: int) -> Iterable[Block]:
    """Blocks of the network for the next power of two; all comparators put the smaller value first."""
    size = max(2, 1 << (n - 1).bit_length())
    if size == 2:
        yield SINGLE, (0, 1)
        return
    for first in range(0, size, 4):
        yield BUTTERFLY, (first, first + 1, first + 2, first + 3)
        yield SINGLE, (first + 1, first + 2)
    half = 4
    while half < size:
        for first in range(0, size, 2 * half):
            yield from _merge(first, half)
        half *= 2


def _merge(first: int, half: int) -> Iterable[Block]:
    """Merge two sorted runs of `half` rows that begin at row `first`."""
    last, step = first + 2 * half - 1, half // 2
    for i in range(step):
        yield FLIP, (first + i, first + i + step, last - i - step, last - i)
    step //= 2
    while step >= 2:
        for start in range(first, last, 2 * step):
            for i in range(start, start + step // 2):
                yield BUTTERFLY, (i, i + step // 2, i + step, i + step + step // 2)
        step //= 4
    if step == 1:
        for i in range(first, last, 2):
            yield SINGLE, (i, i + 1)


def _fitting(blocks: Iterable[Block], n: int) -> Iterable[Block]:
    """Blocks for `n` rows only: rows beyond hold, as it were, values larger than any, and never move."""
    for kind, rows in blocks:
        if max(rows) < n:
            yield kind, rows
            continue
        for a, b in _WITHIN[kind]:
            if rows[b] < n:
                yield SINGLE, (rows[a], rows[b])


def _table(blocks: Iterable[Block]) -> NDArray[np.int64]:
    rows = [(kind, *(rows if len(rows) == 4 else (*rows, *rows))) for kind, rows in blocks]
    return np.array(rows, np.int64).reshape(-1, 5)
