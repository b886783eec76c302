"""A library of 200 darks of 2048 x 2048: ours, float64 normal equations in NumPy, a loop of np.polyfit.

The same linear model in all: lines in time, then ln rate against 1/kT. Ours also gives variances, chi squared
and flags, and leaves outliers out. Rounds are interleaved, so that a slow spell of the machine meets all
alike; ratios are of the minima. The peak is that of a fresh process whose darks are made while they are read.

    python bench/dark_library.py [--rounds 2] [--darks 200] [--size 2048] [--sample 200] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench._darks import BOLTZMANN, GAIN, READ_NOISE, REFERENCE, TEMPERATURES, darks, grid, rate, sources
from bench.covariance import forgotten, high_water

REQUIRED = 4.0  # times faster than normal equations
BLOCK = 512  # rows
BUDGET = 512  # MB


def ours(series):
    """Rate and energy planes."""
    from calibrant.effects import dark_library

    found = dark_library.measure(
        series, gain=GAIN, read_noise=READ_NOISE, reference=REFERENCE, level="keep", budget=f"{BUDGET}MB"
    )
    return found.data, found.planes["energy"]


def design(count):
    """Zero level and one rate per temperature: the matrix, the weights of the darks, and 1/kT."""
    times, celsius = np.array(grid(count)).T
    member = np.searchsorted(TEMPERATURES, celsius)
    used = np.unique(member)
    a = np.zeros((count, 1 + used.size))
    a[:, 0] = 1
    a[np.arange(count), 1 + np.searchsorted(used, member)] = times
    weights = 1 / (READ_NOISE**2 + rate(celsius) * times / GAIN)
    kelvin = np.array(TEMPERATURES)[used] + 273.15
    return a, weights, (1 / kelvin - 1 / (REFERENCE + 273.15)) / BOLTZMANN


def normal_equations(stack):
    """The same by float64 normal equations on blocks of rows."""
    a, weights, x = design(len(stack))
    square = (a.T * weights) @ a
    inverse = np.linalg.inv(square)
    planes = np.empty((2, *stack.shape[1:]))
    for first in range(0, stack.shape[1], BLOCK):
        rows = slice(first, first + BLOCK)
        y = stack[:, rows].reshape(len(stack), -1).astype(np.float64)
        rates = (inverse @ ((a.T * weights) @ y))[1:]
        w = rates**2 / inverse.diagonal()[1:, None]
        log = np.log(np.maximum(rates, 1e-9))
        s, sx, sxx = w.sum(0), x @ w, (x * x) @ w
        sy, sxy = (w * log).sum(0), x @ (w * log)
        det = s * sxx - sx * sx
        planes[0, rows] = np.exp((sxx * sy - sx * sxy) / det).reshape(-1, stack.shape[2])
        planes[1, rows] = (-(s * sxy - sx * sy) / det).reshape(-1, stack.shape[2])
    return planes[0], planes[1]


def polyfit_loop(stack, sample):
    """Seconds for all pixels of a loop over pixels, from some of them."""
    times, celsius = np.array(grid(len(stack))).T
    x = (1 / (np.array(TEMPERATURES) + 273.15) - 1 / (REFERENCE + 273.15)) / BOLTZMANN
    members = [np.flatnonzero(celsius == c) for c in TEMPERATURES]
    values = stack[:, : -(-sample // stack.shape[2])].reshape(len(stack), -1)[:, :sample].copy()
    start = time.perf_counter()
    for k in range(sample):
        rates = [np.polyfit(times[m], values[m, k].astype(float), 1)[0] for m in members if len(m)]
        np.polyfit(x[: len(rates)], np.log(np.maximum(rates, 1e-9)), 1)
    return (time.perf_counter() - start) / sample * stack[0].size


def stack_of(count, size):
    """All darks in memory, uint16."""
    stack = np.empty((count, size, size), np.uint16)

    def fill(pair):
        source, out = pair
        source.read_into(slice(0, size), out)

    with ThreadPoolExecutor() as pool:
        list(pool.map(fill, zip(sources(count, size, size), stack, strict=True)))
    return stack


def compare(given):
    """Minima in seconds, of the clock and of all cores; how far the planes of the two are apart."""
    stack = stack_of(given.darks, given.size)
    ours(darks(list(stack[:, :64]), 64, given.size))  # loads and compiles
    series = darks(list(stack), given.size, given.size)
    times = {"ours": [], "normal": [], "ours_cpu": [], "normal_cpu": []}
    for _ in range(given.rounds):
        for name, way, what in (("ours", ours, series), ("normal", normal_equations, stack)):
            start, worked = time.perf_counter(), time.process_time()
            made = way(what)
            times[name].append(time.perf_counter() - start)
            times[f"{name}_cpu"].append(time.process_time() - worked)
            if name == "ours":
                own = made
    apart = [float(np.nanmedian(np.abs(a - b)) / np.nanmedian(b)) for a, b in zip(own, made, strict=True)]
    found = {name: min(spent) for name, spent in times.items()}
    return found | {"polyfit": polyfit_loop(stack, given.sample), "apart": max(apart)}


def alone(count, size):
    """What the fresh process does: seconds and peak memory [MB] of one library."""
    from calibrant.effects import dark_library

    options = {"gain": GAIN, "read_noise": READ_NOISE, "budget": f"{BUDGET}MB", "reference": REFERENCE}
    dark_library.measure(darks(sources(25, 64, 64), 64, 64), **options)  # loads and compiles
    series = darks(sources(count, size, size), size, size)
    before = forgotten()
    start = time.perf_counter()
    found = dark_library.measure(series, **options)
    spent = time.perf_counter() - start
    energy = found.quantity("activation_energy").value
    print(json.dumps({"seconds": spent, "before": before, "peak": high_water(), "energy": energy}))


def memory_of(given):
    """Run it in a process of its own."""
    code = f"from bench.dark_library import alone; alone({given.darks}, {given.size})"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def report(found, used, given):
    """Lines for the terminal, and whether what is required is reached."""
    ratio = found["normal"] / found["ours"]
    print(f"  ours                    {found['ours']:9.2f} s")
    print(
        f"  normal equations        {found['normal']:9.2f} s   ratio {ratio:8.1f}   "
        f"(must be >= {REQUIRED:g}: "
        f"{'yes' if ratio >= REQUIRED else 'NO'}), planes {found['apart']:.1e} apart"
    )
    work = found["normal_cpu"] / found["ours_cpu"]
    spent = f"{found['ours_cpu']:9.2f} s   against {found['normal_cpu']:.2f} s"
    print(f"  the same, of all cores  {spent}: ratio {work:.1f}")
    scaled = f"ratio {found['polyfit'] / found['ours']:8.0f}   (scaled from {given.sample} pixels)"
    print(f"  loop of np.polyfit      {found['polyfit']:9.0f} s   {scaled}")
    taken = used["peak"] - used["before"]
    small = taken <= BUDGET
    print(
        f"  {given.darks} darks of {given.size} x {given.size} made on the fly: {used['seconds']:.1f} s, "
        f"{taken:.0f} MB above {used['before']:.0f} MB of libraries (must be <= {BUDGET}: "
        f"{'yes' if small else 'NO'}); all darks together are {2e-6 * given.darks * given.size**2:.0f} MB; "
        f"energy {used['energy']:.4f} eV"
    )
    return ratio >= REQUIRED and small


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--darks", type=int, default=200)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--sample", type=int, default=200, help="pixels of the loop")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found, used = compare(given), memory_of(given)
    if given.json:
        print(json.dumps({**found, "memory": used}))
        return 0
    return 0 if report(found, used, given) else 1


if __name__ == "__main__":
    sys.exit(main())
