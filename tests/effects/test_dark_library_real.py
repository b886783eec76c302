"""Real darks of 150 s and 300 s at two temperatures, each foretold by a library of all others."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import bias, dark_library
from calibrant.exposures import Exposures

pytestmark = pytest.mark.real
GAIN, READ_NOISE = 1.94, 6.7  # e-/adu and adu, measured from its flats and biases


@pytest.fixture(scope="module")
def stl(real_data):
    return Exposures.scan(real_data / "stl1001", "stl1001")


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("time", [150.0, 300.0])
@pytest.mark.parametrize("celsius", [-5, -10])
def test_a_dark_left_out(stl, celsius, time, with_bias):
    darks = stl.where(kind="dark")
    (out,) = [i for i, e in enumerate(darks) if e.duration == time and abs(e.temperature - celsius) < 1]
    rest = darks.take(i for i in range(len(darks)) if i != out)
    zero = bias.measure(stl.where(kind="bias", temperature=celsius)) if with_bias else None
    products = {"bias": zero} if zero else {}
    library = dark_library.measure(rest, products=products, gain=GAIN, read_noise=READ_NOISE)
    frame = darks.frame(out).load()
    found = dark_library.predict(library, time, frame.exposure.temperature, after=products.values())
    assert (time > library.tables["temperatures"]["time_max"].max()) == found.outside
    left = frame.data - found.data - (zero.data if zero else 0)
    variance = READ_NOISE**2 + np.maximum(found.dark, 0) / GAIN + found.variance
    variance += zero.planes["propagated"] if zero and "propagated" in zero.planes else 0
    variance += zero.planes["variance"] if zero and "propagated" not in zero.planes else 0
    normal = library.planes["dq"] == 0
    z = left / np.sqrt(variance)
    hit = np.abs(z - np.median(z[normal])) > 5
    assert normal.mean() > 0.97 and hit[normal].mean() < 1e-3
    kept = normal & ~hit
    ratio = left[kept].std() / np.sqrt(variance[kept].mean())
    assert ratio == pytest.approx(1.0, abs=0.15)
    hot = ~normal & np.isfinite(z)  # apart: they flicker, and the law of two temperatures is theirs
    assert 0.01 < hot.mean() < 0.03 and 1.4826 * np.median(np.abs(z[hot] - np.median(z[hot]))) < 1.5


def test_it_halves_in_five_degrees(stl):
    library = dark_library.measure(stl.where(kind="dark"), gain=GAIN, read_noise=READ_NOISE)
    assert library.quantity("doubling_temperature").value == pytest.approx(5.15, abs=0.15)
