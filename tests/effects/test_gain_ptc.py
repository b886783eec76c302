"""The photon transfer curve of flat pairs, against flats of known gain; and every bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import _gain_levels, gain
from calibrant.effects._pair_gain import estimate
from calibrant.effects._pairs import look, pair_up
from calibrant.errors import BudgetError, HeaderError, HistoryError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import Amplifier, Detector, Instrument
from calibrant.product import Product, Quantity

ROWS, WIDE = 200, 150
GAINS = {"A": 1.5, "B": 0.8}
NOISE, A00 = 5.0, -3e-6
LEVELS = np.geomspace(100, 9e4, 14)
SECOND = 1_000_000


def camera(names="AB", rows=ROWS, **facts):
    places = [f"[{k * WIDE + 1}:{(k + 1) * WIDE},1:{rows}]" for k in range(len(names))]
    amplifiers = tuple(Amplifier(name=n, data=p, place=p) for n, p in zip(names, places, strict=True))
    return Instrument(name="cam", detectors={"0": Detector(amplifiers=amplifiers, **facts)})


def counts(electrons, rng, a00=A00, gains=GAINS):
    """A flat in adu above its bias: pixels of their own response, light with a gradient, curved noise."""
    cols = WIDE * len(gains)
    light = electrons * np.linspace(0.95, 1.05, cols)
    light = light * (1 + 0.01 * np.random.default_rng(0).standard_normal((ROWS, cols)))
    x = 2 * a00 * light
    sigma = np.sqrt(light * (np.expm1(x) / x if a00 else 1.0) + NOISE**2)
    each = np.repeat(list(gains.values()), WIDE)
    return ((light + sigma * rng.standard_normal(light.shape)) / each).astype(np.float32)


def exposure(index, time, shape, **facts):
    facts = {"kind": "flat", "applied": frozenset({"bias"}), **facts}
    return Exposure(
        shape=shape,
        unit="adu",
        duration=float(time),
        start=index * 100 * SECOND,
        identifier=f"f{index}",
        **facts,
    )


def flat(index, time, data, **facts):
    return Frame(data, unit="adu", exposure=exposure(index, time, data.shape, **facts))


def pairs(levels=LEVELS, seed=1, change=None, **options):
    """Two flats of each level, the second a little brighter; the exposure time is the level over 100."""
    rng = np.random.default_rng(seed)
    frames = []
    for level in levels:
        for bright in (1.0, 1.01):
            data = counts(level * bright, rng, **options)
            index = len(frames)
            frames.append(flat(index, level / 100, data if change is None else change(index, data)))
    return frames


def measure(frames, *names, lags=0, **options):
    instrument = options.pop("instrument", camera("".join(names) or "AB"))
    return gain.measure(Exposures.from_frames(frames, instrument), lags=lags, **options)


def values(product, name):
    return {q.place: q.value for q in product if q.name == name}


def told(product, words):
    return [note for note in product.provenance.notes if words in note]


# --- truth ------------------------------------------------------------------------------------------------


def pulls(seed, truth=None, **options):
    truth = {"gain": GAINS, "read_noise": dict.fromkeys(GAINS, NOISE), "a00": dict.fromkeys(GAINS, A00)}
    product = measure(pairs(seed=seed, **options))
    return np.array(
        [
            (product.quantity(name, place).value - value) / product.quantity(name, place).sigma
            for name, places in truth.items()
            for place, value in places.items()
        ]
    )


def test_gain_noise_and_curvature_within_their_errors():
    found = np.array([pulls(seed) for seed in range(5)])
    assert np.abs(found).max() < 4.5
    assert 0.6 < np.sqrt(np.mean(found**2)) < 1.4


@pytest.mark.soak
def test_pulls_are_of_unit_width():
    found = np.array([pulls(seed) for seed in range(140)])  # 840 pulls
    assert np.sqrt(np.mean(found**2)) == pytest.approx(1, abs=0.1)
    assert np.abs(found.mean(0)).max() < 0.35


def test_other_physics_is_seen():
    """The twin: curvature that is 5 sigma less, and counts of another gain."""
    found = np.array([pulls(seed, a00=0.75 * A00) for seed in range(3)])
    assert (np.abs(found[:, 4:]).max(axis=1) > 4.5).all()
    found = pulls(1, gains={"A": 1.53, "B": 0.816})
    assert np.abs(found[:2]).max() > 4.5


def test_the_product_holds_what_a_plot_draws():
    product = measure(pairs(), lags=3)
    n = len(LEVELS)
    table = product.tables["ptc"]
    assert list(table["amplifier"]) == ["A"] * n + ["B"] * n
    assert table["used"].all() and (table["pixels"] == ROWS * WIDE).all()
    np.testing.assert_allclose(table["exptime"][:n], LEVELS / 100)
    assert (table["first"][1], table["second"][1]) == ("f2", "f3")
    np.testing.assert_allclose(table["sigma"], table["variance"] * np.sqrt(2 / table["pixels"]))
    np.testing.assert_allclose(
        table["residual"], (table["variance"] - table["model"]) / table["sigma"], rtol=1e-12
    )
    assert np.sqrt(np.mean(table["residual"] ** 2)) < 1.4
    lags = product.tables["covariances"]
    assert len(lags["i"]) == 2 * n * 9
    own = (lags["i"] == 0) & (lags["j"] == 0)
    np.testing.assert_allclose(lags["covariance"][own], table["variance"], rtol=1e-5)
    assert np.abs((lags["covariance"] / lags["sigma"])[~own]).max() < 5
    assert len(product.tables["a_matrix"]["a"]) == 2 * 9
    assert product.units["ptc.variance"] == "adu2" and product.units["a_matrix.a"] == "1/electron"
    assert product.provenance.options["estimator"] == "ptc"
    assert values(product, "pairs") == {"A": n, "B": n}


def test_straight_lines_tell_their_bias():
    product = measure(pairs())
    assert told(product, "straight lines through the same levels give other gains")
    table = product.tables["straight"]
    bias = dict(zip(table["line"][:3], table["bias_percent"][:3], strict=True))
    assert bias["unweighted"] > 15 and 3 < bias["weighted"] < 15 and abs(bias["quadratic"]) < 3
    plain = measure(pairs(a00=0.0)).tables["straight"]
    assert np.abs(plain["bias_percent"]).max() < 4
    assert not told(measure(pairs(), model="linear"), "straight lines")


def test_covariances_of_neighbours_give_the_matrix():
    """Charge moves to its neighbours by a share c of the light: C01 = 2 c mu^2, and less down the columns."""
    along, down = 1.5e-6, 0.5e-6

    def noise(electrons, rng):
        white = np.sqrt(electrons) * rng.standard_normal((ROWS + 2, WIDE + 2))
        moved = white.copy()
        for axis, share in ((1, along), (0, down)):
            moved += share * electrons * (np.roll(white, 1, axis) + np.roll(white, -1, axis))
        read = NOISE * rng.standard_normal((ROWS, WIDE))
        return ((electrons + moved[1:-1, 1:-1] + read) / 1.5).astype(np.float32)

    rng = np.random.default_rng(3)
    frames = [flat(k, s / 100, noise(s, rng)) for k, s in enumerate(np.repeat(np.geomspace(1e3, 4e4, 12), 6))]
    table = measure(frames, "A", lags=2).tables["a_matrix"]
    for at, share in (((0, 1), along), ((1, 0), down), ((1, 1), 0.0)):
        here = (table["i"] == at[0]) & (table["j"] == at[1])
        assert abs(table["a"][here][0] - 2 * share) < 4 * table["sigma"][here][0]
        assert table["sigma"][here][0] < 0.25e-6


# --- pairs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("electrons", [20, 100, 1000, 10000])
def test_a_single_pair_is_unbiased_from_20_electrons_on(electrons):
    """Mean of 60 pairs of 2e4 pixels, with the noise known: the table of estimators has 0.7996 to 0.8001."""
    rng = np.random.default_rng(electrons)
    found = []
    for _ in range(60):
        a, b = (
            ((rng.poisson(electrons, (100, 200)) + NOISE * rng.standard_normal((100, 200))) / 0.8)
            for _ in range(2)
        )
        light = look(a.astype(np.float32), b.astype(np.float32))
        found.append(estimate([light.mean], [light.variance], [light.pixels], (NOISE / 0.8) ** 2))
    mean, sigma = np.mean([g for g, _ in found]), np.mean([s for _, s in found])
    assert abs(mean - 0.8) < 4 * sigma / math.sqrt(60) + 0.002
    assert np.std([g for g, _ in found]) == pytest.approx(sigma, rel=0.35)


def test_frames_of_different_flux_have_the_noise_of_their_mean():
    rng = np.random.default_rng(2)
    structure = 1 + 0.05 * rng.standard_normal((300, 300))
    a, b = (rng.poisson(level * structure).astype(np.float32) for level in (8000, 14000))
    light = look(a, b, lags=2)
    assert light.mean == pytest.approx(11000, rel=1e-3)
    assert light.variance == pytest.approx(11000, rel=0.02)
    assert abs(light.covariance[0, 1]) < 5 * 11000 / math.sqrt(light.counts[0, 1])


def test_two_faint_frames_are_not_scaled():
    rng = np.random.default_rng(2)
    a, b = (rng.normal(0.2 * k, 5, (200, 200)).astype(np.float32) for k in (0, 1))
    light = look(a, b)
    assert light.noise_factor == 1 and light.variance == pytest.approx(25, rel=0.05)


def times(*durations, starts=None, **facts):
    starts = range(len(durations)) if starts is None else starts
    frames = [
        flat(start, time, np.ones((4, 4), np.float32)) for start, time in zip(starts, durations, strict=True)
    ]
    return Exposures.from_frames(frames, Instrument(name="cam", detectors={"0": Detector()}))


def test_neighbours_of_one_time_make_a_pair():
    found, notes = pair_up(times(5, 5, 1, 1, 5, 5))
    assert [(p.first, p.second) for p in found] == [(2, 3), (0, 1), (4, 5)] and not notes


def test_a_missing_partner_leaves_its_own_partner_alone():
    """Pairs one second apart, a minute between pairs; one flat of the second pair is missing."""
    found, notes = pair_up(times(5, 5, 5, 5, 5, starts=(0, 1, 61, 120, 121)))
    assert [(p.first, p.second) for p in found] == [(0, 1), (3, 4)]
    assert notes == ["left out, without a partner of their exptime: f61 (5)"]


def test_a_pair_of_different_exposure_is_told():
    found, notes = pair_up(times(5, 5, 10, 10.5))
    assert len(found) == 1
    assert notes == ["left out, a pair of different exptime: f2 (10) and f3 (10.5)"]
    found, notes = pair_up(times(5, 5, 10, 10.5), "sequence")
    assert len(found) == 1 and "different exptime" in notes[0]


def test_pairs_of_one_filter_only():
    series = times(5, 5, 5, 5)
    filters = {index: replace(e, filter="rg"[index % 2]) for index, e in enumerate(series)}
    found, _ = pair_up(series.updated(filters))
    assert sorted((p.first, p.second) for p in found) == [(0, 2), (1, 3)]


def test_pairs_by_another_fact():
    series = times(5, 5, 5, 5)
    light = {
        index: replace(e, keys={"diode": (1.0, 7.0, 1.01, 7.1)[index]}) for index, e in enumerate(series)
    }
    found, _ = pair_up(series.updated(light), "diode")
    assert [(p.first, p.second) for p in found] == [(0, 2), (1, 3)]
    with pytest.raises(HeaderError, match="no card says the diode"):
        pair_up(times(5, 5).updated({0: replace(times(5, 5)[0], keys={"diode": 1.0})}), "diode")
    wrong = {index: replace(e, keys={"diode": "bright"}) for index, e in enumerate(series)}
    with pytest.raises(HeaderError, match="paired by a number"):
        pair_up(series.updated(wrong), "diode")


# --- few levels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("levels", "words"), [([2e3] * 3, "one level"), ([500.0, 5e3], "two levels")])
def test_fewer_than_three_levels_fall_back_to_pairs_and_say_so(levels, words):
    product = measure(pairs(levels), read_noise=NOISE / 1.5)
    assert product.provenance.options["estimator"] == "pair"
    assert told(product, f"{words} of light: gain from pairs")
    found = product.quantity("gain", "A")
    assert abs(found.value - 1.5) < 4 * found.sigma < 0.1
    assert product.quantity("read_noise", "A").value == pytest.approx(NOISE * found.value / 1.5)
    assert "a_matrix" not in product.tables and "straight" not in product.tables
    assert len(product.tables["ptc"]["model"]) == 2 * len(levels)


def test_pairs_without_a_read_noise_say_so():
    assert told(measure(pairs([2e3, 2e3])), "read noise is not known")


# --- bad input --------------------------------------------------------------------------------------------


def test_a_dead_amplifier_is_told_and_never_fatal():
    def broken(index, data):
        data[:, :WIDE] = np.nan
        return data

    product = measure(pairs(change=broken), lags=2)
    assert math.isnan(values(product, "gain")["A"]) and values(product, "gain")["B"] == pytest.approx(
        0.8, rel=0.02
    )
    assert told(product, "A: dead")
    done = gain.apply(flat(0, 1, counts(1e3, np.random.default_rng(1))), product)
    assert (done.dq[:, :WIDE] & DQ.NO_GAIN_VALUE).all() and not done.dq[:, WIDE:].any()
    assert np.isfinite(done.data[:, WIDE:]).all()
    assert gain.mean_gain(product) == values(product, "gain")["B"]
    assert math.isfinite(gain.even_gain(product))


def test_all_amplifiers_dead():
    def blind(index, data):
        data[1:] = np.nan
        return data

    product = measure(pairs(LEVELS[:4], change=blind))
    assert told(product, "all amplifiers: dead")
    assert math.isnan(gain.mean_gain(product)) and math.isnan(gain.even_gain(product))
    with pytest.raises(SelectionError, match="without any good pixel"):
        measure(pairs(LEVELS[:4], change=lambda _, data: data * np.float32(np.nan)))


def test_an_amplifier_that_does_not_vary_is_dead():
    def stuck(index, data):
        data[:, :WIDE] = 7
        return data

    product = measure(pairs(change=stuck))
    assert math.isnan(values(product, "gain")["A"]) and told(product, "A: dead: its values do not vary")


def test_saturated_pairs_are_left_out():
    limit = 5e4  # adu: some pixels of B reach it at 4e4 electrons

    product = measure(pairs(), saturation=limit)
    table = product.tables["ptc"]
    bright = (table["amplifier"] == "B") & (table["exptime"] > 350)
    assert bright.sum() == 2 and not table["used"][bright].any()
    assert told(product, "B: 2 pairs left out, with fewer than 1000 pixels that are neither saturated")
    assert told(product, "the curve ends where pixels saturate")
    assert values(product, "gain")["B"] == pytest.approx(0.8, rel=0.03)
    assert values(product, "turnoff")["B"] < limit


def test_variance_below_the_read_noise():
    def quiet(index, data):
        return np.full_like(data, 40) + 0.1 * (data - data.mean()) if index in (0, 1) else data

    product = measure(pairs(change=quiet), read_noise=NOISE / 1.5)
    assert told(product, "1 pair left out, with a variance below the read noise")
    assert values(product, "gain")["A"] == pytest.approx(1.5, rel=0.03)
    assert not product.tables["ptc"]["used"][0]


def test_a_mean_that_falls_as_the_light_rises():
    def swapped(index, data):
        if index in (8, 9):
            data[:, :WIDE] *= 0.02
        return data

    product = measure(pairs(change=swapped))
    assert told(product, "A: 1 pair left out, whose mean does not rise with the light")
    assert np.flatnonzero(~product.tables["ptc"]["used"]).tolist() == [4]


def test_three_amplifiers_say_what_light_there_was():
    """In the order of time the light falls; one amplifier has a level of its own."""
    gains = {"A": 1.5, "B": 0.8, "C": 1.0}

    def odd(index, data):
        if index in (4, 5):
            data[:, :WIDE] *= 0.02
        return data

    frames = pairs(LEVELS[::-1], gains=gains, change=odd)
    product = measure(frames, *"ABC", pair_by="sequence")
    assert told(product, "A: 1 pair left out, whose mean does not rise with the light")
    assert not told(product, "B: ") and not told(product, "C: 1")


def test_levels_that_the_exposure_time_does_not_order():
    """Two amplifiers, a lamp of two settings at each time: nothing is left out."""
    rng = np.random.default_rng(1)
    levels = [500.0, 2e4, 100.0, 8e3, 1e3, 4e4, 300.0, 5e3]
    frames = [flat(k, 1 + k // 2, counts(s, rng)) for k, s in enumerate(np.repeat(levels, 2))]
    product = measure(frames)
    assert told(product, "does not rise with the light; no pair is left out")
    assert product.tables["ptc"]["used"].sum() >= 14
    assert not told(measure(frames, pair_by="sequence"), "does not rise")


def test_fluxes_that_differ_too_much():
    def dimmed(index, data):
        return data * np.float32(0.7) if index == 5 else data

    assert told(measure(pairs(change=dimmed)), "of two fluxes that differ by more than 10 %")


def test_read_noise_beside_that_of_the_overscan():
    own = tuple(Quantity("read_noise", NOISE / g, None, "adu", n) for n, g in GAINS.items())
    overscan = Product("overscan", quantities=own)
    product = measure(pairs(), products={"overscan": overscan})
    assert (
        abs(product.quantity("noise_ratio", "A").value - 1) < 4 * product.quantity("noise_ratio", "A").sigma
    )
    assert not told(product, "more than 5 % apart")
    doubled = replace(overscan, quantities=tuple(replace(q, value=2 * q.value) for q in own))
    assert told(measure(pairs(LEVELS[3:]), products={"overscan": doubled}), "more than 5 % apart")


@pytest.mark.parametrize(("stated", "suspected"), [(1 / 1.5, True), (1.45, False), (0.3, False)])
def test_a_gain_the_wrong_way_round_is_suspected(stated, suspected):
    one = Instrument(name="cam", detectors={"0": Detector(gain=stated)})
    product = measure(pairs(gains={"A": 1.5}), instrument=one)
    assert bool(told(product, "looks like adu/e-")) == suspected


def test_a_gain_that_is_hardly_known_suspects_nobody():
    nothing = np.empty(0)
    one = _gain_levels.Amplifier("A", *(nothing,) * 6, noise=5.0, nominal=1.4)
    assert one.swapped(0.7, 0.05) and not one.swapped(0.7, 1.4) and not one.swapped(1.4, 0.05)


@pytest.mark.parametrize(("level", "told_of"), [(40_000, True), (500, False)])
def test_a_gain_of_bright_pairs_says_how_far_it_may_be_off(level, told_of):
    product = measure(pairs([level]))
    found = values(product, "gain")["A"]
    assert bool(told(product, "noise for that of single photons")) == told_of
    if told_of:  # the flats have the a00 that the note speaks of
        high = float(told(product, "% high")[0].split("comes out ")[1].split(" %")[0])
        assert found / GAINS["A"] - 1 == pytest.approx(high / 100, abs=0.03)


@pytest.mark.parametrize("lags", [-1, 500])
def test_lags_that_make_no_sense_are_refused(lags):
    with pytest.raises(OptionError, match="lags"):
        measure(pairs(LEVELS[:3]), lags=lags)


def test_refusals():
    with pytest.raises(SelectionError, match="no flats"):
        gain.measure(Exposures([], camera()))
    with pytest.raises(SelectionError, match="make a pair"):
        measure(pairs(LEVELS[:3])[::2])
    level_there = [replace(f, exposure=replace(f.exposure, applied=frozenset())) for f in pairs(LEVELS[:1])]
    with pytest.raises(HistoryError, match="without their zero level"):
        measure(level_there)
    darks = [replace(f, exposure=replace(f.exposure, kind="dark")) for f in pairs(LEVELS[:1])]
    with pytest.raises(SelectionError):
        measure(darks)
    with pytest.raises(BudgetError, match="a pair of flats"):
        measure(pairs(LEVELS[:1]), budget="100kB")
    with pytest.raises(OptionError, match="edge"):
        measure(pairs(LEVELS[:1]), edge=-1)
    with pytest.raises(OptionError, match="model"):
        measure(pairs(LEVELS[:4]), model="cubic")


def test_the_bias_is_taken_off():
    bias = Product(
        "bias",
        planes={"data": np.full((ROWS, 2 * WIDE), 300, np.float32)},
        units={"data": "adu"},
        quantities=(Quantity("read_noise", NOISE, None, "adu"),),
    )
    raised = pairs(change=lambda _, data: data + np.float32(300))
    plain = [replace(f, exposure=replace(f.exposure, applied=frozenset())) for f in raised]
    found, wanted = measure(plain, products={"bias": bias}), measure(pairs())
    assert values(found, "gain")["A"] == pytest.approx(values(wanted, "gain")["A"], rel=1e-4)
    assert bias.identity in found.provenance.parents


def test_edges_and_the_runner_do_not_matter():
    one = measure(pairs(LEVELS[::3]), edge=10)
    assert (one.tables["ptc"]["pixels"] == (ROWS - 20) * (WIDE - 20)).all()
    whole = measure(pairs(LEVELS[::3]), runner="serial")
    assert measure(pairs(LEVELS[::3]), runner=3).identity == whole.identity


def test_bootstrapped_sigmas_agree():
    plain, drawn = measure(pairs()), measure(pairs(), bootstrap=30, seed=2)
    ratio = drawn.quantity("gain", "A").sigma / plain.quantity("gain", "A").sigma
    assert 0.4 < ratio < 2.0


# --- applying ---------------------------------------------------------------------------------------------


def test_electrons_have_a_variance():
    product = measure(pairs())
    before = flat(0, 1, counts(5e3, np.random.default_rng(1), a00=0.0))
    done = gain.apply(before, product)
    assert done.unit == "electron"
    for part, place in ((slice(0, WIDE), "A"), (slice(WIDE, None), "B")):
        value, noise = (product.quantity(name, place).value for name in ("gain", "read_noise"))
        np.testing.assert_allclose(done.data[:, part], before.data[:, part] * value, rtol=1e-5)
        np.testing.assert_allclose(done.variance[:, part], done.data[:, part] + noise**2, rtol=1e-4)
        relative = product.quantity("gain", place).sigma / value
        np.testing.assert_allclose(done.systematic[:, part], (done.data[:, part] * relative) ** 2, rtol=1e-3)
    kept = gain.apply(replace(before, variance=np.ones(before.shape, np.float32)), product)
    np.testing.assert_allclose(kept.variance[:, :WIDE], product.quantity("gain", "A").value ** 2, rtol=1e-5)


def test_no_variance_is_made_up_where_dark_or_flat_are_gone():
    product = measure(pairs())
    before = flat(0, 1, counts(5e3, np.random.default_rng(1)), applied=frozenset({"bias", "dark"}))
    assert gain.apply(before, product).variance is None
    level = flat(0, 1, counts(5e3, np.random.default_rng(1)), applied=frozenset())
    assert gain.apply(level, product).variance is None


def test_no_gain_at_all_flags_every_pixel():
    nothing = Product("gain", quantities=(Quantity("gain", math.nan, None, "electron/adu"),))
    done = gain.apply(flat(0, 1, np.ones((4, 4), np.float32)), nothing)
    assert (done.dq & DQ.NO_GAIN_VALUE).all() and np.isnan(done.data).all()
