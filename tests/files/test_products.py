"""Products in files: identity kept to the last bit, and a changed file told."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibrant.errors import FileError
from calibrant.files.fits import read, write
from calibrant.product import Input, Product, Provenance, Quantity


def product() -> Product:
    rng = np.random.default_rng(8)
    data = rng.normal(300, 2, (23, 31)).astype(np.float32)
    data[3, 4] = np.nan
    return Product(
        kind="bias",
        instrument="generic-ccd",
        keys={
            "binning": (1, 1),
            "temperature": -5.0,
            "filter": None,
            "gain_setting": "high",
            "n": np.int64(3),
        },
        epoch=1_508_299_807_926_001,
        planes={
            "data": data,
            "variance": (data**2).astype(np.float32),
            "dq": rng.integers(0, 2**32, data.shape, dtype=np.uint32),
            "read_noise": data.astype(np.float64),
            "good": data > 300,
            "half": data.astype(np.float16),
            "level of rows": np.arange(23.0),
            "count": np.full((2, 3, 4), 65535, np.uint16),
        },
        units={"data": "adu", "variance": "adu2", "drift.time": "s", "drift.level": "adu"},
        tables={
            "drift": {
                "time": np.arange(4.0),
                "level": np.array([1, 2, 3, 4], np.float32),
                "name": np.array(["b1.fit", "ä ", "", "x"]),
                "used": np.array([True, False, True, True]),
                "half": np.arange(4).astype(np.float16),
            },
            "data": {"x": np.array([], np.int32)},
        },
        quantities=(
            Quantity("level", 300.125, 0.1, "adu"),
            Quantity("read_noise", float("nan"), None, "adu", "amp1"),
            Quantity("read_noise", 6.5, float("nan"), "adu", "amp2"),
        ),
        provenance=Provenance(
            effect="bias",
            inputs=(Input("b1.fit", "sha256:aa"), Input("b1.fit", None)),
            parents=("sha256:cc", "sha256:bb"),
            options={"method": "mean", "limits": (1, None), "nested": {"a": [1.5]}},
            versions={"numpy": "2.4"},
            created="2026-01-01T00:00:00Z",
            notes=("fewer than 10 frames", "é"),
        ),
    )


@pytest.mark.parametrize("name", ["p.fits", "p.fits.gz", "p.fits.fz"])
def test_every_bit_of_a_product_comes_back(tmp_path, name):
    written = product()
    write(written, tmp_path / name)
    found = read(tmp_path / name)
    assert found.identity == written.identity
    assert found.keys == written.keys
    assert (found.epoch, found.units, found.kind, found.instrument) == (
        written.epoch,
        written.units,
        written.kind,
        written.instrument,
    )
    for plane, values in written.planes.items():
        assert found.planes[plane].dtype == values.dtype
        np.testing.assert_array_equal(found.planes[plane], values)
    for table, columns in written.tables.items():
        assert list(found.tables[table]) == list(columns)
        for column, values in columns.items():
            np.testing.assert_array_equal(found.tables[table][column], values)
    assert repr(found.quantities) == repr(written.quantities)  # NaN is not equal to itself
    made = replace(written.provenance, options={**written.provenance.options, "nested": {"a": (1.5,)}})
    assert found.provenance == made


numbers = st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(), st.text(max_size=9))


@given(
    keys=st.dictionaries(st.text(min_size=1, max_size=12), numbers, max_size=5),
    plane=hnp.arrays(np.float32, (3, 4)),
    values=st.lists(st.floats(), max_size=4),
    name=st.text(max_size=12),
)
@settings(deadline=None, max_examples=40)
def test_identities_survive_whatever_is_in_them(tmp_path_factory, keys, plane, values, name):
    written = Product(
        "dark",
        keys=keys,
        planes={"data": plane},
        tables={"t": {"x": np.array(values)}},
        quantities=tuple(Quantity(name.replace("\0", ""), value) for value in values),
    )
    path = tmp_path_factory.mktemp("p") / "p.fits"
    write(written, path)
    assert read(path).identity == written.identity


def test_a_reader_without_us_sees_it_all(tmp_path):
    write(product(), tmp_path / "p.fits")
    with fits.open(tmp_path / "p.fits", checksum=True) as hdus:
        hdus.verify("exception")
        assert hdus[0].header["IDENTITY"] == product().identity
        assert hdus[0].header["KEY temperature"] == -5.0
        assert hdus["SCI"].header["BUNIT"] == "adu"
        assert list(hdus["QUANTITIES"].data["name"]) == ["level", "read_noise", "read_noise"]
        rows = [tuple(row) for row in hdus["PROVENANCE"].data]
        assert ("input", "b1.fit", '"sha256:aa"') in rows
        assert hdus["DRIFT"].columns["time"].unit == "s"


def test_a_pixel_that_was_changed_is_told(tmp_path):
    write(product(), tmp_path / "p.fits")
    with fits.open(tmp_path / "p.fits", mode="update") as hdus:
        hdus["SCI"].data[5, 5] += 1
    with pytest.raises(FileError, match="the product was changed since it was written"):
        read(tmp_path / "p.fits")


def test_a_quantity_that_was_changed_is_told(tmp_path):
    write(product(), tmp_path / "p.fits")
    with fits.open(tmp_path / "p.fits", mode="update") as hdus:
        hdus["QUANTITIES"].data["value"][0] = 1.0
    with pytest.raises(FileError, match="changed since it was written"):
        read(tmp_path / "p.fits")


@pytest.mark.parametrize("name", ["PROVENANCE", "QUANTITIES", "DRIFT"])
def test_a_table_that_is_missing_is_told(tmp_path, name):
    write(product(), tmp_path / "p.fits")
    with fits.open(tmp_path / "p.fits") as hdus:
        kept = fits.HDUList([hdu for hdu in hdus if hdu.name != name])
        kept.writeto(tmp_path / "q.fits")
    with pytest.raises(FileError, match=r"table .* is missing"):
        read(tmp_path / "q.fits")


def test_a_damaged_header_is_told_in_a_sentence(tmp_path):
    """A column of another name: what read it knows no such column."""
    write(product(), tmp_path / "p.fits")
    data = (tmp_path / "p.fits").read_bytes()
    assert data.count(b"= 'has_sigma'") == 1
    (tmp_path / "p.fits").write_bytes(data.replace(b"= 'has_sigma'", b"= 'has_sigmb'"))
    with pytest.raises(FileError, match=r"the file is damaged \(KeyError: 'has_sigma'\)"):
        read(tmp_path / "p.fits")
