"""Where things come from: from a product or a calibrated frame back to raw files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any, NamedTuple

from sqlalchemy import Connection, Text, bindparam, select

from calibrant.errors import RegistryError
from calibrant.registry import places, schema, words
from calibrant.registry.facts import keys_of
from calibrant.registry.records import Lineage, Node

_event = schema.event
_WITHDRAWN = select(_event.c.subject, _event.c.revision, _event.c.why).where(_event.c.kind == "withdrawn")

# One statement for the whole ancestry, made once: every lookup asks it.
_above = select(bindparam("key", type_=Text).label("key")).cte("above", recursive=True)
_above = _above.union(
    select(schema.lineage.c.parent).where(schema.lineage.c.child == _above.c.key)
)  # union, not union_all: what has two ways up is followed once
_GONE_ABOVE = _WITHDRAWN.where(_event.c.subject == _above.c.key)


class Withdrawal(NamedTuple):
    """When and why something was withdrawn."""

    revision: int
    why: str


def of(connection: Connection, key: str) -> Lineage:
    """The ancestry of a product, a calibrated frame or a raw file, down to raw files.

    Parameters
    ----------
    connection : Connection
    key : str
        Identity of a product, or hash of a file.

    Returns
    -------
    Lineage
        Of a node that was withdrawn, `problem` says so; of one that the registry does not know it is
        ``unknown``.

    Raises
    ------
    RegistryError
        If the registry does not know the key.
    """
    root = places.product_in(connection, key) or key
    edges = _ancestry(connection, [root])
    keys = list(dict.fromkeys([root, *(parent for _, parent, _, _ in edges)]))
    names = {parent: name for _, parent, _, name in edges if name}
    nodes = _nodes(connection, keys, names)
    if nodes[root].problem == "unknown":
        raise RegistryError(
            f"the registry has nothing with the hash {words.short(key)}", do="add it, or look for it with ls"
        )
    return Lineage(root, nodes, tuple((child, parent, role) for child, parent, role, _ in edges))


def dot(lineage: Lineage) -> str:
    """A lineage as text for Graphviz, parents on top.

    Parameters
    ----------
    lineage : Lineage
    """
    lines = ["digraph lineage {", "  rankdir=TB;", '  node [fontname="sans-serif", fontsize=10];']
    for key, node in lineage.nodes.items():
        shape = "box" if node.state else "note"
        style = ', color="red"' if node.problem else ""
        pen = ", penwidth=2" if key == lineage.root else ""
        label = "\\n".join(map(_quoted, _label(node)))
        lines.append(f'  "{_quoted(key)}" [label="{label}", shape={shape}{style}{pen}];')
    for child, parent, role in lineage.edges:
        style = "" if role == "parent" else ' [style="dashed"]'
        lines.append(f'  "{_quoted(parent)}" -> "{_quoted(child)}"{style};')
    return "\n".join([*lines, "}", ""])


def tainted(connection: Connection, identity: str) -> tuple[str, ...]:
    """What of a product's ancestry was withdrawn, in words; the product itself does not count.

    Parameters
    ----------
    connection : Connection
    identity : str
        Of a product, or hash of a calibrated frame.
    """
    gone = _gone_above(connection, identity)
    gone.pop(identity, None)
    return tuple(sentences(connection, gone, gone))


def warnings(connection: Connection, identity: str, revision: int) -> Iterator[str]:
    """What was withdrawn of a product that was chosen as of a revision, and of its ancestry.

    What became known later changes no choice of then, and is told as known since.

    Parameters
    ----------
    connection : Connection
    identity : str
        Of a product.
    revision : int
    """
    gone = _gone_above(connection, identity)
    own = gone.pop(identity, None)
    if own is not None:
        yield f"it was withdrawn since (revision {own.revision}): {own.why}"
    for told, known in ((True, "it is tainted"), (False, "it is tainted, as is known since")):
        some = {key: found for key, found in gone.items() if (found.revision <= revision) is told}
        for sentence in sentences(connection, some, gone):
            yield f"{known}: {sentence}"


def _gone_above(connection: Connection, key: str) -> dict[str, Withdrawal]:
    """A thing and its ancestors, those of them that were withdrawn."""
    rows = connection.execute(_GONE_ABOVE, {"key": key})
    return {row.subject: Withdrawal(row.revision, row.why or "") for row in rows}


def withdrawals(connection: Connection) -> dict[str, Withdrawal]:
    """Everything that was withdrawn, by key.

    Parameters
    ----------
    connection : Connection
    """
    return {row.subject: Withdrawal(row.revision, row.why or "") for row in connection.execute(_WITHDRAWN)}


def descendants(connection: Connection, keys: Iterable[str]) -> dict[str, set[str]]:
    """What was made of some things: key of each descendant -> those of `keys` among its ancestors.

    Parameters
    ----------
    connection : Connection
    keys : iterable of str
    """
    table = schema.lineage
    found: dict[str, set[str]] = {}
    for key in keys:
        waiting, seen = [key], {key}
        while waiting:
            children: list[str] = []
            for some in places.chunks(waiting):
                children += connection.execute(
                    select(table.c.child).where(table.c.parent.in_(some))
                ).scalars()
            waiting = [child for child in dict.fromkeys(children) if child not in seen]
            seen.update(waiting)
            for child in waiting:
                found.setdefault(child, set()).add(key)
    return found


def sentences(connection: Connection, keys: Iterable[str], gone: Mapping[str, Withdrawal]) -> list[str]:
    """A sentence for each withdrawn ancestor.

    Parameters
    ----------
    connection : Connection
    keys : iterable of str
    gone : mapping
        As of `withdrawals`.
    """
    listed = sorted(keys)
    nodes = _nodes(connection, listed, {})
    return [_sentence(nodes[key], gone[key]) for key in listed]


def _sentence(node: Node, withdrawal: Withdrawal) -> str:
    name = f"{node.kind} {words.short(node.key)}" if node.state else f"raw file {node.name}"
    role = "an ancestor" if node.state else "an input"
    return f"{name}, {role}, was withdrawn (revision {withdrawal.revision}): {withdrawal.why}"


def _ancestry(connection: Connection, keys: Iterable[str]) -> list[tuple[str, str, str, str]]:
    """Rows child, parent, role, name of all that leads to some things, nearest first."""
    table = schema.lineage
    waiting, found = list(keys), []
    seen = set(waiting)
    while waiting:
        rows = [
            (child, parent, role, name)
            for some in places.chunks(waiting)
            for child, parent, role, name in connection.execute(
                select(table.c.child, table.c.parent, table.c.role, table.c.name)
                .where(table.c.child.in_(some))
                .order_by(table.c.child, table.c.role.desc(), table.c.name, table.c.parent)
            )
        ]
        found += rows
        waiting = [parent for parent in dict.fromkeys(row[1] for row in rows) if parent not in seen]
        seen.update(waiting)
    return found


def _nodes(connection: Connection, keys: list[str], names: Mapping[str, str]) -> dict[str, Node]:
    """Nodes in the order of their keys."""
    found: dict[str, Node] = {}
    for some in places.chunks(keys):
        found.update((node.key, node) for node in _raw_files(connection, some))
        found.update((node.key, node) for node in _frames(connection, some))
        found.update((node.key, node) for node in _products(connection, some))
    gone = _withdrawals(connection, keys)
    nodes = {}
    for key in keys:
        node = found.get(key) or Node(key, "unknown", names.get(key, ""), problem="unknown")
        if key in gone:
            node = replace(node, problem="withdrawn", facts={**node.facts, "why": gone[key].why})
        nodes[key] = node
    return nodes


def _withdrawals(connection: Connection, keys: list[str]) -> dict[str, Withdrawal]:
    """Of some keys, those that were withdrawn."""
    subject = schema.event.c.subject
    rows = (
        row for some in places.chunks(keys) for row in connection.execute(_WITHDRAWN.where(subject.in_(some)))
    )
    return {row.subject: Withdrawal(row.revision, row.why or "") for row in rows}


def _products(connection: Connection, keys: list[str]) -> Iterator[Node]:
    product, setting = schema.product, schema.setting
    rows = connection.execute(
        select(product, setting.c["keys"])
        .select_from(product.join(setting, setting.c.id == product.c.setting))
        .where(product.c.identity.in_(keys))
    ).all()
    held = places.of_hashes(connection, (row.hash for row in rows))
    states = _states(connection, [row.id for row in rows])
    for row in rows:
        own = keys_of(row._mapping[setting.c["keys"]])
        facts = {"keys": own, "epoch": row.epoch, "hash": row.hash, **json.loads(row.facts)}
        name = " ".join([row.kind, *(f"{key}={words.value(value)}" for key, value in own.items())])
        path = held.get(row.hash, [""])[0]
        yield Node(row.identity, row.kind, name, path, states[row.id], facts=facts)


def _states(connection: Connection, products: list[int]) -> dict[int, str]:
    """``draft``, ``certified``, ``superseded`` or ``withdrawn``."""
    event, validity = schema.event, schema.current_validity
    states = dict.fromkeys(products, "draft")
    for some in places.chunks(products):
        rows = connection.execute(
            select(event.c.product, event.c.kind).where(
                event.c.product.in_(some), event.c.kind.in_(("certified", "withdrawn"))
            )
        ).all()
        states.update((number, "superseded") for number, kind in rows if kind == "certified")
        alive = connection.execute(select(validity.c.product).where(validity.c.product.in_(some))).scalars()
        states.update((number, "certified") for number in alive)
        states.update((number, kind) for number, kind in rows if kind == "withdrawn")
    return states


def _frames(connection: Connection, keys: list[str]) -> Iterator[Node]:
    frame = schema.frame
    rows = connection.execute(select(frame).where(frame.c.hash.in_(keys)).order_by(frame.c.id)).all()
    held = places.of_hashes(connection, (row.hash for row in rows))
    for row in rows:
        path = held.get(row.hash, [""])[0]
        yield Node(
            row.hash,
            "calibrated",
            PurePath(path).name,
            path,
            facts={"hash": row.hash, **json.loads(row.facts)},
        )


def _raw_files(connection: Connection, keys: list[str]) -> Iterator[Node]:
    table = schema.exposure
    rows = connection.execute(select(table).where(table.c.hash.in_(keys)).order_by(table.c.id)).all()
    held = places.of_hashes(connection, (row.hash for row in rows))
    for row in rows:
        facts: dict[str, Any] = {
            name: row._mapping[name] for name in ("instrument", "detector", "filter", "start", "hash")
        }
        yield Node(row.hash, row.kind, row.identifier, held.get(row.hash, [""])[0], facts=facts)


def _label(node: Node) -> Iterator[str]:
    yield node.name or node.kind
    if node.state or not node.name:
        yield words.short(node.key)
    elif node.kind not in node.name:
        yield node.kind
    if node.problem or node.state:
        yield node.problem or node.state


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
