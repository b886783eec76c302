"""What the numbers of a ramp showed while they were read: wrapped counters, groups without any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

WRAPPED = 1 << 15  # adu: no pixel loses half of what 16 bits hold from one group to the next
FULL = np.uint16(65535)


@dataclass(eq=False)
class Seen:
    """Filled by `Ramp.values`, in any thread: rows that are read twice count once.

    Attributes
    ----------
    around : dict
        (integration, row) -> pixels whose counter wrapped around.
    rows : set
        First rows of what was read: there it is looked for groups without numbers.
    empty : dict
        (integration, group) -> those of these rows where it has none.
    """

    around: dict[tuple[int, int], int] = field(default_factory=dict)
    rows: set[int] = field(default_factory=set)
    empty: dict[tuple[int, int], set[int]] = field(default_factory=dict)

    @property
    def wraps(self) -> int:
        """Pixels whose counter wrapped around, those of each integration counted."""
        return sum(self.around.values())

    def look(self, values: NDArray[Any], first: int, leading: tuple[range, range]) -> None:
        """Remember what is wrong with values (integrations, groups, rows, cols) of rows from `first` on.

        Counts of 16 bits behind the end of their counter become its end: such a pixel is saturated.
        """
        if values.size == 0:
            return
        if values.dtype == np.uint16:
            self._mend(values, first, leading[0])
            return
        self.rows.add(first)
        for i, g in np.argwhere(~np.isfinite(values[:, :, 0]).any(axis=-1)):
            self.empty.setdefault((leading[0][i], leading[1][g]), set()).add(first)

    def _mend(self, values: NDArray[np.uint16], first: int, integrations: range) -> None:
        if values.shape[1] < 2 or values.max() < WRAPPED:
            return
        late = wrapped(values)
        count = late[:, -1].sum(axis=-1)
        for i, row in np.argwhere(count):
            self.around[integrations[i], first + int(row)] = int(count[i, row])
        if count.any():
            values[late] = FULL

    def sentences(self) -> Iterator[str]:
        """What a user should know of it."""
        if self.wraps:
            one = self.wraps == 1
            yield (
                f"{self.wraps} {'pixel wraps' if one else 'pixels wrap'} around, falling by more than 32768 "
                "from one group to the next: taken as saturated from there on"
            )
        lost: dict[int, list[int]] = {}
        for (integration, group), rows in sorted(self.empty.items()):
            if rows >= self.rows:
                lost.setdefault(integration, []).append(group)
        for integration, groups in lost.items():
            word = "group" if len(groups) == 1 else "groups"
            yield f"integration {integration} has no number in {word} {ranges(groups)}"


def wrapped(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Values behind the end of a counter: True from the group on that fell by more than half of 16 bits.

    Parameters
    ----------
    values : array (integrations, groups, rows, cols)
        Of any number type, adu.

    Returns
    -------
    array of bool
        Of the same shape.
    """
    late = np.zeros(values.shape, np.bool_)
    for group in range(1, values.shape[1]):
        before, after = values[:, group - 1], values[:, group]
        late[:, group] = late[:, group - 1] | ((before > after) & (before - after > WRAPPED))
    return late


def ranges(numbers: Any) -> str:
    """Whole numbers in rising order as text: ``3-5, 9``."""
    runs = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    parts = [[int(number) for _, number in run] for _, run in runs]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in parts)
