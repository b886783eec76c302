"""Darks of a grid of times and temperatures, made while they are read from a sheet of noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibrant.exposures import Exposures
from calibrant.exposures.scan import Item
from calibrant.frame import Exposure, Frame
from calibrant.instrument import Detector, Instrument
from calibrant.stack.source import Encoding

GAIN, READ_NOISE, ENERGY, RATE, ZERO = 1.5, 6.0, 0.65, 0.5, 1000.0  # adu/s at the reference, adu
TEMPERATURES, REFERENCE = (-25.0, -20.0, -15.0, -10.0, -5.0), -15.0
TIMES = (60.0, 120.0, 300.0, 600.0, 900.0)
BOLTZMANN = 8.617333262e-5
SHEET = np.random.default_rng(5).standard_normal(20_000_003, np.float32)


def rate(temperature):
    """Of every pixel, adu/s."""
    x = (1 / (temperature + 273.15) - 1 / (REFERENCE + 273.15)) / BOLTZMANN
    return RATE * np.exp(-ENERGY * x)


@dataclass(frozen=True)
class Dark:
    """One dark, uint16 adu."""

    shape: tuple[int, int]
    level: float
    start: int

    name = "dark made on the fly"
    encoding = Encoding("<u2")
    has_dq = False

    def read_into(self, rows, data, dq=None):
        """Noise of the sheet, from a place of its own for each frame and row."""
        sigma = np.float32(np.sqrt(READ_NOISE**2 + self.level / GAIN))
        zero = np.float32(self.level + ZERO + 0.5)
        for row, line in zip(range(rows.start, rows.stop), data, strict=True):
            first = (self.start + row * 7919) % (SHEET.size - len(line))
            line[:] = SHEET[first : first + len(line)] * sigma + zero


def grid(count):
    """Time and temperature of each of so many darks."""
    pairs = [(t, c) for c in TEMPERATURES for t in TIMES]
    return [pairs[n % len(pairs)] for n in range(count)]


def sources(count, rows, cols):
    """The darks as sources."""
    rng = np.random.default_rng(6)
    return [Dark((rows, cols), float(rate(c) * t), int(rng.integers(SHEET.size))) for t, c in grid(count)]


def darks(planes, rows, cols):
    """Exposures of sources or arrays, with the facts of the grid."""
    camera = Instrument(name="bench", detectors={"0": Detector()})
    items = []
    for n, (plane, (time, temperature)) in enumerate(zip(planes, grid(len(planes)), strict=True)):
        exposure = Exposure(
            kind="dark",
            shape=(rows, cols),
            unit="adu",
            duration=time,
            temperature=temperature,
            start=n * 10**9,
        )
        # With a hash as files have it: the provenance must not read the pixels once more.
        items.append(Item(exposure, Frame(plane, unit="adu", exposure=exposure), hash=f"sha256:{n:064x}"))
    return Exposures(items, camera)
