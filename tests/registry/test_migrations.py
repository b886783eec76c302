"""Migrations: old databases are upgraded in one transaction, newer ones refused, nothing half."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading

import pytest
from sqlalchemy import insert, inspect, select

from calibrant.errors import OverlapError, RegistryError
from calibrant.registry import engines, migrations, schema
from calibrant.registry.database import Database, head
from calibrant.registry.migrations import MIGRATIONS


@pytest.fixture
def old(where, monkeypatch):
    """Where a registry of version 1 is, with a revision in it."""
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", MIGRATIONS[:1])
        patch.setattr("calibrant.registry.database.MIGRATIONS", MIGRATIONS[:1])
        made = Database.create(where)
        with made.write() as writing:
            writing.event("frozen")
        made.close()
    return where


def versions(database):
    with database.read() as connection:
        rows = connection.execute(select(schema.migration).order_by(schema.migration.c.version)).all()
    return [(row.version, row.name) for row in rows]


def overlaps(database):
    """Whether the database refuses spans that overlap; nothing is stored."""
    with contextlib.suppress(ZeroDivisionError), database.write() as writing:
        connection = writing.connection
        product = {"id": 1, "identity": "p", "setting": 1, "kind": "k", "hash": "h", "facts": ""}
        for table, values in (
            (schema.tag, {"id": 1, "name": "a"}),
            (schema.file, {"hash": "h", "size": 1}),
            (schema.setting, {"id": 1, "kind": "k", "instrument": "i", "detector": "0", "keys": "{}"}),
            (schema.slot, {"id": 1, "tag": 1, "setting": 1}),
            (schema.product, {**product, "revision": 1}),
        ):
            connection.execute(insert(table).values(values))
        for begin in (0, 5):
            event = writing.event("certified")
            values = {"event": event, "slot": 1, "product": 1, "begin": begin, "end": begin + 10}
            connection.execute(insert(schema.current_validity).values(values))
        raise ZeroDivisionError


def test_a_new_one_has_them_all(database):
    assert versions(database) == [(1, "tables"), (2, "validity does not overlap")]
    with database.read() as connection:
        assert set(inspect(connection).get_table_names()) == set(schema.metadata.tables)


def test_an_old_one_is_upgraded(old):
    database = Database.open(old)
    assert len(versions(database)) == len(MIGRATIONS)
    with database.read() as connection:
        assert head(connection)[0] == 1
    with pytest.raises(OverlapError):
        overlaps(database)
    database.close()
    again = Database.open(old)
    assert len(versions(again)) == len(MIGRATIONS)
    again.close()


def test_without_the_second_the_old_one_let_spans_overlap(old, monkeypatch):
    """Or the test before this one would show nothing."""
    monkeypatch.setattr(migrations, "MIGRATIONS", MIGRATIONS[:1])
    monkeypatch.setattr("calibrant.registry.database.MIGRATIONS", MIGRATIONS[:1])
    database = Database.open(old)
    overlaps(database)
    database.close()


def test_two_upgrade_at_once(old):
    found = []

    def upgrade():
        database = Database.open(old)
        found.append(len(versions(database)))
        database.close()

    threads = [threading.Thread(target=upgrade) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [len(MIGRATIONS)] * 4


def test_a_migration_that_is_interrupted_leaves_nothing(old, monkeypatch):
    """Tables that it made and altered are rolled back with it."""

    def half(connection):
        connection.exec_driver_sql("CREATE TABLE half (id INTEGER)")
        connection.exec_driver_sql("ALTER TABLE tag ADD COLUMN half INTEGER")
        raise KeyboardInterrupt

    for first in ([], MIGRATIONS[1:]):
        with monkeypatch.context() as patch:
            changed = [*MIGRATIONS[:1], *first, ("half", half)]
            patch.setattr(migrations, "MIGRATIONS", changed)
            patch.setattr("calibrant.registry.database.MIGRATIONS", changed)
            with pytest.raises(KeyboardInterrupt):
                Database.open(old)
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "MIGRATIONS", MIGRATIONS[:1])
            patch.setattr("calibrant.registry.database.MIGRATIONS", MIGRATIONS[:1])
            database = Database.open(old)
            assert versions(database) == [(1, "tables")]
            with database.read() as connection:
                assert not inspect(connection).has_table("half")
                assert "half" not in {column["name"] for column in inspect(connection).get_columns("tag")}
            database.close()


def test_a_newer_one_is_refused(where):
    database = Database.create(where)
    with database.write() as writing:
        writing.connection.execute(insert(schema.migration).values(version=99, name="later", at=0))
    database.close()
    with pytest.raises(RegistryError, match="made by a newer Calibrant") as caught:
        Database.open(where)
    assert (caught.value.expected, caught.value.got) == ("version 2 or older", "version 99")
    assert caught.value.do == "upgrade Calibrant"
    assert caught.value.where


def test_an_old_one_that_is_read_only_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(migrations, "MIGRATIONS", MIGRATIONS[:1])
    monkeypatch.setattr("calibrant.registry.database.MIGRATIONS", MIGRATIONS[:1])
    Database.create(tmp_path / "old.db").close()
    monkeypatch.undo()
    before = (tmp_path / "old.db").read_bytes()
    with pytest.raises(RegistryError, match="of an older Calibrant, and cannot be upgraded because"):
        Database.open(f"sqlite:///{tmp_path}/old.db?mode=ro")
    assert (tmp_path / "old.db").read_bytes() == before


def test_a_mark_without_tables(tmp_path):
    """Another program with our mark: no table of ours."""
    path = tmp_path / "odd.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {engines.APPLICATION}")
        connection.execute("CREATE TABLE other (id INTEGER)")
        connection.commit()
    with pytest.raises(RegistryError, match="there is no registry in this database"):
        Database.open(path)


RECORDED = "659ddfc6d7f1d4e536f2a7660e73bd11de4aeeb5486bcbf9da3526ebc311ad34"
"""Of what versions 1 and 2 make on SQLite; databases in the field hold exactly this."""


def form(path):
    """Tables, columns, indices, references and triggers of an SQLite file, in an order of their own."""
    with contextlib.closing(sqlite3.connect(path)) as connection:

        def pragma(what, name):
            return connection.execute(f"SELECT * FROM pragma_{what}(?)", (name,)).fetchall()

        names = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
        tables = [name for kind, name, _ in names if kind == "table"]
        return {
            "columns": {table: [row[1:] for row in pragma("table_info", table)] for table in tables},
            "references": {
                table: sorted(row[2:] for row in pragma("foreign_key_list", table)) for table in tables
            },
            "indices": {
                table: sorted(
                    (bool(row[2]), tuple(column[2] for column in pragma("index_info", row[1])))
                    for row in pragma("index_list", table)
                )
                for table in tables
            },
            "triggers": [" ".join(sql.split()) for kind, _, sql in names if kind == "trigger"],
        }


def test_what_the_first_two_versions_make_is_frozen(tmp_path, monkeypatch):
    """Version 1 makes what `schema` has: a change there needs a third migration, and a frozen first one."""
    monkeypatch.setattr(migrations, "MIGRATIONS", MIGRATIONS[:2])
    monkeypatch.setattr("calibrant.registry.database.MIGRATIONS", MIGRATIONS[:2])
    Database.create(tmp_path / "two.db").close()
    found = hashlib.sha256(repr(form(tmp_path / "two.db")).encode()).hexdigest()
    assert found == RECORDED, "freeze the old tables in migrations.py, and alter them in a new function there"


def test_a_column_more_would_be_seen(tmp_path):
    Database.create(tmp_path / "two.db").close()
    before = form(tmp_path / "two.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "two.db")) as connection:
        connection.execute("ALTER TABLE tag ADD COLUMN more INTEGER")
        connection.commit()
    assert form(tmp_path / "two.db") != before
