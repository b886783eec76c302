"""The story of one pixel is that of the image."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import OptionError
from calibrant.frame import DQ
from calibrant.stack.combine import Noise, combine
from calibrant.stack.debug import debug_pixel
from calibrant.stack.reject import AvSigClip, CCDClip, SigmaClip
from calibrant.stack.source import ArraySource


@pytest.fixture
def frames():
    cube = np.round(1000 + 8 * np.random.default_rng(0).standard_normal((12, 6, 7))).astype(np.uint16)
    cube[3, 2, 3], cube[5, 2, 3], cube[7, 3, 3] = 60000, 1050, 1200
    return [ArraySource(frame, name=f"b{i}.fits") for i, frame in enumerate(cube)]


def test_each_value_has_its_fate(frames):
    options = {"method": "mean", "reject": SigmaClip(3), "limits": (None, 50000.0)}
    story = debug_pixel(frames, 2, 3, **options, budget="1GB", runner=None)
    assert story.values[3].fate == "left out: SATURATED" and story.values[3].flags == int(DQ.SATURATED)
    assert np.isnan(story.values[3].combined) and story.values[3].raw == 60000
    assert story.values[5].fate == "rejected in round 1"
    assert [value.fate for value in story.values].count("used") == 10
    assert [count for count, _, _ in story.rounds] == [11, 10]
    text = str(story)
    assert "pixel (2, 3)" in text and "b5.fits" in text and "after round 1: 10 values" in text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "mean", "reject": CCDClip(3), "noise": Noise(8.0, 1.5), "grow": 1},
        {"method": "sum", "reject": AvSigClip(2.5)},
        {"method": "mean", "scale": "median", "reject": "minmax"},
        {"method": "weighted", "weights": np.arange(1.0, 13.0)},
    ],
)
def test_the_result_is_that_of_the_image(frames, options):
    whole = combine(frames, **options)
    for row, col in ((2, 3), (3, 3), (3, 4)):
        story = debug_pixel(frames, row, col, **options)
        for name, value in story.result.items():
            assert value == pytest.approx(float(getattr(whole, name)[row, col]), nan_ok=True), name
        assert [value.fate for value in story.values].count("used") == whole.count[row, col]
        assert str(story)


def test_growth_is_told_apart(frames):
    story = debug_pixel(frames, 3, 4, method="mean", reject=SigmaClip(2.5, iterations=1), grow=1)
    assert story.values[7].fate == "rejected by growing"


def test_a_pixel_outside_is_refused(frames):
    with pytest.raises(OptionError, match="outside"):
        debug_pixel(frames, 6, 0)
