"""Five thousand files under a limit of 256 open ones: `ls` and `combine` as programs of their own."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from calibrant.files.fits import read, write_raw

COUNT = 5000
LIMITED = (
    "import resource, sys\n"
    "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
    "from calibrant.cli import main\n"
    "main(sys.argv[1:])\n"
)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Copies of a tiny file, each with one pixel of its own."""
    folder = tmp_path_factory.mktemp("many")
    first = folder / "f0000.fit"
    write_raw(first, np.full((8, 8), 1000, np.uint16), {"EXPTIME": 1.0, "IMAGETYP": "Dark Frame"})
    whole = first.read_bytes()
    for number in range(COUNT):
        pixel = (1000 + number - 32768).to_bytes(2, "big", signed=True)
        (folder / f"f{number:04d}.fit").write_bytes(whole[:2880] + pixel + whole[2882:])
    return folder


def limited(*words):
    return subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_ls(many):
    done = limited("ls", many, "--json", "-k", "kind")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["exposures"]) == COUNT and not found["problems"]


@pytest.mark.parametrize("method", ["median", pytest.param("mean", marks=pytest.mark.soak)])
def test_combine(many, tmp_path, method):
    done = limited("combine", many, "--out", tmp_path / "o.fits", "--method", method, "--json")
    assert done.returncode == 0, done.stderr
    data = read(tmp_path / "o.fits").load().data
    assert data[0, 0] == 1000 + (COUNT - 1) / 2
    assert np.all(data[1:] == 1000)
