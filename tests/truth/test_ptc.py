"""The photon transfer curve against truth: accuracy and pulls, and sensors whose physics is another.

Most trials draw the mean and the variance of each level from their laws for n independent normal pixels:
the mean is normal of width sqrt(v / 2n), the variance v chi2(n - 1) / (n - 1), which is exact and needs none.
The last tests have real pixels, in which the effect is charge that turns away new charge, and no formula.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from calibrant.effects._ptc_fit import fit
from calibrant.effects._ptc_models import exponential
from calibrant.simulate import pixels

GAIN, A00, NOISE = 0.8, -3e-6, 5.0
SIGNAL = np.geomspace(100.0, 9e4, 40)
PIXELS = 1e6
WITHIN = np.array([0.0015, 0.02, 0.01])  # of gain, a00, read noise


def drawn(rng, *, n=PIXELS, gain=GAIN, a00=A00, noise=NOISE, law=exponential):
    """Means and variances of 40 pairs."""
    mean = SIGNAL / gain
    variance = law(mean, gain, a00, noise)
    return (
        mean + np.sqrt(variance / (2 * n)) * rng.standard_normal(len(mean)),
        variance * rng.chisquare(n - 1, len(mean)) / (n - 1),
    )


def trials(count, seed=1, **physics):
    """Values and sigmas of gain, a00 and read noise, (trials, 3) each."""
    rng = np.random.default_rng(seed)
    fits = [fit(*drawn(rng, **physics), PIXELS) for _ in range(count)]
    values = np.array([(one.gain, one.a00, one.read_noise) for one in fits])
    sigmas = np.array([(one.gain_sigma, one.a00_sigma, one.read_noise_sigma) for one in fits])
    return values, sigmas


def judge(values, sigmas):
    """What the measured must reach: accuracy of each trial; centre and width of the pulls."""
    truth = np.array([GAIN, A00, NOISE])
    count = len(values)
    relative = np.abs(values / truth - 1)
    # 0.15 %, 2 % and 1 % are four sigmas of one trial: of very many, some stray beyond.
    assert (np.quantile(relative, 0.999 if count > 100 else 1.0, axis=0) < WITHIN).all(), relative.max(axis=0)
    pulls = (values - truth) / sigmas
    assert (np.abs(pulls.mean(axis=0)) < 4.5 / math.sqrt(count)).all(), pulls.mean(axis=0)
    width = math.sqrt(np.mean(pulls**2))
    assert abs(width - 1) < 4.5 / math.sqrt(2 * pulls.size), width
    if count > 100:
        each = np.sqrt(np.mean(pulls**2, axis=0))
        assert (np.abs(each - 1) < 4.5 / math.sqrt(2 * count)).all(), each


COUNTS = [5, pytest.param(800, marks=pytest.mark.soak)]


@pytest.mark.parametrize("count", COUNTS)
def test_accuracy_and_pulls(count):
    judge(*trials(count))


def without_third_order(mean, gain, a00, noise):
    """The parabola: the effect to first order."""
    return mean / gain + a00 * mean**2 + noise**2 / gain**2


@pytest.mark.parametrize(
    "physics",
    [
        {"gain": GAIN * (1 + 5 * 3.5e-4)},
        {"a00": A00 * (1 + 5 * 4.2e-3)},
        {"noise": NOISE * (1 + 5 * 2.4e-3)},
        {"law": without_third_order},
    ],
    ids=["gain", "a00", "noise", "law"],
)
@pytest.mark.parametrize("count", COUNTS)
def test_other_physics_is_noticed(count, physics):
    """The twin: five sigmas of one trial in one of the parameters, or another law."""
    with pytest.raises(AssertionError):
        judge(*trials(count, **physics))


@pytest.mark.soak
@pytest.mark.parametrize("n", [1000, 200_000])
def test_pulls_do_not_hang_on_the_number_of_pixels(n):
    rng = np.random.default_rng(2)
    fits = [fit(*drawn(rng, n=n), n) for _ in range(400)]
    pulls = np.array([((one.gain - GAIN) / one.gain_sigma, (one.a00 - A00) / one.a00_sigma) for one in fits])
    assert np.abs(np.sqrt(np.mean(pulls**2, axis=0)) - 1).max() < 0.16
    assert np.abs(pulls.mean(axis=0)).max() < 0.25


# --- real pixels ---


def charged(signal, n, rng, steps=32):
    """Electrons of pixels that fill in steps; each electron above the mean turns a share a00 of a step away.

    No formula of a variance: half of the push before the new charge, half after it. Its noise is Poisson's,
    as normal values (a step brings hundreds of electrons, or the signal is too faint for the effect).
    """
    steps = int(min(steps, max(1, signal // 300)))
    brought = signal / steps
    away = rng.poisson(brought, n) - brought if steps == 1 else np.zeros(n)
    if steps > 1:
        for _ in range(steps):
            away *= 1 + A00 * brought / 2
            away += math.sqrt(brought) * rng.standard_normal(n, dtype=np.float32)
            away *= 1 + A00 * brought / 2
    return signal + away


def pairs(levels, n, rng):
    """Mean and variance of levels from pairs of flats, pixel by pixel."""
    found = []
    for signal in levels:
        one, other = (
            (charged(signal, n, rng) + NOISE * rng.standard_normal(n, dtype=np.float32)) / GAIN
            for _ in range(2)
        )
        found.append(((one.mean() + other.mean()) / 2, np.var(one - other, ddof=1) / 2))
    return np.array(found).T


@pytest.mark.parametrize(
    ("count", "n"), [(12, 60_000), pytest.param(40, 1_000_000, marks=pytest.mark.soak)], ids=["small", "full"]
)
def test_real_pixels_that_push_charge_away(count, n):
    mean, variance = pairs(np.geomspace(100, 9e4, count), n, np.random.default_rng(4))
    found = fit(mean, variance, n)
    assert abs(found.gain - GAIN) < 4 * found.gain_sigma
    assert abs(found.a00 - A00) < 4 * found.a00_sigma + 0.003 * abs(A00)  # of the steps
    assert abs(found.read_noise - NOISE) < 4 * found.read_noise_sigma
    assert found.chi2 < 1 + 4 * math.sqrt(2 / (count - 3))
    if n == PIXELS:
        assert (
            np.abs([found.gain / GAIN - 1, found.a00 / A00 - 1, found.read_noise / NOISE - 1]) < WITHIN
        ).all()


def test_pixels_without_the_effect():
    """The sensor of the exercise: the same fit finds no effect, and that is within its sigma."""
    rng = np.random.default_rng(6)
    levels, n = np.geomspace(100, 9e4, 12), 60_000
    flats = [pixels(levels, NOISE, GAIN, n, rng) for _ in range(2)]
    found = fit(sum(flats).mean(axis=1) / 2, np.var(flats[0] - flats[1], axis=1, ddof=1) / 2, n)
    assert abs(found.a00) < 4 * found.a00_sigma < 1e-6
    assert abs(found.gain - GAIN) < 4 * found.gain_sigma
