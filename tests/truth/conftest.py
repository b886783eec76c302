"""A camera whose truth is known: small, in memory, with nothing of the package but its nouns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame

MINUTE = 60_000_000


@dataclass
class Camera:
    """Frames of uint16 counts: bias structure, dark with hot pixels, a flat, read and photon noise."""

    seed: int = 1
    shape: tuple[int, int] = (192, 256)
    gain: float = 1.6  # e-/adu
    read_noise: float = 6.0  # adu
    digitised: bool = True  # a median of whole numbers cannot shed their rounding
    rng: np.random.Generator = field(init=False)

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        rows, cols = np.mgrid[: self.shape[0], : self.shape[1]]
        self.bias = 1000 + 3 * np.sin(cols / 9.0) + rows / 50 + self.rng.normal(0, 1, self.shape)
        self.dark = 0.3 + self.rng.exponential(0.05, self.shape)  # adu/s
        self.dark[self.rng.random(self.shape) < 0.01] += 20.0
        radius = np.hypot(rows - self.shape[0] / 2, cols - self.shape[1] / 2) / self.shape[1]
        self.flat = (1 - 0.4 * radius**2) * self.rng.normal(1, 0.01, self.shape)
        self.clock = 0

    def expose(self, kind, time=0.0, light=0.0, **facts):
        """One frame; `light` [adu] falls through the flat."""
        electrons = self.rng.poisson((self.dark * time + light * self.flat) * self.gain)
        counts = self.bias + electrons / self.gain + self.rng.normal(0, self.read_noise, self.shape)
        self.clock += 1
        exposure = Exposure(
            kind,
            start=self.clock * MINUTE,
            duration=time,
            filter="V" if kind == "flat" else None,
            gain=facts.pop("gain", self.gain),
            read_noise=facts.pop("read_noise", self.read_noise * self.gain),
            identifier=f"{kind} {self.clock}",
            **facts,
        )
        data = np.clip(np.round(counts), 0, 65535).astype(np.uint16) if self.digitised else counts
        return Frame(data, exposure=exposure)

    def series(self, kind, n, time=0.0, light=0.0, **facts):
        """`n` frames; time and light may be sequences."""
        times, lights = np.broadcast_to(time, n), np.broadcast_to(light, n)
        frames = [self.expose(kind, float(t), v, **facts) for t, v in zip(times, lights, strict=True)]
        return Exposures.from_frames(frames)


def struck(series, height, step=7):
    """The same series with `height` adu added in one frame at each of a grid of pixels; and where."""
    frames = [frame.load() for frame in series.frames()]
    images = [np.array(frame.data, np.float64) for frame in frames]
    rows, cols = np.mgrid[3 : images[0].shape[0] : step, 3 : images[0].shape[1] : step]
    which = np.arange(rows.size).reshape(rows.shape) % len(images)
    for index, image in enumerate(images):
        here = which == index
        image[rows[here], cols[here]] += height
    changed = [
        Frame(np.clip(image, 0, 65535).astype(np.uint16), exposure=frame.exposure)
        for image, frame in zip(images, frames, strict=True)
    ]
    return Exposures.from_frames(changed), (rows, cols)


def pulls(value, truth, variance):
    """Mean and width of (value - truth) / sigma."""
    pull = ((value - truth) / np.sqrt(variance)).ravel()
    assert np.isfinite(pull).all()
    return float(np.mean(pull)), float(np.std(pull))


@pytest.fixture
def camera():
    return Camera


@pytest.fixture
def strike():
    return struck


@pytest.fixture
def measure_pulls():
    return pulls
