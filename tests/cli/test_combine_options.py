"""Options of combine and debug-pixel that change the result, against the same options in Python."""

from __future__ import annotations

import numpy as np
import pytest

import calibrant as cal
from calibrant.files.fits import read
from calibrant.frame import DQ


@pytest.fixture
def hit(frame):
    """Six frames of 400 adu and read noise 5; one has a hit of 300 adu, one a saturated pixel."""
    rng = np.random.default_rng(4)
    cube = np.round(rng.normal(400, 5, (6, 24, 32))).astype(np.uint16)
    cube[2, 10, 12] += 300
    cube[4, 3, 4] = 65000
    return [frame(f"h{i}.fit", data) for i, data in enumerate(cube)]


NOISE = ("--gain", "1.5", "--read-noise", "5")


def test_ccdclip_takes_its_noise_from_gain_and_read_noise(calibrant, hit, tmp_path):
    out = tmp_path / "m.fits"
    words = ("combine", *hit, "--method", "mean", "--reject", "ccdclip", "-o", out)
    assert calibrant(*words, *NOISE, "--quiet").code == 0
    made = read(out).load()
    expected = cal.combine(hit, method="mean", reject="ccdclip", noise=cal.Noise(5.0, 1.5))
    np.testing.assert_array_equal(made.data, expected.data)
    np.testing.assert_array_equal(made.extra["propagated"], expected.extra["propagated"])
    assert made.extra["high"][10, 12] == 1
    assert calibrant(*words, "--read-noise", "16", "--overwrite", "--quiet").code == 0


def test_ccdclip_without_noise_says_how_to_give_it(calibrant, hit, tmp_path):
    told = calibrant("combine", *hit, "--reject", "ccdclip", "-o", tmp_path / "m.fits")
    assert told.code == 2
    assert "noise=Noise(read_noise, gain)" in told.sentence and "--gain and --read-noise" in told.sentence


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gain", "1.5"), "--read-noise"),
        (("--gain", "0", "--read-noise", "5"), "gain must be positive"),
        (("--read-noise", "-1"), "not negative"),
        (("--reject", "minmax", "--keep", "7"), "at most 6, got 7"),
        (("--grow", "1"), "nothing to grow"),
        (("--budget", "1KB"), "got 1 kB"),
        (("--method", "weighted"), "a weighted mean needs weights"),
    ],
)
def test_what_cannot_be_meant_is_refused(calibrant, hit, tmp_path, words, said):
    told = calibrant("combine", *hit, *words, "-o", tmp_path / "m.fits")
    assert told.code == 2 and said in told.sentence
    assert not (tmp_path / "m.fits").exists()


def test_grow_keep_and_saturation(calibrant, hit, tmp_path):
    out = tmp_path / "m.fits"
    words = ("--method", "mean", "--reject", "ccdclip", *NOISE, "--grow", "1", "--keep", "2")
    told = calibrant("combine", *hit, *words, "--saturation", "60000", "-o", out, "--quiet")
    assert told == (0, "", "")
    made = read(out).load()
    assert made.extra["high"][10, 11:14].tolist() == [1, 1, 1]
    assert made.extra["count"][3, 4] == 5 and made.extra["high"][3, 4] == 0
    expected = cal.combine(
        hit,
        method="mean",
        reject="ccdclip",
        noise=cal.Noise(5.0, 1.5),
        grow=1,
        n_keep=2,
        limits=(None, 60000),
    )
    np.testing.assert_array_equal(made.data, expected.data)
    calibrant("combine", hit[4], "--saturation", "60000", "-o", out, "--overwrite", "--quiet")
    assert read(out).load().dq[3, 4] & DQ.SATURATED


def test_debug_pixel_has_the_same_options(calibrant, hit):
    words = ("--row", "10", "--col", "12", "--method", "mean", "--reject", "ccdclip", *NOISE, "--json")
    values = calibrant("debug-pixel", *hit, *words).json["values"]
    assert [value["fate"] == "used" for value in values] == [True, True, False, True, True, True]
    words = ("--row", "3", "--col", "4", "--saturation", "60000", "--scale", "1,1,1,1,1,2", "--json")
    values = calibrant("debug-pixel", *hit, *words).json["values"]
    assert "left out: SATURATED" in values[4]["fate"]
    assert values[5]["combined"] == 2 * values[5]["raw"]


def test_scale_and_zero_by_name(calibrant, hit, tmp_path):
    words = ("--scale", "median", "--zero", "mean", "-o", tmp_path / "m.fits", "--quiet")
    assert calibrant("combine", *hit, *words).code == 0


def test_a_missing_option_is_exit_2_and_named(calibrant, hit):
    told = calibrant("combine", *hit)
    assert told.code == 2 and "--out" in told.err and "Traceback" not in told.err


def test_flags_are_drawn_by_class(calibrant, hit, tmp_path):
    from PIL import Image

    calibrant("combine", hit[4], "--saturation", "60000", "-o", tmp_path / "m.fits", "--quiet")
    assert calibrant("show", tmp_path / "m.fits", "-o", tmp_path / "x.png", "--plane", "dq").code == 0
    page = np.asarray(Image.open(tmp_path / "x.png").convert("RGB")).reshape(-1, 3)
    assert (page == (0xD5, 0x5E, 0x00)).all(axis=1).sum() > 50  # the colour of what is saturated
