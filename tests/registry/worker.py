"""A process of its own that writes into a registry until it is killed, or its time is over.

It appends a line to its report after each commit, and holds the first byte of its flag at 1 while a
transaction is open. Both outlive a kill: they are with the kernel.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import random
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, select

from calibrant.errors import OverlapError
from calibrant.frame import Exposure
from calibrant.instrument import load
from calibrant.registry import database as rooms
from calibrant.registry import events, migrations, schema
from calibrant.registry.database import Database
from calibrant.registry.ingest import ingest
from calibrant.registry.records import Draft, Item, Verdict

CAMERA = load("generic-ccd")
PRODUCTS = 8
END = "end"  # the last event of each transaction: what is without it is half
STEPS = 30  # of a migration that is long enough to be killed in


def sha(word):
    return f"sha256:{word.encode().hex():0<64}"


def identity(number):
    return sha(f"flat {number}")


def prepare(where):
    """A registry with verified products, all of one slot."""
    database = Database.create(where)
    with database.write() as writing:
        drafts = [
            Draft(
                identity(n),
                "flat",
                CAMERA.name,
                {"detector": "0", "filter": "r"},
                n,
                f"/{n}.fits",
                sha(f"file {n}"),
                1,
            )
            for n in range(PRODUCTS)
        ]
        events.add(writing, drafts, {CAMERA.name: CAMERA})
        for n in range(PRODUCTS):
            item = Item("level", 1.0, 0.0, None)
            events.verified(writing, Verdict(identity(n), "flat", (item,)))
        writing.event(END)
    database.close()


def old_steps():
    """The migrations as they were in version 1."""
    use(migrations.MIGRATIONS[:1])


def use(steps):
    migrations.MIGRATIONS = rooms.MIGRATIONS = steps


def step(number):
    """A migration that makes a table, alters another, and fills both."""

    def apply(connection):
        connection.exec_driver_sql(f"CREATE TABLE step_{number} (id INTEGER)")
        connection.exec_driver_sql(f"ALTER TABLE tag ADD COLUMN step_{number} INTEGER")
        connection.exec_driver_sql(f"INSERT INTO step_{number} VALUES ({number})")

    return f"step {number}", apply


class Worker:
    """The process: where it writes, what it reports."""

    def __init__(self, where, report, flag, seed):
        self.where, self.random = where, random.Random(seed)
        self.report = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with open(flag, "r+b") as file:  # noqa: PTH123
            self.flag = mmap.mmap(file.fileno(), 1)
        self.name = Path(report).stem
        self.overlaps = 0

    def tell(self, what):
        os.write(self.report, (json.dumps(what) + "\n").encode())

    @contextmanager
    def writing(self, database):
        """One transaction, reported after its commit: (revision, kind, subject) of its events."""
        try:
            with database.write() as writing:
                self.flag[0] = 1
                start = writing.revision
                yield writing
                writing.event(END)
                event = schema.event
                columns = select(event.c.revision, event.c.kind, event.c.subject)
                rows = writing.connection.execute(
                    columns.where(event.c.revision > start).order_by(event.c.revision)
                )
                made = [list(row) for row in rows]
        finally:
            self.flag[0] = 0
        self.tell(made)

    def certify(self, database, begin, end, replace):
        try:
            with self.writing(database) as writing:
                product = identity(self.random.randrange(PRODUCTS))
                events.certify(writing, product, begin, end, "default", replace=replace)
        except OverlapError:
            self.overlaps += 1

    def ingest(self, database, turn):
        names = [f"{self.name} {turn} {n}" for n in range(20)]
        exposures = [
            Exposure(kind="light", start=turn, duration=1.0, identifier=name, path=f"/raw/{name}.fits")
            for name in names
        ]
        with self.writing(database) as writing:
            ingest(writing, exposures, lambda path: (sha(path), 100), CAMERA)

    # --- until it is killed ---

    def certifying(self):
        database = Database.open(self.where)
        while True:
            begin = self.random.randrange(1000)
            self.certify(database, begin, begin + self.random.randrange(1, 300), replace=True)

    def ingesting(self):
        database = Database.open(self.where)
        for turn in itertools.count():
            self.ingest(database, turn)

    def migrating(self):
        """Old registries are made, and upgraded: `where` has a place for their number."""
        now = list(migrations.MIGRATIONS)

        def begin(connection):
            self.flag[0] = 1
            now[1][1](connection)

        long = [now[0], (now[1][0], begin), *map(step, range(STEPS))]
        for turn in itertools.count():
            where = self.where.replace("NUMBER", str(turn))
            if "://" in where:
                engine = create_engine(where, isolation_level="AUTOCOMMIT")
                with engine.connect() as connection:
                    connection.exec_driver_sql(f"CREATE SCHEMA {where.rpartition('%3D')[2]}")
                engine.dispose()
            use(now[:1])
            Database.create(where).close()
            use(long)
            database = Database.open(where)
            self.flag[0] = 0
            self.tell(turn)
            database.close()

    # --- until its time is over ---

    def racing(self, go, seconds):
        """Certify spans that another process wants, too, and ingest."""
        database = Database.open(self.where)
        while not Path(go).exists():
            time.sleep(0.001)
        until = time.monotonic() + seconds
        for turn in itertools.count():
            if time.monotonic() > until:
                break
            self.certify(database, 10 * turn, 10 * turn + 15, replace=self.random.random() < 0.2)
            self.ingest(database, turn)
        database.close()
        self.tell({"overlaps": self.overlaps})


if __name__ == "__main__":
    job, where, report, flag, seed, *more = sys.argv[1:]
    worker = Worker(where, report, flag, int(seed))
    if job == "racing":
        worker.racing(more[0], float(more[1]))
    else:
        getattr(worker, job)()
