"""Stray light between slices: Shepard's weights by FFT beside astropy's convolution, rows beside NumPy.

Same pixels and weights, results compared: the direct form is the one of the published correction (two
convolutions of 51 x 51 pixels). Light along rows: one FFT a row beside one matrix product a row, with a
kernel that differs from row to row. Rounds are interleaved; the ratio is of the minima.

    python bench/stray_light.py [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
from astropy.convolution import convolve
from numpy.lib.stride_tricks import sliding_window_view

from calibrant.effects._stray_rows import RowKernel, spread
from calibrant.effects._stray_shepard import Shepard
from calibrant.instrument.slices import Line, slice_map

SHAPE = 1024, 1032
REQUIRED = {"shepard": 40.0, "rows": 5.0}  # times faster
CLOSE = 1e-9  # relative


def scene():
    """Slices as of an image slicer, and an image of light in and between them."""
    lines = {n + 1: Line((28.0 + 24.2 * n, 0.3, -4.0), (5.3, 0.44), 19.2, 0.19) for n in range(41)}
    slices = slice_map(lines, SHAPE, blind=4)
    rng = np.random.default_rng(1)
    return slices, np.where(slices.ids > 0, 600.0, 20.0) + rng.normal(0, 1, SHAPE)


def direct(values, mask, kernel):
    """The two convolutions, as published."""
    options = {"boundary": "fill", "fill_value": 0.0, "normalize_kernel": True}
    return convolve(np.where(mask, values, 0.0), kernel, **options) / convolve(mask * 1.0, kernel, **options)


def product_of_rows(light, kernel):
    """One matrix product for each row: its kernel at all distances, as a Toeplitz matrix without copies."""
    rows, cols = light.shape
    offsets = np.arange(1.0 - cols, cols)
    made = np.empty_like(light)
    for row in range(rows):
        half = kernel.fwhm[row] / 2
        height = kernel.halo * half**2 / (half**2 + offsets**2)
        made[row] = sliding_window_view(height, cols)[::-1] @ light[row]
    return made


def timed(ways, rounds):
    """Fastest of the rounds, and the last result, of each."""
    seconds, results = dict.fromkeys(ways, np.inf), {}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            results[name] = way()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds, results


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    slices, values = scene()
    gaps, light = slices.ids == 0, np.where(slices.ids > 0, values, 0.0)
    kernel = RowKernel(np.linspace(90.0, 110.0, SHAPE[0]), 1e-3)
    ways = {
        "shepard": {
            "ours": lambda: Shepard(SHAPE, 50.0, 1.0, disc=False)(values, gaps)[0],
            "astropy, direct": lambda: direct(values, gaps, Shepard(SHAPE, 50.0, 1.0, disc=False).kernel),
        },
        "rows": {
            "ours": lambda: spread(light, [kernel])[0],
            "NumPy, a product a row": lambda: product_of_rows(light, kernel),
        },
    }
    told, good = {}, True
    for part, pair in ways.items():
        seconds, results = timed(pair, given.rounds)
        one, other = results.values()
        known = np.isfinite(one) & np.isfinite(other)
        off = float(np.max(np.abs(one - other)[known]) / np.max(np.abs(other[known])))
        mine, theirs = seconds.values()
        told[part] = {"seconds": seconds, "ratio": theirs / mine, "off": off}
        fine = theirs / mine >= REQUIRED[part] and off < CLOSE
        good &= fine
        if not given.json:
            print(f"  {part}, {SHAPE[0]} x {SHAPE[1]}; results agree within {off:.1e} of the largest")
            for name, spent in seconds.items():
                print(f"    {name:24s} {spent:8.3f} s")
            print(
                f"    ratio {theirs / mine:.1f}  (must be >= {REQUIRED[part]:g}: {'yes' if fine else 'NO'})"
            )
    if given.json:
        print(json.dumps(told))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
