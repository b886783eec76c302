"""Verify: values against limits from both sides, on frames that were processed with the product."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibrant.effects import bias, dark, defects, flat, overscan
from calibrant.errors import ConfigError
from calibrant.exposures import Exposures
from calibrant.frame import DQ
from calibrant.pipeline import recipe as recipes
from calibrant.pipeline.limits import DIFFERENCE, VALUES
from calibrant.pipeline.verify import frames_needed, products_needed, verify
from calibrant.product import Product, Quantity
from calibrant.simulate.observe import ccd_night

SHAPE = (128, 160)
HALF = 5
MASTERS = ("bias", "dark", "flat", "defects")
KINDS = (*MASTERS, "gain", "linearity", "crosstalk", "charge_transfer", "brighter_fatter")


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """A night whose frames are enough for two sets of masters."""
    folder = tmp_path_factory.mktemp("verify") / "raw"
    darks, flats = {60.0: 6, 180.0: 4}, {"R": [30_000.0] * (2 * HALF)}
    ccd_night(folder, seed=11, shape=SHAPE, biases=2 * HALF, darks=darks, flats=flats, science={"R": 1})
    return Exposures.scan(folder)


@pytest.fixture(scope="module")
def recipe():
    return recipes.load("ccd")


def of(frames, kind, half=None):
    """Frames of a kind; the even ones (0), or the odd ones (1)."""
    found = frames.where(kind=kind)
    return found if half is None else found.take(range(half, len(found), 2))


def prepared(frames):
    return frames.through(overscan.step(frames[0], instrument=frames.instrument))


def masters(frames, half=None, method="mean"):
    """Bias, dark, flat and defects of one half of the frames."""
    made: dict[str, Product] = {}
    made["bias"] = bias.measure(prepared(of(frames, "bias", half)), method=method)
    made["dark"] = dark.measure(prepared(of(frames, "dark", half)), products=dict(made), method=method)
    made["flat"] = flat.measure(prepared(of(frames, "flat", half)), products=dict(made), method=method)
    made["defects"] = defects.measure(products=dict(made))
    return made


@pytest.fixture(scope="module")
def night(frames):
    return masters(frames, 0)


@pytest.fixture(scope="module")
def later(frames):
    return masters(frames, 1)


@pytest.fixture
def judged(frames, recipe, night):
    """The verdict on a product: by default on frames that it was not made of."""

    def judge(product, half=1, **more):
        kinds = frames_needed(product.kind)
        chosen = frames.where(lambda one: one.kind in kinds)
        exposures = chosen if half is None else sum_of([of(frames, kind, half) for kind in kinds])
        given = {"recipe": recipe, "exposures": exposures, **more}
        others = {kind: night[kind] for kind in products_needed(product.kind)}
        return verify(product, instrument=frames.instrument, products=others, **given)

    return judge


def sum_of(parts):
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def value(verdict, name):
    (found,) = [item for item in verdict.items if item.name == name]
    return found.value


def failed(verdict):
    return {item.name for item in verdict.items if not item.passed}


def with_plane(product, **planes):
    return replace(product, planes={**product.planes, **planes})


# --- what is good passes, on its own frames and on others ---


@pytest.mark.parametrize("half", [0, 1, None], ids=["own", "others", "both"])
@pytest.mark.parametrize("kind", MASTERS)
def test_a_good_master_passes(judged, night, kind, half):
    verdict = judged(night[kind], half)
    assert verdict.passed, failed(verdict)
    assert verdict.kind == kind and verdict.identity == night[kind].identity
    expected = sum(1 for note in verdict.notes if "the product's own" in note)
    assert expected == (1 if half == 0 and kind != "defects" else 0)


@pytest.mark.parametrize("method", ["mean", "median"])
@pytest.mark.parametrize("half", [0, 1], ids=["own", "others"])
@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_the_noise_ratio_is_one_for_members_and_for_others(frames, recipe, kind, half, method):
    """Of five frames the residual of a member has 0.89 of the noise of a frame, that of another 1.10."""
    made = masters(frames, 0, method)
    verdict = verify(
        made[kind],
        recipe=recipe,
        instrument=frames.instrument,
        exposures=of(frames, kind, half),
        products=made,
    )
    assert value(verdict, "noise_ratio") == pytest.approx(1.0, abs=0.03)


def test_members_taken_for_others_would_be_seen(frames, recipe, night):
    """The twin: without the correlation of member and master the ratio is off by more than the tolerance."""
    stranger = replace(night["bias"], provenance=replace(night["bias"].provenance, inputs=()))
    verdict = verify(stranger, recipe=recipe, instrument=frames.instrument, exposures=of(frames, "bias", 0))
    assert value(verdict, "noise_ratio") == pytest.approx(math.sqrt(0.8 / 1.2), abs=0.03)


# --- what is wrong fails, by the value that is meant for it ---

NOISE = 5.0  # adu, of one frame
GAIN = 1.5  # e-/adu


def shifted(adu):
    return lambda p: with_plane(p, data=p.data + np.float32(adu))


def scaled_errors(factor):
    """A product that states another read noise than its frames have."""
    return lambda p: replace(
        p, quantities=tuple(replace(q, value=q.value * factor) if q.name == "read_noise" else q for q in p)
    )


def striped(amplitude, axis):
    def change(p):
        line = np.random.default_rng(1).normal(0.0, amplitude, p.data.shape[axis]).astype(np.float32)
        return with_plane(p, data=p.data + (line[:, None] if axis == 0 else line))

    return change


def spotted(p):
    data = p.data.copy()
    data.ravel()[::100] += 10 * NOISE
    return with_plane(p, data=data)


def leaked(fraction):
    """Stray light over the field, from one edge to the other."""

    def change(p):
        slope = np.linspace(-fraction, fraction, p.data.shape[1], dtype=np.float32)
        return with_plane(p, data=p.data * (1 + slope))

    return change


def noisier(sigma):
    def change(p):
        noise = np.random.default_rng(2).normal(0.0, sigma, p.data.shape).astype(np.float32)
        return with_plane(p, data=p.data + noise)

    return change


def half_wrong(p):
    data = p.data.copy()
    data[:, : data.shape[1] // 2] *= 1.03
    return with_plane(p, data=data)


def flagless(flag):
    def change(p):
        dq = p.planes["dq"].copy()
        dq[(dq & np.uint32(flag)) != 0] = 0
        return with_plane(p, dq=dq)

    return change


def moved(p):
    return with_plane(p, dq=np.roll(p.planes["dq"], (7, 11), (0, 1)))


def painted(p):
    dq = p.planes["dq"].copy()
    dq[:, :20] |= np.uint32(DQ.WARM)
    return with_plane(p, dq=dq)


FAULTS = {
    "bias level": ("bias", shifted(5 * NOISE), {"level", "worst_level"}),
    "bias level, other side": ("bias", shifted(-5 * NOISE), {"level", "worst_level"}),
    "noise stated too low": ("bias", scaled_errors(0.7), {"noise_ratio"}),
    "noise stated too high": ("bias", scaled_errors(1.4), {"noise_ratio"}),
    "bias rows": ("bias", striped(5.0, 0), {"row_structure"}),
    "bias columns": ("bias", striped(5.0, 1), {"column_structure"}),
    "bias spots": ("bias", spotted, {"outliers"}),
    "dark level": ("dark", shifted(0.1), {"level", "rate"}),
    "dark noise": ("dark", noisier(0.1), {"noise_ratio"}),
    "flat of leaked light": ("flat", leaked(0.05), {"structure"}),
    "flat of another scale": (
        "flat",
        lambda p: with_plane(p, data=p.data * np.float32(2)),
        {"normalisation"},
    ),
    "flat noise": ("flat", noisier(0.01), {"noise_ratio"}),
    "defects without hot": ("defects", flagless(DQ.HOT), {"missed_hot"}),
    "defects without dead": ("defects", flagless(DQ.DEAD), {"missed_dead"}),
    "defects of another detector": ("defects", moved, {"missed_hot", "confirmed"}),
    "defects everywhere": ("defects", painted, {"flagged"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_its_value(judged, night, name):
    kind, change, names = FAULTS[name]
    verdict = judged(change(night[kind]))
    assert not verdict.passed
    assert names <= failed(verdict), failed(verdict)


def leaky_dark(frames, night, edit, folder, adu):
    """A dark of frames that light reached while they were taken: a glow that grows towards one edge."""
    paths = [shutil.copy(path, folder) for path in of(frames, "dark", 0).where(exptime=60.0).paths]
    rng = np.random.default_rng(4)
    glow = np.zeros(of(frames, "dark").shape)
    glow[:, : SHAPE[1]] = np.linspace(0.0, 2 * adu, SHAPE[1])
    for path in paths:
        light = rng.poisson(GAIN * glow) / GAIN  # photons come with their noise
        edit(path, lambda pixels, light=light: pixels + light)
    exposures = Exposures.scan(paths, frames.instrument)
    return dark.measure(prepared(exposures), products={"bias": night["bias"]}), exposures


@pytest.mark.parametrize(("adu", "passes"), [(0.0, True), (40.0, False)])
def test_a_dark_of_a_night_with_a_leak_of_light(frames, recipe, night, edit, tmp_path, adu, passes):
    product, own = leaky_dark(frames, night, edit, tmp_path, adu)
    given = {"recipe": recipe, "instrument": frames.instrument, "products": night}
    verdict = verify(product, exposures=of(frames, "dark", 1), **given)
    assert verdict.passed == passes
    assert ({"level", "column_structure"} <= failed(verdict)) is not passes
    assert failed(verify(product, exposures=own, **given)) == set()  # its own frames hold the same light
    told = verify(product, exposures=own, reference=night["dark"], **given)
    assert told.passed == passes and ("difference" in failed(told)) is not passes


def test_a_leak_in_all_flats_is_seen_against_the_last_certified_only(judged, night, later):
    """Frames of the leak itself fit their flat: what they share, only another night shows."""
    reference = leaked(0.3)(later["flat"])
    assert judged(night["flat"], 0).passed
    assert "difference_outliers" in failed(judged(night["flat"], 0, reference=reference))


# --- against the last one certified ---


@pytest.mark.parametrize("kind", MASTERS)
def test_another_master_of_the_same_night_differs_by_its_errors(judged, night, later, kind):
    verdict = judged(night[kind], reference=later[kind])
    assert verdict.passed, failed(verdict)
    if kind != "defects":
        assert value(verdict, "difference_width") == pytest.approx(1.0, abs=0.1)
    assert any("against the last certified one" in note for note in verdict.notes)


@pytest.mark.parametrize(
    ("kind", "change", "name"),
    [
        ("bias", shifted(5 * NOISE), "difference"),
        ("bias", noisier(5 * NOISE), "difference_width"),
        ("dark", shifted(0.5), "difference"),
        ("defects", painted, "difference_flags"),
    ],
)
def test_a_reference_that_differs_fails(judged, night, later, kind, change, name):
    assert name in failed(judged(night[kind], reference=change(later[kind])))


def test_without_reference_it_is_told_not_failed(judged, night):
    for reference, why in ((None, "no other product was certified"), (night["bias"], "this product")):
        verdict = judged(night["bias"], reference=reference)
        assert verdict.passed
        assert not {item.name for item in verdict.items} & set(DIFFERENCE)
        assert any(why in note for note in verdict.notes)


# --- what cannot be measured does not pass ---


def test_without_frames_nothing_passes(frames, recipe, night):
    for exposures in (None, of(frames, "flat")):
        verdict = verify(night["bias"], recipe=recipe, instrument=frames.instrument, exposures=exposures)
        missing = [item for item in verdict.items if item.value is None]
        assert not verdict.passed and "noise_ratio" in {item.name for item in missing}
        assert all("no bias frames" in item.note for item in missing)
        assert verdict.frames == ()


def test_frames_of_another_setting_do_not_count(frames, recipe, night):
    other = replace(night["flat"], keys={**night["flat"].keys, "filter": "V"})
    verdict = verify(
        other, recipe=recipe, instrument=frames.instrument, exposures=of(frames, "flat"), products=night
    )
    assert "structure" in failed(verdict)
    assert any("another setting" in note for note in verdict.notes)


def test_a_master_of_one_frame_cannot_be_judged_on_it(frames, recipe):
    one = of(frames, "bias").take([0])
    product = bias.measure(prepared(one))
    verdict = verify(product, recipe=recipe, instrument=frames.instrument, exposures=one)
    assert not verdict.passed
    assert any("says nothing" in item.note for item in verdict.items)


def test_a_bad_file_is_left_out_and_named(night, frames, recipe, tmp_path):
    files = [*of(frames, "bias", 1).paths]
    broken = tmp_path / "broken.fit"
    broken.write_bytes(Path(files[0]).read_bytes()[: 2880 * 3])
    exposures = Exposures.scan([*files[1:], broken], frames.instrument)
    verdict = verify(night["bias"], recipe=recipe, instrument=frames.instrument, exposures=exposures)
    assert verdict.passed and len(verdict.frames) == len(files) - 1


def test_no_more_than_sixteen_frames_are_read(frames, recipe, night):
    many = of(frames, "bias") + of(frames, "bias", 1) + of(frames, "bias", 1)
    verdict = verify(night["bias"], recipe=recipe, instrument=frames.instrument, exposures=many)
    assert len(verdict.frames) == 16
    assert sum(name in verdict.frames for name in of(frames, "bias", 1).paths) == HALF  # others go first


def test_another_bias_than_the_products_own_is_told(frames, recipe, night, later):
    verdict = verify(
        night["dark"], recipe=recipe, instrument=frames.instrument, exposures=of(frames, "dark"),
        products={"bias": later["bias"]},
    )  # fmt: skip
    assert any("another bias" in note for note in verdict.notes)


def test_without_its_bias_a_dark_cannot_be_judged(tmp_path, recipe):
    """Where no overscan takes the level away: a residual of a thousand counts is no finding."""
    ccd_night(tmp_path, seed=3, shape=(48, 64), biases=5, darks={60.0: 5}, flats={}, science={}, overscan=0)
    exposures = Exposures.scan(tmp_path)
    made = {"bias": bias.measure(exposures.where(kind="bias"))}
    made["dark"] = dark.measure(exposures.where(kind="dark"), products=made)
    given = {"recipe": recipe, "instrument": exposures.instrument, "exposures": exposures}
    verdict = verify(made["dark"], **given)
    assert not verdict.passed and verdict.frames == ()
    assert any("give the bias" in item.note for item in verdict.items)
    assert verify(made["dark"], products=made, **given).passed


# --- several amplifiers ---

PAIR = """
name = "pair"
extends = "generic-ccd"
[layout]
form = "amplifiers"
[detectors.default]
shape = [64, 80]
[[detectors.default.amplifiers]]
name = "1"
hdu = "AMP1"
data = "[1:48,1:64]"
overscan = "[49:80,1:64]"
place = "[1:48,1:64]"
gain = 1.5
read_noise = 7.5
[[detectors.default.amplifiers]]
name = "2"
hdu = "AMP2"
data = "[1:48,1:64]"
overscan = "[49:80,1:64]"
place = "[96:49,1:64]"
gain = 1.56
read_noise = 8.58
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    night = {"biases": 8, "darks": {60.0: 4}, "flats": {"R": 6}, "science": {}}
    ccd_night(folder / "raw", seed=5, shape=(64, 96), amplifiers=2, **night)
    (folder / "pair.toml").write_text(PAIR)
    found = Exposures.scan(folder / "raw", folder / "pair.toml")
    return found, masters(found)


def by_place(verdict, name):
    return {item.place: item for item in verdict.items if item.name == name}


@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_amplifiers_are_judged_each(pair, recipe, kind):
    found, made = pair
    given = {"recipe": recipe, "instrument": found.instrument, "exposures": found, "products": made}
    noise = by_place(verify(made[kind], **given), "noise_ratio")
    assert set(noise) == {"1", "2"}
    for item in noise.values():
        assert item.passed and item.value == pytest.approx(1.0, abs=0.05)


def test_one_amplifier_off_fails_alone(pair, recipe):
    found, made = pair
    data = made["bias"].data.copy()
    data[:, 48:] += np.float32(2 * NOISE)
    wrong = with_plane(made["bias"], data=data)
    verdict = verify(wrong, recipe=recipe, instrument=found.instrument, exposures=found)
    assert {place: item.passed for place, item in by_place(verdict, "level").items()} == {
        "1": True,
        "2": False,
    }


def test_a_step_between_amplifiers_is_found_with_its_sign(pair, recipe):
    found, made = pair
    given = {"recipe": recipe, "instrument": found.instrument, "exposures": found, "products": made}
    good = verify(made["flat"], **given)
    assert by_place(good, "amplifier_step")[""].passed
    data = made["flat"].data.copy()
    data[:, 48:] *= np.float32(1.02)
    (item,) = by_place(verify(with_plane(made["flat"], data=data), **given), "amplifier_step").values()
    assert not item.passed and item.value == pytest.approx(100 * (1 / 1.02 - 1), abs=0.3)


# --- the table of limits ---


def test_quantities_need_no_code(frames, night):
    """A kind that is not known yet is judged by what it states, place by place."""
    changes = {"verify.ptc": '{"quantity.turnoff": [90000, Infinity], "quantity.gain": [1, 2]}'}
    recipe = recipes.load("ccd", changes)
    quantities = (Quantity("turnoff", 95e3, 1e3, "adu"), Quantity("gain", 1.5, place="1"),
                  Quantity("gain", 2.5, place="2"))  # fmt: skip
    verdict = verify(Product("ptc", quantities=quantities), recipe=recipe, instrument=frames.instrument)
    told = {(item.name, item.place): item.passed for item in verdict.items}
    assert told == {
        ("quantity.turnoff", ""): True, ("quantity.gain", "1"): True, ("quantity.gain", "2"): False
    }  # fmt: skip
    assert verdict.items[0].high is None and verdict.items[0].unit == "adu"


def test_a_quantity_that_the_product_lacks_fails_with_the_nearest(frames, night):
    recipe = recipes.load("ccd", {"verify.bias": '{"quantity.read_nois": [0, 100]}'})
    verdict = verify(night["bias"], recipe=recipe, instrument=frames.instrument)
    assert not verdict.passed and "did you mean 'read_noise'" in verdict.items[0].note


def gain_of(value, noise=5.0, **more):
    found = {"gain": (value, "electron/adu"), "read_noise": (noise, "electron"), **more}
    return Product("gain", quantities=tuple(Quantity(n, v, 0.01, u) for n, (v, u) in found.items()))


@pytest.mark.parametrize(
    ("value", "more", "out"),
    [
        (1.0, {}, set()),
        (1.1, {}, {"nominal_gain"}),
        (math.nan, {}, {"nominal_gain"}),
        (1.0, {"noise_ratio": (1.3, ""), "a00": (-3e-6, "1/electron")}, {"noise_ratio"}),
        (1.0, {"a00": (-3e-3, "1/electron"), "chi2": (50.0, "")}, {"a00", "chi2"}),
    ],
    ids=["good", "off", "dead", "noise", "wild"],
)
def test_a_gain_is_judged_by_its_numbers_and_the_nominal_ones(frames, recipe, value, more, out):
    flat = frames.where(kind="flat")[0]
    nominal = frames.instrument.nominal(flat)
    product = gain_of(value * nominal.gain, nominal.read_noise, **more)
    verdict = verify(product, recipe=recipe, instrument=frames.instrument, exposures=frames)
    assert failed(verdict) == out
    if not more:
        assert any("passed over" in note and "chi2" in note for note in verdict.notes)
    alone = verify(product, recipe=recipe, instrument=frames.instrument)
    assert "nominal_gain" not in {item.name for item in alone.items}


@pytest.mark.parametrize(("rms", "passes"), [(0.1, True), (2.0, False)])
def test_a_linearity_is_judged_by_what_is_left(frames, recipe, rms, passes):
    rows = (Quantity("nonlinearity", 1.5, None, "%", "A"), Quantity("residual_rms", rms, None, "%", "A"))
    product = Product("linearity", quantities=rows)
    assert verify(product, recipe=recipe, instrument=frames.instrument).passed == passes


def test_a_kind_without_limits_says_which_table_to_add(frames, recipe):
    with pytest.raises(ConfigError, match=r"add the table \[verify.overscan\]"):
        verify(Product("overscan"), recipe=recipe, instrument=frames.instrument)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("verify.bias.levl", "[-1, 1]", "did you mean 'level'"),
        ("verify.bia.level", "[-1, 1]", "did you mean 'bias'"),
        ("verify.ptc.level", "[-1, 1]", "quantity.NAME"),
        ("verify.bias.level", "[1, -1]", "lowest and a highest"),
        ("verify.bias.level", "[NaN, 1]", "lowest and a highest"),
        ("verify.bias.level", "[1]", "two numbers"),
        ("verify.bias.level", "[1, 2, 3]", "two numbers"),
        ("verify.bias.level", "wide", "two numbers"),
        ("verify.bias", "3", "table"),
    ],
)
def test_limits_that_make_no_sense_are_refused(name, text, words):
    with pytest.raises(ConfigError) as error:
        recipes.load("ccd", {name: text})
    assert words in str(error.value)


def test_limits_are_inclusive(frames, night):
    found = night["bias"].quantity("read_noise").value
    recipe = recipes.load("ccd", {"verify.bias": f'{{"quantity.read_noise": [{found!r}, {found!r}]}}'})
    assert verify(night["bias"], recipe=recipe, instrument=frames.instrument).passed


def test_limits_make_no_frame_stale(recipe):
    """They change no pixel: the keys of what was reduced before stay as they are."""
    changed = recipes.load("ccd", {"verify.bias.level": "[-9, 9]"})
    assert changed.verify != recipe.verify
    assert changed.model_dump_json() == recipe.model_dump_json()


def test_a_recipe_replaces_single_limits(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        'schema = 1\nname = "own"\nsteps = []\n[verify.bias]\nlevel = [-9, 9]\nquantity.drift = [-1, 1]\n'
    )
    ours, theirs = recipes.load(own).limits_of("bias"), recipes.load("ccd").limits_of("bias")
    assert ours["level"] == (-9, 9) and ours["quantity.drift"] == (-1, 1)
    assert {**ours, "level": theirs["level"]} == {**theirs, "quantity.drift": (-1, 1)}


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_bounds_every_kind(name):
    found = recipes.load(name)
    for kind in KINDS:
        assert set(found.limits_of(kind)) & set(VALUES[kind])


def test_the_tables_of_the_page_are_fresh():
    """docs/verify.md names every value with its sentence and its default limits."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "verify.md").read_text()
    bounds = recipes.load("ccd")
    for kind in KINDS:
        section = page.split(f"## {kind.capitalize().replace('_', ' ')}\n")[1].split("\n## ")[0]
        told = re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*?) \|$", section, re.MULTILINE)
        limits = {name: f"{low:g} ... {high:g}" for name, (low, high) in bounds.limits_of(kind).items()}
        known = {name: words.rstrip(".") for name, words in {**VALUES[kind], **DIFFERENCE}.items()}
        assert told == [
            (name, known.get(name, "A number of the product itself"), limit) for name, limit in limits.items()
        ]
