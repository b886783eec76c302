"""Scenes of fringes in slices, made on a grid finer than the pixels, with what must be found in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from calibrant.frame import Frame
from calibrant.instrument.slices import Line, slice_map

SHAPE = 600, 62
WAVES = (5.15, 0.27, -0.016)
LINES = {n: Line((15.0 + 22 * (n - 1), 0.2, -2.0), (WAVES[0] + 0.008 * (n % 2), *WAVES[1:]), 16.0, 0.19)
         for n in (1, 2)}  # fmt: skip
SLICES = slice_map(LINES, SHAPE, blind=4)
OVER, PAD = 24, 20
D = 1709.6
RESOLUTION = 3400.0


def on_fine_rows(number):
    """Row and wavelength on the fine grid."""
    row = (np.arange(-PAD * OVER, (SHAPE[0] + PAD) * OVER) + 0.5) / OVER - 0.5
    return row, np.polynomial.polynomial.polyval((row - 299.5) / 300, LINES[number].wavelength)


@dataclass(frozen=True)
class Lamp:
    """Light of one source: level, reflectivity r at 5.15 um and its rise per um, half-angle of its cone."""

    level: float = 600.0
    r: float = 0.06
    rise: float = 0.03
    d: float = D
    cone: float = 0.0
    resolution: float = RESOLUTION
    second: float = 0.0
    scatter: float = 0.5

    def reflectivity(self, wavelength):
        return self.r + self.rise * (wavelength - WAVES[0])

    def plate(self, number, thickness):
        """Transmission on the fine grid, without line spread."""
        _, wave = on_fine_rows(number)
        r, total = self.reflectivity(wave), 0.0
        squares = (np.arange(64) + 0.5) / 64 * self.cone**2 if self.cone else np.zeros(1)
        for square in squares:  # rings of equal solid angle
            phase = 2 * np.pi * thickness * 1e-4 * (1 - square / 2) / (wave * 1e-4)
            total = total + 1 / (1 + 4 * r / (1 - r) ** 2 * np.sin(phase) ** 2)
        return total / len(squares)

    def blurred(self, values, number):
        """Through line spread, on the fine grid: a Gaussian whose width grows with the rows."""
        row, wave = on_fine_rows(number)
        sigma = wave / self.resolution / 2.3548 / np.gradient(wave, row) * OVER
        widths = np.sqrt(np.linspace(sigma.min() ** 2, sigma.max() ** 2, 6))
        blurs = np.array([gaussian_filter1d(values, width) for width in widths])
        place = np.clip((sigma**2 - widths[0] ** 2) / (widths[1] ** 2 - widths[0] ** 2), 0, 4.999999)
        left, each = place.astype(int), np.arange(len(values))
        return blurs[left, each] + (place - left) * (blurs[left + 1, each] - blurs[left, each])

    @cached_property
    def thickness(self):
        """Of each column."""
        return self.d + self.scatter * np.sin(np.arange(SHAPE[1]))

    @cached_property
    def image(self):
        made = np.zeros(SHAPE)
        for number in LINES:
            row, _ = on_fine_rows(number)
            shape = self.level * (1.1 - 0.3 * row / SHAPE[0]) * (1 + 0.02 * np.sin(2 * np.pi * row / 120))
            for col in np.flatnonzero((SLICES.ids == number).any(axis=0)):
                light = self.blurred(shape * self.plate(number, self.thickness[col]), number)
                pixels = light.reshape(-1, OVER).mean(axis=1)[PAD:-PAD]
                made[:, col] = np.where(SLICES.ids[:, col] == number, pixels, made[:, col])
        return made

    def taken(self, rng, noise=None):
        """A frame of 277 s at 5.5 e-/adu."""
        variance = np.maximum(self.image, 1.0) / (5.5 * 277) if noise is None else np.full(SHAPE, noise**2)
        values = self.image + rng.normal(0, 1, SHAPE) * np.sqrt(variance)
        return Frame(values.astype(np.float32), variance=variance.astype(np.float32), unit="adu/s")

    def depth(self, number, row, period):
        """1 - lowest / highest within a period about a row, as pixels at any place would see it."""
        seen = uniform_filter1d(self.blurred(self.plate(number, self.d), number), OVER)
        middle = int((row + 0.5 + PAD) * OVER)
        near = seen[middle - int(0.6 * period * OVER) : middle + int(0.6 * period * OVER)]
        return 1 - near.min() / near.max()
