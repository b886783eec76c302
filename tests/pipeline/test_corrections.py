"""What `calibrant measure` makes, in the way of a science frame: in order, one by one, or gone without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import (
    amplifier_offsets,
    bias,
    brighter_fatter,
    charge_transfer,
    dark,
    flat,
    fringe_frame,
    gain,
    illumination,
    overscan,
    read_noise,
)
from calibrant.effects._assembly import places_table
from calibrant.exposures import Exposures
from calibrant.files.fits import read, write
from calibrant.frame import Exposure, Frame
from calibrant.instrument import Amplifier, Detector, Instrument
from calibrant.pipeline import recipe as recipes
from calibrant.pipeline.calibrate import calibrate, stages
from calibrant.pipeline.corrections import left_out, of_counts, response_of
from calibrant.pipeline.run import reduce
from calibrant.product import Product, Provenance, Quantity
from calibrant.registry import Registry
from calibrant.simulate.camera import load
from calibrant.simulate.raft import simulate
from calibrant.simulate.raft_plan import Counts
from calibrant.stack.pixel import PixelStep
from calibrant.stack.run import Threads

ROWS, COLS, OVER = 120, 60, 12
SHAPE = (ROWS, 2 * COLS)
GAINS = {"A": 1.4, "B": 1.7}
KINDS = ("amplifier_offsets", "charge_transfer", "illumination", "brighter_fatter", "fringe_frame")
OFF = {"steps_options.cosmic_rays.enabled": "false"}


@pytest.fixture(scope="module")
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
            gain=GAINS[name],
            read_noise=6.0,
            saturation=60000.0,
        )
        for k, name in enumerate(GAINS)
    )
    return Instrument(name="cam", detectors={"0": Detector(amplifiers=amplifiers)})


def waves(shape=SHAPE):
    y, x = np.indices(shape)
    return np.cos(2 * np.pi * (y + 0.2 * x) / 20.0).astype(np.float32)


@pytest.fixture(scope="module")
def frame():
    """A sky with fringes and stars, adu."""
    rng = np.random.default_rng(1)
    light = 4000.0 + 300.0 * waves()
    light[rng.integers(5, ROWS - 5, 12), rng.integers(5, 2 * COLS - 5, 12)] += 3e4
    light = rng.poisson(light) / np.repeat(list(GAINS.values()), COLS)
    raw = np.full((ROWS, 2 * (COLS + OVER)), 1000.0)
    raw += rng.normal(0, 4, raw.shape)
    raw[:, :COLS] += light[:, :COLS]
    raw[:, COLS + OVER : 2 * COLS + OVER] += light[:, COLS:][:, ::-1]
    exposure = Exposure("light", instrument="cam", shape=raw.shape, duration=10.0, filter="y")
    return Frame(np.rint(raw).astype(np.uint16), exposure=exposure)


def corrections(places, shape, **facts):
    """Hand-made products of all kinds, for amplifiers whose places are given."""
    names, ones = [str(name) for name in places["name"]], np.ones(shape, np.float32)
    levels = np.linspace(-2, 2, len(names))
    trail = {
        "amplifier": np.array(names[:1]),
        "direction": np.array(["cti_serial"]),
        "pixel": np.array([1]),
        "deferred": np.array([10.0]),
        "sigma": np.array([0.1]),
    }
    corners = ["lower-left", "lower-right"] * len(names)
    read_out = {"corner": np.array(corners[: len(names)]), "prescan": np.zeros(len(names), int)}
    tilt = np.broadcast_to(np.linspace(0.97, 1.03, shape[0], dtype=np.float32)[:, None], shape).copy()
    i, j = np.indices((3, 3))
    a = 4e-7 / np.maximum(np.hypot(i, j), 1) ** 3.5
    a[0, 0] = -3e-6
    flats = {"i": i.ravel(), "j": j.ravel(), "a": a.ravel(), "sigma": np.full(9, 1e-8)}
    curve = Product(
        "gain",
        instrument=facts.get("instrument", ""),
        keys={key: value for key, value in facts.get("keys", {}).items() if key != "filter"},
        epoch=facts.get("epoch"),
        tables={"a_matrix": {"amplifier": np.full(9, ""), **flats}},
        provenance=Provenance(options={"model": "full"}),
    )
    detector = {**facts, "keys": curve.keys}
    return {
        "amplifier_offsets": Product(
            "amplifier_offsets",
            tables={"amplifiers": places},
            quantities=tuple(
                Quantity("offset", float(level), 0.01, "adu", name)
                for name, level in zip(names, levels, strict=True)
            ),
            **detector,
        ),
        "charge_transfer": Product(
            "charge_transfer",
            tables={"trail": trail, "amplifiers": {**places, **read_out}},
            quantities=tuple(Quantity("cti_serial", 1e-5, 1e-7, "", name) for name in names),
            **detector,
        ),
        "illumination": Product(
            "illumination",
            planes={"data": tilt, "variance": ones * 1e-8},
            units={"data": "", "variance": ""},
            **facts,
        ),
        "brighter_fatter": brighter_fatter.from_gain(curve),
        "fringe_frame": Product(
            "fringe_frame",
            planes={"data": 0.05 * waves(shape), "variance": ones * 1e-8},
            units={"data": "", "variance": ""},
            **facts,
        ),
    }


@pytest.fixture(scope="module")
def products(camera, frame):
    one = Exposures.from_frames([frame], camera)
    made = corrections(places_table(camera.readouts(frame.exposure), SHAPE), SHAPE)
    known = gain.nominal(one)
    rng = np.random.default_rng(2)
    even = np.float32(1) / np.repeat(list(GAINS.values()), COLS).astype(np.float32)
    pixels = (even / np.median(even) * (1 + 0.01 * rng.standard_normal(SHAPE))).astype(np.float32)
    plane = np.full(SHAPE, 2.0, np.float32)
    return made | {
        "bias": Product("bias", planes={"data": plane}, units={"data": "adu"}),
        "dark": Product(
            "dark",
            planes={"data": plane / 10},
            units={"data": "adu/s"},
            provenance=Provenance(parents=(made["amplifier_offsets"].identity,)),
        ),
        "flat": Product("flat", planes={"data": pixels}, units={"data": ""}),
        "gain": known,
        "read_noise": read_noise.measure(one, products={"gain": known}),
    }


def recipe(**changes):
    return recipes.load("comcam", {"steps_options.overscan.parallel": "false", **changes})


def test_they_are_applied_in_the_order_of_physics(frame, products, camera):
    """As the effects one after the other make it; in threads the same."""
    done = calibrate(frame, products, camera, recipe())
    effects = [line.effect for line in done.history]
    expected = overscan.apply(frame, instrument=camera, method="median", skip=(3, 0))
    for effect in (bias, amplifier_offsets, charge_transfer):
        expected = effect.apply(expected, products[effect.NAME])
    for step in read_noise.steps(frame.exposure, products["read_noise"], gain=products["gain"]):
        assert step.effect in effects
    for effect in (dark, flat, illumination):
        expected = effect.apply(expected, products[effect.NAME])
    even = gain.even_gain(products["gain"], products["flat"])
    expected = replace(expected, data=np.asarray(expected.data) * np.float32(even), unit="electron")
    response = response_of(products, recipe())
    expected = brighter_fatter.apply(expected, products["brighter_fatter"], response=response)
    expected = fringe_frame.apply(expected, products["fringe_frame"])
    np.testing.assert_allclose(done.data, expected.data, rtol=1e-5, atol=0.02)
    names = ("bias", *KINDS[:2], "dark", "flat", "illumination", "gain", *KINDS[3:])
    assert [name for name in effects if name in names] == list(names)
    used = {line.effect: line.product for line in done.history}
    assert all(used[kind] == products[kind].identity for kind in KINDS)
    assert {products[kind].identity for kind in KINDS} <= done.systematic_from and not left_out(done)
    threads = calibrate(frame, products, camera, recipe(), runner=Threads(2))
    for name in ("data", "variance", "systematic", "dq"):
        np.testing.assert_array_equal(getattr(done, name), getattr(threads, name))


def test_the_fringes_are_gone(frame, products, camera):
    """And charge that was measured is what moved the borders of pixels: each amplifier's own gain."""
    with_ = calibrate(frame, products, camera, recipe())
    without = calibrate(frame, products, camera, recipe(**{"steps_options.fringe_frame.enabled": "false"}))
    seen = [abs(float(np.nanmedian((one.data - 4000) * np.sign(waves())))) for one in (with_, without)]
    assert seen[0] < 0.2 * seen[1]
    plain = {kind: products[kind] for kind in ("bias", "gain", "read_noise")}
    charge = calibrate(frame, plain, camera, recipe())
    light = calibrate(
        frame, plain | {kind: products[kind] for kind in ("flat", "illumination")}, camera, recipe()
    )
    np.testing.assert_allclose(light.data * response_of(products, recipe()), charge.data, rtol=1e-4, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_each_can_be_switched_off(frame, products, camera, kind):
    whole = calibrate(frame, products, camera, recipe())
    off = calibrate(frame, products, camera, recipe(**{f"steps_options.{kind}.enabled": "false"}))
    assert not off.did(kind) and not left_out(off) and np.nanmax(np.abs(off.data - whole.data)) > 0.3
    without = calibrate(frame, {k: v for k, v in products.items() if k != kind}, camera, recipe())
    np.testing.assert_array_equal(off.data, without.data)


def test_a_frame_without_free_sky_goes_on_without_its_fringes(frame, products, camera):
    hidden = products["fringe_frame"]
    hidden = replace(hidden, planes={**hidden.planes, "data": np.full(SHAPE, np.nan, np.float32)})
    done = calibrate(frame, {**products, "fringe_frame": hidden}, camera, recipe())
    without = calibrate(frame, {k: v for k, v in products.items() if k != "fringe_frame"}, camera, recipe())
    np.testing.assert_array_equal(done.data, without.data)
    assert not done.did("fringe_frame")
    assert left_out(done) == [
        "without its fringe frame correction: too few pixels are free of sources to fit the fringes"
    ]


def test_what_a_correction_needs_is_told(frame, products, camera):
    """No flat, no electrons, offsets that are in the dark already, ratios alone: left out, and told."""

    def told(given, **changes):
        return [
            words.removeprefix("without its ") for words in left_out(calibrate(*given, recipe(**changes)))
        ]

    bare = {k: v for k, v in products.items() if k != "flat"}
    assert told((frame, bare, camera)) == [
        "illumination correction: no flat was divided out",
        "fringe frame correction: no flat was divided out",
    ]
    assert told((frame, products, camera), **{"steps_options.gain.enabled": "false"}) == [
        "brighter fatter correction: the frame is not in electrons"
    ]
    other = replace(products["dark"], provenance=Provenance())
    assert told((frame, {**products, "dark": other}, camera)) == [
        "amplifier offsets correction: they are in the dark, and leave with it"
    ]
    ratios = replace(products["amplifier_offsets"], quantities=(Quantity("gain_ratio", 1.0, 0.1, "", "A"),))
    assert told((frame, {**products, "amplifier_offsets": ratios}, camera)) == [
        "amplifier offsets correction: the product holds ratios of gains, and no offsets"
    ]
    for applied, level, why in (
        ({"dark"}, True, "later steps were done before the frame reached us"),
        ({"bias"}, False, "the overscan was not subtracted"),
    ):
        exposure = replace(frame.exposure, applied=frozenset(applied))
        given = {"charge_transfer": products["charge_transfer"]}
        (line,) = of_counts(exposure, given, recipe(), level)
        assert isinstance(line, PixelStep)
        assert line.note == f"without its charge transfer correction: {why}"


def test_pictures_show_those_of_counts(frame, products, camera):
    titles = [title for title, _ in stages(frame, products, camera, recipe())]
    assert titles[2:5] == ["less bias", "less offsets of amplifiers", "deferred charge put back"]
    assert titles[5:] == ["less dark", "divided by flat", "divided by illumination"]


def test_certified_ones_are_used(tmp_path):
    """A detector of a raft: all are applied and told; the offsets to darks and flats, too."""
    counts = Counts(biases=2, darks=2, flats=2)
    taken = simulate(load("comcam"), tmp_path / "raw", seed=3, detectors=(0,), bands=("r",), counts=counts)
    one = Exposures.from_paths(taken.raw, "comcam").where(kind="flat")
    places = places_table(one.instrument.readouts(one[0]), one.shape)
    shape = int(places["rows"][0]), int(places["cols"][0])
    keys = {"detector": "0", "filter": one.one("filter")}
    given = corrections(places, shape, instrument="comcam", keys=keys, epoch=one.epoch)
    options = {"instrument": "comcam", "allow_missing": True}
    with Registry.create(tmp_path / "calibrant.db") as registry:
        for kind, product in given.items():
            write(product, tmp_path / f"{kind}.fits")
            registry.add(product, tmp_path / f"{kind}.fits")
            registry.certify(product.identity, force="a test")
        done = reduce(tmp_path / "raw", out=tmp_path / "out", registry=registry, changes=OFF, **options)
        off = OFF | {f"steps_options.{kind}.enabled": "false" for kind in KINDS}
        without = reduce(tmp_path / "raw", out=tmp_path / "off", registry=registry, changes=off, **options)
    assert {entry["kind"] for entry in done.summary.stock} == set(KINDS) and not without.summary.stock
    (entry,) = done.summary.frames
    assert [step for step in entry["steps"] if step in KINDS] == list(KINDS)
    assert set(KINDS) <= set(entry["masters"]) and not done.summary.problems
    history = {step.effect: step.product for step in read(tmp_path / "out" / entry["file"]).history}
    assert all(history[kind] == given[kind].identity for kind in KINDS)
    offsets = given["amplifier_offsets"].identity
    for master in done.summary.masters:
        if master["kind"] in ("dark", "flat"):
            assert offsets in read(tmp_path / "out" / master["file"]).provenance.parents
    assert not set(without.summary.frames[0]["steps"]) & set(KINDS)


def test_order_of_the_recipe_is_checked():
    for name in ("ccd", "comcam"):
        steps = recipes.load(name).steps
        assert [step for step in steps if step in KINDS] == list(KINDS)
