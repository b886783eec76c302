"""The database: made, opened or refused, read in snapshots, written in transactions; what drivers say."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
import time

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from calibrant.errors import (
    CalibrantError,
    DatabaseError,
    OutputExistsError,
    OverlapError,
    RegistryError,
    WriteError,
)
from calibrant.registry import database as rooms
from calibrant.registry import engines, failures, schema
from calibrant.registry.address import address
from calibrant.registry.database import Database, head
from calibrant.registry.mounts import file_system
from calibrant.registry.schema import ALWAYS, FOREVER

SECRET = "hunter2"


def revision(database):
    with database.read() as connection:
        return head(connection)[0]


# --- making and opening ---


def test_made_once_and_opened_again(where):
    made = Database.create(where)
    with made.write() as writing:
        assert writing.event("frozen", subject="a") == 1
    made.close()
    with pytest.raises(OutputExistsError, match="a registry is there already"):
        Database.create(where)
    again = Database.open(where)
    assert revision(again) == 1
    assert again.notes == ()
    assert again.dialect in again.url
    assert not again.read_only
    again.close()
    again.close()


def test_a_missing_one_is_not_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for where in ("calibrant.db", tmp_path / "no" / "calibrant.db", "sqlite:///calibrant.db"):
        with pytest.raises(RegistryError, match="there is no registry; make it with: calibrant registry"):
            Database.open(where)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_one_on_a_server(postgresql):
    with pytest.raises(RegistryError, match="there is no registry in this database; make it with"):
        Database.open(postgresql)
    with pytest.raises(RegistryError, match="no such database on the server; make it with: createdb"):
        Database.open(postgresql.partition("?")[0].rpartition("/")[0] + "/nothing_of_that_name")


def test_urls_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Database.create("sqlite:///here.db").close()
    assert [path.name for path in tmp_path.iterdir()] == ["here.db"]
    again = Database.open(f"sqlite:///{tmp_path}/here.db")
    assert again.url == f"sqlite:///{tmp_path}/here.db"
    again.close()


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "wh?t#.db", "ü';--.db"])
def test_odd_names(name, tmp_path):
    made = Database.create(tmp_path / name)
    with made.write() as writing:
        writing.event("frozen")
    made.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_through_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here.db").symlink_to(tmp_path / "there" / "calibrant.db")
    database = Database.create(tmp_path / "here.db")
    assert database.url.endswith("/there/calibrant.db")
    with database.write() as writing:
        writing.event("frozen")
    database.close()
    assert (tmp_path / "here.db").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.db", "there"]


@pytest.mark.parametrize("where", ["mysql://u@h/d", "sqlite://", "sqlite:///:memory:", "://", "x://u@h:a/d"])
def test_other_urls_are_refused(where):
    with pytest.raises(RegistryError):
        Database.open(where)


def other_program(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE event (id INTEGER)")
        connection.commit()


def other_in_wal(path):
    """With a journal that is not in the file yet, as after a kill."""
    source = path.with_name("source")
    with contextlib.closing(sqlite3.connect(source)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE event (id INTEGER)")
        connection.commit()
        for end in ("", "-wal"):
            shutil.copy(f"{source}{end}", f"{path}{end}")
    source.unlink()


@pytest.mark.parametrize(
    "make",
    [
        other_program,
        other_in_wal,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"SIMPLE  =                    T" * 99),
        lambda path: path.write_bytes(b"SQLite format 3\0 and no more"),
        lambda path: path.mkdir(),
    ],
    ids=["sqlite", "wal", "empty", "fits", "torn", "folder"],
)
def test_what_belongs_to_another_is_left_as_it_is(make, tmp_path):
    path = tmp_path / "theirs.db"
    make(path)

    def bytes_there():
        return {item.name: item.read_bytes() for item in tmp_path.iterdir() if item.is_file()}

    before = bytes_there()
    with pytest.raises(RegistryError, match="not a registry"):
        Database.open(path)
    with pytest.raises(OutputExistsError, match="something that is not a registry is there"):
        Database.create(path)
    assert bytes_there() == before


def test_tables_of_another_program_on_a_server(postgresql):
    engine = engines.postgresql(address(postgresql))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE event (id int)"))
    with pytest.raises(RegistryError, match="tables of another program: event"):
        Database.create(postgresql)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM event")).scalar() == 0
        connection.execute(text("ALTER TABLE event RENAME TO theirs"))
    engine.dispose()
    Database.create(postgresql).close()  # beside tables of other names


def test_the_journal_of_a_removed_database_is_not_played_into_a_new_one(tmp_path):
    path = tmp_path / "calibrant.db"
    other_in_wal(path)
    path.unlink()
    with pytest.raises(RegistryError, match="this journal was left of a database that is gone"):
        Database.create(path)
    (tmp_path / "calibrant.db-wal").unlink()
    Database.create(path).close()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(WriteError, match="the folder does not exist"):
        Database.create(tmp_path / "no" / "calibrant.db")


def test_two_create_at_once(where):
    found = []

    def make():
        try:
            Database.create(where).close()
            found.append("made")
        except OutputExistsError:
            found.append("there")

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["made", "there", "there", "there"]


# --- transactions ---


def test_events_are_numbered_without_gaps(database):
    with database.write() as writing:
        assert writing.event("frozen", subject="a", facts={"b": 1, "a": 2}) == 1
        assert writing.events("draft", [{"subject": "x"}, {"why": "y"}]) == [2, 3]
        assert writing.events("draft", []) == []
        assert writing.revision == 3
    with pytest.raises(ZeroDivisionError), database.write() as writing:
        assert writing.event("frozen") == 4
        raise ZeroDivisionError
    with database.write() as writing:
        assert writing.revision == 3
        assert writing.event("frozen", facts="{}") == 4
    with database.read() as connection:
        rows = connection.execute(select(schema.event).order_by(schema.event.c.revision)).all()
    assert [row.revision for row in rows] == [1, 2, 3, 4]
    assert [row.facts for row in rows] == ['{"a": 2, "b": 1}', None, None, "{}"]
    assert rows[0].at == rows[1].at <= rows[3].at
    assert abs(rows[3].at - time.time_ns() // 1000) < 60_000_000


def test_a_snapshot_does_not_move(database):
    with database.read() as connection:
        assert head(connection)[0] == 0
        with database.write() as writing:
            writing.event("frozen")
        assert head(connection)[0] == 0
        assert connection.execute(select(schema.event)).all() == []
    assert revision(database) == 1


def test_nothing_can_be_written_while_reading(postgresql):
    database = Database.create(postgresql)
    with pytest.raises(RegistryError, match="read-only"), database.read() as connection:
        connection.execute(insert(schema.tag).values(name="a"))
    database.close()


def test_writers_wait_for_each_other(database):
    """From many threads, over one pool."""

    def work():
        for _ in range(20):
            with database.write() as writing:
                writing.event("frozen")
            revision(database)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert revision(database) == 100


def test_a_writer_that_waits_too_long(where, monkeypatch):
    monkeypatch.setattr(engines, "PATIENCE", 0.1)
    monkeypatch.setattr(rooms, "PATIENCE", 0.1)
    database = Database.create(where)
    with database.write() as writing:
        held = pytest.raises(DatabaseError, match="others held the database for too long")
        with held as caught, database.write():
            pass
        assert caught.value.exit_code == 1
        writing.event("frozen")
    assert revision(database) == 1
    database.close()


def test_a_clock_that_jumps_back(database, monkeypatch):
    now = rooms.clock()
    monkeypatch.setattr(rooms, "clock", lambda: now)
    with database.write() as writing:
        writing.event("frozen")
        assert (writing.at, writing.notes) == (now, [])
    monkeypatch.setattr(rooms, "clock", lambda: now - 3 * 3600 * 10**6)
    with database.write() as writing:
        writing.event("frozen")
        assert writing.at == now
        assert writing.notes == [
            "the clock of this machine stands 3.0 h behind the registry; events are dated as the last one"
        ]
    monkeypatch.setattr(rooms, "clock", lambda: now - 10)  # as two machines differ
    with database.write() as writing:
        assert writing.notes == []
    monkeypatch.setattr(rooms, "clock", lambda: now + 5)
    with database.write() as writing:
        writing.event("frozen")
    with database.read() as connection:
        rows = connection.execute(
            select(schema.event.c.at, schema.event.c.clock).order_by(schema.event.c.revision)
        ).all()
        assert head(connection) == (3, now + 5)
    assert rows == [(now, now), (now, now - 3 * 3600 * 10**6), (now + 5, now + 5)]


# --- overlap, in the database itself ---


def slotted(connection):
    """Two slots, one product and events 1 to 30, by bare rows."""
    product = {
        "id": 1,
        "identity": "p",
        "setting": 1,
        "kind": "flat",
        "hash": "h",
        "facts": "",
        "revision": 1,
    }
    for table, rows in (
        (schema.tag, [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]),
        (schema.setting, [{"id": 1, "kind": "flat", "instrument": "i", "detector": "0", "keys": "{}"}]),
        (schema.file, [{"hash": "h", "size": 1}]),
        (schema.product, [{**product, "revision": 1}]),
        (schema.slot, [{"id": 1, "tag": 1, "setting": 1}, {"id": 2, "tag": 2, "setting": 1}]),
        (schema.event, [{"revision": n, "kind": "certified", "at": 0, "clock": 0} for n in range(1, 31)]),
    ):
        connection.execute(insert(table), rows)


def span(connection, event, begin, end, slot=1):
    values = {"event": event, "slot": slot, "product": 1, "begin": begin, "end": end}
    connection.execute(insert(schema.current_validity).values(values))


@pytest.fixture
def spans(database):
    """The spans [10, 20) and [30, for ever) in slot 1; a function that tries another."""
    with database.write() as writing:
        slotted(writing.connection)
        span(writing.connection, 1, 10, 20)
        span(writing.connection, 2, 30, FOREVER)

    def attempt(begin, end, slot=1):
        with database.write() as writing:
            span(writing.connection, 3, begin, end, slot)

    return attempt


@pytest.mark.parametrize("begin, end", [(20, 30), (ALWAYS, 10), (0, 1), (25, 26)])
def test_spans_may_touch(spans, begin, end):
    spans(begin, end)


@pytest.mark.parametrize(
    "begin, end",
    [
        (10, 20), (19, 25), (5, 11), (12, 15), (5, 25), (20, 31), (25, FOREVER), (FOREVER - 1, FOREVER),
        (ALWAYS, FOREVER), (ALWAYS, 11), (30, 40), (1000, 2000),
    ],
)  # fmt: skip
def test_spans_never_overlap(spans, begin, end):
    with pytest.raises(OverlapError, match="would overlap that of another certification"):
        spans(begin, end)
    spans(begin, end, slot=2)


def test_nor_by_an_update(database, spans):
    table = schema.current_validity
    change = table.update().where(table.c.event == 1)
    with pytest.raises(OverlapError), database.write() as writing:
        writing.connection.execute(change.values(end=31))
    with database.write() as writing:
        writing.connection.execute(change.values(begin=5, end=30))


def test_an_empty_span_is_refused(spans):
    with pytest.raises(DatabaseError, match="the database refused a row; nothing was written"):
        spans(25, 25)


# --- read-only ---


def test_a_url_that_asks_to_read_only(tmp_path):
    Database.create(tmp_path / "calibrant.db").close()
    database = Database.open(f"sqlite:///{tmp_path}/calibrant.db?mode=ro")
    assert revision(database) == 0
    with pytest.raises(RegistryError, match="the database is read-only") as caught, database.write():
        pass
    assert caught.value.exit_code == 2
    writer = Database.open(tmp_path / "calibrant.db")
    with writer.write() as writing:
        writing.event("frozen")
    assert revision(database) == 1  # what others write is seen
    with pytest.raises(RegistryError, match="read-only"), database.read() as connection:
        connection.execute(insert(schema.tag).values(name="a"))
    writer.close()
    database.close()


# --- file systems ---

MOUNTS = r"""
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
40 22 0:35 / /home rw - nfs4 server:/home rw,vers=4.2
41 40 0:36 / /home/local rw,noatime shared:5 master:2 - xfs /dev/sdb1 rw
42 22 0:37 / /mnt/two\040words rw - cifs //server/share rw
43 22 0:38 / /scratch rw - lustre 10.0.0.1@tcp:/scratch rw
44 22 0:39 / /ssh rw - fuse.sshfs me@server: rw
45 22 0:40 / /again rw - ext4 /dev/sdc1 rw
46 45 0:41 / /again rw - beegfs beegfs_nodev rw
nonsense
"""


@pytest.mark.parametrize(
    "path, kind",
    [
        ("/", "ext4"),
        ("/homes/x.db", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/x.db", "nfs4"),
        ("/home/local/x.db", "xfs"),
        ("/home/locals/x.db", "nfs4"),
        ("/mnt/two words/x.db", "cifs"),
        ("/scratch/x.db", "lustre"),
        ("/ssh/x.db", "sshfs"),
        ("/again/x.db", "beegfs"),
    ],
)
def test_the_file_system_of_a_path(path, kind):
    assert file_system(path, MOUNTS) == kind
    assert file_system(path, "") == ""


def test_a_network_file_system_is_told_and_has_no_wal(tmp_path, monkeypatch):
    local = Database.create(tmp_path / "moved.db")
    local.close()
    monkeypatch.setattr(rooms, "network", lambda path: "nfs4")
    for open_ in (lambda: Database.open(tmp_path / "moved.db"), lambda: Database.create(tmp_path / "new.db")):
        database = open_()
        assert "lies on a network file system (nfs4)" in database.notes[0]
        assert "for a team, use PostgreSQL" in database.notes[0]
        with database.write() as writing:
            writing.event("frozen")
            assert not list(tmp_path.glob("*-wal"))
        with database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
        database.close()
    monkeypatch.undo()
    back = Database.open(tmp_path / "moved.db")
    with back.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    back.close()


# --- what goes wrong, in words ---


def stranger(url):
    return url.replace("calibrant@", f"stranger:{SECRET}@", 1)


@pytest.mark.parametrize(
    "change, error, words",
    [
        (stranger, RegistryError, "does not let this user in; check user and password"),
        (lambda url: f"{stranger(url)}&sslpassword={SECRET}", RegistryError, "does not let this user in"),
        (lambda url: f"postgresql://u:{SECRET}@127.0.0.1:1/x", DatabaseError, "the server cannot be reached"),
        (lambda url: f"postgresql://u:{SECRET}@nohost.invalid/x", DatabaseError, "cannot be reached"),
        (lambda url: f"{url}&password={SECRET}&nonsense={SECRET}", DatabaseError, 'option "nonsense"'),
        (lambda url: f"postgresql://u:{SECRET}@host:{SECRET}/x", RegistryError, "this is not the URL"),
        (lambda url: f"mysql://u:{SECRET}@host/x", RegistryError, "this is not the URL"),
    ],
    ids=["wrong", "query", "port", "host", "option", "odd", "mysql"],
)  # fmt: skip
@pytest.mark.parametrize("verb", [Database.open, Database.create], ids=["open", "create"])
def test_passwords_are_never_shown(change, error, words, verb, postgresql):
    with pytest.raises(error, match=words) as caught:
        verb(change(postgresql))
    raised = caught.value
    assert SECRET not in f"{raised} {raised!r} {raised.args}"
    assert raised.__cause__ is None
    assert raised.__suppress_context__ or raised.__context__ is None


def test_the_url_is_shown_without_passwords():
    given = address(f"postgresql://me:{SECRET}@host/x?password={SECRET}&sslpassword={SECRET}&a=b")
    assert given.masked.startswith("postgresql+psycopg://me:***@host/x?")
    assert SECRET not in given.masked
    assert given.masked.count("***") == 4  # and an option that nobody knows
    assert given.scrubbed(f"no {SECRET}!") == "no ***!"


@pytest.mark.parametrize(
    "url", ["p@{}@host/x", "{}@{}/r@host/x", "p@h?{}@host/x=1"], ids=["host", "database", "query"]
)
def test_a_password_with_a_bare_at_sign_is_refused_without_showing_it(url):
    with pytest.raises(RegistryError, match=r"more than one @; write an @ .* as %40") as caught:
        address(f"postgresql://me:{url.format(SECRET, SECRET)}")
    assert SECRET not in f"{caught.value} {caught.value!r}" and caught.value.__context__ is None


@pytest.mark.parametrize("verb", ["read", "write"])
def test_a_connection_that_the_server_ends(verb, postgresql):
    database = Database.create(postgresql)
    end = text("SELECT pg_terminate_backend(:pid)")
    with (
        pytest.raises(DatabaseError, match="the connection to the database was lost; try again; look first"),
        getattr(database, verb)() as held,
    ):
        connection = held.connection if verb == "write" else held
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        with database.read() as other:
            other.execute(end, {"pid": pid})
        if verb == "write":
            held.event("frozen")
        connection.execute(select(schema.head)).all()
    with database.write() as writing:  # the next one has a new connection
        assert writing.event("frozen") == 1
    database.close()


@pytest.mark.parametrize(
    "state, error",
    [
        ("53100", WriteError),
        ("25006", RegistryError),
        ("55P03", DatabaseError),
        ("08006", DatabaseError),
        ("42501", RegistryError),
        ("42P01", DatabaseError),
    ],
)
def test_codes_of_postgresql(state, error):
    class Failure(Exception):
        sqlstate = state

    found = failures.explained(OperationalError("SELECT 1", {}, Failure("words")), address("x.db"))
    assert type(found) is error
    assert "SELECT" not in str(found)


@pytest.mark.parametrize(
    "code, error, words",
    [
        (5, DatabaseError, "others held"),
        (8, RegistryError, "read-only"),
        (11, DatabaseError, "damaged"),
        (13, WriteError, "the disk is full; nothing was written"),
        (14, DatabaseError, "cannot be opened"),
        (261, DatabaseError, "others held"),
        (10, DatabaseError, "the database failed"),
        (4874, WriteError, "the disk is full"),
    ],
)
def test_codes_of_sqlite(code, error, words):
    driver = sqlite3.OperationalError("words of the driver")
    driver.sqlite_errorcode = code
    for raised in (driver, OperationalError("SELECT 1", {}, driver)):
        found = failures.explained(raised, address("x.db"))
        assert type(found) is error
        assert words in str(found)
        assert "SELECT" not in str(found)


def test_a_row_that_is_refused(database):
    with pytest.raises(CalibrantError, match="the database refused a row"), database.write() as writing:
        writing.connection.execute(insert(schema.tag), [{"name": "a"}, {"name": "a"}])
    with pytest.raises(CalibrantError, match="the database refused a row"), database.write() as writing:
        writing.event("draft", product=99)  # no such product
    with database.write() as writing:
        with contextlib.suppress(IntegrityError), writing.connection.begin_nested():
            writing.connection.execute(insert(schema.tag), [{"name": "a"}, {"name": "a"}])
        writing.event("frozen")  # whoever expects a refusal may go on
    assert revision(database) == 1


def test_a_damaged_file(tmp_path):
    path = tmp_path / "calibrant.db"
    made = Database.create(path)
    with made.write() as writing:
        writing.events("draft", [{"why": "x" * 1000}] * 100)
    made.close()
    content = bytearray(path.read_bytes())
    content[4096:-4096] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(bytes(content))
    with pytest.raises(DatabaseError, match=r"calibrant.db: the database is damaged; restore it from a copy"):
        database = Database.open(path)
        with database.read() as connection:
            connection.execute(select(schema.event)).all()
