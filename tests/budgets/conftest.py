"""Files of noise, and a process of its own in which memory, bytes and open files are counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calibrant.files.fits import write_raw

PROBE = Path(__file__).with_name("probe.py")


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Folders of uint16 noise, made once: images(count, size) -> paths."""
    made = {}

    def make(count, size):
        if (count, size) not in made:
            folder = tmp_path_factory.mktemp(f"noise-{size}")
            rng = np.random.default_rng(size)
            paths = []
            for number in range(count):
                data = rng.integers(900, 1100, (size, size), np.uint16)
                paths.append(folder / f"{number:03d}.fit")
                write_raw(paths[-1], data, {"EXPTIME": 0.0, "IMAGETYP": "Bias Frame"})
            made[count, size] = paths
        return made[count, size]

    return make


@pytest.fixture(scope="session")
def probe():
    """Combine files in a process of its own; returns what it measured."""

    def run(paths, repeat=1, **options):
        words = [
            sys.executable,
            str(PROBE),
            json.dumps({"repeat": repeat, "options": options}),
            *map(str, paths),
        ]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
