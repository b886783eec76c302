"""Random histories: what the tables answer, now and as of then, is what the events say, read naively.

The present is answered from the derived table, the past by SQL on events; both are held against a replay of
all events in Python, and against what the registry said when that revision was its last.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter

import pytest
from sqlalchemy import select as sql

from calibrant.errors import CalibrantError, OverlapError
from calibrant.frame import Exposure
from calibrant.instrument import load
from calibrant.registry import events, schema, select
from calibrant.registry.asking import understood
from calibrant.registry.explain import LINES, explain
from calibrant.registry.facts import keys_of
from calibrant.registry.ingest import ingest
from calibrant.registry.questions import Memory, Question, choose
from calibrant.registry.records import Candidate, Draft

CAMERA = load("generic-ccd").model_copy(update={"name": "cam"})
STRICT = CAMERA.model_copy(update={"tolerance": {"temperature": 0.2}, "levels": {"dark": (3.0,)}})
DAY = 86_400_000_000
NOON = 1_731_067_200_000_000
TAGS = ("default", "lab", "mine")
SEEDS = range(60 if os.environ.get("CALIBRANT_SOAK") else 3)


class History:
    """A registry that things happen to, at random."""

    def __init__(self, database, seed):
        self.database, self.random = database, random.Random(seed)
        self.identities = []
        self.tags = []

    def run(self, steps):
        for _ in range(steps):
            deed = self.random.choice(
                (self.certify,) * 5 + (self.add,) * 3 + (self.withdraw, self.chain, self.model)
            )
            with self.database.write() as writing:
                deed(writing)

    def add(self, writing, count=1):
        pick = self.random.choice
        for _ in range(count):
            kind = pick(("flat", "dark"))
            keys = {"detector": pick(("0", "0", "1")), "binning": (1, 1)}
            keys |= {"filter": pick("gr")} if kind == "flat" else {"temperature": pick((-10.0, -10.6, -11.2))}
            keys |= {"exptime": 30.0} if kind == "dark" and self.random.random() < 0.3 else {}
            if self.random.random() < 0.1:
                del keys["detector"]  # for any
            name = f"sha256:{len(self.identities):012x}"
            epoch = None if self.random.random() < 0.1 else self.time()
            draft = Draft(name, kind, "cam", keys, epoch, f"/d/{name}.fits", f"sha256:file{name[-12:]}", 1)
            events.add(writing, [draft], {} if self.identities else {"cam": CAMERA})
            self.identities.append(name)

    def time(self):
        return NOON + self.random.randrange(-8, 9) * DAY // 2

    def certify(self, writing):
        begin, end = sorted((self.time(), self.time()))
        span = [
            self.random.choice((begin, begin, begin, None)),
            self.random.choice((end + 1, end + DAY, None)),
        ]
        tag = self.random.choice(TAGS)
        try:
            events.certify(
                writing,
                self.random.choice(self.identities),
                *span,
                tag,
                replace=self.random.random() < 0.5,
                force="chance",
            )
        except CalibrantError as error:  # overlaps, withdrawn
            assert isinstance(error, OverlapError) or "withdrawn" in str(error)
        else:
            self.tags = sorted({*self.tags, tag})

    def withdraw(self, writing):
        if self.random.random() < 0.5:
            try:
                events.withdraw(writing, self.random.choice(self.identities), "light leak")
            except CalibrantError as error:
                assert "withdrawn already" in str(error)

    def chain(self, writing):
        if len(self.tags) > 1:
            tag, *members = self.random.sample(self.tags, len(self.tags))
            try:
                events.chain(writing, tag, members[: self.random.randrange(3)])
            except CalibrantError as error:
                assert "follow itself" in str(error)

    def model(self, writing):
        if self.random.random() < 0.3:
            events.record_instrument(writing, self.random.choice((CAMERA, STRICT)))

    def question(self, **changes):
        pick = self.random.choice
        kind = pick(("flat", "dark"))
        stated = (
            {"filter": pick("gr")} if kind == "flat" else {"temperature": pick((-10.0, -10.4, -11.0, -11.9))}
        )
        stated |= {"exptime": pick((30.0, 60.0))} if self.random.random() < 0.3 else {}
        if self.random.random() < 0.15:
            stated = {}
        tag = pick((None, None, *self.tags, ",".join(self.random.sample(self.tags, len(self.tags)))))
        usual = {"time": self.time() + pick((0, 0, 1, DAY // 3)), "level": pick((0, 0, 0, 1))}
        usual |= {"drafts": self.random.random() < 0.2, "detector": pick(("0", "1")), "facts": stated}
        if self.random.random() < 0.1:
            usual["time"] = None
        return Question(kind, "cam", tag=tag or None, **{**usual, **changes})


def replay(connection, asked):
    """Every product of the kind, instrument and detector, as the events up to a revision have it."""
    settings = {row.id: row for row in connection.execute(sql(schema.setting))}
    names = dict(connection.execute(sql(schema.tag.c.id, schema.tag.c.name)).all())
    living, ended, withdrawn, used = {}, set(), {}, set()
    for row in connection.execute(sql(schema.event).order_by(schema.event.c.revision)):
        if row.revision > asked.revision:
            break
        if row.kind == "certified":
            living[row.revision] = row
            used.add(row.product)
        elif row.kind == "superseded":
            ended.add(row.ends)
        elif row.kind == "withdrawn":
            withdrawn[row.product] = row.why
    found = []
    for product in connection.execute(sql(schema.product)):
        setting = settings[product.setting]
        place = (setting.kind, setting.instrument, setting.detector)
        if product.revision > asked.revision or place not in {
            (asked.ask.kind, asked.ask.instrument, name) for name in (asked.detector, "")
        }:
            continue
        common = {
            "identity": product.identity, "kind": setting.kind, "instrument": setting.instrument,
            "keys": keys_of(setting.keys), "epoch": product.epoch,
        }  # fmt: skip
        if product.id in withdrawn:
            found.append(Candidate(**common, state="withdrawn", why=withdrawn[product.id]))
            continue
        own = [row for row in living.values() if row.product == product.id and row.revision not in ended]
        found += [
            Candidate(
                **common, state="certified", tag=names[row.tag], priority=asked.tags.get(row.tag, -1),
                begin=row.begin, end=row.end, revision=row.revision,
            )
            for row in own
        ]  # fmt: skip
        if not own:
            found.append(Candidate(**common, state="superseded" if product.id in used else "draft"))
    return found


def answer(connection, question):
    """What is chosen, or why nothing is."""
    try:
        choice = choose(connection, question, Memory())
    except CalibrantError as error:
        return type(error).__name__, error.what
    return choice.candidate, choice.level


def naive(connection, question):
    try:
        asked = understood(connection, question, Memory())
        choice = select.choose(replay(connection, asked), asked.ask)
    except CalibrantError as error:
        return type(error).__name__, error.what
    return choice.candidate, choice.level


def plain(found):
    """An answer without what only the events know: the revision of a draft."""
    if isinstance(found[0], str):
        return found
    candidate, level = found
    return candidate.identity, candidate.tag, candidate.begin, candidate.end, level


@pytest.fixture
def history(database, request):
    made = History(database, request.param)
    with database.write() as writing:
        made.add(writing, 12)
    made.run(25)
    return made


@pytest.mark.parametrize("history", SEEDS, indirect=True)
def test_the_tables_answer_as_the_events_do(history):
    counts = Counter()
    memory = Memory()  # kept while the registry changes, as a Registry keeps it
    for _ in range(3):
        history.run(8)
        with history.database.read() as connection:
            revision = memory.refresh(connection)
            for _ in range(25):
                question = history.question()
                expected = plain(naive(connection, question))
                assert plain(answer(connection, question)) == expected, question
                assert plain(kept(connection, question, memory)) == expected, question
                then = history.question(as_of=history.random.randrange(12, revision + 1))
                assert plain(answer(connection, then)) == plain(naive(connection, then)), then
                counts[expected[0] if expected[0].endswith("Error") else "chosen"] += 1
    assert counts["chosen"] > 5 and counts["NoMatchError"] > 5, counts  # the test sees both


def kept(connection, question, memory):
    try:
        choice = choose(connection, question, memory)
    except CalibrantError as error:
        return type(error).__name__, error.what
    return choice.candidate, choice.level


@pytest.mark.parametrize("history", SEEDS, indirect=True)
def test_as_of_then_says_what_was_said_then(history):
    said = []
    for _ in range(6):
        with history.database.read() as connection:
            revision = Memory().refresh(connection)
            for _ in range(8):
                question = history.question()
                said.append((revision, question, answer(connection, question)))
        history.run(6)
    with history.database.read() as connection:
        for revision, question, before in said:
            again = answer(connection, Question(**{**vars(question), "as_of": revision}))
            assert plain(again) == plain(before), (revision, question)
    assert len({plain(before) for _, _, before in said}) > 5


@pytest.mark.parametrize("history", SEEDS, indirect=True)
def test_an_explanation_tells_of_every_candidate(history):
    with history.database.write() as writing:
        history.add(writing, 60)
    history.run(60)
    with history.database.read() as connection:
        memory = Memory()
        revision = memory.refresh(connection)
        for _ in range(25):
            question = history.question(as_of=history.random.choice((None, revision, revision - 30)))
            asked = understood(connection, question, memory)
            judgement = select.judge(replay(connection, asked), asked.ask)
            told = explain(connection, question, memory)
            count = Counter(why.rule for _, _, why in judgement.misses)
            tied = () if judgement.problem is None else judgement.left
            count.update([judgement.tie.rule] * len(tied) if tied else [])
            assert told.total == sum(count.values()) + (judgement.problem is None), question
            shown = [line for line in told.lines if line.refusal is not None]
            assert len(shown) == min(LINES, sum(count.values())), question
            assert len(shown) + sum(told.rest.values()) == sum(count.values()), question
            if question.drafts and sum(count.values()) > LINES:
                continue  # of drafts only the nearest are looked at one by one
            assert Counter(line.refusal.rule for line in shown) + Counter(told.rest) == count, question
            order = [one.identity for one in tied] + [one.identity for _, one, _ in judgement.misses]
            assert [line.candidate.identity for line in shown] == order[: len(shown)], question
            sentences = [why.sentence for _, _, why in judgement.misses]
            assert [line.refusal.sentence for line in shown][len(tied) :] == sentences[
                : LINES - len(tied)
            ] or tied
            if judgement.problem is None:
                chosen = choose(connection, question, memory)
                assert told.chosen == chosen and told.problem == ""
                assert told.lines[0].candidate == chosen.candidate and told.lines[0].refusal is None
            else:
                assert told.chosen is None
                assert type(judgement.problem).__name__ in answer(connection, question)


@pytest.mark.parametrize("history", [1], indirect=True)
def test_an_exposure_is_answered_as_its_facts_are(history):
    pick = history.random.choice
    taken = [
        Exposure(
            "light", history.time(), pick((1.0, 60.0)), temperature=pick((-10.0, -11.0)), filter=pick("gr"),
            detector=pick("01"), instrument="cam", identifier=f"x{n}", path=f"/raw/x{n}.fits",
        )
        for n in range(30)
    ]  # fmt: skip
    with history.database.write() as writing:
        ingest(writing, taken, lambda path: (f"sha256:{path}", 100), CAMERA)
    history.run(10)
    with history.database.read() as connection:
        chosen = 0
        for exposure in taken:
            for kind in ("flat", "dark"):
                facts = {"exptime": exposure.duration, "filter": exposure.filter}
                facts |= {"temperature": exposure.temperature}
                by_facts = Question(kind, "cam", detector=exposure.detector, time=exposure.mid, facts=facts)
                by_name = Question(kind, exposure=exposure.identifier, detector=int(exposure.detector))
                found = answer(connection, by_name)
                assert type(found[0]) is type(answer(connection, by_facts)[0])
                if isinstance(found[0], Candidate):
                    assert found == answer(connection, by_facts)
                    chosen += 1
        assert chosen > 10


def test_the_replay_reads_chains(database):
    """The oracle takes priorities from the program; so they are held against the events here."""
    history = History(database, 3)
    with database.write() as writing:
        history.add(writing, 3)
        for tag in TAGS:
            events.certify(writing, history.identities[0], None, None, tag, force="chance")
        first = events.chain(writing, "mine", ["lab", "default"])
        second = events.chain(writing, "mine", ["default"])
        events.chain(writing, "default", ["lab"])
    with database.read() as connection:
        memory = Memory()
        head = memory.refresh(connection)
        name = memory.tags.__getitem__

        def order(tag, revision):
            found = memory.priorities(connection, tag, revision)
            assert list(found.values()) == sorted(found.values())
            return [name(number) for number in found]

        assert order("mine", first) == ["mine", "lab", "default"]
        assert order("mine", second) == ["mine", "default"]
        assert order("mine", head) == ["mine", "default", "lab"]
        assert order("mine", first - 1) == ["mine"]
        assert order("lab, mine", head) == ["lab", "mine", "default"]
        assert order(["default", "mine"], head) == ["default", "lab", "mine"]
        assert memory.priorities(connection, None, head) == dict.fromkeys(memory.tags, 0)
        rows = connection.execute(sql(schema.event.c.facts).where(schema.event.c.kind == "chained")).scalars()
        assert [json.loads(text)["members"] for text in rows] == [["lab", "default"], ["default"], ["lab"]]
