"""Read noise of ramps: kernels against NumPy, the published numbers, bad input, conventions, files."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import sigma_clip

from calibrant.effects import read_noise
from calibrant.effects._ramp_noise import pairs_of
from calibrant.effects._ramp_noise_boxes import edges_of, truncation
from calibrant.effects._ramp_noise_factors import factors
from calibrant.errors import BudgetError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.files.jwst_reference import read_readnoise, write_readnoise
from calibrant.frame import DQ, Exposure, Frame
from calibrant.product import Product, Quantity
from calibrant.stack import kernels_read_noise as kernels
from calibrant.stack.networks import sorting_network

SHAPE = (40, 64)
NOISE = 6.0
KEYS = {"nframes": 1, "readpatt": "RAPID", "subarray": "FULL", "substrt1": 1, "substrt2": 1, "fastaxis": -1,
        "slowaxis": 2, "telescope": "JWST"}  # fmt: skip


def reads(groups=10, integrations=1, shape=SHAPE, seed=1, noise=NOISE):
    rng = np.random.default_rng(seed)
    return (1000 + noise * rng.standard_normal((integrations, groups, *shape))).astype(np.float32)


def exposures(*ramps, read_dq=None, dq=None, **keys):
    frames = []
    for number, values in enumerate(ramps):
        flags = None if read_dq is None else read_dq[number]
        facts = Exposure(
            kind="dark", instrument="nircam", detector="NRCA1", start=number * 10**9,
            identifier=f"dark{number}", keys={**KEYS, **keys},
        )  # fmt: skip
        frames.append(Frame(values, exposure=facts, read_dq=flags, dq=dq))
    return Exposures.from_frames(frames, "nircam")


def published(ramps, kind="independent", method="stack"):
    """The algorithm of jwst_reffiles, as its source says it."""

    def cds(ramp):
        return np.concatenate(
            [one[1::2] - one[::2] if kind == "independent" else np.diff(one, axis=0) for one in ramp]
        )

    def clipped(values):
        return sigma_clip(values, sigma=3.0, maxiters=3, axis=0)

    if method == "stack":
        return np.std(clipped(np.concatenate([cds(ramp) for ramp in ramps])), axis=0).filled(np.nan)
    each = np.array([np.std(clipped(cds(ramp)), axis=0) for ramp in ramps])
    return np.mean(clipped(each), axis=0).filled(np.nan)


# --- kernels ---


@pytest.mark.parametrize("centre", ["median", "mean"])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 37])
def test_clipped_scatter_is_that_of_astropy(n, centre):
    values = np.random.default_rng(n).standard_normal((n, 500)).astype(np.float32)
    values[:, ::7] *= np.where(np.arange(n) % 5 == 0, 30.0, 1.0)[:, None].astype(np.float32)
    values[np.random.default_rng(2).random(values.shape) < 0.1] = np.nan
    out = np.empty((4, 500), np.float32)
    kernels.spread(values, sorting_network(n), 2.5, 3, centre == "median", out)
    with np.errstate(all="ignore"):
        clipped = sigma_clip(
            np.ma.masked_invalid(values.astype(float)), sigma=2.5, maxiters=3, axis=0, cenfunc=centre
        )
    np.testing.assert_allclose(out[0], np.ma.mean(clipped, axis=0).filled(np.nan), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out[1], np.ma.std(clipped, axis=0).filled(np.nan), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out[2], clipped.count(axis=0))
    np.testing.assert_array_equal(out[3], np.isfinite(values).sum(axis=0))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("compiled", [True, False])
def test_differences_know_flags(dtype, compiled):
    values = np.array([[10, 65000, 5], [8, 3, 7], [60000, 1, 1]], dtype)
    pairs, out = np.array([[0, 1], [1, 2]]), np.empty((2, 3), np.float32)
    subtract, strike = (f if compiled else f.py_func for f in (kernels.subtract, kernels.strike))
    subtract(values, pairs, 60000.0, out)
    np.testing.assert_array_equal(out, [[-2, np.nan, 2], [np.nan, -2, -6]])
    flags = np.zeros((3, 3), np.uint8)
    flags[1, 0], flags[2, 2] = DQ.JUMP_DET, DQ.SATURATED
    strike(flags, pairs, out)
    np.testing.assert_array_equal(np.isnan(out), [[True, True, False], [True, False, True]])
    flags[:] = 0
    flags[0] = DQ.JUMP_DET  # a jump before the first read is in no difference
    again = np.zeros((2, 3), np.float32)
    strike(flags, pairs, again)
    assert not np.isnan(again).any()


def test_lines_are_broken_at_jumps():
    rng = np.random.default_rng(3)
    values = (rng.standard_normal((12, 5)) + 3.0 * np.arange(12)[:, None]).astype(np.float32)
    ramps = np.array([[0, 7], [7, 5]])
    steps = np.concatenate([np.diff(values[:7], axis=0), np.diff(values[7:], axis=0)]).astype(np.float32)
    limits, out = np.array([[-1e9] * 5, [1e9] * 5], np.float32), np.zeros((2, 5))
    kernels.lines(values, ramps, steps, limits, out)

    def squares(parts, slopes):
        """About lines with an intercept for each part, by least squares."""
        design = np.concatenate([*[np.eye(len(parts))[i][None].repeat(n, 0) for i, n in enumerate(parts)]])
        return np.concatenate([design, slopes[:, None]], axis=1)

    for i in range(5):
        total = 0.0
        for first, last in ((0, 7), (7, 12)):
            own = squares([last - first], np.arange(last - first, dtype=float))
            fit = np.linalg.lstsq(own, values[first:last, i].astype(float), rcond=None)[0]
            total += ((values[first:last, i] - own @ fit) ** 2).sum()
        assert out[0, i] == pytest.approx(total, rel=1e-4) and out[1, i] == 5 + 3
    # A jump of a thousand between reads 3 and 4 costs one degree of freedom, and nothing else.
    hit = values.copy()
    hit[4:7] += 1000
    steps = np.concatenate([np.diff(hit[:7], axis=0), np.diff(hit[7:], axis=0)]).astype(np.float32)
    limits[1] = 100.0
    out[:] = 0
    kernels.lines(hit, ramps, steps, limits, out)
    design = squares([4, 3], np.arange(7, dtype=float))
    fit = np.linalg.lstsq(design, values[:7].astype(float), rcond=None)[0]
    second = squares([5], np.arange(5, dtype=float))
    rest = np.linalg.lstsq(second, values[7:].astype(float), rcond=None)[0]
    expected = ((values[:7] - design @ fit) ** 2).sum(0) + ((values[7:] - second @ rest) ** 2).sum(0)
    np.testing.assert_allclose(out[0], expected, rtol=1e-4)
    assert (out[1] == 7).all()


def test_boxes_clip_each_difference_for_itself():
    values = np.random.default_rng(4).standard_normal((3, 4, 20)).astype(np.float32) + 5
    values[1, 2, 3] = 400.0
    good = np.ones((4, 20), np.float32)
    good[0, :2] = 0
    edges, out = np.array([[0, 12], [12, 20]]), np.empty((3, 2, 4))
    kernels.boxes(values.reshape(3, -1), 0, 20, good.ravel(), edges, 3.0, 3, out)
    for j in range(3):
        for b, (left, right) in enumerate(edges):
            own = values[j, :, left:right][good[:, left:right] > 0].astype(float)
            kept = sigma_clip(own, sigma=3.0, maxiters=3, cenfunc="mean").compressed()
            assert out[j, b, 0] == own.size and out[j, b, 1] == kept.size
            assert out[j, b, 2] == pytest.approx(kept.mean(), rel=1e-5)
            assert out[j, b, 3] == pytest.approx(((kept - kept.mean()) ** 2).sum(), rel=1e-3)


def test_boxes_never_cross_outputs():
    edges = edges_of(np.repeat(np.arange(4, dtype=np.int16), 300), 128)
    assert [tuple(one) for one in edges[:3]] == [(0, 128), (128, 256), (256, 300)] and len(edges) == 12
    assert truncation(3.0, 3) == pytest.approx(1.0158, abs=3e-3)
    assert len(edges_of(np.zeros(10, np.int16), 0)) == 0


def test_pairs_cross_no_reset():
    assert pairs_of(2, 5, "independent").tolist() == [[0, 1], [2, 3], [5, 6], [7, 8]]
    assert pairs_of(2, 3, "consecutive").tolist() == [[0, 1], [1, 2], [3, 4], [4, 5]]


# --- the published numbers, and ours ---


@pytest.mark.parametrize("method", ["stack", "ramp"])
@pytest.mark.parametrize("kind", ["independent", "consecutive"])
def test_as_published_number_for_number(method, kind):
    ramps = [reads(8, 2, seed=1), reads(8, 1, seed=2), reads(8, 2, seed=3)]
    ramps[0][0, 3, 5, 5] += 5000
    found = read_noise.measure(exposures(*ramps), method=method, group_diff_type=kind, as_published=True)
    cds = found.planes["read_noise"] * np.sqrt(2)
    np.testing.assert_allclose(cds, published(ramps, kind, method), rtol=1e-6)


def test_ours_is_unbiased_where_the_published_is_low():
    ramps = [reads(20, seed=seed, shape=(64, 128)) for seed in range(5)]
    ours = {m: read_noise.measure(exposures(*ramps), method=m) for m in ("stack", "ramp", "residual")}
    for found in ours.values():
        assert found.quantity("read_noise").value == pytest.approx(NOISE, rel=5e-3)
    low = read_noise.measure(exposures(*ramps), method="ramp", as_published=True)
    assert low.quantity("read_noise").value < 0.93 * NOISE


def test_line_residuals_are_worth_twice_the_frames():
    ramps = [reads(20, seed=seed, shape=(64, 128)) for seed in range(5)]
    scatter = {}
    for method in ("stack", "residual"):
        found = read_noise.measure(exposures(*ramps), method=method)
        scatter[method] = found.planes["read_noise"].std()
        stated = np.sqrt(np.median(found.planes["read_noise_variance"]))
        assert scatter[method] == pytest.approx(stated, rel=0.05)
    assert scatter["stack"] ** 2 / scatter["residual"] ** 2 == pytest.approx(2.0, abs=0.3)


def test_factors_are_those_measured_of_the_published_estimator():
    options = read_noise.Options()
    for n, expected in ((5, 0.841), (10, 0.922), (25, 0.960), (50, 0.973), (100, 0.979)):
        assert factors(((n, 2),), "stack", options).mean[0] == pytest.approx(expected, abs=2e-3)


def test_drifts_tell_spatial_from_temporal_noise():
    ramps = [reads(12, seed=seed, shape=(128, 256)) for seed in range(3)]
    white = read_noise.measure(exposures(*ramps), method="stack")
    assert white.quantity("spatial_to_temporal").value == pytest.approx(1.0, abs=0.01)
    rng = np.random.default_rng(8)
    for ramp in ramps:
        ramp += (4 * rng.standard_normal((1, 12, 1, 1))).astype(np.float32)
    drifting = read_noise.measure(exposures(*ramps), method="stack")
    ratio = drifting.quantity("spatial_to_temporal").value
    assert ratio == pytest.approx(NOISE / np.hypot(NOISE, 4), abs=0.06)
    slow = [one + (np.cumsum(np.full(12, 1.0)) ** 2 / 4)[:, None, None].astype(np.float32) for one in ramps]
    lines = read_noise.measure(exposures(*slow), method="residual")
    assert lines.quantity("line_to_difference").value > 1.05


# --- flags, odd groups, bad input ---


def test_flags_of_groups_are_left_out():
    ramp = reads(20, seed=5)
    ramp[:, 7:, :, :] += 500.0  # a jump in every pixel, seen by the flags alone
    ramp[:, 12, 3, 4] = 9e4
    flags = np.zeros(ramp.shape, np.uint8)
    flags[:, 7] = DQ.JUMP_DET
    flags[:, 12, 3, 4] = DQ.SATURATED
    found = read_noise.measure(exposures(ramp, read_dq=[flags]), method="stack", box=0)
    assert found.planes["count"].max() <= 9
    assert found.quantity("read_noise").value == pytest.approx(NOISE, rel=0.05)
    lines = read_noise.measure(exposures(ramp, read_dq=[flags]), method="residual", box=0)
    assert lines.quantity("read_noise").value == pytest.approx(NOISE, rel=0.05)
    low = read_noise.measure(exposures(ramp, read_dq=[flags]), method="stack", as_published=True, box=0)
    np.testing.assert_allclose(low.planes["read_noise"] * np.sqrt(2), published([ramp]), rtol=1e-5)


def test_odd_groups_and_mixed_lengths():
    ramps = [reads(7, seed=1), reads(10, 2, seed=2), reads(5, seed=3)]
    found = read_noise.measure(exposures(*ramps), method="stack")
    assert found.quantity("read_noise").value == pytest.approx(NOISE, rel=0.03)
    assert found.planes["count"].max() == 3 + 10 + 2
    assert any("odd number of groups (5, 7)" in note for note in found.provenance.notes)
    with pytest.raises(SelectionError, match="2 groups or more"):
        read_noise.measure(exposures(reads(1)), method="stack")
    kept = read_noise.measure(exposures(reads(1), reads(6, seed=2)), method="stack")
    assert any("left out: " in note and "fewer than 2 groups" in note for note in kept.provenance.notes)


def test_mixed_patterns_are_named():
    one, two = exposures(reads()), exposures(reads(seed=2), readpatt="MEDIUM8", nframes=8)
    with pytest.raises(SelectionError, match=r"readpatt differs: RAPID in .*MEDIUM8 in "):
        read_noise.measure(one + two, method="stack")


def test_a_pixel_without_reads_has_no_noise():
    ramp = reads(10)
    ramp[:, :, 20, 30] = np.nan
    ramp[:, 3, 21, 30] = np.nan
    ramp[:, :, 22, 30] = 65535.0
    flags = np.zeros(ramp.shape, np.uint8)
    flags[:, :, 22, 30] = DQ.SATURATED
    found = read_noise.measure(exposures(ramp, read_dq=[flags]), method="stack")
    noise, dq = found.planes["read_noise"], found.planes["dq"]
    assert np.isnan(noise[[20, 22], 30]).all() and np.isfinite(noise[21, 30])
    assert (dq[[20, 22], 30] & DQ.DO_NOT_USE).all() and not dq[21, 30] & DQ.DO_NOT_USE
    assert any(note.startswith("2 pixels have no read noise") for note in found.provenance.notes)
    everything = read_noise.measure(exposures(np.full_like(ramp, np.nan)), method="residual")
    assert np.isnan(everything.quantity("read_noise").value)


def test_options_that_mean_nothing():
    ramp = exposures(reads())
    for wrong in ({"method": "stck"}, {"method": "stack", "group_diff": "x"}, {"group_diff_type": "all"},
                  {"clipping_sigma": 0}, {"description": "x" * 66}):  # fmt: skip
        with pytest.raises(OptionError):
            read_noise.measure(ramp, **wrong)
    with pytest.raises(OptionError, match="clipping_sigma"):
        read_noise.measure(ramp, method="stack", cliping_sigma=2)
    with pytest.raises(BudgetError):
        read_noise.measure(ramp, method="stack", budget="90kB")


def test_bands_and_workers_change_nothing():
    ramps = exposures(reads(9, shape=(50, 70)), reads(8, seed=4, shape=(50, 70)))
    planes = [
        read_noise.measure(ramps, method="stack", budget=budget, runner=runner).planes
        for budget, runner in (("512MB", 1), ("300kB", 1), ("512MB", 3))
    ]
    for other in planes[1:]:
        for name, plane in planes[0].items():
            np.testing.assert_array_equal(plane, other[name])


# --- conventions, files, trends ---


def test_of_a_single_read_whatever_a_group_averages():
    one = read_noise.measure(exposures(reads(20), nframes=4, readpatt="SHALLOW4"), method="stack")
    assert one.quantity("read_noise").value == pytest.approx(2 * NOISE, rel=0.02)
    assert one.quantity("nframes").value == 4 and one.keys["convention"] == "single read"
    assert one.provenance.options["convention"] == "single read, adu"


def test_the_step_says_of_what_the_noise_is():
    noise = Product("read_noise", quantities=(Quantity("read_noise", 5.0, None, "adu"),))
    frame = Frame(np.zeros((3, 3), np.float32), exposure=Exposure(gain=2.0))
    for of, nframes, expected in (("read", 1, 25), ("cds", 1, 50), ("group", 4, 6.25), ("cds", 4, 12.5)):
        done = read_noise.apply(frame, noise, of=of, nframes=nframes)
        np.testing.assert_allclose(done.variance, expected, rtol=1e-6)
    assert done.history[-1].options["of"] == "cds" and done.history[-1].options["nframes"] == 4
    with pytest.raises(OptionError, match="cds"):
        read_noise.apply(frame, noise, of="difference")


def test_one_value_and_what_lies_between():
    ramps = [reads(8, seed=1), reads(8, seed=2)]
    one = read_noise.measure(exposures(*ramps), method="ramp", single_value=True, save_intermediate=True)
    assert np.ptp(one.planes["read_noise"]) == 0
    np.testing.assert_allclose(one.planes["uncorrected"], published(ramps, method="ramp"), rtol=1e-6)
    np.testing.assert_allclose(one.planes["cds_2"], published(ramps[1:], method="stack"), rtol=1e-6)


def test_reference_file(tmp_path):
    words = {"author": "A. Nobody", "description": "noise", "pedigree": "INFLIGHT 2022-07-12 2022-07-13",
             "useafter": "2022-07-12T00:00:00", "history": "made for a test", "readpatt": "ANY"}  # fmt: skip
    found = read_noise.measure(exposures(reads(8)), method="stack", **words)
    path = tmp_path / "noise.fits"
    write_readnoise(found, path)
    with fits.open(path) as hdus:
        head, sci = hdus[0].header, hdus["SCI"]
        np.testing.assert_allclose(sci.data, found.planes["read_noise"] * np.sqrt(2), rtol=1e-6)
        assert sci.header["BITPIX"] == -32 and sci.header["BUNIT"] == "DN"
        wanted = {
            "TELESCOP": "JWST", "INSTRUME": "NIRCAM", "DETECTOR": "NRCA1", "REFTYPE": "READNOISE",
            "READPATT": "ANY", "SUBARRAY": "FULL", "SUBSTRT1": 1, "SUBSIZE1": 64, "SUBSIZE2": 40,
            "FASTAXIS": -1, "SLOWAXIS": 2,
            "AUTHOR": "A. Nobody", "DESCRIP": "noise", "PEDIGREE": words["pedigree"],
            "USEAFTER": words["useafter"], "CDSNOISE": True, "NFRAMES": 1,
        }  # fmt: skip
        assert {key: head[key] for key in wanted} == wanted
        assert {"DATA USED:", "dark0", "made for a test"} <= set(map(str, head["HISTORY"]))
    again = read_readnoise(path, "nircam")
    np.testing.assert_allclose(again.planes["read_noise"], found.planes["read_noise"], rtol=1e-6)
    with pytest.raises(SelectionError, match="only the read noise of ramps"):
        write_readnoise(Product("bias"), tmp_path / "x.fits")


def test_reference_file_opens_as_the_pipeline_does(tmp_path):
    models = pytest.importorskip("stdatamodels.jwst.datamodels")
    found = read_noise.measure(exposures(reads(8)), method="stack")
    write_readnoise(found, tmp_path / "noise.fits")
    with models.ReadnoiseModel(tmp_path / "noise.fits") as model:
        np.testing.assert_allclose(model.data, found.planes["read_noise"] * np.sqrt(2), rtol=1e-6)
        assert model.meta.instrument.detector == "NRCA1" and model.meta.reftype == "READNOISE"


def test_trend_of_epochs():
    year = 31_557_600 * 10**6

    def noise(detector, epoch, value):
        keys = {"detector": detector, "readpatt": "RAPID"}
        quantities = (
            Quantity("read_noise", value, 0.01, "adu"),
            Quantity("read_noise", value, 0.02, "adu", "1"),
        )
        return Product("read_noise", keys=keys, epoch=epoch, quantities=quantities)

    made = [noise("A", year * i, 6 + 0.1 * i) for i in range(4)] + [noise("B", 0, 7.0)]
    found = read_noise.trend(made[::-1])
    assert found.kind == "read_noise_trend" and len(found.tables["trend"]["epoch"]) == 10
    change = found.quantity("change", "A")
    assert change.value == pytest.approx(0.1) and change.sigma == pytest.approx(0.01 / np.sqrt(5))
    assert found.quantity("change_relative", "A.1").value == pytest.approx(0.1 / 6.15)
    assert all(q.place != "B" for q in found)
    with pytest.raises(SelectionError, match="known epochs"):
        read_noise.trend([Product("read_noise")])
