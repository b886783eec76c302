"""Fringes of all columns of a band: the batched fit beside curve_fit in a loop, same model and pixels.

A band of 21 slices and some 400 columns of 1024 rows, whole frame to product. `curve_fit` gets the same
columns, model and splines, begins as the published fit did (D = 1709.6 um, R = 0.06, no phase, a level
continuum), and gives what ours gives: a fit, a fit without outliers, and one of the local phases. A sample of
columns is measured and scaled to all. Rounds are interleaved; CPU times, the ratio is of the minima. Both
must find the same thickness.

    python bench/fringe.py [--rounds 3] [--sample 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import curve_fit

from calibrant.effects import fringe
from calibrant.effects._etalon_model import attenuation, spreads
from calibrant.frame import Frame
from calibrant.instrument.slices import Line, slice_map

SHAPE = 1024, 516
OVER, R, D, RESOLUTION = 15, 0.06, 1709.6, 3500.0
LINES = {
    n + 1: Line((28.0 + 23.2 * n, 0.3, -4.0), (5.32 + 0.009 * (n % 2), 0.447, -0.027), 19.2, 0.19)
    for n in range(21)
}
REQUIRED = {"seconds": 3.0, "ratio": 50.0}
CLOSE = 0.2  # sigmas
CLIP = 5.0
BEGIN = {"D": 1709.6, "R": 0.06}  # of curve_fit: as published


def scene():
    """Slices and a frame of an even lamp with fringes."""
    slices, rng = slice_map(LINES, SHAPE, blind=4), np.random.default_rng(1)
    row = (np.arange(-10 * OVER, (SHAPE[0] + 10) * OVER) + 0.5) / OVER - 0.5
    image = np.zeros(SHAPE)
    for number, line in LINES.items():
        wave = np.polynomial.polynomial.polyval((row - 511.5) / 512, line.wavelength)
        light = 600 / (1 + 4 * R / (1 - R) ** 2 * np.sin(2 * np.pi * D / wave) ** 2)
        width = np.median(wave / RESOLUTION / 2.3548 / np.gradient(wave, row)) * OVER
        pixels = gaussian_filter1d(light, width).reshape(-1, OVER).mean(axis=1)[10:-10]
        image = np.where(slices.ids == number, pixels[:, None], image)
    variance = np.maximum(image, 1.0) / 1500
    values = image + rng.normal(0, 1, SHAPE) * np.sqrt(variance)
    return slices, Frame(values.astype(np.float32), variance=variance.astype(np.float32), unit="adu/s")


def one_column(frame, slices, found, which):
    """The same fit of one column by `curve_fit`: D [um]."""
    col = int(found.tables["columns"]["col"][which])
    number = int(found.tables["columns"]["slice"][which])
    rows = np.flatnonzero(slices.ids[:, col] == number).astype(np.float64)
    wave = slices.wavelength[rows.astype(int), col]
    nu, pivot = 1e4 / wave, found.quantity("pivot").value
    slope = np.abs(np.gradient(nu))
    kept = attenuation(np.array(BEGIN["D"] * 1e-4), slope, spreads(wave, RESOLUTION), 3)
    cycles = 2e-4 * D * float(np.median(slope)) * SHAPE[0]
    knots = [knots_of(round(cycles / 3.2)), knots_of(4)]
    sizes = [len(some) - 4 for some in knots]

    def model(row, *given):
        level, reflectivity, (phase, thickness) = np.split(np.array(given), np.cumsum(sizes))
        theta = 4e-4 * np.pi * thickness * (nu - pivot) + phase
        fringes = waves(theta, BSpline(knots[1], reflectivity, 3)(row), kept)
        return BSpline(knots[0], level, 3)(row) * (1 + fringes)

    value = np.asarray(frame.data[rows.astype(int), col], np.float64)
    sigma = np.sqrt(frame.variance[rows.astype(int), col])
    phase = 4e-4 * np.pi * BEGIN["D"] * pivot
    begin = [*np.full(sizes[0], value.mean()), *np.full(sizes[1], BEGIN["R"]), phase, BEGIN["D"]]
    best = curve_fit(model, rows, value, begin, sigma, maxfev=20_000)[0]
    sigma = np.where(np.abs(value - model(rows, *best)) > CLIP * sigma, 1e6, sigma)  # outliers, then again
    best = curve_fit(model, rows, value, best, sigma, maxfev=20_000)[0]

    def local(row, *given):
        level, reflectivity, lag = np.split(np.array(given), np.cumsum(sizes))
        theta = 4e-4 * np.pi * best[-1] * (nu - pivot) + best[-2] + BSpline(knots[1], lag, 3)(row)
        fringes = waves(theta, BSpline(knots[1], reflectivity, 3)(row), kept)
        return BSpline(knots[0], level, 3)(row) * (1 + fringes)

    curve_fit(local, rows, value, [*best[:-2], *np.zeros(sizes[1])], sigma, maxfev=20_000)
    return best[-1]


def waves(theta, reflectivity, kept):
    """Harmonics of a plate, by NumPy as one would write them."""
    return sum(2 * part * reflectivity**m * np.cos(m * theta) for m, part in enumerate(kept, 1))


def knots_of(stretches):
    """Of cubic splines along the rows."""
    inner = np.linspace(0.0, SHAPE[0] - 1.0, stretches + 1)
    return np.r_[[inner[0]] * 3, inner, [inner[-1]] * 3]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    slices, frame = scene()
    ours = theirs = np.inf
    for _ in range(given.rounds):
        start = time.process_time()
        found = fringe.measure(frame, slices, resolution=RESOLUTION)
        ours = min(ours, time.process_time() - start)
        table = found.tables["columns"]
        sample = np.linspace(5, len(table["col"]) - 5, given.sample).astype(int)
        start = time.process_time()
        other = [one_column(frame, slices, found, n) for n in sample]
        theirs = min(theirs, (time.process_time() - start) / given.sample * len(table["col"]))
    off = float(np.max(np.abs(np.array(other) - table["D"][sample]) / table["D_sigma"][sample]))
    good = ours < REQUIRED["seconds"] and theirs / ours >= REQUIRED["ratio"] and off < CLOSE
    told = {
        "columns": len(table["col"]),
        "ours": ours,
        "curve_fit": theirs,
        "ratio": theirs / ours,
        "off": off,
    }
    if given.json:
        print(json.dumps(told))
    else:
        print(f"  {told['columns']} columns of {SHAPE[0]} rows; thicknesses agree within {off:.2g} sigma")
        print(f"    ours, frame to product   {ours:8.2f} s  (must be < {REQUIRED['seconds']:g})")
        print(f"    curve_fit, scaled        {theirs:8.2f} s")
        print(f"    ratio {theirs / ours:.0f}  (must be >= {REQUIRED['ratio']:g}: {'yes' if good else 'NO'})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
