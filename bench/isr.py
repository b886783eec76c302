"""A raw frame of 16 amplifiers in memory to a calibrated one: the ordinary way of Calibrant, and plain NumPy.

16 x 2048 x 576 raw counts, uint16: overscan, crosstalk, assembling, bias, linearity, variance, dark, flat,
flags, gain. Both do the same steps with the same masters; the values are compared first. Rounds are
interleaved, so that a slow spell of the machine meets both alike; the ratio is of the minima.

    python bench/isr.py [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibrant.effects import crosstalk, gain
from calibrant.effects._assembly import places_table
from calibrant.exposures import Exposures
from calibrant.files.fits import read, write
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import load
from calibrant.pipeline import recipe as recipes
from calibrant.pipeline.calibrate import calibrate
from calibrant.product import Product, Quantity
from calibrant.stack.run import Threads

REQUIRED = 4.0  # times faster than NumPy
AMPS, ROWS, COLS, RAW_ROWS, RAW_COLS, SKIP = 16, 2000, 509, 2048, 576, 3
GAIN, NOISE, SATURATION, TIME = 1.4, 7.0, 60000.0, 30.0
F4 = np.float32


@dataclass
class Bench:
    """A raw frame, the products that calibrate it, and the same as plain arrays."""

    frame: Frame
    products: dict[str, Product]
    raw: np.ndarray
    matrix: np.ndarray
    nodes: np.ndarray
    curves: np.ndarray

    @classmethod
    def make(cls):
        rng = np.random.default_rng(1)
        camera = load("comcam")
        raw = np.empty((AMPS, RAW_ROWS, RAW_COLS), np.uint16)
        raw[...] = 1500 + rng.normal(0, NOISE / GAIN, raw.shape)
        raw[:, :ROWS, SKIP : SKIP + COLS] += rng.integers(500, 40000, (AMPS, ROWS, COLS), np.uint16)
        raw[:, 7, 5] = 65000
        # Amplifiers side by side, as the raw image of such a file is; NumPy has them one after the other.
        image = np.ascontiguousarray(np.moveaxis(raw, 0, 1)).reshape(RAW_ROWS, AMPS * RAW_COLS)
        exposure = Exposure(
            "light",
            instrument=camera.name,
            detector="0",
            duration=TIME,
            saturation=SATURATION,
            shape=image.shape,
        )
        return cls.with_products(Frame(image, exposure=exposure), raw, camera, rng)

    @classmethod
    def with_products(cls, frame, raw, camera, rng):
        matrix = (3e-4 * rng.standard_normal((AMPS, AMPS))).astype(F4)
        np.fill_diagonal(matrix, 0)
        readouts = camera.readouts(frame.exposure)
        names = np.array([readout.name for readout in readouts])
        source, target = np.nonzero(~np.eye(AMPS, dtype=bool))
        pairs = {
            "source": names[source],
            "target": names[target],
            "coefficient": matrix[source, target].astype(float),
            "sigma": np.zeros(len(source)),
        }
        nodes = np.linspace(0, 55000, 257)
        curves = np.stack([c * nodes**2 for c in rng.normal(2e-7, 5e-8, AMPS)])
        places = places_table(readouts, frame.shape)
        curve = {
            "amplifier": np.repeat(names, nodes.size),
            "measured": np.tile(nodes, AMPS),
            "correction": curves.ravel(),
        }
        shape = (2 * ROWS, AMPS // 2 * COLS)

        def plane(mean, sigma):
            return (mean + sigma * rng.standard_normal(shape, F4)).astype(F4)

        flags = np.where(rng.random(shape) < 0.001, np.uint32(DQ.HOT), np.uint32(0))
        known = gain.nominal(Exposures.from_frames([frame], camera), gain=GAIN)
        products = {
            "crosstalk": Product(
                "crosstalk",
                tables={
                    "crosstalk": pairs,
                    "amplifiers": crosstalk.amplifiers_table(readouts, frame.shape),
                },
            ),
            "linearity": Product(
                "linearity",
                tables={"curve": curve, "amplifiers": places},
                quantities=tuple(Quantity("valid_high", 55000.0, None, "adu", name) for name in names),
            ),
            "bias": Product("bias", planes={"data": plane(0, 2)}, units={"data": "adu"}),
            "dark": Product(
                "dark", planes={"data": plane(0.02, 0.005), "dq": flags}, units={"data": "adu/s"}
            ),
            "flat": Product("flat", planes={"data": plane(1, 0.01)}, units={"data": ""}),
            "gain": known,
        }
        products["read_noise"] = Product(
            "read_noise", quantities=(Quantity("read_noise", NOISE / GAIN, None, "adu"),)
        )
        for product in products.values():
            _ = product.identity  # hashed once, when a product is made or read
        return cls(frame, products, raw, matrix, nodes, curves.astype(F4))


def recipe():
    """Overscan as the median of each row, as in the plain form; no cosmic rays."""
    changes = {"steps_options.overscan.parallel": "false", "steps_options.overscan.reject": "null"}
    return recipes.load("comcam", changes)


def ours(bench, runner=None):
    """As every frame is calibrated."""
    return calibrate(bench.frame, bench.products, load("comcam"), recipe(), runner=runner)


def plain(bench):
    """The same steps in NumPy: float32, whole arrays, one product of matrices for the crosstalk."""
    planes = bench.products
    raw = bench.raw[:, :ROWS]
    counts = raw[:, :, SKIP : SKIP + COLS].astype(F4)
    level = np.median(raw[:, :, SKIP + COLS + SKIP :].astype(F4), axis=2)
    flags = np.where(counts >= F4(SATURATION), np.uint32(DQ.SATURATED), np.uint32(0))
    counts -= level[:, :, None]
    flat_counts = counts.reshape(AMPS, -1)
    counts = (flat_counts - bench.matrix.T @ flat_counts).reshape(counts.shape)
    data, dq = assembled(counts), assembled(flags)
    data -= planes["bias"].planes["data"]
    data, dq = linear(bench, data, dq)
    variance = F4((NOISE / GAIN) ** 2) + np.maximum(data, 0) / F4(GAIN)
    data -= planes["dark"].planes["data"] * F4(TIME)
    dq |= planes["dark"].planes["dq"]
    flat = planes["flat"].planes["data"]
    bad = ~(np.isfinite(flat) & (flat != 0))
    dq[bad] |= np.uint32(DQ.DO_NOT_USE | DQ.NO_FLAT_FIELD)
    data /= flat
    variance /= flat * flat
    data *= F4(GAIN)
    variance *= F4(GAIN**2)
    dq[~np.isfinite(data)] |= np.uint32(DQ.DO_NOT_USE)
    return data, variance, dq


def assembled(planes):
    """Amplifiers at their places: C10 ... C17 above, C07 ... C00 below, as the instrument file says."""
    half, (_, rows, cols) = AMPS // 2, planes.shape
    image = np.empty((2 * rows, half * cols), planes.dtype)
    for k in range(half):
        image[rows:, k * cols : (k + 1) * cols] = planes[k, ::-1, ::-1]
        image[:rows, k * cols : (k + 1) * cols] = planes[AMPS - 1 - k, :, ::-1]
    return image


def linear(bench, data, dq):
    """Each amplifier's curve, by its equal spacing: `numpy.interp` is slower, and in float64."""
    half, rows, cols = AMPS // 2, ROWS, COLS
    spacing = F4(bench.nodes[1])
    last = bench.nodes.size - 1
    for k in range(AMPS):
        up, column = (slice(rows, None), k) if k < half else (slice(0, rows), AMPS - 1 - k)
        at = (up, slice(column * cols, (column + 1) * cols))
        own = data[at]
        dq[at] |= np.where(own > F4(bench.nodes[-1]), np.uint32(DQ.NONLINEAR), np.uint32(0))
        place = np.clip(own / spacing, F4(0), F4(last))
        index = np.minimum(place.astype(np.int32), last - 1)
        table = bench.curves[k]
        value = table[index]
        data[at] = own + (value + (place - index) * (table[index + 1] - value)).astype(F4)
    return data, dq


def compare(bench):
    """See that both give the same frame; the largest difference of the data, electrons."""
    mine, theirs = ours(bench), plain(bench)
    np.testing.assert_allclose(mine.data, theirs[0], rtol=1e-5, atol=5e-2)
    np.testing.assert_allclose(mine.variance, theirs[1], rtol=1e-4)
    np.testing.assert_array_equal(mine.dq, theirs[2])
    return float(np.max(np.abs(mine.data - theirs[0])))


def measure(contestants, rounds):
    """Minimum seconds of each, over interleaved rounds."""
    times = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            begin = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - begin)
    return {name: min(values) for name, values in times.items()}


def files(bench):
    """Seconds to write the calibrated frame with checksums, and to read it again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.fits"
        frame = ours(bench)
        return measure(
            {
                "write, with checksums": lambda: write(frame, path, overwrite=True),
                "read": lambda: read(path).load(),
            },
            2,
        )


def main(argv=None):
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", action="store_true")
    given = options.parse_args(argv)
    bench = Bench.make()
    difference = compare(bench)
    threads = Threads()
    seconds = measure(
        {
            "ours": lambda: ours(bench),
            "ours, threads": lambda: ours(bench, threads),
            "numpy": lambda: plain(bench),
        },
        given.rounds,
    )
    ratio = seconds["numpy"] / seconds["ours, threads"]
    apart = files(bench)
    if given.json:
        print(json.dumps({"seconds": {**seconds, **apart}, "ratio": ratio, "required": REQUIRED}))
    else:
        print(f"the same values: data within {difference:.2g} electrons")
        for name, value in {**seconds, **apart}.items():
            print(f"{name:28s} {1e3 * value:8.1f} ms")
        one = seconds["numpy"] / seconds["ours"]
        print(f"numpy / ours = {ratio:.1f} in threads, {one:.1f} in one; required {REQUIRED:.0f}")
    return 0 if ratio >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
