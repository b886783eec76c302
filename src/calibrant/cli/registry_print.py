"""How the answers of a registry are printed, and what of them is JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from calibrant.cli.common import Terminal

if TYPE_CHECKING:
    from calibrant.registry.records import (
        Entry,
        Explanation,
        Item,
        Line,
        Lineage,
        Node,
        Trouble,
        Verdict,
    )

DIGITS = 12
"""Hex digits of an identity that are printed: they can be pasted back as PRODUCT."""
LISTED = 4  # raw files of one product that are named before they are counted
NAMED = 5  # tainted things that are named


def short(identity: str) -> str:
    """The first digits of an identity."""
    return identity.removeprefix("sha256:")[:DIGITS]


def _counted(number: int, name: str, more: str = "") -> str:
    return f"{number}{more} {name}{'' if number == 1 and not more else 's'}"


def place(url: str) -> str:
    """A registry by its path, or by its URL if it is on a server."""
    return url.removeprefix("sqlite:///")


def time(microseconds: int | None) -> str | None:
    """A time to the second, as ISO text."""
    from calibrant.registry.words import second

    return None if microseconds is None else second(microseconds)


def keys_text(keys: Mapping[str, Any]) -> str:
    """Keys in one cell; those that are unknown are left out."""
    from calibrant.registry.words import told

    return told(keys)


# --- ingest, verify, certify ------------------------------------------------------------------------------


def ingested(result: Mapping[str, Any]) -> None:
    """Counts, rate, notes and files that could not be used."""
    counts = f"{result['new']} new, {result['known']} known, {result['moved']} found in a further place"
    typer.echo(
        f"{result['instrument']}: {counts}; {result['seconds']:.1f} s "
        f"({result['files_per_second']:.0f} files/s, {result['mb_per_second']:.0f} MB/s)"
    )
    for note in result["notes"]:
        typer.echo(f"note: {note}")
    for problem in result["problems"]:
        typer.echo(f"left out: {problem['problem']}")


def verdict(terminal: Terminal, found: Verdict, notes: Sequence[str], recorded: bool) -> None:
    """Values with their limits, and whether all passed; places that pass share a line."""
    by_name: dict[str, list[Item]] = {}
    for item in found.items:
        by_name.setdefault(item.name, []).append(item)
    rows = [row for items in by_name.values() for row in _judged(items)]
    if rows:
        columns = [name for name in rows[0] if any(row[name] for row in rows)]
        terminal.table(rows, columns)
    for note in notes:
        typer.echo(f"note: {note}")
    failed, total = sum(not item.passed for item in found.items), len(found.items)
    told = "passes" if found.passed else f"fails in {failed} of {total}" if total else "has nothing to pass"
    where = f"on {len(found.frames)} frames" if found.frames else "on its own numbers"
    typer.echo(f"the {found.kind} {short(found.identity)} {told}, {where}, by the recipe {found.recipe}")
    if not recorded:
        typer.echo("the registry does not know it: the verdict is not recorded")


def _judged(items: Sequence[Item]) -> Iterator[dict[str, str]]:
    """Lines for the places of one value."""
    good = [item for item in items if item.passed]
    together = good if len(good) > 1 else []
    if together:
        values = sorted(item.value for item in together if item.value is not None)
        span = f"{values[0]:.3g} ... {values[-1]:.3g} {together[0].unit}".rstrip()  # fits 80 columns
        yield _judgement(together[0], f"{len(together)} places", span, "")
    for item in items:
        if item not in together:
            value = "unknown" if item.value is None else f"{item.value:.4g} {item.unit}".rstrip()
            yield _judgement(item, item.place, value, item.note)


def _judgement(item: Item, place: str, value: str, note: str) -> dict[str, str]:
    return {
        "what": item.name,
        "place": place,
        "value": value,
        "from": "-" if item.low is None else f"{item.low:.4g}",
        "to": "-" if item.high is None else f"{item.high:.4g}",
        "verdict": "pass" if item.passed else "FAIL",
        "note": note,
    }


def added(entry: Entry, path: str, known: bool | None) -> str:
    """What was recorded of a file: `known` is None for a new product, else whether the place was known."""
    name = f"the {entry.kind} {short(entry.identity)}"
    if known is None:
        return f"{path} is recorded as a draft, {name} ({keys_text(entry.keys)})"
    return f"{path} holds {name}, which is known" + ("" if known else "; its place is recorded")


def certified(entry: Entry, tag: str) -> None:
    """Under which tag, and when."""
    from calibrant.registry.words import between

    spans = [between(begin, end) for name, begin, end in entry.validity if name == tag]
    typer.echo(f"the {entry.kind} {short(entry.identity)} ({keys_text(entry.keys)}) is certified for {tag}:")
    for span in spans:
        typer.echo(f"  {span}")
    for reason in entry.tainted:
        typer.echo(f"note: it is tainted: {reason}")


def withdrawn(name: str, made: Sequence[str]) -> None:
    """What was made of it."""
    typer.echo(f"{name} is withdrawn")
    if made:
        more = f" and {len(made) - NAMED} more" if len(made) > NAMED else ""
        typer.echo(f"made of it, and tainted now: {', '.join(map(short, made[:NAMED]))}{more}")


# --- get, explain -----------------------------------------------------------------------------------------


def got(result: Mapping[str, Any]) -> None:
    """What was chosen, and where it is or went."""
    if "identity" in result:
        state = f"certified for {result['tag']}, {result['valid']}" if result["tag"] else result["state"]
        typer.echo(f"{result['kind']} {short(result['identity'])}  {keys_text(result['keys'])}; {state}")
    typer.echo(f"{result['path']} copied to {result['out']}" if result["out"] else result["path"])


def explanation(terminal: Terminal, found: Explanation) -> None:
    """The chosen one, the nearest misses with their reasons, the rest counted."""
    typer.echo(found.question)
    if found.lines:
        rows = [_line(line) for line in found.lines]
        terminal.table(rows, list(rows[0]))
    rest = ", ".join(f"{number} by {rule}" for rule, number in found.rest.items() if number)
    if rest:
        typer.echo(f"refused besides: {rest}")
    if found.problem:
        problem = found.problem.partition("; nearest: ")[0] if found.lines else found.problem
        typer.echo(f"nothing is chosen: {problem.rstrip('.')}")


def _line(line: Line) -> dict[str, Any]:
    from calibrant.registry.words import duration

    found = line.candidate
    return {
        "product": short(found.identity),
        "tag": found.tag,
        "away": None if line.distance is None else duration(line.distance),
        "rule": "chosen" if line.refusal is None else line.refusal.rule,
        "why": _reason(line),
    }


def _reason(line: Line) -> str:
    if line.refusal is None:
        return keys_text(line.candidate.keys)
    return line.refusal.sentence.removeprefix(f"{line.refusal.rule}: ")


# --- lineage ----------------------------------------------------------------------------------------------


def lineage(found: Lineage) -> None:
    """The ancestry as a tree: each product once, raw files in one line."""
    for line in _branch(found, found.root, "", set()):
        typer.echo(line)
    troubled = [node for node in found.nodes.values() if node.problem]
    for node in troubled:
        name = node.name or node.kind
        typer.echo(f"note: {name} ({short(node.key)}) is {node.problem}{_why(node)}")


def _branch(found: Lineage, key: str, indent: str, told: set[str]) -> Iterator[str]:
    node = found.nodes[key]
    again = key in told
    yield f"{indent}{_node(node)}{' (see above)' if again else ''}"
    if again:
        return
    told.add(key)
    parents = [found.nodes[parent] for child, parent, _ in found.edges if child == key]
    raws = [parent for parent in parents if not parent.state]
    for parent in parents:
        if parent.state:
            yield from _branch(found, parent.key, f"{indent}  ", told)
    by_kind: dict[str, list[str]] = {}
    for raw in raws:
        by_kind.setdefault(raw.kind, []).append(raw.name)
    for kind, names in by_kind.items():
        few = len(names) <= LISTED
        shown = ", ".join(names) if few else f"{names[0]}, {names[1]} ... {names[-1]}"
        yield f"{indent}  {len(names)} raw {kind}: {shown}"


def _node(node: Node) -> str:
    name = node.kind if node.state else node.name or node.kind
    facts = node.facts.get("keys", {})
    keys = f"  {keys_text(facts)}" if facts else ""
    state = f"  {node.state}" if node.state else ""
    return f"{name} {short(node.key)}{keys}{state}"


def _why(node: Node) -> str:
    why = node.facts.get("why")
    return f": {why}" if why else f": {node.path}" if node.path else ""


# --- lists ------------------------------------------------------------------------------------------------


def products(terminal: Terminal, entries: Sequence[Entry], about: Mapping[str, Any]) -> None:
    """Products as a table, then tags and frozen states."""
    shared = _shared(entries)
    rows = [_row(entry, shared) for entry in entries]
    names = {entry.instrument for entry in entries}
    if rows:
        terminal.table(rows, [name for name in rows[0] if name != "instrument" or len(names) > 1])
    more = f" of {about['total']} (--limit 0 lists all)" if about["total"] > len(entries) else ""
    of = f" of {names.pop()}" if len(names) == 1 else ""
    alike = f" (all: {keys_text(shared)})" if shared else ""
    typer.echo(f"{_counted(len(entries), 'product', more)}{of}{alike}")
    tags = [f"{tag} then {', '.join(then)}" if then else tag for tag, then in about["tags"].items()]
    if tags:
        typer.echo(f"tags: {'; '.join(tags)}")
    if about["frozen"]:
        frozen = ", ".join(f"{name} (revision {number})" for name, number in about["frozen"].items())
        typer.echo(f"frozen: {frozen}")


def _shared(entries: Sequence[Entry]) -> dict[str, Any]:
    """Keys that all of several products share: said once."""
    if len(entries) < 2:
        return {}
    first, *others = (entry.keys for entry in entries)
    return {
        name: value
        for name, value in first.items()
        if all(name in keys and keys[name] == value for keys in others)
    }


def _row(entry: Entry, shared: Mapping[str, Any]) -> dict[str, Any]:
    from calibrant.registry.words import between

    valid = [f"{tag}: {between(begin, end)}" for tag, begin, end in entry.validity]
    verified = {None: "", True: ", verified", False: ", failed"}[entry.verified]
    tainted = ", tainted" if entry.tainted else ""
    return {
        "product": short(entry.identity),
        "kind": entry.kind,
        "instrument": entry.instrument,
        "for": keys_text({name: value for name, value in entry.keys.items() if name not in shared}) or None,
        "epoch": (time(entry.epoch) or "-")[:10],
        "state": entry.state + ("" if entry.state == "withdrawn" else verified + tainted),
        "valid": ", ".join(valid) or None,
    }


def exposures(terminal: Terminal, rows: Sequence[Mapping[str, Any]], limit: int) -> None:
    """Exposures as a table."""
    told = [{**row, "file": Path(row["path"]).name if row["path"] else None} for row in rows]
    columns = ["exposure", "detector", "kind", "filter", "time", "file"]
    if len({row["instrument"] for row in rows}) > 1:
        columns.insert(1, "instrument")
    if told:
        terminal.table(told, columns)
    more = ", or more: --limit 0 lists all" if limit and len(rows) == limit else ""
    typer.echo(f"{_counted(len(rows), 'exposure')}{more}")


def troubles(found: Sequence[Trouble], severe: int) -> None:
    """Findings of `check`, severe ones first."""
    for trouble in found:
        typer.echo(f"{trouble.what}{'' if trouble.severe else ' (no harm)'}: {trouble.sentence}")
    if not found:
        typer.echo("every file is where it was and as it was")
    elif severe:
        typer.echo(f"{_counted(severe, 'severe finding')} of {len(found)}")
    else:
        typer.echo(f"{_counted(len(found), 'finding')}, none severe")
