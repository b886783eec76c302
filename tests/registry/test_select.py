"""The rule of choice: rows in, one product or a sentence out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrant.errors import AmbiguousError, NoMatchError
from calibrant.instrument import load
from calibrant.registry.records import Ask, Candidate
from calibrant.registry.select import choose, judge, level_of, refusal
from calibrant.registry.words import duration, span

DAY = 86_400_000_000
NOON = 1_731_067_200_000_000  # 2024-11-08T12:00:00Z
CAMERA = load("generic-ccd")  # temperatures within 1 degree are the same
NAMES = frozenset({"filter", "temperature", "exptime", "detector"})


def flat(name="a", **changes):
    usual = {
        "identity": f"sha256:{name}",
        "kind": "flat",
        "instrument": "cam",
        "keys": {"detector": "0", "filter": "r"},
        "epoch": NOON,
        "state": "certified",
        "tag": "default",
        "begin": NOON - DAY,
        "end": NOON + DAY,
    }
    return Candidate(**{**usual, **changes})


def draft(name="a", **changes):
    return flat(name, **{"state": "draft", "tag": None, "begin": None, "end": None, **changes})


def ask(mid=NOON, facts=(("filter", "r"), ("detector", "0")), **changes):
    usual = {"same": CAMERA.same, "names": NAMES, "reach": (DAY, 7 * DAY, 30 * DAY), "label": "exposure 7"}
    start = None if mid is None else mid - 1000
    return Ask("flat", "cam", dict(facts), mid, start, mid and mid + 1000, **{**usual, **changes})


def chosen(candidates, question):
    return choose(candidates, question).candidate.identity.removeprefix("sha256:")


# --- each rule, in its order ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidate", "rule", "sentence"),
    [
        (flat(keys={"filter": "g"}), "keys", "filter is g, not r"),
        (flat(keys={"filter": "g"}, state="withdrawn"), "keys", "filter is g, not r"),
        (flat(state="withdrawn", why="light leak"), "withdrawn", "withdrawn: light leak"),
        (flat(state="superseded"), "superseded", "superseded: its place was given to another"),
        (draft(), "draft", "never certified"),
        (flat(tag="lab", priority=-1, end=NOON), "tag", "certified under tag lab, which is not searched"),
        (
            flat(begin=NOON - 10 * DAY, end=NOON - 3 * DAY),
            "validity",
            "valid 2024-10-29T12:00:00Z to 2024-11-05T12:00:00Z, 3.0 d before the exposure",
        ),
        (
            flat(begin=NOON + DAY // 2, end=None),
            "validity",
            "valid from 2024-11-09T00:00:00Z, 12.0 h after the exposure",
        ),
    ],
)
def test_the_first_rule_that_refuses_says_why(candidate, rule, sentence):
    found = refusal(candidate, ask())
    assert (found.rule, found.sentence) == (rule, sentence)


def test_what_is_unknown_decides_nothing():
    assert refusal(flat(keys={"temperature": -10.0}), ask()) is None
    assert refusal(flat(keys={"filter": None}), ask()) is None
    assert refusal(flat(keys={"includes_bias": True}), ask(facts={"includes_bias": False})) is None


def test_temperatures_within_the_tolerance_agree():
    question = ask(facts={"temperature": -10.0})
    assert refusal(flat(keys={"temperature": -10.9}), question) is None
    assert refusal(flat(keys={"temperature": -11.1}), question).sentence == "temperature is -11.1, not -10"


def test_certified_goes_before_draft_and_drafts_are_chosen_only_if_asked():
    far = flat("far", epoch=NOON - 30 * DAY)
    assert chosen([draft("near"), far], ask(drafts=True)) == "far"
    with pytest.raises(NoMatchError, match="never certified; certify sha256:near"):
        choose([draft("near")], ask())
    choice = choose([draft("near")], ask(drafts=True))
    assert (choice.level, choice.notes) == (-1, ("sha256:near is a draft: nobody certified it",))


def test_the_tag_searched_first_goes_before_the_nearer_epoch():
    mine = flat("mine", tag="mine", priority=0, epoch=NOON - 5 * DAY)
    theirs = flat("theirs", tag="default", priority=1)
    assert chosen([theirs, mine], ask()) == "mine"
    [(_, _, why)] = judge([theirs, mine], ask()).misses
    assert (why.rule, why.sentence) == ("priority", "tag default is searched after tag mine")


def test_inside_validity_goes_before_the_tag_searched_first():
    mine = flat("mine", tag="mine", priority=0, end=NOON - DAY // 2)
    assert chosen([mine, flat("theirs", priority=1)], ask(level=1)) == "theirs"


def test_a_dark_of_this_exposure_time_goes_before_a_rate():
    exact = flat("exact", keys={"filter": "r", "exptime": 30.0}, epoch=NOON - 5 * DAY)
    question = ask(facts={"filter": "r", "exptime": 30.0})
    assert chosen([flat("rate", keys={"filter": "r"}), exact], question) == "exact"
    [(_, _, why)] = judge([flat("rate", keys={"filter": "r"}), exact], question).misses
    assert (why.rule, why.sentence) == ("specific", "less specific: it does not say exptime")


def test_the_nearest_epoch_is_chosen_and_an_unknown_one_is_the_farthest():
    near, far = flat("near", epoch=NOON + DAY), flat("far", epoch=NOON - 12 * DAY)
    judgement = judge([flat("never", epoch=None), far, near], ask())
    assert [one.identity for one in judgement.left] == ["sha256:near"]
    assert [why.sentence for *_, why in judgement.misses] == [
        "farther in time: 12.0 d against 1.0 d",
        "its epoch is unknown; that of sha256:near is 1.0 d away",
    ]


def test_a_tie_names_both():
    one, other = flat("one", epoch=NOON - DAY), flat("other", epoch=NOON + DAY, tag="lab")
    with pytest.raises(AmbiguousError) as refused:
        choose([one, other], ask())
    text = str(refused.value)
    assert "sha256:one (tag default) and sha256:other (tag lab), each 1.0 d away" in text
    assert "withdraw one of them, or name the tag" in text


def test_a_product_under_two_tags_is_one_candidate():
    twice = [flat(tag="a", priority=1), flat(tag="b", priority=0)]
    assert choose(twice, ask()).candidate.tag == "b"
    assert not judge(twice, ask()).misses


def test_a_filter_that_is_not_stated_is_asked_for():
    red, green = flat("red"), flat("green", keys={"filter": "g"}, epoch=NOON + DAY)
    with pytest.raises(
        AmbiguousError, match=r"differ in filter: g, r; say which filter, for example filter=g"
    ):
        choose([red, green], ask(facts={}))
    assert chosen([red, green], ask()) == "red"


def test_an_exposure_time_that_is_not_known_does_not_fall_to_the_nearest_epoch():
    exact, rate = flat("exact", keys={"exptime": 30.0}), flat("rate", keys={}, epoch=NOON + DAY)
    with pytest.raises(AmbiguousError, match=r"differ in exptime: 30 \(or none\)"):
        choose([exact, rate], ask(facts={}))


def test_without_a_time_one_candidate_is_enough_and_two_are_not():
    old, new = flat("old", end=NOON), flat("new", begin=NOON)
    assert chosen([old], ask(mid=None)) == "old"
    with pytest.raises(AmbiguousError, match=r"names no time: sha256:new .* say the time, or the exposure"):
        choose([old, new], ask(mid=None))


def test_no_match_names_three_misses_nearest_first_and_what_would_help():
    rows = [
        flat("green", keys={"filter": "g"}),
        flat("gone", state="withdrawn", why="light leak"),
        flat("early", end=NOON - DAY // 2),
        flat("lab", tag="lab", priority=-1),
    ]
    with pytest.raises(NoMatchError) as refused:
        choose(rows, ask())
    text = str(refused.value)
    assert text.startswith("no flat of cam fits exposure 7; nearest: sha256:early: valid 2024-11-07")
    assert text.index("early") < text.index("lab:") < text.index("withdrawn: light leak")
    assert "green" not in text
    assert text.endswith("level 1 (`--level 1`) would accept sha256:early.")


def test_levels_count_from_the_nearer_edge():
    rows = flat(begin=NOON, end=NOON + DAY)
    levels = [
        level_of(rows, ask(NOON + DAY + away)) for away in (-1, 0, DAY, DAY + 1, 30 * DAY, 30 * DAY + 1)
    ]
    assert levels == [0, 1, 1, 2, 3, None]
    choice = choose([rows], ask(NOON + 2 * DAY, level=1))
    assert choice.level == 1
    assert choice.notes[0].startswith("taken at level 1, outside its validity: valid 2024-11-08T12:00:00Z to")
    with pytest.raises(NoMatchError, match="beyond level 1"):
        choose([rows], ask(NOON + 3 * DAY, level=1))


def test_the_end_itself_is_outside_and_said_so():
    rows = flat(begin=NOON, end=NOON + DAY)
    with pytest.raises(NoMatchError, match=r"the end itself, where the .* is, belongs to the next one"):
        choose([rows], ask(NOON + DAY))
    assert choose([rows], ask(NOON + DAY - 1)).candidate == rows


def test_an_exposure_across_a_boundary_is_told():
    old, new = flat("old", begin=None, end=NOON), flat("new", begin=NOON, end=None)
    choice = choose([old, new], ask(NOON + 500))
    assert choice.candidate == new
    assert choice.notes == ("the exposure crosses the boundary at 2024-11-08T12:00:00Z: its middle decides",)
    assert choose([old, new], ask(NOON + 1000)).notes == ()  # it begins at the boundary
    assert choose([old, new], ask(NOON - 1000)).notes == ()  # it ends there


def test_the_worked_example_of_the_docs():
    """The table of docs/registry-rule.md, and what is said below it."""
    taken = 1_734_238_800_000_000  # 2024-12-15T05:00:00Z
    edge = 1_734_004_800_000_000  # 2024-12-12T12:00:00Z
    keys = {"filter": "r", "gain_setting": "2"}
    always, since = {"begin": None, "end": None}, {"begin": edge, "end": None}
    table = {
        "A": flat("A", keys={**keys, "filter": "g"}, tag="DP1", priority=1, **always),
        "B": flat("B", keys=keys, state="withdrawn", why="light leak"),
        "C": draft("C", keys=keys),
        "D": flat("D", keys=keys, tag="lab", priority=-1, **always),
        "E": flat("E", keys=keys, tag="DP1", priority=1, begin=NOON, end=edge),
        "F": flat("F", keys=keys, tag="DP1", priority=1, **since),
        "G": flat("G", keys={"filter": "r"}, tag="mine", **since),
        "H": flat("H", keys=keys, tag="mine", **since),
    }
    names = NAMES | {"gain_setting"}
    question = ask(taken + 15_000_000, keys, names=names)
    assert chosen(table.values(), question) == "H"
    rules = {one.identity[-1]: why.rule for _, one, why in judge(table.values(), question).misses}
    assert "".join(rules) == "GFEDCBA"  # fewest rules away first
    assert [rules[name] for name in "ABCDEFG"] == [
        "keys", "withdrawn", "draft", "tag", "validity", "priority", "specific",
    ]  # fmt: skip
    with pytest.raises(AmbiguousError, match="differ in gain_setting"):
        choose(table.values(), ask(taken + 15_000_000, {"filter": "r"}, names=names))
    gone = dict(table)
    for name, then in (("H", "G"), ("G", "F")):
        gone[name] = replace(table[name], state="withdrawn")
        assert chosen(gone.values(), question) == then
    gone["F"] = replace(table["F"], state="withdrawn")
    with pytest.raises(
        NoMatchError, match=r"2\.7 d before the exposure.*`--level 2`\) would accept sha256:E"
    ):
        choose(gone.values(), question)


def test_words():
    assert [duration(n) for n in (0, 5, 2000, 1_500_000, 90_000_000, DAY // 2, 3 * DAY + DAY // 5)] == [
        "0 s", "5 us", "2.0 ms", "1.5 s", "1.5 min", "12.0 h", "3.2 d",
    ]  # fmt: skip
    assert span(flat(begin=None, end=None)) == "valid always"
    assert span(flat(begin=None, end=NOON)) == "valid until 2024-11-08T12:00:00Z"


# --- properties -------------------------------------------------------------------------------------------

hours = st.integers(-6, 6).map(lambda n: NOON + n * DAY // 4)
edges = st.none() | hours
names = st.sampled_from("abcdefgh")


@st.composite
def rows(draw):
    begin, end = draw(edges), draw(edges)
    if begin is not None and end is not None and begin >= end:
        begin, end = (end, begin) if end < begin else (begin, None)
    state = draw(st.sampled_from(["certified"] * 5 + ["draft", "superseded", "withdrawn"]))
    priority = draw(st.integers(-1, 2))
    usual = {"state": state, "epoch": draw(edges), "priority": priority, "tag": f"t{priority}"}
    keys = draw(
        st.fixed_dictionaries({}, optional={"filter": st.sampled_from("gr"), "exptime": st.just(30.0)})
    )
    return flat(draw(names), keys=keys, begin=begin, end=end, revision=draw(st.integers(1, 9)), **usual)


def consistent(listed):
    """Rows of one product tell the same keys and epoch."""
    first = {}
    for row in listed:
        first.setdefault(row.identity, row)
    return [replace(row, keys=first[row.identity].keys, epoch=first[row.identity].epoch) for row in listed]


many = st.lists(rows(), max_size=10).map(consistent)
facts = st.fixed_dictionaries({}, optional={"filter": st.sampled_from("gr"), "exptime": st.just(30.0)})
questions = st.builds(
    lambda mid, known, level, drafts: ask(mid, known, level=level, drafts=drafts),
    edges,
    facts,
    st.integers(0, 3),
    st.booleans(),
)


def outcome(candidates, question):
    try:
        choice = choose(candidates, question)
    except (NoMatchError, AmbiguousError) as error:
        return type(error).__name__, str(error)
    return choice


@given(many, questions, st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(candidates, question, random):
    first = outcome(candidates, question)
    random.shuffle(candidates)
    assert outcome(candidates, question) == first


@given(
    st.lists(hours, min_size=2, max_size=8, unique=True).map(sorted), st.integers(-7, 7), st.integers(-1, 1)
)
def test_boundaries_are_half_open(times, quarter, off):
    """Spans that touch: every moment belongs to exactly one, the boundary itself to the later one."""
    spans = list(pairwise(times))
    touching = [flat(str(n), begin=begin, end=end) for n, (begin, end) in enumerate(spans)]
    mid = NOON + quarter * DAY // 4 + off
    inside = [str(n) for n, (begin, end) in enumerate(spans) if begin <= mid < end]
    if inside:
        assert [chosen(touching, ask(mid))] == inside
    else:
        with pytest.raises(NoMatchError):
            choose(touching, ask(mid))


@given(many, questions)
def test_what_is_chosen_is_not_refused_and_nothing_else_is_better(candidates, question):
    judgement = judge(candidates, question)
    told = [one.identity for one in judgement.left] + [one.identity for _, one, _ in judgement.misses]
    assert sorted(told) == sorted({one.identity for one in candidates})  # each product once
    for one in judgement.left:
        assert refusal(one, question) is None
    if judgement.problem is None:
        best = judgement.left[0]
        assert question.drafts or best.state == "certified"
        assert level_of(best, question) <= question.level
        open_ = [row for row in candidates if refusal(row, question) is None]
        levels = [level_of(row, question) for row in open_ if row.state == "certified"]
        if levels:
            assert best.state == "certified" and level_of(best, question) == min(levels)


@given(many, questions, st.integers(0, 3))
def test_a_wider_level_never_changes_an_answer(candidates, question, wider):
    first = outcome(candidates, question)
    if not isinstance(first, tuple) and first.level >= 0:
        assert outcome(candidates, replace(question, level=max(wider, question.level))) == first


@given(many, questions)
def test_drafts_never_change_an_answer_among_certified(candidates, question):
    strict = outcome(candidates, replace(question, drafts=False))
    if not isinstance(strict, tuple):
        assert outcome(candidates, replace(question, drafts=True)) == strict


@given(many, questions)
def test_what_was_refused_does_not_matter(candidates, question):
    """Withdrawn, superseded, unsearched and invalid products may be forgotten: the answer stays."""
    first = outcome(candidates, question)
    left = [one for one in candidates if refusal(one, question) is None]
    if first[0] != "NoMatchError" if isinstance(first, tuple) else True:
        assert outcome(left, question) == first
    else:
        assert not left


@given(many, questions)
def test_a_twin_of_what_was_chosen_is_a_tie(candidates, question):
    first = outcome(candidates, question)
    if isinstance(first, tuple):
        return
    twin = replace(first.candidate, identity="sha256:twin")
    with pytest.raises(AmbiguousError) as refused:
        choose([*candidates, twin], question)
    if question.mid is not None:
        assert first.candidate.identity in str(refused.value) and "sha256:twin" in str(refused.value)
