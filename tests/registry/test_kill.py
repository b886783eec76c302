"""kill -9 of a certifying, ingesting or migrating process: nothing lost that was reported, nothing half."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import inspect, select

from calibrant.registry import schema
from calibrant.registry.database import Database

HERE = Path(__file__).parent
SOAK = bool(os.environ.get("CALIBRANT_SOAK"))
KILLS = {
    ("sqlite", "certifying"): 8, ("sqlite", "ingesting"): 6, ("sqlite", "migrating"): 6,
    ("postgresql", "certifying"): 2, ("postgresql", "ingesting"): 2, ("postgresql", "migrating"): 2,
}  # fmt: skip
"""At random points: 20 without a server, ten times as many in `make soak`."""


def module(name):
    """A file beside this one: the tests are no package."""
    spec = importlib.util.spec_from_file_location(f"registry_{name}", HERE / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


worker, oracle = module("worker"), module("oracle")


def lines(report):
    """What was reported; a line that the kill cut off was not."""
    text = report.read_text() if report.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


class Victim:
    """A worker that will be killed."""

    def __init__(self, folder, job, where, number):
        self.report, self.flag = folder / f"{number}.report", folder / f"{number}.flag"
        self.flag.write_bytes(b"\0")
        words = [sys.executable, HERE / "worker.py", job, where, self.report, self.flag, str(number)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE)

    def kill(self, chance):
        """Kill it at a random moment, two times in three after it began a transaction; was it in one?"""
        self._wait(lambda: self.report.exists() and self.report.stat().st_size)
        time.sleep(chance.uniform(0, 0.05))
        if chance.random() < 2 / 3:
            self._wait(lambda: self.flag.read_bytes() == b"\1")
            time.sleep(chance.uniform(0, 0.003))
        self.process.send_signal(signal.SIGKILL)
        errors = self.process.communicate()[1]
        assert self.process.returncode == -signal.SIGKILL, errors.decode()
        return self.flag.read_bytes() == b"\1"

    def _wait(self, ready):
        until = time.monotonic() + 60
        while not ready():
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                pytest.fail(f"the worker ended by itself: {self.process.communicate()[1].decode()}")
            time.sleep(0.0002)


def dialect(where):
    return "postgresql" if "://" in where else "sqlite"


def kills(where, job):
    return KILLS[dialect(where), job] * (10 if SOAK else 1)


def stored(where):
    database = Database.open(where)
    try:
        return oracle.whole(database)
    finally:
        database.close()


def inside_enough(inside, folder):
    """The log says that a third of the kills or more landed inside a transaction."""
    (folder / "kills.log").write_text("".join(f"{number} {one}\n" for number, one in enumerate(inside)))
    print(f"{sum(inside)} of {len(inside)} kills landed inside a transaction")
    assert sum(inside) * 3 >= len(inside), f"inside a transaction: {inside}"


@pytest.mark.parametrize("job", ["certifying", "ingesting"])
def test_a_process_that_is_killed(job, where, tmp_path):
    chance = random.Random(f"{job} {dialect(where)}")
    worker.prepare(where)
    known, inside = stored(where), []
    for number in range(kills(where, job)):
        victim = Victim(tmp_path, job, where, number)
        inside.append(victim.kill(chance))
        events = stored(where)
        reported = [event for made in lines(victim.report) for event in made]
        assert reported, "nothing was done before the kill"
        assert events[: len(known)] == known
        assert events[-1][1] == worker.END
        later = events[len(known) :]
        assert later[: len(reported)] == reported
        # At most the one transaction that was being stored, whole.
        assert [kind for _, kind, _ in later[len(reported) :]].count(worker.END) <= 1
        known = events
    inside_enough(inside, tmp_path)


@pytest.fixture
def many(request, where):
    """Where registries can be made, by their NUMBER; their schemas are dropped at the end."""
    if dialect(where) == "sqlite":
        yield where.replace(".db", "-NUMBER.db")
        return
    start, _, name = where.rpartition("%3D")
    yield f"{start}%3D{name}_NUMBER"
    from sqlalchemy import create_engine

    engine = create_engine(start.partition("?")[0], isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("SET client_min_messages = error")
        for one in inspect(connection).get_schema_names():
            if one.startswith(f"{name}_"):
                connection.exec_driver_sql(f"DROP SCHEMA {one} CASCADE")
    engine.dispose()


def state(where):
    """Version and tables of a registry, without upgrading it."""
    from calibrant.registry import engines
    from calibrant.registry.address import address

    target = address(where)
    engine = engines.postgresql(target) if target.path is None else engines.sqlite(target.path, False)
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        found = None
        if schema.migration.name in tables:
            found = len(connection.execute(select(schema.migration)).all())
            columns = {column["name"] for column in inspect(connection).get_columns("tag")}
            tables |= {f"tag.{name}" for name in columns}
        if engine.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    engine.dispose()
    return found, frozenset(tables)


def test_a_migration_that_is_killed(many, tmp_path):
    chance = random.Random(f"migrating {dialect(many)}")
    ours = set(schema.metadata.tables) | {f"tag.{column.name}" for column in schema.tag.columns}
    steps = {f"{where}step_{number}" for number in range(worker.STEPS) for where in ("", "tag.")}
    old, new = (1, frozenset(ours)), (2 + worker.STEPS, frozenset(ours | steps))
    inside, begun = [], 0
    for number in range(kills(many, "migrating")):
        mine = many.replace("NUMBER", f"{number}_NUMBER")
        victim = Victim(tmp_path, "migrating", mine, number)
        inside.append(victim.kill(chance))
        done = len(lines(victim.report))
        assert done
        for turn in range(done):
            assert state(mine.replace("NUMBER", str(turn))) == new
        last = mine.replace("NUMBER", str(done))
        if dialect(many) == "postgresql" or Path(last).exists():
            assert state(last) in (old, new, (None, frozenset()))
            begun += 1
    assert begun
    inside_enough(inside, tmp_path)
