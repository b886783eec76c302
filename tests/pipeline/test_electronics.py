"""Crosstalk and linearity in the way of a science frame: by name, in the order of physics, in one pass."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.effects import bias, crosstalk, gain, linearity, overscan, read_noise
from calibrant.effects._assembly import places_table
from calibrant.exposures import Exposures
from calibrant.files.fits import read, write
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import Amplifier, Detector, Instrument
from calibrant.pipeline import recipe as recipes
from calibrant.pipeline.calibrate import calibrate, stages
from calibrant.pipeline.run import reduce
from calibrant.product import Product, Quantity
from calibrant.registry import Registry
from calibrant.simulate.camera import load
from calibrant.simulate.raft import simulate
from calibrant.simulate.raft_plan import Counts
from calibrant.stack.run import Threads

ROWS, COLS, OVER = 60, 24, 12
OFF = {"steps_options.cosmic_rays.enabled": "false"}
C0 = {"A": 2e-7, "B": -1e-7}


@pytest.fixture
def camera():
    """Two amplifiers, the second read from the right."""
    wide = COLS + OVER
    amplifiers = tuple(
        Amplifier(
            name=name,
            data=f"[{1 + k * wide}:{COLS + k * wide},1:{ROWS}]",
            overscan=f"[{COLS + 1 + k * wide}:{wide + k * wide},1:{ROWS}]",
            place=f"[1:{COLS},1:{ROWS}]" if k == 0 else f"[{2 * COLS}:{COLS + 1},1:{ROWS}]",
            corner="lower-left" if k == 0 else "lower-right",
            gain=1.5,
            read_noise=6.0,
            saturation=60000.0,
        )
        for k, name in enumerate("AB")
    )
    return Instrument(name="cam", detectors={"0": Detector(amplifiers=amplifiers)})


@pytest.fixture
def frame():
    rng = np.random.default_rng(1)
    raw = rng.integers(2000, 40000, (ROWS, 2 * (COLS + OVER)))
    for k in range(2):
        first = COLS + k * (COLS + OVER)
        raw[:, first : first + OVER] = 1000 + rng.integers(-4, 5, (ROWS, OVER))
    raw[7, 5] = 65000
    exposure = Exposure("light", instrument="cam", shape=raw.shape, duration=10.0)
    return Frame(raw.astype(np.uint16), exposure=exposure)


@pytest.fixture
def products(camera, frame):
    readouts = camera.readouts(frame.exposure)
    table = {
        "source": np.array(["A", "B"]),
        "target": np.array(["B", "A"]),
        "coefficient": np.array([2e-3, -5e-4]),
        "sigma": np.zeros(2),
    }
    mixed = Product(
        "crosstalk",
        tables={"crosstalk": table, "amplifiers": crosstalk.amplifiers_table(readouts, frame.shape)},
    )
    nodes = np.linspace(0, 50000, 257)
    curve = {
        "amplifier": np.repeat(list(C0), nodes.size),
        "measured": np.tile(nodes, 2),
        "correction": np.concatenate([c * nodes**2 for c in C0.values()]),
    }
    places = mixed.tables["amplifiers"]
    bent = Product(
        "linearity",
        tables={
            "curve": curve,
            "amplifiers": {
                "name": places["name"],
                "place": places["place"],
                "rows": np.full(2, ROWS),
                "cols": np.full(2, 2 * COLS),
            },
        },
        quantities=tuple(Quantity("valid_high", 50000.0, None, "adu", name) for name in C0),
    )
    zero = Product("bias", planes={"data": np.full((ROWS, 2 * COLS), 2.0, np.float32)}, units={"data": "adu"})
    one = Exposures.from_frames([frame], camera)
    known = gain.nominal(one)
    return {
        "crosstalk": mixed,
        "linearity": bent,
        "bias": zero,
        "gain": known,
        "read_noise": read_noise.measure(one, products={"gain": known}),
    }


def recipe(**changes):
    return recipes.load("comcam", {"steps_options.overscan.parallel": "false", **changes})


def test_steps_are_done_in_the_order_of_physics(frame, products, camera):
    """In one pass, in threads, and effect by effect: the same."""
    done = calibrate(frame, products, camera, recipe())
    assert [line.effect for line in done.history][:4] == ["overscan", "crosstalk", "bias", "linearity"]
    expected = overscan.apply(frame, instrument=camera, method="median", skip=(3, 0))
    expected = crosstalk.apply(expected, products["crosstalk"])
    expected = bias.apply(expected, products["bias"])
    expected = linearity.apply(expected, products["linearity"])
    np.testing.assert_allclose(done.data, expected.data * 1.5, rtol=1e-6)
    assert done.unit == "electron" and done.dq[7, 5] & DQ.SATURATED and done.dq[7, 5] & DQ.NONLINEAR
    threads = calibrate(frame, products, camera, recipe(), runner=Threads(2))
    for name in ("data", "variance", "dq"):
        np.testing.assert_array_equal(getattr(done, name), getattr(threads, name))


def test_each_can_be_switched_off(frame, products, camera):
    whole = calibrate(frame, products, camera, recipe())
    for kind in ("crosstalk", "linearity"):
        off = calibrate(frame, products, camera, recipe(**{f"steps_options.{kind}.enabled": "false"}))
        assert not off.did(kind) and np.abs(off.data - whole.data).max() > 1
        without = calibrate(frame, {k: v for k, v in products.items() if k != kind}, camera, recipe())
        np.testing.assert_array_equal(off.data, without.data)


def test_pictures_show_them(frame, products, camera):
    titles = [title for title, _ in stages(frame, products, camera, recipe())]
    assert titles == ["raw", "less overscan", "less crosstalk", "less bias", "made linear"]


def test_a_dark_that_holds_the_zero_level_comes_too_late(frame, products, camera):
    """There is no signal above zero to be corrected: flagged, not bent about a wrong zero."""
    dark = Product(
        "dark",
        keys={"includes_bias": True, "exptime": 10.0},
        planes={"data": np.full((ROWS, 2 * COLS), 3.0, np.float32)},
        units={"data": "adu"},
        quantities=(Quantity("level", 3.0, None, "adu"),),
    )
    given = {k: v for k, v in products.items() if k != "bias"} | {"dark": dark}
    done = calibrate(frame, given, camera, recipe())
    assert not done.did("linearity") and (done.dq & DQ.NO_LIN_CORR).all()


def test_certified_ones_are_used_for_flats_and_frames(tmp_path):
    """A detector of a raft, reduced with a registry that knows its amplifiers: both are applied, and told."""
    counts = Counts(biases=2, darks=1, flats=2)
    taken = simulate(load("comcam"), tmp_path / "raw", seed=3, detectors=(0,), bands=("r",), counts=counts)
    one = Exposures.from_paths(taken.raw, "comcam").where(kind="flat")
    readouts = one.instrument.readouts(one[0])
    names = np.array([readout.name for readout in readouts])
    facts = {"instrument": "comcam", "keys": {"detector": "0"}, "epoch": one.epoch}
    amplifiers = crosstalk.amplifiers_table(readouts, one.shape)
    pair = {
        "source": names[:1],
        "target": names[1:2],
        "coefficient": np.array([1e-3]),
        "sigma": np.array([1e-5]),
    }
    nodes = np.linspace(0, 60000, 9)
    curve = {
        "amplifier": np.repeat(names, 9),
        "measured": np.tile(nodes, 16),
        "correction": np.tile(1e-6 * nodes**2, 16),
    }
    highest = tuple(Quantity("valid_high", 60000.0, None, "adu", str(name)) for name in names)
    given = {
        "crosstalk": Product("crosstalk", tables={"crosstalk": pair, "amplifiers": amplifiers}, **facts),
        "linearity": Product(
            "linearity",
            tables={"curve": curve, "amplifiers": places_table(readouts, one.shape)},
            quantities=highest,
            **facts,
        ),
    }
    with Registry.create(tmp_path / "calibrant.db") as registry:
        for kind, product in given.items():
            write(product, tmp_path / f"{kind}.fits")
            registry.add(product, tmp_path / f"{kind}.fits")
            registry.certify(product.identity, force="a test")
        options = {"instrument": "comcam", "allow_missing": True, "changes": OFF}
        bent = reduce(tmp_path / "raw", out=tmp_path / "bent", registry=registry, **options)
    straight = reduce(tmp_path / "raw", out=tmp_path / "straight", **options)
    assert {entry["kind"] for entry in bent.summary.stock} == {"crosstalk", "linearity"}
    flat = next(entry for entry in bent.summary.masters if entry["kind"] == "flat")
    master = read(tmp_path / "bent" / "masters" / f"{flat['name']}.fits")
    assert {product.identity for product in given.values()} <= set(master.provenance.parents)
    (entry,) = bent.summary.frames
    assert {"crosstalk", "linearity"} <= set(entry["steps"])
    before = read(tmp_path / "straight" / straight.summary.frames[0]["file"]).load()
    after = read(tmp_path / "bent" / entry["file"]).load()
    assert np.nanmedian(after.data / before.data) > 1.0005


def test_a_measured_gain_goes_before_the_nominal_one(tmp_path):
    """A certified gain that is 1.2 times the stated one makes 1.2 times the electrons; it is told whose."""
    counts = Counts(biases=2, darks=1, flats=2)
    simulate(load("comcam"), tmp_path / "raw", seed=3, detectors=(0,), bands=("r",), counts=counts)
    one = Exposures.scan(tmp_path / "raw", instrument="comcam").where(kind="light")
    stated = gain.nominal(one)
    measured = Product(
        "gain",
        instrument="comcam",
        keys={"detector": "0"},
        epoch=one.epoch,
        tables=stated.tables,
        quantities=tuple(Quantity(q.name, 1.2 * q.value, 1e-3, q.unit, q.place) for q in stated),
    )
    write(measured, tmp_path / "gain.fits")
    options = {"instrument": "comcam", "allow_missing": True, "changes": OFF}
    with Registry.create(tmp_path / "calibrant.db") as registry:
        registry.add(measured, tmp_path / "gain.fits")
        registry.certify(measured.identity, force="a test")
        done = reduce(tmp_path / "raw", out=tmp_path / "measured", registry=registry, **options)
    plain = reduce(tmp_path / "raw", out=tmp_path / "stated", **options)
    frames = [
        read(tmp_path / name / one.summary.frames[0]["file"]).load()
        for name, one in (("measured", done), ("stated", plain))
    ]
    assert np.nanmedian(frames[0].data / frames[1].data) == pytest.approx(1.2, rel=2e-3)
    assert measured.identity in {step.product for step in frames[0].history if step.effect == "gain"}
    assert [entry["kind"] for entry in done.summary.stock] == ["gain"]
