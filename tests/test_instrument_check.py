"""`instrument check` explains mistakes: what, in which place, on which line."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibrant.errors import ConfigError
from calibrant.instrument import Finding, check, load, names, source_text


def findings(text: str, folder: Path) -> list[Finding]:
    path = folder / "mine.toml"
    path.write_text('name = "mine"\n' + text)
    return check(path)


@pytest.mark.parametrize("name", names())
def test_nothing_is_wrong_with_those_that_come_with_us(name: str, tmp_path: Path) -> None:
    assert check(name) == []
    copy = tmp_path / "copy.toml"
    copy.write_text(source_text(name))
    assert check(copy) == []


CASES = {
    # mistake -> (file, place, line, words of the sentence)
    "unknown key": ('titel = "x"', "titel", 2, "unknown key 'titel' (did you mean 'title'?)"),
    "unknown fact": ("[header.exptme]\nkeywords = ['E']", "header.exptme", 2, "did you mean 'exptime'?"),
    "unknown key of a rule": (
        "[header.exptime]\nkeyword = ['E']",
        "header.exptime.keyword",
        3,
        "did you mean 'keywords'?",
    ),
    "unknown key of an amplifier": (
        "[detectors.main]\n[[detectors.main.amplifiers]]\nname='L'\ndata='[1:2,1:2]'\novrscan='[3:4,1:2]'",
        "detectors.main.amplifiers[0].ovrscan",
        6,
        "did you mean 'overscan'?",
    ),
    "wrong type": ("[detectors.main]\nshape = [10, 'ten']", "detectors.main.shape[1]", 3, "integer"),
    "not a section": (
        "[detectors.main]\n[[detectors.main.amplifiers]]\nname='L'\ndata='0:2,1:2'",
        "detectors.main.amplifiers[0].data",
        5,
        "not a section",
    ),
    "unknown unit": ("[header.exptime]\nunit = 'secs'", "header.exptime.unit", 3, "unknown unit 'secs'"),
    "regex without group": ("[keys.x]\nfile = 'a.*'", "keys.x.file", 3, "no group"),
    "broken regex": ("[keys.x]\nfile = '(a'", "keys.x.file", 3, "not a regular expression"),
    "unknown match key": (
        "[match]\nflat = ['detector', 'filtre']",
        "match.flat",
        3,
        "unknown match key 'filtre' (did you mean 'filter'?)",
    ),
    "tolerance of nothing": ("[tolerance]\ntemp = 1", "tolerance.temp", 3, "unknown fact 'temp'"),
    "negative tolerance": ("[tolerance]\ntemperature = -1", "tolerance.temperature", 3, "negative"),
    "section outside": (
        "[detectors.main]\nshape=[10, 20]\n[[detectors.main.amplifiers]]\nname='L'\ndata='[1:10,1:20]'",
        "detectors.main.amplifiers[0].data",
        6,
        "lies outside the detector of 10 x 20",
    ),
    "overlap": (
        "[detectors.main]\nshape=[9, 9]\n[[detectors.main.amplifiers]]\nname='L'\ndata='[1:5,1:9]'\n"
        "[[detectors.main.amplifiers]]\nname='R'\ndata='[5:9,1:9]'",
        "detectors.main.amplifiers[1].data",
        9,
        "'L' and 'R' overlap",
    ),
    "overscan in the data": (
        "[detectors.main]\n[[detectors.main.amplifiers]]\nname='L'\ndata='[1:5,1:9]'\noverscan='[5:7,1:9]'",
        "detectors.main.amplifiers[0].overscan",
        6,
        "overlaps its data",
    ),
    "a rule of two sorts": (
        "[[kinds.rule]]\nfile='a*'\nkeywords=['B']\nkind='bias'",
        "kinds.rule[0]",
        2,
        "exactly one of file, regex and keywords",
    ),
    "applied of nothing": ("[[applied]]\nkeyword='HISTORY'", "applied[0]", 2, "either contains"),
    "a negative gain": ("[detectors.main]\ngain = -1", "detectors.main.gain", 3, "greater than 0, got -1"),
    "a gain of nan": ("[detectors.main]\ngain = nan", "detectors.main.gain", 3, "finite"),
    "a negative read noise": (
        "[detectors.main]\n[[detectors.main.amplifiers]]\nname='L'\ndata='[1:2,1:2]'\nread_noise=-2",
        "detectors.main.amplifiers[0].read_noise",
        6,
        "greater than 0, got -2",
    ),
    "a misspelt effect": (
        "[[applied]]\nkeyword='HISTORY'\ncontains='x'\neffects=['drak']",
        "applied[0].effects",
        5,
        "unknown effect 'drak' (did you mean 'dark'?)",
    ),
    "a misspelt effect of a letter": (
        "[[applied]]\nkeyword='CALSTAT'\nletters={D='darc'}",
        "applied[0].letters",
        4,
        "did you mean 'dark'?",
    ),
    "a misspelt kind": (
        "[[kinds.rule]]\nfile='*'\nkind='flatt'",
        "kinds.rule[0].kind",
        4,
        "no step knows the kind 'flatt' (did you mean 'flat'?)",
    ),
    "an unknown base": ("extends = 'generic-cd'", "extends", 2, "did you mean 'generic-ccd'"),
    "not TOML": ("[header", "file", 2, "not TOML"),
}


@pytest.mark.parametrize("case", CASES)
def test_mistakes_are_explained(case: str, tmp_path: Path) -> None:
    text, place, line, words = CASES[case]
    (finding,) = findings(text, tmp_path)
    assert (finding.place, finding.line, finding.level) == (place, line, "error")
    assert words in str(finding)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "mine.toml")
    assert str(tmp_path) in str(caught.value)


def test_all_mistakes_are_listed_and_the_first_is_raised(tmp_path: Path) -> None:
    text = "titel = 'x'\n[header.exptme]\n[kinds]\nscince = ['light']"
    assert sorted(finding.line or 0 for finding in findings(text, tmp_path)) == [2, 3, 5]
    with pytest.raises(ConfigError, match="and 2 more"):
        load(tmp_path / "mine.toml")


def test_a_kind_that_no_rule_gives_is_odd_but_no_mistake(tmp_path: Path) -> None:
    (finding,) = findings("[kinds]\nscience = ['ligth']\n[[kinds.rule]]\nfile='*'\nkind='light'", tmp_path)
    assert finding.level == "warning" and "did you mean 'light'" in str(finding)
    assert load(tmp_path / "mine.toml").science == ("ligth",)


def test_a_new_kind_is_odd_unless_it_is_used(tmp_path: Path) -> None:
    text = "[[kinds.rule]]\nfile='*'\nkind='asteroid'\n"
    (finding,) = findings(text, tmp_path)
    assert (finding.level, finding.line) == ("warning", 4)
    assert "left alone unless" in str(finding)
    assert findings(text + "[kinds]\nscience=['asteroid']\n", tmp_path) == []


def test_effects_are_those_of_the_package() -> None:
    from calibrant import effects
    from calibrant.instrument.vocabulary import EFFECTS

    assert set(EFFECTS) == set(effects.__all__)


def test_an_amplifier_in_a_unit_of_its_own_needs_a_place(tmp_path: Path) -> None:
    text = "[layout]\nform='amplifiers'\n[[detectors.main.amplifiers]]\nname='L'\ndata='[1:5,1:9]'"
    (finding,) = findings(text, tmp_path)
    assert "needs hdu and place" in str(finding)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such instrument file"):
        check(tmp_path / "none.toml")
