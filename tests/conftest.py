"""Fixtures that all tests share."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

# Workers fill the cores already: more threads of matrices and of the search for cosmic rays, which wait for
# work in a loop, would only take them from each other. It counts when the libraries are first loaded; workers
# and commands inherit it.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not walk over it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real frames: $CALIBRANT_DATA, else ../shared/data beside the checkout.

    Absent data skip the test, unless $CALIBRANT_REQUIRE names ``data``: in CI a skip would hide a failure.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CALIBRANT_DATA", beside))
    if folder.is_dir():
        return folder
    if "data" in os.environ.get("CALIBRANT_REQUIRE", "").split(","):
        pytest.fail(f"real frames are required, and {folder} is not there; set CALIBRANT_DATA")
    pytest.skip(f"no real frames: {folder} is not there")
