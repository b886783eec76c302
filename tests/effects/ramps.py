"""Ramps in memory for tests: simulated arrays as `Exposures`."""

from __future__ import annotations

import numpy as np

from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame
from calibrant.simulate import infrared

EPOCH = 1_700_000_000_000_000


def exposures(cubes, *, kind="dark", dq=None, read_dq=None, start=EPOCH, **keys) -> Exposures:
    """Cubes (integrations, groups, rows, cols), an hour apart, as exposures of one detector."""
    frames = []
    for number, cube in enumerate(cubes):
        facts = Exposure(
            kind=kind,
            start=start + number * 3_600_000_000,
            detector="A",
            identifier=f"file{number}",
            keys=keys,
        )
        flags = None if read_dq is None else read_dq[number]
        frames.append(Frame(cube, dq=dq, read_dq=flags, exposure=facts))
    return Exposures.from_frames(frames, "hxrg-generic")


def simulated(array, files, integrations, groups, seed, rate=0.0) -> list[np.ndarray]:
    """Cubes of darks of an array of the simulator."""
    rng = np.random.default_rng(seed)
    return [
        np.stack([infrared.ramp(array, groups, rate, rng) for _ in range(integrations)]) for _ in range(files)
    ]
