"""Pixels of the exercise: moments, shapes, and words that cannot be meant."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant import simulate
from calibrant.errors import OptionError


@pytest.mark.parametrize("signal", [0.0, 3.0, 25.0, 1000.0, 1e5])
@pytest.mark.parametrize("whole", [False, True])
def test_moments(signal, whole):
    n, gain, noise = 200_000, 0.8, 5.0
    found = simulate.pixels(signal, noise, gain, n, np.random.default_rng(1), whole=whole)
    assert found.shape == (n,) and found.dtype == np.float64
    variance = (signal + noise**2) / gain**2 + whole / 12
    assert abs(found.mean() - signal / gain) < 4.5 * np.sqrt(variance / n)
    assert abs(found.var(ddof=1) / variance - 1) < 4.5 * np.sqrt(2 / n)
    assert (found == np.rint(found)).all() == whole


def test_many_levels_at_once():
    found = simulate.pixels([[0.0, 10.0], [100.0, 1000.0]], 5.0, 2.0, 4000, np.random.default_rng(1))
    assert found.shape == (2, 2, 4000)
    np.testing.assert_allclose(found.mean(axis=-1), [[0, 5], [50, 500]], atol=1.5)


def test_the_same_seed_gives_the_same_pixels():
    one, other = (simulate.pixels(100.0, 5.0, 0.8, 50, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ((-1.0, 5.0, 0.8, 9), "signal"),
        ((1.0, -5.0, 0.8, 9), "read_noise"),
        ((1.0, 5.0, 0.0, 9), "gain"),
        ((1.0, 5.0, 0.8, 0), "n"),
    ],
)
def test_words_that_cannot_be_meant(arguments, where):
    with pytest.raises(OptionError, match=where):
        simulate.pixels(*arguments, np.random.default_rng(1))
