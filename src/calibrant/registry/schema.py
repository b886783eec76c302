"""The tables of a registry: one description for SQLite and PostgreSQL.

What is reported is never changed: events, exposures, files and products are only added. Two tables are
derived, and kept in the transaction that adds the event: ``current_validity`` and ``tag_member``. The facts
of an exposure are read again on demand: the row holds those of now, the event those of before.
Times are int64 microseconds since 1970 UTC; validity is half-open, [begin, end).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

ALWAYS = -(2**63)
"""Begin of a validity without one, in the derived table."""
FOREVER = 2**63 - 1
"""End of a validity without one, in the derived table."""

metadata = MetaData()

# SQLite counts rows by itself only in an INTEGER key; PostgreSQL needs 64 bits.
_Key = BigInteger().with_variant(Integer(), "sqlite")

migration = Table(
    "calibrant_migration",  # also the mark that a database is ours
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)

head = Table(
    "head",  # one row; updating it takes the write lock on PostgreSQL
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
)

instrument = Table(
    "instrument",  # the model as it was when products were made: matching keys, tolerances, levels
    metadata,
    Column("id", _Key, primary_key=True),
    Column("name", Text, nullable=False),
    Column("model", Text, nullable=False),  # JSON
    Column("revision", BigInteger, nullable=False),
    Index("instrument_by_name", "name", "revision"),
)

file = Table(
    "file",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
)

place = Table(
    "place",
    metadata,
    Column("hash", Text, ForeignKey("file.hash"), primary_key=True),
    Column("path", Text, primary_key=True),  # absolute
    Column("seen", BigInteger, nullable=False),
    Index("place_by_path", "path"),
)

exposure = Table(
    "exposure",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("instrument", Text, nullable=False),
    Column("identifier", Text, nullable=False),  # the header's, else the stem of the file
    Column("detector", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("filter", Text),
    Column("start", BigInteger),
    Column("mid", BigInteger),
    Column("facts", Text, nullable=False),  # JSON of the Exposure
    Column("hash", Text, ForeignKey("file.hash"), nullable=False),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("identifier", "detector", "instrument", "hash"),
    Index("exposure_by_hash", "hash"),
    Index("exposure_by_time", "instrument", "start"),
)

setting = Table(
    "setting",  # each distinct set of keys once: few, while products are many
    metadata,
    Column("id", _Key, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("instrument", Text, nullable=False),
    Column("detector", Text, nullable=False),
    Column("keys", Text, nullable=False),  # JSON, sorted
    UniqueConstraint("kind", "instrument", "detector", "keys"),
)

product = Table(
    "product",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("identity", Text, nullable=False, unique=True),
    Column("setting", _Key, ForeignKey("setting.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("epoch", BigInteger),
    Column("hash", Text, ForeignKey("file.hash"), nullable=False),
    Column("facts", Text, nullable=False),  # JSON: effect, options, versions, created, notes
    Column("revision", BigInteger, nullable=False),  # of its draft
    Index("product_by_setting", "setting", "epoch", "revision"),  # covers counting those of a revision
    Index("product_by_hash", "hash"),
)

frame = Table(
    "frame",  # calibrated frames
    metadata,
    Column("id", _Key, primary_key=True),
    Column("exposure", _Key, ForeignKey("exposure.id"), nullable=False),
    Column("hash", Text, ForeignKey("file.hash"), nullable=False),
    Column("facts", Text, nullable=False),  # JSON: steps, recipe, versions
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("exposure", "hash"),
    Index("frame_by_hash", "hash"),
)

quantity = Table(
    "quantity",
    metadata,
    Column("product", _Key, ForeignKey("product.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("place", Text, primary_key=True),
    Column("value", Float(53)),
    Column("sigma", Float(53)),
    Column("unit", Text, nullable=False),
)

lineage = Table(
    "lineage",  # child: identity of a product, or hash of a calibrated frame; parent: the same, or a raw file
    metadata,
    Column("child", Text, primary_key=True),
    Column("parent", Text, primary_key=True),
    Column("role", Text, primary_key=True),  # input, parent
    Column("name", Text, nullable=False),
    Index("lineage_by_parent", "parent"),
)

verdict = Table(
    "verdict",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("product", _Key, ForeignKey("product.id"), nullable=False),
    Column("passed", Integer, nullable=False),
    Column("items", Text, nullable=False),  # JSON: name, place, value, low, high, unit, passed
    Column("facts", Text, nullable=False),  # JSON: recipe, frames, versions
    Column("revision", BigInteger, nullable=False),
    Index("verdict_by_product", "product", "revision"),
)

tag = Table(
    "tag",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

tag_member = Table(
    "tag_member",  # derived: what `chained` put directly behind `tag`, in this order
    metadata,
    Column("tag", _Key, ForeignKey("tag.id"), primary_key=True),
    Column("member", _Key, ForeignKey("tag.id"), primary_key=True),
    Column("priority", Integer, nullable=False),
)

slot = Table(
    "slot",  # (tag, kind, keys within tolerance): what may hold one product at a time
    metadata,
    Column("id", _Key, primary_key=True),
    Column("tag", _Key, ForeignKey("tag.id"), nullable=False),
    Column("setting", _Key, ForeignKey("setting.id"), nullable=False),
    UniqueConstraint("tag", "setting"),
)

event = Table(
    "event",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),  # draft copied calibrated verified certified ...
    Column("subject", Text),  # identity of a product, or hash of a file
    Column("product", _Key, ForeignKey("product.id")),
    Column("tag", _Key, ForeignKey("tag.id")),
    Column("slot", _Key, ForeignKey("slot.id")),
    Column("begin", BigInteger),
    Column("end", BigInteger),
    Column("ends", BigInteger, ForeignKey("event.revision")),  # the certification that this one ends
    Column("verdict", _Key, ForeignKey("verdict.id")),
    Column("why", Text),
    Column("facts", Text),  # JSON
    Column("who", Text),
    Column("at", BigInteger, nullable=False),  # never before the event before it
    Column("clock", BigInteger, nullable=False),  # as the machine's clock stood
    Index("event_by_product", "product", "kind"),
    Index("event_by_subject", "subject", "kind"),
    Index("event_by_ends", "ends"),
    Index("event_by_slot", "slot", "kind"),
    Index("event_by_time", "at"),
)

current_validity = Table(
    "current_validity",  # derived; no two spans of a slot overlap (a trigger or an exclusion constraint)
    metadata,
    Column("event", BigInteger, ForeignKey("event.revision"), primary_key=True, autoincrement=False),
    Column("slot", _Key, ForeignKey("slot.id"), nullable=False),
    Column("product", _Key, ForeignKey("product.id"), nullable=False),
    Column("begin", BigInteger, nullable=False),  # ALWAYS where there is none
    Column("end", BigInteger, nullable=False),  # FOREVER where there is none
    CheckConstraint('"begin" < "end"', name="validity_is_not_empty"),
    UniqueConstraint("slot", "begin"),
    Index("validity_by_product", "product"),
)

context = Table(
    "context",  # frozen revisions, by name
    metadata,
    Column("name", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("why", Text),
    Column("at", BigInteger, nullable=False),
)
