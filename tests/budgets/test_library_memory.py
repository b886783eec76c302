"""A dark library takes no more memory than it was given, however many darks there are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).with_name("probe_library.py")
MARGIN = 30_000_000  # bytes: samples of planes, flags, the table of exposures

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is asked of /proc"
)


@pytest.mark.parametrize(
    ("size", "count", "budget"),
    [
        (1024, 100, 100_000_000),
        pytest.param(2048, 200, 300_000_000, marks=pytest.mark.soak),
    ],
)
def test_the_budget_is_kept(size, count, budget):
    words = [sys.executable, str(PROBE), str(size), str(count), str(budget)]
    env = {**os.environ, "PYTHONPATH": str(PROBE.parents[2])}
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False, env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["used"] < budget + MARGIN
    assert abs(found["energy"] - 0.65) < 0.01
