"""Where the pixels of an amplifier lie, raw and assembled, and in which order they were read."""

import numpy as np
import pytest

from calibrant.effects import overscan
from calibrant.effects._amplifiers import read, regions
from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame
from calibrant.instrument import Instrument
from calibrant.instrument.detector import Amplifier, Detector

ROWS, COLS, EXTRA = 8, 5, 10
CORNERS = {"A": "lower-left", "B": "lower-right", "C": "upper-right"}


def two(turned, names):
    """Amplifiers side by side, each with an overscan; those read from the right or from above are turned to
    their place, or lie in the raw image as they do on the detector."""
    amplifiers = []
    for k, name in enumerate(names):
        first, wide = k * (COLS + EXTRA), (k * COLS + 1, (k + 1) * COLS)
        right, up = "right" in CORNERS[name], "upper" in CORNERS[name]
        data = first + 1 if turned or not right else first + 1 + EXTRA
        after = first + COLS + 1 if turned or not right else first + 1
        columns = wide[::-1] if turned and right else wide
        rows = (ROWS, 1) if turned and up else (1, ROWS)
        amplifiers.append(
            Amplifier(
                name=name,
                data=f"[{data}:{data + COLS - 1},1:{ROWS}]",
                overscan=f"[{after}:{after + EXTRA - 1},1:{ROWS}]",
                place=f"[{columns[0]}:{columns[1]},{rows[0]}:{rows[1]}]",
                corner=CORNERS[name],
            )
        )
    return Instrument(name="two", detectors={"0": Detector(amplifiers=tuple(amplifiers))})


@pytest.mark.parametrize("turned", [True, False], ids=["as read", "as placed"])
@pytest.mark.parametrize("names", ["AB", "AC", "CB"])
def test_pixels_of_one_moment_are_at_one_place(turned, names):
    """Raw and assembled; a twin that turns raw amplifiers as assembled ones fails here."""
    read_order = np.arange(1, ROWS * COLS + 1, dtype=np.float32).reshape(ROWS, COLS)
    image = np.zeros((ROWS, len(names) * (COLS + EXTRA)), np.float32)
    one = two(turned, names)
    exposure = Exposure(shape=image.shape, kind="flat", unit="adu")
    for k, name in enumerate(names):
        start = k * (COLS + EXTRA)
        own = image[:, start : start + COLS + EXTRA]
        light = own[:, :COLS]
        flips = slice(None), slice(None)
        if not turned:
            flips = (
                slice(None, None, -1 if "upper" in CORNERS[name] else None),
                slice(None, None, -1 if "right" in CORNERS[name] else None),
            )
            light = own[:, EXTRA:] if "right" in CORNERS[name] else light
        light[...] = read_order[flips]
    series = Exposures.from_frames([Frame(image, exposure=exposure)], one)
    assembled = series.through(overscan.step(series[0], instrument=one))
    for exposures in (series, assembled):
        values = read(exposures.sources()[0])
        for region in regions(exposures):
            assert np.array_equal(region.in_order(values), read_order)
