"""measure read-noise and compare: files of all detectors, epochs, one file, options by their names."""

from __future__ import annotations

import json

import pytest
from astropy.io import fits

from calibrant.cli import main
from calibrant.cli.measure import as_set

ARRAY = ("--rows", "128", "--cols", "128", "--groups", "8", "--detectors", "NRCA1,NRCB3", "-q")


def run(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code


@pytest.fixture(scope="module")
def darks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("darks")
    assert run("simulate", "infrared", "--out", folder / "ground", "--files", 3, "--seed", 1, *ARRAY) == 0
    words = ("--start", "2027-06-01T00:00:00", "--noise", "1.2", "--files", 2, "--seed", 2, *ARRAY)
    assert run("simulate", "infrared", "--out", folder / "flight", *words) == 0
    return folder


def test_all_detectors_and_epochs_of_a_folder(darks, tmp_path, capsys):
    assert run("measure", "read-noise", darks, "--method", "stack", "--out", tmp_path / "m", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    names = [entry["name"] for entry in told["products"]]
    assert len(names) == 5 and names[-1] == "read_noise_trend"
    assert all((tmp_path / "m" / picture).exists() for picture in told["pictures"]) and told["pictures"]
    for entry in told["products"][:-1]:
        with fits.open(tmp_path / "m" / entry["beside"][0]) as hdus:
            assert hdus[0].header["REFTYPE"] == "READNOISE" and hdus[0].header["TELESCOP"] == "JWST"
    changes = {q["place"]: q["value"] for q in told["products"][-1]["quantities"] if q["name"] == "change"}
    assert changes["NRCA1"] > 0 and changes["NRCB3"] > 0


def test_one_file_and_its_words(darks, tmp_path, capsys):
    words = ("--where", "detector=NRCA1", "--no-plots", "--author", "A. Nobody", "--single-value")
    out = tmp_path / "readnoise.fits"
    assert run("measure", "read-noise", darks / "ground", "--out", out, *words) == 0
    assert f"product: {out}" in capsys.readouterr().out and out.exists()
    head = fits.getheader(tmp_path / "readnoise" / "read_noise_reference.fits")
    assert head["AUTHOR"] == "A. Nobody"
    assert run("measure", "read-noise", darks / "ground", "--out", tmp_path / "two.fits") == 2
    assert "one file is to hold them" in capsys.readouterr().err
    assert run("measure", "read-noise", darks / "ground", "--out", tmp_path / "x", "--metod", "ramp") == 2
    assert "did you mean 'method'" in capsys.readouterr().err


def test_flight_is_compared_with_ground(darks, tmp_path, capsys):
    for epoch in ("flight", "ground"):
        assert run("measure", "read-noise", darks / epoch, "--out", tmp_path / epoch, "--no-plots", "-q") == 0
    assert run("compare", tmp_path / "flight", tmp_path / "ground", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["compared"]) == 2 and not told["agree"]
    assert all("read_noise by +" in one["verdict"] for one in told["compared"])
    own = tmp_path / "ground" / "read_noise_detNRCA1.fits"
    assert run("compare", own, own.with_name("read_noise_detNRCA1_reference.fits")) == 0
    assert "agrees" in capsys.readouterr().out
    assert run("compare", tmp_path / "flight", darks / "ground" / "truth") == 2


def test_mixed_patterns_are_measured_apart_and_named(darks, tmp_path, capsys):
    """Two epochs of one pattern, one of another: each file is named, and only one pattern has a trend."""
    words = ("--pattern", "BRIGHT1", "--files", 1, "--seed", 3, "--detectors", "NRCA1", *ARRAY[:-3], "-q")
    assert run("simulate", "infrared", "--out", tmp_path / "other", *words) == 0
    out = tmp_path / "m"
    assert run("measure", "read-noise", darks, tmp_path / "other", "--out", out, "--json", "--no-plots") == 0
    told = json.loads(capsys.readouterr().out)
    names = [entry["name"] for entry in told["products"]]
    assert len(names) == 6 and [name for name in names if "trend" in name] == ["read_noise_trend"]
    (note,) = told["notes"]
    assert "NRCA1: readpatt differs" in note and "BRIGHT1 in jw01062001001_02101_00001_nrca1_uncal" in note
    assert (
        run("measure", "read-noise", darks, tmp_path / "nowhere", "--out", tmp_path / "n", "--no-plots") == 0
    )
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith("left out")]
    assert line.count("nowhere") == 1


def test_words_of_a_measurement():
    own = {"--out", "--set"}
    words = [
        "dir",
        "--method",
        "ramp",
        "--as-published",
        "--out",
        "x",
        "--box=64",
        "--no-single-value",
        "--zz",
    ]
    assert list(as_set(words, own, "read-noise")) == [
        "dir", "--set", "method=ramp", "--set", "as_published=true", "--out", "x", "--set", "box=64",
        "--set", "single_value=false", "--zz",
    ]  # fmt: skip
