"""What a registry must be, told from its events alone, without the program's own rooms."""

from __future__ import annotations

import json
from itertools import pairwise

from sqlalchemy import func, select

from calibrant.registry import schema


def alive(events):
    """Certifications that stand: {revision: (slot, product, begin, end)}."""
    found = {}
    for event in events:
        if event.kind == "certified":
            begin = schema.ALWAYS if event.begin is None else event.begin
            end = schema.FOREVER if event.end is None else event.end
            found[event.revision] = (event.slot, event.product, begin, end)
        elif event.kind == "superseded":
            del found[event.ends]
        elif event.kind == "withdrawn":
            found = {key: row for key, row in found.items() if row[1] != event.product}
    return found


def whole(database):
    """Nothing half, nothing twice; returns the events as (revision, kind, subject)."""
    with database.read() as connection:
        if database.dialect == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        event, validity, exposure = schema.event, schema.current_validity, schema.exposure
        events = connection.execute(select(event).order_by(event.c.revision)).all()
        head = connection.execute(select(schema.head)).one()
        derived = connection.execute(select(validity)).all()
        ingested = connection.execute(
            select(exposure.c.revision, func.count()).group_by(exposure.c.revision)
        ).all()
        files = connection.execute(select(func.count()).select_from(schema.file)).scalar()
        places = connection.execute(select(func.count()).select_from(schema.place)).scalar()
        products = connection.execute(select(func.count()).select_from(schema.product)).scalar()
    assert [row.revision for row in events] == list(range(1, len(events) + 1))
    assert (head.revision, head.at) == (events[-1].revision, events[-1].at)
    assert all(one.at <= other.at for one, other in pairwise(events))
    spans = {row.event: (row.slot, row.product, row.begin, row.end) for row in derived}
    assert spans == alive(events)
    ordered = sorted((slot, begin, end) for slot, _, begin, end in spans.values())
    assert all(one[0] != other[0] or one[2] <= other[1] for one, other in pairwise(ordered))
    counts = {row.revision: json.loads(row.facts)["count"] for row in events if row.kind == "ingested"}
    assert counts == dict(ingested)
    assert files == places == products + sum(counts.values())
    return [[row.revision, row.kind, row.subject] for row in events]
