"""measure dark-scaling and dark-library: from files to the fit file, the product, the table and pictures."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import calibrant as cal
from calibrant.cli.dark_scaling import _aligned, _row
from calibrant.cli.tables import lines
from calibrant.files.fit_file import read_fits
from calibrant.files.fits import inspect, write_raw
from calibrant.pipeline.dark_scaling import MODELS, names_of
from calibrant.simulate.dark_pair import load, pair

PUBLISHED = load().coefficients
RANKS = {"RANK-1": "add", "RANK0": "mult", "RANK1": "poly1", "RANK2": "poly2", "RANK3": "poly3"}


@pytest.fixture(scope="module")
def darks():
    return pair(np.random.default_rng(1))


@pytest.fixture(scope="module")
def files(darks, tmp_path_factory):
    """The two darks as plain images of float64 and of int32, and as planes of a level-1 file."""
    folder = tmp_path_factory.mktemp("darks")
    for name, planes in (("float", (darks.dark1, darks.dark2)), ("whole", darks.whole)):
        for number, plane in enumerate(planes, 1):
            write_raw(folder / f"{name}{number}.fits", plane, {"EXPTIME": 60.0})
    whole = darks.whole
    write_raw(
        folder / "mvn_iuv_l1b_cruisecal2-mode080-muv_20140521T120029_v00_r00.fits", None, {},
        [("detector_dark", np.stack([whole[0], *whole]), {}),
         ("detector_raw", np.stack([whole[1] + 100]), {})],
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def scaled(calibrant, files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scaled")
    words = (files / "float1.fits", files / "float2.fits", "--out", folder / "fit.fits", "--json")
    told = calibrant("measure", "dark-scaling", *words, "--models", "add,mult,poly1..9,deming,robust")
    assert told.code == 0, told.err
    return folder, told.json


def l1b(files):
    return next(files.glob("mvn*.fits"))


def test_published_coefficients_come_out_of_files(scaled):
    folder, told = scaled
    rows = {row["model"]: row for row in told["models"]}
    assert list(rows)[:5] == ["add", "mult", "poly1", "poly2", "poly3"] and len(rows) == 13
    for name, values in PUBLISHED.items():
        assert rows[name]["coefficients"] == pytest.approx(values, rel=1e-8), name
    assert rows["mult"]["std"] == pytest.approx(91.49142342107493, rel=1e-8)
    assert rows["mult"]["mean"] == pytest.approx(45.878361, rel=1e-7)
    assert abs(rows["poly1"]["mean"]) < 1e-9
    assert sum(row["chosen"] for row in told["models"]) == 1 and rows[told["chosen"]]["chosen"]
    assert [name.rsplit("/", 1)[-1] for name in told["inputs"]] == ["float1.fits", "float2.fits"]
    found = cal.read(folder / "fit_product.fits")
    assert found.kind == "dark_scaling" and found.identity == told["identity"]


def test_the_fit_file_has_residuals_and_coefficients(scaled, darks):
    folder, _ = scaled
    fits = read_fits(folder / "fit.fits")
    assert [one.extname for one in fits.fits][:5] == list(RANKS)
    assert {"DEMING", "ROBUST"} <= {one.extname for one in fits.fits}
    for extname, name in RANKS.items():
        assert fits[extname].coefficients == pytest.approx(PUBLISHED[name], rel=1e-8)
    left = darks.dark2 - np.polyval(PUBLISHED["poly2"], darks.dark1)
    assert fits["RANK2"].residual == pytest.approx(left, abs=1e-4)
    assert fits["RANK2"].std == pytest.approx(left.std(), rel=1e-6)


def test_whole_numbers_of_a_cube_are_good_to_1e4(calibrant, files, tmp_path):
    out = tmp_path / "dark_fitting.fits"
    planes = (f"{l1b(files)}[1]", f"{l1b(files)}[2]")
    told = calibrant(
        "measure", "dark-scaling", *planes, "-i", "iuvs", "--models", "add,mult,poly1..4",
        "--no-plots", "--out", out,
    )  # fmt: skip
    assert told.code == 0, told.err
    fits = read_fits(out)
    assert fits.dark1.dtype.kind == "i" and fits.dark1.dtype.itemsize == 4
    for extname, name in RANKS.items():
        assert fits[extname].coefficients == pytest.approx(PUBLISHED[name], rel=1e-4), name
    assert abs(fits["RANK1"].residual.mean()) < 1e-9
    inputs = cal.read(tmp_path / "dark_fitting_product.fits").provenance.inputs
    assert [one.name[-17:] for one in inputs] == ["[DETECTOR_DARK,1]", "[DETECTOR_DARK,2]"]
    assert inputs[0].hash == inputs[1].hash and inputs[0].hash.startswith("sha256:")
    # As fits.info printed it: names, number of cards, size, number type.
    rows = [(unit.name or "PRIMARY", len(unit.header.cards), unit.shape, unit.header["BITPIX"])
            for unit in inspect(out).hdus]  # fmt: skip
    assert [count // 80 for _, count, _, _ in rows][:4] == [8, 9, 16, 16]  # longer COEFFS go on in CONTINUE
    assert [(name, shape, bits) for name, _, shape, bits in rows] == [
        ("PRIMARY", (62, 341), 32), ("DARK2", (62, 341), 32),
        *((f"RANK{rank}", (62, 341), -64) for rank in (-1, 0, 1, 2, 3, 4)),
    ]  # fmt: skip
    assert not (tmp_path / "dark_fitting_plots").exists()


def test_pictures_lie_beside_the_fit_file(scaled):
    folder, told = scaled
    drawn = sorted(path.name for path in (folder / "fit_plots").iterdir())
    assert {"degrees.png", "histograms.png", "scatter.png", "residuals.png"} <= set(drawn)
    assert sorted(told["pictures"]) == sorted(str(folder / "fit_plots" / name) for name in drawn)


def test_the_table_fits_a_terminal_of_80_columns(scaled):
    rows = _aligned([_row(row) for row in scaled[1]["models"]])
    told = list(lines(rows, list(rows[0]), 80))
    assert max(map(len, told)) <= 80
    assert sum("*" in line for line in told) == 1


def test_words_for_a_reader(calibrant, files, tmp_path):
    out = tmp_path / "a.fits"
    told = calibrant(
        "measure", "dark-scaling", files / "whole1.fits", files / "whole2.fits", "--hot", "2500",
        "--models", "mult,poly1", "--no-plots", "--out", out, "--product", tmp_path / "b.fits",
    )  # fmt: skip
    assert told.code == 0 and told.err == ""
    assert "pixels are cut (first dark > 2500)" in told.out and "1.5" in told.out
    assert f"fit file: {out}  product: {tmp_path / 'b.fits'}" in told.out
    hot = int((np.round(cal.read(tmp_path / "b.fits").planes["dark_from"]) > 2500).sum())
    assert f"dark scaling of {62 * 341 - hot} pixels" in told.out


def test_a_light_is_fitted_in_its_calm_window(calibrant, files, tmp_path):
    words = (f"{l1b(files)}[2]", f"{l1b(files)}[detector_raw]", "-i", "iuvs", "--models", "add,poly1")
    told = calibrant(
        "measure", "dark-scaling", *words, "--window", "calm", "--no-plots", "--json", "--out",
        tmp_path / "l.fits",
    )  # fmt: skip
    assert told.code == 0, told.err
    add, poly1 = told.json["models"]
    assert add["n"] < 62 * 341 / 10 and add["coefficients"] == pytest.approx([100.0])
    assert poly1["coefficients"] == pytest.approx([1.0, 100.0])


def test_the_first_dark_of_a_file_is_told_to_be_another(calibrant, files, tmp_path):
    words = (
        "-i",
        "iuvs",
        "--models",
        "poly1",
        "--no-plots",
        "--json",
        "--overwrite",
        "--out",
        tmp_path / "o.fits",
    )
    for first, told in ((0, True), (1, False)):
        done = calibrant("measure", "dark-scaling", f"{l1b(files)}[{first}]", f"{l1b(files)}[2]", *words)
        assert any("of order first, the second of order later" in n for n in done.json["notes"]) == told


def test_a_file_without_darks_gives_none_of_its_lights(calibrant, files, tmp_path):
    light = tmp_path / "mvn_iuv_l1b_cruisecal2-mode080-muv_20140522T120029_v00_r00.fits"
    write_raw(light, None, {}, [("detector_raw", np.arange(62 * 341.0).reshape(1, 62, 341), {})])
    for name in (str(light), f"{light}[0]"):
        told = calibrant("measure", "dark-scaling", name, files / "whole2.fits", "--out", tmp_path / "o.fits")
        assert told.code == 2 and "no image 'detector_dark'" in told.sentence


def test_physics_of_a_pair_is_said(calibrant, tmp_path):
    rng = np.random.default_rng(3)
    true = rng.gamma(4.0, 50.0, (60, 80))
    for name, factor, temperature in (("cold", 1.0, -10.0), ("warm", 2.0, -5.0)):
        plane = 900 + factor * true + rng.normal(0, 3, true.shape)
        write_raw(tmp_path / f"{name}.fits", plane, {"EXPTIME": 60.0, "CCD-TEMP": temperature})
    words = ("--models", "affine", "--no-plots", "--zero", "900", "--gain", "1e6", "--read-noise", "3")
    told = calibrant(
        "measure", "dark-scaling", tmp_path / "cold.fits", tmp_path / "warm.fits", *words,
        "--window", "unlit", "--out", tmp_path / "o.fits",
    )  # fmt: skip
    assert told.code == 0, told.err
    line = next(line for line in told.out.splitlines() if line.startswith("affine:"))
    found = re.fullmatch(r"affine: temperature factor ([\d.]+) .*level factor ([\d.]+) .*, drift .*", line)
    assert found is not None, told.out
    assert [float(value) for value in found.groups()] == pytest.approx([2.0, 2.0], abs=0.02)
    assert "times as much" not in told.out
    again = calibrant(
        "measure", "dark-scaling", tmp_path / "cold.fits", tmp_path / "warm.fits", *words, "--json",
        "--overwrite", "--out", tmp_path / "o.fits",
    )  # fmt: skip
    assert again.json["physics"]["temperature_factor"]["value"] == pytest.approx(2.0, abs=0.02)


def test_a_fit_file_can_be_fitted_again(calibrant, scaled, tmp_path):
    fits = scaled[0] / "fit.fits"
    told = calibrant(
        "measure", "dark-scaling", f"{fits}[0]", f"{fits}[dark2]", "--models", "mult", "--no-plots", "--json",
        "--out", tmp_path / "again.fits", "--window", "[1:341,1:31]",
    )  # fmt: skip
    assert told.code == 0, told.err
    assert told.json["models"][0]["n"] == 31 * 341


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("add,mult,poly1..3", ["add", "mult", "poly1", "poly2", "poly3"]),
        ("poly1..poly2, deming", ["poly1", "poly2", "deming"]),
        ("add,add", ["add"]),
    ],
)
def test_names_of_models(text, names):
    assert names_of(text) == names
    assert names_of(MODELS)[-2:] == ["deming", "robust"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("{whole1}", "{whole2}", "--models", "ploy1"), "did you mean 'poly1'"),
        (("{whole1}", "{whole2}", "--models", "poly3..1"), "no model"),
        (("{whole1}", "{whole2}", "--models", ","), "no model is named"),
        (("{whole1}", "{whole2}", "--hot", "warm"), "a cut of hot pixels is a threshold"),
        (("{whole1}", "{whole2}", "--window", "left"), "not a section"),
        (("{whole1}", "{whole2}", "--factors", "one"), "not factors"),
        (("{whole1}", "{whole2}", "--gain", "2"), "--read-noise"),
        (("{whole1}", "{whole2}", "--product", "{out}"), "a file of its own"),
        (("{whole1}", "{missing}"), "there is no such file"),
        (("{whole1}", "{cube}[7]", "-i", "iuvs"), "no such image"),
        (("{whole1}", "{cube}", "-i", "iuvs"), "several images, and one is wanted"),
        (("{whole1}", "{cube}", "-i", "generic-ccd"), "several images, and one is wanted"),
        (("{whole1}", "{cube}[detector_dark]", "-i", "generic-ccd"), "one plane is wanted"),
        (("{whole1}", "{cube}[detector_dark,9]", "-i", "generic-ccd"), "no plane 9"),
        (("{whole1}", "{small}"), "differ in shape"),
        (("{whole1}", "{zero}"), "zero everywhere"),
        (("{whole1}", "{long}"), "exposure time"),
        (("{whole1}", "{whole2}", "--models", "york"), "york needs the noise of each pixel"),
        (("{whole1}", "{whole2}", "--hot", "1e-3"), "leaves none"),
        (("{whole1}", "{whole2}", "--window", "[1:900,1:15]"), "beyond the image"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(calibrant, files, tmp_path, words, sentence):
    write_raw(tmp_path / "small.fits", np.arange(12.0).reshape(3, 4), {"EXPTIME": 60.0})
    write_raw(tmp_path / "zero.fits", np.zeros((62, 341)), {"EXPTIME": 60.0})
    write_raw(tmp_path / "long.fits", np.random.default_rng(0).normal(0, 1, (62, 341)), {"EXPTIME": 90.0})
    places = {
        "whole1": files / "whole1.fits", "whole2": files / "whole2.fits", "cube": l1b(files),
        "out": tmp_path / "out.fits", "missing": tmp_path / "missing.fits",
        **{name: tmp_path / f"{name}.fits" for name in ("small", "zero", "long")},
    }  # fmt: skip
    given = [word.format(**places) for word in words]
    told = calibrant("measure", "dark-scaling", *given, "--out", places["out"], "--no-plots")
    assert told.code == 2 and sentence in told.sentence
    assert not places["out"].exists()


def test_files_in_the_way_are_kept(calibrant, files, tmp_path):
    words = ("measure", "dark-scaling", files / "whole1.fits", files / "whole2.fits", "--models", "mult")
    words += ("--no-plots", "--out", tmp_path / "a.fits")
    assert calibrant(*words).code == 0
    assert "exists already" in calibrant(*words).sentence
    (tmp_path / "a.fits").unlink()
    assert "a_product.fits" in calibrant(*words).sentence and not (tmp_path / "a.fits").exists()
    assert calibrant(*words, "--overwrite").code == 0


def test_a_name_without_suffix_is_a_folder(calibrant, files, tmp_path):
    words = ("measure", "dark-scaling", files / "whole1.fits", files / "whole2.fits", "--models", "mult")
    words += ("--no-plots", "--out", tmp_path / "new" / "scaled")
    told = calibrant(*words, "--json")
    assert told.code == 0, told.err
    folder = tmp_path / "new" / "scaled"
    assert sorted(path.name for path in folder.iterdir()) == ["dark_fitting.fits", "dark_scaling.fits"]
    assert told.json["out"] == str(folder / "dark_fitting.fits")
    assert "exists already" in calibrant(*words).sentence
    (tmp_path / "file").touch()
    assert "folder cannot be made" in calibrant(*words[:-1], tmp_path / "file" / "x").sentence


def test_register_keeps_a_draft_and_its_files(calibrant, files, tmp_path):
    db = tmp_path / "registry.db"
    assert calibrant("registry", "init", "--db", db).code == 0
    told = calibrant(
        "measure", "dark-scaling", files / "whole1.fits", files / "whole2.fits", "--models", "mult,poly1",
        "--no-plots", "--out", tmp_path / "a.fits", "--register", "--db", db, "--json",
    )  # fmt: skip
    assert told.code == 0, told.err
    assert told.json["registered"]["products"] == 1 and told.json["registered"]["exposures"] == 2
    listed = calibrant("registry", "ls", "--db", db, "--json")
    assert "dark_scaling" in listed.out


# --- the library ---


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Darks of three times at two temperatures, months apart, with their biases."""
    folder, rng = tmp_path_factory.mktemp("grid"), np.random.default_rng(3)
    rate = rng.gamma(4.0, 0.25, (24, 32))
    for month, temperature in ((1, -10.0), (7, 0.0)):
        factor = np.exp(-0.65 / 8.617333e-5 * (1 / (273.15 + temperature) - 1 / 268.15))
        facts = {"CCD-TEMP": temperature, "INSTRUME": "cam"}
        for number in range(4):
            cards = {**facts, "EXPTIME": 0.0, "IMAGETYP": "Bias Frame"}
            cards["DATE-OBS"] = f"2024-0{month}-01T00:0{number}:00"
            plane = 300 + rng.normal(0, 3.0, rate.shape)
            write_raw(folder / f"bias{month}{number}.fits", plane.round().astype(np.uint16), cards)
        for number, time in enumerate((60.0, 60.0, 300.0, 300.0, 600.0, 600.0)):
            cards = {**facts, "EXPTIME": time, "IMAGETYP": "Dark Frame"}
            cards["DATE-OBS"] = f"2024-0{month}-02T00:{number:02}:00"
            signal = rng.poisson(rate * factor * time) + 300 + rng.normal(0, 3.0, rate.shape)
            write_raw(folder / f"dark{month}{number}.fits", signal.round().astype(np.uint16), cards)
    return folder


def test_a_library_of_a_folder(calibrant, grid, tmp_path):
    told = calibrant("measure", "dark-library", grid, "--out", tmp_path / "out", "--json")
    assert told.code == 0, told.err
    (entry,) = told.json["products"]
    assert entry["file"] == "dark_library.fits" and entry["frames"] == 12
    values = {q["name"]: q["value"] for q in entry["quantities"]}
    assert values["activation_energy"] == pytest.approx(0.65, abs=0.03)
    assert (values["temperature_min"], values["temperature_max"]) == pytest.approx((-10.0, 0.0))
    names = {re.sub(r".*_", "", name) for name in entry["pictures"]}
    assert names == {"maps.png", "law.png", "energies.png"}
    found = cal.read(tmp_path / "out" / "dark_library.fits")
    assert found.kind == "dark_library" and json.dumps(found.keys, default=str)


def test_a_library_needs_darks(calibrant, grid, tmp_path):
    told = calibrant("measure", "dark-library", grid, "--out", tmp_path, "--where", "exptime>1000")
    assert told.code == 2 and "no frame to measure the library of darks on" in told.sentence
