"""Linearity of a simulated sensor of 16 amplifiers, file by file, against the curves that it was given.

Crosstalk is taken away with the true matrix before; charge that is left behind in transfer, moving
boundaries of pixels, the structure of flats and a lamp that varies are in the simulation, not in the model.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from calibrant.effects import crosstalk, linearity, overscan
from calibrant.exposures import Exposures
from calibrant.files.fits import read
from calibrant.product import Product
from calibrant.simulate.camera import load
from calibrant.simulate.raft import simulate
from calibrant.simulate.raft_plan import Counts

CLOSE = 1e-3  # of the signal: ten times the scatter of the lamp's photodiode


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    camera, counts = load("ccd16"), Counts(biases=1, darks=0, flats=0, visits=False)
    night = camera.nights[0]
    lamps = tuple(one for one in night.series if one.object in ("ptc", "linearity"))
    camera = camera.model_copy(update={"nights": (night.model_copy(update={"series": lamps}),)})
    taken = simulate(camera, tmp_path_factory.mktemp("bench"), seed=7, bands=["r"], counts=counts)
    every = Exposures.from_paths(taken.raw, "ccd16")
    truth = read(taken.truth[0])
    flats = every.where(kind="flat", object=["ptc", "linearity"])
    return flats.through(*steps(flats, truth)), truth


@pytest.fixture(scope="module")
def measured(bench):
    """The linearity by the name of its model, each measured once."""
    return cache(lambda model: linearity.measure(bench[0], model=model))


def steps(flats, truth):
    pairs = {**truth.tables["crosstalk"], "sigma": np.zeros(len(truth.tables["crosstalk"]["source"]))}
    amplifiers = crosstalk.amplifiers_table(flats.instrument.readouts(flats[0]), flats.shape)
    mixed = Product("crosstalk", tables={"crosstalk": pairs, "amplifiers": amplifiers})
    return overscan.step(flats[0], instrument=flats.instrument), crosstalk.step(flats[0], mixed)


def errors(product, truth, *, corrected=True):
    """Relative errors of the signal above 1000 adu, amplifier by amplifier, worst first."""
    curve, true = product.tables["curve"], truth.tables["nonlinearity"]
    worst = []
    for name in dict.fromkeys(curve["amplifier"]):
        own, known = curve["amplifier"] == name, true["amplifier"] == name
        u = curve["measured"][own]
        light = np.interp(u, true["measured"][known], true["true"][known])
        found = u + curve["correction"][own] * corrected
        bright = u > 1000
        worst.append(np.abs(found[bright] / light[bright] - 1).max())
    return np.sort(worst)[::-1]


@pytest.mark.parametrize("model", ["polynomial", "spline"])
def test_curves_are_the_true_ones(measured, bench, model):
    product, truth = measured(model), bench[1]
    assert product.provenance.options["against"] == "photodiode"
    found = errors(product, truth)
    assert len(found) == 16 and found[0] < CLOSE
    assert errors(product, truth, corrected=False)[0] > 10 * CLOSE  # the twin: signals as they came
    after = [q.value for q in product if q.name == "residual_rms"]
    assert max(after) < 0.15  # per cent


def test_coefficients_in_sigmas(measured, bench):
    """The curves are cubic, and so is the inverse to the third order."""
    product, truth = measured("polynomial"), bench[1]
    pulls, twin = [], []
    for q in product:
        if q.name == "c2":
            true = truth.quantity("quadratic", q.place).value
            pulls.append((q.value - true) / q.sigma)
            twin.append((q.value - 0.5 * true) / q.sigma)
    assert np.sqrt(np.mean(np.square(pulls))) < 3
    assert np.sqrt(np.mean(np.square(twin))) > 5
