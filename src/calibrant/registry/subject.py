"""The exposure that a question is about."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from calibrant.errors import AmbiguousError, NoMatchError, RegistryError
from calibrant.frame import MICROSECOND, Exposure
from calibrant.registry import places, schema
from calibrant.registry.facts import REREAD, exposure_of, text_of
from calibrant.registry.words import moment, nearest

_exposure = schema.exposure
_KNOWN = select(
    *_exposure.c["id", "instrument", "identifier", "detector", "facts", "hash", "revision", "start"]
).where(_exposure.c.identifier == bindparam("identifier"))
_OF_DETECTOR = _KNOWN.where(_exposure.c.detector == bindparam("detector"))
_WITHDRAWN = (
    select(schema.event.c.why)
    .where(
        schema.event.c.subject == bindparam("subject"),
        schema.event.c.kind == "withdrawn",
        schema.event.c.revision <= bindparam("revision"),
    )
    .order_by(schema.event.c.revision)
    .limit(1)
)
_REREAD = (
    select(schema.event.c.facts)
    .where(
        schema.event.c.subject == bindparam("subject"),
        schema.event.c.kind == REREAD,
        schema.event.c.revision > bindparam("revision"),
    )
    .order_by(schema.event.c.revision)
)
_FRAMES = (
    select(schema.frame.c.hash)
    .where(schema.frame.c.exposure == bindparam("exposure"), schema.frame.c.revision <= bindparam("revision"))
    .order_by(schema.frame.c.revision.desc(), schema.frame.c.id.desc())
)
Detectors = Callable[[str], Sequence[str]]

NEAR = 5000
"""Identifiers looked at for the nearest spelling."""


@dataclass(frozen=True)
class Subject:
    """One exposure that the registry knows.

    Attributes
    ----------
    id : int
        Of its row.
    hash : str
        Of its raw file.
    revision : int
        At which it was ingested.
    """

    id: int
    identifier: str
    instrument: str
    detector: str
    exposure: Exposure
    hash: str
    revision: int


def find(
    connection: Connection,
    identifier: str | int,
    *,
    instrument: str | None = None,
    detector: str | None = None,
    time: int | None = None,
    detectors: Detectors | None = None,
    revision: int | None = None,
) -> Subject:
    """The exposure of that identifier.

    Parameters
    ----------
    connection : Connection
    identifier : str or int
    instrument, detector : str, optional
    time : int, optional
        Microseconds UTC; only exposures that last at that time count.
    detectors : callable, optional
        Instrument -> those detectors that come into question, where none is said.
    revision : int, optional
        Exposures that were known then go before others, with the facts that were known then.

    Raises
    ------
    NoMatchError
        If there is none; the nearest identifiers are named.
    AmbiguousError
        If it is of two instruments, two detectors, or two different files.
    """
    name = str(identifier).strip()
    if detector is None:
        rows = list(connection.execute(_KNOWN, {"identifier": name}))
    else:
        rows = list(connection.execute(_OF_DETECTOR, {"identifier": name, "detector": detector}))
    found = [row for row in rows if instrument is None or row.instrument == instrument]
    if not found:
        raise _unknown(connection, name, instrument, detector)
    if len(found) > 1:
        found = _narrowed(connection, found, name, time, detectors, revision)
    row = found[0]
    return Subject(
        id=row.id,
        identifier=row.identifier,
        instrument=row.instrument,
        detector=row.detector,
        exposure=exposure_of(_facts(connection, row, revision)),
        hash=row.hash,
        revision=row.revision,
    )


def _facts(connection: Connection, row: Row[Any], revision: int | None) -> str:
    """The facts of an exposure as they were known at a revision."""
    if revision is not None:  # the first reading after it keeps what was known then
        for text in connection.execute(_REREAD, {"subject": row.hash, "revision": revision}).scalars():
            kept = json.loads(text)
            if kept["instrument"] == row.instrument:
                return text_of(kept["facts"])
    return str(row.facts)


def _narrowed(
    connection: Connection,
    rows: list[Row[Any]],
    name: str,
    time: int | None,
    detectors: Detectors | None,
    revision: int | None,
) -> list[Row[Any]]:
    """The only row that is meant; rules that would leave none are passed over."""
    if time is not None:
        rows = [row for row in rows if lasts(exposure_of(row.facts), time)] or rows
    _one(rows, name, "instrument", "two instruments with the same detector number")
    if detectors is not None:
        known = detectors(rows[0].instrument)
        rows = [row for row in rows if row.detector in known] or rows
    _one(rows, name, "detector", "an exposure of several detectors")
    if len(rows) > 1 and revision is not None:
        rows = [row for row in rows if row.revision <= revision] or rows
    if len(rows) > 1:
        rows = [row for row in rows if withdrawn(connection, row.hash, revision) is None] or rows
    if len(rows) > 1:
        raise AmbiguousError(
            f"{len(rows)} different files are exposure {name}, detector {rows[0].detector}, "
            f"of {rows[0].instrument}: {' and '.join(_file(connection, row) for row in rows[:2])}",
            do="say the time, or withdraw one of the files",
        )
    return rows


def _one(rows: Sequence[Row[Any]], name: str, column: str, what: str) -> None:
    values = sorted({getattr(row, column) for row in rows}, key=lambda text: (len(text), text))
    if len(values) > 1:
        listed = ", ".join(values[:16]) + (", ..." if len(values) > 16 else "")
        raise AmbiguousError(
            f"exposure {name} is known of {len(values)} {column}s ({what}): {listed}",
            do=f"say which {column}, for example {column}={values[0]}",
        )


def lasts(exposure: Exposure, time: int) -> bool:
    """Whether an exposure was going on at a time, to the second: people do not write microseconds."""
    start, end = bounds(exposure)
    return start is None or end is None or start - MICROSECOND < time < end + MICROSECOND


def bounds(exposure: Exposure) -> tuple[int | None, int | None]:
    """Begin and end of an exposure, microseconds UTC."""
    if exposure.start is None:
        return None, None
    return exposure.start, exposure.start + round((exposure.duration or 0.0) * MICROSECOND)


def _file(connection: Connection, row: Row[Any]) -> str:
    when = f" ({moment(row.start)})" if row.start is not None else ""
    return (places.of_hashes(connection, [row.hash]).get(row.hash) or [row.hash])[0] + when


def withdrawn(connection: Connection, key: str, revision: int | None = None) -> str | None:
    """Why a file or product was withdrawn, as of a revision; None if it was not."""
    values = {"subject": key, "revision": schema.FOREVER if revision is None else revision}
    row = connection.execute(_WITHDRAWN, values).first()
    return None if row is None else row.why or "no reason was given"


def calibrated_hash(connection: Connection, subject: Subject, revision: int) -> str:
    """The newest calibrated frame of an exposure that was not withdrawn.

    Raises
    ------
    NoMatchError
        If there is none.
    """
    reasons = []
    for hash_ in connection.execute(_FRAMES, {"exposure": subject.id, "revision": revision}).scalars():
        why = withdrawn(connection, hash_, revision)
        if why is None:
            return str(hash_)
        reasons.append(f"{hash_[:19]} was withdrawn: {why}")
    raise NoMatchError(
        f"exposure {subject.identifier}, detector {subject.detector}, has no calibrated frame"
        + "".join(f"; {reason}" for reason in reasons[:3]),
        do="reduce it with `calibrant reduce ... --register`",
    )


def _unknown(
    connection: Connection, name: str, instrument: str | None, detector: str | None
) -> RegistryError:
    """The sentence for an exposure that is not known, or not as it was asked for."""
    rows = list(connection.execute(_KNOWN, {"identifier": name}))
    others = sorted({row.instrument for row in rows})
    if rows and instrument is not None and instrument not in others:
        known = list(connection.execute(select(_exposure.c.instrument).distinct()).scalars())
        hint = "" if instrument in known else nearest(instrument, known)
        return NoMatchError(f"exposure {name} is of {', '.join(others)}, not of {instrument}{hint}")
    if rows:
        own = sorted({row.detector for row in rows if instrument in (None, row.instrument)})
        return NoMatchError(f"exposure {name} has no detector {detector}: it has {', '.join(own)}")
    close = _close(connection, name)
    hint = f"; nearest: {', '.join(close)}" if close else ""
    return NoMatchError(
        f"the registry does not know the exposure {name!r}{hint}",
        do="`calibrant registry ingest` records exposures",
    )


def _close(connection: Connection, name: str) -> list[str]:
    """Identifiers spelt alike: of the same day first, where identifiers begin with the day."""
    for length in (8, 4, 2):
        if len(name) < length:
            continue
        like = _exposure.c.identifier.startswith(name[:length], autoescape=True)
        query = select(_exposure.c.identifier).where(like).distinct().order_by(_exposure.c.identifier)
        close = difflib.get_close_matches(name, connection.execute(query.limit(NEAR)).scalars(), 3)
        if close:
            return close
    query = select(_exposure.c.identifier).distinct().limit(NEAR)
    return difflib.get_close_matches(name, connection.execute(query).scalars(), 3)
