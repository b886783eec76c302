"""Explanations: the chosen one, the nearest misses with their reasons, the rest by number."""

from __future__ import annotations

import pytest

from calibrant.errors import NoMatchError, RegistryError
from calibrant.instrument import load
from calibrant.registry import events
from calibrant.registry.explain import LINES, explain
from calibrant.registry.questions import Memory, Question, choose
from calibrant.registry.records import Draft

CAMERA = load("generic-ccd").model_copy(update={"name": "cam"})
DAY = 86_400_000_000
NOON = 1_731_067_200_000_000  # 2024-11-08T12:00:00Z


def sha(word):
    return f"sha256:{word.encode().hex():0<64}"


def name(candidate):
    return bytes.fromhex(candidate.identity.removeprefix("sha256:")).rstrip(b"\0").decode()


@pytest.fixture
def filled(database):
    """One flat for each reason, and 30 in g; two of another detector, which are no candidates."""
    words = {word: ("r", "0", day) for word, day in (("chosen", 0), ("far", 9), ("early", -3), ("lab", 1))}
    words |= {word: ("r", "0", day) for word, day in (("gone", 2), ("old", 3), ("draft", 4))}
    words |= {f"g{n}": ("g", "0", n) for n in range(30)} | {f"d{n}": ("r", "1", n) for n in range(2)}
    drafts = [
        Draft(
            sha(word), "flat", "cam", {"filter": band, "detector": detector}, NOON + day * DAY,
            f"/d/{word}.fits", sha(f"file {word}"), 9,
        )
        for word, (band, detector, day) in words.items()
    ]  # fmt: skip
    with database.write() as writing:
        events.add(writing, drafts, {"cam": CAMERA})
        for word, begin, end, tag in (
            ("old", 0, 30, "default"), ("early", -9, -2, "default"), ("chosen", 0, 30, "default"),
            ("far", 0, 30, "second"), ("lab", 0, 30, "lab"), ("gone", 30, 60, "default"),
        ):  # fmt: skip
            span = NOON + begin * DAY, NOON + end * DAY
            events.certify(writing, sha(word), *span, tag, force="test", replace=word == "chosen")
        events.withdraw(writing, sha("gone"), "light leak")
    return database


def told(database, **question):
    usual = {"instrument": "cam", "detector": 0, "time": NOON + DAY, "tag": "default,second"}
    asked = Question("flat", **{**usual, "facts": {"filter": "r"}, **question})
    with database.read() as connection:
        return explain(connection, asked, Memory()), asked


def test_every_rule_is_told_once_and_the_rest_is_counted(filled):
    found, asked = told(filled)
    with filled.read() as connection:
        assert found.chosen == choose(connection, asked, Memory())
    lines = [(name(line.candidate), line.refusal and line.refusal.rule) for line in found.lines]
    assert lines[:7] == [
        ("chosen", None),
        ("far", "priority"),
        ("early", "validity"),
        ("lab", "tag"),
        ("old", "superseded"),
        ("draft", "draft"),
        ("gone", "withdrawn"),
    ]
    assert lines[7:10] == [("g1", "keys"), ("g0", "keys"), ("g2", "keys")]  # then the nearest in time
    assert len(lines) == 1 + LINES
    assert (found.rest, found.total) == ({"keys": 16}, 37)
    sentences = {name(line.candidate): line.refusal.sentence for line in found.lines[1:]}
    assert sentences["far"] == "tag second is searched after tag default"
    assert sentences["lab"] == "certified under tag lab, which is not searched"
    assert sentences["gone"] == "withdrawn: light leak"
    assert sentences["g0"] == "filter is g, not r"
    assert sentences["early"].endswith("3.0 d before the time asked for")
    assert found.lines[0].distance == DAY
    assert (
        found.question == "flat of cam for 2024-11-09T12:00:00Z, detector 0, filter r; tags default, second"
    )
    assert found.problem == ""
    text = str(found).splitlines()
    assert text[0] == found.question and text[1].endswith("  chosen")
    assert text[7].endswith("  withdrawn: light leak") and "filter is g, not r" in text[8]
    assert text[-1] == "  refused besides: 16 by keys"


def test_no_match_is_a_problem_not_an_error(filled):
    found, _ = told(filled, time=NOON + 90 * DAY)
    assert found.chosen is None
    assert found.problem.startswith(
        "no flat of cam fits 2025-02-06T12:00:00Z, detector 0, filter r; nearest:"
    )
    assert len(found.lines) == LINES
    assert found.total == len(found.lines) + sum(found.rest.values()) == 37


def test_what_is_left_open_is_a_problem_with_a_line_for_each(filled):
    found, _ = told(filled, time=None)
    assert "which names no time" in found.problem
    rules = [(name(line.candidate), line.refusal.sentence) for line in found.lines[:3]]
    assert rules == [(word, "the question names no time") for word in ("chosen", "early", "far")]
    assert found.total == len(found.lines) + sum(found.rest.values()) == 37


def test_as_of_level_and_drafts(filled):
    with filled.read() as connection:
        revision = Memory().refresh(connection)
    found, _ = told(filled, as_of=revision - 1, time=NOON + 31 * DAY)
    assert name(found.chosen.candidate) == "gone"  # not withdrawn yet
    assert found.question.endswith(f"as of revision {revision - 1}")
    found, _ = told(filled, time=NOON + 33 * DAY, level=2)
    assert (name(found.chosen.candidate), found.chosen.level) == ("chosen", 2)
    assert found.notes == found.chosen.notes != ()
    found, _ = told(filled, time=NOON + 90 * DAY, drafts=True)
    assert name(found.chosen.candidate) == "draft"
    assert found.total == len(found.lines) + sum(found.rest.values()) == 37
    found, _ = told(filled, as_of=0)
    assert (found.total, found.lines, found.rest) == (0, (), {})


def test_a_question_that_cannot_be_understood_is_an_error(filled):
    with pytest.raises(NoMatchError, match="does not know the exposure"):
        told(filled, exposure="nothing")
    with pytest.raises(RegistryError, match="has no tag 'lap'"):
        told(filled, tag="lap")


def test_explaining_changes_nothing(filled):
    with filled.read() as connection:
        before = Memory().refresh(connection)
    first, second = told(filled)[0], told(filled)[0]
    assert first == second
    with filled.read() as connection:
        assert Memory().refresh(connection) == before
