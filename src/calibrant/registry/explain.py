"""Why a product was chosen, and why the others were not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from calibrant.registry import rows, select
from calibrant.registry.asking import Asked, Question, understood
from calibrant.registry.memory import Memory
from calibrant.registry.questions import agreeing, given, left
from calibrant.registry.records import Candidate, Explanation, Line, Refusal

LINES = 20
"""Nearest misses that are named; the others are counted."""

_RULES = {
    rows.KEYS: "keys",
    rows.WITHDRAWN: "withdrawn",
    rows.SUPERSEDED: "superseded",
    rows.DRAFT: "draft",
    rows.TAG: "tag",
    rows.VALIDITY: "validity",
}


def explain(connection: Connection, question: Question, memory: Memory) -> Explanation:
    """Every candidate of a question: chosen, or the first rule that refused it.

    Parameters
    ----------
    connection : Connection
    question : Question
    memory : Memory
        Of this database.

    Returns
    -------
    Explanation
        If nothing can be chosen, `Explanation.problem` says why.

    Raises
    ------
    NoMatchError, AmbiguousError, RegistryError, OptionError
        If the question cannot be understood: exposure, kind or instrument unknown or left open, a fact, tag
        or revision that is none.
    """
    asked = understood(connection, question, memory)
    fit = left(connection, asked, memory)
    limit = LINES + min(LINES, len({candidate.identity for candidate in fit}))
    counts, near = rows.misses(connection, asked, agreeing(asked, memory), memory, limit)
    judgement = select.judge([*fit, *near], asked.ask)
    chosen = None
    lines: list[Line] = []
    if judgement.problem is None:
        chosen = given(connection, judgement.left[0], asked)
        lines.append(_line(chosen.candidate, None, asked))
        tied: Sequence[tuple[int, Candidate, Refusal]] = ()
    else:
        tie = judgement.tie
        tied = [] if tie is None else [(rows.LEFT, candidate, tie) for candidate in judgement.left]
    misses = [*tied, *judgement.misses]
    shown = misses[:LINES]
    lines += [_line(candidate, refusal, asked) for _, candidate, refusal in shown]
    return Explanation(
        question=_sentence(asked, memory),
        chosen=chosen,
        problem="" if judgement.problem is None else str(judgement.problem),
        lines=tuple(lines),
        rest=_rest(counts, misses, judgement),
        total=sum(counts.values()),
        notes=asked.notes if chosen is None else chosen.notes,
    )


def _line(candidate: Candidate, refusal: Refusal | None, asked: Asked) -> Line:
    return Line(candidate, refusal, select.distance(candidate, asked.ask))


def _rest(
    counts: Mapping[int, int], misses: Sequence[select.Miss], judgement: select.Judgement
) -> dict[str, int]:
    """Refusals that are not shown, by rule.

    Those of single candidates are counted by the database, and what is shown is taken off. Those that compare
    candidates are in `misses`; only of drafts that were asked for, those far away in time are not.
    """
    rest: Counter[str] = Counter({rule: counts.get(stage, 0) for stage, rule in _RULES.items()})
    compared = len(select.REFUSING)
    for place, (passed, _, refusal) in enumerate(misses):
        if passed < compared:
            rest[refusal.rule] -= place < LINES
        else:
            rest[refusal.rule] += place >= LINES
    certified = any(one.state == "certified" for one in judgement.left)
    farther = "draft" if certified else "epoch" if judgement.tie is None else judgement.tie.rule
    judged = len(judgement.left) + sum(passed >= compared for passed, _, _ in judgement.misses)
    rest[farther] += counts.get(rows.LEFT, 0) - judged
    return {rule: number for rule, number in rest.items() if number > 0}


def _sentence(asked: Asked, memory: Memory) -> str:
    ask = asked.ask
    what = f"{ask.kind} of {ask.instrument}" + (f" for {ask.label}" if ask.label else "")
    searched = ", ".join(memory.tags[tag] for tag in asked.tags) or "none"
    parts = [what, f"tags {searched}" if len(asked.tags) != 1 else f"tag {searched}"]
    parts += [f"level {ask.level}"] if ask.level else []
    parts += ["drafts too"] if ask.drafts else []
    parts += [] if asked.now else [f"as of revision {asked.revision}"]
    return "; ".join(parts)
