"""Cosmic rays: number, charge, and the shape of tracks."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.simulate.cosmic_rays import Hits, cosmic_rays

SHAPE = (400, 500)


def test_the_number_of_events_is_poissonian_about_the_rate():
    rng = np.random.default_rng(1)
    events = [cosmic_rays((50, 50), 4.0, rng).events for _ in range(1500)]
    assert np.mean(events) == pytest.approx(4.0, abs=4 * 2.0 / np.sqrt(1500))
    assert np.var(events) == pytest.approx(4.0, rel=0.15)


def test_no_particle_leaves_no_hit():
    hits = cosmic_rays(SHAPE, 0.0, np.random.default_rng(1))
    assert hits.events == 0 and len(hits.row) == 0


def test_charge_is_that_of_minimum_ionising_particles():
    hits = cosmic_rays(SHAPE, 4000.0, np.random.default_rng(2))
    total = np.bincount(hits.track, weights=hits.charge, minlength=hits.events)
    # Through 30 microns of silicon at 80 e- per micron, and longer paths when inclined.
    assert 2400 < np.median(total) < 4500
    assert np.mean(total) > 1.1 * np.median(total), "Landau's tail"
    assert hits.charge.min() >= 0 and np.array_equal(hits.charge, np.rint(hits.charge))


def test_tracks_are_straight_connected_and_inside():
    hits = cosmic_rays(SHAPE, 3000.0, np.random.default_rng(3))
    assert hits.row.min() >= 0 and hits.row.max() < SHAPE[0]
    assert hits.col.min() >= 0 and hits.col.max() < SHAPE[1]
    sizes = np.bincount(hits.track)
    longest = hits.track == np.argmax(sizes)
    row, col = hits.row[longest].astype(float), hits.col[longest].astype(float)
    spread = np.linalg.svd(np.stack([row - row.mean(), col - col.mean()]), compute_uv=False)
    assert sizes.max() > 15 and spread[1] < 0.35 * spread[0]
    assert np.median(sizes) < 12


def test_each_pixel_of_a_track_is_listed_once_and_added():
    hits = cosmic_rays(SHAPE, 50.0, np.random.default_rng(4))
    assert len({*zip(hits.track, hits.row, hits.col, strict=True)}) == len(hits.row)
    plane = np.zeros(SHAPE, np.float32)
    hits.add_to(plane)
    assert plane.sum(dtype=float) == hits.charge.sum(dtype=float)
    empty = np.zeros(SHAPE, np.float32)
    Hits.none().add_to(empty)
    assert not empty.any()
