"""measure ramp and what goes before it, on files, with pictures."""

from __future__ import annotations

import json

import pytest

from calibrant.cli import main

ARRAY = ("--rows", "64", "--cols", "64", "--groups", "6", "--detectors", "NRCA1", "-q")


def run(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("ramps")
    assert run("simulate", "infrared", "--out", place, "--files", 3, "--seed", 1, *ARRAY) == 0
    return place


def measured(capsys, *words):
    assert run("measure", *words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_slopes_of_each_file(folder, tmp_path, capsys):
    told = measured(capsys, "ramp", folder, "--out", tmp_path / "m", "--method", "fixsen")
    assert len(told["products"]) == 3 and len(told["pictures"]) == 9
    assert all((tmp_path / "m" / picture).exists() for picture in told["pictures"])
    assert all("nrca1" in entry["name"] for entry in told["products"])
    one = sorted(folder.rglob("*uncal.fits"))[0]
    assert run("measure", "ramp", one, "--out", tmp_path / "slope.fits", "--no-plots", "-q") == 0
    assert (tmp_path / "slope.fits").exists()


@pytest.mark.parametrize("name, pictures", [("superbias", 1), ("dark-ramp", 2)])
def test_products_of_darks(folder, tmp_path, capsys, name, pictures):
    told = measured(capsys, name, folder, "--out", tmp_path / "m")
    assert len(told["products"]) == 1 and len(told["pictures"]) == pictures
    assert {q.get("place") for q in told["products"][0]["quantities"]} >= {"1", "2", "3", "4"}


def test_linearity_of_flats(tmp_path, capsys):
    array = ("--rows", "64", "--cols", "64", "--groups", "8", "--detectors", "NRCA1", "-q")
    words = ("--files", 2, "--light", 200_000, "--seed", 2)
    assert run("simulate", "infrared", "--out", tmp_path / "flats", *words, *array) == 0
    told = measured(capsys, "ramp-linearity", tmp_path / "flats", "--order", 2, "--out", tmp_path / "m")
    share = [q["value"] for q in told["products"][0]["quantities"] if q["name"] == "nonlinearity"]
    assert len(share) == 4 and max(map(abs, share)) < 1  # those that are simulated are linear
    assert len(told["pictures"]) == 1
