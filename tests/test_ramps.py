"""Ramps in files and in memory: values against the arrays that were written, facts, and bad files."""

from __future__ import annotations

import gzip
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from calibrant.cli.app import app
from calibrant.errors import FileError, OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.exposures.fit import fit
from calibrant.exposures.ramp_faults import faults
from calibrant.exposures.ramps import refuse_mixed, wrapped
from calibrant.files.fits import read, write, write_raw
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import check, load

SHAPE = (2, 5, 24, 16)
CARDS = {
    "INSTRUME": "NIRCAM", "DETECTOR": "NRCB4", "EXP_TYPE": "NRC_DARK", "READPATT": "MEDIUM8", "NFRAMES": 8,
    "GROUPGAP": 2, "TFRAME": 10.73677, "TGROUP": 107.3677, "SUBARRAY": "FULL", "DATE-OBS": "2022-07-12",
    "TIME-OBS": "01:02:03.5", "NGROUPS": 5, "FASTAXIS": -1, "SLOWAXIS": 2,
}  # fmt: skip


def counts(shape=SHAPE, dtype="u2", seed=0):
    values = np.random.default_rng(seed).integers(0, 20_000, shape)
    climb = np.minimum(1000 * np.arange(shape[-3]), 40_000)[:, None, None] if len(shape) > 2 else 0
    return (values + climb).astype(dtype)


def ramp_file(path, data=None, cards=None, **planes):
    """A file as the pipeline of a space telescope writes it; further planes by name."""
    data = counts() if data is None else data
    units = [("SCI", data, {"BUNIT": "DN"}), *((name.upper(), plane, {}) for name, plane in planes.items())]
    write_raw(path, None, {**CARDS, **(cards or {})}, units)
    return Path(path)


def only(path, instrument="nircam"):
    (one,) = Exposures.from_paths(path, instrument).ramps()
    return one


# --- values ---


@pytest.mark.parametrize("suffix", ["", ".gz", ".fz"])
@pytest.mark.parametrize(
    ("dtype", "given"), [("u2", "u2"), ("f4", "f4"), ("i4", "f4"), ("f8", "f4"), ("u1", "f4")]
)
def test_rows_of_all_groups(tmp_path, dtype, given, suffix):
    data = counts(dtype=dtype)
    one = only(ramp_file(tmp_path / f"a_uncal.fits{suffix}", data))
    assert one.shape == SHAPE and one.unit == "adu"
    for rows in (slice(None), slice(3, 9), slice(20, None), slice(-2, None)):
        found = one.values(rows)
        assert found.dtype == given and found.dtype.isnative and found.flags.owndata
        np.testing.assert_array_equal(found, data[:, :, rows])
    part = one.values(slice(4, 6), integrations=slice(1, None), groups=slice(None, None, -2))
    np.testing.assert_array_equal(part, data[1:, ::-2, 4:6])
    if dtype != "u1":
        buffer = np.zeros((2, 5, 3, 16), given)
        assert one.values(slice(4, 7), out=buffer) is buffer
        np.testing.assert_array_equal(buffer, data[:, :, 4:7])
        with pytest.raises(ShapeError, match="buffer does not fit"):
            one.values(slice(4, 6), out=buffer)


def test_numbers_of_a_real_library_are_read_as_it_reads_them(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    data = counts()
    units = [
        fits.PrimaryHDU(),
        fits.ImageHDU(data, name="SCI"),
        fits.ImageHDU(counts(dtype="u1"), name="GROUPDQ"),
    ]
    for key, value in CARDS.items():
        units[0].header[key] = value
    fits.HDUList(units).writeto(tmp_path / "b.fits")
    one = only(tmp_path / "b.fits")
    np.testing.assert_array_equal(one.values(), data)
    np.testing.assert_array_equal(one.read_dq(slice(2, 4)), counts(dtype="u1")[:, :, 2:4])


def test_a_plain_cube_has_one_integration(tmp_path):
    data = counts((7, 8, 12), "f4")
    write_raw(tmp_path / "cube.fits", data, {"IMAGETYP": "dark", "NREADS": 7})
    one = only(tmp_path / "cube.fits", "hxrg-generic")
    assert one.shape == (1, 7, 8, 12) and one.exposure.kind == "dark"
    np.testing.assert_array_equal(one.values(slice(2, 5))[0], data[:, 2:5])
    assert not one.has_read_dq and "GROUPDQ" in one.remarks[0] and "cube.fits" in one.remarks[0]


def test_more_groups_than_a_byte_counts(tmp_path):
    data = counts((1, 300, 6, 8))
    one = only(ramp_file(tmp_path / "a.fits", data))
    assert one.groups == one.exposure.get("groups") == 300
    np.testing.assert_array_equal(one.values(slice(1, 3), groups=slice(250, None)), data[:, 250:, 1:3])


def test_bands_cover_all_rows_and_keep_the_budget(tmp_path):
    one = only(ramp_file(tmp_path / "a.fits"))
    line = 2 * 5 * 16 * 2
    for budget in (1, line, 3 * line, 7 * line + 1, 10**9):
        bands = one.bands(budget)
        assert [row for band in bands for row in range(band.start, band.stop)] == list(range(24))
        assert max(band.stop - band.start for band in bands) <= max(budget // line, 1)
    assert len(one.bands(line * 24)) == 1 and len(one.bands(line * 24, itemsize=8)) == 4
    joined = np.concatenate([one.values(band) for band in one.bands(5 * line)], axis=2)
    np.testing.assert_array_equal(joined, one.values())


def test_flags_and_first_reads(tmp_path):
    flags, pixels = counts(dtype="u1", seed=1), counts(SHAPE[-2:], "u4", seed=2)
    first = counts((2, *SHAPE[-2:]), "u2", seed=3)
    one = only(ramp_file(tmp_path / "a.fits", groupdq=flags, pixeldq=pixels, zeroframe=first))
    assert one.has_read_dq and one.has_dq and one.has_first and not one.remarks
    np.testing.assert_array_equal(one.read_dq(slice(1, 4), groups=slice(2, 3)), flags[:, 2:3, 1:4])
    np.testing.assert_array_equal(one.dq(slice(1, 4)), pixels[1:4])
    np.testing.assert_array_equal(one.first(slice(1, 4)), first[:, 1:4])
    assert one.dq().dtype == np.uint32 and one.read_dq().dtype == np.uint8


def test_axis_of_one_integration_may_be_left_out(tmp_path):
    data, flags = counts((5, 6, 8)), counts((5, 6, 8), "u1")
    one = only(ramp_file(tmp_path / "a.fits", data, groupdq=flags, zeroframe=data[0]))
    np.testing.assert_array_equal(one.read_dq()[0], flags)
    np.testing.assert_array_equal(one.first()[0], data[0])


def test_times_of_groups(tmp_path):
    ends = np.arange(10.0) * 107.36771
    table = {
        "end_day": np.full(10, 8228, np.int16),
        "end_milliseconds": (ends * 1000).astype(np.int32),
        "end_submilliseconds": np.rint(ends * 1e6 % 1000).astype(np.int16),
    }
    units = [("SCI", counts(), {}), ("GROUP", table, {})]
    write_raw(tmp_path / "a.fits", None, CARDS, units)
    np.testing.assert_allclose(only(tmp_path / "a.fits").times().ravel(), ends, atol=2e-6)
    write_raw(tmp_path / "b.fits", None, CARDS, [("SCI", counts((1, 4, 6, 8)), {}), ("GROUP", table, {})])
    with pytest.raises(ShapeError, match="GROUP does not fit"):
        only(tmp_path / "b.fits").times()


def test_a_ramp_travels_to_other_processes(tmp_path):
    one = only(ramp_file(tmp_path / "a.fits", groupdq=counts(dtype="u1")))
    sent = pickle.dumps(one)
    assert len(sent) < 20_000
    np.testing.assert_array_equal(pickle.loads(sent).values(slice(0, 3)), one.values(slice(0, 3)))


# --- frames ---


@pytest.mark.parametrize(
    "data", [counts(), counts((5, 24, 16), "f4"), counts(dtype="f8"), counts(dtype="i4")]
)
def test_frames_in_memory(data):
    shape = data.shape if data.ndim == 4 else (1, *data.shape)
    flags, dq = counts(data.shape, "u1"), counts(data.shape[-2:], "u4")
    frame = Frame(data, read_dq=flags, dq=dq, exposure=Exposure(identifier="mine", kind="dark"))
    (one,) = Exposures.from_frames([frame], "hxrg-generic").ramps()
    assert one.shape == shape and one.name == "mine" and one.exposure.get("groups") == 5
    found = one.values(slice(3, 6), groups=slice(1, 4))
    assert found.dtype == (np.uint16 if data.dtype == np.uint16 else np.float32)
    np.testing.assert_array_equal(found, data.reshape(shape)[:, 1:4, 3:6])
    np.testing.assert_array_equal(one.read_dq(slice(3, 6)), flags.reshape(shape)[:, :, 3:6])
    np.testing.assert_array_equal(one.dq(slice(3, 6)), dq[3:6])
    found[:] = 0
    assert data.max() > 0, "values are no view of the frame"


def test_a_map_of_a_file_is_a_frame(tmp_path):
    data = counts()
    data.tofile(tmp_path / "raw")
    mapped = np.memmap(tmp_path / "raw", np.uint16, "r", shape=SHAPE)
    (one,) = Exposures.from_frames([Frame(mapped)], "hxrg-generic").ramps()
    np.testing.assert_array_equal(one.values(slice(2, 3)), data[:, :, 2:3])


def test_the_frame_of_a_file_stays_there_until_it_is_loaded(tmp_path):
    path = ramp_file(tmp_path / "a.fits", groupdq=counts(dtype="u1"), pixeldq=counts(SHAPE[-2:], "u4"))
    frame = Exposures.scan(path, "nircam").frame(0)
    assert frame.shape == SHAPE and not isinstance(frame.data, np.ndarray)
    for one in (frame, read(path)):
        (ramp,) = Exposures.from_frames([one], "nircam").ramps()
        np.testing.assert_array_equal(ramp.values(slice(5, 7)), counts()[:, :, 5:7])
        np.testing.assert_array_equal(ramp.dq(slice(5, 7)), counts(SHAPE[-2:], "u4")[5:7])
    loaded = frame.load()
    assert loaded.data.dtype == np.float32 and loaded.read_dq.dtype == np.uint8
    np.testing.assert_array_equal(loaded.data, counts())


def test_a_frame_of_ours_is_a_ramp_again(tmp_path):
    frame = Frame(counts(dtype="f4"), read_dq=counts(dtype="u1"), dq=counts(SHAPE[-2:], "u4"))
    write(frame, tmp_path / "ours.fits")
    one = only(tmp_path / "ours.fits", "hxrg-generic")
    np.testing.assert_array_equal(one.values(), frame.data)
    np.testing.assert_array_equal(one.read_dq(), frame.read_dq)
    np.testing.assert_array_equal(one.dq(), frame.dq)


# --- facts ---


def test_facts_of_a_header(tmp_path):
    (one,) = Exposures.scan(ramp_file(tmp_path / "a_uncal.fits"), "auto")
    assert (one.instrument, one.kind, one.detector, one.time) == (
        "nircam", "dark", "NRCB4", "2022-07-12T01:02:03.500Z",
    )  # fmt: skip
    facts = {key: one.get(key) for key in ("integrations", "groups", "nframes", "groupgap", "frame_time")}
    assert facts == {"integrations": 2, "groups": 5, "nframes": 8, "groupgap": 2, "frame_time": 10.73677}
    assert one.get("substrt1") == one.get("substrt2") == 1 and one.get("fastaxis") == -1
    assert one.duration == one.dark_time == pytest.approx(2 * 5 * 107.3677)


def test_a_read_pattern_says_what_cards_leave_out(tmp_path):
    path = ramp_file(
        tmp_path / "a.fits", cards={"READPATT": "DEEP2", "NFRAMES": "", "GROUPGAP": "", "TGROUP": ""}
    )
    (one,) = Exposures.scan(path, "nircam")
    assert (one.get("nframes"), one.get("groupgap")) == (2, 18)
    assert one.get("group_time") == pytest.approx(20 * 10.73677)


@pytest.mark.parametrize(
    ("cards", "shape", "ticks", "outputs", "border"),
    [
        ({}, (2048, 2048), 1_073_677, 4, (4, 4, 4, 4)),
        # Frame times as published: SUB640, SUB160, SUBGRISM256 by four outputs and by one.
        ({"SUBARRAY": "SUB640", "SUBSTRT1": 5, "SUBSTRT2": 1}, (640, 640), 418_584, 1, (4, 0, 0, 0)),
        ({"SUBARRAY": "SUB160", "SUBSTRT1": 1885, "SUBSTRT2": 1885}, (160, 160), 27_864, 1, (0, 0, 0, 0)),
        ({"SUBARRAY": "SUB160B", "SUBSTRT1": 1889, "SUBSTRT2": 100}, (160, 160), 27_864, 1, (0, 0, 0, 4)),
        ({"SUBARRAY": "SUBGRISM256", "SUBSTRT1": 1, "SUBSTRT2": 3}, (256, 2048), 134_669, 4, (2, 0, 4, 4)),
        (
            {"SUBARRAY": "SUBGRISM256", "NOUTPUTS": 1, "SUBSTRT1": 1, "SUBSTRT2": 1},
            (256, 2048), 531_480, 1, (4, 0, 4, 4),
        ),
        ({"SUBARRAY": "SOMEWHERE"}, (64, 64), 76 * 66, 1, (0, 0, 0, 0)),
    ],
)  # fmt: skip
def test_clock_and_reference_pixels_of_windows(cards, shape, ticks, outputs, border):
    camera = load("nircam")
    header = {**CARDS, **cards, "NAXIS": 4, "NAXIS1": shape[1], "NAXIS2": shape[0], "NAXIS3": 5, "NAXIS4": 2}
    one = camera.exposure({key: value for key, value in header.items() if key != "TFRAME"})
    clock, sides = camera.clock(one), camera.reference(one)
    assert (clock.frame_ticks, clock.outputs, clock.shape) == (ticks, outputs, shape)
    assert tuple(sides) == border
    assert (clock.fast, clock.slow) == (-1, 2)
    stated = replace(one, keys={**one.keys, "frame_time": (ticks + 3) * 1e-5})
    assert camera.clock(stated).frame_ticks == ticks + 3, "the header counts before the file"


def test_outputs_are_amplifiers_in_the_order_of_readout():
    camera = load("nircam")
    one = Exposure(detector="NRCA1", shape=(1, 3, 2048, 2048), keys={"fastaxis": -1, "slowaxis": 2})
    found = camera.readouts(one)
    numbers = camera.clock(one).output_of()
    assert [amp.name for amp in found] == ["1", "2", "3", "4"]
    for number, amp in enumerate(found):
        assert (numbers[amp.data] == number).all() and amp.gain == 2.05
    assert found[0].data[1] == slice(1536, 2048)


def test_an_instrument_without_a_clock_says_so():
    with pytest.raises(Exception, match="does not say how its pixels are clocked"):
        load("generic-ccd").clock(Exposure(shape=(4, 4)))


def test_a_header_that_contradicts_the_readout_is_one_sentence():
    camera = load("nircam")
    one = Exposure(shape=(5, 30, 30), path="x.fits", keys={"outputs": 4})
    with pytest.raises(Exception, match=r"x\.fits.*the header and the readout"):
        camera.clock(one)


@pytest.mark.parametrize("name", ["nircam", "hxrg-generic"])
def test_instrument_files_have_no_mistakes(name):
    assert not check(name)


# --- bad input ---


def test_a_file_that_ends_early_is_named(tmp_path):
    path = ramp_file(tmp_path / "short_uncal.fits")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    found = Exposures.scan([path, ramp_file(tmp_path / "good.fits")], "nircam")
    assert len(found) == 1 and len(found.problems) == 1
    assert "short_uncal.fits" in str(found.problems[0]) and "ends early" in str(found.problems[0])


def test_a_packed_file_that_ends_early_is_named(tmp_path):
    path = ramp_file(tmp_path / "short.fits.gz", counts(dtype="f4"))
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(whole[: len(whole) // 2]))
    with pytest.raises((FileError, SelectionError), match=r"short\.fits\.gz.*ends early"):
        only(path).values()


def test_a_file_cut_while_it_is_read(tmp_path):
    path = ramp_file(tmp_path / "a.fits")
    one = only(path)
    path.write_bytes(path.read_bytes()[:8000])
    with pytest.raises(FileError, match="changed while it was in use"):
        one.values()


@pytest.mark.parametrize(
    "planes",
    [
        {"groupdq": counts((2, 4, 24, 16), "u1")},
        {"pixeldq": counts((24, 15), "u4")},
        {"zeroframe": counts((3, 24, 16))},
    ],
    ids=str,
)
def test_planes_that_do_not_fit_are_named(tmp_path, planes):
    (name,) = planes
    with pytest.raises(FileError, match=rf"{name.upper()} does not fit the ramp"):
        only(ramp_file(tmp_path / "a.fits", **planes))


def test_an_image_is_no_ramp(tmp_path):
    write_raw(tmp_path / "rate.fits", None, CARDS, [("SCI", counts((24, 16), "f4"), {})])
    found = Exposures.scan(tmp_path / "rate.fits", "nircam")
    assert found.shape == (24, 16)  # listed, and read as any image
    np.testing.assert_array_equal(found.frame(0).load().data, counts((24, 16), "f4"))
    with pytest.raises(FileError, match="holds no ramp"):
        found.ramps()
    with pytest.raises(ShapeError, match="a ramp has the axes"):
        Exposures.from_frames([Frame(np.zeros((4, 4), np.float32))], "nircam").ramps()


def test_numbers_that_wrap_around_are_told(tmp_path):
    """Unsigned counts in a file that forgot BZERO: the ramp falls from 32767 to -32768."""
    true = np.linspace(30_000, 40_000, 5)[None, :, None, None] * np.ones(SHAPE)
    path = ramp_file(tmp_path / "wrap.fits", true.astype(np.uint16).view(np.int16))
    with pytest.raises(FileError, match=r"wrap\.fits: .*wrap around at group 2 of integration 0.*then -"):
        only(path).values()
    with pytest.raises(FileError, match="at group 2 of integration 1"):
        only(path).values(slice(4, 5), groups=slice(1, 4), integrations=slice(1, 2))
    fine = only(ramp_file(tmp_path / "fine.fits", counts(dtype="i2")))
    np.testing.assert_array_equal(fine.values(), counts(dtype="i2"))


def test_wrapped_values_are_found_from_the_fall_on():
    true = np.array([60_000, 64_000, 68_000, 72_000])[None, :, None, None]
    found = wrapped((true % 65536).astype(np.uint16))
    assert found[0, :, 0, 0].tolist() == [False, False, True, True]
    assert not wrapped(np.array([65535, 40_000, np.nan, 3], np.float32)[None, :, None, None]).any()
    up = np.array([0, 65535, 65535], np.uint16)[None, :, None, None]
    assert not wrapped(up).any(), "a particle may fill a pixel at once"


def test_nan_stays_nan(tmp_path):
    data = counts(dtype="f4")
    data[0, 2] = np.nan
    found = only(ramp_file(tmp_path / "a.fits", data)).values()
    assert np.isnan(found[0, 2]).all() and np.isfinite(found[0, 3]).all()


def test_mixed_ramps_are_refused_file_by_file(tmp_path):
    files = {
        "a.fits": {}, "b.fits": {}, "c.fits": {"READPATT": "RAPID"}, "d.fits": {"DETECTOR": "NRCA1"},
    }  # fmt: skip
    paths = [ramp_file(tmp_path / name, cards=cards) for name, cards in files.items()]
    ramps = Exposures.from_paths(paths, "nircam").ramps()
    refuse_mixed(ramps[:2])
    with pytest.raises(SelectionError, match=r"readpatt .*: MEDIUM8 in a\.fits, b\.fits; RAPID in c\.fits"):
        refuse_mixed(ramps[:3])
    with pytest.raises(SelectionError, match=r"detector differs: NRCB4 in a\.fits; NRCA1 in d\.fits"):
        refuse_mixed([ramps[0], ramps[3]])
    small = only(ramp_file(tmp_path / "e.fits", counts((1, 5, 6, 8))))
    with pytest.raises(SelectionError, match=r"size differs: 24 x 16 in a\.fits; 6 x 8 in e\.fits"):
        refuse_mixed([ramps[0], small])
    longer = only(ramp_file(tmp_path / "f.fits", counts((2, 6, 24, 16))))
    refuse_mixed([ramps[0], longer])  # mixed lengths are fine, unless the caller says otherwise
    with pytest.raises(SelectionError, match=r"groups differs: 5 in a\.fits; 6 in f\.fits"):
        refuse_mixed([ramps[0], longer], also=("groups",))
    with pytest.raises(SelectionError, match="no ramps"):
        refuse_mixed([])


def test_steps_for_images_are_refused(tmp_path):
    found = Exposures.scan(ramp_file(tmp_path / "a.fits"), "nircam").through(lambda exposure: exposure)
    with pytest.raises(OptionError, match="leave through out"):
        found.ramps()


def test_copies_are_found(tmp_path):
    paths = [ramp_file(tmp_path / name) for name in ("a.fits", "b.fits")]
    (same,) = Exposures.from_paths(paths, "nircam").duplicates()
    assert [Path(name).name for name in same] == ["a.fits", "b.fits"]
    frames = [Frame(counts(seed=seed), exposure=Exposure(identifier=str(seed))) for seed in (1, 2, 1)]
    assert len(Exposures.from_frames(frames, "nircam").duplicates()) == 1


def test_a_picture_reads_one_plane_of_a_ramp(tmp_path, monkeypatch):
    from calibrant.files.source import FitsSource
    from calibrant.report.plots.pixels import shown

    path, read_shapes, load_all = ramp_file(tmp_path / "a.fits"), [], FitsSource.load

    def load_one(self):
        read_shapes.append(self.shape)
        return load_all(self)

    monkeypatch.setattr(FitsSource, "load", load_one)
    picture = shown(Exposures.scan(path, "nircam").frame(0))
    np.testing.assert_array_equal(picture.values, counts()[0, 0])
    assert read_shapes == [(24, 16)] and picture.note == "plane 0, 0 of 2 × 5"


# --- what is wrong with the numbers ---


def test_faults_are_told_in_one_sentence_each(tmp_path):
    data, flags = counts(dtype="f4"), np.zeros(SHAPE, np.uint8)
    data[1, [1, 2, 4]] = np.nan
    data[0, 3:, 2, 2] -= 60_000
    flags[0, :, 5, :3] = DQ.SATURATED
    one = only(ramp_file(tmp_path / "a.fits", data, groupdq=flags))
    told = faults(one, budget=5000)
    assert told == (
        f"{one.name}: integration 1 has no number in groups 1-2, 4",
        f"{one.name}: 1 of 384 pixels wrap around: they fall by more than 32768 from one group to the next",
        f"{one.name}: 3 of 384 pixels are saturated in all groups of integration 0",
    )
    assert faults(one) == told, "bands do not count"


def test_a_good_ramp_has_no_faults(tmp_path):
    assert faults(only(ramp_file(tmp_path / "a.fits", groupdq=np.zeros(SHAPE, np.uint8)))) == ()


def test_saturated_from_the_first_group_on(tmp_path):
    full = np.full((1, 1, 24, 16), 65535, np.uint16)
    told = faults(only(ramp_file(tmp_path / "a.fits", full)))
    assert [sentence.partition(": ")[2] for sentence in told] == [
        "no flags of groups (GROUPDQ): no group is known to be saturated or hit",
        "a single group: nothing can be learnt of its noise or slope",
        "all pixels are saturated in all groups of integration 0",
    ]


def test_ls_checks_ramps(tmp_path):
    data = counts(dtype="f4")
    data[1, 3] = np.nan
    ramp_file(tmp_path / "bad.fits", data, groupdq=np.zeros(SHAPE, np.uint8))
    ramp_file(tmp_path / "good.fits", groupdq=np.zeros(SHAPE, np.uint8))
    wrap = np.linspace(30_000, 40_000, 5)[None, :, None, None] * np.ones(SHAPE)
    ramp_file(tmp_path / "wrap.fits", wrap.astype(np.uint16).view(np.int16))
    told = CliRunner().invoke(app, ["ls", str(tmp_path), "--check", "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert [row["shape"] for row in found["exposures"]] == [list(SHAPE)] * 3
    first, second = found["faults"]
    assert "bad.fits: integration 1 has no number in group 3" in first
    assert "wrap.fits: numbers wrap around at group 2" in second
    plain = CliRunner().invoke(app, ["ls", str(tmp_path), "--check"])
    assert "2 faults of ramps" in plain.stderr + plain.stdout and "bad.fits" in plain.stdout
    assert "faults" not in CliRunner().invoke(app, ["ls", str(tmp_path)]).output


def test_an_instrument_file_is_held_against_a_ramp(tmp_path):
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nextends = "hxrg-generic"\n[readout]\nrow_overhead = 8\noutputs = 3\n'
    )
    mine, path = tmp_path / "mine.toml", tmp_path / "a.fits"
    frame = 30 * (16 + 12) * 1e-5
    ramp_file(path, cards={"TFRAME": frame, "TGROUP": 10 * frame})
    assert not fit("nircam", path)
    ramp_file(tmp_path / "b.fits", cards={"NOUTPUTS": 3})
    (outputs,) = fit(mine, tmp_path / "b.fits")
    assert outputs.place == "readout" and "cannot share the columns" in outputs.what
    ramp_file(tmp_path / "c.fits", cards={"NOUTPUTS": 1, "TFRAME": 1e-4})
    (time,) = fit("nircam", tmp_path / "c.fits")
    assert "0.0001 s by the header" in time.what
    write_raw(tmp_path / "d.fits", None, CARDS, [("SCI", counts((24, 16)), {})])
    (none,) = fit("nircam", tmp_path / "d.fits")
    assert none.what.endswith("d.fits: the file holds no ramp")
