"""Sky flats, illumination and fringes of a simulated sensor under a sky with stars, against its truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import calibrant as cal
from calibrant.effects import bias, flat, fringe_frame, illumination, overscan, sky_flat
from calibrant.effects._sky_surface import Form, fit
from calibrant.exposures import Exposures
from calibrant.simulate.camera import load
from calibrant.simulate.raft import simulate

SEED, MADE = 6, 9  # frames that the fringe frame is made of; the others are corrected with it
TILT = (0.05, -0.04)  # of the lamp, per 100 mm


def night(folder, *, fringes=0.03, skies=("y", "r"), frames=12, flats=5):
    """Raw frames of one night, and the truth; the light of the lamp has a tilt, and no fringes."""
    camera = load("ccd16")
    plan = camera.nights[0]
    field = next(one for one in plan.series if one.scene == "sky")
    series = tuple(field.model_copy(update={"band": band, "repeat": frames}) for band in skies)
    y = camera.bands["y"].model_copy(update={"fringes": 0.0, "sky_fringes": fringes})
    changes = {
        "nights": (plan.model_copy(update={"series": series, "darks": 0, "flats": flats}),),
        "epochs": (camera.epochs[0].model_copy(update={"tilt": TILT}),),
        "bands": {**camera.bands, "y": y},
    }
    taken = simulate(camera.model_copy(update=changes), folder, seed=SEED)
    return Exposures.scan(taken.raw[0].parent, "ccd16", recursive=False), cal.read(taken.truth[0])


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    return night(tmp_path_factory.mktemp("sky"))


@pytest.fixture(scope="module")
def masters(taken):
    """The bias, and flats by band."""
    zero = bias.measure(leveled(taken[0].where(kind="bias")))
    flats = {
        band: flat.measure(leveled(taken[0].where(kind="flat", filter=band)), products={"bias": zero})
        for band in ("r", "y")
    }
    return {"bias": zero, **flats}


@pytest.fixture(scope="module")
def pattern(taken, masters):
    products = {"bias": masters["bias"], "flat": masters["y"]}
    return fringe_frame.measure(fields(taken[0], "y")[:MADE], products=products)


def leveled(exposures):
    return exposures.through(overscan.step(exposures[0], instrument=exposures.instrument))


def fields(exposures, band):
    return leveled(exposures.where(kind="light", filter=band).sort("start"))


def reduced(exposures, masters, band):
    """Flat-fielded frames."""
    for one in exposures.frames():
        yield flat.apply(bias.apply(one, masters["bias"]), masters[band])


def crests(truth):
    """The pattern of the fringes less what a surface follows: that stays in the sky."""
    plane = truth.planes["fringes"]
    return (plane - fit(plane.astype(np.float32), Form()).surface).astype(np.float64)


def expected(truth, band):
    """Fringes over sky of each frame, as the simulator had them."""
    table = truth.tables["series"]
    files = truth.tables["files"]
    band_of = dict(zip(files["name"], files["filter"], strict=True))
    own = np.array([str(band_of[name]).startswith(band) for name in table["name"]])
    return 0.03 * table["fringes"][own] / table["sky"][own]


def slope(image, plane, mask):
    """Least-squares share of a plane in an image, and its error; sources clipped."""
    mask = mask & np.isfinite(image)
    for _ in range(8):
        x, y = plane[mask] - plane[mask].mean(), image[mask] - image[mask].mean()
        value = (x * y).sum() / (x * x).sum()
        rest = image - image[mask].mean() - value * (plane - plane[mask].mean())
        mask = mask & (np.abs(rest) < 3 * 1.4826 * np.median(np.abs(rest[mask])))
    return value, rest[mask].std() / np.sqrt((x * x).sum())


def test_the_pattern_is_that_of_the_truth(taken, pattern):
    truth, mask = crests(taken[1]), pattern.planes["count"] >= 5
    scale, error = slope(pattern.data.astype(np.float64), truth, mask)
    ratios = expected(taken[1], "y")[:MADE]
    # Offsets of amplifiers, 1 adu of 1400, are structure that the truth of the fringes has not.
    assert scale == pytest.approx(ratios.mean(), rel=0.02) and error < 0.01 * scale
    table = pattern.tables["frames"]
    pulls = (table["ratio"] * scale - ratios) / (table["sigma"] / table["level"] * scale)
    assert np.abs(pulls).max() < 4 and table["ratio"] * scale == pytest.approx(ratios, rel=0.03)
    assert pattern.quantity("strength").value == pytest.approx(100 * scale * truth.std(), rel=0.04)


def test_fringes_are_gone_within_the_stated_error(taken, masters, pattern):
    """Of frames that the pattern was not made of: less than 2 % is left, and as the sigmas say."""
    truth, pulls = crests(taken[1]), []
    for before in reduced(fields(taken[0], "y")[MADE:], masters, "y"):
        after = fringe_frame.apply(before, pattern)
        good = np.asarray(after.dq) == 0
        there, _ = slope(np.asarray(before.data, np.float64), truth, good)
        left, error = slope(np.asarray(after.data, np.float64), truth, good)
        done = after.history[-1].options
        stated = done["sigma"] / done["amplitude"] * there
        assert abs(left) < 0.02 * there and there > 20 * error
        pulls.append(left / np.hypot(error, stated))
        # The twin: an amplitude that is wrong by five of its sigmas.
        wrong = np.asarray(after.data, np.float64) + 5 * done["sigma"] * np.nan_to_num(pattern.data)
        assert abs(slope(wrong, truth, good)[0]) / np.hypot(error, stated) > 3
    assert len(pulls) == 3 and np.abs(pulls).max() < 3


def test_another_pattern_does_not_help(taken, masters, pattern):
    """The twin of the pattern: turned upside down it takes nothing away."""
    truth = crests(taken[1])
    turned = replace(pattern, planes={**pattern.planes, "data": pattern.data[::-1].copy()})
    before = next(reduced(fields(taken[0], "y")[MADE : MADE + 1], masters, "y"))
    after = fringe_frame.apply(before, turned)
    good = np.asarray(after.dq) == 0
    there = slope(np.asarray(before.data, np.float64), truth, good)[0]
    assert slope(np.asarray(after.data, np.float64), truth, good)[0] > 0.8 * there


def test_stars_keep_their_light(taken, masters, pattern):
    """Apertures on the stars of the truth: what the correction changes is the fringes under them, no more."""
    before = next(reduced(fields(taken[0], "y")[MADE : MADE + 1], masters, "y"))
    after = fringe_frame.apply(before, pattern)
    amplitude = after.history[-1].options["amplitude"]
    change = np.asarray(before.data, np.float64) - np.asarray(after.data, np.float64)
    bright = np.asarray(before.data) > 1.5 * np.nanmedian(before.data)
    assert bright.sum() > 100
    assert np.abs(change[bright]).max() < 1.05 * amplitude * np.nanmax(np.abs(pattern.data))
    taken_off = amplitude * np.nan_to_num(pattern.data)[bright]
    assert change[bright] == pytest.approx(taken_off, abs=1e-2)


def test_a_sky_without_fringes_has_none(taken, masters, pattern, tmp_path):
    raw, _ = night(tmp_path, fringes=0.0, skies=("y",), frames=5, flats=0)
    pulls = []
    for one in reduced(fields(raw, "y"), masters, "y"):
        found = fringe_frame.fitted(one, pattern)
        pulls.append(found.value / found.sigma)
    assert np.abs(pulls).max() < 3
    # The twin: fringes as weak as five sigmas are seen.
    assert all(abs(pull + 5) > 2 for pull in pulls)


def test_the_sky_flat_has_the_response_and_not_the_lamp(taken, masters):
    product = sky_flat.measure(fields(taken[0], "r"), products={"bias": masters["bias"]})
    lamp = taken[1].planes["lamp_1"]
    assert np.ptp(lamp) > 0.02
    ratio = product.data / masters["r"].data * lamp
    error = np.sqrt(product.planes["propagated"] + masters["r"].planes["propagated"])
    good = (product.planes["dq"] == 0) & (masters["r"].planes["dq"] == 0)
    pulls = ((ratio / np.median(ratio[good]) - 1) / error)[good]
    core = pulls[np.abs(pulls) < 5]
    assert core.std() == pytest.approx(1.0, abs=0.1) and core.size > 0.998 * pulls.size
    rows = (ratio / np.median(ratio[good]))[:, :].reshape(8, 36, 8, 72)
    assert np.abs(np.median(rows, axis=(1, 3)) - 1).max() < 4e-3


@pytest.mark.parametrize("model", ["polynomial", "spline"])
def test_the_illumination_is_that_of_the_lamp(taken, masters, model):
    lamp = taken[1].planes["lamp_1"]
    truth = (1 / lamp) / np.median(1 / lamp)
    products = {"bias": masters["bias"], "flat": masters["r"]}
    product = illumination.measure(fields(taken[0], "r"), products=products, model=model)
    assert (product.data / truth).std() < 1.5e-3 and np.abs(product.data / truth - 1).max() < 6e-3
    # The twin: without a correction the sky is uneven by ten times as much.
    assert truth.std() > 5e-3
