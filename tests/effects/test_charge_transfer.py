"""Charge transfer against trails that are simulated: measured in the overscan, and put back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import charge_transfer, overscan
from calibrant.errors import ConfigError, HistoryError, OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import Applied, Exposure, Frame
from calibrant.instrument import Amplifier, Detector, Instrument
from calibrant.product import Product
from calibrant.simulate.chain import defer

ROWS, COLS, BEFORE, OVER, BELOW = 300, 80, 4, 24, 16
NOISE, LEVEL = 3.0, 1000.0
CTI = {"A": (4e-5, 2e-5), "B": (8e-5, 1e-5)}  # serial, parallel


def section(cols, rows):
    return f"[{cols[0] + 1}:{cols[1]},{rows[0] + 1}:{rows[1]}]"


def instrument(over=OVER, gap=0, parallel=True):
    """Two amplifiers, read to the outer corners below: A to the left, B to the right."""
    width = BEFORE + COLS + OVER
    a, b = (BEFORE, BEFORE + COLS), (width + OVER, width + OVER + COLS)
    rows, below = (0, ROWS), (ROWS, ROWS + BELOW)
    amplifiers = (
        Amplifier(
            name="A", data=section(a, rows), place=section((0, COLS), rows),
            prescan=section((0, BEFORE), rows),
            overscan=section((a[1] + gap, a[1] + gap + over), (0, ROWS + BELOW)),
            parallel_overscan=section(a, below) if parallel else None,
        ),
        Amplifier(
            name="B", data=section(b, rows), place=section((COLS, 2 * COLS), rows),
            prescan=section((b[1], b[1] + BEFORE), rows),
            overscan=section((b[0] - gap - over, b[0] - gap), (0, ROWS + BELOW)),
            parallel_overscan=section(b, below) if parallel else None,
        ),
    )  # fmt: skip
    return Instrument(name="pair", detectors={"0": Detector(amplifiers=amplifiers)})


def raw(light, seed=0, noise=NOISE, cti=None):
    """The raw image [adu] of light (ROWS, 2 COLS): each amplifier transferred in its own order of reading."""
    rng = np.random.default_rng(seed)
    parts = []
    for name, sky in (("A", light[:, :COLS]), ("B", light[:, COLS:][:, ::-1])):
        serial, parallel = (cti or CTI)[name]
        charge = np.pad(sky, ((0, BELOW), (BEFORE, OVER))).astype(np.float32)
        charge = defer(defer(charge, parallel, 0), serial, 1)
        parts.append(charge if name == "A" else charge[:, ::-1])
    image = np.concatenate(parts, axis=1) + LEVEL
    return image + rng.normal(0, noise, image.shape)


def frame(data, index=0):
    exposure = Exposure("flat", instrument="pair", shape=data.shape, identifier=f"flat {index}", start=index)
    return Frame(data.astype(np.float32), exposure=exposure)


def flats(signals=(8e3, 1.5e4, 3e4), made=None, **options):
    scene = np.ones((ROWS, 2 * COLS))
    frames = [frame(raw(signal * scene, seed, **options), seed) for seed, signal in enumerate(signals)]
    return Exposures.from_frames(frames, made or instrument())


@pytest.fixture(scope="module")
def product():
    return charge_transfer.measure(flats((3e4,) * 8))


def assembled(data):
    return overscan.apply(frame(data), instrument=instrument(), skip=6)


def stars():
    """A scene with sharp sources, on a sky."""
    rng = np.random.default_rng(4)
    light = np.full((ROWS, 2 * COLS), 500.0)
    light[rng.integers(5, ROWS - 5, 60), rng.integers(5, 2 * COLS - 5, 60)] += 2e4
    return light


def test_inefficiencies_are_true_within_their_sigma_and_wrong_ones_are_not(product):
    for name, pair in CTI.items():
        for direction, truth in zip(("serial", "parallel"), pair, strict=True):
            found = product.quantity(f"cti_{direction}", name)
            # Of first order in the part that is lost: the last pixel has lost it, too.
            assert abs(found.value - truth) < 4 * found.sigma + 0.02 * truth, (name, direction)
            assert found.sigma < 0.1 * truth
            assert abs(found.value - 1.6 * truth) > 4 * found.sigma
            assert abs(product.quantity(f"chi2_{direction}", name).value - 1) < 4 * np.sqrt(2 / 7)
    assert not product.provenance.notes


def test_pulls_have_unit_width():
    pulls = []
    for seed in range(12):
        data = raw(np.full((ROWS, 2 * COLS), 2e4), seed, cti=dict.fromkeys(CTI, (0, 0)))
        made = charge_transfer.measure(Exposures.from_frames([frame(data)], instrument()))
        pulls += [q.value / q.sigma for q in made if q.name.startswith("cti")]
    assert np.std(pulls) == pytest.approx(1, abs=0.35) and abs(np.mean(pulls)) < 0.5


def test_tables_hold_the_trails(product):
    trail = product.tables["trail"]
    first = (trail["amplifier"] == "B") & (trail["direction"] == "serial") & (trail["pixel"] == 1)
    eper = product.tables["eper"]
    assert len(eper["frame"]) == 8 * 4 and product.units["eper.deferred"] == "adu"
    summed = eper["deferred"][(eper["amplifier"] == "B") & (eper["direction"] == "serial")].mean()
    second = (trail["amplifier"] == "B") & (trail["direction"] == "serial") & (trail["pixel"] == 2)
    assert trail["deferred"][first][0] + trail["deferred"][second][0] == pytest.approx(summed, rel=0.02)
    assert trail["deferred"][first][0] > 3 * trail["deferred"][second][0]
    shares = charge_transfer.trail_shares(product, "serial")
    assert sum(shares) == pytest.approx(1) and shares[1] == pytest.approx(0.2, abs=0.05)
    corners = dict(
        zip(product.tables["amplifiers"]["name"], product.tables["amplifiers"]["corner"], strict=True)
    )
    assert corners == {"A": "lower-left", "B": "lower-right"}


def test_charge_is_put_back_where_it_was(product):
    light = stars()
    seen = assembled(raw(light, noise=0.0))
    done = charge_transfer.apply(seen, product)
    before, after = np.asarray(seen.data) - light, np.asarray(done.data) - light
    assert np.abs(before).max() > 150
    assert np.abs(after).max() < 0.1 * np.abs(before).max()
    # Half of the correction, or that of the other amplifier, is worse: the test can fail.
    halved = replace(product, quantities=tuple(replace(q, value=q.value / 2) for q in product))
    half = np.asarray(charge_transfer.apply(seen, halved).data) - light
    assert np.abs(half).max() > 0.3 * np.abs(before).max()


def test_the_iteration_undoes_the_transfer():
    rng = np.random.default_rng(1)
    light = rng.uniform(0, 1e4, (40, 300)).astype(np.float32)
    seen = defer(light, 3e-4, 1)
    off = [
        np.abs(seen + charge_transfer.restore(seen, 3e-4, (0.8, 0.2), 1, 0, n) - light).max()
        for n in (1, 2, 6)
    ]
    assert off[0] > off[1] > off[2] and off[2] < 0.05


def test_errors_of_the_inefficiency_are_systematic(product):
    done = charge_transfer.apply(assembled(raw(stars(), noise=0.0)), product)
    assert product.identity in done.systematic_from and done.history[-1].product == product.identity
    assert "4 registers of 2 amplifiers" in done.history[-1].note
    assert 0 < np.sqrt(done.systematic.max()) < 50


def test_frames_with_holes_stay_so(product):
    seen = assembled(raw(stars(), noise=0.0))
    data = np.array(seen.data)
    data[100, 30] = np.nan
    done = charge_transfer.apply(replace(seen, data=data), product)
    assert np.isnan(done.data[100, 30]) and np.isfinite(done.data).sum() == data.size - 1


def test_without_a_parallel_overscan_only_the_serial_one_is_measured():
    made = charge_transfer.measure(flats(made=instrument(parallel=False)))
    assert {q.name for q in made} == {"cti_serial", "chi2_serial"}
    seen = assembled(raw(stars(), noise=0.0))
    assert "2 registers" in charge_transfer.apply(seen, made).history[-1].note


def test_a_dead_amplifier_is_told_and_left_alone():
    series = [np.array(one.data) for one in flats().frames()]
    for data in series:
        data[:, BEFORE + COLS + OVER :] = np.nan
    made = charge_transfer.measure(Exposures.from_frames(list(map(frame, series, range(3))), instrument()))
    assert np.isnan(made.quantity("cti_serial", "B").value) and made.quantity("cti_serial", "A").value > 0
    assert any("amplifier B" in note for note in made.provenance.notes)
    done = charge_transfer.apply(assembled(raw(stars())), made)
    assert "2 registers" in done.history[-1].note


def test_an_undershoot_is_told():
    series = []
    for index, one in enumerate(flats((3e4, 3e4), cti=dict.fromkeys(CTI, (0, 0))).frames()):
        data = np.array(one.data)
        data[:, BEFORE + COLS] -= 5.0
        series.append(frame(data, index))
    made = charge_transfer.measure(Exposures.from_frames(series, instrument()))
    assert any("undershoot" in note for note in made.provenance.notes)


def test_saturated_light_does_not_count():
    made = charge_transfer.measure(flats((8e3, 6e4)), saturation=5e4)
    assert np.isnan(made.tables["eper"]["signal"]).sum() == 4
    assert np.isfinite(made.quantity("cti_serial", "A").value)


def test_cosmic_rays_in_the_overscan_do_not_count(product):
    series = []
    for index, one in enumerate(flats((3e4,) * 8).frames()):
        data = np.array(one.data)
        data[50:53, BEFORE + COLS] += 5e3
        series.append(frame(data, index))
    made = charge_transfer.measure(Exposures.from_frames(series, instrument()))
    one, other = (p.quantity("cti_serial", "A") for p in (made, product))
    assert abs(one.value - other.value) < one.sigma


# --- bad input --------------------------------------------------------------------------------------------


def test_an_overscan_apart_from_the_data_or_too_short():
    made = charge_transfer.measure(flats(made=instrument(over=20, gap=2)))
    assert {q.name for q in made} == {"cti_parallel", "chi2_parallel"}
    assert any("begins 2 pixels" in note for note in made.provenance.notes)
    short = charge_transfer.measure(flats(made=instrument(over=5)))
    assert any("5 pixels" in note for note in short.provenance.notes)
    with pytest.raises(ConfigError, match="no amplifier has an overscan"):
        charge_transfer.measure(flats(made=instrument(over=5, parallel=False)))


def test_prepared_frames_have_no_overscan():
    series = flats()
    with pytest.raises(HistoryError, match="raw frames"):
        charge_transfer.measure(series.through(overscan.step(series[0], instrument=instrument())))


def test_frames_that_do_not_fit(product):
    seen = assembled(raw(stars()))
    with pytest.raises(HistoryError, match="overscan"):
        charge_transfer.apply(frame(raw(stars())), product)
    with pytest.raises(HistoryError):
        charge_transfer.apply(charge_transfer.apply(seen, product), product)
    with pytest.raises(HistoryError, match="flat"):
        charge_transfer.apply(seen.after(Applied("flat")), product)
    with pytest.raises(ShapeError):
        charge_transfer.apply(replace(seen, data=seen.data[:50], variance=None, dq=None), product)
    with pytest.raises(SelectionError, match="another kind"):
        charge_transfer.apply(seen, Product("bias"))


def test_options_without_a_meaning(product):
    with pytest.raises(OptionError):
        charge_transfer.measure(flats(), pixels=0)
    with pytest.raises(OptionError):
        charge_transfer.apply(assembled(raw(stars())), product, iterations=0)
    with pytest.raises(SelectionError):
        charge_transfer.measure(Exposures.from_frames([], instrument()))
