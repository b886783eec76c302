"""The file of simulated darks: what it holds, its truth, and the command that writes it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from calibrant.cli.app import app
from calibrant.errors import OptionError, OutputExistsError
from calibrant.exposures import Exposures
from calibrant.files.fits import read
from calibrant.frame import DQ
from calibrant.simulate.dark_pair import load
from calibrant.simulate.dark_pair_file import simulate

NAME = "mvn_iuv_l1b_cruisecal2-mode080-muv_20140521T120029_v00_r00.fits.gz"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("raw"), seed=1, lights=3)


@pytest.fixture(scope="module")
def truth(written):
    return read(written.truth)


@pytest.fixture(scope="module")
def planes(written):
    found = Exposures.scan(written.raw, "iuvs")
    return {
        kind: [frame.load().data.astype(np.float64) for frame in found.where(kind=kind).frames()]
        for kind in ("dark", "light")
    }


def test_the_file_holds_darks_and_lights(written, planes):
    assert written.raw.name == NAME
    assert {kind: len(frames) for kind, frames in planes.items()} == {"dark": 3, "light": 3}
    assert all(frame.shape == (62, 341) for frames in planes.values() for frame in frames)


def test_the_last_two_darks_are_the_published_pair(planes, truth):
    _, x, y = (plane.ravel() for plane in planes["dark"])
    np.testing.assert_allclose(np.polyfit(x, y, 1), (1.2535862923342835, 129.03443681032883), rtol=1e-4)
    assert np.abs(x.reshape(62, 341) - truth.planes["dark1"]).mean() < 0.3
    assert np.abs(y.reshape(62, 341) - truth.planes["dark2"]).mean() < 0.6


def test_the_first_dark_is_of_another_nature(planes):
    first, x, y = planes["dark"]
    line = np.polyfit(x.ravel(), first.ravel(), 1)
    left = first - np.polyval(line, x)
    assert left[:6].mean() - left[-20:].mean() > 80
    assert left[:, 1::2].mean() - left[:, ::2].mean() == pytest.approx(35.0, abs=3.0)
    pair = y - np.polyval(np.polyfit(x.ravel(), y.ravel(), 1), x)
    assert abs(pair[:, 1::2].mean() - pair[:, ::2].mean()) < 3.0


def test_lights_are_a_scaled_dark_and_light(planes, truth):
    light, dark, signal = planes["light"][0], planes["dark"][2], truth.planes["signal"]
    unlit = signal == 0
    assert 0.2 < unlit.mean() < 0.6 and unlit[:12, :34].all()  # where a calm window of 12 x 34 fits
    slope, offset = np.polyfit(dark[unlit], light[unlit], 1)
    assert slope == pytest.approx(truth.quantity("slope", "light").value, abs=0.01)
    assert offset == pytest.approx(truth.quantity("offset", "light").value, abs=5.0)
    left = light - 0.9 * dark - 15.0 - signal
    level = 0.9 * truth.planes["dark2"] + 15.0 + signal
    pulls = left / np.sqrt(64.0 + level / 2.0)
    assert pulls.std() == pytest.approx(1.0, abs=0.03)
    assert not np.array_equal(light, planes["light"][1])


def test_the_truth_says_what_was_published(truth):
    assert truth.kind == "truth"
    table = truth.tables["coefficients"]
    rows = list(zip(table["model"], table["power"], table["value"], strict=True))
    assert ("add", 0, 235.82480370850152) in rows and ("mult", 1, 1.4510501785354721) in rows
    assert [row[1:] for row in rows if row[0] == "poly2"] == [
        (2, -0.00010518865504002474),
        (1, 1.4888327725011952),
        (0, 58.913645957805009),
    ]
    assert truth.quantity("std", "mult").value == pytest.approx(91.49142342107493, rel=1e-10)
    assert truth.quantity("rms", "mult").value == pytest.approx(102.34991, rel=1e-6)
    assert truth.quantity("std", "poly3").value < truth.quantity("std", "poly2").value
    hot = truth.planes["dq"] == DQ.HOT
    assert hot.mean() == pytest.approx(load().hot_fraction, abs=0.003)
    np.testing.assert_allclose(
        truth.planes["dark2"] - np.polyval([v for n, _, v in rows if n == "poly3"], truth.planes["dark1"]),
        truth.planes["noise"],
        atol=1e-9,
    )


def test_the_same_seed_gives_the_same_bytes(written, tmp_path):
    again = simulate(tmp_path, seed=1, lights=3)
    assert again.raw.read_bytes() == written.raw.read_bytes()
    with pytest.raises(OutputExistsError):
        simulate(tmp_path, seed=1)
    other = simulate(tmp_path, seed=2, lights=0, overwrite=True)
    assert other.raw.read_bytes() != written.raw.read_bytes()
    assert {one.kind for one in Exposures.scan(other.raw, "iuvs")} == {"dark"}


def test_mistakes(tmp_path):
    with pytest.raises(OptionError, match="cannot be negative"):
        simulate(tmp_path / "raw", seed=-1)
    with pytest.raises(OptionError, match="cannot be negative"):
        simulate(tmp_path / "raw", seed=1, lights=-1)
    assert not (tmp_path / "raw").exists()


def test_the_command(tmp_path):
    told = CliRunner().invoke(app, ["simulate", "dark-pair", "--out", str(tmp_path / "raw"), "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["raw"].endswith(NAME)
    again = CliRunner().invoke(app, ["simulate", "dark-pair", "--out", str(tmp_path / "raw")])
    assert again.exit_code == 2 and "exists already" in again.stderr
