"""The exercise: points, both regimes and their crossing, and lines of variance."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from calibrant.errors import SelectionError
from calibrant.report import plots
from calibrant.report.plots.canvas import encode

GAIN, NOISE = 0.8, 5.0
MEAN = np.array([-0.5, 12.5, 125.0, 1250.0, 12500.0])
LEVELS = SimpleNamespace(mean=MEAN, variance=MEAN / GAIN + (NOISE / GAIN) ** 2, pixels=np.full(5, 1000.0))
MEET = SimpleNamespace(signal=25.0, mean=31.25, noise=np.sqrt(2) * NOISE / GAIN)
SLOPE = SimpleNamespace(slope=0.4964, slope_sigma=0.004, intercept=0.05)


def line(intercept=39.0, noise=5.0):
    return SimpleNamespace(
        slope=1.25, intercept=intercept, gain=0.8, gain_sigma=0.004, read_noise=noise, read_noise_sigma=0.1
    )


def test_noise_has_two_regimes_that_meet_at_the_crossing(seen):
    figure = plots.noise_regimes(LEVELS, MEET, SLOPE)
    (axes,) = figure.axes
    floor, shot, both, crossing = axes.lines[-4:]
    assert floor.get_ydata()[0] == pytest.approx(6.25)
    # where the photon noise alone equals the floor
    at = np.interp(np.log(31.25), np.log(shot.get_xdata()), np.log(shot.get_ydata()))
    assert np.exp(at) == pytest.approx(6.25)
    expected = np.sqrt(both.get_xdata() / GAIN + 6.25**2)
    assert both.get_ydata() == pytest.approx(expected)
    assert crossing.get_xydata().tolist() == [[31.25, pytest.approx(8.8388, abs=1e-3)]]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.lines[0].get_xdata().tolist() == MEAN[1:].tolist()
    words = seen.said(figure)
    for told in (
        "noise [ADU]",
        "mean above the bias [ADU]",
        "slope 0.4964 ± 0.0040",
        "meet at 25 e⁻",
        "crossing",
    ):
        assert told in words


def test_variance_with_lines_and_what_is_left(seen):
    figure = plots.variance_lines(LEVELS, {"unweighted": line(90.0, np.nan), "weighted": line()})
    top, below = figure.axes
    assert top.lines[-1].get_ydata()[0] == pytest.approx(39.0)
    assert below.lines[-1].get_ydata() == pytest.approx([0.0, 0.0])
    assert below.lines[-2].get_ydata() == pytest.approx([51.0, 51.0])
    words = seen.said(figure)
    assert "variance [ADU²]" in words
    assert "weighted: gain 0.8000 ± 0.0040 e⁻/ADU, read noise 5.00 ± 0.10 e⁻" in words
    assert "unknown: the intercept is negative" in words


def test_no_levels_are_told_and_bytes_are_the_same():
    dark = SimpleNamespace(mean=np.zeros(2), variance=np.full(2, np.nan), pixels=np.full(2, 10))
    with pytest.raises(SelectionError, match="no level has signal"):
        plots.noise_regimes(dark, MEET)
    with pytest.raises(SelectionError, match="no level has a variance"):
        plots.variance_lines(dark, {})
    assert encode(plots.noise_regimes(LEVELS, MEET), dpi=30) == encode(
        plots.noise_regimes(LEVELS, MEET), dpi=30
    )
