"""compare: campaigns by slice, more than two products, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from calibrant.cli import compare_slices, main
from calibrant.effects import campaigns
from calibrant.errors import SelectionError
from calibrant.exposures import Exposures
from calibrant.files.fits import read, write
from calibrant.frame import Exposure, Frame
from calibrant.instrument.slices import Line, slice_map
from calibrant.pipeline.measure_choice import Choice
from calibrant.product import Product, Quantity
from calibrant.report.plots import figures


def run(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code


def products(folder, values):
    for name, value in values.items():
        found = (Quantity("gain", value, 0.01, "electron/adu", "0"), Quantity("all", value, 0.01))
        plane = {"data": np.full((4, 4), value, np.float32)}
        write(
            Product("gain", keys={"detector": "0"}, planes=plane, quantities=found), folder / f"{name}.fits"
        )
    return [folder / f"{name}.fits" for name in values]


def test_several_epochs_against_the_first(tmp_path, capsys):
    paths = products(tmp_path, {"may": 1.0, "june": 1.001, "july": 1.5})
    assert run("compare", *paths, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["agrees"] for one in told["compared"]] == [True, False]
    assert run("compare", *paths, "--by", "amplifier", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert all(len(one["quantities"]) == 1 for one in told["compared"])
    assert run("compare", paths[0]) == 2
    assert run("compare", *paths, "--by", "moon") == 2


SHAPE = 60, 60
SLICES = slice_map(
    {1: Line((20.0, 0, -2.0), (5.0, 0.1), 15.0, 0.2), 2: Line((40.0, 0, -2.0), (5.0, 0.1), 15.0, 0.2)}, SHAPE
)


def frame(campaign, gain=1.0):
    noise = np.random.default_rng(len(campaign)).normal(0, 1, SHAPE)
    light = np.where(SLICES.ids > 0, 300.0 * gain, 0.0) + 5 + noise
    facts = Exposure(campaign=campaign, keys={"band": "1A", "source": "lamp"})
    return Frame(light.astype(np.float32), variance=np.ones(SHAPE, np.float32), unit="adu/s", exposure=facts)


def test_one_frame_of_each_campaign(monkeypatch):
    series = Exposures.from_frames([frame("A"), frame("BB")])
    assert [one.campaign for one in compare_slices._chosen(series, None)] == ["A", "BB"]
    with pytest.raises(SelectionError, match="one frame"):
        compare_slices._chosen(Exposures.from_frames([frame("A"), frame("A")]), None)
    other = frame("CCC")
    other = replace(other, exposure=replace(other.exposure, keys={"band": "2A", "source": "lamp"}))
    with pytest.raises(SelectionError, match="CCC") as told:
        compare_slices._chosen(Exposures.from_frames([frame("A"), frame("BB"), other]), "band=1A")
    assert "lamp 2A" in str(told.value)


def test_product_and_pictures(tmp_path):
    found = campaigns.measure({"A": frame("A"), "BB": frame("BB", 1.1)}, SLICES)
    files = compare_slices._written(found, found, tmp_path / "out", False)
    assert len(files) == 1 + len(figures(found)) and {"changes", "model", "gaps"} <= set(figures(found))
    back = read(files[0])
    assert back.quantity("gain", "BB").value == pytest.approx(1.1, abs=0.01)
    facts = compare_slices._facts(found, files)
    assert len(facts["tables"]["model"]) == 4
    assert "gain changed" in facts["changed"][0]
    before = replace(found, epoch=None)
    files = compare_slices._written(found, before, tmp_path / "more", False)
    assert len(files) == 2 + len(figures(found)) and any("before_and_after" in name for name in files)


def test_stray_light_is_left_in_for_the_picture_before():
    assert compare_slices._without(Choice(correct="row-parity,stray_light")).correct == "row-parity"
    assert compare_slices._without(Choice(correct="stray-light")).correct is None
    assert compare_slices._without(Choice(correct="row-parity")) is None


@pytest.mark.soak
def test_the_simulated_slicer(tmp_path, capsys):
    assert run("simulate", "slicer-demo", "--out", tmp_path / "raw", "--seed", 1, "-q") == 0
    words = (
        "--by",
        "slice",
        "-i",
        "slicer-demo",
        "--where",
        "source=internal",
        "--reference",
        "FM",
        "--json",
    )
    assert run("compare", tmp_path / "raw", *words, "--json") == 0
    trend = {row["campaign"]: row for row in json.loads(capsys.readouterr().out)["tables"]["trend"]}
    assert trend["CV3"]["structure"] == pytest.approx(1.5, abs=0.05)
    assert trend["CV3"]["edge"] == pytest.approx(0.0, abs=0.03)
    assert trend["OTIS"]["gain"] == pytest.approx(0.99 / 1.03, abs=0.002)
    assert trend["FM"]["gap_background"] < min(trend[n]["gap_background"] for n in ("CV3", "OTIS"))
