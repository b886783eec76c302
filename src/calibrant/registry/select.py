"""The rule of choice: which product belongs to an exposure, and why not the others. Pure: no SQL, no files.

Refused, by the first rule that says so: keys, withdrawal, certification, tag, validity. Of those left:
certified before draft, the lowest level, then (the question must say all in which they differ) the tag's
priority, the most specific, the nearest in time. A tie is an error. See docs/registry-rule.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calibrant.errors import AmbiguousError, NoMatchError, RegistryError
from calibrant.registry.records import Ask, Candidate, Choice, Refusal
from calibrant.registry.words import duration, moment, short, span, value

NAMED = 3
"""Nearest misses that an error names."""

Miss = tuple[int, Candidate, Refusal]
"""How many rules were passed, the candidate, and the rule that refused it."""


@dataclass(frozen=True)
class Judgement:
    """What the rule says of all candidates, one for each product.

    Attributes
    ----------
    left : tuple of Candidate
        The chosen one; more than one if nothing decides between them.
    misses : tuple of (int, Candidate, Refusal)
        All others, the nearest first: fewest rules away, then nearest in time.
    tie : Refusal or None
        Why nothing decides between those that are left, if there are several.
    problem : RegistryError or None
        What `choose` raises.
    """

    left: tuple[Candidate, ...]
    misses: tuple[Miss, ...]
    tie: Refusal | None
    problem: RegistryError | None


def choose(candidates: Iterable[Candidate], ask: Ask) -> Choice:
    """The product that the rule chooses; its path is left to the caller.

    Parameters
    ----------
    candidates : iterable of Candidate
        In any order; several rows of one product count as one candidate.
    ask : Ask

    Raises
    ------
    NoMatchError
        If none fits; the nearest misses are named.
    AmbiguousError
        If several fit equally well, or the question leaves open which is meant.
    """
    judgement = judge(candidates, ask)
    if judgement.problem is not None:
        raise judgement.problem
    return chosen(judgement.left[0], ask)


def chosen(candidate: Candidate, ask: Ask) -> Choice:
    """A candidate as the choice, with what the user should know of it."""
    level = level_of(candidate, ask) or 0
    return Choice(candidate, level, tuple(_notes(candidate, level, ask)))


def _notes(candidate: Candidate, level: int, ask: Ask) -> Iterable[str]:
    if level < 0:
        yield f"{short(candidate)} is a draft: nobody certified it"
    elif level > 0:
        yield f"taken at level {level}, outside its validity: {_outside_words(candidate, ask)}"
    else:
        for edge in _crossed(candidate, ask):
            yield f"the exposure crosses the boundary at {moment(edge)}: its middle decides"


def _crossed(candidate: Candidate, ask: Ask) -> Iterable[int]:
    """Boundaries of the validity that lie within the exposure."""
    if candidate.begin is not None and ask.start is not None and ask.start < candidate.begin:
        yield candidate.begin
    if candidate.end is not None and ask.end is not None and ask.end > candidate.end:
        yield candidate.end


# --- rules that refuse one candidate by itself ------------------------------------------------------------


def refusal(candidate: Candidate, ask: Ask) -> Refusal | None:
    """The first rule that refuses a candidate whatever the others are; None if it is left."""
    return _first_refusal(candidate, ask)[1]


def level_of(candidate: Candidate, ask: Ask) -> int | None:
    """How well the validity suits the exposure's middle.

    Returns
    -------
    int or None
        0 inside, or if no time was asked; n if it is at most ``reach[n - 1]`` outside the nearer edge; -1 for
        a draft, which has no validity; None beyond the last level.
    """
    if candidate.state == "draft":
        return -1
    outside = None if ask.mid is None else _outside(candidate, ask.mid)
    if outside is None:
        return 0
    return next((level for level, reach in enumerate(ask.reach, 1) if outside <= reach), None)


def distance(candidate: Candidate, ask: Ask) -> int | None:
    """|epoch - mid-exposure| in microseconds; None if either is unknown."""
    return None if candidate.epoch is None or ask.mid is None else abs(candidate.epoch - ask.mid)


def _outside(candidate: Candidate, mid: int) -> int | None:
    """Microseconds from the nearer edge of the validity; None inside [begin, end)."""
    if candidate.begin is not None and mid < candidate.begin:
        return candidate.begin - mid
    if candidate.end is not None and mid >= candidate.end:
        return mid - candidate.end
    return None


def _outside_words(candidate: Candidate, ask: Ask) -> str:
    assert ask.mid is not None
    far = _outside(candidate, ask.mid) or 0
    ended = candidate.end is not None and ask.mid >= candidate.end
    what = "the exposure" if ask.start is not None else "the time asked for"
    if ended and not far:
        return f"{span(candidate)}: the end itself, where {what} is, belongs to the next one"
    return f"{span(candidate)}, {duration(far)} {'before' if ended else 'after'} {what}"


def agree(keys: Mapping[str, Any], ask: Ask) -> bool:
    """Whether keys agree with the facts; what is unknown on either side decides nothing."""
    return next(_contradictions(keys, ask), None) is None


def _contradictions(keys: Mapping[str, Any], ask: Ask) -> Iterator[tuple[str, Any, Any]]:
    for key, own in keys.items():
        if own is not None and key in ask.names:
            fact = ask.facts.get(key)
            if fact is not None and not ask.same(key, own, fact):
                yield key, own, fact


def _keys(candidate: Candidate, ask: Ask) -> Refusal | None:
    for key, own, fact in _contradictions(candidate.keys, ask):
        return Refusal("keys", f"{key} is {value(own)}, not {value(fact)}")
    return None


def _withdrawn(candidate: Candidate, ask: Ask) -> Refusal | None:
    if candidate.state != "withdrawn":
        return None
    return Refusal("withdrawn", f"withdrawn: {candidate.why}" if candidate.why else "withdrawn")


def _certified(candidate: Candidate, ask: Ask) -> Refusal | None:
    if candidate.state == "superseded":
        return Refusal("superseded", "superseded: its place was given to another")
    if candidate.state == "draft" and not ask.drafts:
        return Refusal("draft", "never certified")
    return None


def _tag(candidate: Candidate, ask: Ask) -> Refusal | None:
    if candidate.state == "draft" or candidate.priority >= 0:
        return None
    return Refusal("tag", f"certified under tag {candidate.tag}, which is not searched")


def _validity(candidate: Candidate, ask: Ask) -> Refusal | None:
    level = level_of(candidate, ask)
    if level is not None and level <= ask.level:
        return None
    beyond = f", beyond level {ask.level}" if ask.level > 0 else ""
    return Refusal("validity", _outside_words(candidate, ask) + beyond)


REFUSING = (_keys, _withdrawn, _certified, _tag, _validity)


def _first_refusal(candidate: Candidate, ask: Ask) -> tuple[int, Refusal | None]:
    for passed, rule in enumerate(REFUSING):
        found = rule(candidate, ask)
        if found is not None:
            return passed, found
    return len(REFUSING), None


# --- rules that compare candidates ------------------------------------------------------------------------


def specific(candidate: Candidate, ask: Ask) -> int:
    """Number of keys that agree with a fact that is known."""
    return sum(
        own is not None and key in ask.names and ask.facts.get(key) is not None
        for key, own in candidate.keys.items()
    )


def _by_state(candidate: Candidate, ask: Ask) -> int:
    return candidate.state == "draft"


def _by_level(candidate: Candidate, ask: Ask) -> int:
    return level_of(candidate, ask) or 0


def _by_priority(candidate: Candidate, ask: Ask) -> int:
    return 0 if candidate.state == "draft" else candidate.priority


def _by_keys(candidate: Candidate, ask: Ask) -> int:
    return -specific(candidate, ask)


def _by_epoch(candidate: Candidate, ask: Ask) -> float:
    found = distance(candidate, ask)
    return float("inf") if found is None else found


def _not_by_epoch(candidate: Candidate, best: Candidate, ask: Ask) -> str:
    own, other = distance(candidate, ask), distance(best, ask)
    assert other is not None
    if own is None:
        return f"its epoch is unknown; that of {short(best)} is {duration(other)} away"
    return f"farther in time: {duration(own)} against {duration(other)}"


Order = Callable[[Candidate, Ask], float]
Words = Callable[[Candidate, Candidate, Ask], str]
_BEFORE: Sequence[tuple[str, Order, Words]] = (
    ("draft", _by_state, lambda _, best, __: f"never certified, and {short(best)} is"),
    ("validity", _by_level, lambda own, best, ask: f"{_outside_words(own, ask)}; {short(best)} is nearer"),
)
_AFTER: Sequence[tuple[str, Order, Words]] = (
    ("priority", _by_priority, lambda own, best, _: f"tag {own.tag} is searched after tag {best.tag}"),
    ("specific", _by_keys, lambda own, best, ask: f"less specific: {_more(own, best, ask)}"),
    ("epoch", _by_epoch, _not_by_epoch),
)


def _more(own: Candidate, best: Candidate, ask: Ask) -> str:
    keys = [key for key in best.keys if key in ask.names and ask.facts.get(key) is not None]
    keys = [key for key in keys if own.keys.get(key) is None]
    return f"it does not say {', '.join(keys)}" if keys else f"{short(best)} agrees in more keys"


def judge(candidates: Iterable[Candidate], ask: Ask) -> Judgement:
    """What the rule says of every candidate: the chosen one, and the refusals of all others.

    Parameters
    ----------
    candidates : iterable of Candidate
        In any order; of several rows of one product the one that comes farthest counts.
    ask : Ask
    """
    left, misses = _refused(candidates, ask)
    far = len(REFUSING)
    left = _ranked(left, _BEFORE, far, misses, ask)
    open_ = _unstated(left, ask) or _timeless(left, ask)
    if open_ is None:
        left = _ranked(left, _AFTER, far + len(_BEFORE), misses, ask)
        open_ = _tie(left, ask)
    misses.sort(key=lambda miss: (-miss[0], _by_epoch(miss[1], ask), miss[1].identity))
    left.sort(key=lambda found: found.identity)
    tie, problem = (None, None) if open_ is None else open_
    return Judgement(tuple(left), tuple(misses), tie, problem if left else no_match(misses, ask))


def _refused(candidates: Iterable[Candidate], ask: Ask) -> tuple[list[Candidate], list[Miss]]:
    """One row for each product, apart by whether it is left."""
    best: dict[str, tuple[tuple[Any, ...], int, Candidate, Refusal | None]] = {}
    for candidate in candidates:
        passed, found = _first_refusal(candidate, ask)
        order = (-passed, *_row_order(candidate, found, ask))
        known = best.get(candidate.identity)
        if known is None or order < known[0]:
            best[candidate.identity] = (order, passed, candidate, found)
    left = [row for _, _, row, found in best.values() if found is None]
    misses = [(passed, row, found) for _, passed, row, found in best.values() if found is not None]
    return left, misses


def _row_order(candidate: Candidate, found: Refusal | None, ask: Ask) -> tuple[Any, ...]:
    """Order of the rows of one product, the same whatever order they come in."""
    if found is None:
        first: int = _by_level(candidate, ask)
    else:
        first = 0 if ask.mid is None else _outside(candidate, ask.mid) or 0
    row = candidate.tag or "", -candidate.revision, candidate.begin or 0, candidate.end or 0
    return _by_state(candidate, ask), first, candidate.priority, *row, candidate.state


def _ranked(
    left: list[Candidate],
    rules: Sequence[tuple[str, Order, Words]],
    passed: int,
    misses: list[Miss],
    ask: Ask,
) -> list[Candidate]:
    """Those that no rule puts behind another; the others are added to `misses`."""
    for count, (name, order, words) in enumerate(rules, passed):
        if len(left) < 2:
            break
        placed = [(order(candidate, ask), candidate) for candidate in left]
        first = min(place for place, _ in placed)
        kept = [candidate for place, candidate in placed if place == first]
        best = min(kept, key=lambda candidate: candidate.identity)
        misses += [
            (count, candidate, Refusal(name, words(candidate, best, ask)))
            for place, candidate in placed
            if place != first
        ]
        left = kept
    return left


# --- what is wrong with a question ------------------------------------------------------------------------

Open = tuple[Refusal, AmbiguousError]
"""What a question leaves open: for a line of an explanation, and as an error."""


def _unstated(left: Sequence[Candidate], ask: Ask) -> Open | None:
    """Candidates that differ in what the question does not say: time must not decide between two filters."""
    values = {
        key: {candidate.keys.get(key) for candidate in left}
        for key in {key for candidate in left for key in candidate.keys}
        if key in ask.names and ask.facts.get(key) is None
    }
    keys = [key for key, found in values.items() if _differ(key, found, ask)]
    if not keys:
        return None
    key = min(keys, key=lambda name: (None in values[name], name))  # where all say something, it says more
    known = sorted({value(one) for one in values[key] if one is not None})
    or_none = " (or none)" if None in values[key] else ""
    return Refusal("keys", f"the question does not say which {key}"), AmbiguousError(
        f"several products of kind {ask.kind} fit {ask.label or 'the question'} "
        f"and differ in {key}: {', '.join(known[:8])}{or_none}",
        do=f"say which {key}, for example {key}={known[0]}",
    )


def _differ(key: str, values: set[Any], ask: Ask) -> bool:
    if len(values) < 2:
        return False
    if all(isinstance(one, (int, float)) for one in values):
        return not ask.same(key, min(values), max(values))
    return True


def _timeless(left: Sequence[Candidate], ask: Ask) -> Open | None:
    if ask.mid is not None or len(left) < 2:
        return None
    one, other = sorted(left, key=lambda found: found.identity)[:2]
    return Refusal("validity", "the question names no time"), AmbiguousError(
        f"several products of kind {ask.kind} fit {ask.label or 'the question'}, which names no time: "
        f"{short(one)} ({span(one)}) and {short(other)} ({span(other)})" + (", ..." if len(left) > 2 else ""),
        do="say the time, or the exposure",
    )


def _tie(left: Sequence[Candidate], ask: Ask) -> Open | None:
    if len(left) < 2:
        return None
    one, other = sorted(left, key=lambda found: found.identity)[:2]
    far = distance(one, ask)
    how = "of unknown epoch" if far is None else f"each {duration(far)} away"
    return Refusal("epoch", "as near in time as another: nothing decides"), AmbiguousError(
        f"several products of kind {ask.kind} fit {ask.label or 'the question'} equally well: "
        f"{_with_tag(one)} and {_with_tag(other)}, {how}",
        do="withdraw one of them, or name the tag to search",
    )


def _with_tag(candidate: Candidate) -> str:
    return f"{short(candidate)} (tag {candidate.tag})" if candidate.tag else short(candidate)


def no_match(misses: Sequence[Miss], ask: Ask) -> NoMatchError:
    """The error for a question that nothing fits, with the nearest misses and what would help."""
    what = f"no {ask.kind} of {ask.instrument} fits {ask.label or 'the question'}"
    if not misses:
        return NoMatchError(
            f"{what}: the registry knows none for it",
            do="`calibrant registry ls` lists the products that it knows",
        )
    named = "; ".join(f"{short(found)}: {why.sentence}" for _, found, why in misses[:NAMED])
    return NoMatchError(f"{what}; nearest: {named}", do=_advice(misses, ask))


def _advice(misses: Sequence[Miss], ask: Ask) -> str:
    """What to do: a level or drafts, where one of them would be enough."""
    levels: Mapping[int, Candidate] = {
        level: found
        for _, found, why in reversed(misses)
        if why.rule == "validity" and (level := level_of(found, ask)) is not None
    }
    if levels:
        level = min(levels)
        return f"level {level} (`--level {level}`) would accept {short(levels[level])}"
    draft = next((found for _, found, why in misses if why.rule == "draft"), None)
    if draft is not None:
        return f"certify {short(draft)}, or ask for drafts (`--drafts`)"
    return "`calibrant registry explain` says why each candidate was refused"
