"""The answers of a registry as JSON: times as ISO text. Terminal and pages share it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from calibrant.registry.records import Choice, Entry, Event, Explanation, Lineage, Point, Verdict
from calibrant.registry.words import between, moment


def time(microseconds: int | None) -> str | None:
    """A time as ISO text, UTC; None if it is unknown, or an open end."""
    return None if microseconds is None else moment(microseconds)


def entry(found: Entry) -> dict[str, Any]:
    """A product as the registry knows it."""
    spans = [{"tag": tag, "from": time(begin), "to": time(end)} for tag, begin, end in found.validity]
    return {**asdict(found), "epoch": time(found.epoch), "validity": spans}


def choice(found: Choice) -> dict[str, Any]:
    """What was chosen, and under which certification."""
    candidate = found.candidate
    return {
        "identity": candidate.identity,
        "instrument": candidate.instrument,
        "keys": dict(candidate.keys),
        "state": candidate.state,
        "tag": candidate.tag,
        "from": time(candidate.begin),
        "to": time(candidate.end),
        "valid": between(candidate.begin, candidate.end) if candidate.tag else "",
        "level": found.level,
        "revision": found.revision,
        "notes": list(found.notes),
    }


def explanation(found: Explanation) -> dict[str, Any]:
    """Every candidate with the rule that refused it; distances from the exposure in seconds."""
    lines = [
        {
            **asdict(line.candidate),
            "epoch": time(line.candidate.epoch),
            "begin": time(line.candidate.begin),
            "end": time(line.candidate.end),
            "refusal": None if line.refusal is None else asdict(line.refusal),
            "distance_s": None if line.distance is None else line.distance / 1e6,
        }
        for line in found.lines
    ]
    return {
        "question": found.question,
        "chosen": None if found.chosen is None else choice(found.chosen),
        "problem": found.problem,
        "candidates": lines,
        "rest": dict(found.rest),
        "total": found.total,
        "notes": list(found.notes),
    }


def lineage(found: Lineage) -> dict[str, Any]:
    """A graph: nodes, and edges from child to parent."""
    edges = [{"child": child, "parent": parent, "role": role} for child, parent, role in found.edges]
    return {"root": found.root, "nodes": [asdict(node) for node in found.nodes.values()], "edges": edges}


def event(found: Event) -> dict[str, Any]:
    """Something that was reported."""
    return {
        **asdict(found),
        "at": time(found.at),
        "begin": time(found.begin),
        "end": time(found.end),
    }


def point(found: Point) -> dict[str, Any]:
    """A quantity of one product; its epoch as text and, to draw it, in microseconds."""
    return {**asdict(found), "epoch": time(found.epoch), "epoch_us": found.epoch}


def verdict(found: Verdict) -> dict[str, Any]:
    """Measured values against their limits."""
    items = [{**asdict(item), "passed": item.passed} for item in found.items]
    return {**asdict(found), "items": items, "passed": found.passed}
