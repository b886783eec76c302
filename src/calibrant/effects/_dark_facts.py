"""The numbers that a series of darks tells: rate, linearity in time, hits of cosmic rays, hot pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from calibrant.effects._levels import Survey
from calibrant.product import Quantity
from calibrant.stats import MAD_TO_STD, finite_median

HOT = 10.0  # robust sigmas


def dark_quantities(
    planes: Mapping[str, NDArray[Any]],
    unit: str,
    times: NDArray[np.float64],
    levels: Survey,
    rejects: tuple[NDArray[Any], NDArray[Any]] | None,
) -> list[Quantity]:
    """The quantities of a dark.

    Parameters
    ----------
    planes : mapping of ndarray
        Of the product.
    unit : str
        Of its data.
    times : ndarray
        Dark time of each frame, s.
    levels : Survey
        Of the same frames.
    rejects : tuple of ndarray or None
        Frames rejected in each pixel below and above; None if there were too few to reject any.

    Returns
    -------
    list of Quantity
    """
    found = []
    data, lines = planes["data"], linearity(times, levels.median)
    if unit == "adu/s":
        found.append(
            Quantity("rate", finite_median(data), _rate_error(levels, times, lines, "bias" in planes), unit)
        )
        found.append(Quantity("frames_per_second", times.size / float(times.sum()), None, "1/s"))
    else:
        found.append(Quantity("level", float(levels.median.mean()), None, unit))
    if levels.pair_noise.size:
        found.append(Quantity("noise", levels.noise, levels.noise_sigma, "adu"))
    found += lines
    hot = data > hot_limit(data)
    if rejects is not None:
        found.append(cosmic_rays(*rejects, ~hot, float(times.sum())))
    found.append(Quantity("hot_fraction", float(np.mean(hot))))
    found.append(Quantity("time_min", float(times.min()), None, "s"))
    found.append(Quantity("time_max", float(times.max()), None, "s"))
    return found


def _rate_error(
    levels: Survey, times: NDArray[np.float64], lines: list[Quantity], fitted: bool
) -> float | None:
    """Uncertainty of the median rate: of the line if the bias was fitted, else of the frames' rates."""
    if fitted:
        return next((q.sigma for q in lines if q.name == "slope"), None)
    if times.size < 2:
        return None
    rates = levels.median / times
    mean = float(np.average(rates, weights=times))
    return math.sqrt(float(np.average((rates - mean) ** 2, weights=times)) / (times.size - 1))


def linearity(times: NDArray[np.float64], levels: NDArray[np.float64]) -> list[Quantity]:
    """A straight line through the mean level of each time: intercept, slope, largest residual in per cent.

    Nothing for a single time; no residual for two.
    """
    distinct, index = np.unique(np.round(times, 3), return_inverse=True)
    if distinct.size < 2:
        return []
    mean = np.bincount(index, levels) / np.bincount(index)
    centred = distinct - distinct.mean()
    slope = float(centred @ mean / (centred @ centred))
    intercept = float(mean.mean() - slope * distinct.mean())
    left = mean - intercept - slope * distinct
    scatter = math.sqrt(float(left @ left) / (distinct.size - 2)) if distinct.size > 2 else None
    spread = math.sqrt(float(centred @ centred))
    level_error = (
        None
        if scatter is None
        else scatter * math.sqrt(1 / distinct.size + (float(distinct.mean()) / spread) ** 2)
    )
    found = [
        Quantity("intercept", intercept, level_error, "adu"),
        Quantity("slope", slope, None if scatter is None else scatter / spread, "adu/s"),
    ]
    if distinct.size > 2:
        worst = 100.0 * float(np.abs(left).max() / np.abs(mean).max())
        found.append(Quantity("nonlinearity", worst, None, "%"))
    return found


def cosmic_rays(low: NDArray[Any], high: NDArray[Any], quiet: NDArray[np.bool_], seconds: float) -> Quantity:
    """Hits per second and million pixels.

    A hit is a group of touching pixels of which a value was rejected as too high. Noise is rejected above and
    below alike, so the groups rejected below are what chance makes, and are subtracted. Only `quiet` pixels
    count, since hot ones flicker, and of those only such as were rejected in one frame alone: a particle does
    not come back to its pixel, a noisy pixel does.
    """
    touching = np.ones((3, 3), int)
    quiet = quiet & (low.astype(np.int64) + high <= 1)
    above, below = (int(ndimage.label((plane > 0) & quiet, touching)[1]) for plane in (high, low))
    scale = 1e6 / (seconds * max(int(quiet.sum()), 1))
    return Quantity(
        "cosmic_ray_rate", (above - below) * scale, math.sqrt(max(above + below, 1)) * scale, "1/s/Mpixel"
    )


def hot_limit(data: NDArray[Any]) -> float:
    """10 robust sigmas above the median."""
    middle = finite_median(data)
    return middle + HOT * MAD_TO_STD * finite_median(np.abs(data - np.float32(middle)))
