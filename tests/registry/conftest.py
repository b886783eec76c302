"""A registry on SQLite, and the same on a PostgreSQL server if $CALIBRANT_TEST_POSTGRES is its URL.

The variable unset skips the tests on PostgreSQL, unless $CALIBRANT_REQUIRE names ``postgres``: in CI a skip
would hide a failure.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid

import pytest
from sqlalchemy import create_engine

from calibrant.registry.database import Database


def server() -> str:
    """URL of the test server; skips or fails where there is none."""
    url = os.environ.get("CALIBRANT_TEST_POSTGRES", "")
    if not url:
        if "postgres" in os.environ.get("CALIBRANT_REQUIRE", "").split(","):
            pytest.fail("a PostgreSQL server is required: set CALIBRANT_TEST_POSTGRES, see .ci/postgres")
        pytest.skip("no PostgreSQL server: CALIBRANT_TEST_POSTGRES is not set")
    return url


@contextlib.contextmanager
def schema():
    """URL of a schema of its own on the test server, dropped at the end."""
    url, name = server(), f"test_{uuid.uuid4().hex}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        yield f"{url}?options=-csearch_path%3D{name}"
        with engine.connect() as connection:
            connection.exec_driver_sql("SET client_min_messages = error")
            connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    finally:
        engine.dispose()


@pytest.fixture
def postgresql():
    """URL of an empty schema on the test server."""
    with schema() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """Where a registry can be made: a path, or the URL of an empty schema."""
    if request.param == "sqlite":
        return str(tmp_path / "calibrant.db")
    return request.getfixturevalue("postgresql")


@pytest.fixture
def database(where):
    """An empty registry, open."""
    made = Database.create(where)
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    done = os.geteuid() == 0 and subprocess.run(words, capture_output=True, check=False)
    if not done or done.returncode:
        if "tmpfs" in os.environ.get("CALIBRANT_REQUIRE", "").split(","):
            pytest.fail("a tmpfs is required, and cannot be mounted")
        pytest.skip("no leave to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
