"""1/f noise from the dark sky of an image: sources masked, the rest taken in the order of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, uniform_filter

from calibrant.instrument.clock import Border, Clock
from calibrant.product import Product
from calibrant.stats import MAD_TO_STD

BOX = 64  # pixels of the boxes of which the sky is taken: what is slower than them is sky
SIGMAS, SIGMAS_SMOOTHED = 3.0, 4.0
SMOOTHED = 5  # pixels over which faint sources are looked for
GROWN = 2
ROUNDS = 3
FEWEST = 8  # pixels of a row for its median
STEPS, ENOUGH = 60, 3e-3  # of conjugate gradients

F4 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def residual(plane: F4, bad: Bools, border: Border) -> tuple[F4, Bools]:
    """The image less its sky, and the pixels that show sky alone.

    Parameters
    ----------
    plane : array (rows, cols)
        In the order of readout.
    bad : array of bool
    border : Border
        Reference pixels show no sky.
    """
    good = ~bad & np.isfinite(plane)
    inside = np.zeros(plane.shape, np.bool_)
    inside[border.active((plane.shape[0], plane.shape[1]))] = True
    good &= inside
    usable, left = good.copy(), np.where(good, plane, 0).astype(np.float32)
    for _ in range(ROUNDS):
        left = (np.where(usable, plane, 0) - sky(plane, good)).astype(np.float32)
        rows = left - _by_row(left, good)[:, None]  # stripes would hide faint sources, and look like them
        good = usable & ~sources(rows, good)
    return left, good


def _by_row(left: F4, good: Bools) -> F4:
    values = np.where(good, left, np.nan)
    few = good.sum(axis=1) < FEWEST
    values[few] = 0
    return np.asarray(np.nanmedian(values, axis=1), np.float32)


def sources(left: F4, good: Bools) -> Bools:
    """Pixels, and their surroundings, that stick out by themselves or together with their neighbours."""
    if not good.any():
        return ~good
    count = uniform_filter(good.astype(np.float32), SMOOTHED)
    mean = uniform_filter(np.where(good, left, 0), SMOOTHED) / np.maximum(count, 1 / SMOOTHED**2)
    faint = mean > SIGMAS_SMOOTHED * _width(mean[good])
    found = (np.abs(left) > SIGMAS * _width(left[good])) & good
    return np.asarray(found | binary_dilation(faint, iterations=GROWN))


def _width(values: F4) -> float:
    return MAD_TO_STD * float(np.median(np.abs(values - np.median(values))))


def sky(plane: F4, good: Bools) -> F4:
    """Medians of boxes, joined by straight lines."""
    rows, cols = plane.shape
    down, across = max(rows // BOX, 1), max(cols // BOX, 1)
    values = np.where(good, plane, np.nan)
    found = np.full((down, across), np.nan)
    edges = [np.linspace(0, size, many + 1).astype(int) for size, many in ((rows, down), (cols, across))]
    for r in range(down):
        for c in range(across):
            box = values[edges[0][r] : edges[0][r + 1], edges[1][c] : edges[1][c + 1]]
            if np.isfinite(box).mean() > 0.1:
                found[r, c] = np.nanmedian(box)
    if not np.isfinite(found).any():
        return np.zeros_like(plane)
    found[~np.isfinite(found)] = np.nanmedian(found)
    middle = [(edge[1:] + edge[:-1] - 1) / 2 for edge in edges]
    wide = np.array([np.interp(np.arange(cols), middle[1], line) for line in found])
    return np.array([np.interp(np.arange(rows), middle[0], line) for line in wide.T], np.float32).T


def row_medians(left: F4, good: Bools, clock: Clock, by_output: bool) -> F4:
    """Median of what is left of each row, or of the part of each output; (rows, cols)."""
    found = np.zeros_like(left)
    whole = [left], [good], [found]
    planes = tuple(clock.blocks(plane) for plane in (left, good, found)) if by_output else whole
    for values, fine, out in zip(*planes, strict=True):
        out[:] = _by_row(values, fine)[:, None]
    return found


def fourier(left: F4, good: Bools, clock: Clock, product: Product) -> F4:
    """The slow noise in the order of time that the sky shows: the most probable one, by the measured spectra.

    Of a Gaussian process with the spectrum S, seen with white noise W where a pixel is good, the most
    probable course n solves ``(good / W + 1 / S) n = good data / W`` (Wiener filter with gaps); first what
    the outputs share, then what each has alone.

    Returns
    -------
    array (rows, cols)
        In the unit of the image.
    """
    value = {(q.name, q.place): q.value for q in product}
    places = [str(i + 1) for i in range(clock.outputs)]
    white = np.array([value["white", place] for place in places])
    gains = np.array([value.get(("common_gain", place), 1.0) for place in places])
    length = int(scipy.fft.next_fast_len(clock.rows * clock.row_ticks + clock.row_ticks, True))
    data, fine = np.zeros((2, clock.outputs, length))
    for i, (values, ok) in enumerate(zip(clock.blocks(left), clock.blocks(good), strict=True)):
        _in_time(data[i], clock)[:], _in_time(fine[i], clock)[:] = np.where(ok, values, 0), ok
    scale = (gains / white)[:, None]
    shared = _process(length, clock, value.get(("pink_common", "")), value.get(("slope_common", "")))
    common = _most_probable((gains[:, None] * scale * fine).sum(axis=0), (scale * data).sum(axis=0), shared)
    found = np.zeros_like(left)
    for i, block in enumerate(clock.blocks(found)):
        own = _process(length, clock, value["pink_own", places[i]], value["slope_own", places[i]])
        rest = fine[i] * (data[i] - gains[i] * common) / white[i]
        noise = gains[i] * common + _most_probable(fine[i] / white[i], rest, own)
        block[:] = _in_time(noise, clock)
    return found


def _in_time(series: Any, clock: Clock) -> Any:
    return series[: clock.rows * clock.row_ticks].reshape(clock.rows, -1)[:, : clock.width]


def _process(length: int, clock: Clock, amplitude: float | None, slope: float | None) -> Floats | None:
    """Density at each frequency of the transform, adu2/Hz; None where there is no such noise."""
    if amplitude is None or slope is None or not amplitude > 0:
        return None
    frequency = np.fft.rfftfreq(length, clock.pixel_time)
    frequency[0] = frequency[1]
    return np.asarray(amplitude * frequency**-slope)


def _most_probable(weights: Floats, weighted: Floats, density: Floats | None) -> Floats:
    """Conjugate gradients, preconditioned by the answer for pixels that are all seen alike."""
    n = len(weights)
    if density is None or not weights.any():
        return np.zeros(n)
    plain = 1 / (weights.mean() + 1 / density)

    def through(series: Floats, response: Floats) -> Floats:
        return np.asarray(scipy.fft.irfft(scipy.fft.rfft(series) * response, n))

    found, left = np.zeros(n), weighted.copy()
    direction = step = through(left, plain)
    power = start = float(left @ step)
    for _ in range(STEPS):
        if not power > ENOUGH**2 * start:
            break
        moved = weights * direction + through(direction, 1 / density)
        size = power / float(direction @ moved)
        found, left = found + size * direction, left - size * moved
        step = through(left, plain)
        power, before = float(left @ step), power
        direction = step + power / before * direction
    return found
