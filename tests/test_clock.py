"""The clock of an array against plain loops over its pixels."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import OptionError
from calibrant.instrument import Border, Clock


def test_the_full_frame_of_a_large_array():
    clock = Clock()
    assert (clock.width, clock.row_ticks, clock.frame_ticks) == (512, 524, 1_073_677)
    assert clock.frame_time == pytest.approx(10.73677)
    assert clock.row_frequency == pytest.approx(190.84, abs=0.01)
    assert list(clock.directions[0]) == [0, 1023, 1024, 2047]


@pytest.mark.parametrize("fast, slow", [(1, 2), (-1, 2), (1, -2), (-1, -2), (2, 1), (-2, 1), (2, -1)])
@pytest.mark.parametrize("outputs, alternate", [(1, True), (2, True), (4, False), (4, True)])
def test_pixel_times_are_those_of_a_loop(fast, slow, outputs, alternate):
    clock = Clock(6, 8, outputs=outputs, alternate=alternate, fast=fast, slow=slow)
    times, output = clock.pixel_times(), clock.output_of()
    assert times.shape == output.shape == clock.shape
    for row in range(6):
        for col in range(8):
            y = row if slow > 0 else 5 - row
            x = col if fast > 0 else 7 - col
            number, j = divmod(x, clock.width)
            if alternate and number % 2:
                j = clock.width - 1 - j
            place = (row, col) if abs(fast) == 1 else (col, row)
            assert times[place] == pytest.approx((y * (clock.width + 12) + j) * 1e-5)
            assert output[place] == number


def test_raw_and_image_are_inverse():
    clock = Clock(6, 8, fast=-2, slow=1)
    image = np.arange(3 * 48).reshape(3, *clock.shape)
    assert clock.raw(image).shape == (3, 6, 8)
    np.testing.assert_array_equal(clock.image(clock.raw(image)), image)
    assert np.shares_memory(clock.raw(image), image)


def test_blocks_agree_with_directions_and_times():
    clock = Clock(4, 16, fast=-1, slow=-2)
    times = clock.raw(clock.pixel_times())
    start, step = clock.directions
    for block, first, by in zip(clock.blocks(times), start, step, strict=True):
        assert (np.diff(block, axis=1) > 0).all() and (np.diff(block, axis=0) > 0).all()
        np.testing.assert_array_equal(block[0], times[0, first + by * np.arange(4)])


def test_border():
    rows, cols = Border(1, 2, 3, 4).active((10, 20))
    assert (rows, cols) == (slice(1, 8), slice(3, 16))


@pytest.mark.parametrize(
    "wrong", [{"cols": 10}, {"rows": 0}, {"pixel_time": 0}, {"row_overhead": -1}, {"fast": 2}, {"slow": 3}]
)
def test_a_clock_that_cannot_run_is_refused(wrong):
    with pytest.raises(OptionError, match="clock"):
        Clock(**wrong)
