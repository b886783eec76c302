"""Image slicers in files: instruments, slope cubes, sources and backgrounds, distortion files."""

import numpy as np
import pytest

from calibrant.errors import FileError, MissingCalibrationError, SelectionError
from calibrant.exposures import Exposures
from calibrant.exposures.sources import only, subtracted
from calibrant.files.distortion import agreement, read_distortion
from calibrant.files.fits import write_raw
from calibrant.files.slice_planes import read_resolution, read_slice_planes
from calibrant.frame import Exposure
from calibrant.instrument import load
from calibrant.simulate.slicer import Scene
from calibrant.simulate.slicer_files import simulate


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("slicer")
    scene = Scene.load("slicer-demo")
    simulate(out, scene, sources=("internal", "extended-800K", "background"), campaigns=("FM", "OTIS"))
    return out


@pytest.fixture
def exposures(folder):
    return Exposures.scan(folder, "slicer-demo")


def test_bands_of_the_spectrometer():
    camera = load("miri-mrs")
    first, second = (camera.slice_map(Exposure(keys={"band": band})) for band in ("1A", "2A"))
    assert len(first.numbers) == 21 and first.numbers[0] == 111 and first.numbers[-1] == 101
    assert len(second.numbers) == 17
    np.testing.assert_array_equal(first.ids > 0, second.ids < 0)
    joined = camera.slice_map(Exposure(keys={"band": "A", "channel": "12"}))
    assert len(joined.numbers) == 38
    with pytest.raises(SelectionError, match="distortion file"):
        camera.slice_map(Exposure(keys={"band": "3C"}))


def test_resolving_power_rises_along_the_band():
    resolution = load("miri-mrs").resolution(Exposure(keys={"band": "1A"}))
    assert resolution(4.87) == pytest.approx(3320, abs=5)
    assert resolution(5.765) == pytest.approx(3710, abs=5)
    assert resolution.width(5.3) == pytest.approx(5.3 / 3507, rel=1e-3)


def test_slopes_with_their_errors_and_flags(exposures):
    found = exposures.where(source="internal", campaign="OTIS", band="demo")
    assert len(found) == 1 and found[0].shape == (260, 512)
    frame = found.frame(0).load()
    assert frame.unit == "adu/s"
    good = frame.dq == 0
    expected = np.maximum(frame.data, 0) / (5.5 * 277) + 0.05**2
    assert np.nanmedian(frame.variance[good] / expected[good]) == pytest.approx(1.0, abs=0.01)
    assert (frame.dq != 0).mean() == pytest.approx(0.005 + 8 / 260, abs=0.002)


def test_a_source_without_its_background(exposures):
    facts = {"source": "extended-800K", "campaign": "FM", "band": "demo"}
    frame = subtracted(exposures, **facts)
    plain = exposures.where(**facts).frame(0).load()
    dark = exposures.where(source="background", campaign="FM").frame(0).load()
    np.testing.assert_allclose(frame.data, plain.data - dark.data)
    np.testing.assert_allclose(frame.variance, plain.variance + dark.variance)
    assert frame.did("background")


def test_what_is_missing_is_named(exposures):
    with pytest.raises(SelectionError, match=r"no exposure has the band 2A among those of .* campaign OTIS"):
        only(exposures, source="internal", campaign="OTIS", band="2A")
    with pytest.raises(MissingCalibrationError, match="no background"):
        subtracted(exposures.where(source="extended-800K"), source="extended-800K", campaign="FM")
    with pytest.raises(SelectionError, match="exposures agree"):
        only(exposures, source="internal")


def test_campaigns_are_told_by_the_names_of_ground_files():
    camera = load("miri-mrs")
    names = {
        "MIRFM1T00012668_1_495_SE_2011-07-06T00h00m00_LVL2.fits": ("FM", "MIRIFUSHORT"),
        "MIRM33541-A-A-8MA-6019093539_1_495_SE_2016-01-19T09h59m18_LVL2.fits": ("CV3", "MIRIFUSHORT"),
        "MIRV00331001001P0000000002103_1_494_SE_2017-08-25T19h09m24_LVL2.fits": ("OTIS", "MIRIFULONG"),
    }
    for name, (campaign, detector) in names.items():
        exposure = camera.exposure({}, name)
        assert (exposure.campaign, exposure.detector) == (campaign, detector)


def test_a_cube_of_another_depth_is_refused(tmp_path):
    path = tmp_path / "cube.fits"
    write_raw(path, np.zeros((5, 6, 7), np.float32), [("SOURCE", "internal")])
    with pytest.raises(FileError, match="no slope image"):
        Exposures.scan(path, "miri-mrs").frame(0)


@pytest.mark.parametrize("unit", ["DN/s", "MJy/sr"])
def test_files_with_their_own_maps(tmp_path, unit):
    path = tmp_path / "one_cal.fits"
    data = np.full((6, 8), 2.0, np.float32)
    ids = np.zeros((2, 6, 8), np.int16)
    ids[0, :, 2:6], ids[1, :, 3:5] = 101, 101
    wave = np.where(ids[0] > 0, 5.0, 0.0).astype(np.float32)
    units = [
        ("SCI", data, [("BUNIT", unit)]),
        ("ERR", 0.5 * data, []),
        ("DQ", (data * 0).astype(np.int32), []),
    ]
    maps = [("REGIONS", ids, []), ("WAVELENGTH", wave, [])]
    write_raw(path, None, [("INSTRUME", "MIRI"), ("CHANNEL", "12"), ("BAND", "SHORT")], [*units, *maps])
    slices = read_slice_planes(path)
    assert slices.numbers == (101,) and np.nanmax(slices.wavelength) == 5.0
    assert (read_slice_planes(path, level=1).ids > 0).sum() == 12
    with pytest.raises(FileError, match="no such plane"):
        read_slice_planes(path, level=2)
    frame = Exposures.scan(path, "miri-mrs").frame(0).load()
    assert frame.unit == {"DN/s": "adu/s"}.get(unit, unit)
    np.testing.assert_allclose(frame.variance, 1.0)


def test_a_table_of_resolving_powers(tmp_path):
    path = tmp_path / "specres.fits"
    columns = {"name": np.array(["1A", "1B"]), "ref": np.array([5.3, 6.1])}
    columns |= {f"c{n}": np.array([n, n + 0.5]) for n in range(9)}
    write_raw(path, None, [], [("RES", columns, [])])
    resolution = read_resolution(path, 1)
    assert resolution.at == 6.1 and resolution.coefficients == (6.5, 7.5, 8.5)
    with pytest.raises(FileError, match="lacks the band"):
        read_resolution(path, 7)


@pytest.mark.real
def test_a_real_distortion_file_agrees_with_its_own_slices(real_data):
    [path] = real_data.glob("mrs/*DISTORTION*.fits")
    whole, field = read_distortion(path), read_distortion(path, field=True)
    assert len(whole.numbers) == 28
    same, different = agreement(field, whole.ids)
    assert different == 0 and same > 0.8 * (whole.ids > 0).sum()
    assert 15.2 < np.nanmin(whole.wavelength) < np.nanmax(whole.wavelength) < 28.6
    third = read_distortion(path, channel=3)
    assert len(third.numbers) == 16 and (third.ids < 0).any()
    # Limits of alpha lie amid the slices if pixels count from 1, and a fifth of an arcsec aside if from 0.
    aside = {origin: _aside(path, origin) for origin in (0.0, 1.0)}
    assert abs(aside[1.0]) < 0.05 < 0.15 < abs(aside[0.0])
    with pytest.raises(FileError, match="lacks this channel"):
        read_distortion(path, channel=1)


def _aside(path, origin):
    """Middle of the plane's slices in alpha, less that of their limits; mean of channel 3."""
    plane = read_distortion(path, channel=3, origin=origin)
    field = read_distortion(path, channel=3, origin=origin, field=True)
    found = []
    for number in plane.numbers:
        limits = field.alpha[field.ids == number]
        alpha = np.where(plane.ids == number, plane.alpha, np.nan)[100:900:50]
        alpha = alpha[np.isfinite(alpha).any(axis=1)]
        middle = 0.5 * (np.nanmin(alpha, axis=1) + np.nanmax(alpha, axis=1))
        found.append(middle.mean() - 0.5 * (limits.min() + limits.max()))
    return np.mean(found)
