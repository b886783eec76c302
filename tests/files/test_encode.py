"""Units as bytes: checksums and tables against astropy, and the same bytes for the same content."""

import io

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibrant.errors import ShapeError
from calibrant.files.encode import checksum, image_unit, table_unit, write_units
from calibrant.files.fits import inspect
from calibrant.files.tables import read_table


def as_file(*units) -> bytes:
    out = io.BytesIO()
    write_units(out, units)
    return out.getvalue()


@given(st.binary(max_size=5000))
def test_the_sum_is_astropys(data):
    expected = fits.ImageHDU()._compute_checksum(np.frombuffer(data + bytes(-len(data) % 4), np.uint8))
    assert checksum(np.frombuffer(data, np.uint8)) == expected


dtypes = st.sampled_from(["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])


@given(dtypes.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(max_dims=4, max_side=9))))
@settings(deadline=None, max_examples=60)
def test_images_come_back_by_astropy_with_right_sums(data):
    stored = as_file(image_unit(data, [("A", 1)], primary=True), image_unit(data, name="AGAIN"))
    assert len(stored) % 2880 == 0
    with fits.open(io.BytesIO(stored), checksum=True) as hdus:  # wrong sums warn, and warnings are errors
        hdus.verify("exception")
        for hdu in hdus:
            assert "DATASUM" in hdu.header
            np.testing.assert_array_equal(hdu.data, data)
            assert hdu._checksum_valid and hdu._datasum_valid


def test_a_changed_byte_is_seen():
    stored = bytearray(as_file(image_unit(np.arange(100.0), primary=True)))
    stored[2880 + 5] ^= 1
    with (
        pytest.warns(Warning, match="verification failed"),
        fits.open(io.BytesIO(bytes(stored)), checksum=True) as h,
    ):
        assert not h[0]._datasum_valid


def test_the_same_content_gives_the_same_bytes():
    data = np.random.default_rng(0).normal(size=(70, 80)).astype(np.float32)
    table = {"t": np.arange(5.0), "name": np.array(["a", "bc", "", "é", "f"])}
    first, second = (as_file(image_unit(data, primary=True), table_unit(table, "T")) for _ in range(2))
    assert first == second


def test_planes_larger_than_a_chunk():
    data = np.random.default_rng(0).integers(0, 65535, (1500, 1501)).astype(np.uint16)
    with fits.open(io.BytesIO(as_file(image_unit(data, primary=True))), checksum=True) as hdus:
        np.testing.assert_array_equal(hdus[0].data, data)
    wide = np.random.default_rng(0).normal(size=(1201, 1001))[:, ::2]
    with fits.open(io.BytesIO(as_file(image_unit(wide.T, primary=True))), checksum=True) as hdus:
        np.testing.assert_array_equal(hdus[0].data, wide.T)


COLUMNS = {
    "flag": np.array([True, False, True]),
    "byte": np.array([0, 1, 255], np.uint8),
    "signed": np.array([-128, 0, 127], np.int8),
    "short": np.array([-5, 0, 5], np.int16),
    "ushort": np.array([0, 1, 65535], np.uint16),
    "int": np.array([-5, 0, 5], np.int32),
    "uint": np.array([0, 1, 2**32 - 1], np.uint32),
    "long": np.array([-(2**62), 0, 5]),
    "ulong": np.array([0, 1, 2**64 - 1], np.uint64),
    "float": np.array([np.nan, 1.5, -0.0], np.float32),
    "double": np.array([1e300, np.inf, 1 / 3]),
    "complex": np.array([1 + 2j, 0, -1j]),
    "text": np.array(["a", "long text", ""]),
    "pairs": np.arange(6.0).reshape(3, 2),
}


def test_tables_come_back_by_astropy_and_by_us(tmp_path):
    stored = as_file(image_unit(None, primary=True), table_unit(COLUMNS, "TAB", {"float": "adu"}))
    (tmp_path / "t.fits").write_bytes(stored)
    contents = inspect(tmp_path / "t.fits")
    ours = read_table(contents, contents.hdus[1])
    assert list(ours) == list(COLUMNS)
    with fits.open(tmp_path / "t.fits", checksum=True) as hdus:
        assert hdus[1].columns["float"].unit == "adu"
        for name, values in COLUMNS.items():
            np.testing.assert_array_equal(ours[name], values)
            assert ours[name].dtype.kind == values.dtype.kind
            np.testing.assert_array_equal(hdus["TAB"].data[name], values)


def test_astropys_tables_come_back_by_us(tmp_path):
    columns = [
        fits.Column("x", "E", array=np.arange(4.0), unit="s"),
        fits.Column("bits", "11X", array=np.zeros((4, 11), bool)),
        fits.Column("names", "6A", array=["a", "b", "c d", ""]),
        fits.Column("many", "PJ()", array=[np.arange(n) for n in range(4)]),
        fits.Column("scaled", "I", array=np.arange(4)),
        fits.Column("last", "3D", array=np.arange(12.0).reshape(4, 3)),
    ]
    fits.BinTableHDU.from_columns(columns, name="T").writeto(tmp_path / "t.fits")
    fits.setval(tmp_path / "t.fits", "TSCAL5", value=0.5, ext=1)
    fits.setval(tmp_path / "t.fits", "TZERO5", value=3, ext=1)
    contents = inspect(tmp_path / "t.fits")
    table = read_table(contents, contents.hdus[1])
    assert list(table) == ["x", "names", "scaled", "last"]
    np.testing.assert_array_equal(table["names"], ["a", "b", "c d", ""])
    np.testing.assert_array_equal(table["scaled"], np.arange(4) * 0.5 + 3)
    np.testing.assert_array_equal(table["last"], np.arange(12.0).reshape(4, 3))


def test_empty_tables_and_what_cannot_be_stored():
    stored = as_file(
        image_unit(None, primary=True), table_unit({"a": np.array([]), "b": np.array([], "U3")}, "T")
    )
    with fits.open(io.BytesIO(stored), checksum=True) as hdus:
        assert len(hdus[1].data) == 0
    with pytest.raises(ShapeError, match="cannot hold this type"):
        image_unit(np.zeros(3, complex))
    with pytest.raises(ShapeError, match="single number"):
        image_unit(np.array(3.0))
    with pytest.raises(ShapeError, match="differ in length"):
        table_unit({"a": np.arange(3), "b": np.arange(4)}, "T")
