"""Noise: what one value of one frame scatters by, from read noise and photon statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError, ShapeError


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise of one frame, in the unit of the values that are combined.

    ``variance(value) = scale**2 * (read_noise**2 + max(signal, 0) / gain)`` with
    ``signal = value / scale + background * background_factor``.

    Attributes
    ----------
    read_noise : float or array
        adu; float32 (rows, cols) if an array.
    gain : float
        e-/adu; infinite for no photon noise.
    background : float or array
        adu; added to the value before its photon noise: minus a bias level, plus a dark that was removed.
    background_factor : float
        Multiplies the background, e.g. the dark time of a rate.
    scale : float
        ``value = scale * (adu - ...)``: of a frame that was scaled before it came here.
    """

    read_noise: float | NDArray[Any]
    gain: float
    background: float | NDArray[Any] = 0.0
    background_factor: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.gain > 0:
            raise OptionError("the gain must be positive", where="noise", got=self.gain)
        if self.scale == 0 or not np.isfinite(self.scale):
            raise OptionError("the scale must be a number other than 0", where="noise", got=self.scale)

    def variance(self, value: NDArray[Any] | float) -> NDArray[np.float64]:
        """Variance of `value` (any shape that fits the planes), in its unit squared."""
        signal = np.asarray(value, np.float64) / self.scale + np.multiply(
            self.background, self.background_factor
        )
        variance: NDArray[np.float64] = self.scale**2 * (
            np.square(self.read_noise) + np.maximum(signal, 0) / self.gain
        )
        return variance


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Noise of all frames, as the kernels take it.

    Attributes
    ----------
    model : ndarray
        float64 (frames, 7): read noise, background, factor, 1/gain, scale of the noise's unit, zero and scale
        of the combination.
    index : ndarray
        int64 (frames, 2): which of `planes` are read noise and background; -1 for none.
    planes : tuple of ndarray
        Distinct planes, (rows, cols).
    """

    model: NDArray[np.float64]
    index: NDArray[np.int64]
    planes: tuple[NDArray[Any], ...]

    @property
    def uniform(self) -> bool:
        """Whether all frames have the same noise, so that it does not matter which were rejected."""
        return bool((self.model == self.model[0]).all() and (self.index == self.index[0]).all())

    def band(self, first: int, end: int) -> NDArray[np.float32]:
        """The planes of some rows, flattened: float32 (planes, pixels)."""
        if not self.planes:
            return np.empty((0, 0), np.float32)
        rows = [np.asarray(plane[first:end], np.float32).reshape(-1) for plane in self.planes]
        return np.stack(rows)


def noise_model(
    noise: Sequence[Noise] | Noise | None,
    shape: tuple[int, int],
    zero: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> NoiseModel | None:
    """Gather the noise of all frames; planes that are the same object are kept once.

    Raises
    ------
    ShapeError
        If a plane does not fit the frames, or there are not as many as frames.
    """
    if noise is None:
        return None
    every = [noise] * len(scale) if isinstance(noise, Noise) else list(noise)
    if len(every) != len(scale):
        raise ShapeError(
            "there must be one noise per frame", where="noise", expected=len(scale), got=len(every)
        )
    planes: dict[int, tuple[int, NDArray[Any]]] = {}
    model = np.empty((len(every), 7))
    index = np.full((len(every), 2), -1, np.int64)
    for i, one in enumerate(every):
        row = [0.0, 0.0, one.background_factor, 1 / one.gain, one.scale, zero[i], scale[i]]
        for j, value in enumerate((one.read_noise, one.background)):
            if np.ndim(value) == 0:
                row[j] = float(value)
            else:
                plane = np.asarray(value)
                if plane.shape != shape:
                    raise ShapeError(
                        "a plane of the noise does not fit", where="noise", expected=shape, got=plane.shape
                    )
                index[i, j] = planes.setdefault(id(value), (len(planes), plane))[0]
        model[i] = row
    return NoiseModel(model, index, tuple(plane for _, plane in planes.values()))
