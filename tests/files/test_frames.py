"""Frames written and read: every bit back, cards kept, nothing dishonest in between."""

import hashlib
import time
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from calibrant.errors import FileError, UnitError
from calibrant.files.fits import open_source, read, write, write_raw
from calibrant.frame import DQ, Applied, Exposure, Frame
from calibrant.instrument import load

NAMES = ["a.fits", "a.fits.gz", "a.fits.fz", "b.FZ"]
PLANES = ("data", "variance", "systematic", "dq")


def original_header() -> fits.Header:
    header = fits.PrimaryHDU(np.zeros((2, 2), np.uint16)).header
    header["OBJECT"], header["EXPTIME"] = "M31", (60.0, "seconds")
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRPIX1"], header["CRPIX2"], header["CRVAL1"], header["CRVAL2"] = 3.0, 4.0, 10.0, 41.0
    header["CD1_1"], header["CD2_2"] = -1e-4, 1e-4
    header["HIERARCH ESO DET OUT1 GAIN"] = 1.25
    header["LONGTEXT"] = "abc'" * 50
    header["HISTORY"] = "flown by the camera"
    header["COMMENT"] = "kept"
    header["BUNIT"] = "ADU"
    return header


def frame() -> Frame:
    rng = np.random.default_rng(3)
    data = rng.normal(1000, 30, (41, 29)).astype(np.float32)
    data[0, :2] = np.nan, np.inf
    return Frame(
        data,
        variance=rng.random(data.shape).astype(np.float32),
        systematic=rng.random(data.shape).astype(np.float32),
        dq=rng.integers(0, 2**32, data.shape, dtype=np.uint32),
        unit="electron/s",
        exposure=Exposure(
            kind="light",
            start=1_508_299_807_926_000,
            duration=60.0,
            temperature=-5.25,
            binning=(1, 2),
            applied=frozenset({"dark", "overscan"}),
            keys={"speed": "fast", "window": (1, 2, (3, 4)), "none": None},
            shape=(41, 29),
        ),
        history=(
            Applied("bias", "sha256:0123", {"window": (1, 2)}, "a note"),
            Applied("flat", options={"floor": 0.05}),
        ),
        header=original_header().tostring(endcard=False, padding=False),
        systematic_from=frozenset({"sha256:0123", "sha256:4567"}),
        extra={"count": rng.integers(0, 9, data.shape, dtype=np.uint16), "Odd näme": data.astype(np.float64)},
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_bit_of_a_frame_comes_back(tmp_path, name):
    written = frame()
    write(written, tmp_path / name)
    lazy = read(tmp_path / name)
    assert not isinstance(lazy.data, np.ndarray)
    found = lazy.load()
    for plane in PLANES:
        ours, theirs = getattr(written, plane), getattr(found, plane)
        assert theirs.dtype == ours.dtype
        assert theirs.tobytes() == ours.tobytes(), plane
    assert {k: (v.dtype, v.tobytes()) for k, v in found.extra.items()} == {
        k: (v.dtype, v.tobytes()) for k, v in written.extra.items()
    }
    for fact in ("unit", "history", "systematic_from"):
        assert getattr(found, fact) == getattr(written, fact)
    assert replace(found.exposure, path=None) == written.exposure
    assert found.exposure.path == str(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_astropy_reads_the_same_numbers_with_right_sums(tmp_path, name):
    written = frame()
    write(written, tmp_path / name)
    with fits.open(tmp_path / name, checksum=True) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus[:5]] == ["PRIMARY", "SCI", "VAR", "SYS", "DQ"]
        for plane, label in zip(PLANES, ("SCI", "VAR", "SYS", "DQ"), strict=True):
            np.testing.assert_array_equal(hdus[label].data, getattr(written, plane))
        assert hdus["SCI"].header["BUNIT"] == "electron/s"
        assert hdus["VAR"].header["BUNIT"] == "electron2/s2"
        bits = dict(zip(hdus["DQ_DEF"].data["NAME"], hdus["DQ_DEF"].data["VALUE"], strict=True))
        assert bits == {bit.name: bit.value for bit in DQ}
        assert any("bias" in line for line in hdus[0].header["HISTORY"])
        assert not any("DATE" in key for key in hdus[0].header if key != "DATE-OBS")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_frame_gives_the_same_bytes(tmp_path, name, monkeypatch):
    hashes = set()
    for folder, clock in (("one", 1e9), ("two", 1.5e9)):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        (tmp_path / folder).mkdir()
        write(frame(), tmp_path / folder / name)
        hashes.add(hashlib.sha256((tmp_path / folder / name).read_bytes()).digest())
    assert len(hashes) == 1


def test_original_cards_are_kept_but_for_those_of_the_old_structure(tmp_path):
    write(frame(), tmp_path / "a.fits")
    kept = fits.Header.fromstring(read(tmp_path / "a.fits").header)
    original = original_header()
    dropped = {"SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "BZERO", "BSCALE", "BUNIT"}
    for card in original.cards:
        if card.keyword in dropped:
            assert card.keyword not in kept
        elif card.keyword not in ("HISTORY", "COMMENT"):
            assert (kept[card.keyword], kept.comments[card.keyword]) == (card.value, card.comment)
    assert list(kept["HISTORY"]) == ["flown by the camera"]
    assert list(kept["COMMENT"]) == ["kept"]
    with fits.open(tmp_path / "a.fits") as hdus:
        sky, expected = WCS(hdus["SCI"].header), WCS(original)
        np.testing.assert_allclose(sky.pixel_to_world_values(7, 9), expected.pixel_to_world_values(7, 9))
        assert hdus[0].header["EXPTIME"] == 60.0


def test_writing_again_adds_nothing(tmp_path):
    write(frame(), tmp_path / "a.fits")
    first = read(tmp_path / "a.fits")
    write(first, tmp_path / "b.fits")
    assert read(tmp_path / "b.fits").header == first.header
    assert (tmp_path / "a.fits").stat().st_size == (tmp_path / "b.fits").stat().st_size


@pytest.mark.parametrize("done", [True, False])
def test_nobody_applies_the_gain_again(tmp_path, done):
    header = fits.Header(
        {"EGAIN": 1.5, "RDNOISE": 7.5, "SATURATE": 55000, "DATAMAX": 64000.0, "OBJECT": "M31"}
    )
    history = (Applied("gain"),) if done else ()
    cards = header.tostring(endcard=False, padding=False)
    unit = "electron" if done else "adu"
    write(Frame(np.ones((3, 4), np.float32), unit=unit, history=history, header=cards), tmp_path / "a.fits")
    found = fits.getheader(tmp_path / "a.fits")
    assert (found["OBJECT"], found["RDNOISE"]) == ("M31", 7.5)  # the read noise is in electrons
    assert found["EGAIN"] == (1.0 if done else 1.5)
    assert ("SATURATE" in found, "DATAMAX" in found) == (not done, not done)
    told = "".join(found["COMMENT"])
    assert ("EGAIN   =                  1.5" in told and "SATURATE=                55000" in told) == done
    first = read(tmp_path / "a.fits")
    write(first, tmp_path / "b.fits")
    assert read(tmp_path / "b.fits").header == first.header


@pytest.mark.parametrize(("more", "gain"), [({}, 1.0), ({"OFFSET": 10}, 120.0), ({"EGAIN": 0.8}, 120.0)])
def test_a_gain_that_is_a_setting_is_kept(tmp_path, more, gain):
    cards = fits.Header({"GAIN": 120.0, **more}).tostring(endcard=False, padding=False)
    frame = Frame(np.ones((3, 4), np.float32), unit="electron", history=(Applied("gain"),), header=cards)
    write(frame, tmp_path / "a.fits")
    assert fits.getheader(tmp_path / "a.fits")["GAIN"] == gain


def test_what_is_unknown_stays_unknown(tmp_path):
    write(Frame(np.ones((3, 4), np.float32), unit=""), tmp_path / "a.fits")
    found = read(tmp_path / "a.fits").load()
    assert (found.variance, found.systematic, found.dq, found.header) == (None, None, None, None)
    assert (found.unit, found.history, dict(found.extra)) == ("", (), {})
    with fits.open(tmp_path / "a.fits") as hdus:
        assert "BUNIT" not in hdus["SCI"].header
        assert "DQ_DEF" not in hdus


@pytest.mark.parametrize("name", ["a.fits", "a.fits.fz"])
def test_cubes_with_their_flags(tmp_path, name):
    ramp = Frame(
        np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5),
        dq=np.ones((4, 5), np.uint32),
        read_dq=np.full((2, 3, 4, 5), 4, np.uint8),
    )
    write(ramp, tmp_path / name)
    found = read(tmp_path / name).load()
    for plane in ("data", "dq", "read_dq"):
        np.testing.assert_array_equal(getattr(found, plane), getattr(ramp, plane))


@pytest.mark.parametrize("name", NAMES)
def test_a_source_of_our_file_brings_its_flags(tmp_path, name):
    written = frame()
    write(written, tmp_path / name)
    source = open_source(tmp_path / name)
    assert source.has_dq
    data, dq = np.empty((6, 29), source.encoding.dtype), np.empty((6, 29), np.uint32)
    source.read_into(slice(10, 16), data, dq)
    np.testing.assert_array_equal(data, written.data[10:16])
    np.testing.assert_array_equal(dq, written.dq[10:16])


def test_a_plane_can_be_read_by_name(tmp_path):
    written = frame()
    write(written, tmp_path / "a.fits")
    np.testing.assert_array_equal(open_source(tmp_path / "a.fits", "VAR").load(), written.variance)


def test_raw_files_and_their_exposures(tmp_path):
    data = np.arange(20, dtype=np.uint16).reshape(4, 5)
    write_raw(tmp_path / "dark.fits", data, {"EXPTIME": 30.0, "IMAGETYP": "Dark Frame", "BUNIT": "ADU"})
    raw = read(tmp_path / "dark.fits", instrument=load("generic-ccd"))
    assert (raw.unit, raw.exposure.kind, raw.exposure.duration) == ("adu", "dark", 30.0)
    assert raw.exposure.shape == (4, 5)
    assert raw.load().data.dtype == np.float32
    np.testing.assert_array_equal(raw.load().data, data)
    assert read(tmp_path / "dark.fits").exposure.kind == "unknown"


def test_an_unknown_unit_is_told(tmp_path):
    write_raw(tmp_path / "a.fits", np.ones((2, 2), np.float32), {"BUNIT": "parsecs"})
    with pytest.raises(UnitError, match="the unit 'parsecs' is unknown: expected adu"):
        read(tmp_path / "a.fits")


def test_a_file_of_the_future_is_told(tmp_path):
    write(frame(), tmp_path / "a.fits")
    fits.setval(tmp_path / "a.fits", "CALVERS", value=99)
    with pytest.raises(FileError, match="written by a newer version: expected layout 1, got 99"):
        read(tmp_path / "a.fits")
