"""An instrument file is tried on a raw file; amplifiers in HDUs of their own bring their own gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibrant.exposures import Exposures
from calibrant.exposures.fit import fit
from calibrant.files.fits import write_raw

TWO = """name = "two"
extends = "generic-ccd"
layout = { form = "amplifiers" }
[header.detector]
default = "main"
[detectors.main]
shape = [6, 10]
[[detectors.main.amplifiers]]
name = "L"
hdu = "AMP1"
data = "[1:8,1:6]"
overscan = "[9:10,1:6]"
place = "[1:8,1:6]"
[[detectors.main.amplifiers]]
name = "R"
hdu = "AMP2"
data = "[1:8,1:6]"
overscan = "[9:10,1:6]"
place = "[16:9,1:6]"
"""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    cards = ({"EGAIN": 1.5, "RDNOISE": 7.0}, {"EGAIN": 1.7, "RDNOISE": 9.0})
    planes = [(f"AMP{n + 1}", np.full((6, 10), 1000 + n, np.uint16), more) for n, more in enumerate(cards)]
    write_raw(tmp_path / "raw.fit", None, {"IMAGETYP": "bias", "EXPTIME": 0.0, "EGAIN": 9.0}, planes)
    return tmp_path / "raw.fit"


def described(folder: Path, text: str = TWO) -> Path:
    path = folder / "two.toml"
    path.write_text(text)
    return path


def test_a_file_that_fits(raw: Path) -> None:
    assert fit(described(raw.parent), raw) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("[6, 10]", "[6, 12]", 7, "HDU 1 AMP1 is 6 x 10 rows x cols, not 6 x 12"),
        ('"AMP2"', '"AMP3"', 16, "no image 'AMP3'; it has 1 AMP1, 2 AMP2"),
        ("[16:9,1:6]", "[16:10,1:6]", 19, "another size than data"),
    ],
)
def test_what_does_not_fit_is_told_with_file_and_line(
    old: str, new: str, line: int, words: str, raw: Path
) -> None:
    (finding,) = fit(described(raw.parent, TWO.replace(old, new)), raw)
    assert finding.line == line
    assert words in str(finding)
    assert str(raw) in str(finding)


def test_a_section_outside_the_image_of_a_single_file(tmp_path: Path) -> None:
    write_raw(tmp_path / "one.fit", np.ones((6, 10), np.uint16), {"IMAGETYP": "bias", "EXPTIME": 0.0})
    text = TWO.replace('layout = { form = "amplifiers" }\n', "").replace("shape = [6, 10]\n", "")
    text = text.replace("[9:10,1:6]", "[9:12,1:6]", 1).split('[[detectors.main.amplifiers]]\nname = "R"')[0]
    (finding,) = fit(described(tmp_path, text.replace('hdu = "AMP1"\n', "")), tmp_path / "one.fit")
    assert finding.place == "detectors.main.amplifiers[0].overscan"
    assert "columns 8 to 12) reaches outside the 6 x 10" in finding.what


def test_two_images_for_a_single_layout_are_told(raw: Path) -> None:
    (finding,) = fit("generic-ccd", raw)
    assert "holds 2 images (AMP1, AMP2)" in finding.what


def test_each_amplifier_has_the_gain_of_its_own_unit(raw: Path) -> None:
    found = Exposures.scan(raw, described(raw.parent))
    exposure = found[0]
    left, right = found.instrument.readouts(exposure)
    assert (left.gain, right.gain, left.read_noise, right.read_noise) == (1.5, 1.7, 7.0, 9.0)
    assert found.instrument.nominal(exposure)[:2] == (1.6, 8.0)
    stated = TWO.replace('name = "R"', 'name = "R"\ngain = 2.0')
    found = Exposures.scan(raw, described(raw.parent, stated))
    assert [readout.gain for readout in found.instrument.readouts(found[0])] == [1.5, 2.0]


def test_a_missing_amplifier_is_a_problem(raw: Path) -> None:
    found = Exposures.scan(raw, described(raw.parent, TWO.replace("AMP2", "AMP3")))
    (problem,) = found.problems
    assert "no image 'AMP3'" in problem.sentence and str(raw) in problem.sentence
