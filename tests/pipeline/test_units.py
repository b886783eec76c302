"""Recipe, matching, ledger, summary: the parts of the pipeline one by one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from calibrant.errors import ConfigError, OutputExistsError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import load as load_instrument
from calibrant.pipeline import recipe as recipes
from calibrant.pipeline.ledger import NAME, Ledger, recipe_key
from calibrant.pipeline.matching import mismatch, nearest, stem
from calibrant.pipeline.options import check_options
from calibrant.pipeline.plan import listed, make_plan
from calibrant.pipeline.summary import frame_entry, master_entry, plain
from calibrant.product import Product, Quantity

MINUTE = 60_000_000
GENERIC = load_instrument("generic-ccd")


def memory(*facts):
    """Exposures in memory of given facts, one minute apart."""
    frames = [
        Frame(
            np.zeros((8, 8), np.uint16),
            exposure=Exposure(
                start=count * MINUTE, shape=(8, 8), identifier=f"f{count}", path=f"f{count}", **one
            ),
        )
        for count, one in enumerate(facts)
    ]
    return Exposures.from_frames(frames, GENERIC)


# --- recipe ---


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_of_the_house_are_in_order(name):
    recipe = recipes.load(name)
    assert recipe.name == name
    assert recipe.minimum["bias"] == 10 and recipe.minimum["flat"] == 5
    check_options(recipe)


def test_the_recipe_for_spectra_does_not_look_for_cosmic_rays():
    assert recipes.load("ccd").enabled("cosmic_rays")
    assert not recipes.load("spectrum").enabled("cosmic_rays")


def test_changes_by_dotted_names():
    changes = {"steps_options.gain.enabled": "false", "measure.bias.method": "median", "minimum.bias": "3"}
    recipe = recipes.load("ccd", changes)
    assert not recipe.enabled("gain") and recipe.enabled("flat")
    assert recipe.measure_options("bias") == {"method": "median"}
    assert recipe.minimum["bias"] == 3
    assert recipe.options("gain") == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('name = "x"\nsteps = ["bias"', "not TOML"),
        ('schema = 1\nname = "x"\nsteps = ["bias", "drak"]', "did you mean 'dark'?"),
        (
            'schema = 1\nname = "x"\nstpes = ["bias"]\nsteps = []',
            "unknown key 'stpes'; did you mean 'steps'?",
        ),
        (
            'schema = 1\nname = "x"\nsteps = ["flat", "bias"]',
            "the steps are out of order: expected bias, flat",
        ),
        ('schema = 1\nname = "x"\nsteps = ["bias", "bias"]', "the steps are out of order"),
        (
            'schema = 1\nname = "x"\nsteps = ["bias"]\n[measure.baes]\nx = 1',
            "unknown step measure.baes; did you mean 'bias'?",
        ),
        ('schema = 2\nname = "x"\nsteps = ["bias"]', "schema"),
        ('schema = 1\nsteps = ["bias"]', "name"),
    ],
)
def test_mistakes_in_a_recipe(tmp_path, text, sentence):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        recipes.load(path)
    assert sentence in str(caught.value) and str(caught.value).startswith(str(path))


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no recipe 'cdc'; did you mean 'ccd'\?"):
        recipes.load("cdc")
    with pytest.raises(ConfigError, match="the recipe cannot be read"):
        recipes.load(tmp_path / "no.toml")
    with pytest.raises(ConfigError, match="does not lead to an option"):
        recipes.load("ccd", {"name.x.y": "1"})


def test_options_that_no_effect_knows():
    with pytest.raises(ConfigError, match=r"measure.bias: unknown option 'methd'; did you mean 'method'\?"):
        check_options(recipes.load("ccd", {"measure.bias.methd": "mean"}))
    with pytest.raises(ConfigError, match=r"steps_options.flat: unknown option 'x'; it takes none"):
        check_options(recipes.load("ccd", {"steps_options.flat.x": "1"}))


# --- matching ---


def test_mismatch_tells_the_first_difference():
    keys = {"detector": "a", "binning": (1, 1), "temperature": -10.0, "filter": "V"}
    one = Exposure(detector="a", temperature=-10.2, filter="V")
    assert mismatch(keys, one, GENERIC) is None
    assert mismatch(keys, replace(one, binning=(2, 2)), GENERIC) == "binning is 1x1, not 2x2"
    assert mismatch(keys, replace(one, temperature=-20.0), GENERIC) == "temperature is -10, not -20"
    assert mismatch(keys, replace(one, filter="R"), GENERIC) == "filter is V, not R"
    assert mismatch(keys, replace(one, temperature=None, filter=None), GENERIC) is None


def test_nearest_in_temperature_then_in_time():
    masters = [
        ({"temperature": -10.5}, 0),
        ({"temperature": -10.0}, 90 * MINUTE),
        ({"temperature": -10.0}, 0),
    ]
    frame = Exposure(start=80 * MINUTE, temperature=-10.0)
    found = nearest(masters, lambda m: m[0], lambda m: m[1], frame, GENERIC)
    assert found == masters[1]
    assert (
        nearest(masters[:1], lambda m: m[0], lambda m: m[1], replace(frame, temperature=5.0), GENERIC) is None
    )


def test_names_say_what_tells_masters_apart():
    cold = {"detector": "a b/c", "temperature": -10.4, "filter": None, "exptime": 300.0}
    warm = {**cold, "temperature": -5.0}
    assert stem("dark", cold, [cold]) == "dark_300s"
    assert stem("dark", cold, [cold, warm]) == "dark_-10C_300s"
    assert stem("dark", cold, [cold, {**cold, "detector": "x"}]) == "dark_deta-b-c_300s"


def test_listed():
    assert listed(["/a/b.fit", "c.fit"]) == "b.fit, c.fit"
    assert listed([f"{n}" for n in range(7)]) == "0, 1, 2, 3 and 3 more"


# --- plan ---


def dark(time, temperature=-10.0):
    return {"kind": "dark", "duration": time, "temperature": temperature}


def bias(temperature=-10.0):
    return {"kind": "bias", "duration": 0.0, "temperature": temperature}


def light(time, filter="V", **more):
    return {"kind": "light", "duration": time, "temperature": -10.0, "filter": filter, **more}


def flat(time, filter="V", **more):
    return {"kind": "flat", "duration": time, "temperature": -10.0, "filter": filter, **more}


def test_darks_with_a_bias_become_a_rate_and_exact_ones_where_there_are_enough():
    found = make_plan(
        memory(bias(), bias(), *[dark(60.0)] * 3, *[dark(300.0)] * 2, flat(3.0), light(60.0), light(200.0)),
        recipes.load("ccd"),
    )
    jobs = {job.name: job for job in found.jobs}
    assert set(jobs) == {"bias", "dark", "dark_60s", "flat_V"}
    assert len(jobs["dark"].members) == 5 and jobs["dark"].longest == 300.0
    assert not jobs["dark"].includes_bias and jobs["dark"].uses == {"bias": "bias"}
    assert jobs["flat_V"].uses == {"bias": "bias", "dark": "dark"}
    assert [target.uses["dark"] for target in found.targets] == ["dark_60s", "dark"]
    assert not found.missing


def test_darks_without_a_bias_serve_their_own_time_only():
    found = make_plan(
        memory(dark(60.0), dark(60.0), dark(300.0), flat(60.0), light(60.0), light(100.0)),
        recipes.load("ccd"),
    )
    jobs = {job.name: job for job in found.jobs}
    assert {name for name in jobs if name.startswith("dark")} == {"dark_60s", "dark_300s"}
    assert all(job.includes_bias for job in found.jobs if job.kind == "dark")
    assert found.targets[0].uses == {"dark": "dark_60s", "flat": "flat_V"}
    lack, zero = found.missing
    assert (zero.kind, zero.frame) == ("bias", lack.frame)
    assert (lack.kind, lack.why) == ("dark", "for 100 s; there are 60 s, 300 s")


def test_temperatures_are_kept_apart():
    found = make_plan(
        memory(bias(), bias(-5.0), dark(60.0), dark(60.0, -5.0), flat(1.0), light(60.0)), recipes.load("ccd")
    )
    jobs = {job.name: job for job in found.jobs}
    assert jobs["dark_-5C"].uses == {"bias": "bias_-5C"}
    assert found.targets[0].uses["dark"] == "dark_-10C"


def test_frames_without_their_dark_need_none():
    applied = frozenset({"bias", "dark"})
    found = make_plan(memory(flat(1.0, applied=applied), light(60.0, applied=applied)), recipes.load("ccd"))
    assert not found.missing
    assert found.targets[0].uses == {"flat": "flat_V"}


# --- ledger and summary ---


def test_recipe_key_is_of_content_not_of_order():
    assert recipe_key(a=1, b={"x": 1.0, "y": (1, 2)}) == recipe_key(b={"y": [1, 2], "x": 1.0}, a=1)
    assert recipe_key(a=1) != recipe_key(a=2)
    assert recipe_key(a=float("nan"))


def test_ledger(tmp_path):
    ledger = Ledger.of(tmp_path)
    file = tmp_path / "a.fits"
    assert ledger.fresh("a.fits", "key") is None
    file.write_text("data")
    ledger.put("a.fits", "key", {"name": "a"})
    again = Ledger.of(tmp_path)
    assert again.fresh("a.fits", "key") == {"name": "a"}
    with pytest.raises(OutputExistsError, match="made of other frames or with other options"):
        again.fresh("a.fits", "other")
    assert Ledger.of(tmp_path, overwrite=True).fresh("a.fits", "other") is None
    file.write_text("touched")
    with pytest.raises(OutputExistsError, match="not one of this reduction"):
        again.fresh("a.fits", "key")
    file.unlink()
    assert again.fresh("a.fits", "key") is None


def test_a_file_that_was_announced_may_be_replaced_and_no_other(tmp_path):
    ledger = Ledger.of(tmp_path)
    with pytest.raises(KeyboardInterrupt), ledger.writing("a.fits") as replacing:
        assert not replacing
        (tmp_path / "a.fits").write_text("whole, but without a record")
        raise KeyboardInterrupt
    again = Ledger.of(tmp_path)
    assert again.fresh("a.fits", "any") is None
    with again.writing("a.fits") as replacing:
        assert replacing
        again.put("a.fits", "any", {})
    assert not Ledger.of(tmp_path).pending
    with pytest.raises(KeyboardInterrupt), again.writing("b.fits"):
        raise KeyboardInterrupt
    assert not Ledger.of(tmp_path).pending


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 99, "records": {}, "verdicts": {}}', '{"records": 3}']
)
def test_a_ledger_that_cannot_be_understood_is_begun_anew(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    assert Ledger.of(tmp_path).records == {}


def test_plain_values():
    found = plain(
        {"a": np.float32("nan"), 1: (1, np.int64(2)), "s": {"b", "a"}, "x": np.arange(2), "i": np.inf}
    )
    assert found == {"a": None, "1": [1, 2], "s": ["a", "b"], "x": [0, 1], "i": None}
    json.dumps(found, allow_nan=False)


def test_entries_of_masters_and_frames():
    product = Product(
        "bias",
        planes={"data": np.array([[1.0, np.nan, 3.0]]), "dq": np.array([[0, 1, 0]], np.uint32)},
        units={"data": "adu"},
        quantities=(Quantity("level", 2.0, None, "adu"), Quantity("drift", float("nan"))),
    )
    entry = master_entry("bias", "masters/bias.fits", product)
    assert entry["median"] == 2.0 and entry["unit"] == "adu" and entry["flagged"] == {"DO_NOT_USE": 1}
    assert entry["quantities"] == [
        {"name": "level", "value": 2.0, "unit": "adu"},
        {"name": "drift", "value": None},
    ]
    empty = Frame(np.full((2, 2), np.nan, np.float32), dq=np.full((2, 2), DQ.SATURATED, np.uint32))
    entry = frame_entry("x", "calibrated/x.fits", empty, {})
    assert entry["median"] is None and entry["noise"] is None and entry["flagged"] == {"SATURATED": 4}
    nothing = replace(empty, variance=empty.data)
    assert frame_entry("x", "x", nothing, {})["noise"] is None


def test_a_frame_that_is_saturated_all_over_is_told_of() -> None:
    from calibrant.pipeline.summary import doubts

    entry = {"name": "moon", "flagged": {"SATURATED": 900, "NON_SCIENCE": 10}}
    assert doubts(entry, 1000) == ["moon: 90 % of its pixels are saturated"]
    assert doubts({**entry, "flagged": {"SATURATED": 100}}, 1000) == []
