"""Headers of 300 files into a table: `Exposures.scan` against `ccdproc.ImageFileCollection`.

Rounds of both are interleaved in one run, and the minima compared; files are in the page cache. Ours also
translates every header into the facts of an exposure; the alternative makes a table of the cards.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from calibrant.exposures import Exposures
from calibrant.files.fits import write_raw

FLOOR = 6.0  # times, at least
FILES = 300
ROUNDS = 7


def make_files(folder: Path, count: int) -> None:
    """Raw frames of 64 x 64 with the cards of a camera program, some 45 of them."""
    rng = np.random.default_rng(1)
    for number in range(count):
        kind, exptime = (("Bias Frame", 0.0), ("Dark Frame", 60.0), ("Light Frame", 30.0))[number % 3]
        cards = {
            "IMAGETYP": kind,
            "EXPTIME": exptime,
            "EXPOSURE": exptime,
            "DATE-OBS": f"2017-09-08T21:{number // 60:02d}:{number % 60:02d}.698",
            "CCD-TEMP": -10.2 + 0.01 * (number % 7),
            "SET-TEMP": -10.0,
            "FILTER": "RGB"[number % 3],
            "XBINNING": 1,
            "YBINNING": 1,
            "EGAIN": 2.06,
            "INSTRUME": "Camera",
            **{f"CARD{card:02d}": card * 1.5 for card in range(30)},
            "HISTORY": "written for a measurement",
        }
        write_raw(folder / f"f{number:04d}.fit", rng.integers(900, 1100, (64, 64), np.uint16), cards)


def minima(alternatives: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Shortest time of each in seconds, over rounds in which all take their turn."""
    best = dict.fromkeys(alternatives, float("inf"))
    for _ in range(rounds):
        for name, work in alternatives.items():
            begin = time.perf_counter()
            count = work()
            best[name] = min(best[name], time.perf_counter() - begin)
            assert count == FILES, f"{name} found {count} files"
    return best


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of both, and their ratio."""
    from ccdproc import ImageFileCollection

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_files(Path(folder), FILES)
        best = minima(
            {
                "ours": lambda: len(Exposures.scan(folder)),
                "ccdproc": lambda: len(ImageFileCollection(folder).summary),
            },
            rounds,
        )
    return {**best, "ratio": best["ccdproc"] / best["ours"], "floor": FLOOR}


def main() -> int:
    """Print the measurement; 1 if the ratio is below the floor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    found = measure(parser.parse_args().rounds)
    print(
        f"headers of {FILES} files: ours {found['ours'] * 1e3:.1f} ms, "
        f"ccdproc {found['ccdproc'] * 1e3:.1f} ms, ratio {found['ratio']:.1f} (at least {FLOOR:g})"
    )
    return int(found["ratio"] < FLOOR)


if __name__ == "__main__":
    raise SystemExit(main())
