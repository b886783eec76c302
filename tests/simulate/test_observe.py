"""Single exposures and whole nights: the raw numbers show the truth."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from calibrant.errors import OptionError, OutputExistsError
from calibrant.files.fits import read
from calibrant.frame import DQ
from calibrant.product import Product
from calibrant.simulate.detector import Design, Detector
from calibrant.simulate.observe import ccd_night, expose

SHAPE = (192, 208)


def flawless(shape=SHAPE, **changes) -> Detector:
    return Detector.simulated(shape, np.random.default_rng(1), Design.flawless(**changes))


# -- single exposures -------------------------------------------------------------------------------------


def test_photon_transfer_gives_gain_and_read_noise():
    made, rng = flawless(gain=1.7, read_noise=8.5), np.random.default_rng(2)
    mean, variance = [], []
    for level in (0.0, 500.0, 5_000.0, 20_000.0, 40_000.0):
        first, second = (
            expose(made, rng, light=level, exptime=1.0, filter="R").counts.astype(float) for _ in "12"
        )
        mean.append(np.mean((first + second) / 2 - made.bias))
        variance.append(np.var(first - second) / 2)
    slope, floor = np.polyfit(mean, variance, 1, w=1 / np.array(variance))
    assert 1 / slope == pytest.approx(1.7, rel=0.01)
    assert np.sqrt(floor - 1 / 12) == pytest.approx(5.0, rel=0.02)


def test_the_noise_model_gives_pulls_of_unit_width():
    made, rng = flawless(), np.random.default_rng(3)
    light = np.linspace(0.0, 300.0, SHAPE[1], dtype=np.float32) * np.ones((SHAPE[0], 1), np.float32)
    electrons = (light * made.flat("V") + made.dark) * 10.0
    variance = made.read_noise.astype(float) ** 2 + 1 / 12 + electrons / 1.5**2
    pulls = [
        (expose(made, rng, light=light, exptime=10.0, filter="V").counts - made.bias - electrons / 1.5)
        / np.sqrt(variance)
        for _ in range(10)
    ]
    assert np.std(pulls) == pytest.approx(1.0, abs=0.005)
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.01)


def test_darks_are_linear_in_time_and_follow_the_temperature():
    made, rng = flawless(dark=2.0), np.random.default_rng(4)
    reference = made.design.reference_temperature

    def rate(exptime: float, temperature: float) -> float:
        counts = expose(made, rng, exptime=exptime, temperature=temperature).counts
        return float(np.mean((counts - made.bias) / exptime * made.gain))

    expected = made.dark.mean(dtype=float)
    assert rate(30.0, reference) == pytest.approx(expected, rel=0.01)
    assert rate(300.0, reference) == pytest.approx(expected, rel=0.005)
    assert rate(300.0, reference + 6.0) == pytest.approx(2 * expected, rel=0.005)


def test_a_short_flat_shows_the_shutter():
    made, rng = flawless(prnu=0.0, vignette=0.0), np.random.default_rng(5)
    shuttered = Detector.simulated(SHAPE, np.random.default_rng(1), made.design.changed(shutter=0.05))
    short, long = (
        sum(
            expose(shuttered, rng, light=30_000 / exptime, exptime=exptime, filter="R").counts.astype(float)
            for _ in range(4)
        )
        - 4 * made.bias
        for exptime in (0.5, 500.0)
    )
    expected = 1.0 + shuttered.shutter / 0.5
    for part in (np.s_[80:110, 90:120], np.s_[:30, :30]):
        assert np.mean(short[part]) / np.mean(long[part]) == pytest.approx(np.mean(expected[part]), abs=0.002)


def test_saturation_shows_at_its_level_and_is_told():
    made = flawless(read_noise=0.0, bias_structure=0.0)
    shot = expose(made, np.random.default_rng(6), light=1e6, exptime=1.0, filter="R")
    assert shot.saturated.all()
    assert np.all(shot.counts == round(1000 + 85_000 / 1.5))
    clipped = flawless(gain=0.5)
    shot = expose(clipped, np.random.default_rng(6), light=60_000.0, exptime=1.0, filter="R")
    np.testing.assert_array_equal(shot.saturated, shot.counts == 65535)
    assert shot.saturated.any()


def test_cosmic_rays_arrive_at_the_stated_rate_and_where_they_are_told():
    made, rng = flawless(cosmic_rate=1e-5, dark=0.0, read_noise=1.5), np.random.default_rng(7)
    shots = [expose(made, rng, exptime=100.0) for _ in range(20)]
    expected = 20 * 100.0 * 1e-5 * SHAPE[0] * SHAPE[1]
    assert sum(shot.hits.events for shot in shots) == pytest.approx(expected, abs=4 * np.sqrt(expected))
    shot = shots[0]
    charge = np.zeros(SHAPE)
    shot.hits.add_to(charge)
    np.testing.assert_allclose((shot.counts - made.bias) * made.gain, charge, atol=1.5 * 8)


def test_a_bias_has_no_charge_at_all():
    shot = expose(flawless(read_noise=0.0, dark=100.0), np.random.default_rng(8))
    assert shot.hits.events == 0 and not shot.saturated.any()
    np.testing.assert_allclose(shot.counts, flawless(read_noise=0.0).bias, atol=0.51)


# -- nights -----------------------------------------------------------------------------------------------

PLAN = {
    "shape": SHAPE,
    "biases": 8,
    "darks": {60.0: 4, 240.0: 4},
    "flats": {"R": 4, "V": 3},
    "science": {"R": 2, "V": 1},
    "exptime": 60.0,
    "cosmic_rate": 1e-6,
}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Folder and truth of one night, for reading only."""
    folder = tmp_path_factory.mktemp("night") / "raw"
    return folder, ccd_night(folder, seed=5, **PLAN)


def raw(folder, pattern):
    return [fits.getdata(path) for path in sorted(folder.glob(pattern))]


def trimmed(folder, pattern):
    return np.stack([image[:, : SHAPE[1]].astype(float) for image in raw(folder, pattern)])


def test_files_look_like_those_of_a_camera(night):
    folder, truth = night
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    assert names == sorted(truth.tables["files"]["name"]) and len(names) == 26
    kinds = {name.split("-")[0]: fits.getheader(folder / name) for name in names}
    assert {kind: header["IMAGETYP"] for kind, header in kinds.items()} == {
        "bias": "Bias Frame",
        "dark": "Dark Frame",
        "flat": "Flat Field",
        "spiral": "Light Frame",
    }
    header = kinds["spiral"]
    assert (header["BITPIX"], header["BZERO"], header["NAXIS1"]) == (16, 32768, SHAPE[1] + 32)
    assert header["BIASSEC"] == "[209:240,1:192]" and header["TRIMSEC"] == "[1:208,1:192]"
    assert (header["EXPTIME"], header["FILTER"], header["OBJECT"]) == (60.0, "V", "Spiral")
    assert (header["EGAIN"], header["RDNOISE"], header["XBINNING"]) == (1.5, 7.5, 1)
    assert header["CCD-TEMP"] == pytest.approx(-15.0, abs=0.2)
    assert "CTYPE1" not in kinds["flat"] and "FILTER" not in kinds["dark"]


def test_the_truth_is_a_product_in_a_folder_of_its_own(night):
    folder, truth = night
    found = read(folder / "truth" / "truth.fits")
    assert isinstance(found, Product) and found.kind == "truth"
    assert found.identity == truth.identity
    assert found.quantity("gain").value == 1.5
    assert set(truth.units) >= set(truth.planes)


def test_times_follow_each_other(night):
    folder, truth = night
    files = truth.tables["files"]
    gaps = np.diff(files["start"]) / 1e6 - files["exptime"][:-1]
    assert np.all(gaps > 0)
    header = fits.getheader(folder / files["name"][-1])
    assert np.datetime64(header["DATE-OBS"]).astype("M8[us]").astype(np.int64) == files["start"][-1]


def test_biases_show_structure_noise_and_drift(night):
    folder, truth = night
    files = truth.tables["files"]
    offsets = files["offset"][files["kind"] == "bias"]
    stack = trimmed(folder, "bias-*") - offsets[:, np.newaxis, np.newaxis]
    clean = truth.planes["dq"] & np.uint32(DQ.TELEGRAPH | DQ.OTHER_BAD_PIXEL) == 0
    residual = (stack - truth.planes["bias"])[:, clean]
    noise = np.hypot(truth.quantity("read_noise").value, np.sqrt(1 / 12))
    assert np.std(residual) == pytest.approx(noise, rel=0.005)
    assert np.std(residual.mean(axis=0)) == pytest.approx(noise / np.sqrt(8), rel=0.015)
    assert offsets[0] < offsets[2:].min() - 0.7, "the first frame of a series is low"
    levels = np.array([image[:, SHAPE[1] :].mean() for image in raw(folder, "bias-*")])
    np.testing.assert_allclose(
        levels - levels.mean(), offsets - offsets.mean(), atol=4 * 5 / np.sqrt(192 * 32)
    )


def test_the_overscan_leaves_the_structure_alone(night):
    folder, truth = night
    stack = np.stack(raw(folder, "bias-*")).astype(float)
    left = (stack[:, :, : SHAPE[1]] - stack[:, :, SHAPE[1] :].mean(axis=2, keepdims=True)).mean(axis=0)
    clean = truth.planes["dq"] == 0
    expected = truth.planes["bias_structure"][clean]
    assert np.std(left[clean] - expected) < 2.0
    assert np.mean(left[clean] - expected) == pytest.approx(0.0, abs=0.1)


def test_darks_show_rate_and_hot_pixels(night):
    folder, truth = night
    long, bias = np.median(trimmed(folder, "dark-240s-*"), axis=0), truth.planes["bias"]
    rate, noise = truth.planes["dark"], 5.0 / np.sqrt(4) / 240.0
    measured = (long - bias) / 240.0
    assert np.median(measured) == pytest.approx(np.median(rate), abs=0.2 * noise)
    hot = truth.planes["dq"] & np.uint32(DQ.HOT) != 0
    assert hot.sum() > 50
    found = measured > 0.5 * (20 * 0.05 / 1.5)
    assert np.count_nonzero(found & hot) > 0.95 * np.count_nonzero(hot)
    np.testing.assert_allclose(measured[hot], rate[hot], rtol=0.05, atol=8 * noise + 0.1)


def test_flats_show_throughput_at_several_levels(night):
    folder, truth = night
    files = truth.tables["files"]
    for band in ("R", "V"):
        stack = trimmed(folder, f"flat-{band}-*") - truth.planes["bias"]
        asked = files["level"][(files["kind"] == "flat") & (files["filter"] == band)]
        levels = np.median(stack, axis=(1, 2)) * 1.5
        np.testing.assert_allclose(levels, asked, rtol=0.005)
        assert asked[0] / asked[-1] > 2
        master = np.mean(stack / np.median(stack, axis=(1, 2), keepdims=True), axis=0)
        good = truth.planes["dq"] == 0
        assert np.std((master - truth.planes[f"flat_{band}"])[good]) < 0.005


def test_calibrated_science_is_the_scene_within_its_noise(night):
    folder, truth = night
    dark = truth.planes["dark"] * 60.0
    for number, stem in ((0, "spiral-R-001"), (2, "spiral-V-001")):
        files = truth.tables["files"]
        row = int(np.flatnonzero(files["name"] == f"{stem}.fit")[0])
        image = trimmed(folder, f"{stem}.fit")[0] - files["offset"][row] - truth.planes["bias"]
        flat, scene = truth.planes[f"flat_{stem[7]}"], truth.planes[f"scene_{stem}"]
        electrons = (image - dark) * 1.5 / np.maximum(flat, 0.01)
        variance = (7.5**2 + dark * 1.5 + scene * flat) / np.maximum(flat, 0.01) ** 2
        bad = truth.planes["dq"] != 0
        for table in ("hits", "saturated"):
            entries = truth.tables[table]
            own = entries["file"] == row
            bad[entries["row"][own], entries["col"][own]] = True
        pulls = ((electrons - scene) / np.sqrt(variance))[~bad]
        assert np.std(pulls) == pytest.approx(1.0, abs=0.02), number
        assert np.mean(pulls) == pytest.approx(0.0, abs=0.05)


def test_stars_stand_where_the_header_says(night):
    folder, truth = night
    stars = truth.tables["stars"]
    data, header = fits.getdata(folder / "spiral-R-002.fit", header=True)
    x, y = WCS(header, fix=False).all_world2pix(stars["ra"], stars["dec"], 0)
    row, col = round(float(y[-1])), round(float(x[-1]))
    box = data[row - 12 : row + 13, col - 12 : col + 13].astype(float)
    box -= np.median(data)
    columns = box.sum(axis=0)  # along the bleeding
    assert col - 12 + np.average(np.arange(25), weights=columns) == pytest.approx(float(x[-1]), abs=0.3)


def test_the_brightest_star_saturates_and_bleeds(night):
    folder, truth = night
    saturated = truth.tables["saturated"]
    row = int(np.flatnonzero(truth.tables["files"]["name"] == "spiral-R-001.fit")[0])
    own = saturated["file"] == row
    data = fits.getdata(folder / "spiral-R-001.fit")
    values = data[saturated["row"][own], saturated["col"][own]]
    assert np.median(values) == pytest.approx(truth.quantity("saturation").value, abs=10)
    assert np.ptp(saturated["row"][own]) > 3 * np.ptp(saturated["col"][own])


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    small = {"shape": (40, 48), "biases": 1, "darks": {30.0: 1}, "flats": {"R": 1}, "science": {"R": 1}}

    def digests(name, seed):
        product = ccd_night(tmp_path / name, seed=seed, **small)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        return product.identity, [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    one, again, other = digests("a", 1), digests("b", 1), digests("c", 2)
    assert one == again
    assert one[0] != other[0] and not set(one[1]) & set(other[1])


def test_an_added_frame_leaves_the_others_as_they_were(tmp_path):
    small = {"shape": (40, 48), "flats": {}, "science": {}, "darks": {}, "drift": 0.0}
    ccd_night(tmp_path / "two", seed=1, biases=2, **small)
    ccd_night(tmp_path / "three", seed=1, biases=3, **small)
    for name in ("bias-001.fit", "bias-002.fit"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()


def test_two_amplifiers_are_written_as_extensions(tmp_path):
    ccd_night(
        tmp_path, seed=1, shape=(40, 64), biases=1, darks={}, flats={}, science={}, amplifiers=2, overscan=8
    )
    with fits.open(tmp_path / "bias-001.fit") as units:
        assert [unit.name for unit in units] == ["PRIMARY", "AMP1", "AMP2"]
        assert units["AMP2"].data.shape == (40, 40)
        assert units["AMP2"].header["DETSEC"] == "[64:33,1:40]"
        assert units["AMP2"].header["EGAIN"] == pytest.approx(1.56)


def test_levels_of_flats_can_be_given(tmp_path):
    truth = ccd_night(
        tmp_path, seed=1, shape=(40, 48), biases=0, darks={}, flats={"B": (9000.0, 5000.0)}, science={}
    )
    assert truth.tables["files"]["level"].tolist() == [9000.0, 5000.0]
    assert np.median(fits.getdata(tmp_path / "flat-B-002.fit")[:, :48]) == pytest.approx(
        1000 + 5000 / 1.5, rel=0.02
    )


def test_progress_counts_the_files(tmp_path):
    seen = []
    ccd_night(
        tmp_path,
        seed=1,
        shape=(16, 16),
        biases=2,
        darks={},
        flats={},
        science={},
        progress=lambda *step: seen.append(step),
    )
    assert seen == [(1, 2, "bias-001.fit"), (2, 2, "bias-002.fit")]


def test_mistakes_are_explained(tmp_path):
    with pytest.raises(OptionError, match="did you mean temperature"):
        ccd_night(tmp_path, seed=1, temprature=-10.0)
    small = {"seed": 1, "shape": (16, 16), "biases": 1, "darks": {}, "flats": {}, "science": {}}
    ccd_night(tmp_path, **small)
    with pytest.raises(OutputExistsError):
        ccd_night(tmp_path, **small)
    ccd_night(tmp_path, **small, overwrite=True)
