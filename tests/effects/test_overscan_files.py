"""Overscan on simulated files: one HDU with its sections in the header, and an HDU for each amplifier."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import gain, overscan, read_noise
from calibrant.exposures import Exposures
from calibrant.simulate.observe import ccd_night

SHAPE = (64, 96)
PAIR = """
name = "pair"
extends = "generic-ccd"
[layout]
form = "amplifiers"
[detectors.default]
shape = [64, 80]
[[detectors.default.amplifiers]]
name = "1"
hdu = "AMP1"
data = "[1:48,1:64]"
overscan = "[49:80,1:64]"
place = "[1:48,1:64]"
gain = 1.5
read_noise = 7.5
[[detectors.default.amplifiers]]
name = "2"
hdu = "AMP2"
data = "[1:48,1:64]"
overscan = "[49:80,1:64]"
place = "[96:49,1:64]"
gain = 1.56
read_noise = 8.58
"""


@pytest.fixture(scope="module", params=[1, 2])
def night(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"night{request.param}")
    truth = ccd_night(
        folder / "raw", seed=5, shape=SHAPE, biases=8, darks={}, flats={}, science={},
        amplifiers=request.param, telegraph=0.0, noisy=0.0, cosmic_rate=0.0, drift=5.0,
    )  # fmt: skip
    instrument = folder / "pair.toml"
    instrument.write_text(PAIR)
    exposures = Exposures.scan(folder / "raw", instrument if request.param == 2 else "generic-ccd")
    return truth, exposures.where(kind="bias")


def stack(exposures):
    """Frames through the overscan step, (frames, rows, cols)."""
    prepared = exposures.through(overscan.step(exposures[0], instrument=exposures.instrument, reject=None))
    images = []
    for source in prepared.sources():
        image = np.empty(source.shape, np.float32)
        source.read_into(slice(0, source.shape[0]), image)
        images.append(image)
    return np.array(images)


def test_what_is_left_is_the_structure_of_the_bias(night):
    truth, exposures = night
    assert len(exposures) == 8 and not exposures.problems
    left = stack(exposures)
    assert left.shape == (8, *SHAPE)
    sigma = truth.planes["read_noise"] / np.sqrt(8)
    pulls = (left.mean(axis=0) - truth.planes["bias_structure"]) / sigma
    assert abs(pulls.mean()) < 0.15 and pulls.std() == pytest.approx(1.05, abs=0.06)
    # The twin: amplifiers in the wrong direction leave the structure of the other side.
    turned = (left.mean(axis=0)[:, ::-1] - truth.planes["bias_structure"]) / sigma
    assert turned.std() > pulls.std() + 0.05


def test_drift_and_levels_are_followed(night):
    truth, exposures = night
    product = overscan.measure(exposures)
    levels, files = product.tables["levels"], truth.tables["files"]
    for place in set(levels["amplifier"]):
        own = levels["amplifier"] == place
        offset = np.array(
            [files["offset"][np.char.endswith(files["name"], n)][0] for n in levels["frame"][own]]
        )
        base = levels["level"][own] - offset
        assert np.ptp(offset) > 0.5 and np.ptp(base) < 0.6
    noise = {q.place: q.value for q in product if q.name == "read_noise"}
    wanted = {q.place: q.value for q in truth if q.name == "read_noise"}
    scale = {q.place: q.value for q in truth if q.name == "gain"}
    for name, value in noise.items():
        # The truth is in electrons or in counts, as its unit says.
        key = name if name in wanted else next(iter(wanted))
        unit = next(q.unit for q in truth if q.name == "read_noise")
        expected = wanted[key] / (scale[key] if unit.startswith("electron") else 1.0)
        assert value == pytest.approx(np.hypot(expected, 12**-0.5), rel=0.03)


def test_nominal_gain_and_noise_of_each_amplifier(night):
    truth, exposures = night
    gains = gain.nominal(exposures)
    assert sorted(q.value for q in gains) == pytest.approx(
        sorted(q.value for q in truth if q.name == "gain"), rel=1e-4
    )
    noise = read_noise.measure(exposures, products={"gain": gains})
    assert np.median([q.value for q in noise]) == pytest.approx(
        np.median(truth.planes["read_noise"]), rel=0.06
    )
    if len(gains.quantities) == 2:
        assert gain.plane_of(gains).shape == SHAPE and noise.planes["read_noise"].shape == SHAPE
