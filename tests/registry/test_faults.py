"""A full disk, a disk that may only be read, and files that come and go beside the database."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys

import pytest
from sqlalchemy import func, select

from calibrant.errors import RegistryError, WriteError
from calibrant.registry import schema
from calibrant.registry.database import Database, head


def fill(folder):
    """Leave no room on a file system."""
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as out:
        while True:
            out.write(b"x" * 4096)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def count(database):
    with database.read() as connection:
        events = connection.execute(select(func.count()).select_from(schema.event)).scalar()
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert head(connection)[0] == events
    return events


def write(database, rows=1):
    with database.write() as writing:
        writing.events("draft", [{"why": "x" * 1000}] * rows)


# --- full ---


def test_a_full_disk(small_disk):
    database = Database.create(small_disk / "calibrant.db")
    stored = 0
    full = pytest.raises(WriteError, match="the disk is full; nothing was written; make room first")
    with full as caught:
        for _ in range(10_000):
            write(database, rows=20)
            stored += 20
    assert caught.value.exit_code == 1
    assert stored > 0
    assert count(database) == stored
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    write(database, rows=20)
    assert count(database) == stored + 20
    database.close()


def test_a_transaction_larger_than_the_disk(small_disk):
    database = Database.create(small_disk / "calibrant.db")
    write(database)
    with pytest.raises(WriteError, match="the disk is full"):
        write(database, rows=5000)
    assert count(database) == 1
    database.close()
    again = Database.open(small_disk / "calibrant.db")
    assert count(again) == 1
    again.close()


def test_no_room_to_make_one(small_disk):
    fill(small_disk)
    with pytest.raises(WriteError, match="the disk is full"):
        Database.create(small_disk / "calibrant.db")
    assert names(small_disk) == ["filler"]


def test_opening_where_there_is_no_room(small_disk):
    """Either it can be read, or it is said why not."""
    Database.create(small_disk / "calibrant.db").close()
    fill(small_disk)
    with contextlib.suppress(WriteError):
        database = Database.open(small_disk / "calibrant.db")
        assert count(database) == 0
        with pytest.raises(WriteError, match="the disk is full"):
            write(database, rows=5000)
        database.close()
    (small_disk / "filler").unlink()
    database = Database.open(small_disk / "calibrant.db")
    write(database)
    database.close()


# --- read-only: root may write anywhere, but not on a file system that is mounted so ---


@pytest.fixture
def remount(small_disk):
    def change(how):
        subprocess.run(["mount", "-o", f"remount,{how}", str(small_disk)], check=True)

    yield change
    change("rw")


def test_a_disk_that_may_only_be_read(small_disk, remount):
    path = small_disk / "calibrant.db"
    database = Database.create(path)
    write(database, rows=3)
    database.close()
    remount("ro")
    database = Database.open(path)
    assert database.read_only
    assert count(database) == 3
    with pytest.raises(RegistryError, match="the database is read-only; write where writing is allowed"):
        write(database)
    with pytest.raises(WriteError):
        Database.create(small_disk / "other.db")
    remount("rw")  # somebody else goes on
    other = Database.open(path)
    write(other)
    assert count(database) == 4
    other.close()
    remount("ro")
    assert count(database) == 4
    database.close()


CRASH = """
import os, sys
from calibrant.registry.database import Database
database = Database.open(sys.argv[1])
with database.write() as writing:
    writing.events("draft", [{}] * 3)
os._exit(0)
"""


def test_a_database_that_was_not_closed_on_a_disk_that_may_only_be_read(small_disk, remount):
    """What was reported is in the journal alone: it is read, too, or it is said that it cannot be."""
    path = small_disk / "calibrant.db"
    Database.create(path).close()
    subprocess.run([sys.executable, "-c", CRASH, str(path)], check=True)
    assert (small_disk / "calibrant.db-wal").stat().st_size > 0
    remount("ro")
    database = Database.open(path)
    assert count(database) == 3
    database.close()
    remount("rw")
    (small_disk / "calibrant.db-shm").unlink()
    remount("ro")
    with pytest.raises(RegistryError, match="its last changes are in the journal beside it") as caught:
        Database.open(path)
    assert "open it once where writing is allowed" in str(caught.value)


def test_a_copy_without_its_journal_is_whole(tmp_path):
    """After `close`, one file is the registry."""
    database = Database.create(tmp_path / "calibrant.db")
    write(database, rows=100)
    database.close()
    assert names(tmp_path) == ["calibrant.db"]
    shutil.copy(tmp_path / "calibrant.db", tmp_path / "copy.db")
    copy = Database.open(tmp_path / "copy.db")
    assert count(copy) == 100
    copy.close()


FORGETFUL = """
import sys
from calibrant.registry.database import Database
kept = Database.create(sys.argv[1])
with kept.write() as writing:
    writing.event("frozen")
"""


def test_a_process_that_forgets_to_close(tmp_path):
    words = [sys.executable, "-X", "dev", "-W", "error", "-c", FORGETFUL, str(tmp_path / "a.db")]
    assert subprocess.run(words, check=True, capture_output=True).stderr == b""
    assert names(tmp_path) == ["a.db"]


def test_a_file_that_goes_away(tmp_path):
    """A database moved while it is open: what is said, and that none is made in its place."""
    path = tmp_path / "calibrant.db"
    database = Database.create(path)
    write(database)
    database.close()
    database = Database.open(f"sqlite:///{path}?mode=ro")
    path.rename(tmp_path / "moved.db")
    with pytest.raises(Exception, match=r"calibrant.db: the database cannot be opened; check that its file"):
        count(database)
    assert not path.exists()
    database.close()
