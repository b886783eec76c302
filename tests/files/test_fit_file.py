"""The fit file of a dark scaling, held card by card against the header that was published."""

import json

import numpy as np
import pytest
from astropy.io import fits

from calibrant.errors import FileError, HeaderError, OptionError, OutputExistsError, ShapeError
from calibrant.files.fit_file import Fitted, numbers_of, read_fits, write_fits

# The header of RANK0 as it was printed, card by card.
PUBLISHED = """\
XTENSION= 'IMAGE   '           / Image extension
BITPIX  =                  -64 / array data type
NAXIS   =                    2 / number of array dimensions
NAXIS1  =                  341
NAXIS2  =                   62
PCOUNT  =                    0 / number of parameters
GCOUNT  =                    1 / number of groups
KIND    = 'fitted dark'        / The kind of image
RANK    =                    0 / The degree of polynom used for the scaling.
COEFFS  = '[1.4510501785354721]'
STDDEV  =    91.49142342107493 / Standard deviation of residual
EXTNAME = 'RANK0   '           / extension name
COMMENT The rank is '-1' for 'Additive' fitting, '0' is for 'Multiplicative' fit
COMMENT ting without additive offset. For all ranks larger than 0 it is equivale
COMMENT nt to the degree of the polynomial fit.
COMMENT The coefficients are listed highest rank first.
"""
# The rows of fits.info as they were printed: name, type, cards, dimensions, format.
INFO = [
    ("PRIMARY", "PrimaryHDU", 8, (341, 62), "int32"),
    ("DARK2", "ImageHDU", 9, (341, 62), "int32"),
    *((f"RANK{rank}", "ImageHDU", 16, (341, 62), "float64") for rank in (-1, 0, 1, 2, 3, 4)),
]
LONG = (1.203598772902105e-08, -0.00015978889457175823, 1.5420174307729337, 47.513171648014264)
COEFFICIENTS = {-1: (235.82480370850152,), 0: (1.4510501785354721,), 3: LONG}


def darks() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.integers(100, 5000, (62, 341)).astype(np.int32), rng.integers(150, 7000, (62, 341)).astype(
        np.int32
    )


def fitted(rank: int, name: str = "") -> Fitted:
    coefficients = COEFFICIENTS.get(rank, tuple(np.linspace(1, 2, rank + 1)))
    residual = np.random.default_rng(rank + 2).normal(size=(62, 341))
    return Fitted(rank, coefficients, residual, 91.49142342107493, name)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "dark_fitting.fits"
    write_fits(path, *darks(), [fitted(rank) for rank in (-1, 0, 1, 2, 3, 4)])
    return path


def test_the_header_is_the_published_one(file):
    with fits.open(file) as hdus:
        assert [card.image.rstrip() for card in hdus["RANK0"].header.cards] == PUBLISHED.splitlines()


def test_the_rows_of_info_are_the_published_ones(file):
    rows = fits.info(str(file), output=False)
    assert [(name, kind, cards, size, form) for _, name, _, kind, cards, size, form, _ in rows] == INFO


def test_the_headers_of_the_darks_are_those_that_astropy_made(file):
    first, second = darks()
    header = fits.Header([("kind", "original dark", "The kind of image")])
    primary = fits.PrimaryHDU(first, header=fits.Header([*header.cards, ("name", "dark1")]))
    made = fits.HDUList([primary])
    made.append(fits.ImageHDU(second, header=header, name="dark2"))  # which adds EXTEND to the primary one
    with fits.open(file) as hdus:
        for found, expected in zip(hdus[:2], made, strict=True):
            assert [c.image for c in found.header.cards] == [c.image for c in expected.header.cards]
            np.testing.assert_array_equal(found.data, expected.data)


def test_a_wrong_number_is_seen_by_the_comparison(file, tmp_path):
    other = tmp_path / "other.fits"
    one = fitted(0)
    write_fits(other, *darks(), [Fitted(0, (1.46,), one.residual, one.std)])
    with fits.open(other) as hdus:
        different = [
            line
            for card, line in zip(hdus[2].header.cards, PUBLISHED.splitlines(), strict=True)
            if card.image.rstrip() != line
        ]
    assert [line[:7] for line in different] == ["COEFFS "]


def test_numbers_of_numpy_are_plain_numbers(tmp_path):
    values = tuple(np.polyfit([1.0, 2.0, 4.0], [1.0, 5.0, 3.0], 2))  # np.float64, whose repr names its type
    write_fits(tmp_path / "f.fits", *darks(), [Fitted(2, values, np.zeros((62, 341)), np.float64(3.5))])
    text = fits.getval(tmp_path / "f.fits", "COEFFS", "RANK2")
    assert "np" not in text and json.loads(text) == [float(value) for value in values]


def test_the_schema_has_the_year_of_its_publication(file, tmp_path):
    fits = read_fits(file)
    write_fits(tmp_path / "named.fits", fits.dark1, fits.dark2, fits.fits, schema="iuvs2015")
    assert (tmp_path / "named.fits").read_bytes() == file.read_bytes()
    for other in ("iuvs2016", "2016", "iuvs", "", "iuvs-2015"):
        with pytest.raises(OptionError, match="schema"):
            write_fits(tmp_path / "other.fits", fits.dark1, fits.dark2, fits.fits, schema=other)


def test_what_is_written_is_read_again(file):
    found = read_fits(file)
    first, second = darks()
    np.testing.assert_array_equal(found.dark1, first)
    np.testing.assert_array_equal(found.dark2, second)
    assert found.dark1.dtype == np.int32
    assert [fit.extname for fit in found.fits] == [name for name, *_ in INFO[2:]]
    for fit in found.fits:
        expected = fitted(fit.rank)
        assert fit.coefficients == expected.coefficients and fit.std == expected.std
        np.testing.assert_array_equal(fit.residual, expected.residual)
    assert found["rank3"].coefficients == LONG  # in a card and its CONTINUE


def test_models_that_no_rank_names(tmp_path):
    write_fits(tmp_path / "f.fits", *darks(), [fitted(1), fitted(1, "deming")])
    found = read_fits(tmp_path / "f.fits")
    assert [(fit.extname, fit.name, fit.rank) for fit in found.fits] == [
        ("RANK1", "", 1),
        ("DEMING", "deming", 1),
    ]


def test_a_file_that_was_written_with_astropy_and_numpy_2(tmp_path):
    header = fits.Header([("RANK", 0), ("COEFFS", "[np.float64(1.45), np.float64(2.0)]"), ("STDDEV", 3.0)])
    first, second = darks()
    hdus = [fits.PrimaryHDU(first), fits.ImageHDU(second, name="dark2")]
    hdus.append(fits.ImageHDU(np.ones((62, 341)), header, name="rank0"))
    fits.HDUList(hdus).writeto(tmp_path / "f.fits")
    assert read_fits(tmp_path / "f.fits")["RANK0"].coefficients == (1.45, 2.0)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("u2", "int32"),
        ("i2", "int32"),
        ("f4", "int32"),
        ("f8", "int32"),
        ("i8", "int32"),
    ],
)
def test_whole_numbers_are_int32(tmp_path, given, stored):
    first, second = darks()
    write_fits(tmp_path / "f.fits", first.astype(given), second, [fitted(0)])
    found = read_fits(tmp_path / "f.fits")
    assert found.dark1.dtype == stored
    np.testing.assert_array_equal(found.dark1, first)


@pytest.mark.parametrize("value", [0.5, np.nan, 2.0**40])
def test_other_numbers_stay_floats(tmp_path, value):
    first, second = (plane.astype(np.float64) for plane in darks())
    first[3, 4] = value
    write_fits(tmp_path / "f.fits", first, second, [fitted(0)])
    found = read_fits(tmp_path / "f.fits")
    assert (found.dark1.dtype, found.dark2.dtype) == (np.float64, np.int32)
    np.testing.assert_array_equal(found.dark1, first)


def test_a_model_that_failed_is_written_as_such(tmp_path):
    nan = float("nan")
    write_fits(tmp_path / "f.fits", *darks(), [Fitted(0, (nan,), np.full((62, 341), nan), nan)])
    found = read_fits(tmp_path / "f.fits")["RANK0"]
    assert np.isnan(found.std) and np.isnan(found.coefficients[0]) and np.isnan(found.residual).all()


def test_nothing_is_overwritten_unasked_or_half_written(file, tmp_path):
    before = file.read_bytes()
    with pytest.raises(OutputExistsError):
        write_fits(file, *darks(), [])
    assert file.read_bytes() == before
    write_fits(file, *darks(), [fitted(0)], overwrite=True)
    assert [fit.rank for fit in read_fits(file).fits] == [0]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_what_does_not_fit_is_refused(tmp_path):
    first, second = darks()
    path = tmp_path / "f.fits"
    with pytest.raises(ShapeError, match="dark2: not of the shape"):
        write_fits(path, first, second[:, :-1], [])
    with pytest.raises(ShapeError, match="RANK0: not of the shape"):
        write_fits(path, first, second, [Fitted(0, (1.0,), np.zeros((3, 3)), 0.0)])
    with pytest.raises(ShapeError, match="choose one plane"):
        write_fits(path, np.stack([first, first]), second, [])
    with pytest.raises(OptionError, match="two models have one name"):
        write_fits(path, first, second, [fitted(0), fitted(0)])
    with pytest.raises(OptionError, match="unknown schema"):
        write_fits(path, first, second, [], schema="2016")
    assert not path.exists()


def test_other_files_are_refused_in_a_sentence(tmp_path):
    fits.writeto(tmp_path / "plain.fits", np.zeros((4, 4)))
    with pytest.raises(FileError, match="no fit file of darks: expected DARK2, got 0 PRIMARY"):
        read_fits(tmp_path / "plain.fits")


@pytest.mark.parametrize("text", ["__import__('os')", "[1, x]", "3.5", "[", "{1: 2}", ""])
def test_coefficients_are_read_and_never_run(text):
    with pytest.raises(HeaderError, match="no list of numbers"):
        numbers_of(text)


def test_coefficients_of_lists():
    assert numbers_of("[1.0, -2e-3]") == (1.0, -0.002) and numbers_of("[]") == ()
