"""Crosstalk of a simulated sensor with 16 amplifiers, measured from spots, against its truth."""

from __future__ import annotations

import numpy as np
import pytest

import calibrant as cal
from calibrant.effects import bias, crosstalk, overscan
from calibrant.exposures import Exposures
from calibrant.simulate.camera import load
from calibrant.simulate.raft import simulate

SEED = 4


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Two frames of spots in each amplifier, through the overscan; the bias; the truth."""
    camera = load("ccd16")
    night = camera.nights[0]
    spots = [one.model_copy(update={"repeat": 2}) for one in night.series if one.scene == "spots"]
    night = night.model_copy(update={"series": tuple(spots), "darks": 0, "flats": 0})
    taken = simulate(
        camera.model_copy(update={"nights": (night,)}), tmp_path_factory.mktemp("spots"), seed=SEED
    )
    raw = Exposures.scan(taken.raw[0].parent, "ccd16", recursive=False)
    level = overscan.step(raw[0], instrument=raw.instrument)
    biases = bias.measure(raw.where(kind="bias").through(level))
    return raw.where(kind="light").sort("start").through(level), biases, cal.read(taken.truth[0])


@pytest.fixture(scope="module")
def measured(bench):
    spots, biases, _ = bench
    return [
        crosstalk.measure(spots.take(range(n, len(spots), 2)), products={"bias": biases}) for n in range(2)
    ]


def column(product, name="coefficient"):
    """(240,), source first; the order of both products is the same."""
    return np.asarray(product.tables["crosstalk"][name], np.float64)


def pulls(product, truth):
    assert (product.tables["crosstalk"]["source"] == truth.tables["crosstalk"]["source"]).all()
    assert (product.tables["crosstalk"]["target"] == truth.tables["crosstalk"]["target"]).all()
    return (column(product) - column(truth)) / column(product, "sigma")


def test_pulls_against_the_truth(bench, measured):
    got = np.concatenate([pulls(product, bench[2]) for product in measured])
    assert np.median(column(measured[0], "sigma")) < 5e-6  # of coefficients of 4e-4
    assert 0.85 < got.std() < 1.2 and abs(got.mean()) < 0.25 and np.abs(got).max() < 5


def test_the_transposed_matrix_is_seen(bench, measured):
    """The twin that must fail."""
    truth = column(bench[2])
    names = bench[2].tables["crosstalk"]
    at = {pair: n for n, pair in enumerate(zip(names["source"], names["target"], strict=True))}
    other = truth[[at[target, source] for source, target in at]]
    wrong = (column(measured[0]) - other) / column(measured[0], "sigma")
    assert wrong.std() > 5


def test_a_coefficient_that_is_wrong_by_five_sigma_is_seen(bench, measured):
    """The twin of a small mistake: every coefficient of one target, by 5 sigma."""
    own = measured[0].tables["crosstalk"]["target"] == "C13"
    shifted = pulls(measured[0], bench[2])[own] + 5
    assert abs(shifted.mean()) > 4 and np.abs(shifted).max() > 5


def test_without_a_bias_its_structure_is_the_noise(bench, measured):
    spots, _, truth = bench
    plain = pulls(crosstalk.measure(spots), truth)
    assert plain.std() < 2.5 and np.abs(plain).max() < 10


def test_nothing_is_left_after_the_correction(bench, measured):
    """Measured on the first frame of each amplifier, taken from the second."""
    spots, biases, _ = bench
    second = spots.take(range(1, len(spots), 2))
    assert (np.abs(column(measured[1]) / column(measured[1], "sigma")) > 5).sum() > 40
    corrected = second.through(crosstalk.step(second[0], measured[0]))
    left = crosstalk.measure(corrected, products={"bias": biases})
    width = np.hypot(column(left, "sigma"), column(measured[0], "sigma"))
    assert np.abs(column(left) / width).max() < 4.5 and (column(left) / width).std() < 1.2
    assert any("this is what is left" in note for note in left.provenance.notes)
    # The twin: the matrix of the wrong direction leaves more than was there.
    table = dict(measured[0].tables["crosstalk"])
    table["source"], table["target"] = table["target"], table["source"]
    turned = cal.product.Product(
        "crosstalk", tables={"crosstalk": table, "amplifiers": measured[0].tables["amplifiers"]}
    )
    wrong = crosstalk.measure(second.through(crosstalk.step(second[0], turned)), products={"bias": biases})
    assert np.abs(column(wrong) / width).max() > 20
