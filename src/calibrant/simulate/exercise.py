"""Pixels under even light: the sensor of the exercise, photon noise and readout noise and nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibrant.errors import OptionError


def pixels(
    signal: ArrayLike,
    read_noise: float,
    gain: float,
    n: int,
    rng: np.random.Generator,
    *,
    whole: bool = False,
) -> NDArray[np.float64]:
    """Counts above the bias of pixels that all see the same light: ``(R N(0, 1) + Poisson(S)) / g``.

    The variance is (S + R^2) / g^2 adu^2; whole numbers add 1/12 adu^2. See Janesick (2007), Photon Transfer.

    Parameters
    ----------
    signal : float or array
        Mean charge S, electron; one level, or any shape of levels.
    read_noise : float
        R, electron.
    gain : float
        g, electron/adu.
    n : int
        Pixels of each level.
    rng : numpy.random.Generator
        Where the noise comes from.
    whole : bool
        Round to whole numbers, as a converter does.

    Returns
    -------
    array
        (n,) for one level, else the shape of `signal` with n behind it; adu, float64. Never clipped: pixels
        in the dark may be negative.

    Raises
    ------
    OptionError
        If a signal or the read noise is negative, the gain not positive, or `n` less than one.
    """
    light = np.asarray(signal, np.float64)
    for name, value, good, expected in (
        ("signal", light, bool((light >= 0).all()), ">= 0 electron"),
        ("read_noise", read_noise, read_noise >= 0, ">= 0 electron"),
        ("gain", gain, gain > 0, "> 0 electron/adu"),
        ("n", n, n >= 1, "at least one pixel"),
    ):
        if not good:
            raise OptionError("pixels cannot be made", where=name, expected=expected, got=value)
    shape = (*light.shape, n)
    electrons = rng.standard_normal(shape)
    electrons *= read_noise
    electrons += rng.poisson(light[..., np.newaxis], shape)
    counts = electrons / gain
    return np.rint(counts) if whole else counts
