"""The header scanner against astropy, its cost in bytes, and its sentences."""

import gzip
import os
import re
import string
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import example, given, settings
from hypothesis import strategies as st

from calibrant.errors import FileError
from calibrant.files.cards import format_card
from calibrant.files.fits import inspect, read_header, scan_headers, write_raw
from calibrant.files.header import Header
from calibrant.stack.source import Encoding

printable = st.text(string.printable[:95], max_size=150)
# astropy takes a doubled quote before a slash for the end of the text.
text = printable.filter(lambda value: not re.search("' */", value))
number = st.one_of(
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.complex_numbers(allow_nan=False, allow_infinity=False),
)
keyword = st.text(string.ascii_uppercase + string.digits + "_-", min_size=1, max_size=8).filter(
    lambda key: key not in ("END", "COMMENT", "HISTORY", "CONTINUE", "HIERARCH", "SIMPLE", "XTENSION")
)
comment = st.text(string.ascii_letters + " ", max_size=20)
entries = st.dictionaries(keyword, st.tuples(st.one_of(text, number), comment), max_size=12)


def astropy_header(pairs) -> fits.Header:
    header = fits.Header()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # comments that are cut short
        for key, (value, words) in pairs.items():
            header[key] = (value, words)
    return header


@given(entries)
@settings(deadline=None)
def test_values_of_astropys_cards(pairs):
    header = astropy_header(pairs)
    cards = header.tostring(endcard=False, padding=False)
    ours, theirs = Header(cards), fits.Header.fromstring(cards)
    for key in pairs:
        assert ours[key] == theirs[key]
        assert key.lower() in ours
    assert set(ours) == set(pairs)
    assert len(ours) == len(pairs)


@given(entries)
@settings(deadline=None)
def test_astropy_reads_our_cards(pairs):
    cards = "".join(format_card(key, *entry) for key, entry in pairs.items())
    assert len(cards) % 80 == 0
    theirs = fits.Header.fromstring(cards)
    for key, (value, _) in pairs.items():
        found = theirs[key]
        # Of its own accord astropy keeps no trailing blanks either.
        assert found == (value.rstrip() if isinstance(value, str) else value), (key, value, found)
        assert Header(cards)[key] == found


@given(printable)
@example("a" * 66 + "  ")  # blanks before and after the end of a card
@settings(deadline=None)
def test_any_text_comes_back(value):
    assert Header(format_card("A", value, "words"))["A"] == value.rstrip()


@given(st.text(string.ascii_uppercase + " ", min_size=9, max_size=30), text)
@settings(deadline=None)
def test_long_keywords_become_hierarch_cards(key, value):
    key = " ".join(key.split())
    if len(key) < 9:
        return
    cards = format_card(key, value)
    ours = Header(cards)
    assert ours[key] == ours[f"HIERARCH {key}"] == fits.Header.fromstring(cards)[key] == value.rstrip()


def test_blanks_at_the_end_of_a_continued_text_mean_nothing():
    cards = "".join(f"{card:<80}" for card in ("A       = 'word &'", "CONTINUE  '  '"))
    assert Header(cards)["A"] == "word"


def test_what_fits_cannot_say_is_undefined():
    cards = "".join(format_card(k, v) for k, v in {"A": np.nan, "B": np.inf, "C": None}.items())
    assert dict(Header(cards)) == {"A": None, "B": None, "C": None}
    assert set(fits.Header.fromstring(cards).values()) == {None}


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("BZERO   = +3.276800000000E+004", 32768.0),
        ("SIMPLE  =                    T/CCDSOFT", True),
        ("EXPTIME =              1.5D+02 / seconds", 150.0),
        ("GAIN    =                  NaN", None),
        ("SERIAL  = 1_000", "1_000"),
        ("NAME    = 'O''Neil / x'  / a name", "O'Neil / x"),
        ("OPEN    = 'no end", "no end"),
        ("ODD     = 12:30:05 / sexagesimal without quotes", "12:30:05"),
        ("NOSPACE ='text'", "text"),
        ("EMPTY   =", None),
        ("TEXT    without equals sign", "without equals sign"),
    ],
)
def test_cards_as_cameras_write_them(card, value):
    header = Header(f"{card:<80}")
    assert header[card[:8].rstrip()] == value


def test_repeated_keywords_and_lines():
    cards = "".join(
        f"{card:<80}"
        for card in ("A       = 1", "HISTORY one", "A       = 2", "COMMENT x", "HISTORY two", " ", "B = 3")
    )
    header = Header(cards)
    assert header["A"] == 2
    assert header["HISTORY"] == "one\ntwo"
    assert header.lines("COMMENT") == ["x"]
    assert header.cards == cards
    assert "" not in header
    assert header.get("NONE", 7) == 7
    with pytest.raises(KeyError):
        header["NONE"]
    assert (header + Header(f"{'A       = 5':<80}"))["A"] == 5
    assert Header(format_card("A", 1, "why")).comment("A") == "why"


@pytest.mark.parametrize("cards", [0, 10, 33, 34, 35, 143, 144, 500])
def test_headers_of_any_length(tmp_path, cards):
    data = np.arange(12, dtype=np.int16).reshape(3, 4)
    entries = [(f"KEY{n}", n) for n in range(cards)]
    write_raw(tmp_path / "a.fits", data, entries)
    header = read_header(tmp_path / "a.fits")
    assert [header[key] for key, _ in entries] == list(range(cards))
    np.testing.assert_array_equal(fits.getdata(tmp_path / "a.fits"), data)


def test_extensions_are_walked_and_their_header_follows_the_primary(tmp_path):
    image = np.zeros((5, 7), np.uint16)
    table = fits.BinTableHDU.from_columns([fits.Column("t", "D", array=np.arange(3.0))], name="TAB")
    first, second = fits.ImageHDU(image, name="AMP1"), fits.ImageHDU(image[:4], name="AMP2", ver=3)
    first.header["EXPTIME"] = 2.0
    primary = fits.PrimaryHDU()
    primary.header["EXPTIME"], primary.header["FILTER"] = 1.0, "V"
    fits.HDUList([primary, table, first, second]).writeto(tmp_path / "m.fits")
    contents = inspect(tmp_path / "m.fits")
    assert [hdu.name for hdu in contents.hdus] == ["PRIMARY", "TAB", "AMP1", "AMP2"]
    assert [hdu.shape for hdu in contents.hdus] == [(), (), (5, 7), (4, 7)]
    assert contents.image().index == 2
    assert contents.image("amp2").version == 3
    assert contents.image(3).encoding == Encoding(">i2", 1.0, 32768.0)
    assert (contents.header()["EXPTIME"], contents.header()["FILTER"]) == (2.0, "V")
    assert read_header(tmp_path / "m.fits", 0)["EXPTIME"] == 1.0
    with fits.open(tmp_path / "m.fits") as theirs:
        for hdu, other in zip(contents.hdus, theirs, strict=True):
            assert hdu.offset == other.fileinfo()["datLoc"]
    with pytest.raises(FileError, match=r"no image 'AMP9'.*got 2 AMP1, 3 AMP2"):
        contents.image("AMP9")


@pytest.mark.parametrize("name", ["a.fits", "a.FIT", "a.fts", "a.dat"])
@pytest.mark.parametrize("packed", [False, True])
def test_files_are_known_by_their_content(tmp_path, name, packed):
    path = tmp_path / name
    write_raw(path, np.ones((2, 3), np.float32), {"OBJECT": "M31"})
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert read_header(path)["OBJECT"] == "M31"
    assert inspect(path).image().shape == (2, 3)


def test_compressed_images_show_the_image_inside(tmp_path):
    image = fits.CompImageHDU(np.arange(600, dtype=np.uint16).reshape(20, 30), compression_type="RICE_1")
    image.header["EXPTIME"] = 4.0
    image.writeto(tmp_path / "a.fits.fz")
    contents = inspect(tmp_path / "a.fits.fz")
    assert contents.image().shape == (20, 30)
    assert contents.image().compressed
    assert contents.header()["EXPTIME"] == 4.0


def bytes_read() -> int:
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count bytes")
@pytest.mark.parametrize("pack", [False, True])
def test_a_header_costs_one_small_read(tmp_path, pack):
    path = tmp_path / "a.fits"
    rng = np.random.default_rng(5)
    write_raw(path, rng.integers(0, 65535, (1024, 1024)).astype(np.uint16))
    if pack:
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    overhead = bytes_read()
    overhead = bytes_read() - overhead
    before = bytes_read()
    inspect(path)
    assert bytes_read() - before - overhead <= (160_000 if pack else 4 * 2880)


def broken(tmp_path, case: str) -> Path:
    path = tmp_path / "bad.fits"
    write_raw(path, np.zeros((100, 100), np.int16), [(f"K{n}", n) for n in range(50)])
    whole = path.read_bytes()
    if case == "missing":
        path.unlink()
    elif case == "folder":
        path.unlink()
        path.mkdir()
    elif case == "truncated gz":
        path.write_bytes(gzip.compress(whole)[:100])
    else:
        path.write_bytes(
            {
                "empty": b"",
                "text": b"SIMPLE text that is long enough " * 200,
                "picture": b"\x89PNG" + whole,
                "truncated": whole[:-2881],
                "header cut": whole[:2000],
                "no naxis": whole.replace(b"NAXIS2 ", b"NAXISX ", 1),
                "bad bitpix": whole.replace(
                    b"BITPIX  =                   16", b"BITPIX  =                   17"
                ),
            }[case]
        )
    return path


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("missing", "there is no such file"),
        ("folder", "this is a folder, not a file"),
        ("empty", r"the file is empty \(zero bytes\)"),
        ("text", "this is not a FITS file"),
        ("picture", "this is not a FITS file"),
        ("truncated", "the file ends early: expected 25760 bytes, got 23039 bytes; copy it again"),
        ("header cut", "the header has no END card"),
        ("no naxis", "the header is broken: NAXIS2 is not a whole number"),
        ("bad bitpix", "the header is broken: BITPIX has no meaning"),
        ("truncated gz", "the packed file is broken or ends early"),
    ],
)
def test_files_that_cannot_be_used_get_one_sentence(tmp_path, case, sentence):
    path = broken(tmp_path, case)
    with pytest.raises(FileError, match=sentence) as caught:
        inspect(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).count("\n") == 0
    [(_, problem)] = scan_headers([path])
    assert str(problem) == str(caught.value)


def test_a_file_without_image_is_told(tmp_path):
    write_raw(tmp_path / "a.fits", None)
    with pytest.raises(FileError, match="holds no image: NAXIS is 0 or 1"):
        read_header(tmp_path / "a.fits")
    assert read_header(tmp_path / "a.fits", 0)["NAXIS"] == 0


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "a.fits"
    write_raw(path, np.zeros((2, 2), np.int16))
    path.chmod(0)
    if os.geteuid() == 0:  # the superuser may read everything: let the system refuse all the same
        monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FileError, match="reading is not allowed; change its permissions"):
        inspect(path)


def refuse(path, *_):
    raise PermissionError(13, "Permission denied", path)
