from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import bias
from calibrant.errors import HistoryError, SelectionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.product import Product

SHAPE = (40, 48)


def frame(data, start=0, **facts):
    return Frame(
        np.asarray(data),
        exposure=Exposure("bias", start=start, duration=0.0, identifier=f"b{start}", **facts),
    )


def series(n=10, noise=6.0, drift=0.0, first=0.0, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        level = 1000 + drift * i + (first if i == 0 else 0)
        made.append(frame(np.round(rng.normal(level, noise, SHAPE)).astype(np.uint16), start=i * 10**7))
    return Exposures.from_frames(made)


def test_a_mean_and_a_median_of_numpy():
    frames = series(9)
    cube = np.array([f.load().data for f in frames.frames()])
    mean = bias.measure(frames, reject="none")
    np.testing.assert_allclose(mean.data, cube.mean(0, dtype=float), rtol=1e-6)
    np.testing.assert_allclose(mean.planes["variance"], cube.var(0, ddof=1, dtype=float) / 9, rtol=1e-4)
    median = bias.measure(frames, method="median", reject="none")
    np.testing.assert_array_equal(median.data, np.median(cube, axis=0).astype(np.float32))
    assert mean.unit == "adu"
    assert mean.units["variance"] == "adu2"


def test_which_read_noise_is_which():
    found = bias.measure(series(10, noise=6.5), reject="none")
    truth = np.hypot(6.5, 1 / np.sqrt(12))
    assert found.quantity("read_noise").value == pytest.approx(truth, rel=0.02)
    # c4(10) = 0.973, and the median of a chi distribution lies lower still.
    assert found.quantity("pixel_std_median").value == pytest.approx(0.963 * truth, rel=0.02)
    plane = found.planes["read_noise"]
    assert plane.mean() == pytest.approx(truth, rel=0.02)
    cube = np.array([f.load().data for f in series(10, noise=6.5).frames()], float)
    np.testing.assert_allclose(plane, cube.std(0, ddof=1) / 0.97266, rtol=1e-4)


def test_drift_and_first_frame():
    found = bias.measure(series(10, drift=0.8, first=-5.0))
    assert found.quantity("first_offset").value == pytest.approx(-5 - 0.8 * 5, abs=0.7)
    steady = bias.measure(series(10, drift=0.8))
    assert steady.quantity("drift").value == pytest.approx(0.8, abs=0.1)
    assert steady.quantity("drift").sigma < 0.1
    assert steady.quantity("drift_range").value == pytest.approx(7.2, abs=0.7)
    table = steady.tables["frames"]
    assert list(table["name"]) == [f"b{i * 10**7}" for i in range(10)]
    assert table["offset"].sum() == pytest.approx(0, abs=1e-9)


def test_levels_that_jump_are_shifted_on_request():
    rng = np.random.default_rng(5)
    frames = [
        frame(np.round(rng.normal(1000 + jump, 4, SHAPE)).astype(np.uint16), start=i * 10**7)
        for i, jump in enumerate((0, 40, -30, 20, 5, -10))
    ]
    exposures = Exposures.from_frames(frames)
    wild = bias.measure(exposures, reject="none").planes["read_noise"].mean()
    calm = bias.measure(exposures, reject="none", level="common").planes["read_noise"].mean()
    assert wild > 15
    assert calm == pytest.approx(4, rel=0.1)


def test_each_amplifier_has_its_read_noise(tmp_path):
    rng = np.random.default_rng(6)
    sigma = np.where(np.arange(48) < 24, 4.0, 10.0)
    text = """
name = "two"
[detectors.0]
shape = [40, 48]
[[detectors.0.amplifiers]]
name = "left"
data = "[1:24,1:40]"
[[detectors.0.amplifiers]]
name = "right"
data = "[25:48,1:40]"
"""
    path = tmp_path / "two.toml"
    path.write_text(text)
    frames = [
        frame(np.round(1000 + rng.normal(0, 1, SHAPE) * sigma).astype(np.uint16), start=i * 10**7)
        for i in range(8)
    ]
    found = bias.measure(Exposures.from_frames(frames, str(path)))
    assert found.quantity("read_noise", "left").value == pytest.approx(4, rel=0.06)
    assert found.quantity("read_noise", "right").value == pytest.approx(10, rel=0.06)


def test_one_frame():
    single = series(1)
    found = bias.measure(single)
    assert set(found.planes) == {"data", "count", "dq"}
    assert any("read noise is unknown" in note for note in found.provenance.notes)
    known = [replace(f, exposure=replace(f.exposure, gain=2.0, read_noise=12.0)) for f in single.frames()]
    found = bias.measure(Exposures.from_frames(known))
    np.testing.assert_allclose(found.planes["propagated"], 36.0)
    assert any("nominal read noise" in note for note in found.provenance.notes)


def test_a_pixel_without_a_good_value_is_flagged():
    frames = [f.load() for f in series(5).frames()]
    dq = np.zeros(SHAPE, np.uint32)
    dq[3, 4] = DQ.DO_NOT_USE
    found = bias.measure(Exposures.from_frames([replace(f, dq=dq) for f in frames]))
    assert found.planes["dq"][3, 4] & DQ.DO_NOT_USE
    assert found.planes["dq"][0, 0] == 0


def test_a_pixel_with_few_good_values_is_unreliable():
    frames = []
    for i, f in enumerate(series(5).frames()):
        data = f.load().data.copy()
        if i < 3:
            data[5, 5] = np.nan
        frames.append(replace(f, data=data))
    found = bias.measure(Exposures.from_frames(frames), reject="none")
    assert found.planes["dq"][5, 5] & DQ.UNRELIABLE_BIAS
    assert found.planes["count"][5, 5] == 2


def test_provenance_and_keys():
    exposures = series(4)
    found = bias.measure(exposures, method="median")
    assert found.kind == "bias"
    assert found.keys["binning"] == (1, 1)
    assert len(found.provenance.inputs) == 4
    assert found.provenance.options["method"] == "median"
    assert "numpy" in found.provenance.versions
    assert "made of 4 frames; at least 10 are advised for a bias" in found.provenance.notes
    assert found.epoch == exposures.epoch
    assert bias.measure(exposures, method="median").identity == found.identity
    assert set(found.planes) <= set(bias.KIND.planes)
    assert {q.name for q in found} <= set(bias.KIND.quantities)


class TestApply:
    master = Product(
        "bias",
        planes={"data": np.full(SHAPE, 100, np.float32), "propagated": np.full(SHAPE, 4, np.float32)},
        units={"data": "adu"},
        keys={"detector": "0", "binning": (1, 1)},
    )

    def test_subtracts(self):
        done = bias.apply(frame(np.full(SHAPE, 150, np.uint16)), self.master)
        np.testing.assert_array_equal(done.data, 50)
        np.testing.assert_array_equal(done.systematic, 4)
        assert done.variance is None
        assert done.history[-1].product == self.master.identity
        assert done.systematic_from == {self.master.identity}

    def test_twice(self):
        done = bias.apply(frame(np.full(SHAPE, 150, np.uint16)), self.master)
        with pytest.raises(HistoryError, match="applied already"):
            bias.apply(done, self.master)

    def test_after_the_camera_removed_the_dark(self):
        light = frame(np.full(SHAPE, 150, np.uint16), applied=frozenset({"dark"}))
        with pytest.raises(HistoryError, match="dark"):
            bias.apply(light, self.master)

    def test_another_size_detector_kind_or_unit(self):
        with pytest.raises(ShapeError, match="does not fit"):
            bias.apply(frame(np.ones((4, 4), np.uint16)), self.master)
        with pytest.raises(SelectionError, match="another detector"):
            bias.apply(frame(np.ones(SHAPE, np.uint16), detector="7"), self.master)
        with pytest.raises(SelectionError, match="another kind"):
            bias.apply(frame(np.ones(SHAPE, np.uint16)), replace(self.master, kind="dark"))
        with pytest.raises(UnitError):
            bias.apply(frame(np.ones(SHAPE, np.uint16)), replace(self.master, units={"data": "electron"}))


@pytest.mark.real
class TestReal:
    """What plain NumPy gives for two series of ten frames."""

    @pytest.mark.parametrize(("temperature", "noise"), [(-5, 6.70), (-10, 6.56)])
    def test_read_noise(self, real_data, temperature, noise):
        exposures = Exposures.scan(real_data / "stl1001", instrument="stl1001")
        found = bias.measure(exposures.where(kind="bias", temperature=temperature))
        assert found.quantity("read_noise").value == pytest.approx(noise, abs=0.005)
        assert -1.5 < found.quantity("first_offset").value < -0.5
        if temperature == -5:
            assert found.quantity("pixel_std_median").value == pytest.approx(6.45, abs=0.005)
