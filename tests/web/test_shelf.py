"""The shelf opens what was named, nothing else, and notices what happens to files meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from calibrant.errors import FileError
from calibrant.files.fits import write_raw
from calibrant.web import describe
from calibrant.web.shelf import Altered, Gone, Shelf, Unknown
from calibrant.web.tiles import Place, tile

IMAGE = np.arange(12, dtype=np.uint16).reshape(3, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_raw(tmp_path / "a.fits", IMAGE)
    return tmp_path / "a.fits"


def first(shelf: Shelf, image: str) -> bytes:
    return tile(shelf, Place(image, "data", 0, 0, 0, 0)).body


def test_names_tell_nothing_and_stay_the_same(path: Path) -> None:
    (one,), (two,) = Shelf().add_paths([path]), Shelf().add_paths([path])
    assert one == two and "a.fits" not in one and one.isalnum()


def test_a_folder_is_listed_in_order_and_without_what_is_hidden(path: Path) -> None:
    (path.parent / "sub").mkdir()
    write_raw(path.parent / "sub" / "b.fits.gz", IMAGE)
    write_raw(path.parent / ".hidden.fits", IMAGE)
    (path.parent / "notes.txt").write_text("no image")
    shelf = Shelf()
    shelf.add_paths([path.parent])
    assert [entry.name for entry in shelf.entries()] == ["a.fits", "sub/b.fits.gz"]


def test_a_link_out_of_the_folder_is_refused(path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("secret") / "s.fits"
    write_raw(outside, IMAGE)
    (path.parent / "link.fits").symlink_to(outside)
    (path.parent / "inside.fits").symlink_to(path)
    shelf = Shelf()
    shelf.add_paths([path.parent])
    assert [entry.name for entry in shelf.entries()] == ["a.fits"]  # inside.fits is the same file
    assert shelf.problems == ["link.fits: the link leads out of the folder; it is not shown."]


def test_a_file_replaced_by_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    shelf = Shelf()
    (image,) = shelf.add_paths([path])
    secret = tmp_path / "other" / "s.fits"
    secret.parent.mkdir()
    write_raw(secret, IMAGE + 1)
    path.unlink()
    path.symlink_to(secret)
    for ask in (lambda: first(shelf, image), lambda: shelf.reopened(image)):
        with pytest.raises(Gone, match="replaced by a link"):
            ask()


def test_a_file_that_is_named_by_a_link_is_followed_once(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.fits"
    link.symlink_to(path)
    shelf = Shelf()
    (image,) = shelf.add_paths([link])
    link.unlink()
    assert first(shelf, image) == IMAGE.tobytes()


def test_a_file_that_is_gone(path: Path) -> None:
    shelf = Shelf()
    (image,) = shelf.add_paths([path])
    first(shelf, image)
    path.unlink()
    with pytest.raises(Gone):
        first(shelf, image)  # though its pixels are still in memory
    with pytest.raises(Gone):
        describe.meta(shelf, image)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_that_was_altered_is_refused_until_it_is_opened_again(path: Path, in_place: bool) -> None:
    shelf = Shelf()
    (image,) = shelf.add_paths([path])
    before = describe.meta(shelf, image)["version"]
    first(shelf, image)
    if in_place:
        with path.open("r+b") as file:
            file.seek(2880)
            file.write(np.array([0x8007], ">u2").tobytes())
        os.utime(path, ns=(1, 1))
    else:
        write_raw(path, IMAGE + 1, overwrite=True)
    with pytest.raises(Altered):
        first(shelf, image)
    with pytest.raises(Altered):
        describe.pixel(shelf, image, 0, 0, 0)
    assert describe.meta(shelf, image)["version"] != before
    assert np.frombuffer(first(shelf, image), "<u2")[0] == (7 if in_place else 1)


def test_a_file_that_broke_says_so_and_comes_back(path: Path) -> None:
    shelf = Shelf()
    (image,) = shelf.add_paths([path])
    whole = path.read_bytes()
    path.write_bytes(whole[:2890])
    assert "ends early" in describe.meta(shelf, image)["message"]
    path.write_bytes(whole)
    assert describe.meta(shelf, image)["message"] is None
    assert first(shelf, image) == IMAGE.tobytes()


def test_what_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        Shelf().add_paths([tmp_path / "none.fits"])
    with pytest.raises(FileError, match="no FITS file"):
        Shelf().add_paths([tmp_path])
    with pytest.raises(Unknown):
        Shelf().view("nothing")


def test_images_that_came_together_go_together() -> None:
    from calibrant.product import Product

    planes = {"data": np.ones((4, 4)), "kernel": np.ones((2, 2))}
    shelf = Shelf()
    names = shelf.add(Product("kernel", planes=planes))
    (other,) = shelf.add(np.ones((3, 3)))
    assert len(names) == 2
    first(shelf, names[1])
    shelf.drop_family(names[0])
    assert [entry.id for entry in shelf.entries()] == [other]
    assert shelf.cache.nbytes == 0


def test_a_huge_sparse_file_is_shown_in_bounded_memory(tmp_path: Path) -> None:
    """20000 x 20000 float32, 1.6 GB of holes: a tile of any level costs a few bands."""
    path = tmp_path / "huge.fits"
    side = 20000
    cards = f"{'SIMPLE  =                    T':80}{'BITPIX  =                  -32':80}"
    cards += f"{'NAXIS   =                    2':80}{f'NAXIS1  = {side:20}':80}{f'NAXIS2  = {side:20}':80}"
    with path.open("wb") as file:
        file.write(f"{cards}{'END':80}".ljust(2880).encode())
        file.seek(2880 + 4 * (12345 * side + 6789))
        file.write(np.array([7.0], ">f4").tobytes())
        file.truncate(2880 + -(-4 * side * side // 2880) * 2880)
    shelf = Shelf()
    (image,) = shelf.add_paths([path])
    assert describe.summary(shelf.entry(image))["shape"] == [side, side]
    at = Place(image, "data", 0, 0, 12345 // 512, 6789 // 512)
    found = np.frombuffer(tile(shelf, at).body, "<f4").reshape(512, 512)
    assert found[12345 % 512, 6789 % 512] == 7 and found.sum() == 7
    above = Place(image, "data", 0, 1, 12345 // 1024, 6789 // 1024, "peak")
    assert np.frombuffer(tile(shelf, above).body, "<f4").max() == 7
    assert shelf.cache.nbytes <= shelf.cache.budget
