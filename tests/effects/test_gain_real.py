"""Gain of a real camera from its flats, all of one light, against numbers measured independently."""

from __future__ import annotations

import pytest

from calibrant.effects import bias, gain
from calibrant.exposures import Exposures

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def stl(real_data):
    return Exposures.scan(real_data / "stl1001", "stl1001")


@pytest.fixture(scope="module")
def zero(stl):
    return {t: bias.measure(stl.where(kind="bias", temperature=t)) for t in (-5, -10)}


def test_read_noise_of_both_temperatures(zero):
    assert zero[-5].quantity("read_noise").value == pytest.approx(6.70, abs=0.03)
    assert zero[-10].quantity("read_noise").value == pytest.approx(6.56, abs=0.03)


def test_gain_of_one_level_from_pairs(stl, zero):
    flats = stl.where(kind="flat")
    product = gain.measure(flats, products={"bias": zero[-5]}, lags=3)
    found = product.quantity("gain")
    assert found.value == pytest.approx(1.94, abs=0.02) and found.sigma < 0.005
    assert product.quantity("pairs").value == 5
    assert product.provenance.options["estimator"] == "pair"
    assert any("one level of light" in note for note in product.provenance.notes)
    assert product.quantity("read_noise").value == pytest.approx(6.70 * 1.94, rel=0.02)
    header = gain.nominal(flats).quantity("gain").value
    assert abs(header / found.value - 1) > 0.04  # the camera's own number is 6 % off


def test_each_pair_says_the_same(stl, zero):
    table = gain.measure(stl.where(kind="flat"), products={"bias": zero[-5]}, lags=0).tables["ptc"]
    each = table["mean"] / (table["variance"] - zero[-5].quantity("read_noise").value ** 2)
    assert each.min() > 1.91 and each.max() < 1.97


def test_neighbours_in_a_row_are_alike(stl, zero):
    """By 0.3 % of the variance, seen in every pair; pixels of neighbouring rows are not."""
    table = gain.measure(stl.where(kind="flat"), products={"bias": zero[-5]}, lags=3).tables["covariances"]
    pulls = table["covariance"] / table["sigma"]
    assert pulls[(table["i"] == 0) & (table["j"] == 1)].min() > 1
    assert abs(pulls[(table["i"] == 1) & (table["j"] == 0)].mean()) < 2
    assert abs(pulls[(table["i"] == 2) & (table["j"] == 2)].mean()) < 2
