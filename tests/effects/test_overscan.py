"""Overscan against the truth of a simulated amplifier pair, in one piece and in bands."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import overscan
from calibrant.errors import ConfigError, HistoryError, OptionError, ShapeError, UserError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Applied, Exposure, Frame
from calibrant.instrument import Amplifier, Detector, Instrument
from calibrant.stack.source import ArraySource

ROWS, COLS, OVER, BELOW = 120, 48, 20, 10
NOISE = 4.0
SATURATION = 60000.0


def instrument(parallel=True, serial=True, **changes):
    """Two amplifiers in one raw image, read to the sides, overscans in the middle, rows below for both."""
    left = f"[1:{COLS},1:{ROWS}]"
    right = f"[{COLS + 2 * OVER + 1}:{2 * (COLS + OVER)},1:{ROWS}]"
    middle = COLS + OVER
    amplifiers = (
        Amplifier(
            name="A", data=left, place=left, saturation=SATURATION,
            overscan=f"[{COLS + 1}:{middle},1:{ROWS + BELOW}]" if serial else None,
            parallel_overscan=f"[1:{COLS},{ROWS + 1}:{ROWS + BELOW}]" if parallel else None,
        ),
        Amplifier(
            name="B", data=right, place=f"[{2 * COLS}:{COLS + 1},1:{ROWS}]", saturation=SATURATION,
            overscan=f"[{middle + 1}:{middle + OVER},1:{ROWS + BELOW}]" if serial else None,
            parallel_overscan=(
                f"[{COLS + 2 * OVER + 1}:{2 * (COLS + OVER)},{ROWS + 1}:{ROWS + BELOW}]" if parallel else None
            ),
        ),
    )  # fmt: skip
    return Instrument(name="pair", detectors={"0": Detector(amplifiers=amplifiers, **changes)})


def scene():
    rows, cols = np.mgrid[0:ROWS, 0 : 2 * COLS]
    return 200.0 + rows + 3.0 * cols  # no symmetry: a wrong flip shows


def levels():
    rows = np.arange(ROWS + BELOW)
    return {"A": 1000 + 8 * np.sin(rows / 20), "B": 1400 - 0.05 * rows}


def columns():
    return {"A": 2 * np.cos(np.arange(COLS) / 9), "B": 3 * np.sin(np.arange(COLS) / 7)}


def raw(seed=1, noise=NOISE, light=None):
    """The raw image as the camera would write it, float: rows x (A data, A over, B over, B data)."""
    rng = np.random.default_rng(seed)
    light = scene() if light is None else light
    image = np.zeros((ROWS + BELOW, 2 * (COLS + OVER)))
    for name, at, over, sky in (
        ("A", slice(0, COLS), slice(COLS, COLS + OVER), light[:, :COLS]),
        ("B", slice(COLS + 2 * OVER, None), slice(COLS + OVER, COLS + 2 * OVER), light[:, :COLS - 1:-1]),
    ):  # fmt: skip
        image[:, over] = levels()[name][:, None]
        image[:, at] = levels()[name][:, None] + columns()[name]
        image[:ROWS, at] += sky
    return image + rng.normal(0, noise, image.shape)


def frame(data=None, **facts):
    data = raw() if data is None else data
    exposure = Exposure(kind="light", instrument="pair", shape=data.shape, **facts)
    return Frame(data.astype(np.float32), exposure=exposure)


def test_noise_free_pair_comes_out_exactly():
    done = overscan.apply(
        frame(raw(noise=0.0)),
        instrument=instrument(),
        parallel={"skip": 0},
        method="mean",
        reject=None,
        skip=0,
    )
    np.testing.assert_allclose(done.data, scene(), atol=2e-3)
    assert done.data.dtype == np.float32 and done.dq.dtype == np.uint32 and not done.dq.any()
    assert done.history[-1].effect == "overscan" and done.history[-1].note.startswith("A 999.77 adu, B")


@pytest.mark.parametrize("method", ["median", "mean", "polynomial", "spline", "cubic"])
def test_levels_are_true_within_their_sigma_and_a_wrong_model_is_not(method):
    options = {"method": method, "order": 6, "bins": 12}
    found = overscan.measure(Exposures.from_frames([frame()], instrument()), **options)
    truth = {name: level[:ROWS].mean() for name, level in levels().items()}
    for name, level in truth.items():
        assert found.quantity("level", name).value == pytest.approx(level, abs=0.3)
        assert found.quantity("read_noise", name).value == pytest.approx(NOISE, rel=0.06)
    source = overscan.step(frame().exposure, instrument=instrument(), **options).wrap(
        ArraySource(raw()), frame().exposure
    )
    off = source.levels["A"].serial.level - levels()["A"][:ROWS]
    limit = 5 * source.levels["A"].serial.sigma
    assert np.abs(off).max() < max(limit, 0.8)
    # The twin: one constant level for a level that runs by 8 adu must be seen to be wrong.
    flat = overscan.step(frame().exposure, instrument=instrument(), method="constant").wrap(
        ArraySource(raw()), frame().exposure
    )
    assert np.abs(flat.levels["A"].serial.level - levels()["A"][:ROWS]).max() > limit


def test_parallel_overscan_removes_the_columns_own_level():
    data = frame(raw(noise=1.0))
    serial = overscan.apply(data, instrument=instrument())
    both = overscan.apply(data, instrument=instrument(), parallel={"method": "mean", "skip": 0})
    left = [np.std((done.data - scene()).mean(axis=0)) for done in (serial, both)]
    assert left[0] > 1.4  # the columns' own levels
    assert left[1] == pytest.approx(1.0 / np.sqrt(BELOW), rel=0.3)  # the noise of ten rows


@pytest.mark.parametrize("dtype", ["<f4", ">i2", ">u2"])
def test_bands_of_any_height_give_the_same_pixels(dtype):
    image = raw() if dtype == "<f4" else np.rint(raw())
    source = overscan.Overscan(instrument(), overscan.model_of({"method": "polynomial"})).wrap(
        ArraySource(image.astype(dtype)), frame().exposure
    )
    whole = source.load()
    dq = np.empty(whole.shape, np.uint32)
    for height in (1, 7, 64):
        banded = np.empty_like(whole)
        for low in range(0, ROWS, height):
            rows = slice(low, min(low + height, ROWS))
            source.read_into(rows, banded[rows], dq[rows])
        np.testing.assert_array_equal(banded, whole)
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.load(), whole)


def test_rows_turned_over_go_to_their_place():
    data = raw(noise=0.0)
    one = Instrument(
        name="over",
        detectors={
            "0": Detector(
                amplifiers=(
                    Amplifier(
                        name="1",
                        data=f"[1:{COLS},1:{ROWS}]",
                        place=f"[1:{COLS},{ROWS}:1]",
                        overscan=f"[{COLS + 1}:{COLS + OVER},1:{ROWS}]",
                    ),
                )
            )
        },
    )
    done = overscan.apply(frame(data), instrument=one, method="mean", reject=None)
    np.testing.assert_allclose(done.data, (scene()[:, :COLS] + columns()["A"])[::-1], atol=2e-3)


def test_saturation_and_bleeding_into_the_overscan():
    data = raw()
    clean = overscan.apply(frame(data), instrument=instrument())
    data[50, 10:COLS] = 65535
    data[50:53, COLS : COLS + OVER] += 300
    done = overscan.apply(frame(data), instrument=instrument())
    assert (done.dq[50, 10:COLS] & DQ.SATURATED).all() and np.count_nonzero(done.dq) == COLS - 10
    rest = np.ones(done.data.shape, bool)
    rest[50, 10:COLS] = False
    assert np.abs(done.data - clean.data)[rest].max() < 6  # the rows take the level of their neighbours
    blind = overscan.apply(frame(data), instrument=instrument(), reject=None)
    assert np.abs(blind.data - clean.data)[rest].max() > 250


def test_a_dead_amplifier_costs_its_own_pixels_only():
    data = raw()
    data[:, COLS : COLS + OVER] = np.nan
    done = overscan.apply(frame(data), instrument=instrument())
    assert np.isnan(done.data[:, :COLS]).all() and (done.dq[:, :COLS] & DQ.DO_NOT_USE).all()
    assert np.isfinite(done.data[:, COLS:]).all() and not done.dq[:, COLS:].any()


def test_other_planes_are_trimmed_too_and_flags_kept():
    data = raw()
    plain = frame(data)
    dq = np.zeros(data.shape, np.uint32)
    dq[3, 5] = DQ.DEAD
    full = replace(plain, variance=np.full(data.shape, 2.0, np.float32), dq=dq, extra={"count": data})
    done = overscan.apply(full, instrument=instrument())
    assert done.variance.shape == done.data.shape == (ROWS, 2 * COLS)
    assert done.dq[3, 5] == DQ.DEAD and np.count_nonzero(done.dq) == 1
    np.testing.assert_array_equal(done.extra["count"][:, :COLS], data[:ROWS, :COLS])


def test_a_product_brings_its_sections_and_options():
    frames = [frame(raw(seed)) for seed in range(3)]
    product = overscan.measure(
        Exposures.from_frames(frames, instrument()), method="polynomial", order=6, parallel=True
    )
    assert len(product.tables["levels"]["level"]) == 6 and product.keys["detector"] == "0"
    by_product = overscan.apply(frames[0], product)
    by_hand = overscan.apply(frames[0], instrument=instrument(), method="polynomial", order=6, parallel=True)
    np.testing.assert_array_equal(by_product.data, by_hand.data)
    assert by_product.history[-1].product == product.identity


def test_exposures_through_the_step_read_corrected_pixels():
    frames = [frame(raw(seed)) for seed in range(2)]
    exposures = Exposures.from_frames(frames, instrument())
    prepared = exposures.through(overscan.step(exposures[0], instrument=instrument(), method="mean"))
    source = prepared.sources()[1]
    out = np.empty(source.shape, np.float32)
    source.read_into(slice(0, source.shape[0]), out)
    np.testing.assert_array_equal(out, overscan.apply(frames[1], instrument=instrument(), method="mean").data)


def test_prescan_stands_in_for_a_missing_overscan():
    data = raw(noise=0.0)
    amplifier = Amplifier(
        name="1",
        data=f"[{COLS + 2 * OVER + 1}:{2 * (COLS + OVER)},1:{ROWS}]",
        prescan=f"[{COLS + OVER + 1}:{COLS + 2 * OVER},1:{ROWS}]",
    )
    one = Instrument(name="pre", detectors={"0": Detector(amplifiers=(amplifier,))})
    done = overscan.apply(frame(data), instrument=one, method="mean", reject=None)
    np.testing.assert_allclose(done.data, scene()[:, : COLS - 1 : -1] + columns()["B"], atol=2e-3)


# --- bad input ---


def test_without_an_overscan_one_sentence():
    bare = instrument(parallel=False, serial=False)
    assert not overscan.has_overscan(frame().exposure, bare)
    assert overscan.has_overscan(frame().exposure, instrument())
    for work in (
        lambda: overscan.apply(frame(), instrument=bare),
        lambda: overscan.measure(Exposures.from_frames([frame()], bare)),
    ):
        with pytest.raises(ConfigError, match="there is no overscan") as error:
            work()
        assert "leave the overscan out" in str(error.value)


def test_a_frame_of_another_size_is_refused():
    with pytest.raises(UserError):
        overscan.apply(frame(raw()[:80]), instrument=instrument())
    product = overscan.measure(Exposures.from_frames([frame()], instrument()))
    with pytest.raises(ShapeError, match="size"):
        overscan.apply(frame(raw()[:80]), product)


def test_sections_that_do_not_tile_are_refused():
    amplifier = Amplifier(name="1", data="[1:48,1:120]", place="[1:40,1:120]", overscan="[49:60,1:120]")
    wrong = Instrument(name="wrong", detectors={"0": Detector(amplifiers=(amplifier, amplifier))})
    with pytest.raises(UserError):
        overscan.apply(frame(), instrument=wrong)


def test_twice_or_too_late_is_refused():
    done = overscan.apply(frame(), instrument=instrument())
    with pytest.raises(HistoryError, match="applied already"):
        overscan.apply(done, instrument=instrument())
    late = replace(frame(), history=(Applied("bias"),))
    with pytest.raises(HistoryError, match="bias was applied already"):
        overscan.apply(late, instrument=instrument())


def test_unknown_options_name_the_known_ones():
    with pytest.raises(OptionError, match="no option 'degree'") as error:
        overscan.apply(frame(), instrument=instrument(), degree=3)
    assert "order" in str(error.value)
    with pytest.raises(OptionError, match="unknown fit"):
        overscan.apply(frame(), instrument=instrument(), method="akima")


def test_a_frame_through_the_step_tells_its_history(tmp_path):
    """Read lazily or at once, a frame knows that its overscan is gone."""
    from calibrant.simulate.observe import ccd_night

    ccd_night(tmp_path, seed=2, shape=(48, 64), biases=2, darks={}, flats={}, science={"R": 1})
    night = Exposures.scan(tmp_path)
    light = night.where(kind="light")
    frame = light.through(overscan.step(light[0], instrument=night.instrument)).frame(0)
    whole = overscan.apply(light.frame(0), instrument=night.instrument)
    assert frame.did("overscan")
    assert frame.header == whole.header
    np.testing.assert_array_equal(frame.data, whole.data)
