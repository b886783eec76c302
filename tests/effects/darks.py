"""Darks of a made-up detector over a grid of times and temperatures, with NumPy alone."""

from dataclasses import dataclass, field

import numpy as np

from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame

BOLTZMANN = 8.617333262e-5
REFERENCE = -10.0
GAIN, READ_NOISE = 1.5, 6.0
DIGITS = 1 / 12**0.5  # adu, of rounding


@dataclass
class Library:
    """Rates at -10 C [adu/s] and energies [eV] of pixels, on a bias."""

    seed: int = 1
    shape: tuple[int, int] = (64, 96)
    level: float = 2.0
    width: float = 0.03
    rng: np.random.Generator = field(init=False)

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.rate = self.rng.gamma(20, self.level / 20, self.shape)
        self.energy = self.rng.normal(0.65, self.width, self.shape)
        self.bias = 1000 + self.rng.normal(0, 3, self.shape)

    def dark(self, time, temperature):
        """Mean counts without the bias, adu."""
        x = (1 / (temperature + 273.15) - 1 / (REFERENCE + 273.15)) / BOLTZMANN
        return self.rate * np.exp(-self.energy * x) * time

    def expose(self, time, temperature, *, kind="dark", number=0, level=0.0, hits=0.0, **facts):
        """One frame of uint16."""
        mean = self.dark(time, temperature if temperature is not None else REFERENCE)
        counts = self.bias + level + self.rng.poisson(mean * GAIN) / GAIN
        counts += self.rng.normal(0, READ_NOISE, self.shape)
        counts[self.rng.random(self.shape) < hits] += 500
        exposure = Exposure(
            kind=kind,
            start=number * 10**9,
            duration=float(time),
            temperature=temperature,
            instrument="generic-ccd",
            identifier=f"{kind} {number}",
            **facts,
        )
        return Frame(np.clip(np.round(counts), 0, 65535).astype(np.uint16), exposure=exposure)

    def grid(self, times=(60, 120, 300, 600), temperatures=(-20, -10, 0), repeat=2, **more):
        """Frames of all times and temperatures."""
        pairs = [(t, c) for c in temperatures for t in times for _ in range(repeat)]
        return [self.expose(t, c, number=n, **more) for n, (t, c) in enumerate(pairs)]


KNOWN = {"gain": GAIN, "read_noise": float(np.hypot(READ_NOISE, DIGITS)), "reference": REFERENCE}


def series(frames):
    return Exposures.from_frames(frames)
