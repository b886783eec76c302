"""The photon transfer curve of a simulated sensor of 16 amplifiers, file by file, against its truth.

Its charge moves the boundaries of pixels; nothing in the simulation knows the curve that is fitted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibrant.effects import bias, gain, overscan
from calibrant.exposures import Exposures
from calibrant.files.fits import read
from calibrant.simulate.camera import load
from calibrant.simulate.raft import simulate
from calibrant.simulate.raft_plan import Counts

LAGS = 4


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Biases and pairs of a sensor whose amplifiers are linear, ready to be measured, and the truth."""
    camera = load("ccd16")
    faults = {
        "nonlinearity": 0.0,
        "crosstalk": 0.0,
        "far": 0.0,
        "deferred_serial": 0.0,
        "deferred_parallel": 0.0,
    }
    night = camera.nights[0]
    night = night.model_copy(update={"series": tuple(one for one in night.series if one.object == "ptc")})
    linear = camera.model_copy(update={"faults": camera.faults.model_copy(update=faults), "nights": (night,)})
    counts = Counts(biases=10, darks=0, flats=0, visits=False)
    taken = simulate(linear, tmp_path_factory.mktemp("bench"), seed=5, bands=["r"], counts=counts)
    every = Exposures.from_paths(taken.raw, "ccd16")
    prepare = overscan.step(every[0], instrument=every.instrument)
    zero = bias.measure(every.where(kind="bias").through(prepare))
    return every.where(kind="flat", object="ptc").through(prepare), zero, read(taken.truth[0])


@pytest.fixture(scope="module")
def product(bench):
    flats, zero, _ = bench
    return gain.measure(flats, products={"bias": zero}, lags=LAGS)


def pulls(product, truth, name, scale=1.0):
    own = [q for q in product if q.name == name and np.isfinite(q.value)]
    return np.array([(q.value - scale * truth.quantity(name, q.place).value) / q.sigma for q in own])


def test_gains_of_all_amplifiers(product, bench):
    found = pulls(product, bench[2], "gain")
    assert len(found) == 16 and np.abs(found).max() < 4
    assert 0.5 < np.sqrt(np.mean(found**2)) < 1.6
    assert abs(found.mean()) < 4 / 4


def test_gains_of_another_sensor_are_seen(product, bench):
    """The twin: counts that are worth 3 % more."""
    assert np.sqrt(np.mean(pulls(product, bench[2], "gain", 1.03) ** 2)) > 2.5


def test_a00_is_that_of_the_boundaries(product, bench):
    found = pulls(product, bench[2], "a00")
    assert abs(found.mean()) < 4 / 4 and np.sqrt(np.mean(found**2)) < 1.6
    assert pulls(product, bench[2], "a00", 0.5).mean() < -2


def test_the_neighbours_too(product, bench):
    table, true = product.tables["a_matrix"], bench[2].tables["a_matrix"]
    found = []
    for at in ((0, 1), (1, 0)):
        here = (table["i"] == at[0]) & (table["j"] == at[1])
        wanted = true["a"][(true["i"] == at[0]) & (true["j"] == at[1])].mean()
        mean, sigma = table["a"][here].mean(), np.sqrt(np.sum(table["sigma"][here] ** 2)) / here.sum()
        assert abs(mean - wanted) < 4 * sigma
        found.append((mean, sigma))
    means, sigmas = np.transpose(found)
    assert means.sum() > 3 * np.hypot(*sigmas)


def test_read_noise_is_that_of_the_biases(product, bench):
    """That of the amplifier alone is less: the level of the overscan has an error of its own."""
    ratios = np.array([q.value for q in product if q.name == "noise_ratio"])
    sigmas = np.array([q.sigma for q in product if q.name == "noise_ratio"])
    assert abs(ratios.mean() - 1) < 4 * np.sqrt(np.sum(sigmas**2)) / 16
    assert np.abs((ratios - 1) / sigmas).max() < 4
    assert 0 < np.mean(pulls(product, bench[2], "read_noise")) < 3


def test_full_well_lies_below_saturation(product, bench):
    for quantity in product:
        if quantity.name == "full_well":
            full = bench[2].quantity("full_well", quantity.place).value
            assert 0.4 * full < quantity.value < 1.05 * full


def test_all_covariances_together(bench):
    flats, zero, truth = bench
    whole = gain.measure(flats, products={"bias": zero}, lags=LAGS, model="full")
    found = pulls(whole, truth, "gain")
    assert len(found) >= 14  # 300 parameters of 1e4 pixels may fail, and are told then
    assert np.abs(found).max() < 4 and abs(found.mean()) < 4 / 4
    assert {"b", "b_sigma"} <= set(whole.tables["a_matrix"])


def test_one_amplifier_fails_and_the_others_do_not(bench):
    flats, zero, _ = bench
    broken = replace(zero, planes={**zero.planes, "data": zero.data.copy()})
    broken.data[:144, :72] = np.nan
    found = gain.measure(flats, products={"bias": broken}, lags=0)
    values = {q.place: q.value for q in found if q.name == "gain"}
    dead = [place for place, value in values.items() if not np.isfinite(value)]
    assert len(dead) == 1 and any(note.startswith(f"{dead[0]}: dead") for note in found.provenance.notes)
