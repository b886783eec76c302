"""``calibrant simulate`` has a command for each camera file."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from calibrant.cli.app import app
from calibrant.simulate.cameras import names


def run(*words):
    return CliRunner().invoke(app, ["simulate", *map(str, words)])


def test_each_camera_has_its_command():
    told = run("--help").output
    assert "comcam" in names() and all(name in told for name in names())


def test_part_of_a_camera(tmp_path):
    options = ("--detectors", "0, 4", "--bands", "r", "--biases", 1, "--darks", 0, "--flats", 2)
    told = run("comcam", "-o", tmp_path, *options, "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    # Two days of 1 bias and 2 flats, one of 2 flats of less light, and the visit in r.
    assert found["files"] == 2 * (2 * 3 + 2 + 1) + 2 == len(list(tmp_path.rglob("*.fits")))
    assert [path.rsplit("/", 1)[1] for path in found["truth"]] == ["R22_S00.fits", "R22_S11.fits"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--detectors", "0,x"), "not numbers of detectors"),
        (("--detectors", "12"), "no such detector"),
        (("--bands", "R"), "no such band"),
        (("--size", "reel"), "did you mean real"),
        (("--seed", "-3"), "negative"),
        (("--flats", "-1"), "negative"),
    ],
)
def test_mistakes_leave_one_sentence(tmp_path, options, sentence):
    told = run("comcam", "-o", tmp_path / "raw", *options)
    assert told.exit_code == 2
    assert sentence in told.stderr and told.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.fits"))
