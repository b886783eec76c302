"""A folder of raw frames to measurements: groups, masters, what is kept, corrected and refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import calibrant as cal
from calibrant.errors import ConfigError, OptionError, OutputExistsError, SelectionError
from calibrant.files.fits import write_raw
from calibrant.pipeline.measure import find, measure
from calibrant.pipeline.measurements import MEASUREMENTS

ROWS, COLS, BLIND = 96, 80, 16  # of one amplifier, and columns of its overscan
GAINS = {"A": 1.5, "B": 1.2}
NOISE = 6.0  # electrons
LEVELS = np.geomspace(300.0, 45_000.0, 9)  # electrons
TIME = 1e-3  # seconds for an electron

CAMERA = f"""
name = "bench"
extends = "generic-ccd"
match = {{ flat = ["detector", "binning", "filter"] }}
[detectors.d]
shape = [{ROWS}, {2 * (COLS + BLIND)}]
saturation = 60000.0
[[detectors.d.amplifiers]]
name = "A"
data = "[1:{COLS},1:{ROWS}]"
overscan = "[{COLS + 1}:{COLS + BLIND},1:{ROWS}]"
place = "[1:{COLS},1:{ROWS}]"
[[detectors.d.amplifiers]]
name = "B"
data = "[{COLS + 2 * BLIND + 1}:{2 * (COLS + BLIND)},1:{ROWS}]"
overscan = "[{COLS + BLIND + 1}:{COLS + 2 * BLIND},1:{ROWS}]"
place = "[{COLS + 1}:{2 * COLS},1:{ROWS}]"
"""


def image(electrons, rng, bend=0.0):
    """A raw frame of two amplifiers, uint16; `bend` is what is missing at 45 000 electrons."""
    out = np.empty((ROWS, 2 * (COLS + BLIND)))
    for index, gain in enumerate(GAINS.values()):
        half = rng.normal(1000.0, NOISE / gain, (ROWS, COLS + BLIND))
        light = rng.poisson(electrons, (ROWS, COLS))
        half[:, :COLS] += light / gain * (1 - bend * light / 45_000.0)
        out[:, index * (COLS + BLIND) :][:, : COLS + BLIND] = half if index == 0 else half[:, ::-1]
    return np.clip(np.rint(out), 0, 65535).astype(np.uint16)


def folder(path, levels=LEVELS, bend=0.0, filters=("r",), biases=4):
    """Biases, and a pair of flats at each level in each filter."""
    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    plan = [("bias", 0.0, None)] * biases
    plan += [("flat", level, name) for name in filters for level in levels for _ in range(2)]
    for number, (kind, level, name) in enumerate(plan):
        cards = {"IMAGETYP": kind, "EXPTIME": round(TIME * level, 4)}
        cards["DATE-OBS"] = f"2024-03-01T20:{number // 60:02d}:{number % 60:02d}"
        cards |= {} if name is None else {"FILTER": name}
        write_raw(path / f"{kind}-{number:03d}.fits", image(level, rng, bend), cards)
    return path


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    path = tmp_path_factory.mktemp("camera") / "bench.toml"
    path.write_text(CAMERA)
    return path


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("measure") / "raw")


def test_gains_of_a_folder(raw, camera, tmp_path):
    measured = cal.measure(raw, "gain", out=tmp_path / "m", instrument=camera, options={"lags": 2})
    (entry,) = measured.entries
    assert entry["file"] == "gain_r.fits" and (tmp_path / "m" / "gain_r.fits").exists()
    product = cal.read(tmp_path / "m" / "gain_r.fits")
    for name, gain in GAINS.items():
        quantity = product.quantity("gain", name)
        assert abs(quantity.value - gain) < 4 * quantity.sigma < 0.05 * gain
        assert abs(quantity.value - 1.1 * gain) > 4 * quantity.sigma
    kinds = {entry["kind"] for entry in measured.workshop.entries.values()}
    assert kinds == {"bias", "linearity", "gain"}
    parents = set(product.provenance.parents)
    assert {e["identity"] for e in measured.workshop.entries.values() if e["kind"] != "gain"} == parents


def test_what_was_made_is_kept(raw, camera, tmp_path):
    first = measure(raw, "charge-transfer", out=tmp_path, instrument=camera)
    again = measure(raw, "charge_transfer", out=tmp_path, instrument=camera)
    assert [entry["reused"] for entry in first.entries + again.entries] == [False, True]
    assert first.entries[0]["identity"] == again.entries[0]["identity"]
    with pytest.raises(OutputExistsError, match="other options"):
        measure(raw, "charge-transfer", out=tmp_path, instrument=camera, options={"pixels": 3})
    other = measure(
        raw, "charge-transfer", out=tmp_path, instrument=camera, options={"pixels": 3}, overwrite=True
    )
    assert not other.entries[0]["reused"]


def test_linearity_comes_before_the_gain(camera, tmp_path):
    """Counts that fall 4 % behind lower the variance twice as much; corrected, the gain is the true one."""
    bent = folder(tmp_path / "raw", bend=0.04)
    straight = measure(bent, "gain", out=tmp_path / "a", instrument=camera, options={"lags": 0})
    raw_counts = measure(
        bent, "gain", out=tmp_path / "b", instrument=camera, options={"lags": 0}, corrections=False
    )
    a00 = {
        word: [found.product("gain_r").quantity("a00", name) for name in GAINS]
        for word, found in (("corrected", straight), ("as read", raw_counts))
    }
    assert all(abs(q.value) < 4 * q.sigma for q in a00["corrected"])
    assert all(q.value < -4 * q.sigma for q in a00["as read"])


def test_one_level_is_not_corrected_and_said(camera, tmp_path):
    few = folder(tmp_path / "raw", levels=[9000.0], filters=("r", "g"))
    measured = measure(few, "gain", out=tmp_path / "m", instrument=camera)
    assert sorted(entry["name"] for entry in measured.entries) == ["gain_g", "gain_r"]
    assert len(measured.notes) == 2 and all("not corrected for the linearity" in n for n in measured.notes)
    assert "pairs" in measured.entries[0]["notes"][-1]


def test_a_linearity_of_another_filter_will_do(camera, tmp_path):
    """Counts bend alike in all filters: the levels of r correct the one level of g."""
    mixed = folder(tmp_path / "raw", bend=0.04)
    for path in sorted(folder(tmp_path / "more", levels=[9000.0], filters=("g",), bend=0.04).glob("flat*")):
        path.rename(mixed / f"late-{path.name}")
    measured = measure(mixed, "gain", out=tmp_path / "m", instrument=camera, options={"lags": 0})
    assert measured.notes == ["gain_g: corrected with linearity_r"]
    bent, straight = measured.product("linearity_r"), measured.product("gain_g")
    assert bent.identity in straight.provenance.parents


def test_a_group_that_fails_costs_only_itself(camera, tmp_path):
    """One filter has levels, the other has one."""
    mixed = folder(tmp_path / "raw")
    for number, path in enumerate(
        sorted(folder(tmp_path / "more", levels=[9000.0], filters=("g",)).iterdir())
    ):
        if path.name.startswith("flat"):
            path.rename(mixed / f"late-{number}.fits")
    measured = measure(mixed, "linearity", out=tmp_path / "m", instrument=camera)
    assert [entry["name"] for entry in measured.entries] == ["linearity_r"]
    (problem,) = measured.problems
    assert problem["file"] == "linearity_g" and "level" in problem["problem"]
    with pytest.raises(SelectionError, match="three levels of light"):
        measure(mixed, "linearity", out=tmp_path / "n", instrument=camera, where="filter=g")
    assert not (tmp_path / "n").exists() or not list((tmp_path / "n").glob("linearity*"))


def test_registered_as_drafts(raw, camera, tmp_path):
    with cal.Registry.create(tmp_path / "c.db") as registry:
        measured = measure(raw, "linearity", out=tmp_path / "m", instrument=camera, register=registry)
        assert measured.registered["products"] == 2 and measured.registered["exposures"] == 22
        identity = measured.entries[0]["identity"]
        assert registry.known(identity) is not None
        again = measure(raw, "linearity", out=tmp_path / "m", instrument=camera, register=registry)
        assert again.registered["known"] == 2


def test_words_that_mean_nothing(raw, camera, tmp_path):
    with pytest.raises(OptionError, match="did you mean 'linearity'"):
        find("linearty")
    with pytest.raises(ConfigError, match="did you mean 'model'"):
        measure(raw, "gain", out=tmp_path / "m", instrument=camera, options={"modle": "full"})
    with pytest.raises(ConfigError, match=r"measure gain\.model has a value that means nothing"):
        measure(raw, "gain", out=tmp_path / "m", instrument=camera, options={"model": "fulll"})
    with pytest.raises(SelectionError, match="no frame to measure crosstalk on"):
        measure(raw, "crosstalk", out=tmp_path / "m", instrument=camera)
    with pytest.raises(SelectionError, match="where filter=z"):
        measure(raw, "gain", out=tmp_path / "m", instrument=camera, where="filter=z")
    assert not (tmp_path / "m").exists()


def test_on_the_command_line(raw, camera, tmp_path, capsys):
    from calibrant.cli import main

    words = ["measure", "charge-transfer", str(raw), "-o", str(tmp_path / "m"), "-i", str(camera)]
    with pytest.raises(SystemExit) as left:
        main([*words, "--no-plots"])
    told = capsys.readouterr().out
    assert not left.value.code and "cti_serial" in told and "charge_transfer_r (18 frames, made)" in told
    with pytest.raises(SystemExit):
        main([*words, "--json"])
    facts = json.loads(capsys.readouterr().out)
    (product,) = facts["products"]
    assert product["reused"] and {q["place"] for q in product["quantities"]} == set(GAINS)
    assert product["pictures"] and all((tmp_path / "m" / name).exists() for name in product["pictures"])
    with pytest.raises(SystemExit) as left:
        main([*words, "--set", "pixels"])
    assert left.value.code == 2 and "name=value" in capsys.readouterr().err


def test_every_measurement_is_a_command():
    from calibrant.cli.measure import ABOUT, NAMES

    assert list(NAMES) == [one.name for one in MEASUREMENTS] and set(ABOUT) == set(NAMES)
