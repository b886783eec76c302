"""Compare: two products of one kind, differences in units of their errors."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import calibrant as cal
from calibrant.comparison import Comparison, compare
from calibrant.errors import SelectionError, ShapeError, UnitError
from calibrant.frame import DQ
from calibrant.product import Input, Product, Provenance, Quantity

SHAPE = (120, 90)
SIGMA = 2.0
PATTERN = np.random.default_rng(0).normal(100.0, 10.0, SHAPE)


def bias(seed, *, level=0.0, sigma=SIGMA, stated=SIGMA, **more):
    """A product of one truth with its own noise."""
    rng = np.random.default_rng(seed)
    data = (PATTERN + level + rng.normal(0.0, sigma, SHAPE)).astype(np.float32)
    planes = {
        "data": data,
        "variance": np.full(SHAPE, stated**2, np.float32),
        "dq": np.zeros(SHAPE, np.uint32),
        "count": np.full(SHAPE, 10, np.uint16),
    }
    quantities = (Quantity("level", 100.0 + level, 0.3, "adu"), Quantity("read_noise", 5.0, None, "adu"))
    return Product(
        "bias", planes=planes, units={"data": "adu", "variance": "adu2"}, quantities=quantities, **more
    )


def with_plane(product, **planes):
    return replace(product, planes={**product.planes, **planes})


def test_it_is_a_public_function():
    import calibrant.comparison  # the module must not hide the function

    assert cal.compare is compare and callable(cal.compare)
    assert calibrant.comparison.compare is compare


def test_two_measurements_of_one_truth_agree():
    found = compare(bias(1), bias(2))
    data = found.plane()
    assert found.agrees and found.verdict == "agrees"
    assert data.pixels == math.prod(SHAPE)
    assert data.difference == pytest.approx(0.0, abs=0.1)
    assert data.scatter == pytest.approx(SIGMA * math.sqrt(2), rel=0.03)
    assert data.pull == pytest.approx(0.0, abs=0.04)
    assert data.width == pytest.approx(1.0, abs=0.03)
    assert data.outliers == 0 and data.shift is None
    assert [plane.name for plane in found.planes] == ["data"]  # neither errors nor counts


def test_a_product_agrees_with_itself():
    found = compare(bias(1), bias(1))
    assert found.agrees and found.one == found.other
    assert found.plane().difference == 0 and found.plane().outliers == 0


def test_a_level_differs_by_its_sigmas():
    found = compare(bias(1, level=6.0), bias(2))
    level = found.quantities[0]
    assert (level.difference, level.unit) == (6.0, "adu")
    assert level.sigma == pytest.approx(0.3 * math.sqrt(2))
    assert level.pull == pytest.approx(6.0 / 0.3 / math.sqrt(2))
    assert found.quantities[1].pull is None  # nobody stated its sigma
    assert found.verdict.startswith("differs: level by +14.1 sigma")
    assert found.plane().pull == pytest.approx(6.0 / SIGMA / math.sqrt(2), abs=0.04)
    back = compare(bias(2), bias(1, level=6.0))
    assert back.quantities[0].pull == pytest.approx(-level.pull)


def test_errors_that_are_stated_too_small_are_told():
    found = compare(bias(1, sigma=6.0), bias(2, sigma=6.0))
    assert found.plane().width == pytest.approx(3.0, rel=0.03)
    assert "scatters 3 times" in found.verdict
    assert compare(bias(1, stated=8.0), bias(2, stated=8.0)).plane().width == pytest.approx(0.25, rel=0.03)


def test_medians_of_integers_have_the_width_of_their_errors():
    """They lie on a grid of whole counts, where a median absolute deviation jumps by a tenth and more."""

    def rounded(seed):
        noise = np.random.default_rng(seed).normal(0.0, 2.77, (400, 400))
        planes = {"data": np.rint(noise).astype(np.float32), "variance": np.full((400, 400), 2.77**2, "f4")}
        return Product("bias", planes=planes)

    found = compare(rounded(1), rounded(2)).plane()
    assert found.width == pytest.approx(1.0, abs=0.03) and found.shift is None


def test_single_pixels_are_told():
    data = bias(1).data.copy()
    data.ravel()[::100] += 100.0
    found = compare(with_plane(bias(1), data=data), bias(2))
    assert found.plane().outliers == pytest.approx(0.01, rel=0.02)
    assert "1 % of data beyond 5 sigma" in found.verdict


@pytest.mark.parametrize("move", [(1, 0), (0, -2), (-1, 2)])
def test_a_shift_is_found(move):
    found = compare(bias(1), with_plane(bias(2), data=np.roll(bias(2).data, move, (0, 1))))
    assert found.plane().shift == (-move[0], -move[1])
    assert "fits better moved" in found.verdict


def test_noise_has_no_shift():
    rng = np.random.default_rng(5)
    one, other = (with_plane(bias(1), data=rng.normal(0, 1, SHAPE).astype(np.float32)) for _ in range(2))
    assert compare(one, other).plane().shift is None


def test_pixels_that_are_not_to_be_used_do_not_count():
    dq = np.zeros(SHAPE, np.uint32)
    dq[:10] = DQ.DO_NOT_USE
    data = bias(1).data.copy()
    data[:10] = 1e6
    data[20, 20] = np.nan
    found = compare(with_plane(bias(1), data=data, dq=dq), bias(2))
    assert found.plane().pixels == 110 * 90 - 1
    assert found.plane().outliers == 0
    assert found.flagged_once == pytest.approx(10 / 120)
    assert "8.3 % of the pixels are flagged in one only" in found.verdict


def test_flags_are_counted_by_name():
    one, other = np.zeros(SHAPE, np.uint32), np.zeros(SHAPE, np.uint32)
    one[0, :7] = DQ.HOT
    other[0, 4:] = DQ.HOT
    one[1, :2] = DQ.REFERENCE_PIXEL
    found = compare(with_plane(bias(1), dq=one), with_plane(bias(2), dq=other))
    told = {flag.flag: (flag.both, flag.one, flag.other) for flag in found.flags}
    assert told == {"HOT": (3, 4, 83), "REFERENCE_PIXEL": (0, 2, 0)}


def test_a_product_of_flags_alone():
    dq = np.zeros(SHAPE, np.uint32)
    one = Product("defects", planes={"dq": dq})
    found = compare(one, with_plane(one, dq=dq | np.uint32(DQ.WARM)))
    assert found.flagged_once == 1.0 and found.planes == () and found.plane() is None


def test_variances_add_and_the_noise_model_goes_first():
    big = np.full(SHAPE, 100.0, np.float32)
    common = np.full(SHAPE, 21.0, np.float32)
    found = compare(with_plane(bias(1), propagated=big, systematic=common), bias(2))
    assert found.plane().width == pytest.approx(math.sqrt(2 * SIGMA**2 / (100 + 21 + 4)), rel=0.03)


def test_errors_that_both_share_cancel_and_it_is_told():
    common = np.full(SHAPE, 1e4, np.float32)
    parents = Provenance(parents=("sha256:0123456789abcdef",))
    one, other = (with_plane(bias(i), systematic=common) for i in (1, 2))
    apart = compare(one, other)
    found = compare(replace(one, provenance=parents), replace(other, provenance=parents))
    assert apart.plane().width < 0.05 and apart.notes == ()
    assert found.plane().width == pytest.approx(1.0, abs=0.03)
    assert "prepared by 0123456789ab" in found.notes[0]


def test_frames_in_both_and_parts_in_one_only_are_told():
    inputs = [Provenance(inputs=tuple(Input(n, f"sha256:{n}") for n in names)) for names in ("abc", "bcd")]
    one, other = (replace(bias(i), provenance=inputs[i]) for i in (0, 1))
    other = replace(with_plane(other, extra=other.data), quantities=other.quantities[:1])
    notes = compare(one, other).notes
    assert notes[0].startswith("2 of 3 and 3 raw frames are in both")
    assert notes[1:] == ("only in the first: read_noise", "only in the second: plane extra")


def test_without_variance_there_is_a_difference_but_no_pull():
    planes = {"data": np.ones(SHAPE, np.float32)}
    plane = compare(Product("x", planes=planes), Product("x", planes=planes)).plane()
    assert (plane.difference, plane.pull, plane.width, plane.outliers) == (0.0, None, None, None)


def test_planes_without_any_good_pixel():
    nothing = with_plane(bias(1), data=np.full(SHAPE, np.nan, np.float32))
    found = compare(nothing, bias(2))
    assert found.plane().pixels == 0 and found.plane().pull is None
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["planes"][0]["difference"] is None


@pytest.mark.parametrize(
    ("other", "error", "words"),
    [
        (replace(bias(2), kind="dark"), SelectionError, "bias (.*) and dark"),
        (with_plane(bias(2), data=np.ones((3, 4), np.float32)), ShapeError, "'data' .* differ in size"),
        (replace(bias(2), units={"data": "electron"}), UnitError, "'data' .* different units"),
        (replace(bias(2), quantities=(Quantity("level", 1.0, None, "electron"),)), UnitError, "level is in"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(other, error, words):
    with pytest.raises(error, match=words):
        compare(bias(1), other)


def test_rows_and_json_hold_the_same():
    found = compare(bias(1, level=6.0), bias(2))
    rows = found.rows()
    assert [row["what"] for row in rows] == ["level", "read_noise", "plane data"]
    assert all(set(row) == {"what", "one", "other", "difference", "sigma", "pull", "unit"} for row in rows)
    assert rows[2]["sigma"] == found.plane().scatter
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["verdict"] == found.verdict and told["agrees"] is False
    assert told["quantities"][0]["pull"] == pytest.approx(found.quantities[0].pull)
    assert isinstance(found, Comparison)
