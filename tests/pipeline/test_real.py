"""Real frames of two cameras, against numbers that were measured independently."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from astropy.io import fits

from calibrant.cli import main
from calibrant.files.fits import read

pytestmark = pytest.mark.real


def run(*words):
    with pytest.raises(SystemExit) as left:
        main([*map(str, words), "--quiet"])
    assert left.value.code in (0, None)


@pytest.fixture(scope="module")
def stl(real_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("stl") / "out"
    run("reduce", real_data / "stl1001", "--instrument", "stl1001", "--out", out, "--no-plots")
    return out, json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def st402(real_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("st402") / "out"
    run("reduce", real_data / "st402", "--instrument", "st402", "--out", out, "--no-plots")
    return out, json.loads((out / "summary.json").read_text())


def master(summary, name):
    return next(entry for entry in summary["masters"] if entry["name"] == name)


def number(entry, name):
    return next(quantity["value"] for quantity in entry["quantities"] if quantity["name"] == name)


def test_a_folder_without_science_frames(stl):
    _, summary = stl
    assert summary["exposures"] == {"bias": 20, "dark": 22, "flat": 10}
    assert summary["frames"] == [] and summary["problems"] == []
    assert "there are no science frames: only masters were made" in summary["warnings"]


@pytest.mark.parametrize(("name", "noise"), [("bias_-5C", 6.70), ("bias_-10C", 6.56)])
def test_read_noise(stl, name, noise):
    entry = master(stl[1], name)
    assert number(entry, "read_noise") == pytest.approx(noise, abs=0.03)
    assert entry["frames"] == 10


def test_the_scatter_of_a_pixel_is_another_number(stl):
    """6.45 is the median of the standard deviations of ten values each: low, as of small samples."""
    entry = master(stl[1], "bias_-5C")
    assert number(entry, "pixel_std_median") == pytest.approx(6.45, abs=0.03)
    assert (
        number(entry, "pixel_std_median") < number(entry, "pixel_noise_median") < number(entry, "read_noise")
    )


@pytest.mark.parametrize("name", ["bias_-5C", "bias_-10C"])
def test_the_first_bias_of_a_series_is_one_adu_low(stl, name):
    entry = master(stl[1], name)
    levels = np.array(entry["tables"]["frames"]["level"])
    assert levels.argmin() == 0
    assert -1.5 < levels[0] - np.median(levels[1:]) < -0.5
    assert -1.0 < number(entry, "first_offset") < -0.5  # against the mean of all others
    assert 0.8 < number(entry, "drift_range") < 1.5


def test_gain_of_flat_pairs(stl):
    (flat,) = [entry for entry in stl[1]["masters"] if entry["kind"] == "flat"]
    assert 1.925 <= number(flat, "pair_gain") <= 1.95


@pytest.mark.parametrize(
    ("name", "counts"), [("dark_-5C", {300.0: 105, 60.0: 22.8}), ("dark_-10C", {300.0: 52.4})]
)
def test_dark_levels_by_exposure_time(stl, name, counts):
    table = master(stl[1], name)["tables"]["frames"]
    times, levels = np.array(table["time"]), np.array(table["median"])
    for time, expected in counts.items():
        assert np.median(levels[times == time]) == pytest.approx(expected, rel=0.02)


def test_dark_is_linear_and_halves_in_five_degrees(stl):
    warm, cold = (master(stl[1], name) for name in ("dark_-5C", "dark_-10C"))
    assert abs(number(warm, "nonlinearity")) < 2
    assert number(warm, "rate") / number(cold, "rate") == pytest.approx(2.0, abs=0.1)


# --- the slit spectrograph ---


def test_kinds_by_name(st402):
    _, summary = st402
    assert summary["exposures"] == {"dark": 15, "flat": 9, "light": 10, "star": 2, "arc": 2}
    assert len(summary["frames"]) == 14 and not summary["problems"] and not summary["missing"]


def test_removed_darks_are_known(st402):
    _, summary = st402
    for entry in summary["frames"]:
        own = "sci" not in entry["name"]
        assert ("dark" in entry["steps"]) != own, entry["name"]
        assert "pedestal" in entry["steps"]
    # One of the five red flats carries the card; the levels of the other four speak.
    told = [note for note in summary["warnings"] if "has no dark left" in note]
    assert len(told) == 4 and all("L2-flat-red-180" in note for note in told)


def test_removed_darks_are_known_without_any_card(real_data, tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for path in (real_data / "st402").glob("*.FIT"):
        shutil.copy(path, folder / path.name)
        with fits.open(folder / path.name, mode="update", output_verify="ignore") as units:
            for card in ("HISTORY", "BIAS", "PEDESTAL"):
                units[0].header.remove(card, ignore_missing=True, remove_all=True)
    run("reduce", folder, "--instrument", "st402", "--out", tmp_path / "out", "--no-plots")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    for entry in summary["frames"]:
        assert ("dark" in entry["steps"]) == ("sci" in entry["name"]), entry["name"]
    told = [note for note in summary["warnings"] if "has no dark left" in note]
    assert len(told) == 9  # five flats, two arcs, two stars


def test_pedestals_jump_by_twenty_adu(st402):
    _, summary = st402
    assert any(
        "levels of frames of one time differ by 2" in note and "dark_1200s" in note
        for note in summary["warnings"]
    )
    table = master(summary, "dark_1200s")["tables"]["frames"]
    levels = np.array(table["level"])
    assert 15 < np.ptp(levels) < 25


@pytest.mark.parametrize(("setting", "time"), [("hg", 240), ("neon", 1200)])
def test_no_dark_is_left_in_the_spectra(st402, setting, time):
    """Hot pixels of the dark do not stand out of their neighbours in the calibrated frames."""
    out, summary = st402
    dark = read(out / "masters" / f"dark_{time}s.fits")
    slopes = []
    for entry in summary["frames"]:
        if f"sci-{setting}" not in entry["name"]:
            continue
        frame = read(out / entry["file"]).load()
        data = frame.data / 1.49  # adu
        slopes.append(slope_on_dark(data, dark.data))
    assert len(slopes) == 5
    for slope, sigma in slopes:
        assert abs(slope) < max(5 * sigma, 0.03)
    mean = np.mean([slope for slope, _ in slopes])
    assert abs(mean) < 0.02
    raw = np.mean([slope_on_dark(data + dark.data, dark.data)[0] for data in [frame.data / 1.49]])
    assert abs(raw - 1) < 0.05  # the measure would see a dark that is still there


def slope_on_dark(data, dark):
    """Height above the neighbours in the frame against that in the dark, for hot pixels, robustly."""
    from scipy.ndimage import median_filter

    hot = dark - median_filter(dark, 5)
    here = (hot > 100) & (dark < 40000)
    above = (data - median_filter(data, (1, 5)))[here]
    x = hot[here]
    ratios = above / x
    good = np.isfinite(ratios)
    centre = np.median(ratios[good])
    spread = 1.4826 * np.median(np.abs(ratios[good] - centre))
    return centre, 1.2533 * spread / np.sqrt(good.sum())


def test_spectra_have_lines_and_quiet_ground(st402):
    out, summary = st402
    for entry in summary["frames"]:
        if "sci" not in entry["name"]:
            continue
        frame = read(out / entry["file"]).load()
        good = frame.dq == 0  # not where the slit lets no light of the lamp through
        assert good.mean() > 0.6
        assert abs(np.median(frame.data[good])) < 15  # electron
