"""One 2048 x 2048 frame in memory, calibrated with variance and flags: ours, ccdproc, NumPy by effect.

Rounds are interleaved, so that a slow spell of the machine meets all alike; ratios are of the minima.

    python bench/calibrate.py [--rounds 7] [--size 2048] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass

import numpy as np

from calibrant.frame import DQ, Frame
from calibrant.stack.pixel import PixelStep, apply_steps
from calibrant.stack.run import Threads

REQUIRED = 10.0  # times faster than ccdproc
GAIN, READ_NOISE, TIME, LIMIT = 1.5, 5.0, 60.0, 60000.0


@dataclass
class Night:
    """Raw counts and masters, with the variances and flags of the masters."""

    raw: np.ndarray
    bias: np.ndarray
    dark: np.ndarray
    flat: np.ndarray
    flags: np.ndarray

    @classmethod
    def make(cls, size):
        rng = np.random.default_rng(1)

        def plane(mean, sigma):
            return (mean + sigma * rng.standard_normal((size, size), np.float32)).astype(np.float32)

        flags = np.where(rng.random((size, size)) < 0.001, np.uint32(DQ.HOT), np.uint32(0))
        raw = rng.poisson(4000, (size, size)).astype(np.uint16)
        return cls(raw, plane(1000, 1), plane(0.1, 0.01), plane(1, 0.02), flags)


def ours(night, systematic=False, runner=None):
    """Bias, noise, dark, flat and gain in one pass."""
    carried = 0.01 if systematic else None
    steps = [
        PixelStep("bias", offset=night.bias, offset_variance=carried, saturation=LIMIT),
        PixelStep("read_noise", read_noise=READ_NOISE, gain=GAIN),
        PixelStep("dark", offset=night.dark, offset_factor=TIME, offset_variance=carried, dq=night.flags),
        PixelStep("flat", divisor=night.flat, divisor_variance=carried),
        PixelStep("gain", scale=GAIN, unit="electron"),
    ]
    frame = apply_steps(Frame(night.raw), steps, runner=runner)
    return frame.data, frame.variance, frame.dq


def effect_by_effect(night):
    """The same in NumPy float32, one effect after the other."""
    dq = np.where(night.raw >= LIMIT, np.uint32(DQ.SATURATED), np.uint32(0))
    data = night.raw.astype(np.float32) - night.bias
    variance = np.float32(READ_NOISE**2) + np.maximum(data, 0) / np.float32(GAIN)
    data = data - night.dark * np.float32(TIME)
    dq = dq | night.flags
    bad = ~(np.isfinite(night.flat) & (night.flat != 0))
    dq[bad] |= np.uint32(DQ.DO_NOT_USE | DQ.NO_FLAT_FIELD)
    flat = np.where(bad, np.float32(np.nan), night.flat)
    data = data / flat
    variance = variance / (flat * flat)
    data = data * np.float32(GAIN)
    variance = variance * np.float32(GAIN**2)
    dq[~np.isfinite(data)] |= np.uint32(DQ.DO_NOT_USE)
    return data, variance, dq


def with_ccdproc(night):
    """ccdproc's bias, dark, flat and gain, with an uncertainty and a mask."""
    import astropy.units as u
    import ccdproc
    from astropy.nddata import CCDData, StdDevUncertainty

    def ccd(plane, sigma):
        uncertainty = StdDevUncertainty(np.full(plane.shape, sigma, np.float32))
        return CCDData(plane, unit=u.adu, uncertainty=uncertainty)

    bias, dark, flat = ccd(night.bias, 0.1), ccd(night.dark * np.float32(TIME), 0.1), ccd(night.flat, 0.1)

    def work():
        frame = CCDData(night.raw, unit=u.adu, mask=night.raw >= LIMIT)
        frame = ccdproc.create_deviation(
            frame,
            gain=GAIN * u.electron / u.adu,
            readnoise=READ_NOISE * GAIN * u.electron,
            disregard_nan=True,
        )
        frame = ccdproc.subtract_bias(frame, bias)
        frame = ccdproc.subtract_dark(
            frame, dark, dark_exposure=TIME * u.s, data_exposure=TIME * u.s, scale=False
        )
        return ccdproc.flat_correct(frame, flat)

    return work


def measure(contestants, rounds):
    """Minimum seconds of each, over interleaved rounds."""
    for work in contestants.values():
        work()
    times = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            begin = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - begin)
    return {name: min(values) for name, values in times.items()}


def main(argv=None):
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--size", type=int, default=2048)
    options.add_argument("--json", action="store_true")
    given = options.parse_args(argv)
    night = Night.make(given.size)
    for mine, theirs in zip(ours(night), effect_by_effect(night), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=2e-2)
    threads = Threads()
    seconds = measure(
        {
            "ours": lambda: ours(night),
            "ours, threads": lambda: ours(night, runner=threads),
            "ours, with systematic": lambda: ours(night, systematic=True),
            "numpy, effect by effect": lambda: effect_by_effect(night),
            "ccdproc, with uncertainty": with_ccdproc(night),
        },
        given.rounds,
    )
    ratio = seconds["ccdproc, with uncertainty"] / seconds["ours"]
    if given.json:
        print(json.dumps({"seconds": seconds, "ratio": ratio, "required": REQUIRED}))
    else:
        for name, value in seconds.items():
            print(f"{name:28s} {1e3 * value:8.1f} ms {value / seconds['ours']:8.2f} x ours")
        print(f"ccdproc / ours = {ratio:.1f}, required {REQUIRED:.0f}")
    return 0 if ratio >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
