"""A photon transfer curve holds two frames in memory, however many pairs there are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).with_name("probe_pairs.py")
MARGIN = 28_000_000  # bytes, less than another frame: pieces of rows, masks of two amplifiers, the tables

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is asked of /proc"
)


def used(rows, cols, pairs):
    words = [sys.executable, str(PROBE), str(rows), str(cols), str(pairs)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert abs(found["gain"] - 1) < 0.03
    return found["peak"] - found["baseline"]


@pytest.mark.parametrize(
    ("rows", "cols", "pairs"),
    [(2400, 3072, 6), pytest.param(4000, 4072, 40, marks=pytest.mark.soak)],
)
def test_two_frames_are_held(rows, cols, pairs):
    frames = 2 * 4 * rows * cols
    taken = used(rows, cols, pairs)
    assert 0.9 * frames < taken <= frames + max(MARGIN, 0.3 * frames)
