"""Offsets and gain ratios of amplifiers, from frames whose steps are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import amplifier_offsets
from calibrant.effects._interfaces import Interface, borders, interfaces, solve
from calibrant.errors import HistoryError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import Instrument
from calibrant.product import Product, Quantity

ROWS, COLS = 128, 48  # of one amplifier
NAMES = [f"A{row}{col}" for row in range(2) for col in range(4)]
OFFSETS = dict(zip(NAMES, [3.0, -2.0, 0.5, 1.0, -4.0, 2.5, -0.5, -0.5], strict=True))
GAINS = dict(zip(NAMES, [1.50, 1.42, 1.55, 1.47, 1.51, 1.49, 1.44, 1.58], strict=True))
MINUTE = 60_000_000


def windows():
    return {
        name: (slice(r * ROWS, (r + 1) * ROWS), slice(c * COLS, (c + 1) * COLS))
        for name, (r, c) in zip(NAMES, [(r, c) for r in range(2) for c in range(4)], strict=True)
    }


def camera(names=tuple(NAMES)):
    amplifiers = []
    for name, (rows, cols) in windows().items():
        section = f"[{cols.start + 1}:{cols.stop},{rows.start + 1}:{rows.stop}]"
        amplifiers.append({"name": name, "data": section, "place": section})
    shape = (2 * ROWS, 4 * COLS)
    return Instrument.model_validate(
        {"name": "test", "detectors": {"0": {"shape": shape, "amplifiers": amplifiers[: len(names)]}}}
    )


def plane(values):
    out = np.zeros((2 * ROWS, 4 * COLS))
    for name, at in windows().items():
        out[at] = values[name]
    return out


def shape_of_light(tilt=0.0):
    y, x = np.mgrid[: 2 * ROWS, : 4 * COLS]
    return 1.0 + tilt * (x / (4 * COLS) - 0.5) + 0.5 * tilt * (y / (2 * ROWS) - 0.5)


def frame(kind, number, data, **facts):
    exposure = Exposure(
        kind, start=number * MINUTE, duration=10.0, filter="r" if kind == "flat" else None, instrument="test",
        shape=data.shape, identifier=f"{kind} {number}", **facts,
    )  # fmt: skip
    return Frame(data.astype(np.float32), exposure=exposure)


def sky(number, level=100.0, tilt=0.1, offsets=OFFSETS, seed=1, noise=3.0):
    rng = np.random.default_rng((seed, number))
    data = level * shape_of_light(tilt) + plane(offsets) + rng.normal(0.0, noise, (2 * ROWS, 4 * COLS))
    return frame("light", number, data)


def flat(number, level=20_000.0, tilt=0.05, seed=2):
    rng = np.random.default_rng((seed, number))
    gain = plane(GAINS)
    electrons = level * 1.5 * shape_of_light(tilt)
    return frame("flat", number, rng.poisson(electrons) / gain)


def series(*frames):
    return Exposures.from_frames(frames, instrument=camera())


def values(product, name):
    found = {q.place: q for q in product if q.name == name}
    return np.array([found[n].value for n in NAMES]), np.array([found[n].sigma for n in NAMES])


def centred(values_by_name):
    array = np.array([values_by_name[name] for name in NAMES])
    return array - array.mean()


def test_offsets_are_found_within_their_sigma():
    product = amplifier_offsets.measure(series(*[sky(k) for k in range(4)]))
    found, sigma = values(product, "offset")
    pulls = (found - centred(OFFSETS)) / sigma
    assert np.abs(pulls).max() < 4.0 and np.all(sigma < 0.3)
    assert found.mean() == pytest.approx(0.0, abs=1e-9)
    twin = (found - centred(OFFSETS | {"A01": OFFSETS["A01"] + 6 * sigma[1]})) / sigma
    assert np.abs(twin).max() > 4.0


def test_pulls_of_offsets_are_of_unit_width():
    pulls = []
    for seed in range(12):
        product = amplifier_offsets.measure(series(sky(1, seed=seed)))
        found, sigma = values(product, "offset")
        pulls.append((found - centred(OFFSETS)) / sigma)
    assert 0.6 < np.std(pulls) < 1.5


def test_gain_ratios_come_from_flats_of_any_level():
    product = amplifier_offsets.measure(series(flat(1), flat(2, level=30_000.0), flat(3)))
    found, sigma = values(product, "gain_ratio")
    truth = np.array([GAINS[name] for name in NAMES])
    truth = truth / np.median(truth)
    assert np.abs((found - truth) / sigma).max() < 4.0
    assert np.all(sigma < 1e-3)
    assert np.median(found) == pytest.approx(1.0)
    assert np.abs((found - 1.0 / truth) / sigma).max() > 20.0  # the other way round is wrong
    assert not [q for q in product if q.name == "offset"]


def test_both_at_once_and_the_table_of_interfaces():
    product = amplifier_offsets.measure(series(sky(1, level=0.0), flat(2)))
    table = product.tables["interfaces"]
    assert set(table["quantity"]) == {"offset", "gain_ratio"}
    assert len(table["one"]) == 2 * (2 * 3 + 4)
    assert table["used"].all() and set(table["rows"]) == {ROWS, COLS}
    row = np.flatnonzero(
        (table["one"] == "A00") & (table["other"] == "A01") & (table["quantity"] == "offset")
    )
    response = {name: np.mean(list(GAINS.values())) / GAINS[name] for name in ("A00", "A01")}
    step = OFFSETS["A01"] / response["A01"] - OFFSETS["A00"] / response["A00"]
    assert table["step"][row[0]] == pytest.approx(step, abs=5 * table["sigma"][row[0]])


def test_offsets_in_bright_sky_are_told_from_gains():
    """Sky of 5000 electrons through gains that differ makes steps of 300 adu; offsets are 4 at most."""

    def bright(number):
        rng = np.random.default_rng((9, number))
        light = rng.poisson(5000.0 * shape_of_light(0.02)) / plane(GAINS)
        light[30:40, 60:70] += 20_000.0  # a star
        return frame("light", number, light + plane(OFFSETS))

    frames = [bright(number) for number in range(6)]
    found, sigma = values(amplifier_offsets.measure(series(*frames, flat(8), flat(9))), "offset")
    assert np.abs((found - centred(OFFSETS)) / sigma).max() < 4.0 and sigma.max() < 4.0
    alone = amplifier_offsets.measure(series(*frames))
    assert np.abs(values(alone, "offset")[0] - centred(OFFSETS)).max() > 50.0
    assert any("without flats" in note for note in alone.provenance.notes)


def test_the_bias_is_taken_off():
    ramp = np.tile(np.linspace(0.0, 20.0, COLS), 4)[np.newaxis, :] * np.ones(
        (2 * ROWS, 1)
    )  # in each amplifier
    frames = [frame("light", k, (sky(k).data + ramp)) for k in range(4)]
    bias = Product("bias", instrument="test", planes={"data": ramp.astype(np.float32)}, units={"data": "adu"})
    found, sigma = values(amplifier_offsets.measure(series(*frames), products={"bias": bias}), "offset")
    assert np.abs((found - centred(OFFSETS)) / sigma).max() < 4.0
    without, _ = values(amplifier_offsets.measure(series(*frames)), "offset")
    assert np.abs(without - centred(OFFSETS)).max() > 10.0


def test_a_slope_of_the_light_is_no_step():
    steep = amplifier_offsets.measure(series(*[sky(k, level=2000.0, tilt=0.5) for k in range(3)]))
    found, sigma = values(steep, "offset")
    assert np.abs((found - centred(OFFSETS)) / sigma).max() < 4.0
    blind = amplifier_offsets.measure(
        series(*[sky(k, level=2000.0, tilt=0.5) for k in range(3)]), gradient=False
    )
    found, sigma = values(blind, "offset")
    assert np.abs((found - centred(OFFSETS)) / sigma).max() > 10.0


def test_a_dead_amplifier_is_nan_and_said():
    frames = []
    for k in range(3):
        one = sky(k)
        data = np.array(one.data)
        data[windows()["A02"]] = np.nan
        frames.append(replace(one, data=data))
    product = amplifier_offsets.measure(series(*frames))
    found, sigma = values(product, "offset")
    assert np.isnan(found[2]) and np.isnan(sigma[2]) and np.isfinite(np.delete(found, 2)).all()
    assert any("A02" in note for note in product.provenance.notes)
    done = amplifier_offsets.apply(replace(sky(9), history=()), product)
    dead = done.dq[windows()["A02"]]
    assert np.all(dead & np.uint32(DQ.DO_NOT_USE)) and not np.any(done.dq[windows()["A03"]])


def test_a_border_that_disagrees_is_left_out_and_said():
    one = sky(1)
    data = np.array(one.data)
    rows, cols = windows()["A01"]
    data[rows, cols.stop - 20 : cols.stop] += 40.0  # a bleeding star along one border
    product = amplifier_offsets.measure(series(replace(one, data=data)))
    table = product.tables["interfaces"]
    bad = [(a, b) for a, b, used in zip(table["one"], table["other"], table["used"], strict=True) if not used]
    assert bad == [("A01", "A02")]
    assert any("A01-A02" in note for note in product.provenance.notes)
    found, _ = values(product, "offset")
    assert np.abs(found - centred(OFFSETS)).max() < 1.5


def test_apply_takes_the_steps_away():
    product = amplifier_offsets.measure(series(*[sky(k) for k in range(4)]))
    raw = sky(20, tilt=0.0)
    done = amplifier_offsets.apply(raw, product)
    means = np.array([done.data[at].mean() for at in windows().values()])
    assert np.ptp(means) < 0.5 < np.ptp([np.mean(raw.data[at]) for at in windows().values()])
    assert done.systematic is not None and done.systematic.max() < 0.1
    assert done.history[-1].effect == "amplifier_offsets"
    with pytest.raises(HistoryError):
        amplifier_offsets.apply(done, product)


def test_apply_needs_offsets():
    product = amplifier_offsets.measure(series(flat(1), flat(2)))
    with pytest.raises(SelectionError, match="no offsets"):
        amplifier_offsets.apply(sky(1), product)


def test_corrected_gains_have_the_ratios_of_the_flats():
    product = amplifier_offsets.measure(series(flat(1), flat(2), flat(3)))
    rng = np.random.default_rng(5)
    noisy = {name: value * (1.0 + 0.01 * rng.standard_normal()) for name, value in GAINS.items()}
    gain = Product(
        "gain",
        instrument="test",
        quantities=(
            *(Quantity("gain", value, 0.015, "electron/adu", name) for name, value in noisy.items()),
            Quantity("read_noise", 5.0, 0.1, "electron", "A00"),
        ),
    )
    better = amplifier_offsets.corrected_gains(gain, product)
    found, sigma = values(better, "gain")
    truth = np.array([GAINS[name] for name in NAMES])
    ratio = found / truth
    assert np.ptp(ratio) < 0.004 < np.ptp(np.array(list(noisy.values())) / truth)
    assert np.abs((found - truth) / sigma).max() < 4.0
    assert better.quantity("read_noise", "A00").value == 5.0
    assert gain.identity in better.provenance.parents and product.identity in better.provenance.parents


def test_corrected_gains_of_the_wrong_products():
    product = amplifier_offsets.measure(series(flat(1)))
    with pytest.raises(SelectionError, match="only gains"):
        amplifier_offsets.corrected_gains(product, product)
    with pytest.raises(SelectionError, match="no amplifier"):
        amplifier_offsets.corrected_gains(Product("gain"), product)


def test_one_amplifier_is_refused_in_a_sentence():
    alone = Instrument.model_validate({"name": "test"})
    with pytest.raises(SelectionError, match="no border to compare"):
        amplifier_offsets.measure(Exposures.from_frames([sky(1)], instrument=alone))


@pytest.mark.parametrize("option", [{"width": 0}, {"skip": -1}, {"limit": 0.0}])
def test_options_without_meaning(option):
    with pytest.raises(OptionError):
        amplifier_offsets.measure(series(sky(1)), **option)


# --- the graph ---


def test_borders_of_a_grid():
    pairs = [(a, b) for a, b, _, _ in borders(list(windows().values()))]
    assert (0, 1) in pairs and (0, 4) in pairs and (0, 5) not in pairs and len(pairs) == 10


def test_least_squares_of_steps_is_that_of_numpy():
    rng = np.random.default_rng(1)
    pairs = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]
    steps = [
        Interface(i, j, float(rng.normal()) * 0.01, float(rng.uniform(0.5, 2.0)), 9, 9) for i, j in pairs
    ]
    levels = solve(steps, 4)
    matrix = np.zeros((6, 4))
    right = np.zeros(6)
    for k, s in enumerate(steps):
        matrix[k, s.other], matrix[k, s.one], right[k] = 1 / s.sigma, -1 / s.sigma, s.step / s.sigma
    matrix[5] = 1e3  # the mean
    np.testing.assert_allclose(levels.values, np.linalg.lstsq(matrix, right, rcond=None)[0], atol=1e-9)


def test_groups_without_a_border_between():
    steps = [Interface(0, 1, 2.0, 0.1, 9, 9), Interface(2, 3, 4.0, 0.1, 9, 9)]
    levels = solve(steps, 5)
    assert levels.parts == 2
    np.testing.assert_allclose(levels.values, [-1.0, 1.0, -2.0, 2.0, np.nan])


def test_a_border_with_few_good_rows_says_nothing():
    image = np.zeros((64, 64))
    image[:40, 32:] = np.nan
    (found,) = interfaces(image, [(slice(0, 64), slice(0, 32)), (slice(0, 64), slice(32, 64))])
    assert np.isnan(found.step) and not found.used and found.rows == 24
