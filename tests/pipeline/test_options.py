"""Options of a recipe that an effect does not know, or that mean nothing: one sentence, before any pixel."""

from __future__ import annotations

import pytest

from calibrant.cli import main
from calibrant.errors import ConfigError
from calibrant.pipeline import recipe as recipes
from calibrant.pipeline.options import APPLY, MEASURE, check_options, taken_by

MISTAKES = {
    "measure.flat.minimum=3": "unknown option 'minimum'; known are: method, reject, scale, floor",
    "measure.flat.flor=0.1": "did you mean 'floor'",
    "measure.flat.floor=abc": "measure.flat.floor",
    "measure.flat.unlit=hol": "expected 'hold' or 'leave'",
    "measure.bias.methd=mean": "did you mean 'method'",
    "measure.dark.reject=3": "measure.dark.reject",
    "measure.dark.gain=high": "measure.dark.gain",
    "measure.defects.hott=3": "did you mean 'hot'",
    "measure.defects.hot=abc": "measure.defects.hot",
    "measure.defects.column=1.5": "measure.defects.column",
    "measure.read_noise.x=1": "it takes none",
    "measure.flta.floor=0.1": "did you mean 'flat'",
    "steps_options.flat.x=1": "it takes none",
    "steps_options.overscan.skp=3": "did you mean 'skip'",
    "steps_options.overscan.skip=abc": "steps_options.overscan.skip",
    "steps_options.overscan.method=medin": "'median'",
    'steps_options.overscan.parallel={"metod":"median"}': "did you mean 'method'",
    'steps_options.overscan.parallel={"order":"x"}': "steps_options.overscan.parallel.order",
    "steps_options.cosmic_rays.sigm=3": "did you mean 'sigma'",
    "steps_options.cosmic_rays.sigma=x": "steps_options.cosmic_rays.sigma",
    "steps_options.cosmic_rays.enabled=perhaps": "enabled is true or false",
    "steps_options.pedestal.jmp=3": "did you mean 'jump'",
}


def changed(words):
    name, _, value = words.partition("=")
    return {name: value}


@pytest.mark.parametrize("words", MISTAKES)
def test_an_option_that_means_nothing(words):
    with pytest.raises(ConfigError) as caught:
        check_options(recipes.load("ccd", changed(words)))
    assert MISTAKES[words] in str(caught.value)


@pytest.mark.parametrize("words", ["measure.flat.minimum=3", "measure.defects.hot=abc"])
def test_the_command_says_it_in_one_sentence_and_makes_nothing(raw, tmp_path, capsys, words):
    with pytest.raises(SystemExit) as left:
        main(["reduce", str(raw), "--out", str(tmp_path / "out"), "--set", words])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words.partition("=")[0].rpartition(".")[0] in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        "measure.flat.floor=0.1",
        "measure.flat.saturation=60000",
        "measure.flat.saturation=null",
        "measure.bias.reject=sigma",
        'measure.defects.unusable=["hot","dead"]',
        "measure.defects.hot=60",
        "steps_options.overscan.skip=3",
        "steps_options.overscan.skip=[3,1]",
        "steps_options.overscan.method=polynomial",
        'steps_options.overscan.parallel={"method":"spline","bins":8}',
        "steps_options.overscan.parallel=true",
        "steps_options.cosmic_rays.sigma=5",
        "steps_options.cosmic_rays.enabled=false",
        'steps_options.pedestal.region="[1:10,1:20]"',
    ],
)
def test_options_as_they_are_meant(words):
    check_options(recipes.load("ccd", changed(words)))


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_that_come_along_are_right(name):
    check_options(recipes.load(name))


def test_every_effect_says_its_options():
    """None may hide behind **options: an unknown name would be a fault of ours, long after the start."""
    for table in (MEASURE, APPLY):
        for kind, takers in table.items():
            known = taken_by(takers)
            assert known, kind
            assert not {"options", "limits"} & set(known)
