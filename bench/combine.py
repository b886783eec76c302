"""Frames of 2048 x 2048 uint16 in files, combined: ours, float64 np.median, astropy's sigma_clip, ccdproc.

Reading is included and the files are in the page cache. Rounds are interleaved, so that a slow spell of the
machine meets all alike; ratios are of the minima. Peak memory is that of a fresh process.

    python bench/combine.py [--rounds 5] [--size 2048] [--slow 1] [--json] [--only median30,median100,clip30]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from calibrant.files.fits import open_source, write_raw
from calibrant.stack.combine import combine
from calibrant.stack.reject import SigmaClip

FLOORS = {
    ("median30", "float64 np.median"): (">=", 50.0),
    ("median30", "one plain read"): ("<=", 6.0),
    ("median100", "float64 np.median"): (">=", 45.0),
    ("median100", "one plain read"): ("<=", 7.0),
    ("clip30", "ccdproc.combine"): (">=", 25.0),
    ("clip30", "astropy float32"): (">=", 8.0),
}
PEAK = 250.0  # MB, of the whole process, for a median


def ours(paths):
    """The median alone, as the alternatives give it."""
    return combine([open_source(path) for path in paths], planes=("data",)).data


def ours_all(paths):
    """The median with variance, counts and flags."""
    return combine([open_source(path) for path in paths])


def clipped(paths):
    """The 3-sigma clipped mean with variance, counts and flags."""
    return combine([open_source(path) for path in paths], method="mean", reject=SigmaClip(3))


def plain_read(paths):
    """Unbuffered reading of every file into one reused buffer."""
    buffer = bytearray(Path(paths[0]).stat().st_size)
    for path in paths:
        with Path(path).open("rb", buffering=0) as file:
            file.readinto(buffer)


def notebook(paths):
    """A float64 cube and np.median."""
    from astropy.io import fits

    with fits.open(paths[0]) as hdus:
        cube = np.zeros((len(paths), *hdus[0].shape))
    for i, path in enumerate(paths):
        cube[i] = fits.getdata(path)
    return np.median(cube, axis=0)


def astropy_clip(paths):
    """Clipping of a float32 cube, and the mean of what is left."""
    from astropy.io import fits
    from astropy.stats import sigma_clip

    cube = np.array([fits.getdata(path).astype(np.float32) for path in paths])
    return np.nanmean(sigma_clip(cube, sigma=3, maxiters=5, axis=0, masked=False, copy=False), axis=0)


def ccdproc_clip(paths):
    """Its average with sigma clipping about the median."""
    import ccdproc

    return ccdproc.combine(
        [str(path) for path in paths],
        method="average",
        unit="adu",
        mem_limit=16e9,
        sigma_clip=True,
        sigma_clip_low_thresh=3,
        sigma_clip_high_thresh=3,
        sigma_clip_func=np.ma.median,
        sigma_clip_dev_func=np.ma.std,
    )


MEDIANS = {"ours": ours, "ours, all planes": ours_all, "one plain read": plain_read}
CASES = {
    "median30": (30, MEDIANS, {"float64 np.median": notebook}),
    "median100": (100, MEDIANS, {"float64 np.median": notebook}),
    "clip30": (
        30,
        {"ours": clipped, "one plain read": plain_read},
        {"astropy float32": astropy_clip, "ccdproc.combine": ccdproc_clip},
    ),
}


def frames(folder, number, size):
    """Files as a camera writes them: noise, hot pixels and hits."""
    rng = np.random.default_rng(7)
    hot = rng.random((size, size)) < 0.001
    paths = []
    for i in range(number):
        path = Path(folder) / f"frame{i:03d}.fits"
        data = 1000 + 8 * rng.standard_normal((size, size), np.float32) + 3000 * hot
        at = rng.integers(0, size, (2, size))
        data[at[0], at[1]] += rng.exponential(2000, size).astype(np.float32)
        write_raw(path, np.clip(data, 0, 65535).astype(np.uint16), {})
        paths.append(path)
    return paths


def seconds(function, paths):
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(paths)
    return time.perf_counter() - start


def peak_of(case, folder):
    """Peak memory in MB of a fresh process that does one combination."""
    code = f"from bench.combine import alone; alone({case!r}, {str(folder)!r})"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return float(done.stdout)


def alone(case, folder):
    """What that process does."""
    paths = sorted(Path(folder).iterdir())[: CASES[case][0]]
    CASES[case][1]["ours"](paths)
    print(high_water())


def high_water():
    """Peak resident memory of this process in MB (ru_maxrss remembers that of its parent)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(case, paths, rounds, slow):
    """Minima of interleaved rounds, in seconds; slow alternatives take part in the first `slow` ones."""
    fast_ones, slow_ones = CASES[case][1:]
    for function in fast_ones.values():
        function(paths)
    times = {name: [] for name in (*fast_ones, *slow_ones)}
    for i in range(rounds):
        for name, function in {**fast_ones, **(slow_ones if i < slow else {})}.items():
            times[name].append(seconds(function, paths))
    return {name: min(spent) for name, spent in times.items() if spent}


def report(case, best, peak):
    """Lines for the terminal, and whether every floor is reached."""
    good = True
    print(f"{case}: peak {peak:.0f} MB")
    for name, spent in best.items():
        ratio = best["ours"] / spent if name == "one plain read" else spent / best["ours"]
        sense, floor = FLOORS.get((case, name), ("", 0.0))
        reached = not sense or (ratio >= floor if sense == ">=" else ratio <= floor)
        good &= reached
        wanted = f"  (must be {sense} {floor:g}: {'yes' if reached else 'NO'})" if sense else ""
        print(f"  {name:20s} {spent:8.4f} s   ratio {ratio:7.1f}{wanted}")
    if case.startswith("median") and peak > PEAK:
        print(f"  peak above {PEAK:.0f} MB: NO")
        good = False
    return good


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow", type=int, default=1, help="rounds of the slow alternatives")
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--folder", help="where the frames are kept; a temporary folder if not given")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    wanted = given.only.split(",")
    results, good = {}, True
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        paths = frames(folder, max(CASES[case][0] for case in wanted), given.size)
        for case in wanted:
            chosen = paths[: CASES[case][0]]
            best = measure(case, chosen, given.rounds, given.slow)
            peak = peak_of(case, folder)
            results[case] = {"seconds": best, "peak_mb": peak}
            good &= report(case, best, peak)
    if given.json:
        print(json.dumps(results, indent=2))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
