"""Covariances of lags 0..9 of a masked pair of 2000 x 509: ours, direct NumPy float64, FFT; and a whole PTC.

Rounds are interleaved, so that a slow spell of the machine meets all alike; ratios are of the minima. The PTC
is of one detector of 16 amplifiers, its pairs of flats made on the fly; its peak is that of a fresh process.

    python bench/covariance.py [--rounds 7] [--pairs 40] [--rows 4000] [--cols 4072] [--json]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from calibrant.stack.covariance import covariances

LAGS = 10
REQUIRED = 8.0  # times faster than direct sums
PRECISION = 1e-6  # of the variance
MARGIN = 1.3  # of two float32 frames: amplifiers under way, pieces of rows, the tables


def views(plane, i, j):
    """What two pixels i rows and j columns apart see of a plane: the first and the second of each pair."""
    rows, cols = plane.shape
    if j >= 0:
        return plane[: rows - i, : cols - j], plane[i:, j:]
    return plane[: rows - i, -j:], plane[i:, : cols + j]


def direct(difference, mask):
    """Sums over lags, float64."""
    good = mask.astype(np.float64)
    d = np.where(mask, difference, 0).astype(np.float64)
    cov = np.empty((LAGS, LAGS))
    for i in range(LAGS):
        for j in range(LAGS):
            total = count = 0.0
            for way in {j, -j} if i else {j}:
                (a, b), (wa, wb) = views(d, i, way), views(good, i, way)
                n = (wa * wb).sum()
                total += (a * b).sum() - (a * wb).sum() * (wa * b).sum() / n
                count += n
            cov[i, j] = total / count
    return cov + cov[0, 0] / mask.sum()


def fourier(difference, mask):
    """The same through transforms of float32, as long as image and lags together."""
    from scipy.fft import irfft2, next_fast_len, rfft2

    good = mask.astype(np.float32)
    d = np.where(mask, difference, 0).astype(np.float32)
    size = [next_fast_len(n + LAGS, True) for n in d.shape]
    td, tw = rfft2(d, size), rfft2(good, size)
    sums = [irfft2(x, size)[:LAGS] for x in (abs(td) ** 2, abs(tw) ** 2, td.conj() * tw, tw.conj() * td)]
    total, count = np.zeros((2, LAGS, LAGS))
    for way in (1, -1):
        at = way * np.arange(LAGS)
        product, n, first, second = (s[:, at].astype(np.float64) for s in sums)
        total += product - first * second / np.round(n)
        count += np.round(n)
    cov = total / count
    return cov + cov[0, 0] / mask.sum()


WAYS = {
    "ours": lambda d, m: covariances(d, m, LAGS)[0],
    "direct NumPy float64": direct,
    "FFT float32": fourier,
}


def compare(rounds):
    """Minima in seconds and largest departure from the direct sums in units of the variance."""
    rng = np.random.default_rng(3)
    difference = 200 * rng.standard_normal((2000, 509), np.float32)
    mask = rng.random(difference.shape) > 0.01
    difference[~mask] = np.nan
    found = {name: way(difference, mask) for name, way in WAYS.items()}
    times = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            start = time.perf_counter()
            way(difference, mask)
            times[name].append(time.perf_counter() - start)
    truth = found["direct NumPy float64"]
    return {
        name: {
            "seconds": min(times[name]),
            "error": float(np.abs(found[name] - truth).max() / truth[0, 0]),
        }
        for name in WAYS
    }


def ptc(pairs, rows, cols):
    """What the fresh process does: seconds and peak memory [MB] of a PTC of 16 amplifiers."""
    from bench._flats import GAIN, detector, flats
    from calibrant.effects import gain

    gain.measure(flats(detector(512, 1024), 3, 512, 1024))  # loads and compiles
    series = flats(detector(rows, cols), pairs, rows, cols)
    before = forgotten()
    start = time.perf_counter()
    found = [q.value for q in gain.measure(series) if q.name == "gain"]
    spent = time.perf_counter() - start
    error = float(np.sqrt(np.mean((np.array(found) / GAIN - 1) ** 2)))
    print(json.dumps({"seconds": spent, "before": before, "peak": high_water(), "gain_error": error}))


def forgotten():
    """The memory of this process now [MB]; its peak so far is forgotten, where the system can."""
    if (refs := Path("/proc/self/clear_refs")).exists():
        refs.write_text("5")
    return high_water()


def high_water():
    """Peak resident memory of this process in MB (ru_maxrss remembers that of its parent)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def ptc_of(given):
    """Run it in a process of its own."""
    code = f"from bench.covariance import ptc; ptc({given.pairs}, {given.rows}, {given.cols})"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def report(found, curve, given):
    """Lines for the terminal, and whether what is required is reached."""
    own = found["ours"]["seconds"]
    good = True
    for name, one in found.items():
        ratio = one["seconds"] / own
        wanted = ""
        if name.startswith("direct"):
            good = ratio >= REQUIRED
            wanted = f"  (must be >= {REQUIRED:g}: {'yes' if good else 'NO'})"
        spent = f"{1e3 * one['seconds']:8.1f} ms   ratio {ratio:6.1f}   error {one['error']:.1e}"
        print(f"  {name:22s} {spent}{wanted}")
    precise = found["ours"]["error"] <= PRECISION
    print(f"  error of the variance <= {PRECISION:g}: {'yes' if precise else 'NO'}")
    if curve is None:
        return good and precise
    frames = 2 * 4 * given.rows * given.cols / 1e6
    used = curve["peak"] - curve["before"]
    small = used <= MARGIN * frames
    print(
        f"  PTC of 16 amplifiers, {given.pairs} pairs of {given.rows} x {given.cols}: "
        f"{curve['seconds']:.1f} s, "
        f"{used:.0f} MB above {curve['before']:.0f} MB of libraries; two float32 frames are {frames:.0f} MB "
        f"(must be <= {MARGIN:g} of that: {'yes' if small else 'NO'}); "
        f"gains to {100 * curve['gain_error']:.2f} %"
    )
    return good and precise and small


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=40, help="of the PTC; 0 leaves it out")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--cols", type=int, default=4072)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = compare(given.rounds)
    curve = ptc_of(given) if given.pairs else None
    if given.json:
        print(json.dumps({"covariances": found, "ptc": curve}))
        return 0
    return 0 if report(found, curve, given) else 1


if __name__ == "__main__":
    sys.exit(main())
