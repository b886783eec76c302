"""Files of other pipelines, written by astropy: planes found, errors as variances, flags by their meaning."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty

from calibrant.errors import FileError, OptionError, ShapeError
from calibrant.files.fits import open_source, read
from calibrant.frame import DQ, NO_DATA

RNG = np.random.default_rng(4)
DATA = RNG.normal(100, 5, (12, 15)).astype(np.float32)
SIGMA = (1 + RNG.random(DATA.shape)).astype(np.float32)
FLAGS = RNG.choice(np.array([0, 1, 4, 2**31, 5], np.uint32), DATA.shape)


def mef(path, *units: tuple[str, np.ndarray], more=()):
    images = [fits.ImageHDU(data, name=name) for name, data in units]
    images[0].header["BUNIT"] = "ELECTRONS"
    fits.HDUList([fits.PrimaryHDU(), *images, *more]).writeto(path)
    return path


def test_sci_err_dq(tmp_path):
    path = mef(tmp_path / "a.fits", ("SCI", DATA), ("ERR", SIGMA), ("DQ", FLAGS))
    found = read(path).load()
    np.testing.assert_array_equal(found.data, DATA)
    np.testing.assert_allclose(found.variance, SIGMA.astype(float) ** 2, rtol=1e-6)
    np.testing.assert_array_equal(found.dq, FLAGS)
    assert found.unit == "electron"
    assert found.systematic is None
    source = open_source(path)
    dq = np.empty((3, 15), np.uint32)
    source.read_into(slice(2, 5), np.empty((3, 15), ">f4"), dq)
    np.testing.assert_array_equal(dq, FLAGS[2:5])


def test_sci_var_dq(tmp_path):
    found = read(mef(tmp_path / "a.fits", ("SCI", DATA), ("VAR", SIGMA), ("DQ", FLAGS))).load()
    np.testing.assert_array_equal(found.variance, SIGMA)
    np.testing.assert_array_equal(found.dq, FLAGS)


def test_sci_with_dq_alone_and_sci_alone(tmp_path):
    found = read(mef(tmp_path / "a.fits", ("SCI", DATA), ("DQ", FLAGS))).load()
    assert found.variance is None
    np.testing.assert_array_equal(found.dq, FLAGS)
    assert read(mef(tmp_path / "b.fits", ("SCI", DATA))).dq is None


def test_planes_of_the_same_extver_belong_together(tmp_path):
    units = []
    for version in (1, 2):
        for name, data in (("SCI", DATA * version), ("ERR", SIGMA * version), ("DQ", FLAGS // version)):
            units.append(fits.ImageHDU(data, name=name, ver=version))
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(tmp_path / "a.fits")
    second = read(tmp_path / "a.fits", hdu=4).load()
    np.testing.assert_array_equal(second.data, DATA * 2)
    np.testing.assert_array_equal(second.dq, FLAGS // 2)
    np.testing.assert_allclose(second.variance, (SIGMA * 2) ** 2, rtol=1e-6)


def test_flags_are_translated_by_the_names_in_the_file(tmp_path):
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("BIT", "J", array=[0, 3, 5]),
            fits.Column("VALUE", "J", array=[1, 8, 32]),
            fits.Column("NAME", "20A", array=["HOT", "SATURATED", "OF_THEIR_OWN"]),
            fits.Column("DESCRIPTION", "20A", array=["", "", ""]),
        ],
        name="DQ_DEF",
    )
    theirs = np.zeros(DATA.shape, np.int16)
    theirs[0, :4] = 1, 8, 9, 32
    found = read(mef(tmp_path / "a.fits", ("SCI", DATA), ("DQ", theirs), more=[table])).load()
    expected = [DQ.HOT, DQ.SATURATED, DQ.HOT | DQ.SATURATED, DQ.OTHER_BAD_PIXEL]
    assert found.dq[0, :4].tolist() == [int(bits) for bits in expected]
    assert not found.dq[1:].any()


def test_flags_that_nobody_defines_are_bad_and_kept(tmp_path):
    theirs = np.zeros(DATA.shape, np.int16)
    theirs[2, 3] = 4096
    found = read(mef(tmp_path / "a.fits", ("SCI", DATA), ("ERR", SIGMA), ("DQ", theirs))).load()
    assert found.dq[2, 3] == DQ.DO_NOT_USE
    assert np.count_nonzero(found.dq) == 1
    np.testing.assert_array_equal(found.extra["dq_original"], theirs)


def test_image_variance_mask(tmp_path):
    mask = fits.ImageHDU(np.zeros(DATA.shape, np.int32), name="MASK")
    for bit, name in enumerate(("BAD", "SAT", "CR", "DETECTED", "NO_DATA")):
        mask.header[f"HIERARCH MP_{name}"] = bit
        mask.data[0, bit] = 1 << bit
    image, variance = fits.ImageHDU(DATA, name="IMAGE"), fits.ImageHDU(SIGMA, name="VARIANCE")
    fits.HDUList([fits.PrimaryHDU(), image, mask, variance]).writeto(tmp_path / "a.fits")
    found = read(tmp_path / "a.fits").load()
    np.testing.assert_array_equal(found.variance, SIGMA)
    expected = [DQ.DO_NOT_USE | DQ.OTHER_BAD_PIXEL, DQ.SATURATED, DQ.JUMP_DET, 0, NO_DATA]
    assert found.dq[0, :5].tolist() == [int(bits) for bits in expected]


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
@pytest.mark.parametrize("mask", [False, True])
def test_ccddata(tmp_path, kind, mask):
    bad = FLAGS > 0
    ccd = CCDData(DATA, unit="adu", uncertainty=kind(SIGMA), mask=bad if mask else None)
    ccd.write(tmp_path / "a.fits")
    found = read(tmp_path / "a.fits").load()
    np.testing.assert_array_equal(found.data, DATA)
    expected = ccd.uncertainty.represent_as(VarianceUncertainty).array
    np.testing.assert_allclose(found.variance, expected, rtol=1e-6)
    if mask:
        np.testing.assert_array_equal(found.dq, np.where(bad, DQ.DO_NOT_USE, 0))
    else:
        assert found.dq is None
    assert not found.extra


def test_ramps(tmp_path):
    ramp = RNG.normal(size=(2, 3, 12, 15)).astype(np.float32)
    reads = RNG.integers(0, 255, ramp.shape, dtype=np.uint8)
    units = (("SCI", ramp), ("PIXELDQ", FLAGS), ("GROUPDQ", reads))
    found = read(mef(tmp_path / "a.fits", *units)).load()
    np.testing.assert_array_equal(found.data, ramp)
    np.testing.assert_array_equal(found.dq, FLAGS)
    np.testing.assert_array_equal(found.read_dq, reads)


def test_compressed_extensions(tmp_path):
    parts = [("SCI", DATA, "GZIP_2"), ("ERR", SIGMA, "GZIP_2"), ("DQ", FLAGS, "RICE_1")]
    units = [fits.CompImageHDU(d, name=n, compression_type=c, quantize_level=0) for n, d, c in parts]
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(tmp_path / "a.fits.fz")
    found = read(tmp_path / "a.fits.fz").load()
    np.testing.assert_array_equal(found.data, DATA)
    np.testing.assert_array_equal(found.dq, FLAGS)


def test_a_layout_can_be_asked_for(tmp_path):
    path = mef(tmp_path / "a.fits", ("SCI", DATA), ("ERR", SIGMA), ("VAR", SIGMA), ("DQ", FLAGS))
    np.testing.assert_array_equal(read(path, "sci-var-dq").load().variance, SIGMA)
    assert read(path, "single").variance is None
    with pytest.raises(OptionError, match="this layout is unknown: expected sci-err-dq"):
        read(path, "other")


def test_planes_that_do_not_belong_to_the_data_are_left_alone(tmp_path):
    path = mef(tmp_path / "a.fits", ("SCI", DATA), ("ERR", SIGMA[:5]), ("DQ", FLAGS[:5]))
    found = read(path)
    assert (found.variance, found.dq) == (None, None)


def test_a_dq_plane_of_floats_is_refused(tmp_path):
    with pytest.raises(ShapeError, match="does not hold integers"):
        read(mef(tmp_path / "a.fits", ("SCI", DATA), ("DQ", SIGMA)))


def test_no_image(tmp_path):
    fits.PrimaryHDU().writeto(tmp_path / "a.fits")
    with pytest.raises(FileError, match="holds no image"):
        read(tmp_path / "a.fits")


def test_one_of_several_images_must_be_named(tmp_path):
    planes = [(f"AMP{n}", np.full((3, 4), n, np.uint16)) for n in (1, 2)]
    path = mef(tmp_path / "two.fits", *planes)
    for ask in (read, open_source):
        with pytest.raises(FileError, match=r"holds 2 images \(AMP1, AMP2\).*name the hdu"):
            ask(path)
        assert ask(path, hdu="AMP2").load() is not None
    chips = [("SCI", np.zeros((3, 4), "f4")), ("ERR", np.ones((3, 4), "f4"))] * 2
    with pytest.raises(FileError, match=r"2 images \(1 SCI, 3 SCI\)"):
        read(mef(tmp_path / "chips.fits", *chips))
