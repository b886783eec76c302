"""Slopes of 20 x 2048 x 2048 reads: ours and the same closed form written in NumPy, without and with jumps.

NumPy: the recursions of Brandt (2024) over whole rows in float32, block by block of rows so that they stay in
cache, one pass, without bias correction; jumps by dropping one or two differences until none is left, only
in the pixels that still have one. Ours also gives the parts of the variance, flags, saturation and the bias.
Rounds are interleaved; ratios are of the minima. stcal is a yardstick where it can be imported.

    python bench/ramp.py [--rounds 2] [--groups 20] [--size 2048] [--share 0.005] [--rows 4] [--json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

GAIN, NOISE, RATE, FRAME = 2.0, 7.0, 3.0, 10.0
ONE, TWO = 20.25, 23.8
PLAIN, JUMPS = 10.0, 5.0  # times faster


def ramps(groups, size, share):
    """Reads float32, and with jumps in a share of all samples."""
    rng = np.random.default_rng(1)
    data = np.empty((groups, size, size), np.float32)
    level = np.zeros((size, size), np.float32)
    for read in data:
        mean = RATE * FRAME
        level += mean + np.sqrt(mean / GAIN) * rng.standard_normal(level.shape, np.float32)
        if share:
            hit = rng.random(level.shape, np.float32) < share
            level[hit] += rng.exponential(500.0, int(hit.sum())).astype(np.float32)
        read[:] = level + NOISE * rng.standard_normal(level.shape, np.float32)
    return data


def solved(d, use, search):
    """Slope, variance, chi squared of (differences, pixels); and what dropping differences is worth."""
    n = len(d)
    many = use.sum(0)
    rate = np.maximum((d * use).sum(0) / np.maximum(many, 1), 0)
    a = 2 * NOISE**2 / FRAME**2 + rate / (GAIN * FRAME)
    b = -(NOISE**2) / FRAME**2 * use[1:] * use[:-1]
    low, inv, z, t = (np.zeros_like(d) for _ in range(4))
    inv[0] = use[0] / a
    z[0], t[0] = d[0] * use[0], use[0]
    for i in range(1, n):
        low[i] = b[i - 1] * inv[i - 1]
        inv[i] = use[i] / (a - b[i - 1] * low[i])
        z[i] = (d[i] - low[i] * z[i - 1]) * use[i]
        t[i] = (1 - low[i] * t[i - 1]) * use[i]
    total = np.maximum((t * t * inv).sum(0), 1e-30)
    slope = (t * z * inv).sum(0) / total
    z -= slope * t
    chi2 = (z * z * inv).sum(0)
    if not search:
        return slope, 1 / total, chi2, None, None
    z *= inv
    t *= inv
    for i in range(n - 2, -1, -1):
        z[i] -= low[i + 1] * z[i + 1]
        t[i] -= low[i + 1] * t[i + 1]
        inv[i] += low[i + 1] ** 2 * inv[i + 1]
    m = np.where(use > 0, inv - t * t / total, 1)
    c = -low[1:] * inv[1:] - t[1:] * t[:-1] / total
    one = np.where((use > 0) & (many > 2), z * z / m, 0)
    two = z[:-1] ** 2 * m[1:] - 2 * z[:-1] * z[1:] * c + z[1:] ** 2 * m[:-1]
    both = (use[1:] * use[:-1] > 0) & (many > 3)
    two = np.where(both, two / np.where(both, m[1:] * m[:-1] - c * c, 1), 0)
    return slope, 1 / total, chi2, one, two


def in_numpy(data, search, rows):
    """Slopes, variances and chi squared of all pixels."""
    out = np.empty((3, *data.shape[1:]), np.float32)
    for first in range(0, data.shape[1], rows):
        block = data[:, first : first + rows].reshape(len(data), -1)
        d = np.diff(block, axis=0) / np.float32(FRAME)
        use = np.ones_like(d)
        made = np.empty((3, d.shape[1]), np.float32)
        at = np.arange(d.shape[1])
        while at.size:
            part = use[:, at]
            *planes, one, two = solved(d[:, at], part, search)
            made[:, at] = planes
            if not search:
                break
            i, j = one.argmax(0), two.argmax(0)
            k = np.arange(at.size)
            gain_one, gain_two = one[i, k] - ONE, two[j, k] - TWO
            single = gain_one >= gain_two
            hit = np.maximum(gain_one, gain_two) > 0
            use[np.where(single, i, j)[hit], at[hit]] = 0
            pair = hit & ~single
            use[j[pair] + 1, at[pair]] = 0
            at = at[hit]
        out[:, first : first + rows] = made.reshape(3, -1, data.shape[2])
    return out


def ours(data, search):
    """The same planes."""
    from calibrant.effects import ramp

    limits = (ONE, TWO) if search else None
    found = ramp.measure(
        data, ramp.pattern(len(data), FRAME), gain=GAIN, read_noise=NOISE, thresholds=limits
    )  # fmt: skip
    return found.data, found.planes["variance"], found.planes["chi2"]


def compare(data, search, given):
    """Minima in seconds, and the median of how far apart the slopes are, in sigmas."""
    ours(data[:, :64], search)  # loads and compiles
    times = {"ours": [], "numpy": []}
    for _ in range(given.rounds):
        start = time.perf_counter()
        own = ours(data, search)
        times["ours"].append(time.perf_counter() - start)
        start = time.perf_counter()
        other = in_numpy(data, search, given.rows)
        times["numpy"].append(time.perf_counter() - start)
    apart = np.abs(own[0] - other[0]) / np.sqrt(own[1])
    return {name: min(spent) for name, spent in times.items()} | {"apart": float(np.median(apart))}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--share", type=float, default=0.005, help="of the samples with a jump")
    parser.add_argument("--rows", type=int, default=4, help="of a block of the NumPy form")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    cases = {
        "plain": (0.0, False, PLAIN),
        "searched": (0.0, True, JUMPS),
        "jumps": (given.share, True, JUMPS),
    }
    found, good = {}, True
    for name, (share, search, required) in cases.items():
        if name != "searched":
            data = None  # freed before the next is made
            data = ramps(given.groups, given.size, 0.0 if name == "plain" else share)
        one = compare(data, search, given)
        found[name] = one
        ratio = one["numpy"] / one["ours"]
        good &= ratio >= required
        if not given.json:
            print(
                f"  {name:9} ours {one['ours']:7.3f} s   NumPy {one['numpy']:7.2f} s   ratio {ratio:6.1f}   "
                f"(must be >= {required:g}: {'yes' if ratio >= required else 'NO'}), "
                f"slopes {one['apart']:.1e} sigma apart"
            )
    if given.json:
        print(json.dumps(found))
        return 0
    if importlib.util.find_spec("stcal") is None:
        print("  SKIPPED: stcal is not installed here; its ratio was not measured")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
