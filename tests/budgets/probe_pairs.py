"""Measure a photon transfer curve of flats made while they are read, and print the memory that it took.

Run as a program of its own: ``probe_pairs.py ROWS COLS PAIRS``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibrant.effects import gain
from calibrant.exposures import Exposures
from calibrant.exposures.scan import Item
from calibrant.frame import Exposure, Frame
from calibrant.instrument import Amplifier, Detector, Instrument
from calibrant.stack.source import Encoding

KILOBYTE = 1024


@dataclass(frozen=True)
class Flat:
    """Noise that is made row by row."""

    shape: tuple[int, int]
    level: float
    seed: int

    name = "flat"
    encoding = Encoding("=f4")
    has_dq = False

    def read_into(self, rows, data, dq=None):
        for row, line in zip(range(rows.start, rows.stop), data, strict=True):
            rng = np.random.default_rng((self.seed, row))
            line[:] = self.level + np.sqrt(self.level + 25) * rng.standard_normal(len(line), np.float32)


def detector(rows, cols):
    """Two rows of eight amplifiers."""
    high, wide = rows // 2, cols // 8
    places = [
        f"[{k * wide + 1}:{(k + 1) * wide},{row * high + 1}:{(row + 1) * high}]"
        for row in range(2)
        for k in range(8)
    ]
    amplifiers = tuple(Amplifier(name=f"A{n}", data=p, place=p) for n, p in enumerate(places))
    return Instrument(name="probe", detectors={"0": Detector(amplifiers=amplifiers)})


def flats(rows, cols, pairs):
    items = []
    for n, level in enumerate(np.repeat(np.geomspace(100, 1e4, pairs), 2)):
        exposure = Exposure(
            kind="flat",
            shape=(rows, cols),
            unit="adu",
            duration=float(level),
            start=n * 10**9,
            applied=frozenset({"bias"}),
        )
        frame = Frame(Flat((rows, cols), float(level), n), unit="adu", exposure=exposure)
        items.append(Item(exposure, frame, hash=f"sha256:{n:064x}"))
    return Exposures(items, detector(rows, cols))


def status(name):
    """A number of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * KILOBYTE
    raise KeyError(name)


def main():
    rows, cols, pairs = map(int, sys.argv[1:])
    gain.measure(flats(128, 256, 4), lags=4, minimum=100, runner=2)  # kernels and libraries are loaded
    series = flats(rows, cols, pairs)
    baseline = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    product = gain.measure(series, lags=4, runner=2)
    found = {"baseline": baseline, "peak": status("VmHWM"), "gain": product.quantity("gain", "A0").value}
    print(json.dumps(found))


main()
