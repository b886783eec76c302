"""The registry: lookup, explain and ingest at the size of a survey, and beside lsst-daf-butler at equal rows.

Lookups do not read pixels. Medians over seeded random questions, warm; the two sides take turns question by
question. The alternative lives in a virtual environment of its own (.bench/butler), made once.

    python bench/registry.py [--products 200000] [--exposures 100000] [--files 10000] [--epochs 10]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from itertools import pairwise
from pathlib import Path

import numpy as np

from calibrant import instrument
from calibrant.exposures import Exposures
from calibrant.files.fits import write_raw
from calibrant.frame import Exposure, iso_time
from calibrant.registry import events
from calibrant.registry.database import Database
from calibrant.registry.ingest import ingest
from calibrant.registry.records import Draft
from calibrant.registry.store import Registry

HERE = Path(__file__).resolve().parent
PLACE = HERE.parent / ".bench" / "butler"
CAMERA = instrument.load("comcam")
BANDS, DETECTORS = "ugrizy", 9
START = 1_730_000_000  # seconds, Unix; as of bench/_butler.py
SPAN = 86_400  # seconds that each calibration is valid
FLOORS = {"get": 1.0, "explain": 20.0}  # ms
RATE = 500.0  # files per second
FASTER = 4.0  # times, lookup


def main() -> int:
    """Run all of it; 1 if something is slower than it has to be."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("products", 200_000), ("exposures", 100_000), ("files", 10_000), ("epochs", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="calibrant-bench-") as name:
        folder = Path(name)
        good = large(folder, options.products, options.exposures)
        good &= files(folder, options.files)
        good &= beside(folder, options.epochs)
    return 0 if good else 1


def said(label: str, value: float, unit: str, floor: float | None = None, most: bool = True) -> bool:
    """Print a figure and what it has to be; whether it is."""
    good = floor is None or (value <= floor if most else value >= floor)
    bound = (
        ""
        if floor is None
        else f"  ({'at most' if most else 'at least'} {floor:g}{'' if good else ': MISSED'})"
    )
    print(f"  {label:52s} {value:10.3f} {unit}{bound}", flush=True)
    return good


def settings() -> list[tuple[str, dict[str, str]]]:
    """The distinct kinds and keys: flats by band, the others by detector."""
    found = []
    for detector in range(DETECTORS):
        own = {"detector": str(detector)}
        found += [("flat", {**own, "filter": band}) for band in BANDS]
        found += [(kind, own) for kind in ("bias", "dark", "defects")]
    return found


def drafts(kinds: list[tuple[str, dict[str, str]]], epochs: int) -> list[Draft]:
    """One product for each setting and epoch."""
    made = []
    for epoch in range(epochs):
        for number, (kind, keys) in enumerate(kinds):
            key = "sha256:" + hashlib.sha256(f"{epoch} {number}".encode()).hexdigest()
            middle = round((START + (epoch + 0.4) * SPAN) * 1e6)
            made.append(
                Draft(key, kind, CAMERA.name, keys, middle, f"/none/{key[7:]}.fits", key, 100, facts={})
            )
    return made


def shots(count: int, span: int) -> list[Exposure]:
    """Science exposures spread over `span` seconds, nine detectors each."""
    found = []
    for number in range(-(-count // DETECTORS)):
        start = round((START + (number + 0.5) * span / (count / DETECTORS)) * 1e6)
        for detector in range(DETECTORS):
            found.append(
                Exposure(
                    kind="light",
                    start=start,
                    duration=30.0,
                    filter=BANDS[number % 6],
                    detector=str(detector),
                    instrument=CAMERA.name,
                    identifier=str(10**9 + number),
                    path=f"/none/{number}-{detector}.fits",
                )
            )
    return found[:count]


def fake(path: str) -> tuple[str, int]:
    """A hash of a file that is not there."""
    return "sha256:" + hashlib.sha256(path.encode()).hexdigest(), 100_000


def fill(path: Path, products: list[Draft], exposures: list[Exposure]) -> None:
    """A registry with certified products and exposures."""
    Registry.create(path).close()
    database = Database.open(path)
    began = time.perf_counter()
    with database.write() as writing:
        events.record_instrument(writing, CAMERA)
        events.add(writing, products, {CAMERA.name: CAMERA})
        added = time.perf_counter()
        spans = []
        for draft in products:
            assert draft.epoch is not None
            begin = round(((draft.epoch / 1e6 - START) // SPAN) * SPAN + START) * 1_000_000
            spans.append((draft.identity, begin, begin + SPAN * 1_000_000))
        events.certify_many(writing, spans, "bench", force="a benchmark")
        certified = time.perf_counter()
        ingest(writing, exposures, fake, CAMERA)
        done = time.perf_counter()
    database.close()
    times = [f"{later - sooner:.1f} s" for sooner, later in pairwise((began, added, certified, done))]
    print(
        f"  filled: {len(products)} products in {times[0]}, certified in {times[1]}, "
        f"{len(exposures)} exposures in {times[2]}, {path.stat().st_size / 1e6:.0f} MB"
    )


def large(folder: Path, products: int, exposures: int) -> bool:
    """`get` and `explain` among many rows."""
    print(f"{products} products, {exposures} exposures, SQLite")
    kinds = settings()
    epochs = -(-products // len(kinds))
    made = drafts(kinds, epochs)[:products]
    taken = shots(exposures, epochs * SPAN)
    fill(folder / "large.db", made, taken)
    rng = random.Random(1)
    with Registry(folder / "large.db", tag="bench") as registry:
        found = timed(registry.choose, rng, taken, 1000)
        good = said("get by exposure: the choice, median", found, "ms", FLOORS["get"])
        found = timed(registry.explain, rng, taken, 50)
        good &= said("explain, median", found, "ms", FLOORS["explain"])
    return good


def timed(verb, rng: random.Random, taken: list[Exposure], count: int) -> float:
    """Median milliseconds of `verb` over random exposures, after a few to warm up."""
    spent = []
    for number in range(count + 10):
        one = rng.choice(taken)
        began = time.perf_counter()
        verb("flat", instrument=CAMERA.name, exposure=one.identifier, detector=one.detector)
        if number >= 10:
            spent.append(time.perf_counter() - began)
    return 1e3 * statistics.median(spent)


def files(folder: Path, count: int) -> bool:
    """Headers, hashes and rows of files of 100 kB, as `registry ingest` does it."""
    print(f"ingest of {count} files of 100 kB")
    raw = folder / "raw"
    raw.mkdir()
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 65535, (220, 220), dtype=np.uint16)
    camera = instrument.load("generic-ccd")
    for number in range(count):
        pixels[0, :2] = number % 65536, number // 65536  # no two files alike
        header = {
            "IMAGETYP": "Light Frame",
            "EXPTIME": 30.0,
            "FILTER": "R",
            "OBSID": str(number),
            "INSTRUME": "bench",
            "DATE-OBS": iso_time((START + 40 * number) * 1_000_000).rstrip("Z"),
        }
        write_raw(raw / f"f{number:05d}.fits", pixels, header)
    size = sum(path.stat().st_size for path in raw.iterdir())
    with Registry.create(folder / "files.db") as registry:
        began = time.perf_counter()
        done = registry.ingest(Exposures.scan(raw, instrument=camera))
        spent = time.perf_counter() - began
    assert done.new == count, done
    print(f"  {size / 1e6 / spent:.0f} MB/s")
    return said("files per second", count / spent, "files/s", RATE, most=False)


def beside(folder: Path, epochs: int) -> bool:
    """The same rows in both: open, certify, lookup."""
    python = _environment()
    if python is None:
        print("!! lsst-daf-butler could not be installed: THE COMPARISON WAS SKIPPED")
        return True
    count = DETECTORS * len(BANDS) * epochs
    print(f"beside lsst-daf-butler, {count} certified flats in each")
    command = [str(python), str(HERE / "_butler.py")]
    other = folder / "butler"
    subprocess.run([*command, "make", other, *map(str, (DETECTORS, len(BANDS), epochs))], check=True)
    kinds = [(kind, keys) for kind, keys in settings() if kind == "flat"]
    numbers = [
        Exposure(
            kind="light",
            start=round((START + (epoch + 0.5) * SPAN + band) * 1e6),
            duration=0.5,
            filter=BANDS[band],
            detector=str(detector),
            instrument=CAMERA.name,
            identifier=str(epoch * len(BANDS) + band),
            path=f"/none/{epoch}-{band}-{detector}.fits",
        )
        for epoch in range(epochs)
        for band in range(len(BANDS))
        for detector in range(DETECTORS)
    ]
    fill(folder / "ours.db", drafts(kinds, epochs), numbers)
    good = _opened(folder, command, other)
    with subprocess.Popen(
        [*command, "serve", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            good &= _asked(folder, process, epochs)
        finally:
            process.stdin.close()
    return good


def _opened(folder: Path, command: list[str], other: Path) -> bool:
    ours = [
        sys.executable,
        "-c",
        f"import calibrant; calibrant.Registry({str(folder / 'ours.db')!r}, tag='bench')",
    ]
    spent: dict[str, list[float]] = {"ours": [], "other": []}
    for _ in range(5):
        for name, words in (("ours", ours), ("other", [*command, "open", other])):
            began = time.perf_counter()
            subprocess.run(words, check=True)
            spent[name].append(time.perf_counter() - began)
    ratio = min(spent["other"]) / min(spent["ours"])
    said("open in a fresh process: ours", 1e3 * min(spent["ours"]), "ms")
    said("open in a fresh process: Butler", 1e3 * min(spent["other"]), "ms")
    return said("times faster", ratio, "x", 1.0, most=False)


def _asked(folder: Path, process: subprocess.Popen[str], epochs: int) -> bool:
    """Questions in turn: by time and filter, by exposure, and certifying one more."""
    assert process.stdin and process.stdout
    process.stdout.readline()
    rng = random.Random(2)
    good = True
    with Registry(folder / "ours.db", tag="bench") as registry:
        for verb, label, floor in (
            ("time", "lookup by detector, filter and time", FASTER),
            ("exposure", "lookup by exposure", FASTER),
            ("certify", "certify one", None),
        ):
            extra = drafts([("flat", {"detector": "3", "filter": "r"})], epochs + 70)[epochs:]
            spent: dict[str, list[float]] = {"ours": [], "other": []}
            for number in range(60):
                epoch, band, detector = rng.randrange(epochs), rng.randrange(6), rng.randrange(DETECTORS)
                ask = {"do": verb, "detector": detector, "filter": band, "seconds": epoch * SPAN + 40_000}
                ask["exposure"] = epoch * len(BANDS) + band
                if verb == "certify":
                    ask |= {"detector": 3, "filter": 2, "seconds": (epochs + number) * SPAN}
                process.stdin.write(json.dumps(ask) + "\n")
                process.stdin.flush()
                answer = json.loads(process.stdout.readline())
                assert answer["found"]
                spent["other"].append(answer["seconds"])
                spent["ours"].append(_ours(registry, ask, extra[number]))
            ours, other = (statistics.median(spent[name][10:]) for name in ("ours", "other"))
            said(f"{label}: ours, median", 1e3 * ours, "ms")
            said(f"{label}: Butler, median", 1e3 * other, "ms")
            good &= said("times faster", other / ours, "x", floor, most=False)
    return good


def _ours(registry: Registry, ask: dict, draft: Draft) -> float:
    own = {"instrument": CAMERA.name, "detector": ask["detector"]}
    if ask["do"] == "time":
        moment = round((START + ask["seconds"]) * 1e6)
        began = time.perf_counter()
        registry.choose("flat", **own, filter=BANDS[ask["filter"]], time=moment)
    elif ask["do"] == "exposure":
        began = time.perf_counter()
        registry.choose("flat", **own, exposure=ask["exposure"])
    else:
        registry.record([draft], {CAMERA.name: CAMERA})
        begin = round((START + ask["seconds"]) * 1e6)
        began = time.perf_counter()
        registry.certify(draft.identity, begin, begin + SPAN * 1_000_000, tag="bench", force="a benchmark")
    return time.perf_counter() - began


def _environment() -> Path | None:
    """The virtual environment of the alternative, made once; None if it cannot be had."""
    python = PLACE / "bin" / "python"
    if not python.exists():
        venv.create(PLACE, with_pip=True)
    asked = subprocess.run([python, "-c", "import lsst.daf.butler"], capture_output=True)
    if asked.returncode:
        asked = subprocess.run([python, "-m", "pip", "install", "--quiet", "lsst-daf-butler"])
    return None if asked.returncode else python


if __name__ == "__main__":
    sys.exit(main())
