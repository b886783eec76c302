"""Memory, bytes and open files of a combination stay within what its plan says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

MB = 1_000_000
SOAK = pytest.mark.soak

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is asked of /proc"
)


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (30, 1024),
        (100, 2048),
        pytest.param(30, 2048, marks=SOAK),
        pytest.param(300, 2048, marks=SOAK),
    ],
)
def test_a_median_fits_into_250_megabytes(images, probe, count, size):
    """The whole process, with Python and all libraries; the number of frames does not count."""
    few = images(10, size)
    found = probe(few, repeat=count // 10, method="median")
    assert found["peak"] <= 250 * MB
    assert found["peak"] - found["baseline"] <= 1.1 * found["plan"]


PLANS = {
    "median": {"method": "median"},
    "clipped": {"method": "mean", "reject": "sigma"},
    "scaled": {"method": "median", "scale": "median"},
    "zeroed": {"method": "mean", "reject": "minmax", "zero": "mode"},
}
USUAL = {("median", 128), ("clipped", 32)}


@pytest.mark.parametrize(
    ("options", "budget"),
    [
        pytest.param(options, budget, id=f"{name}-{budget}", marks=[] if (name, budget) in USUAL else [SOAK])
        for name, options in PLANS.items()
        for budget in (32, 64, 128, 256, 512)
    ],
)
def test_the_plan_is_kept(images, probe, budget, options):
    size = {32: 768, 64: 1024, 128: 1024}.get(budget, 2048)  # the planes that come out must fit
    found = probe(images(10, size), repeat=3, budget=f"{budget}MB", **options)
    assert found["plan"] <= found["budget"] == budget * MB
    assert found["peak"] - found["baseline"] <= 1.1 * found["plan"]


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({"method": "median"}, 1),
        ({"method": "mean", "reject": "sigma"}, 1),
        ({"method": "median", "budget": "20MB"}, 1),
        ({"method": "median", "scale": "median"}, 2),
    ],
    ids=["median", "clipped", "small budget", "scaled"],
)
def test_each_byte_is_read_once_per_declared_pass(images, probe, options, passes):
    found = probe(images(10, 1024), **options)
    assert found["passes"] == passes
    if passes == 1:
        assert found["read"] == pytest.approx(found["pixels"], abs=100_000)
    else:  # the pass for the scales may take a sample of the rows
        assert found["pixels"] < found["read"] <= passes * found["pixels"] + 100_000


def test_the_budget_does_not_change_the_result(images, probe):
    found = {
        probe(images(10, 1024), method="median", budget=f"{budget}MB")["median"] for budget in (20, 64, 512)
    }
    assert len(found) == 1


def test_open_files_are_bounded(images, probe):
    """By the limit of the process, whatever the number of frames; here all of them may stay open."""
    found = probe(images(10, 1024), repeat=10, method="median", watch=True)
    assert 0 < found["open"] <= 10 + 20 + 4 * (os.cpu_count() or 1)
