"""Ramps: planes, flags and refusals of `effects.ramp`, and its kernels against dense matrices."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from calibrant.effects import ramp
from calibrant.effects._ramp_pattern import design_of
from calibrant.errors import BudgetError, HistoryError, OptionError, SelectionError, ShapeError, UnitError
from calibrant.frame import DQ, Applied, Exposure, Frame
from calibrant.stack import kernels_ramp as kernels
from calibrant.stack import kernels_ramp_solve as solve

GAIN, NOISE = 2.0, 7.0
TIMES = ramp.pattern(8, 10.0)


def reads(rate=3.0, times=TIMES, shape=(6, 9), seed=1):
    """A ramp of single reads, adu."""
    rng = np.random.default_rng(seed)
    steps = np.diff(times.mean, prepend=0)[:, None, None]
    light = rng.poisson(rate * GAIN * steps, (times.groups, *shape)).cumsum(0) / GAIN
    return (light + NOISE * rng.standard_normal(light.shape) + 1000).astype(np.float32)


def dense(values, times, ok=None):
    """The specification: slope, variance and chi squared of one pixel by whole matrices, without the bias."""
    dt, n = np.diff(times.mean), times.frames
    d = np.diff(values.astype(float)) / dt
    r = np.diag((1 / n[:-1] + 1 / n[1:]) / dt**2)
    p = np.diag((times.tau[:-1] + times.tau[1:] - 2 * times.mean[:-1]) / dt**2)
    for i in range(1, len(dt)):
        r[i, i - 1] = r[i - 1, i] = -1 / n[i] / (dt[i] * dt[i - 1])
        p[i, i - 1] = p[i - 1, i] = (times.mean[i] - times.tau[i]) / (dt[i] * dt[i - 1])
    ok = np.ones(len(dt), bool) if ok is None else ok
    d, r, p, dt = d[ok], r[np.ix_(ok, ok)], p[np.ix_(ok, ok)], dt[ok]
    guess = max((d * dt).sum() / dt.sum(), 0)

    def weights(a):
        u = np.linalg.solve(NOISE**2 * r + a / GAIN * p, np.ones(len(d)))
        return u / u.sum()

    c = NOISE**2 * r + guess / GAIN * p
    w = weights(guess)
    step = 1e-4 * (guess + 1)
    bias = dt / dt.sum() @ c @ (weights(guess + step) - weights(guess)) / step if guess > 0 else 0.0
    left = d - w @ d
    slope = w @ d - bias
    read, photon = NOISE**2 * w @ r @ w, max(slope, 0) / GAIN * w @ p @ w
    return slope, read, photon, left @ np.linalg.solve(c, left)


PATTERNS = {
    "single": TIMES,
    "averaged": ramp.pattern(7, 10.0, nframes=4, skip=1),
    "uneven": ramp.pattern_of([3.0, [6.0, 9.0], 15.0, 30.0, [33.0, 36.0, 39.0], 50.0]),
}


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("rate", [0.0, 0.3, 50.0])
def test_the_closed_form_is_that_of_whole_matrices(name, rate) -> None:
    times = PATTERNS[name]
    data = reads(rate, times)
    found = ramp.measure(data, times, gain=GAIN, read_noise=NOISE, thresholds=None).planes
    expected = np.array([[dense(data[:, i, j], times) for j in range(9)] for i in range(6)])
    sigma = np.sqrt(found["variance"])
    assert np.abs(found["data"] - expected[..., 0]).max() < 2e-3 * sigma.max()
    for n, plane in enumerate(("variance_read", "variance_photon", "chi2"), 1):
        np.testing.assert_allclose(found[plane], expected[..., n], rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("name", PATTERNS)
def test_pixels_with_dropped_reads_are_those_of_whole_matrices(name) -> None:
    times = PATTERNS[name]
    data = reads(3.0, times)
    data[3] = np.nan
    found = ramp.measure(data, times, gain=GAIN, read_noise=NOISE, thresholds=None).planes
    ok = np.ones(times.groups - 1, bool)
    ok[2:4] = False
    row = np.nan_to_num(data)
    expected = np.array([[dense(row[:, i, j], times, ok) for j in range(9)] for i in range(6)])
    np.testing.assert_allclose(found["data"], expected[..., 0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["chi2"], expected[..., 3], rtol=2e-3, atol=1e-5)
    assert (found["count"] == ok.sum()).all()


def test_an_edit_of_the_solver_makes_the_kernels_anew() -> None:
    """The cache of compiled code of a file does not notice an edit of another."""
    digest = hashlib.sha256(Path(solve.__file__).read_bytes()).hexdigest()
    assert digest.startswith(kernels.SOLVER), f'write SOLVER = "{digest[:12]}" in kernels_ramp.py'


def test_the_kernels_run_as_python(monkeypatch) -> None:
    data = reads(shape=(2, 3))
    data[5:, 0, 0] += 3000
    design, fields, unit = design_of(TIMES)
    fit = np.array([60000.0, 20.25, 23.8, 32768.0, unit, 1 / 7])
    none, one = np.empty((0, 0), np.uint8), np.ones(6, np.float32)
    rn2, gain = one * NOISE**2, one * GAIN
    made = []
    for python in (False, True):
        if python:
            for module in (kernels, solve):
                for name, item in vars(module).copy().items():
                    if hasattr(item, "py_func"):
                        monkeypatch.setattr(module, name, item.py_func)
        table = np.empty((3, 33), np.float32)
        solve.tabulate(design, fit, table)
        for fixsen in (False, True):
            out = np.zeros((5, 6), np.float32)
            flags, count = np.zeros(6, np.uint8), np.full(6, 7, np.uint16)
            kernels.fit_pixels(
                data.reshape(8, -1), 0, none, design, fields, fit, table, rn2, gain, fixsen, out, flags,
                count, none,
            )  # fmt: skip
            assert flags.tolist() == [DQ.JUMP_DET, 0, 0, 0, 0, 0]
            made.append(np.concatenate([out, flags[None], count[None]]))
    for compiled, plain in zip(made[:2], made[2:], strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=2e-5)


def test_the_fall_of_chi_squared_is_that_of_leaving_out() -> None:
    """Thresholds just below and above what whole matrices say decide."""
    data = reads(shape=(1, 1))
    data[4:] += 60
    whole = dense(data[:, 0, 0], TIMES)[3]
    falls = []
    for i in range(7):
        ok = np.arange(7) != i
        falls.append(whole - dense(data[:, 0, 0], TIMES, ok)[3])
    least = max(falls)
    for factor, dropped in ((0.97, True), (1.03, False)):
        found = ramp.measure(data, TIMES, gain=GAIN, read_noise=NOISE, thresholds=(least * factor, 1e9))
        assert bool(found.planes["dq"][0, 0] & DQ.JUMP_DET) is dropped


def test_saturation_averages_wraps_and_flags() -> None:
    data = reads(50.0)
    data[5:, 0, 0] = 60000  # full
    data[:, 0, 1] = 60000
    data[6:, 0, 2] -= 60000  # wrapped
    data[:, 0, 3] = np.nan
    marks = np.zeros(data.shape, np.uint8)
    found = ramp.measure(data, TIMES, gain=GAIN, read_noise=NOISE, saturation=60000, marks=marks)
    dq, count = found.planes["dq"], found.planes["count"]
    assert dq[0, :4].tolist() == [DQ.SATURATED, DQ.SATURATED | DQ.DO_NOT_USE, DQ.SATURATED, DQ.DO_NOT_USE]
    assert count[0, :5].tolist() == [4, 0, 5, 0, 7]
    assert np.isnan(found.data[0, [1, 3]]).all()
    assert abs(found.data[0, 0] - 50) < 6 * found.planes["variance"][0, 0] ** 0.5
    assert marks[5:, 0, 0].all() and not marks[:5, 0, 0].any()


def test_an_averaged_group_that_was_partly_full_is_left_out() -> None:
    times = ramp.pattern(4, 1.0, nframes=8)
    data = np.array([4000, 12000, 19000, 20000.0], np.float32).reshape(4, 1, 1)
    found = ramp.measure(data, times, gain=GAIN, read_noise=NOISE, saturation=20000)
    assert found.planes["count"][0, 0] == 1


def test_all_saturated_and_wrong_noise_are_said() -> None:
    full = np.full((8, 3, 4), 65535, np.uint16)
    found = ramp.measure(full, TIMES, gain=GAIN, read_noise=NOISE)
    assert "no pixel has a slope" in found.provenance.notes[0]
    wrong = ramp.measure(reads(200.0), TIMES, gain=1 / GAIN, read_noise=NOISE)
    assert "e-/adu" in wrong.provenance.notes[0]


def test_bands_types_and_ramps_do_not_change_the_slope() -> None:
    data = np.round(reads(shape=(40, 33)))
    options = {"gain": GAIN, "read_noise": NOISE, "saturation": 65535.0}
    one = ramp.measure(data, TIMES, **options)
    for other in (data.astype(np.uint16), data.astype(">f4"), data.astype(np.uint16)[None]):
        found = ramp.measure(other, TIMES, budget="160kB", **options)
        for name, plane in one.planes.items():
            np.testing.assert_array_equal(found.planes[name], plane, err_msg=name)
    two = ramp.measure(np.stack([data, data]), TIMES, **options)
    assert np.nanmax(np.abs(two.data - one.data) / one.planes["variance"] ** 0.5) < 0.2
    np.testing.assert_allclose(two.planes["variance_read"], one.planes["variance_read"] / 2, rtol=0.05)
    with pytest.raises(BudgetError):
        ramp.measure(data, TIMES, budget="20kB", **options)


def test_input_that_makes_no_sense_is_refused() -> None:
    data, options = reads(), {"gain": GAIN, "read_noise": NOISE}
    with pytest.raises(SelectionError, match="two groups"):
        ramp.pattern(1, 10.0)
    with pytest.raises(OptionError):
        ramp.pattern(5, 0.0)
    with pytest.raises(OptionError, match="increase"):
        ramp.pattern_of([1.0, 3.0, 2.0])
    with pytest.raises(ShapeError, match="8 groups"):
        ramp.measure(data[:5], TIMES, **options)
    with pytest.raises(ShapeError):
        ramp.measure(data[0], TIMES, **options)
    with pytest.raises(OptionError, match="gain"):
        ramp.measure(data, TIMES, read_noise=NOISE)
    with pytest.raises(OptionError, match="reciprocal"):
        ramp.measure(Frame(data, exposure=Exposure(gain=GAIN)), TIMES, gain=1 / GAIN, read_noise=NOISE)
    for bad in ({"gain": -1.0}, {"read_noise": 0.0}, {"gain": np.nan}, {"saturation": 0.0}):
        with pytest.raises(OptionError):
            ramp.measure(data, TIMES, **(options | bad))
    for bad in ({"method": "mean"}, {"thresholds": (0.0, 1.0)}):
        with pytest.raises(OptionError):
            ramp.measure(data, TIMES, **options, **bad)
    with pytest.raises(ShapeError):
        ramp.measure(data, TIMES, gain=np.ones((2, 2)), read_noise=NOISE)
    with pytest.raises(ShapeError):
        ramp.measure(data, TIMES, read_dq=np.zeros((2, 2), np.uint8), **options)
    with pytest.raises(UnitError):
        ramp.measure(Frame(data, unit="electron"), TIMES, **options)
    with pytest.raises(HistoryError):
        ramp.measure(Frame(data, history=(Applied("gain"),)), TIMES, **options)
