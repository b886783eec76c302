"""Sky flats, illumination corrections and fringe frames on skies made with numpy alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import fringe_frame, illumination, sky_flat
from calibrant.effects._sky_surface import Form, fit
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError, UserError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Applied, Exposure, Frame
from calibrant.product import Product

SHAPE = (192, 240)
SKY, NOISE = 1600.0, 6.0  # adu at a gain of 1 e-/adu
READY = frozenset({"bias", "flat"})


def fringes(period=24.0):
    """-1 to 1, bent."""
    y, x = np.indices(SHAPE)
    return np.cos(2 * np.pi * (y + 9 * np.sin(x / 35.0) + 0.15 * x) / period)


def crests():
    """The fringes less what a surface follows, which a fringe frame has not."""
    return fringes() - fit(fringes().astype(np.float32), Form()).surface


def response(seed=5):
    """Of the pixels: 1 % each, a shadow of 4 %, two halves of different gain."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(SHAPE)
    shadow = 1 - 0.04 * np.exp(-((y - 60) ** 2 + (x - 90) ** 2) / 2 / 9.0**2)
    return (1 + 0.01 * rng.standard_normal(SHAPE)) * shadow * np.where(x < 120, 1.0, 0.97)


def stars(shift, count=35, seed=8):
    """Stars at fixed places of the sky, moved by the pointing, adu."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(SHAPE)
    plane = np.zeros(SHAPE)
    for row, col, flux in zip(
        rng.uniform(-30, SHAPE[0] + 30, count),
        rng.uniform(-30, SHAPE[1] + 30, count),
        10 ** rng.uniform(3.0, 5.2, count),
        strict=True,
    ):
        d2 = (y - row - shift[0]) ** 2 + (x - col - shift[1]) ** 2
        plane += flux / (2 * np.pi * 1.8**2) * np.exp(-d2 / 2 / 1.8**2)
    return plane


def scene(index, *, strength=0.03, light=1.0, dither=25.0, seed=1, star=True):
    """Expected light of one frame, its sky, and the amplitude of its fringes, adu."""
    rng = np.random.default_rng((seed, index))
    sky = SKY * np.exp(0.25 * rng.standard_normal())
    amplitude = strength * sky * np.exp(0.3 * rng.standard_normal())
    shift = rng.normal(0, dither, 2)
    plane = sky * light + amplitude * fringes() + (stars(shift) if star else 0)
    return plane, float(sky), float(amplitude)


def frame(index, *, detector=1.0, applied=READY, seed=1, **options):
    """A frame above its zero level; where it is not flat-fielded, give the response of the detector."""
    plane, _, _ = scene(index, seed=seed, **options)
    rng = np.random.default_rng((seed, index, 1))
    data = rng.poisson(plane * detector) + NOISE * rng.standard_normal(SHAPE)
    exposure = Exposure(
        kind="light", start=10**9 * (index + 1), duration=30.0, filter="y", shape=SHAPE, applied=applied
    )
    return Frame(data.astype(np.float32), exposure=exposure)


def exposed(frames):
    return Exposures.from_frames(frames)


def sky(count=9, **options):
    return exposed([frame(index, **options) for index in range(count)])


def changed(one, **facts):
    """The frame with other facts of its exposure."""
    return replace(one, exposure=replace(one.exposure, **facts))


@pytest.fixture(scope="module")
def pattern():
    """A fringe frame of nine frames."""
    return fringe_frame.measure(sky(9))


@pytest.fixture(scope="module")
def night_flat():
    """A sky flat of nine frames, and the response of its detector."""
    detector = response()
    return sky_flat.measure(sky(9, detector=detector, strength=0.0, applied=frozenset({"bias"}))), detector


def applied(one):
    """A frame whose history says that it is flat-fielded."""
    return changed(one, applied=frozenset({"bias"})).after(Applied("flat"))


def share(image, plane, mask):
    """Slope of an image against a plane, and its error."""
    x, y = plane[mask] - plane[mask].mean(), image[mask] - image[mask].mean()
    slope = (x * y).sum() / (x * x).sum()
    return slope, (y - slope * x).std() / np.sqrt((x * x).sum())


def starless(index, **options):
    """Pixels far from stars."""
    plane, amount, amplitude = scene(index, **options)
    return np.abs(plane - amount - amplitude * fringes()) < 1.0


# --- fringe frames ---


def test_the_pattern_is_found(pattern):
    truth = 0.03 * crests()
    mean = np.mean([scene(n)[2] / scene(n)[1] for n in range(9)]) / 0.03
    assert pattern.kind == "fringe_frame" and abs(np.nanmean(pattern.data)) < 1e-6
    rest = (pattern.data - mean * truth) / np.sqrt(pattern.planes["variance"])
    assert 0.9 < np.nanstd(rest[np.abs(rest) < 6]) < 1.2
    assert np.mean(np.abs(rest) > 6) < 1e-3
    strength = pattern.quantity("strength")
    assert strength.value == pytest.approx(100 * mean * truth.std(), rel=0.03)
    assert strength.value > 20 * strength.sigma
    table = pattern.tables["frames"]
    expected = np.array([scene(n)[2] / scene(n)[1] for n in range(9)])
    assert table["ratio"] / table["ratio"].mean() == pytest.approx(expected / expected.mean(), rel=0.03)
    assert table["level"] == pytest.approx([scene(n)[1] for n in range(9)], rel=3e-3)


@pytest.mark.parametrize("seed", [1, 2])
def test_fringes_are_taken_away(pattern, seed):
    """Of frames that the pattern was not made of: what is left is less than 2 % of what was there."""
    pulls = []
    for index in range(100, 106):
        before = applied(frame(index, seed=seed))
        after = fringe_frame.apply(before, pattern)
        mask, amount = starless(index, seed=seed), scene(index, seed=seed)[2]
        left, error = share(after.data, crests(), mask)
        there, _ = share(before.data, crests(), mask)
        assert there == pytest.approx(amount, rel=0.05) and abs(left) < 0.02 * amount + 3 * error
        done = after.history[-1]
        unit = there / done.options["amplitude"]  # of the pattern in units of the truth
        pulls.append(left / np.hypot(error, done.options["sigma"] * unit))
        assert done.product == pattern.identity and "adu" in done.note
        assert pattern.identity in after.systematic_from and (after.systematic >= 0).all()
    assert np.abs(pulls).max() < 4


@pytest.mark.parametrize("wrong", ["shifted", "stronger"])
def test_a_wrong_pattern_leaves_fringes(pattern, wrong):
    """The twins that must fail: a pattern that is three rows off; an amplitude that is 10 % off."""
    before, mask, amount = applied(frame(100)), starless(100), scene(100)[2]
    if wrong == "shifted":
        data = np.roll(pattern.data, 3, axis=0)
        left = fringe_frame.apply(before, replace(pattern, planes={**pattern.planes, "data": data}))
        assert np.abs(np.fft.rfft(left.data[:, 60])[8]) > 0.3 * np.abs(np.fft.rfft(before.data[:, 60])[8])
    else:
        good = fringe_frame.apply(before, pattern)
        wrong_data = before.data + 1.1 * (good.data - before.data)
        left, error = share(wrong_data, crests(), mask)
        assert abs(left) > 0.05 * amount > 5 * error


def test_a_frame_without_fringes_is_left_as_it_is(pattern):
    pulls = []
    for index in range(200, 212):
        found = fringe_frame.fitted(applied(frame(index, strength=0.0)), pattern)
        pulls.append(found.value / found.sigma)
        assert abs(found.value) < 0.03 * SKY  # of fringes that are as strong as the sky then
    assert np.abs(pulls).max() < 3 and 0.5 < np.std(pulls) < 1.5


def test_stars_keep_their_light(pattern):
    """The same frame with a bright star and without: what the correction takes differs by nothing."""
    plain = applied(frame(100))
    y, x = np.indices(SHAPE)
    star = 40_000 / (2 * np.pi * 9) * np.exp(-((y - 80) ** 2 + (x - 130) ** 2) / 18)
    with_star = plain.after(data=(plain.data + star).astype(np.float32))
    after = [fringe_frame.apply(one, pattern) for one in (plain, with_star)]
    aperture = np.hypot(y - 80, x - 130) < 12
    light = (after[1].data - after[0].data)[aperture].sum()
    assert light == pytest.approx(star[aperture].sum(), rel=1e-3)
    assert after[1].history[-1].options["amplitude"] == pytest.approx(
        after[0].history[-1].options["amplitude"], rel=0.02
    )


def test_bright_sources_do_not_get_into_the_pattern():
    """Of frames that are not dithered; where sources are not looked for, they are in it."""
    beyond = []
    for sigma in (4.0, 1e9):
        product = fringe_frame.measure(sky(9, dither=0.0), sigma=sigma)
        good = (product.planes["count"] > 0) & (product.planes["dq"] & np.uint32(DQ.UNRELIABLE_FLAT) == 0)
        rest = (product.data - 0.033 * crests()) / np.sqrt(product.planes["variance"])
        beyond.append(np.mean(rest[good] > 5))
    assert beyond[0] < 1e-3 < 5e-3 < beyond[1]


def test_the_unit_does_not_matter(pattern):
    before = applied(frame(100))
    electrons = before.after(data=before.data * np.float32(2.0), unit="electron")
    done = fringe_frame.apply(electrons, pattern)
    assert done.data == pytest.approx(2 * fringe_frame.apply(before, pattern).data, rel=1e-4)
    assert done.history[-1].options["unit"] == "electron"


def test_no_fringes_are_said_to_be_none():
    try:
        product = fringe_frame.measure(sky(6, strength=0.0, star=False))
    except SelectionError as error:
        assert "fringes" in str(error)
    else:
        assert any("no fringes are seen" in note for note in product.provenance.notes)


def test_the_frame_must_be_flat_fielded_and_of_the_same_filter(pattern):
    with pytest.raises(HistoryError, match="flat"):
        fringe_frame.apply(changed(frame(0), applied=frozenset({"bias"})), pattern)
    with pytest.raises(SelectionError, match="filter"):
        fringe_frame.apply(changed(applied(frame(0)), filter="r"), pattern)
    done = fringe_frame.apply(applied(frame(0)), pattern)
    with pytest.raises(HistoryError, match="already"):
        fringe_frame.apply(done, pattern)
    full = applied(frame(0)).after(dq=np.full(SHAPE, DQ.DO_NOT_USE, np.uint32))
    with pytest.raises(SelectionError, match="free of sources"):
        fringe_frame.apply(full, pattern)
    with pytest.raises(SelectionError, match="kind"):
        fringe_frame.apply(applied(frame(0)), replace(pattern, kind="flat"))


# --- sky flats ---


def test_the_response_is_found(night_flat):
    product, detector = night_flat
    truth = detector / np.median(detector)
    rest = (product.data - truth) / np.sqrt(product.planes["propagated"])
    assert 0.9 < rest[np.abs(rest) < 6].std() < 1.1 and np.mean(np.abs(rest) > 6) < 1e-3
    assert product.quantity("level").value == pytest.approx(
        np.mean([scene(n)[1] for n in range(9)]) * np.median(detector), rel=5e-3
    )
    assert product.quantity("noise").value == pytest.approx(100 * 1.2 / np.sqrt(9 * SKY), rel=0.2)


def test_shadows_are_not_taken_for_sources(night_flat):
    product, detector = night_flat
    truth = detector / np.median(detector)
    shadow = np.s_[50:71, 80:101]
    ratio = product.data[shadow] / truth[shadow]
    assert ratio.mean() == pytest.approx(1.0, abs=2e-3)


def test_a_sky_flat_is_divided_out(night_flat):
    product, detector = night_flat
    raw = frame(50, detector=detector, strength=0.0, applied=frozenset({"bias"}), star=False)
    done = sky_flat.apply(raw, product)
    halves = done.data[:, :120].mean(), done.data[:, 120:].mean()
    assert halves[0] == pytest.approx(halves[1], rel=2e-3)
    assert np.asarray(raw.data)[:, 120:].mean() < 0.98 * np.asarray(raw.data)[:, :120].mean()
    assert done.did("sky_flat") and product.identity in done.systematic_from
    with pytest.raises(HistoryError, match="already"):
        sky_flat.apply(done, product)
    with pytest.raises(HistoryError, match="flat was applied"):
        sky_flat.apply(applied(raw), product)
    with pytest.raises(HistoryError, match="bias"):
        sky_flat.apply(changed(raw, applied=frozenset()), product)


def test_without_dithering_it_is_said_and_flagged():
    product = sky_flat.measure(sky(5, dither=0.0, strength=0.0, applied=frozenset({"bias"})))
    told = " ".join(product.provenance.notes)
    assert "hardly dithered" in told and "under sources, or bad, in more than half" in told
    covered = product.planes["count"] * 2 < 5
    assert covered.any() and (product.planes["dq"][covered] & np.uint32(DQ.UNRELIABLE_FLAT) > 0).all()
    never = product.planes["count"] == 0
    assert (product.data[never] == 1).all()
    assert (product.planes["dq"][never] & np.uint32(DQ.NO_FLAT_FIELD) > 0).all()


def test_dithered_frames_are_not_blamed(night_flat):
    assert not any("hardly dithered" in note for note in night_flat[0].provenance.notes)


# --- illumination ---


def tilted():
    """Light of the sky that the lamp does not have: a bowl and a tilt of 3 %."""
    y, x = (np.indices(SHAPE) - np.array(SHAPE)[:, None, None] / 2) / np.array(SHAPE)[:, None, None]
    return 1 + 0.03 * y - 0.02 * x + 0.04 * (x * x + y * y)


@pytest.mark.parametrize(("model", "order"), [("polynomial", 3), ("spline", 3)])
def test_the_illumination_is_found(model, order):
    product = illumination.measure(sky(9, light=tilted(), strength=0.0), model=model, order=order)
    truth = tilted() / np.median(tilted())
    assert np.abs(product.data / truth - 1).max() < 4e-3 and (product.data / truth).std() < 1e-3
    pulls = (product.data - truth) / np.sqrt(product.planes["variance"])
    assert pulls.std() < 2.0
    assert product.quantity("range").value == pytest.approx(100 * np.ptp(truth), rel=0.1)
    # The twin: without it, the sky is not even.
    assert np.abs(truth - 1).max() > 0.02


def test_fringes_do_not_get_into_the_illumination():
    product = illumination.measure(sky(9, light=tilted()))
    assert (product.data / tilted() * np.median(tilted())).std() < 4e-3


def test_the_illumination_between_two_flats(night_flat):
    sky_product, detector = night_flat
    lamp = detector / tilted()
    dome = Product(
        "flat", planes={"data": (lamp / np.median(lamp)).astype(np.float32)}, units={"data": ""},
        keys=dict(sky_product.keys),
    )  # fmt: skip
    product = illumination.between(sky_product, dome)
    assert (product.data / tilted() * np.median(tilted())).std() < 1e-3
    assert product.keys["filter"] == "y" and sky_product.identity in product.provenance.parents
    with pytest.raises(SelectionError, match="filter"):
        illumination.between(sky_product, replace(dome, keys={"filter": "r"}))
    with pytest.raises(ShapeError):
        illumination.between(sky_product, replace(dome, planes={"data": np.ones((4, 4), np.float32)}))
    flat_fielded = applied(frame(0))
    done = illumination.apply(flat_fielded, product)
    assert done.data == pytest.approx(np.asarray(flat_fielded.data) / product.data, rel=1e-5)
    with pytest.raises(HistoryError, match="flat"):
        illumination.apply(changed(frame(0), applied=frozenset({"bias"})), product)


def test_a_surface_is_exact_without_noise():
    y, x = np.indices((100, 130)) / 100
    image = (1 + 0.1 * y - 0.2 * x * y + 0.05 * x**2).astype(np.float32)
    for form in (Form(), Form("spline", 2)):
        assert fit(image, form).surface == pytest.approx(image, abs=2e-4)


# --- bad input ---


EFFECTS = [(sky_flat, frozenset({"bias"})), (illumination, READY), (fringe_frame, READY)]


@pytest.mark.parametrize(("effect", "ready"), EFFECTS, ids=lambda one: getattr(one, "NAME", ""))
def test_bad_input(effect, ready):
    few = [frame(n, applied=ready) for n in range(3)]
    with pytest.raises(SelectionError, match="too few frames"):
        effect.measure(exposed(few[:1]))
    with pytest.raises(SelectionError, match="mixed filter"):
        effect.measure(exposed([*few[:2], changed(few[2], filter="r")]))
    with pytest.raises(SelectionError, match="exposures of the sky"):
        effect.measure(exposed([*few[:2], changed(few[2], kind="flat")]))
    with pytest.raises(HistoryError, match="zero level"):
        effect.measure(exposed([changed(one, applied=frozenset()) for one in few]))
    with pytest.raises(SelectionError):
        effect.measure(Exposures())
    with pytest.raises(OptionError):
        effect.measure(exposed(few), minimum=1)
    with pytest.raises(OptionError):
        effect.measure(exposed(few), passes=0)
    with pytest.raises(OptionError):
        effect.measure(exposed(few), box=1)
    with pytest.raises(OptionError, match="did you mean 'grow'"):
        effect.measure(exposed(few), grwo=3)
    dark = changed(few[2], start=77).after(data=np.full(SHAPE, -3.0, np.float32) + np.arange(SHAPE[1]) % 2)
    with pytest.raises(UserError):
        effect.measure(exposed([*few[:2], dark]))


def test_frames_must_be_flat_fielded_or_not():
    with pytest.raises(HistoryError, match="flat-fielded"):
        fringe_frame.measure(sky(3, applied=frozenset({"bias"})))
    with pytest.raises(HistoryError, match="flat-fielded"):
        illumination.measure(sky(3, applied=frozenset({"bias"})))
    with pytest.raises(HistoryError, match="flat"):
        sky_flat.measure(sky(3))


def test_no_sky_without_sources():
    """Frames all of which are under sources: one is left out, all are refused."""
    crowd = [frame(n, applied=frozenset({"bias"}), strength=0.0) for n in range(4)]
    with pytest.raises(SelectionError, match="free of sources"):
        sky_flat.measure(exposed(crowd), sigma=0.01, grow=20)
