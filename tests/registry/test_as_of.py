"""`as_of` is monotone: what is said later never changes an answer of then, by revision or by time."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrant.errors import CalibrantError
from calibrant.instrument import load
from calibrant.registry import database as rooms
from calibrant.registry import events
from calibrant.registry.asking import as_of
from calibrant.registry.database import Database, head
from calibrant.registry.questions import Memory, Question, choose
from calibrant.registry.questions import Question as Asked
from calibrant.registry.records import Draft

CAMERA = load("generic-ccd")
HOUR = 3_600_000_000
NOON = 1_731_067_200_000_000
PRODUCTS = 4
TAGS = ("default", "lab")
TIMES = [datetime(2024, 11, 8, 12, tzinfo=UTC) + timedelta(minutes=n) for n in range(-10, 30)]

hours = st.integers(-3, 3)
spans = st.tuples(st.none() | hours, st.none() | hours)
deeds = st.one_of(
    st.tuples(st.just("certify"), st.integers(0, PRODUCTS - 1), spans, st.sampled_from(TAGS), st.booleans()),
    st.tuples(st.just("withdraw"), st.integers(0, PRODUCTS - 1)),
    st.tuples(st.just("chain"), st.permutations(TAGS)),
    st.tuples(st.just("add"), st.integers(0, 99)),
)
questions = [
    Question("flat", CAMERA.name, time=NOON + hour * HOUR, tag=tag, level=level)
    for hour in (-3, 0, 2)
    for tag, level in ((None, 0), ("default", 0), ("lab,default", 1))
]


def draft(name, epoch):
    key = f"sha256:{name}"
    keys = {"detector": "0", "filter": "r"}
    return Draft(key, "flat", CAMERA.name, keys, NOON + epoch * HOUR, f"/{name}.fits", f"{key}-file", 1)


def do(writing, deed, number):
    what, *words = deed
    if what == "certify":
        product, edges, tag, replace = words
        span = [None if edge is None else NOON + edge * HOUR for edge in edges]
        events.certify(writing, f"sha256:p{product}", *span, tag, replace=replace, force="chance")
    elif what == "withdraw":
        events.withdraw(writing, f"sha256:p{words[0]}", "chance")
    elif what == "chain":
        events.chain(writing, words[0][0], words[0][1:])
    else:
        events.add(writing, [draft(f"later{number}", words[0] % 7 - 3)], {})
        events.certify(writing, f"sha256:later{number}", None, None, "lab", replace=True, force="chance")


def answers(connection, revision=None):
    """What each question is answered with: a product, or the sort of error."""
    memory, found = Memory(), []
    for question in questions:
        try:
            asked = Question(**{**vars(question), "as_of": revision})
            found.append(choose(connection, asked, memory).candidate.identity)
        except CalibrantError as error:
            found.append(type(error).__name__)
    return found


def history(place, done, jumps):
    """Do it all, with a clock that goes by `jumps` seconds.

    Returns what was answered when a revision was the last one, what is answered as of it at the end, and the
    revision that each of `TIMES` stands for.
    """
    said, now = {}, NOON
    database = Database.create(place)
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(database):
        patch.setattr(rooms, "clock", lambda: now)
        with database.write() as writing:
            drafts = [draft(f"p{number}", number - 2) for number in range(PRODUCTS)]
            events.add(writing, drafts, {CAMERA.name: CAMERA})
            for tag in TAGS:
                events.tag_of(writing.connection, tag, make=True)
        for number, deed in enumerate(done):
            now += jumps[number % len(jumps)] * 1_000_000
            try:
                with database.write() as writing:
                    do(writing, deed, number)
            except CalibrantError:  # an overlap, withdrawn before: nothing happened
                continue
            with database.read() as connection:
                said[head(connection)[0]] = answers(connection)
        with database.read() as connection:
            again = {revision: answers(connection, revision) for revision in said}
            return said, again, [as_of(connection, time)[0] for time in TIMES]


@settings(max_examples=300 if os.environ.get("CALIBRANT_SOAK") else 30, deadline=None)
@given(st.lists(deeds, min_size=1, max_size=12), st.lists(st.integers(-120, 120), min_size=1, max_size=4))
def test_what_is_said_later_never_changes_an_answer_of_then(done, jumps):
    with tempfile.TemporaryDirectory() as folder:
        said, again, revisions = history(Path(folder) / "calibrant.db", done, jumps)
    assert again == said
    assert revisions == sorted(revisions)  # a later time never means an earlier revision
    assert revisions[0] == 0 and revisions[-1] >= max(said, default=0)


def test_it_can_fail(tmp_path, monkeypatch):
    """A past that is answered as the present is differs, or the test above would show nothing."""
    done = [("certify", 0, (None, None), "default", False), ("withdraw", 0)]
    said, again, _ = history(tmp_path / "good.db", done, [60])
    assert again == said
    monkeypatch.setattr(
        sys.modules[__name__], "Question", lambda *words, as_of=None, **more: Asked(*words, **more)
    )
    said, again, _ = history(tmp_path / "bad.db", done, [60])
    assert again != said
