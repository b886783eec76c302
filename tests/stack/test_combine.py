"""Combinations: values, errors, flags, cuts into bands, runners, odd inputs."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from calibrant.errors import BudgetError, OptionError, SelectionError, ShapeError, WorkError
from calibrant.frame import DQ, NO_DATA
from calibrant.stack.combine import Noise, combine
from calibrant.stack.plan import plan_bands
from calibrant.stack.reject import AvSigClip, CCDClip, SigmaClip, Winsorised
from calibrant.stack.run import Dask, Pool, Serial, Threads
from calibrant.stack.source import ArraySource, Encoding

BAD = np.uint32(int(NO_DATA))


class Stored:
    """An array behind an encoding, as a file would give it."""

    has_dq = False

    def __init__(self, array, encoding, name="stored"):
        self.array, self.encoding, self.name = array, encoding, name
        self.shape = array.shape
        self.read = []

    def read_into(self, rows, data, dq=None):
        self.read.append((rows.start, rows.stop))
        data[...] = self.array[rows]


def sources_of(cube, flags=None):
    flags = [None] * len(cube) if flags is None else flags
    return [ArraySource(data, dq, f"frame {i}") for i, (data, dq) in enumerate(zip(cube, flags, strict=True))]


def noise_cube(frames, rows=24, cols=37, sigma=8, dtype=np.uint16, seed=0):
    cube = 1000 + sigma * np.random.default_rng(seed).standard_normal((frames, rows, cols))
    cube[0, -1, 4] += 20000
    return np.round(cube).astype(dtype)


def same(one, other):
    for name in ("data", "variance", "propagated", "count", "low", "high", "dq"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_array_equal(a, b, err_msg=name)


# --- values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 17, 30, 64, 101, 130])
@pytest.mark.parametrize("dtype", [">u2", "<u2", ">i2", ">f4", "u1"])
def test_median_is_that_of_numpy_bit_for_bit(frames, dtype):
    cube = noise_cube(frames, 3, 40) % 251 if dtype == "u1" else noise_cube(frames, 3, 40)
    cube = cube.clip(0, 32767).astype(dtype)
    result = combine(sources_of(cube), planes=("data",))
    np.testing.assert_array_equal(result.data, np.median(cube.astype(np.float64), axis=0).astype(np.float32))


def test_median_of_real_numbers_is_that_of_numpy_bit_for_bit():
    cube = np.random.default_rng(1).normal(0, 1e3, (10, 8, 50)).astype(np.float32)
    cube[:3] *= np.float32(1e-30)
    result = combine(sources_of(cube))
    np.testing.assert_array_equal(result.data, np.median(cube.astype(np.float64), axis=0).astype(np.float32))


@pytest.mark.parametrize(
    ("stored", "encoding", "values"),
    [
        (">i2", Encoding(">i2", zero=32768.0), lambda a: a + 32768.0),
        (">i2", Encoding(">i2", scale=0.5, zero=10.0), lambda a: a * 0.5 + 10),
        (">i2", Encoding(">i2", blank=7), lambda a: np.where(a == 7, np.nan, a)),
        (">i4", Encoding(">i4", scale=0.25), lambda a: a * 0.25),
        (">i4", Encoding(">i4", blank=7), lambda a: np.where(a == 7, np.nan, a)),
        ("u1", Encoding("u1", scale=2.0), lambda a: a * 2.0),
        (">f8", Encoding(">f8"), lambda a: a),
        ("<f4", Encoding("<f4", scale=3.0), lambda a: a * 3.0),
    ],
)
def test_stored_numbers_are_decoded(stored, encoding, values):
    whole = np.random.default_rng(2).integers(0, 100, (5, 6, 30))
    cube = whole.astype(stored)
    result = combine([Stored(data, encoding) for data in cube], method="mean")
    with np.errstate(invalid="ignore"):
        expected = np.nanmean(values(whole.astype(float)), axis=0)
    np.testing.assert_allclose(result.data, expected, rtol=1e-6)


def test_frames_of_several_encodings_are_combined_by_value():
    cube = noise_cube(4)
    mixed = [
        ArraySource(cube[0]),
        ArraySource(cube[1].astype(">f4")),
        Stored((cube[2] ^ 0x8000).view(np.int16).astype(">i2"), Encoding(">i2", zero=32768.0)),
        ArraySource(cube[3].astype("<i4")),
    ]
    same(combine(mixed), combine(sources_of(cube.astype(np.float32))))


def test_integers_and_reals_take_different_paths_to_the_same_result():
    cube = noise_cube(12)
    for options in (
        {},
        {"method": "mean"},
        {"method": "mean", "reject": SigmaClip(2.5)},
        {"reject": "sigma"},
    ):
        same(combine(sources_of(cube), **options), combine(sources_of(cube.astype(np.float32)), **options))


def test_mean_sum_and_weights():
    cube = noise_cube(9).astype(np.float32)
    exact = cube.astype(np.float64)
    mean, total = combine(sources_of(cube), method="mean"), combine(sources_of(cube), method="sum")
    np.testing.assert_allclose(mean.data, exact.mean(0), rtol=1e-7)
    np.testing.assert_allclose(mean.variance, exact.var(0, ddof=1) / 9, rtol=1e-6)
    np.testing.assert_allclose(total.data, exact.sum(0), rtol=1e-7)
    np.testing.assert_allclose(total.variance, exact.var(0, ddof=1) * 9, rtol=1e-6)
    weights = np.arange(1.0, 10.0)
    weighted = combine(sources_of(cube), method="weighted", weights=weights, noise=Noise(3.0, np.inf))
    np.testing.assert_allclose(weighted.data, np.average(exact, axis=0, weights=weights), rtol=1e-7)
    share = weights / weights.sum()
    np.testing.assert_allclose(weighted.propagated, 9 * (share**2).sum(), rtol=1e-6)


def test_scatter_is_that_of_one_frame_whatever_the_method():
    cube = np.random.default_rng(4).normal(1000, 7, (12, 60, 80)).astype(np.float32)
    for options in ({}, {"method": "mean"}, {"method": "sum"}, {"method": "mean", "reject": SigmaClip(2)}):
        scatter = combine(sources_of(cube), **options).scatter
        assert abs(np.sqrt(np.mean(scatter**2)) / 7 - 1) < 0.01, options


# --- scale and zero
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", ["median", "mean", "mode"])
def test_levels_are_brought_together(statistic):
    rng = np.random.default_rng(5)
    pattern = rng.normal(1, 0.02, (40, 50))
    levels = np.array([10000.0, 20000.0, 15000.0, 30000.0])
    cube = (levels[:, None, None] * pattern + 500).astype(np.float32)
    shifted = combine(sources_of(cube - 500), scale=statistic)
    tolerance = 0.01 if statistic == "mode" else 1e-4
    np.testing.assert_allclose(
        shifted.data / np.median(shifted.data), pattern / np.median(pattern), rtol=tolerance
    )
    np.testing.assert_allclose(shifted.scale * levels / levels.mean(), 1, rtol=tolerance)
    assert shifted.plan.passes == 2
    offsets = (1000 + pattern[None] + levels[:, None, None] / 100).astype(np.float32)
    zeroed = combine(sources_of(offsets), zero=statistic)
    assert np.std(zeroed.zero + levels / 100) < (0.05 if statistic == "mode" else 1e-3)


def test_numbers_for_scale_and_zero_and_a_section():
    cube = np.stack([np.full((6, 8), 10.0), np.full((6, 8), 30.0)]).astype(np.float32)
    cube[:, :, :4] = 7
    given = combine(sources_of(cube), method="mean", scale=[2.0, 4.0], zero=[1.0, -1.0])
    assert given.data[0, 7] == (22 + 116) / 2
    named = combine(sources_of(cube), method="mean", scale="median", section=(slice(None), slice(4, None)))
    np.testing.assert_allclose(named.scale, [2.0, 2 / 3])
    noisy = combine(sources_of(cube), method="mean", scale=[2.0, 4.0], noise=Noise(1.0, np.inf))
    np.testing.assert_allclose(noisy.propagated, (2**2 + 4**2) / 4)


def test_levels_leave_out_flagged_and_saturated_values():
    cube = np.full((2, 4, 10), 100.0, np.float32)
    cube[1] = 200
    cube[:, :3] = 60000
    flags = np.zeros(cube.shape, np.uint32)
    limited = combine(sources_of(cube), scale="median", limits=(None, 50000.0))
    np.testing.assert_allclose(limited.scale, [1.5, 0.75])
    flags[:, :3] = BAD
    np.testing.assert_allclose(combine(sources_of(cube, flags), scale="median").scale, [1.5, 0.75])


# --- flags
# ------------------------------------------------------------------------------------------------------


def test_the_least_bad_values_are_used():
    values = np.array([[[1.0]], [[2.0]], [[4.0]], [[8.0]]], np.float32)

    def pixel(*bits):
        flags = np.array(bits, np.uint32).reshape(4, 1, 1)
        result = combine(sources_of(values, flags), method="sum")
        return result.data.item(), result.dq.item()

    hot, warm, hit = int(DQ.HOT), int(DQ.WARM), int(DQ.JUMP_DET)
    assert pixel(0, 0, hit, hot) == (3, 0)
    assert pixel(warm, hot, hit, hot) == (1, warm)
    assert pixel(hot, hot | warm, hit, int(DQ.SATURATED)) == (3, hot | warm)
    assert pixel(hit, int(DQ.SATURATED), int(BAD), int(BAD)) == (
        3,
        hit | int(DQ.SATURATED) | int(DQ.DO_NOT_USE),
    )
    data, dq = pixel(*[int(BAD) | hot] * 4)
    assert np.isnan(data) and dq == int(BAD) | hot


def test_limits_flag_raw_values():
    cube = np.array([100, 60000, 3, 120, 60000], np.uint16).reshape(5, 1, 1)
    result = combine(sources_of(cube), method="mean", limits=(10.0, 60000.0), zero=[1.0] * 5)
    assert result.data == 111 and result.count == 2 and result.dq == 0
    full = combine(sources_of(cube[1::3]), limits=(None, 60000.0))
    assert full.data == 60000 and full.dq == int(DQ.SATURATED | DQ.DO_NOT_USE)
    low = combine(sources_of(cube[2:3]), limits=(10.0, None))
    assert low.dq == int(DQ.AD_FLOOR | DQ.DO_NOT_USE)


def test_a_mask_holds_for_all_frames():
    cube = noise_cube(5)
    mask = np.zeros(cube.shape[1:], np.uint32)
    mask[2, 3], mask[5, 6] = int(DQ.DEAD), int(DQ.DO_NOT_USE)
    result, plain = combine(sources_of(cube), mask=mask), combine(sources_of(cube))
    assert result.dq[2, 3] == int(DQ.DEAD) and result.data[2, 3] == plain.data[2, 3]
    assert np.isnan(result.data[5, 6]) and result.dq[5, 6] & int(BAD) == int(BAD)
    good = mask == 0
    np.testing.assert_array_equal(result.data[good], plain.data[good])
    np.testing.assert_array_equal(result.variance[good], plain.variance[good])
    assert not result.dq[good].any()


def test_values_that_are_none_are_left_out():
    cube = noise_cube(6).astype(np.float32)
    cube[0, 0, 0], cube[1, 0, 0], cube[2, 0, 1] = np.nan, np.inf, -np.inf
    cube[:, 1, 1] = np.nan
    result = combine(sources_of(cube))
    assert result.count[0, 0] == 4 and result.count[0, 1] == 5
    assert result.data[0, 0] == np.median(cube[2:, 0, 0])
    assert np.isnan(result.data[1, 1]) and result.dq[1, 1] == int(BAD) and result.count[1, 1] == 0
    assert np.isfinite(np.delete(result.data.ravel(), result.data.shape[1] + 1)).all()


def test_frames_without_any_value_give_no_data_everywhere():
    cube = np.full((3, 5, 6), np.nan, np.float32)
    for options in ({}, {"method": "mean"}, {"method": "sum", "reject": "ccdclip", "noise": Noise(1, 1)}):
        result = combine(sources_of(cube), **options)
        assert np.isnan(result.data).all() and (result.dq == int(BAD)).all() and not result.count.any()


# --- growing
# ----------------------------------------------------------------------------------------------------


def test_rejected_values_grow_in_their_own_frame_across_bands():
    cube = np.random.default_rng(6).normal(100, 1, (12, 30, 20)).astype(np.float32)
    cube[4, 15, 10] += 1000
    result = combine(sources_of(cube), method="mean", reject=SigmaClip(3, iterations=1), grow=1.5)
    rejected = 12 - result.count
    assert (rejected[14:17, 9:12] >= 1).all()
    cut = combine(
        sources_of(cube), method="mean", reject=SigmaClip(3, iterations=1), grow=1.5, budget=100_000
    )
    assert cut.plan.rows < 10 < result.plan.rows
    same(result, cut)


# --- bands and runners
# --------------------------------------------------------------------------------------------

SHAPE = 40, 300
CASES = {
    "median": {},
    "clipped mean": {"method": "mean", "reject": SigmaClip(2.2)},
    "noise": {"method": "mean", "reject": CCDClip(3), "noise": Noise(np.full(SHAPE, 8.0), 2.0, -900.0)},
    "row noise": {"method": "median", "reject": AvSigClip(2.5), "limits": (None, 15000.0)},
    "weights": {"method": "weighted", "weights": np.arange(1.0, 13.0), "reject": Winsorised(2.5)},
}


@pytest.mark.parametrize("case", CASES)
def test_the_result_does_not_depend_on_the_bands(case):
    cube = noise_cube(12, *SHAPE)
    whole = combine(sources_of(cube), runner="serial", **CASES[case])
    rows = set()
    for part in (0.55, 0.65, 0.75, 0.9):
        try:
            cut = combine(sources_of(cube), budget=int(part * whole.plan.bytes), runner=2, **CASES[case])
        except BudgetError:
            continue
        rows.add(cut.plan.rows)
        assert cut.plan.bytes <= cut.plan.budget
        same(whole, cut)
    assert len(rows) >= 2


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2) as pool:
        yield Pool(pool)


@pytest.mark.parametrize("case", ["median", "noise"])
def test_the_result_does_not_depend_on_the_runner(case, processes):
    cube = noise_cube(12, *SHAPE)
    serial = combine(sources_of(cube), runner=Serial(), budget="900kB", **CASES[case])
    with ThreadPoolExecutor(3) as pool:
        for runner in (Threads(3), processes, Pool(pool)):
            same(serial, combine(sources_of(cube), runner=runner, budget="900kB", **CASES[case]))


def test_dask_gives_the_same():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        cube = noise_cube(12, *SHAPE)
        runner = Dask(client)
        assert runner.workers == 2
        same(combine(sources_of(cube)), combine(sources_of(cube), runner=runner, budget="900kB"))


def test_each_row_is_read_once_and_twice_with_scaling():
    cube = noise_cube(4, 40, 300)
    stored = [Stored(data, Encoding("=u2")) for data in cube]
    combine(stored, budget="600kB", runner="serial")
    for source in stored:
        assert sorted(row for start, stop in source.read for row in range(start, stop)) == list(range(40))
        assert len(source.read) > 1
        source.read.clear()
    combine(stored, scale="median", runner="serial")
    assert sum(stop - start for start, stop in stored[0].read) == 80


def test_progress_is_told_and_work_can_be_cancelled():
    cube = noise_cube(4, 64, 300)
    told = []
    combine(sources_of(cube), budget="800kB", progress=lambda *args: told.append(args))
    assert told[-1][0] == told[-1][1] == len(told) > 1
    for runner in (Serial(), Threads(2)):
        with pytest.raises(WorkError, match="cancelled"):
            combine(sources_of(cube), budget="800kB", runner=runner, progress=lambda *_, r=runner: r.cancel())
        same(combine(sources_of(cube), runner=runner), combine(sources_of(cube)))


# --- budgets
# --------------------------------------------------------------------------------------------------------


def test_a_budget_that_is_too_small_is_refused_with_both_numbers():
    cube = noise_cube(30, 200, 300)
    with pytest.raises(BudgetError) as error:
        combine(sources_of(cube), budget="300kB")
    assert "at least 1." in str(error.value) and "got 300 kB" in str(error.value)
    with pytest.raises(BudgetError, match=r"got 1 kB"):
        combine(sources_of(cube), budget="1KB")


def test_more_values_than_frames_cannot_be_kept():
    cube = noise_cube(10, 4, 5)
    combine(sources_of(cube), reject="minmax", n_keep=10)
    with pytest.raises(OptionError, match="at most 10, got 11"):
        combine(sources_of(cube), reject="minmax", n_keep=11)


def test_a_weighted_mean_needs_weights_and_no_other_has_them():
    cube = noise_cube(4, 4, 5)
    with pytest.raises(OptionError, match="a weighted mean needs weights"):
        combine(sources_of(cube), method="weighted")
    with pytest.raises(OptionError, match="only a weighted mean has weights"):
        combine(sources_of(cube), method="mean", weights=[1, 2, 3, 4])


def test_a_zero_by_name_levels_the_scaled_frames():
    cube = noise_cube(5, 40, 50).astype(np.float64) * np.array([1, 2, 3, 1, 2])[:, None, None]
    for scale in ("mean", [1.0, 0.5, 0.25, 2.0, 1.0]):
        combined = combine(sources_of(cube.astype(np.float32)), method="mean", scale=scale, zero="median")
        factor = (
            np.asarray(scale) if isinstance(scale, list) else cube.mean((1, 2)).mean() / cube.mean((1, 2))
        )
        levels = np.median(cube, (1, 2)) * factor
        expected = cube * factor[:, None, None] + (levels.mean() - levels)[:, None, None]
        np.testing.assert_allclose(combined.data, expected.mean(0), rtol=1e-6)


def test_plans_stay_within_their_budget():
    for budget in (32_000_000, 64_000_000, 512_000_000):
        for frames in (30, 100, 300):
            plan = plan_bands(
                (2048, 2048),
                per_pixel_read=2,
                per_pixel_work=2 * frames,
                per_pixel_out=4,
                per_worker=1_000_000,
                fixed=0,
                budget=budget,
                workers=8,
            )
            assert plan.bytes <= budget
            assert [b for a, b in plan.bands()][-1] == 2048
    assert "bands of" in str(plan)


MEMORY = """
import sys
import numpy as np
from calibrant.stack.combine import combine
from calibrant.stack.source import ArraySource, Encoding

class Ramp:
    name, has_dq, encoding = "ramp", False, Encoding(">u2")
    def __init__(self, seed, shape):
        self.seed, self.shape = seed, shape
    def read_into(self, rows, data, dq=None):
        data[...] = self.seed
        data[:, ::7] += np.arange(rows.start, rows.stop, dtype=np.uint16)[:, None]

def high_water():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024

frames, side, budget = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
planes = sys.argv[4].split(",")
combine([Ramp(i, (8, 8)) for i in range(frames)], planes=planes)
before = high_water()
result = combine([Ramp(i, (side, side)) for i in range(frames)], budget=budget, planes=planes)
print(before, high_water(), result.plan.bytes, result.plan.rows)
"""


def peak(frames, side, budget, planes="data"):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(frames), str(side), budget, planes],
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("budget", ["32MB", "128MB", "512MB"])
def test_peak_memory_is_what_the_plan_says(budget):
    before, after, planned, _ = peak(100, 2048, budget)
    assert after - before <= 1.1 * planned
    assert after <= 250e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_does_not_depend_on_the_number_of_frames():
    few, many = peak(30, 2048, "512MB"), peak(300, 2048, "512MB")
    assert few[1] <= 250e6 and many[1] <= 250e6


# --- odd inputs
# -----------------------------------------------------------------------------------------------------


def test_odd_inputs_are_refused_with_the_frame_named():
    cube = noise_cube(3)
    with pytest.raises(SelectionError, match="nothing to combine"):
        combine([])
    odd = ArraySource(np.zeros((5, 5), np.uint16), name="small.fits")
    with pytest.raises(ShapeError, match=r"small\.fits.*expected \(24, 37\), got \(5, 5\)"):
        combine([*sources_of(cube), odd])
    with pytest.raises(ShapeError, match="mask"):
        combine(sources_of(cube), mask=np.zeros((3, 3), np.uint32))
    with pytest.raises(ShapeError, match="noise"):
        combine(sources_of(cube), noise=Noise(np.ones((3, 3)), 1.0))
    with pytest.raises(ShapeError, match="noise"):
        combine(sources_of(cube), noise=[Noise(1, 1)] * 2)
    with pytest.raises(OptionError, match="numbers of this type"):
        combine([ArraySource(np.zeros((2, 2), complex))])
    with pytest.raises(SelectionError, match="frame 1"):
        combine(
            [*sources_of(cube)[:1], ArraySource(np.full((24, 37), np.nan, "f4"), name="frame 1")],
            scale="mean",
        )
    with pytest.raises(OptionError, match="frame 0"):
        combine(sources_of(cube.astype(np.float32) * 0), scale="median")


@pytest.mark.parametrize(
    "options",
    [
        {"method": "mode"},
        {"method": "weighted"},
        {"weights": [1.0, 1, 1]},
        {"method": "weighted", "weights": [0.0, 0, 0]},
        {"method": "weighted", "weights": [-1.0, 1, 1]},
        {"reject": "magic"},
        {"grow": 1},
        {"grow": -1, "reject": "ccdclip"},
        {"planes": ("data", "errors")},
        {"scale": [1.0, 0.0, 1.0]},
        {"zero": [1.0, np.nan, 1.0]},
        {"scale": "level"},
        {"budget": "much"},
        {"budget": -5},
        {"runner": "fast"},
        {"runner": 0},
    ],
)
def test_options_without_meaning_are_refused(options):
    with pytest.raises(OptionError):
        combine(sources_of(noise_cube(3)), **options)


def test_one_frame_is_its_own_combination():
    cube = noise_cube(1)
    result = combine(sources_of(cube), noise=Noise(3.0, 2.0))
    np.testing.assert_array_equal(result.data, cube[0])
    assert np.isnan(result.variance).all() and (result.count == 1).all()
    np.testing.assert_allclose(result.propagated, 9 + cube[0] / 2.0)
