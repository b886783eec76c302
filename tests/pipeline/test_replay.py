"""The whole way as a user goes it, on the command line: a frozen state repeats a reduction bit for bit."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from calibrant.cli import main
from calibrant.files.fits import read

OFF = ("--set", "steps_options.cosmic_rays.enabled=false", "--no-plots")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A command in a folder of its own: exit code, what it printed, and its error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALIBRANT_REGISTRY", raising=False)

    def command(*words):
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        told = capsys.readouterr()
        return left.value.code or 0, told.out, told.err

    return command


@pytest.fixture
def library(run, raw, tmp_path):
    """Masters of a night, verified and certified; and a folder of its science frames alone."""
    assert run("registry", "init")[0] == 0
    assert run("reduce", raw, "--register", "--out", "first", *OFF)[0] == 0
    certify(run, tmp_path / "first")
    (tmp_path / "science").mkdir()
    for path in raw.glob("spiral*"):
        shutil.copy(path, tmp_path / "science")
    return tmp_path


def certify(run, out, *more):
    """Verify and certify all masters; returns what was said of the verdict on each."""
    verdicts = {}
    for path in sorted((out / "masters").glob("*.fits")):
        code, said, error = run("registry", "verify", path)
        assert code == 0, said + error
        verdicts[path.stem] = said
        code, _, error = run("registry", "certify", path, "--tag", "DP1", *more)
        assert code == 0, error
    return verdicts


def contents(out):
    """Every byte of the calibrated frames, and the identities of what was applied to them."""
    paths = sorted((out / "calibrated").glob("*.fits"))
    assert paths
    products = {path.name: [step.product for step in read(path).history] for path in paths}
    return {path.name: path.read_bytes() for path in paths}, products


def chosen(out):
    return {
        entry["name"]: entry["identity"] for entry in json.loads((out / "summary.json").read_text())["stock"]
    }


def test_a_frozen_state_repeats_a_reduction_and_a_difference_is_judged(run, library, raw):
    code, said, _ = run("reduce", "science", "--registry", "--tag", "DP1", "--out", "now", *OFF)
    assert code == 0
    for name, identity in chosen(library / "now").items():
        digits = identity.removeprefix("sha256:")[:12]
        assert re.search(rf"^{name} +{digits} +DP1 +\.\.\. +\.\.\.$", said, re.MULTILINE)  # it says so
    revision = re.search(r"--as-of (\d+) chooses the same again", said)
    assert run("registry", "freeze", "paper")[0] == 0

    # Other masters of the same frames are certified in their place.
    change = ("--set", "measure.flat.method=median", "--set", "measure.bias.method=median")
    assert run("reduce", raw, "--register", "--out", "second", *OFF, *change)[0] == 0
    verdicts = certify(run, library / "second", "--replace")
    assert_the_difference_was_judged(verdicts["bias"], library)
    assert run("reduce", "science", "--registry", "--tag", "DP1", "--out", "later", *OFF)[0] == 0
    first, later = contents(library / "now"), contents(library / "later")
    assert set(first[0]) == set(later[0])
    assert all(first[0][name] != later[0][name] for name in first[0])
    assert chosen(library / "now") != chosen(library / "later")

    for number, state in enumerate(("paper", revision[1])):
        out = f"again{number}"
        code, _, error = run(
            "reduce", "science", "--registry", "--as-of", state, "--tag", "DP1", "--out", out, *OFF
        )
        assert code == 0, error
        assert contents(library / out) == first
        assert chosen(library / out) == chosen(library / "now")


def assert_the_difference_was_judged(said, library):
    """Of a master against the last certified one."""
    last = chosen_bias(library)
    assert f"against the last certified one, {last}, data by " in said
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line.startswith("difference")}
    assert set(lines) == {"difference", "difference_width", "difference_outliers"}
    assert lines["difference"][2:] == ["sigma", "-5", "5", "pass"]


def chosen_bias(library):
    return read(library / "first" / "masters" / "bias.fits").identity.removeprefix("sha256:")[:12]
