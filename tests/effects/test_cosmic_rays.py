"""Cosmic rays: simulated hits among stars, in counts and in electrons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from calibrant.effects import cosmic_rays
from calibrant.errors import HistoryError, OptionError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.simulate.cosmic_rays import cosmic_rays as simulated

SHAPE = (220, 200)
GAIN, NOISE, SKY = 1.5, 5.0, 80.0  # e-/adu, adu, adu


def stars():
    rng = np.random.default_rng(8)
    rows, cols = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    light = np.full(SHAPE, SKY)
    for row, col, flux in zip(
        rng.uniform(0, 220, 25), rng.uniform(0, 200, 25), rng.exponential(9000, 25), strict=True
    ):
        light += flux / (2 * np.pi * 4) * np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / 8)
    return light


def frames(seed=1):
    """A clean frame, and the same with hits; adu."""
    rng = np.random.default_rng(seed)
    clean = rng.poisson(stars() * GAIN) / GAIN + rng.normal(0, NOISE, SHAPE)
    charge = np.zeros(SHAPE, np.float32)
    rows, cols = rng.integers(2, 218, 60), rng.integers(2, 198, 60)
    charge[rows, cols] += rng.uniform(800, 8000, 60).astype(np.float32)
    charge[rows, cols - 1] += 400
    exposure = Exposure(kind="light", duration=300.0, gain=GAIN, shape=SHAPE, identifier=f"c{seed}")
    one = Frame(clean.astype(np.float32), exposure=exposure)
    return one, replace(one, data=(clean + charge / GAIN).astype(np.float32)), charge


def test_hits_are_found_and_stars_are_not():
    clean, hit, charge = frames()
    done = cosmic_rays.apply(hit, read_noise=NOISE)
    flagged = (done.dq & DQ.JUMP_DET) != 0
    strong = charge > 600
    assert (flagged & strong).sum() / strong.sum() > 0.95
    touched = binary_dilation(charge > 0, np.ones((3, 3)))
    assert (flagged & ~touched).sum() < 0.05 * flagged.sum()
    # The twin without hits: nearly nothing may be found.
    assert ((cosmic_rays.apply(clean, read_noise=NOISE).dq & DQ.JUMP_DET) != 0).sum() < 8
    np.testing.assert_array_equal(done.data, hit.data)  # flagged only
    assert (done.dq[flagged] & DQ.DO_NOT_USE).all()
    assert "hits" in done.history[-1].note


def test_pixels_are_filled_when_asked():
    clean, hit, charge = frames()
    done = cosmic_rays.apply(hit, read_noise=NOISE, replace_pixels=True)
    flagged = (done.dq & DQ.JUMP_DET) != 0
    assert (done.dq[flagged] & DQ.FLUX_ESTIMATED).all() and not (done.dq & DQ.DO_NOT_USE).any()
    off = np.abs(np.asarray(done.data) - clean.data)
    assert np.median(off[(charge > 600) & flagged]) < 20
    assert np.median(np.abs(hit.data - clean.data)[charge > 600]) > 400
    np.testing.assert_array_equal(np.asarray(done.data)[~flagged], hit.data[~flagged])


def test_counts_and_electrons_give_the_same_pixels():
    _, hit, _ = frames()
    adu, clean_adu = cosmic_rays.find(hit, read_noise=NOISE)
    electrons = replace(hit, data=hit.data * np.float32(GAIN), unit="electron")
    e, clean_e = cosmic_rays.find(electrons, read_noise=NOISE * GAIN)
    assert (adu != e).sum() <= 2
    same = adu & e
    np.testing.assert_allclose(clean_e[same], clean_adu[same] * GAIN, rtol=1e-3)


def test_a_variance_plane_is_the_noise():
    _, hit, charge = frames()
    variance = (NOISE**2 + np.maximum(hit.data, 0) / GAIN).astype(np.float32)
    right, _ = cosmic_rays.find(replace(hit, variance=variance))
    assert (right & (charge > 600)).sum() / (charge > 600).sum() > 0.95
    modelled, _ = cosmic_rays.find(hit, read_noise=NOISE)
    assert (right != modelled).sum() < 0.1 * right.sum()
    blind, _ = cosmic_rays.find(replace(hit, variance=variance * 1e6))
    assert blind.sum() < 0.05 * right.sum()


def test_flagged_pixels_are_left_out():
    _, hit, charge = frames()
    dq = np.where(charge > 0, np.uint32(DQ.SATURATED), np.uint32(0))
    found, _ = cosmic_rays.find(replace(hit, dq=dq), read_noise=NOISE)
    assert not (found & (charge > 0)).any()
    data = hit.data.copy()
    data[100, 100] = np.nan
    found, filled = cosmic_rays.find(replace(hit, data=data), read_noise=NOISE)
    assert not found[100, 100] and np.isnan(filled[100, 100]) and np.isfinite(filled).sum() == data.size - 1


def test_the_noise_is_taken_from_the_frame_if_nothing_else_knows_it():
    _, hit, charge = frames()
    found, _ = cosmic_rays.find(hit)
    assert (found & (charge > 600)).sum() / (charge > 600).sum() > 0.9


def test_rate_of_simulated_particles():
    rng = np.random.default_rng(20)
    images, particles = [], 0
    for i in range(3):
        hits = simulated(SHAPE, 40.0, rng)
        charge = np.zeros(SHAPE, np.float32)
        hits.add_to(charge)
        particles += hits.events
        data = (charge / GAIN + rng.normal(0, NOISE, SHAPE)).astype(np.float32)
        exposure = Exposure(kind="dark", duration=300.0, gain=GAIN, identifier=f"d{i}", start=i)
        images.append(Frame(data, exposure=exposure))
    found = cosmic_rays.measure(Exposures.from_frames(images), read_noise=NOISE)
    truth = particles / 3 / 300.0 / (SHAPE[0] * SHAPE[1])
    rate = found.quantity("rate")
    assert rate.value == pytest.approx(truth, rel=0.3)
    assert rate.sigma == pytest.approx(rate.value / np.sqrt(found.tables["frames"]["hits"].sum()), rel=1e-6)
    assert found.tables["frames"]["frame"].tolist() == ["d0", "d1", "d2"]


def test_bad_input():
    _, hit, _ = frames()
    with pytest.raises(UnitError, match="searched in counts"):
        cosmic_rays.apply(replace(hit, unit="adu/s"))
    with pytest.raises(OptionError, match="needs the gain"):
        cosmic_rays.apply(replace(hit, exposure=Exposure()))
    with pytest.raises(OptionError, match="positive"):
        cosmic_rays.apply(hit, sigma=0)
    done = cosmic_rays.apply(hit, read_noise=NOISE)
    with pytest.raises(HistoryError):
        cosmic_rays.apply(done)
