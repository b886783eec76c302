"""Dark components: their number, the dark behind a frame of light, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import dark_components
from calibrant.effects._components_fit import choose, cross_validate
from calibrant.errors import BudgetError, HistoryError, OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame

SHAPE = (128, 200)
NOISE = 6.0


class Camera:
    """Darks that differ by a glow, hot pixels and stripes, each with an amplitude of its own."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
        self.mean = 1000 + self.rng.normal(0, 5, SHAPE)
        glow = 20 * np.exp(-((rows - 10) ** 2 + (cols - 190) ** 2) / 900.0)
        hot = (self.rng.random(SHAPE) < 0.01) * self.rng.exponential(200, SHAPE)
        self.ways = np.array([glow, hot, 3 * np.sin(cols / 7.0)])

    def dark(self):
        """Without noise, adu."""
        a = self.rng.normal([0, 2, 0], [1, 0.5, 1])
        return self.mean + np.tensordot(a, self.ways, 1) + self.rng.normal(0, 5)

    def frame(self, mean, kind="dark", time=60.0, **facts):
        data = np.round(mean + self.rng.normal(0, NOISE, SHAPE))
        data[self.rng.random(SHAPE) < 1e-3] += 3000
        exposure = Exposure(kind=kind, duration=time, instrument="generic-ccd", **facts)
        return Frame(data.astype(np.uint16), exposure=exposure)

    def series(self, n=30):
        return Exposures.from_frames(
            [self.frame(self.dark(), start=k * 10**9, temperature=-5.0 + k % 3) for k in range(n)]
        )


UNLIT = np.zeros(SHAPE, bool)
UNLIT[:40] = UNLIT[-30:] = True


@pytest.fixture(scope="module")
def made():
    camera = Camera(1)
    return camera, dark_components.measure(camera.series())


def test_there_are_three(made):
    _, product = made
    assert product.quantity("components").value == 3
    table = product.tables["cross_validation"]
    assert table["error"][3] < table["error"][2] - 5 * table["sigma"][2] / 3


def test_the_dark_behind_light(made):
    camera, product = made
    widths, left, before = [], [], []
    for _ in range(8):
        truth = camera.dark()
        frame = camera.frame(truth + 5000 * ~UNLIT, kind="light")
        done = dark_components.apply(frame, product, unlit=UNLIT)
        error = (frame.data - done.data) - truth
        widths.append((error / np.sqrt(done.systematic)).std())
        plain = truth - product.data
        left.append(error.var())
        before.append(plain.var())
    assert np.sqrt(np.mean(left) / np.mean(before)) < 0.35
    assert np.mean(widths) == pytest.approx(0.95, abs=0.12)  # the gain is unknown: 1 was assumed
    assert done.did("dark") and "unlit pixels" in done.history[-1].note
    with pytest.raises(HistoryError):
        dark_components.apply(done, product, unlit=UNLIT)


def test_the_twin_with_one_way_missing_fails(made):
    camera, product = made
    camera.ways[0], kept = np.roll(camera.ways[0], 60, axis=1), camera.ways[0].copy()
    truth = camera.mean + 3 * camera.ways[0]
    done = dark_components.apply(camera.frame(truth, kind="light"), product, unlit=UNLIT)
    camera.ways[0] = kept
    error = truth - product.data - (truth - product.data).mean()
    assert (done.data - np.median(done.data))[UNLIT].std() > NOISE * 1.2 and error.std() > 2


def test_noise_alone_has_no_component():
    rng = np.random.default_rng(3)
    z = rng.standard_normal((2, 20, 4000))
    assert choose(cross_validate(z @ z.transpose(0, 2, 1), 6))[0] == 0


@pytest.mark.parametrize("truth", [1, 2])
def test_the_number_is_that_of_the_truth(truth):
    rng = np.random.default_rng(truth)
    size = (64, 96)
    ways = [(rng.random(size) < 0.05) * 40.0, 4 * np.sin(np.arange(96) / 5) * np.ones(size)]
    frames = []
    for k in range(20):  # the hot pixels of single darks, too, are in one dark only
        data = 1000 + sum(a * way for a, way in zip(rng.normal(3, 1, truth), ways, strict=False))
        data = data + rng.normal(0, 6, size) + (rng.random(size) < 0.002) * 30
        exposure = Exposure(kind="dark", duration=60.0, start=k * 10**9)
        frames.append(Frame(np.round(data).astype(np.uint16), exposure=exposure))
    product = dark_components.measure(Exposures.from_frames(frames))
    assert product.quantity("components").value == truth


def test_what_hardly_helps_is_no_component():
    # As of real darks: each further component helps all darks alike, by little.
    errors = np.outer(np.linspace(0.5, 1.5, 12), [1.0, 0.5201, 0.5196, 0.5191, 0.5190, 0.5188])
    errors += np.random.default_rng(1).normal(0, 1e-4, errors.shape)
    assert choose(errors)[0] == 1
    errors[:, 2:] -= 0.02
    assert choose(errors)[0] == 2


def test_what_is_refused(made):
    camera, product = made
    frame = camera.frame(camera.dark(), kind="light")
    with pytest.raises(SelectionError, match="too few darks"):
        dark_components.measure(camera.series(2))
    with pytest.raises(OptionError, match="do not tell that many"):
        dark_components.measure(camera.series(4), components=3)
    with pytest.raises(ShapeError, match="does not fit the frame"):
        dark_components.fit(frame, product, UNLIT[:5])
    with pytest.raises(ShapeError, match="too few unlit pixels"):
        dark_components.fit(frame, product, np.zeros(SHAPE, bool))
    with pytest.raises(SelectionError, match="all of one time"):
        dark_components.apply(camera.frame(camera.dark(), time=90.0), product, unlit=UNLIT)
    with pytest.raises(BudgetError, match="too small for the components"):
        dark_components.measure(camera.series(4), budget="100kB")
