"""Kernels as Python, against NumPy; sorting networks against every 0-1 input."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.stack import kernels, kernels_rank, kernels_values
from calibrant.stack.networks import median_blocks, sorting_blocks, sorting_network


def run_pairs(net, columns):
    for a, b in net:
        columns[[a, b]] = np.minimum(columns[a], columns[b]), np.maximum(columns[a], columns[b])
    return columns


def run_blocks(net, columns):
    kernels.sort_tile.py_func(columns, net)
    return columns


@pytest.mark.parametrize("n", range(1, 11))
def test_networks_sort_every_input_of_zeros_and_ones(n):
    # Knuth's 0-1 principle: a network that sorts these sorts everything
    every = np.array([[(x >> i) & 1 for x in range(1 << n)] for i in range(n)], np.uint8)
    expected = np.sort(every, axis=0)
    np.testing.assert_array_equal(run_pairs(sorting_network(n), every.copy()), expected)
    np.testing.assert_array_equal(run_blocks(sorting_blocks(n), every.copy()), expected)
    middle = [(n - 1) // 2, n // 2]
    np.testing.assert_array_equal(run_blocks(median_blocks(n), every.copy())[middle], expected[middle])


@pytest.mark.parametrize("n", [30, 31, 32, 33, 100, 255])
def test_large_networks_sort(n):
    columns = np.random.default_rng(n).integers(0, 50, (n, 20))
    expected = np.sort(columns, axis=0)
    np.testing.assert_array_equal(run_pairs(sorting_network(n), columns.copy()), expected)
    np.testing.assert_array_equal(run_blocks(sorting_blocks(n), columns.copy()), expected)
    middle = [(n - 1) // 2, n // 2]
    np.testing.assert_array_equal(run_blocks(median_blocks(n), columns.copy())[middle], expected[middle])
    assert len(median_blocks(n)) <= len(sorting_blocks(n)) < len(sorting_network(n))


def test_numbers_are_loaded_as_numpy_reads_them():
    values = np.random.default_rng(0).integers(-30000, 30000, 50).astype(np.int16)
    for stored, swap, flip, expected in (
        (values.astype(">i2"), 1, 0x8000, values.astype(int) + 32768),
        (values.astype("<u2"), 0, 0, values.astype(np.uint16)),
    ):
        tile, scratch = np.empty((1, 50), np.uint16), np.empty((kernels.SCRATCH_ROWS, 50))
        raw = stored.view(np.uint16)[None]
        kernels.load_u2.py_func(raw, [swap], np.array([flip], np.uint16), tile, scratch, 0, 50)
        np.testing.assert_array_equal(tile[0], expected)


def test_keys_sort_as_the_values_do():
    values = np.array([0.0, -1.5, 3e38, -3e38, 1e-40, -1e-40, np.inf, 7, -7], np.float32)
    keys, scratch = np.empty((1, 9), np.int32), np.empty((kernels.SCRATCH_ROWS, 9))
    bits = values.view(np.int32)[None]
    full = kernels.load_f4.py_func(bits, keys, scratch, np.empty(9, np.int32), 0, 9)
    np.testing.assert_array_equal(np.argsort(keys[0]), np.argsort(values))
    np.testing.assert_array_equal(scratch[kernels.COUNT], np.isfinite(values))
    assert not full


def test_values_are_widened_as_numpy_does():
    raw = np.array([5, 40000, 7, 65535], np.uint16)
    out = np.empty(4, np.float32)
    kernels_values.widen_u2.py_func(raw.byteswap(), out, True, 0x8000, 0.5, 3.0, 7)
    expected = (raw ^ 0x8000) * 0.5 + 3.0
    expected[2] = np.inf
    np.testing.assert_array_equal(out, expected.astype(np.float32))


def test_weighing_is_that_of_numpy():
    values = np.random.default_rng(1).normal(50, 5, (6, 9)).astype(np.float32)
    values[2, 3] = np.inf
    weights = np.arange(1.0, 7.0)
    data, variance, count = np.empty(9, np.float32), np.empty(9, np.float32), np.empty(9, np.uint16)
    kernels_values.weigh.py_func(values, weights, np.ones(7), data, variance, count)
    good = np.isfinite(values)
    shares = np.where(good, weights[:, None], 0)
    shares /= shares.sum(0)
    clean = np.where(good, values, 0)
    mean = (shares * clean).sum(0)
    np.testing.assert_allclose(data, mean, rtol=1e-6)
    np.testing.assert_allclose(variance, (shares**2 * (clean - mean) ** 2 / (1 - shares)).sum(0), rtol=1e-5)
    np.testing.assert_array_equal(count, good.sum(0))


def test_growing_is_a_dilation_in_each_frame():
    from scipy import ndimage

    rng = np.random.default_rng(2)
    rejected = rng.random((3, 9, 11)) < 0.05
    values = np.where(rejected, np.inf, 1).astype(np.float32)
    grown = np.array([ndimage.binary_dilation(frame, np.ones((3, 3))) for frame in rejected])
    keep = (~grown).sum(0) >= 1
    offsets = np.array([(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c])
    flat, high = values.reshape(3, -1).copy(), np.zeros(99, np.uint16)
    kernels_rank.grow_rejected.py_func(flat, np.ones((3, 99), np.uint8), offsets, 9, 1, high)
    expected = np.where(grown & keep, True, rejected)
    np.testing.assert_array_equal(np.isinf(flat).reshape(3, 9, 11), expected)
    np.testing.assert_array_equal(high.reshape(9, 11), (expected & ~rejected).sum(0))
