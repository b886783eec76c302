"""Slopes of 20 x 2048 x 2048 reads, without and with jumps: ours, its closed form in NumPy, fitramp, stcal.

NumPy: the recursions of Brandt (2024) over whole rows in float32, block by block of rows so that they stay in
cache, one pass, without bias correction; jumps by dropping a difference until none is worth it, only in the
pixels that still have one: a harder opponent than fitramp itself, which is measured too where its file is
given (whole rows, float64, as its notebook does). stcal is made once in a virtual environment of its own;
OLS_C takes the flags of jumps as given (so do we, in `flagged`), or those of its own search. Ours also gives
the parts of the variance, flags, saturation and the bias, with as many threads as there are cores: CPU times
are printed beside. Rounds are interleaved; ratios are of the minima.

At the end: how many simulated jumps of which amplitude are found, and how many of the finds are jumps.

    python bench/ramp.py [--rounds 2] [--groups 20] [--size 2048] [--share 0.005] [--rows 4]
                         [--fitramp FILE] [--no-stcal] [--only-jumps] [--json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

GAIN, NOISE, RATE, FRAME = 2.0, 7.0, 3.0, 10.0
ONE, TWO = 20.25, 23.8
PLAIN, JUMPS = 10.0, 5.0  # times faster
AMPLITUDES = (2, 3, 4, 5, 6, 8, 10, 20, 50, 1000)
HERE = Path(__file__).resolve().parent
PLACE = Path(tempfile.gettempdir()) / "calibrant-bench-stcal"


def ramps(groups, size, share):
    """Reads float32, with jumps in a share of all samples, and their flags."""
    rng = np.random.default_rng(1)
    data = np.empty((groups, size, size), np.float32)
    flags = np.zeros(data.shape, np.uint8)
    level = np.zeros((size, size), np.float32)
    for i, read in enumerate(data):
        mean = RATE * FRAME
        level += mean + np.sqrt(mean / GAIN) * rng.standard_normal(level.shape, np.float32)
        if share:
            hit = rng.random(level.shape, np.float32) < share
            level[hit] += rng.exponential(500.0, int(hit.sum())).astype(np.float32)
            flags[i] = np.where(hit & (i > 0), np.uint8(4), np.uint8(0))
        read[:] = level + NOISE * rng.standard_normal(level.shape, np.float32)
    return data, flags


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
        return slope, 1 / total, chi2, None
    z *= inv
    t *= inv
    for i in range(n - 2, -1, -1):
        z[i] -= low[i + 1] * z[i + 1]
        t[i] -= low[i + 1] * t[i + 1]
        inv[i] += low[i + 1] ** 2 * inv[i + 1]
    m = np.where(use > 0, inv - t * t / total, 1)
    return slope, 1 / total, chi2, np.where((use > 0) & (many > 2), z * z / m, 0)


def in_numpy(data, flags, search, rows):
    """Slopes, variances and chi squared of all pixels. Without pairs: single reads need none."""
    out = np.empty((3, *data.shape[1:]), np.float32)
    for first in range(0, data.shape[1], rows):
        block = data[:, first : first + rows].reshape(len(data), -1)
        d = np.diff(block, axis=0) / np.float32(FRAME)
        use = np.ones_like(d)
        if flags is not None:
            use -= flags[1:, first : first + rows].reshape(use.shape) != 0
        made = np.empty((3, d.shape[1]), np.float32)
        at = np.arange(d.shape[1])
        while at.size:
            part = use[:, at]
            *planes, one = solved(d[:, at], part, search)
            made[:, at] = planes
            if not search:
                break
            i = one.argmax(0)
            hit = one[i, np.arange(at.size)] > ONE
            use[i[hit], at[hit]] = 0
            at = at[hit]
        out[:, first : first + rows] = made.reshape(3, -1, data.shape[2])
    return out


def in_fitramp(module, data, flags, search):
    """Slopes by fitramp itself, row by row."""
    sigma = np.full(data.shape[2], NOISE)
    # It knows no gain: the slope is in e-/s, and so are differences and read noise.
    covariance = module.Covar([FRAME * (i + 1) for i in range(len(data))])
    out = np.empty((3, *data.shape[1:]), np.float32)
    for row in range(data.shape[1]):
        d = np.diff(data[:, row].astype(np.float64), axis=0) * (GAIN / FRAME)
        use = None if flags is None else (flags[1:, row] == 0).astype(np.uint8)
        if search:
            use, rate = module.mask_jumps(d, covariance, sigma * GAIN)
            made = module.fit_ramps(
                d, covariance, sigma * GAIN, diffs2use=use, countrateguess=rate * (rate > 0)
            )
        else:
            made = module.fit_ramps(d, covariance, sigma * GAIN, diffs2use=use)
        out[:, row] = made.countrate / GAIN, (made.uncert / GAIN) ** 2, made.chisq
    return out


def ours(data, flags, search):
    """The same planes."""
    from calibrant.effects import ramp

    found = ramp.measure(
        data, ramp.pattern(len(data), FRAME), gain=GAIN, read_noise=NOISE, read_dq=flags,
        thresholds=(ONE, TWO) if search else None,
    )  # fmt: skip
    return found.data, found.planes["variance"], found.planes["chi2"]


def jumps(groups, size=256):
    """Amplitude [sigma of a difference] -> share of the jumps found, and of the finds that are jumps."""
    from calibrant.effects import ramp

    sigma = float(np.sqrt(2 * NOISE**2 + RATE * FRAME / GAIN))
    times, found = ramp.pattern(groups, FRAME), {}
    for amplitude in AMPLITUDES:
        rng = np.random.default_rng(2)
        data, _ = ramps(groups, size, 0.0)
        first = rng.integers(1, groups, (size, size))  # the read before which it came
        hit = rng.random((size, size)) < 0.5
        came = (np.arange(groups)[:, None, None] == first) & hit
        data += (came.cumsum(0) * (amplitude * sigma)).astype(np.float32)
        marks = np.zeros(data.shape, np.uint8)
        ramp.measure(data, times, gain=GAIN, read_noise=NOISE, thresholds=(ONE, TWO), marks=marks)
        told = (marks & 4) != 0
        found[amplitude] = (
            float((told & came).sum() / came.sum()),
            float((told & came).sum() / max(told.sum(), 1)),
        )
    return found


class Stcal:
    """stcal in a process of its own, which answers with its times."""

    def __init__(self, folder):
        python = PLACE / "bin" / "python"
        if not python.exists():
            venv.create(PLACE, with_pip=True)
        if subprocess.run([python, "-c", "import stcal"], capture_output=True).returncode:
            subprocess.run([python, "-m", "pip", "install", "--quiet", "stcal"], check=True)
        self.folder = folder
        self.process = subprocess.Popen(
            [python, HERE / "_stcal.py", folder, *map(str, (GAIN, NOISE, FRAME))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.process.stdout.readline()

    def __call__(self, name, do):
        """Slopes, seconds and CPU seconds."""
        self.process.stdin.write(json.dumps({"name": name, "do": do}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return np.load(self.folder / "slope.npy"), answer["wall"], answer["cpu"]


def timed(task):
    """What it gives, seconds and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = task()
    return made, time.perf_counter() - wall, time.process_time() - cpu


def compare(tasks, rounds):
    """Of each task: minima of seconds and CPU seconds, and how far its slopes are from ours, in sigmas."""
    found = {name: [np.inf, np.inf, 0.0] for name in tasks}
    for _ in range(rounds):
        own = None
        for name, task in tasks.items():
            made, wall, cpu = task()
            own = made if own is None else own
            slope = made if isinstance(made, np.ndarray) and made.ndim == 2 else made[0]
            apart = float(np.nanmedian(np.abs(slope - own[0]) / np.sqrt(own[1])))
            found[name] = [min(found[name][0], wall), min(found[name][1], cpu), apart]
    return found


def tasks_of(name, data, flags, given, fitramp, stcal):
    """What is measured in one case."""
    search, known = name in ("searched", "jumps"), flags if name == "flagged" else None
    tasks = {
        "ours": lambda: timed(lambda: ours(data, known, search)),
        "NumPy": lambda: timed(lambda: in_numpy(data, known, search, given.rows)),
    }
    if fitramp:
        tasks["fitramp"] = lambda: timed(lambda: in_fitramp(fitramp, data, known, search))
    if stcal:
        file = "plain" if name in ("plain", "searched") else "jumps"
        tasks["stcal OLS_C"] = lambda: stcal(file, "search" if search else "ols")
    return tasks


def measured(given, fitramp, stcal, folder):
    """Of each case, what `compare` tells."""
    found = {}
    for name in ("plain", "searched", "flagged", "jumps"):
        if name in ("plain", "flagged"):
            data = flags = None  # freed before the next are made
            data, flags = ramps(given.groups, given.size, 0.0 if name == "plain" else given.share)
            if stcal:
                file = "plain" if name == "plain" else "jumps"
                np.save(folder / f"{file}.npy", data)
                np.save(folder / f"{file}.flags.npy", flags)
        ours(data[:, :64], None, name in ("searched", "jumps"))  # loads and compiles
        ours(data[:, :64], flags[:, :64], False)
        found[name] = compare(tasks_of(name, data, flags, given, fitramp, stcal), given.rounds)
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--share", type=float, default=0.005, help="of the samples with a jump")
    parser.add_argument("--rows", type=int, default=4, help="of a block of the NumPy form")
    parser.add_argument("--fitramp", help="fitramp.py of a checkout of t-brandt/fitramp")
    parser.add_argument("--no-stcal", action="store_true")
    parser.add_argument("--only-jumps", action="store_true", help="leave out the times")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    truth = jumps(given.groups)
    if given.only_jumps:
        print(json.dumps({"truth": truth})) if given.json else show_jumps(truth)
        return 0
    fitramp, stcal = None, None
    if given.fitramp:
        spec = importlib.util.spec_from_file_location("fitramp", given.fitramp)
        fitramp = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fitramp)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if not given.no_stcal:
            try:
                stcal = Stcal(folder)
            except (subprocess.CalledProcessError, OSError, ValueError) as problem:
                print(f"  SKIPPED: stcal could not be had: {problem}", file=sys.stderr)
        found = measured(given, fitramp, stcal, folder)
        if stcal:
            stcal.process.stdin.close()
            stcal.process.wait()
    if given.json:
        print(json.dumps(found | {"truth": truth}))
        return 0
    show_jumps(truth)
    return show(found)


def show_jumps(truth):
    """A line for each amplitude."""
    print(
        "simulated jumps, in half of the pixels:  amplitude [sigma of a difference]  found  true of the finds"
    )
    for amplitude, (found, true) in truth.items():
        print(f"  {amplitude:6}  {100 * found:6.2f} %  {100 * true:6.2f} %")


def show(found):
    """The table; 1 if we are not as fast as we must be."""
    good = True
    for case, rows in found.items():
        required = PLAIN if case == "plain" else JUMPS
        wall, cpu, _ = rows["ours"]
        print(f"{case}: ours {wall:.3f} s, CPU {cpu:.3f} s")
        for name, (other, other_cpu, apart) in rows.items():
            if name == "ours":
                continue
            good &= other >= required * wall
            print(
                f"  {name:12} {other:7.2f} s, CPU {other_cpu:7.2f} s   ratio {other / wall:6.1f}, of CPU "
                f"{other_cpu / cpu:6.1f}   (must be >= {required:g}: "
                f"{'yes' if other >= required * wall else 'NO'}), slopes {apart:.1e} sigma apart"
            )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
