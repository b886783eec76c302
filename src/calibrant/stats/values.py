"""The values of an array that statistics can use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError


def finite_values(a: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[Any]:
    """The finite, unmasked values in one axis, in native byte order."""
    values = np.asarray(a)
    if mask is not None:
        values = values[~mask]
    values = values.reshape(-1)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        values = values if finite.all() else values[finite]
    return values


def some_values(values: NDArray[Any], what: str) -> NDArray[Any]:
    """`values`, unless there are none: then an OptionError that says for what they were wanted."""
    if values.size == 0:
        raise OptionError(f"there is no finite value for {what}")
    return values
