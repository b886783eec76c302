"""Flats of a detector of 16 amplifiers, made while they are read: nothing but a sheet of noise is held."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibrant.exposures import Exposures
from calibrant.exposures.scan import Item
from calibrant.frame import Exposure, Frame
from calibrant.instrument import Amplifier, Detector, Instrument
from calibrant.stack.source import Encoding

GAIN, READ_NOISE, A00 = 1.5, 5.0, -3e-6
SHEET = np.random.default_rng(5).standard_normal(20_000_003, np.float32)


@dataclass(frozen=True)
class Light:
    """A flat of one level [e-], float32 adu."""

    shape: tuple[int, int]
    level: float
    start: int

    name = "flat made on the fly"
    encoding = Encoding("=f4")
    has_dq = False

    def read_into(self, rows, data, dq=None):
        """Noise of the sheet, from a place of its own for each frame and row."""
        x = 2 * A00 * self.level
        sigma = np.sqrt(self.level * np.expm1(x) / x + READ_NOISE**2)
        first = self.start + rows.start * self.shape[1]
        data[...] = np.take(SHEET, np.arange(first, first + data.size), mode="wrap").reshape(data.shape)
        data *= np.float32(sigma / GAIN)
        data += np.float32(self.level / GAIN)


def detector(rows, cols):
    """Two rows of eight amplifiers."""
    high, wide = rows // 2, cols // 8
    places = [
        f"[{k * wide + 1}:{(k + 1) * wide},{row * high + 1}:{(row + 1) * high}]"
        for row in range(2)
        for k in range(8)
    ]
    amplifiers = tuple(Amplifier(name=f"A{n:02d}", data=p, place=p) for n, p in enumerate(places))
    return Instrument(name="bench", detectors={"0": Detector(amplifiers=amplifiers)})


def flats(camera, pairs, rows, cols):
    """Pairs at levels from 100 to 9e4 electrons."""
    rng = np.random.default_rng(6)
    items = []
    for n, level in enumerate(np.repeat(np.geomspace(100, 9e4, pairs), 2)):
        exposure = Exposure(
            kind="flat",
            shape=(rows, cols),
            unit="adu",
            duration=float(level / 100),
            start=n * 10**9,
            applied=frozenset({"bias"}),
        )
        light = Light((rows, cols), float(level), int(rng.integers(SHEET.size)))
        # With a hash as files have it: the provenance must not read the pixels once more.
        items.append(Item(exposure, Frame(light, unit="adu", exposure=exposure), hash=f"sha256:{n:064x}"))
    return Exposures(items, camera)
