"""Exposures to pixels: sources, frames, steps, amplifiers in units of their own; and the facade `combine`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

import calibrant as cal
from calibrant.errors import OptionError, SelectionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.files.fits import write_raw
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import load
from calibrant.product import Product
from calibrant.stack.pixel import PixelStep
from calibrant.stack.source import Encoding, Source

SHAPE = (7, 9)


@pytest.fixture
def cube() -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).integers(900, 60000, (5, *SHAPE), np.uint16)


@pytest.fixture
def folder(tmp_path: Path, cube: np.ndarray[Any, Any]) -> Path:
    for n, image in enumerate(cube):
        cards = {
            "IMAGETYP": "dark",
            "EXPTIME": 10.0,
            "OBJECT": f"no {n}",
            "DATE-OBS": f"2020-01-01T00:0{n}:00",
        }
        write_raw(tmp_path / f"d{n}.fit", image, cards)
    return tmp_path


def test_sources_give_the_pixels(folder: Path, cube: np.ndarray[Any, Any]) -> None:
    sources = Exposures.scan(folder).sources()
    assert all(isinstance(source, Source) and source.shape == SHAPE for source in sources)
    for source, image in zip(sources, cube, strict=True):
        np.testing.assert_array_equal(source.load(), image)


def test_frames_stay_in_their_files_until_loaded(folder: Path, cube: np.ndarray[Any, Any]) -> None:
    exposures = Exposures.scan(folder)
    frame = exposures.frame(2)
    assert not isinstance(frame.data, np.ndarray)
    assert frame.exposure is exposures[2] and frame.exposure.kind == "dark"
    assert frame.header is not None and "OBJECT" in frame.header and frame.unit == "adu"
    np.testing.assert_array_equal(frame.load().data, cube[2])
    assert len(list(exposures.frames())) == 5


def test_steps_are_done_when_pixels_are_read(folder: Path, cube: np.ndarray[Any, Any]) -> None:
    rate = np.arange(63, dtype=np.float32).reshape(SHAPE)

    def dark(exposure: Exposure) -> PixelStep:
        return PixelStep("dark", product="sha256:d", offset=rate, offset_factor=exposure.duration or 0.0)

    def flat(exposure: Exposure) -> PixelStep:
        return PixelStep("flat", product="sha256:f", divisor=2.0, unit="")

    exposures = Exposures.scan(folder).through(dark).through(flat)
    expected = (cube.astype(np.float32) - 10 * rate) / 2
    assert exposures.parents == ("sha256:d", "sha256:f")
    assert exposures.where(kind="dark")[1:3].parents == exposures.parents
    np.testing.assert_allclose(exposures.sources()[1].load(), expected[1], rtol=1e-6)
    frame = exposures.frame(1)
    np.testing.assert_allclose(frame.data, expected[1], rtol=1e-6)
    assert [step.effect for step in frame.history] == ["dark", "flat"] and frame.unit == ""
    assert Exposures.scan(folder).parents == ()


class Doubled:
    """A step that wraps the source: every value twice, the last row trimmed away."""

    parents = ("sha256:w",)

    def wrap(self, source: Source, exposure: Exposure) -> Source:
        return _DoubledSource(source)


class _DoubledSource:
    has_dq = True
    encoding = Encoding("=f4")

    def __init__(self, source: Source) -> None:
        self.source, self.name, self.shape = source, source.name, (source.shape[0] - 1, source.shape[1])

    def read_into(self, rows: slice, data: Any, dq: Any = None) -> None:
        data[...] = 2 * self.source.load()[:-1][rows]
        if dq is not None:
            dq[...] = DQ.HOT


def test_steps_may_wrap_the_source(folder: Path, cube: np.ndarray[Any, Any]) -> None:
    def add(exposure: Exposure) -> PixelStep:
        return PixelStep("pedestal", offset=-100.0)

    exposures = Exposures.scan(folder).through(add, Doubled(), add)
    expected = 2 * (cube[:, :-1].astype(np.float32) + 100) + 100
    source = exposures.sources()[4]
    assert source.shape == (6, 9) and exposures.parents == ("sha256:w",)
    out, dq = np.empty((2, 9), np.float32), np.empty((2, 9), np.uint32)
    source.read_into(slice(2, 4), out, dq)
    np.testing.assert_allclose(out, expected[4, 2:4], rtol=1e-6)
    assert (dq == DQ.HOT).all()
    np.testing.assert_allclose(exposures.frame(4).data, expected[4], rtol=1e-6)


def test_what_is_no_step_is_refused(folder: Path) -> None:
    with pytest.raises(OptionError, match="a step is a function"):
        Exposures.scan(folder).through("dark")  # type: ignore[arg-type]
    plain, prepared = Exposures.scan(folder), Exposures.scan(folder).through(Doubled())
    with pytest.raises(SelectionError, match="different steps"):
        _ = plain + prepared


def test_inputs_are_named_with_the_hash_of_their_bytes(folder: Path) -> None:
    import hashlib

    first = Exposures.scan(folder).inputs()[0]
    assert first.name.endswith("d0.fit")
    assert first.hash == "sha256:" + hashlib.sha256((folder / "d0.fit").read_bytes()).hexdigest()


def test_a_product_is_no_exposure(folder: Path) -> None:
    cal.write(
        Product("bias", planes={"data": np.zeros(SHAPE, np.float32)}, units={"data": "adu"}),
        folder / "p.fits",
    )
    exposures = Exposures.scan(folder).where(file="p.fits")
    with pytest.raises(SelectionError, match="holds a product"):
        exposures.frame(0)


def test_amplifiers_in_units_of_their_own_are_put_together(tmp_path: Path) -> None:
    text = """
    name = "two"
    extends = "generic-ccd"
    [layout]
    form = "amplifiers"
    [[detectors.main.amplifiers]]
    name = "L"
    hdu = "A1"
    data = "[1:4,1:5]"
    place = "[1:4,1:5]"
    [[detectors.main.amplifiers]]
    name = "R"
    hdu = 2
    data = "[5:2,1:5]"
    place = "[5:8,1:5]"
    """
    toml = tmp_path / "two.toml"
    toml.write_text(text)
    left, right = (
        np.arange(30, dtype=np.uint16).reshape(5, 6),
        100 + np.arange(30, dtype=np.uint16).reshape(5, 6),
    )
    write_raw(tmp_path / "x.fits", None, {"IMAGETYP": "dark"}, [("A1", left, ()), ("A2", right, ())])
    exposures = Exposures.scan(tmp_path / "x.fits", toml)
    assert exposures.problems == () and exposures.shape == (5, 8) and exposures[0].kind == "dark"
    expected = np.hstack([left[:, :4], right[:, 4:0:-1]])
    np.testing.assert_array_equal(exposures.sources()[0].load(), expected)
    np.testing.assert_array_equal(exposures.frame(0).load().data, expected)


def test_amplifiers_with_overscan_stand_side_by_side_as_they_are(tmp_path: Path) -> None:
    text = """
    name = "two"
    [layout]
    form = "amplifiers"
    [detectors.main]
    shape = [5, 6]
    [[detectors.main.amplifiers]]
    name = "L"
    hdu = 1
    data = "[1:4,1:5]"
    overscan = "[5:6,1:5]"
    place = "[1:4,1:5]"
    [[detectors.main.amplifiers]]
    name = "R"
    hdu = 2
    data = "[6:3,1:5]"
    overscan = "[1:2,1:5]"
    place = "[5:8,1:5]"
    """
    toml = tmp_path / "two.toml"
    toml.write_text(text)
    left = np.arange(30, dtype=np.uint16).reshape(5, 6)
    write_raw(tmp_path / "x.fits", None, (), [("A1", left, ()), ("A2", left + 100, ())])
    exposures = Exposures.scan(tmp_path / "x.fits", toml)
    image = exposures.sources()[0].load()
    np.testing.assert_array_equal(image, np.hstack([left, left + 100]))
    first, second = exposures.instrument.readouts(exposures[0])
    np.testing.assert_array_equal(image[first.data], left[:, :4])
    np.testing.assert_array_equal(image[second.data], (left + 100)[:, :1:-1])
    assert second.overscan is not None
    np.testing.assert_array_equal(image[second.overscan], (left + 100)[:, :2])


# --- combine ---


def test_combine_takes_files_arrays_frames_and_exposures(folder: Path, cube: np.ndarray[Any, Any]) -> None:
    expected = np.median(cube, axis=0).astype(np.float32)
    paths = sorted(folder.glob("d*.fit"))
    inputs: dict[str, Any] = {
        "paths": paths,
        "text": [str(path) for path in paths],
        "glob": str(folder / "d*.fit"),
        "folder": folder,
        "cube": cube,
        "arrays": list(cube),
        "generator": (image for image in cube),
        "frames": [Frame(image) for image in cube],
        "CCDData": [CCDData(image.astype(float), unit="adu") for image in cube],
        "mixture": [paths[0], cube[1], Frame(cube[2]), paths[3], cube[4]],
        "exposures": Exposures.scan(folder),
    }
    for name, given in inputs.items():
        frame = cal.combine(given, runner="serial")
        np.testing.assert_array_equal(frame.data, expected, err_msg=name)
        assert frame.unit == "adu" and (frame.extra["count"] == 5).all(), name


def test_the_combined_frame_tells_what_was_done(folder: Path) -> None:
    frame = cal.combine(folder, "mean", reject=cal.MinMax(1, 1), runner="serial")
    assert frame.variance is not None and frame.dq is not None
    assert set(frame.extra) == {"count", "low", "high"}
    assert (frame.extra["count"] == 3).all() and (frame.extra["low"] == 1).all()
    (step,) = frame.history
    assert (
        step.effect == "combine" and step.options["method"] == "mean" and "MinMax" in step.options["reject"]
    )
    exposure = frame.exposure
    assert (exposure.kind, exposure.duration, exposure.object) == ("dark", 10.0, None)
    assert exposure.mid == Exposures.scan(folder).epoch
    assert frame.header is not None and "no 0" in frame.header


def test_the_variance_is_that_of_the_scatter(cube: np.ndarray[Any, Any]) -> None:
    frame = cal.combine(cube, "mean", runner="serial")
    np.testing.assert_allclose(frame.variance, cube.astype(float).var(axis=0, ddof=1) / 5, rtol=1e-4)


def test_the_unit_is_that_of_the_cards(tmp_path: Path) -> None:
    for n, unit in enumerate(("electrons", "e-", "adu")):
        fits.writeto(tmp_path / f"{n}.fits", np.ones((2, 3), np.float32), fits.Header({"BUNIT": unit}))
    assert cal.combine([tmp_path / "0.fits", tmp_path / "1.fits"], runner="serial").unit == "electron"
    with pytest.raises(UnitError, match="different units"):
        cal.combine(tmp_path, runner="serial")


def test_bad_cards_do_not_keep_images_from_being_combined(tmp_path: Path) -> None:
    for n in range(3):
        write_raw(
            tmp_path / f"{n}.fit", np.full((2, 3), n, np.uint16), {"EXPTIME": "long", "DATE-OBS": "never"}
        )
    assert (cal.combine(tmp_path, runner="serial").data == 1).all()


def test_combine_says_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="no images to combine"):
        cal.combine([])
    with pytest.raises(OptionError, match="no images: expected"):
        cal.combine(3)
    with pytest.raises(OptionError, match="input 1: this is no image"):
        cal.combine([np.zeros((2, 2)), 3])
    with pytest.raises(ShapeError, match="images of several sizes"):
        cal.combine([np.zeros((2, 2)), np.zeros((2, 3))])
    (tmp_path / "empty.fit").write_bytes(b"")
    with pytest.raises(cal.errors.FileError, match="empty"):
        cal.combine([folder / "d0.fit", tmp_path / "empty.fit"])
    with pytest.raises(SelectionError, match="no such file"):
        cal.combine([folder / "d0.fit", tmp_path / "none.fit"])


def test_one_pixel_can_be_followed(folder: Path, cube: np.ndarray[Any, Any]) -> None:
    story = str(cal.debug_pixel(folder, 2, 3, reject=cal.MinMax(1, 1)))
    for value in cube[:, 2, 3]:
        assert str(value) in story


# --- real frames ---


@pytest.mark.real
def test_the_real_campaigns_are_understood(real_data: Path) -> None:
    first = Exposures.scan(real_data / "stl1001", "auto")
    assert repr(first) == "<Exposures: 20 bias, 22 dark, 10 flat of stl1001>" and not first.problems
    assert {key: len(part) for key, part in first.where(kind="bias").group_by("temperature").items()} == {
        (-10.203,): 10,
        (-4.818,): 10,
    }
    assert len(first.where(kind="dark", exptime=60, temperature=-5)) == 11
    second = Exposures.scan(real_data / "st402", "auto")
    counts = {key: len(part) for key, part in second.group_by("kind", "setting").items()}
    assert counts == {
        ("arc", "hg"): 1,
        ("arc", "neon"): 1,
        ("dark", None): 15,
        ("flat", "hg"): 4,
        ("flat", "neon"): 5,
        ("light", "hg"): 5,
        ("light", "neon"): 5,
        ("star", "hg"): 1,
        ("star", "neon"): 1,
    }
    assert second.one("binning") == (2, 1) and second.shape == (255, 765)
    gone = second.where(applied="dark")
    assert sorted({e.kind for e in gone}) == ["arc", "flat", "star"] and len(gone) == 5
    assert load("st402").nominal(second[0]).gain == 1.49


@pytest.mark.real
def test_the_median_of_real_biases(real_data: Path) -> None:
    biases = Exposures.scan(real_data / "stl1001", "stl1001").where(kind="bias", temperature=-10)
    images = [fits.getdata(path) for path in biases.paths]
    np.testing.assert_array_equal(cal.combine(biases).data, np.median(images, axis=0).astype(np.float32))
