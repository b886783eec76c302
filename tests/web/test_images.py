"""Whatever a file holds: the right pixels, exactly, or one clear sentence."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as afits

from calibrant.errors import OptionError
from calibrant.files.fits import write, write_raw
from calibrant.frame import DQ, Applied, Exposure, Frame
from calibrant.product import Product, Quantity
from calibrant.web import describe
from calibrant.web.planes import exact_text
from calibrant.web.shelf import Shelf
from calibrant.web.tiles import Place, tile

RNG = np.random.default_rng(8)


def opened(thing: object) -> tuple[Shelf, list[str]]:
    shelf = Shelf()
    return shelf, shelf.add_paths([thing]) if isinstance(thing, Path) else shelf.add(thing)


def pixels(shelf: Shelf, image: str, plane: str = "data", read: int = 0) -> np.ndarray:
    """The whole of level 0, put together of its tiles."""
    rows, cols = shelf.view(image).plane(plane).shape
    lines = []
    for ty in range(-(-rows // 512)):
        line = [tile(shelf, Place(image, plane, read, 0, ty, tx)) for tx in range(-(-cols // 512))]
        lines.append(np.hstack([np.frombuffer(t.body, f"<{t.encoding}").reshape(t.shape) for t in line]))
    return np.vstack(lines)


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "f4", "i4", "f8", "i8"])
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_every_type_is_exact_or_says_that_it_is_not(tmp_path: Path, kind: str, suffix: str) -> None:
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        image = RNG.normal(1e4, 1e3, (40, 600)).astype(dtype)
    else:
        info = np.iinfo(dtype)
        image = RNG.integers(info.min, info.max, (40, 600), dtype, endpoint=True)
    image[0, 0], image[39, 599] = 0, 1
    path = tmp_path / f"a{suffix}"
    write_raw(path, image)
    shelf, (name,) = opened(path)
    meta = describe.meta(shelf, name)
    assert meta["dtype"] == dtype.name
    (plane,) = meta["planes"]
    assert plane["encoding"] == ("u2" if kind in ("u1", "u2") else "f4")
    assert plane["exact"] == (kind not in ("i4", "f8", "i8"))
    drawn = pixels(shelf, name)
    np.testing.assert_array_equal(drawn, image.astype(drawn.dtype))
    for row, col in ((0, 0), (3, 7), (39, 599)):
        text = describe.pixel(shelf, name, row, col, 0)["planes"]["data"]["text"]
        assert dtype.type(text if dtype.kind == "f" else int(text)) == image[row, col]


def test_tile_compressed_files(tmp_path: Path) -> None:
    image = RNG.integers(0, 65535, (700, 900), np.uint16)
    path = tmp_path / "a.fits.fz"
    afits.HDUList([afits.PrimaryHDU(), afits.CompImageHDU(image)]).writeto(path)
    shelf, (name,) = opened(path)
    assert describe.meta(shelf, name)["dtype"] == "uint16"
    np.testing.assert_array_equal(pixels(shelf, name), image)


def test_scaled_integers_are_what_they_mean(tmp_path: Path) -> None:
    hdu = afits.PrimaryHDU(np.arange(12, dtype=np.int16).reshape(3, 4))
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 10.0, 3
    hdu.writeto(tmp_path / "a.fits")
    shelf, (name,) = opened(tmp_path / "a.fits")
    drawn = pixels(shelf, name)
    assert drawn[0, 2] == 11.0 and np.isnan(drawn[0, 3])
    assert describe.pixel(shelf, name, 0, 3, 0)["planes"]["data"] == {
        "value": None, "text": "nan", "unit": "adu",
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(5, 30, 40), (2, 3, 30, 40), (2, 1, 3, 30, 40)])
def test_cubes_have_reads(tmp_path: Path, shape: tuple[int, ...]) -> None:
    cube = RNG.integers(0, 60000, shape, np.uint16)
    write_raw(tmp_path / "a.fits", cube)
    shelf, (name,) = opened(tmp_path / "a.fits")
    meta = describe.meta(shelf, name)
    flat = cube.reshape(-1, 30, 40)
    assert (meta["shape"], meta["reads"], meta["axes"]) == ([30, 40], len(flat), list(shape[:-2]))
    for read in (0, len(flat) - 1):
        np.testing.assert_array_equal(pixels(shelf, name, read=read), flat[read])
    assert describe.ramp(shelf, name, 7, 9)["values"] == flat[:, 7, 9].tolist()


def test_a_calibrated_frame_has_all_its_planes(tmp_path: Path) -> None:
    data = RNG.normal(100, 5, (60, 70)).astype(np.float32)
    dq = np.zeros((60, 70), np.uint32)
    dq[3, 4] = DQ.HOT | DQ.DO_NOT_USE
    frame = Frame(
        data, variance=data**2, systematic=data * 0.1, dq=dq, unit="electron",
        exposure=Exposure(kind="light"), history=(Applied("bias", "sha256:ab"),),
    )  # fmt: skip
    write(frame, tmp_path / "a.fits")
    for thing in (tmp_path / "a.fits", frame):
        shelf, (name,) = opened(thing)
        meta = describe.meta(shelf, name)
        assert [(plane["name"], plane["unit"]) for plane in meta["planes"]] == [
            ("data", "electron"), ("variance", "electron2"), ("systematic", "electron2"),
        ]  # fmt: skip
        assert {flag["name"] for flag in meta["dq"]} == {"HOT", "DO_NOT_USE"}
        assert all(flag["colour"].startswith("#") and flag["sentence"] for flag in meta["dq"])
        np.testing.assert_array_equal(pixels(shelf, name, "variance"), data**2)
        np.testing.assert_array_equal(pixels(shelf, name, "dq"), dq)
        found = describe.pixel(shelf, name, 3, 4, 0)
        assert found["dq"] == {"value": int(dq[3, 4]), "names": ["DO_NOT_USE", "HOT"]}
        assert np.float32(found["planes"]["systematic"]["text"]) == np.float32(data[3, 4] * np.float32(0.1))
        assert shelf.view(name).provenance["history"][0]["effect"] == "bias"


def test_a_ramp_has_the_flags_of_its_reads() -> None:
    data = RNG.integers(0, 9999, (2, 4, 20, 30), np.uint16)
    read_dq = np.zeros(data.shape, np.uint8)
    read_dq[1, 2, 5, 6] = 4
    shelf, (name,) = opened(Frame(data, read_dq=read_dq))
    found = describe.ramp(shelf, name, 5, 6)
    assert found["values"] == data[:, :, 5, 6].ravel().tolist()
    assert found["read_dq"] == read_dq[:, :, 5, 6].ravel().tolist()
    assert describe.pixel(shelf, name, 5, 6, 6)["read_dq"]["names"] == ["JUMP_DET"]


def product(**planes: np.ndarray) -> Product:
    return Product(
        "bias", keys={"detector": "0"}, planes=planes, units={"data": "adu"},
        quantities=(Quantity("level", 3.5, 0.1, "adu"),),
    )  # fmt: skip


def test_planes_of_one_size_are_one_image(tmp_path: Path) -> None:
    image = RNG.normal(0, 1, (30, 40)).astype(np.float32)
    made = product(variance=image**2, data=image, dq=np.ones((30, 40), np.uint32), kernel=image[:5, :5])
    write(made, tmp_path / "a.fits")
    for thing in (tmp_path / "a.fits", made):
        shelf, names = opened(thing)
        metas = [describe.meta(shelf, name) for name in names]
        assert [[plane["name"] for plane in meta["planes"]] for meta in metas] == [
            ["data", "variance"], ["kernel"],
        ]  # fmt: skip
        assert metas[0]["shape"] == [30, 40] and metas[1]["shape"] == [5, 5]
        assert metas[0]["quantities"][0]["sigma"] == 0.1
        np.testing.assert_array_equal(pixels(shelf, names[0]), image)
        np.testing.assert_array_equal(pixels(shelf, names[1]), image[:5, :5])  # the main plane
        assert shelf.view(names[0]).provenance["identity"] == made.identity


def test_a_product_of_flags_alone(tmp_path: Path) -> None:
    dq = np.zeros((30, 40), np.uint32)
    dq[2, 3] = DQ.DEAD
    write(product(dq=dq), tmp_path / "a.fits")
    shelf, (name,) = opened(tmp_path / "a.fits")
    meta = describe.meta(shelf, name)
    assert [flag["name"] for flag in meta["dq"]] == ["DEAD"]
    np.testing.assert_array_equal(pixels(shelf, name), dq != 0)
    np.testing.assert_array_equal(pixels(shelf, name, "dq"), dq)


def test_a_product_without_images_says_so(tmp_path: Path) -> None:
    write(product(), tmp_path / "a.fits")
    for thing in (tmp_path / "a.fits", product()):
        shelf, (name,) = opened(thing)
        meta = describe.meta(shelf, name)
        assert meta["shape"] is None and meta["limits"] is None and meta["planes"] == []
        assert "holds no image" in meta["message"]
        assert meta["quantities"][0]["value"] == 3.5


def test_a_file_of_several_images_that_nobody_knows(tmp_path: Path) -> None:
    image = RNG.normal(0, 1, (30, 40)).astype(np.float32)
    write_raw(tmp_path / "a.fits", None, extensions=[("LEFT", image, {}), ("RIGHT", image + 1, {})])
    shelf, names = opened(tmp_path / "a.fits")
    assert [shelf.view(name).name for name in names] == ["a.fits[1, LEFT]", "a.fits[2, RIGHT]"]
    np.testing.assert_array_equal(pixels(shelf, names[1]), image + 1)


def test_units_of_others_stay_as_they_are(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.fits", np.ones((3, 4), np.float32), {"BUNIT": "furlong"})
    shelf, (name,) = opened(tmp_path / "a.fits")
    assert describe.meta(shelf, name)["unit"] == "furlong"


@pytest.mark.parametrize("content", [b"", b"no fits", b"SIMPLE  =                    T" + b" " * 2850])
def test_what_is_no_image_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.fits").write_bytes(content)
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress(content))
    for path in (tmp_path / "a.fits", tmp_path / "b.fits.gz"):
        shelf, (name,) = opened(path)
        meta = describe.meta(shelf, name)
        assert meta["shape"] is None
        assert meta["message"].startswith(path.name) and meta["message"].endswith(".")
        assert str(tmp_path) not in meta["message"]


def test_amplifiers_of_a_camera_that_is_known() -> None:
    exposure = Exposure(instrument="ccd16", detector="0")
    from calibrant.instrument import load
    from calibrant.instrument.readout import image_shape

    shape = image_shape(load("ccd16").detector("0"), (1, 1))
    shelf, (name,) = opened(Frame(np.zeros(shape, np.uint16), exposure=exposure))
    found = describe.meta(shelf, name)["amplifiers"]
    assert len(found) == 16
    one = found[3]
    row, col = one["rows"][0], one["cols"][1] - 1
    assert describe.pixel(shelf, name, row, col, 0)["amplifier"] == one["name"]
    assert describe.pixel(shelf, name, row, col + 1, 0)["amplifier"] == f"{one['name']}, overscan"


def test_a_master_tells_the_amplifiers_of_its_detector_where_it_has_their_size() -> None:
    from calibrant.instrument import load
    from calibrant.instrument.sections import bounds

    exposure = Exposure(instrument="ccd16", detector="0", kind="flat")
    places = [bounds(one.place, (0, 0)) for one in load("ccd16").readouts(exposure)]
    size = max(place[1] for place in places), max(place[3] for place in places)
    shelf = Shelf()
    for shape, names in ((size, 16), ((20, 30), 0)):
        master = Product("flat", "ccd16", {"detector": "0"}, planes={"data": np.ones(shape, np.float32)})
        found = describe.meta(shelf, shelf.add(master)[0])
        assert len({one["name"] for one in found["amplifiers"]}) == names


def test_an_image_without_a_value_says_so() -> None:
    shelf = Shelf()
    empty = describe.meta(shelf, shelf.add(np.full((4, 5), np.nan, np.float32), "blank")[0])
    assert empty["message"] == "blank: no pixel has a finite value."
    assert describe.meta(shelf, shelf.add(np.ones((4, 5), np.float32))[0])["message"] is None


def test_the_place_on_the_sky(tmp_path: Path) -> None:
    cards = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 20.5, "CRPIX2": 15.5, "CRVAL1": 150.0,
        "CRVAL2": 2.0, "CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-4,
    }  # fmt: skip
    write_raw(tmp_path / "a.fits", np.ones((30, 40), np.float32), cards)
    shelf, (name,) = opened(tmp_path / "a.fits")
    assert describe.meta(shelf, name)["sky"]
    found = describe.pixel(shelf, name, 15, 20, 0)["sky"]  # half a pixel beside the reference
    assert found["ra"] == pytest.approx(150.0 - 0.5e-4 / np.cos(np.radians(2)), abs=1e-7)
    assert found["dec"] == pytest.approx(2.00005, abs=1e-7)
    assert found["text"] == "09:59:59.988 +02:00:00.18"


@pytest.mark.parametrize(
    "thing", ["text", np.zeros(5), np.zeros((0, 4)), np.zeros((3, 3), complex), object(), [["a"]]]
)
def test_what_cannot_be_shown_is_refused(thing: object) -> None:
    with pytest.raises(OptionError):
        Shelf().add(thing)


def test_masks_of_others_become_flags() -> None:
    from astropy.nddata import CCDData

    mask = np.zeros((4, 5), bool)
    mask[1, 2] = True
    for thing in (np.ma.MaskedArray(np.ones((4, 5)), mask), CCDData(np.ones((4, 5)), mask=mask, unit="adu")):
        shelf, (name,) = opened(thing)
        assert [flag["name"] for flag in describe.meta(shelf, name)["dq"]] == ["DO_NOT_USE"]
        np.testing.assert_array_equal(pixels(shelf, name, "dq") != 0, mask)


def test_an_array_is_shown_as_it_was() -> None:
    array = np.zeros((4, 4))
    shelf, (name,) = opened(array)
    array += 1
    assert pixels(shelf, name).max() == 0


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_texts_read_back_to_the_last_bit(kind: str) -> None:
    dtype = np.dtype(kind)
    values = np.concatenate([RNG.normal(0, 10.0**e, 50).astype(dtype) for e in range(-30, 31, 5)])
    for value in [*values, dtype.type(np.inf), dtype.type(-0.0), np.finfo(dtype).tiny]:
        assert dtype.type(exact_text(value)) == value
