"""A sensor on a bench: its files show the faults that its truth tells of, by the plainest of measurements."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from astropy.io import fits

import calibrant as cal
from calibrant.exposures import Exposures
from calibrant.files.fits import read
from calibrant.instrument import load as instrument
from calibrant.product import Product, Quantity
from calibrant.simulate.boundaries import implied_a
from calibrant.simulate.camera import Series, load
from calibrant.simulate.chain import Chain
from calibrant.simulate.raft import Taken, make_sensor, simulate
from calibrant.simulate.raft_plan import Counts, plan

CAMERA, SEED = load("ccd16"), 3
NAMES = tuple(segment.name for segment in CAMERA.amplifiers.segments)
SIZE = CAMERA.size("small")
DATA = slice(0, SIZE.rows), slice(SIZE.prescan, SIZE.prescan + SIZE.cols)
OVERSCAN = slice(0, SIZE.rows), slice(SIZE.prescan + SIZE.cols + 3, None)


@pytest.fixture(scope="module")
def taken(tmp_path_factory) -> Taken:
    return simulate(CAMERA, tmp_path_factory.mktemp("ccd16"), seed=SEED)


@pytest.fixture(scope="module")
def truth(taken) -> Product:
    found = read(taken.truth[0])
    assert isinstance(found, Product)
    return found


@pytest.fixture(scope="module")
def headers(taken) -> list[fits.Header]:
    return [fits.getheader(path) for path in taken.raw]


def each(truth: Product, name: str) -> np.ndarray:
    return np.array([truth.quantity(name, place).value for place in NAMES])


class Bench:
    """Raw images of all amplifiers above their overscan and their mean bias, in the order of readout."""

    def __init__(self, taken: Taken, headers: list[fits.Header]) -> None:
        self.headers, self.raw = headers, taken.raw
        self.bias = np.mean([self._levelled(n) for n in self.numbers(IMGTYPE="BIAS")], axis=0)

    def numbers(self, **cards) -> list[int]:
        return [n for n, h in enumerate(self.headers) if all(h.get(k) == v for k, v in cards.items())]

    def _levelled(self, number: int) -> np.ndarray:
        with fits.open(self.raw[number]) as units:
            cube = np.stack([unit.data.astype(np.float32) for unit in units[1:]])
        return cube - np.median(cube[:, OVERSCAN[0], OVERSCAN[1]], axis=(1, 2), keepdims=True)

    def images(self, number: int) -> np.ndarray:
        return self._levelled(number) - self.bias


@pytest.fixture(scope="module")
def bench(taken, headers) -> Bench:
    return Bench(taken, headers)


@pytest.fixture(scope="module")
def flats(bench) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Of each frame of the PTC: photodiode, data (amplifiers, rows, cols), whole images."""
    found = []
    for number in bench.numbers(OBJECT="ptc"):
        images = bench.images(number)
        found.append((float(bench.headers[number]["PDFLUX"]), images[:, DATA[0], DATA[1]], images))
    return found


def brightness(flats) -> np.ndarray:
    """Middle of the data, (frames, amplifiers), adu."""
    return np.array([np.median(data, axis=(1, 2)) for _, data, _ in flats])


# -- files ------------------------------------------------------------------------------------------------


def test_what_is_taken(headers):
    kinds = [header["IMGTYPE"] for header in headers]
    assert {kind: kinds.count(kind) for kind in kinds} == {"BIAS": 10, "DARK": 5, "FLAT": 66, "OBJECT": 40}
    objects = [header.get("OBJECT", "") for header in headers]
    assert {name: objects.count(name) for name in ("ptc", "linearity", "stars", "field")} == {
        "ptc": 40, "linearity": 16, "stars": 15, "field": 9,
    }  # fmt: skip
    assert [name for name in objects if name.startswith("spots")] == [f"spots {name}" for name in NAMES]


def test_the_instrument_knows_them(taken, headers):
    exposures = Exposures.scan(taken.raw[0].parent, "ccd16")
    flat = next(one for one in exposures if one.kind == "flat" and one.object == "ptc")
    assert (flat.instrument, flat.detector, flat.filter) == ("ccd16", "0", "r")
    assert flat.keys["photodiode"] == pytest.approx(0.025, rel=0.02)
    assert instrument("ccd16").readouts(flat)[15].name == "C00"
    assert cal.read(taken.raw[0]).exposure.instrument == "ccd16"


def test_levels_reach_from_read_noise_to_beyond_saturation(headers):
    pairs = [header for header in headers if header.get("OBJECT") == "ptc"]
    levels = [header["EXPTIME"] * 4000 for header in pairs]
    assert levels[0] == pytest.approx(100, rel=0.01) and levels[-1] > 1.2 * CAMERA.detector["full_well"]
    times = [header["EXPTIME"] for header in pairs]
    assert times[::2] == times[1::2] and len(set(times)) == 20
    assert np.diff(np.log(times[::2])) == pytest.approx(np.log(1100) / 19, rel=0.01)


def test_the_same_seed_gives_the_same_bytes(taken, tmp_path):
    again = simulate(CAMERA, tmp_path, seed=SEED, bands=["y"])
    theirs = {path.name: path for path in taken.raw}
    for path in (again.raw[0], again.raw[15], again.raw[-1]):
        assert (
            hashlib.sha256(path.read_bytes()).digest()
            == hashlib.sha256(theirs[path.name].read_bytes()).digest()
        )


def test_other_cameras_have_no_faults():
    comcam = load("comcam")
    assert comcam.faults is None and comcam.lamp is None
    detector = make_sensor(comcam, comcam.size("small"), 0, 1).detector
    assert detector.chain is None and detector.boundaries is None
    assert all(not one.object for one in plan(comcam, Counts()))


# -- truth ------------------------------------------------------------------------------------------------


def test_the_truth_is_that_of_the_detector(truth):
    detector = make_sensor(CAMERA, SIZE, 0, SEED).detector
    chain, boundaries = detector.chain, detector.boundaries
    assert isinstance(chain, Chain) and boundaries is not None
    a = truth.tables["a_matrix"]
    assert a["a"].reshape(10, 10) == pytest.approx(implied_a(boundaries, 10))
    assert a["a"][(a["i"] == 1) & (a["j"] == 0)] == pytest.approx(implied_a(boundaries, 2)[1, 0])
    assert truth.units["a_matrix.a"] == "1/electron"
    assert each(truth, "a00") == pytest.approx(-3e-6)
    table = truth.tables["crosstalk"]
    pair = (table["source"] == "C17") & (table["target"] == "C07")
    assert table["coefficient"][pair] == pytest.approx(chain.crosstalk[7, 8])
    curve = truth.tables["nonlinearity"]
    own = curve["amplifier"] == "C00"
    assert chain.measured(15, curve["true"][own]) == pytest.approx(curve["measured"][own])
    assert 0.005 < each(truth, "nonlinearity").mean() < 0.025
    assert truth.quantity("read_noise", "C10").unit == "electron"


def test_a_measurement_is_compared_with_the_truth(truth):
    gains = tuple(
        Quantity("gain", q.value + 0.002, 0.004, q.unit, q.place) for q in truth if q.name == "gain"
    )
    measured = Product("gain", "ccd16", truth.keys, truth.epoch, quantities=gains)
    found = [q for q in cal.compare(measured, truth).quantities if q.name == "gain"]
    assert len(found) == 16 and [q.pull for q in found] == pytest.approx([0.5] * 16)


def test_saturated_flats_are_told_by_their_level(truth):
    """A list of all pixels of a sensor would be longer than its frames."""
    files, listed = truth.tables["files"], np.bincount(truth.tables["saturated"]["file"], minlength=121)
    flats = files["kind"] == "flat"
    assert listed.max() < truth.planes["dq"].size / 2
    assert (listed[flats & (files["level"] > 1.05 * CAMERA.detector["full_well"])] == 0).all()
    near = listed[flats & (files["level"] > 77_000) & (files["level"] < 79_800)]
    assert len(near) and (near > 0).all()


# -- what the pixels show ---------------------------------------------------------------------------------


def test_gains(flats, truth):
    """Variance of differences at 1000 to 10 000 e-, the brighter-fatter effect taken into account."""
    gain, noise, inverse = each(truth, "gain"), each(truth, "read_noise"), []
    for (_, one, _), (_, two, _) in zip(flats[::2], flats[1::2], strict=True):
        mean = 0.5 * (np.median(one, axis=(1, 2)) + np.median(two, axis=(1, 2)))
        if not 1e3 < (mean * gain).mean() < 1e4:
            continue
        difference = one - two * (np.median(one, axis=(1, 2)) / np.median(two, axis=(1, 2)))[:, None, None]
        spread = np.percentile(difference, [15.865, 84.135], axis=(1, 2))
        variance = (0.5 * (spread[1] - spread[0])) ** 2 / 2 - (noise / gain) ** 2
        x = 2 * -3e-6 * mean * gain
        inverse.append(variance / mean / (np.expm1(x) / x))
    assert len(inverse) >= 6
    # Percentiles have 1.64 times the error of a standard deviation.
    sigma = 1.64 * np.sqrt(2 / (len(inverse) * SIZE.rows * SIZE.cols))
    pulls = (np.mean(inverse, axis=0) * gain - 1) / sigma
    assert np.abs(pulls).max() < 4 and np.abs(pulls.mean()) < 1.5
    # The gain the wrong way round would be seen.
    assert np.abs(np.mean(inverse, axis=0) / gain - 1).min() > 10 * sigma


def test_curves(flats, truth):
    """Signal against photodiode: what is missing at three quarters of the full well."""
    gain, levels, diode = each(truth, "gain"), brightness(flats), np.array([flux for flux, _, _ in flats])
    offset = each(truth, "offset")
    faint = (levels.mean(axis=1) > 1000) & (levels.mean(axis=1) < 6000)
    bright = np.flatnonzero((levels * gain).mean(axis=1) < 62_000)[-2:]
    quadratic, cubic = each(truth, "quadratic"), each(truth, "cubic")

    def true(signal):
        guess = signal
        for _ in range(5):
            guess = signal + quadratic * guess**2 - cubic * guess**3
        return guess

    per_flux = true(levels - offset) / diode[:, np.newaxis]
    ratio = per_flux[bright].mean(axis=0) / per_flux[faint].mean(axis=0)
    assert ratio == pytest.approx(1.0, abs=1.5e-3)
    raw = levels / diode[:, np.newaxis]
    assert (raw[bright].mean(axis=0) / raw[faint].mean(axis=0)).mean() < 0.993


def test_full_well(flats, truth):
    levels, limits = brightness(flats), each(truth, "saturation") - each(truth, "level")
    assert levels[-1] == pytest.approx(limits, rel=2e-3)
    assert (levels.max(axis=0) < limits + 100).all()  # crosstalk of 15 others


def test_crosstalk(bench, truth):
    """Each amplifier's spots, in all others, as a mean over the spots above their surroundings."""
    table = truth.tables["crosstalk"]
    known = np.zeros((16, 16))
    index = {name: n for n, name in enumerate(NAMES)}
    for source, target, value in zip(
        *(table[key] for key in ("source", "target", "coefficient")), strict=True
    ):
        known[index[source], index[target]] = value
    measured, sigma = np.full((16, 16), np.nan), 0.0
    for source, name in enumerate(NAMES):
        (number,) = bench.numbers(OBJECT=f"spots {name}")
        data = bench.images(number)[:, DATA[0], DATA[1]]
        spot = data[source] > 30_000
        dark = data[source] < 50
        assert spot.sum() > 1000
        for target, image in enumerate(data):
            # A hot column or a cosmic ray is no ghost.
            ghost = image[spot & (np.abs(image) < 100)]
            measured[source, target] = ghost.mean() - np.median(image[dark]) if target != source else np.nan
        measured[source] /= data[source][spot].mean()
        sigma = 5.5 * np.sqrt(1 / spot.sum() + 1.57 / dark.sum()) / data[source][spot].mean()
    off = ~np.eye(16, dtype=bool)
    pulls = ((measured - known) / sigma)[off]
    assert np.abs(np.median(pulls)) < 0.5 and np.percentile(np.abs(pulls), 95) < 3
    # Source and target the wrong way round would be seen.
    assert np.percentile(np.abs((measured - known.T) / sigma)[off], 95) > 5


@pytest.mark.parametrize("direction", ["serial", "parallel"])
def test_charge_transfer(flats, truth, direction):
    """EPER of the bright flats: what the first two pixels of the overscan hold."""
    gain, found = each(truth, "gain"), []
    for _, data, images in flats:
        if not 2e4 < (np.median(data, axis=(1, 2)) * gain).mean() < 7e4:
            continue
        if direction == "serial":
            trail, last = images[:, DATA[0], DATA[1].stop : DATA[1].stop + 2], data[:, :, -1]
            transfers = SIZE.prescan + SIZE.cols
            found.append(trail.mean(axis=1).sum(axis=1) / np.median(last, axis=1) / transfers)
        else:
            trail, last = images[:, SIZE.rows : SIZE.rows + 2, DATA[1]], data[:, -1]
            # The level of these rows: their own overscan.
            own = np.median(images[:, SIZE.rows : SIZE.rows + 2, OVERSCAN[1]], axis=2)
            found.append((np.median(trail, axis=2) - own).sum(axis=1) / np.median(last, axis=1) / SIZE.rows)
    known = each(truth, f"cti_{direction}")
    assert np.mean(found, axis=0).mean() == pytest.approx(known.mean(), rel=0.15)
    assert np.corrcoef(np.mean(found, axis=0), known)[0, 1] > 0.7


def test_offsets(flats, truth):
    """Faint flats: the signal that is left without light, by a line through signal and photodiode."""
    levels, diode = brightness(flats), np.array([flux for flux, _, _ in flats])
    few = levels.mean(axis=1) < 1500
    means = np.array([data.mean(axis=(1, 2)) for _, data, _ in flats])[few]
    clipped = [np.clip(data, -30, 4000).mean(axis=(1, 2)) for _, data, _ in flats]
    means = np.array(clipped)[few]
    # Weights: a faint flat knows its offset best.
    line = np.polyfit(diode[few], means, 1, w=1 / np.sqrt(20 + levels[few].mean(axis=1)))
    assert np.corrcoef(line[1], each(truth, "offset"))[0, 1] > 0.9
    assert np.abs(line[1] - each(truth, "offset")).max() < 0.6


def test_stars_grow_with_their_light(bench, truth):
    """Second moments along the rows of stars alike: bright ones are wider."""
    gain, places = each(truth, "gain"), truth.tables["bench_stars"]
    numbers = bench.numbers(OBJECT="stars")
    sizes = []
    for group in (numbers[:3], numbers[-3:]):
        images = np.mean([bench.images(n)[:, DATA[0], DATA[1]] for n in group], axis=0) * gain[:, None, None]
        whole = np.empty(CAMERA.shape(SIZE), np.float32)
        for amplifier, image in zip(
            make_sensor(CAMERA, SIZE, 0, SEED).detector.amplifiers, images, strict=True
        ):
            whole[amplifier.window] = image[amplifier.turns]
        sizes.append(
            np.median(
                [_width(whole, row, col) for row, col in zip(places["row"], places["col"], strict=True)]
            )
        )
    assert 0.008 < sizes[1] / sizes[0] - 1 < 0.04


def _width(image, row, col, half=6):
    y, x = round(float(row)), round(float(col))
    stamp = image[y - half : y + half + 1, x - half : x + half + 1].astype(np.float64)
    around = image[y - half - 4 : y + half + 5, x - half - 4 : x + half + 5]
    stamp -= np.median(np.concatenate([around[:4].ravel(), around[-4:].ravel()]))  # the pedestal
    line, place = stamp.sum(axis=1), np.arange(-half, half + 1) - (row - y)
    middle = (line * place).sum() / line.sum()
    return (line * (place - middle) ** 2).sum() / line.sum()


def test_skies_are_dithered_and_their_fringes_vary(taken, truth, bench):
    series, files = truth.tables["series"], truth.tables["files"]
    own = series["object"] == "field"
    assert own.sum() == 9
    assert series["sky"][own].std() > 0.1 and series["fringes"][own].std() > 0.1
    shifts = files["col_shift"][np.isin(files["name"], series["name"][own])]
    assert shifts.std() > 8 and len(set(shifts)) == 9
    # Each amplitude of the fringes is the truth's, by the pattern of the truth.
    gain, pattern = each(truth, "gain"), truth.planes["fringes"]
    amplifiers = make_sensor(CAMERA, SIZE, 0, SEED).detector.amplifiers
    band = CAMERA.bands["y"]
    for number, factor in zip(bench.numbers(OBJECT="field"), series["fringes"][own], strict=True):
        frame = bench.images(number)[:, DATA[0], DATA[1]] * gain[:, None, None]
        slopes = []
        for image, amplifier in zip(frame, amplifiers, strict=True):
            flat = truth.planes["flat_y_1"][amplifier.window][amplifier.turns]
            sky = image / flat
            good = (np.abs(sky - np.median(sky)) < 250) & (flat > 0.9)
            slopes.append(np.polyfit(pattern[amplifier.window][amplifier.turns][good], sky[good], 1)[0])
        expected = factor * band.sky * band.sky_fringes * CAMERA.science.exptime
        assert np.median(slopes) == pytest.approx(expected, rel=0.25)


# -- plan -------------------------------------------------------------------------------------------------


def test_levels_of_a_series():
    series = Series(object="x", kind="flat", band="r", span=(100.0, 1e4, 3))
    assert series.steps == (100.0, 1000.0, 10_000.0)
    assert Series(object="x", kind="flat", band="r", levels=(5.0, 6.0)).steps == (5.0, 6.0)


def test_fewer_frames_leave_the_series_alone(tmp_path):
    told = plan(CAMERA, Counts(biases=2, darks=0, flats=1), ["r"])
    assert sum(one.kind == "bias" for one in told) == 2 and not [one for one in told if one.kind == "dark"]
    assert sum(one.object == "ptc" for one in told) == 40 and not [one for one in told if one.band == "y"]
