"""Spectra of differences of reads with all parts of the noise: ours, and NumPy's transforms with a splitter.

The NumPy route takes, of every output and difference, one rfft in the order of time, smooths it by Savitzky
and Golay (window 31, order 3), splits the smooth part into the mean of the outputs and the rest, and takes
the spectra of both: what is usual. Ours gives the cross-spectral matrix on all scales, and the fitted parts
with errors. Rounds are interleaved; the ratio is of the minima. What each makes of noise
that is only white is printed beside.

    python bench/one_over_f.py [--frames 50] [--size 2048] [--rounds 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
from scipy.signal import savgol_filter

from calibrant.effects._one_over_f_fit import parts
from calibrant.effects._one_over_f_response import responses
from calibrant.effects._one_over_f_spectra import Accumulator
from calibrant.instrument.clock import Clock

REQUIRED = 4.0  # times faster
POOL = 6  # reads in memory; differences of them are taken in turn
WHITE = 6.0  # DN


def numpy_route(clock, pairs):
    """Mean spectra: total, common and own."""
    total = common = own = 0
    for first, second in pairs:
        difference = second - first
        difference -= np.median(difference)
        series = []
        for i in range(clock.outputs):
            part = difference[:, i * clock.width : (i + 1) * clock.width]
            series.append((part[:, ::-1] if i % 2 else part).ravel())
        total = total + np.array([np.abs(np.fft.rfft(one)) ** 2 / one.size for one in series])
        smooth = np.array([savgol_filter(one, 31, 3) for one in series])
        shared = smooth.mean(axis=0)
        common = common + np.abs(np.fft.rfft(shared)) ** 2 / shared.size
        own = own + np.array([np.abs(np.fft.rfft(one - shared)) ** 2 / one.size for one in smooth])
    return total, common, own


def ours(clock, pairs):
    """Matrices, and the fit."""
    accumulator = Accumulator(clock)
    for first, second in pairs:
        accumulator.add(first, second)
    return parts(accumulator.result(), responses(clock))


def published(spectra, frames):
    """Common and own noise, of the white noise there is."""
    _, common, own = spectra
    return tuple(float(np.sqrt(power.mean() / frames / 2)) / WHITE for power in (common, own))


def fitted(found, clock):
    """As `published`, from one over the time of a frame to Nyquist; with the sign of the variance."""
    limits = 1 / clock.frame_time, clock.nyquist
    variances = [found.common.variance(*limits), np.mean([one.pink.variance(*limits) for one in found.own])]
    return tuple(float(np.sign(one) * np.sqrt(abs(one))) / WHITE for one in variances)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=50, help="differences of two reads")
    parser.add_argument("--size", type=int, default=2048, help="rows, and columns of four outputs together")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    clock = Clock(given.size, given.size)
    rng = np.random.default_rng(3)
    reads = [WHITE * rng.standard_normal((given.size, given.size), np.float32) for _ in range(POOL)]
    order = [(k % POOL, (k + 1 + k // POOL % (POOL - 1)) % POOL) for k in range(given.frames)]
    pairs = [(reads[a], reads[b]) for a, b in order]
    ours(clock, pairs[:2])  # loads and compiles
    times, results = {"ours": [], "NumPy": []}, {}
    for _ in range(given.rounds):
        for name, way in (("ours", ours), ("NumPy", numpy_route)):
            start = time.perf_counter()
            results[name] = way(clock, pairs)
            times[name].append(time.perf_counter() - start)
    seconds = {name: min(spent) for name, spent in times.items()}
    ratio = seconds["NumPy"] / seconds["ours"]
    made = {"NumPy": published(results["NumPy"], given.frames), "ours": fitted(results["ours"], clock)}
    if given.json:
        print(json.dumps({"seconds": seconds, "ratio": ratio, "of_white_noise": made}))
        return 0
    good = ratio >= REQUIRED
    print(f"  {given.frames} differences of {given.size} x {given.size}")
    for name, spent in seconds.items():
        print(f"  {name:8s} {spent:8.2f} s   {1e3 * spent / given.frames:7.1f} ms each")
    print(f"  ratio {ratio:.1f}  (must be >= {REQUIRED:g}: {'yes' if good else 'NO'})")
    print("  reads are white; of their noise are taken for")
    for name, (common, own) in made.items():
        print(f"  {name:8s} common {common:+.3f}   own {own:+.3f}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
