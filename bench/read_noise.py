"""Read noise of ramps: ours, and jwst_reffiles, which makes the reference files of the pipeline.

Files of float32 ramps are written first; reading them and writing the map are timed. The alternative lives in
a virtual environment of its own (.bench/reffiles), made once; where it cannot be had, that is said, and the
same published algorithm, made again of NumPy and astropy, stands for it. Every run is a process of its own;
rounds are interleaved, and the ratio is of the minima. Ours also gives errors, counts, boxes and histograms.

    python bench/read_noise.py [--files 5] [--groups 20] [--size 2048] [--rounds 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from functools import partial
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PLACE = HERE.parent / ".bench" / "reffiles"
NOISE = 6.0  # DN, of a single read
REQUIRED = {"median": 8.0, "mean": 15.0}  # times faster, by the centre of the clip
MEMORY = 400e6
CARDS = {
    "TELESCOP": "JWST", "INSTRUME": "NIRCAM", "DETECTOR": "NRCA1", "EXP_TYPE": "NRC_DARK",
    "READPATT": "RAPID",
    "SUBARRAY": "FULL", "FASTAXIS": -1, "SLOWAXIS": 2, "SUBSTRT1": 1, "SUBSTRT2": 1, "NFRAMES": 1,
}  # fmt: skip


def make(folder, files, groups, size):
    """Ramps of white noise: every file another one."""
    from astropy.io import fits

    rng = np.random.default_rng(5)
    found = []
    for number in range(files):
        ramp = 10_000 + NOISE * rng.standard_normal((1, groups, size, size), np.float32)
        primary = fits.PrimaryHDU(header=fits.Header(CARDS | {"DATE-OBS": f"2022-07-{number + 1:02d}"}))
        path = folder / f"dark{number}.fits"
        fits.HDUList([primary, fits.ImageHDU(ramp.astype(np.float32), name="SCI")]).writeto(path)
        found.append(str(path))
    return found


def own(arguments):
    """Ours, in this process: seconds and peak memory."""
    from calibrant.effects import read_noise
    from calibrant.exposures import Exposures
    from calibrant.files.jwst_reference import write_readnoise

    method, centre, published, out, *files = arguments
    options = {"method": method, "centre": centre, "as_published": published == "published"}
    small = Exposures.from_frames([_tiny()], "nircam")
    read_noise.measure(small, **options)  # loads and compiles
    began = time.perf_counter()
    product = read_noise.measure(Exposures.from_paths(files, "nircam"), **options)
    write_readnoise(product, out, overwrite=True)
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps({"seconds": seconds, "peak": peak}))


def _tiny():
    from calibrant.frame import Exposure, Frame

    reads = np.random.default_rng(1).standard_normal((1, 4, 32, 2048)).astype(np.float32)
    keys = {"groups": 4, "nframes": 1}
    return Frame(reads, exposure=Exposure(kind="dark", instrument="nircam", detector="NRCA1", keys=keys))


def spent(python, *words):
    """What a process of its own says."""
    done = subprocess.run([python, *map(str, words)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def environment():
    """The virtual environment of the alternative, made once; None if it cannot be had."""
    python = PLACE / "bin" / "python"
    if not python.exists():
        venv.create(PLACE, with_pip=True)
    ask = [python, "-c", "import jwst_reffiles.readnoise.readnoise"]
    if subprocess.run(ask, capture_output=True).returncode:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "jwst-reffiles"], capture_output=True)
    return None if subprocess.run(ask, capture_output=True).returncode else python


def runs(files, folder, python):
    """Name -> what carries it out."""
    name, python = ("numpy", sys.executable) if python is None else ("reffiles", python)
    first = partial(spent, python, HERE / "_reffiles.py", name, "stack", folder / f"{name}.fits", *files)
    found = {"NumPy" if name == "numpy" else "jwst_reffiles": first}
    for centre in REQUIRED:
        words = ("--own", "stack", centre, "corrected", folder / f"{centre}.fits", *files)
        found[f"ours, {centre}"] = partial(spent, sys.executable, __file__, *words)
    return found


def agreement(folder, files, other):
    """Largest relative difference of the published numbers, and how far each is from the truth."""
    from astropy.io import fits

    spent(
        sys.executable, __file__, "--own", "stack", "median", "published", folder / "published.fits", *files
    )
    theirs, published, ours = (
        fits.getdata(folder / f"{name}.fits").astype(np.float64) / np.sqrt(2)
        for name in (other, "published", "median")
    )
    bias = {name: float(np.median(one) / NOISE - 1) for name, one in (("published", theirs), ("ours", ours))}
    return float(np.max(np.abs(published / theirs - 1))), bias


def main():
    if sys.argv[1:2] == ["--own"]:
        own(sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("files", 5), ("groups", 20), ("size", 2048), ("rounds", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    python = environment()
    other = "NumPy" if python is None else "jwst_reffiles"
    if python is None:
        print(
            "SKIPPED: jwst_reffiles could not be installed; its algorithm made again of NumPy stands for it"
        )
    with tempfile.TemporaryDirectory(prefix="calibrant-bench-") as place:
        folder = Path(place)
        files = make(folder, given.files, given.groups, given.size)
        ways = runs(files, folder, python)
        told = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, way in ways.items():
                told[name].append(way())
        apart, bias = agreement(folder, files, "numpy" if python is None else "reffiles")
    return report(given, told, other, apart, bias)


def report(given, told, other, apart, bias):
    """Print what was found; 1 if something falls short."""
    seconds = {name: min(one["seconds"] for one in several) for name, several in told.items()}
    peak = {name: max(one["peak"] for one in several) for name, several in told.items()}
    ratio = {centre: seconds[other] / seconds[f"ours, {centre}"] for centre in REQUIRED}
    fine = all(ratio[centre] >= least for centre, least in REQUIRED.items()) and apart < 1e-5
    fine &= all(peak[f"ours, {centre}"] < MEMORY for centre in REQUIRED)
    if given.json:
        print(json.dumps({"seconds": seconds, "peak": peak, "ratio": ratio, "apart": apart, "bias": bias}))
        return 0 if fine else 1
    print(f"  {given.files} files x {given.groups} groups x {given.size} x {given.size} float32, stack")
    for name in told:
        print(f"  {name:14s} {seconds[name]:8.2f} s   peak {peak[name] / 1e6:6.0f} MB")
    for centre, least in REQUIRED.items():
        verdict = f"must be >= {least:g}: {'yes' if ratio[centre] >= least else 'NO'}"
        print(f"  clipped about the {centre:6s}: {ratio[centre]:6.1f} times faster ({verdict})")
    print(f"  as published: differs from {other} by {apart:.1e} at most")
    print(f"  bias: published {100 * bias['published']:+.2f} %, ours {100 * bias['ours']:+.2f} %")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
