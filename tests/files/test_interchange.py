"""Frames to and from CCDData, as astropy and ccdproc understand them."""

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty

from calibrant.errors import UnitError
from calibrant.files.fits import read, write
from calibrant.frame import DQ, Frame

RNG = np.random.default_rng(9)
DATA = RNG.normal(100, 5, (8, 9)).astype(np.float32)
VARIANCE = (1 + RNG.random(DATA.shape)).astype(np.float32)
FLAGS = RNG.choice(np.array([0, 0, 1, 4, 2**31], np.uint32), DATA.shape)
CARDS = "".join(f"{card:<80}" for card in ("OBJECT  = 'M31'", "EXPTIME = 30.0", "HISTORY old"))
FRAME = Frame(DATA, VARIANCE, VARIANCE * 2, FLAGS, unit="electron", header=CARDS)


def test_to_ccddata():
    ccd = FRAME.to_ccddata()
    assert isinstance(ccd, CCDData)
    assert (ccd.unit, ccd.data.dtype) == (u.electron, np.float32)
    np.testing.assert_allclose(ccd.uncertainty.array, VARIANCE * 3, rtol=1e-6)
    assert ccd.uncertainty.uncertainty_type == "var"
    np.testing.assert_array_equal(ccd.mask, FLAGS > 0)
    assert ccd.header["OBJECT"] == "M31"
    assert ccd.wcs is None


def test_back_from_ccddata():
    found = Frame.from_ccddata(FRAME.to_ccddata())
    np.testing.assert_array_equal(found.data, DATA)
    np.testing.assert_allclose(found.variance, VARIANCE * 3, rtol=1e-6)
    np.testing.assert_array_equal(found.dq, FLAGS)
    assert (found.unit, found.systematic) == ("electron", None)
    assert "OBJECT  = 'M31" in found.header
    assert len(found.header) % 80 == 0


@pytest.mark.parametrize("unit", ["adu", "electron", "adu/s", "electron/s", ""])
def test_units(unit):
    frame = Frame(DATA, unit=unit)
    ccd = frame.to_ccddata()
    assert ccd.unit == (u.Unit(unit) if unit else u.dimensionless_unscaled)
    assert Frame.from_ccddata(ccd).unit == unit
    assert Frame.from_ccddata(ccd).variance is None
    assert Frame.from_ccddata(ccd).dq is None


@pytest.mark.parametrize("kind", [StdDevUncertainty, InverseVariance])
def test_other_uncertainties_become_variances(kind):
    ccd = CCDData(DATA, unit="adu", uncertainty=kind(VARIANCE))
    expected = VARIANCE**2 if kind is StdDevUncertainty else 1 / VARIANCE
    np.testing.assert_allclose(Frame.from_ccddata(ccd).variance, expected, rtol=1e-6)


def test_a_mask_that_was_widened_counts_beside_the_flags():
    ccd = FRAME.to_ccddata()
    ccd.mask = ccd.mask.copy()
    row, col = np.argwhere(FLAGS == 0)[0]
    ccd.mask[row, col] = True
    found = Frame.from_ccddata(ccd)
    assert found.dq[row, col] == DQ.DO_NOT_USE
    np.testing.assert_array_equal(found.dq[FLAGS > 0], FLAGS[FLAGS > 0])


def test_a_plain_mapping_as_meta():
    ccd = CCDData(DATA, unit="adu", meta={"exptime": 3.0, "a long keyword": "x", "odd": object()})
    assert "EXPTIME =                  3.0" in Frame.from_ccddata(ccd).header


def test_units_that_pixels_cannot_have():
    with pytest.raises(UnitError, match="the unit 'm' is unknown"):
        Frame.from_ccddata(CCDData(DATA, unit="m"))


def test_ccdproc_works_with_our_frames_and_reads_our_files(tmp_path):
    bias = Frame(np.full(DATA.shape, 10, np.float32), unit="electron").to_ccddata()
    corrected = ccdproc.subtract_bias(FRAME.to_ccddata(), bias)
    np.testing.assert_allclose(Frame.from_ccddata(corrected).data, DATA - 10, rtol=1e-6)
    write(FRAME, tmp_path / "a.fits")
    theirs = CCDData.read(
        tmp_path / "a.fits", hdu="SCI", hdu_uncertainty="VAR", hdu_mask=None, key_uncertainty_type="NONE"
    )
    np.testing.assert_array_equal(theirs.data, DATA)
    assert theirs.unit == u.electron
    corrected.write(tmp_path / "b.fits")
    np.testing.assert_allclose(read(tmp_path / "b.fits").load().data, DATA - 10, rtol=1e-6)
