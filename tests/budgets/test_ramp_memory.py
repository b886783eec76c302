"""The memory that a ramp takes follows the budget, whatever the number of its groups."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from calibrant.exposures import Exposures
from calibrant.simulate.infrared_files import Set, simulate

PROBE = Path(__file__).with_name("probe_ramps.py")
MB = 1_000_000
BLOCK = 2880

LINUX = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is asked of /proc"
)


def unit(first, bitpix, shape, *cards):
    """A header as text, and the bytes of its data, padded to blocks."""
    lines = [first, f"BITPIX  = {bitpix:20d}", f"NAXIS   = {len(shape):20d}"]
    lines += [f"NAXIS{n}  = {size:20d}" for n, size in enumerate(reversed(shape), 1)]
    lines += (
        []
        if first.startswith("SIMPLE")
        else ["PCOUNT  =                    0", "GCOUNT  =                    1"]
    )
    text = "".join(f"{line:<80}" for line in (*lines, *cards, "END"))
    size = abs(bitpix) // 8 * int(np.prod(shape)) if shape else 0
    return text.ljust(-(-len(text) // BLOCK) * BLOCK), -(-size // BLOCK) * BLOCK


def ramp_without_room(path, groups, size=2048):
    """A file of a whole ramp that takes no room on the disk: all of its numbers are holes."""
    shape = (1, groups, size, size)
    units = [
        unit("SIMPLE  =                    T", 8, (), "INSTRUME= 'NIRCAM  '", "DETECTOR= 'NRCA1   '"),
        unit("XTENSION= 'IMAGE   '", 16, shape, "EXTNAME = 'SCI     '", "BZERO   =              32768.0"),
        unit("XTENSION= 'IMAGE   '", 8, shape, "EXTNAME = 'GROUPDQ '"),
    ]
    with path.open("wb") as out:
        for header, data in units:
            out.write(header.encode())
            out.truncate(out.tell() + data)
            out.seek(0, 2)
    return path


def probed(path, budget, what="pixels"):
    words = [sys.executable, str(PROBE), str(budget), str(path), what]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@LINUX
@pytest.mark.parametrize("budget", [24 * MB])
def test_many_groups_take_no_more_than_few(tmp_path, budget):
    """108 groups of 2048 x 2048, 1.4 GB with their flags, as 20 groups of 0.25 GB."""
    found = {
        groups: probed(ramp_without_room(tmp_path / f"{groups}.fits", groups), budget) for groups in (20, 108)
    }
    for groups, one in found.items():
        assert one["peak"] - one["baseline"] <= budget + 4 * MB
        assert 0 <= one["read"] - 3 * groups * 2048**2 < 1 * MB, "each byte is read once"
        bands = -(-(3 * groups * 2048**2) // budget)
        assert one["total"] == pytest.approx(32768 * bands, rel=0.1), "holes are counts of 32768"
    assert abs(found[108]["peak"] - found[20]["peak"]) <= 6 * MB


@LINUX
def test_read_noise_of_many_groups_takes_no_more_than_that_of_few(tmp_path):
    """The whole process stays near 400 MB: its planes, a band of rows, Python and its libraries."""
    # Kernels that are not in the cache yet are compiled here: that takes 50 MB, and is not to be counted.
    probed(ramp_without_room(tmp_path / "first.fits", 20, size=256), 384 * MB, "read_noise")
    found = {
        groups: probed(ramp_without_room(tmp_path / f"{groups}.fits", groups), 384 * MB, "read_noise")
        for groups in (20, 108)
    }
    assert abs(found[108]["peak"] - found[20]["peak"]) <= 30 * MB
    assert max(one["peak"] for one in found.values()) <= 420 * MB


def test_a_ramp_is_written_in_the_memory_of_a_read(tmp_path):
    def peak(groups):
        tracemalloc.start()
        try:
            simulate(tmp_path / str(groups), what=Set(files=1, groups=groups, rows=256, cols=512))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    simulate(tmp_path / "warm", what=Set(files=1, groups=2, rows=256, cols=512))
    few, many = peak(2), peak(20)
    assert many - few < 0.25 * 18 * 256 * 512 * 2, "18 more groups of 16 bits were not held"
    (one,) = Exposures.scan(tmp_path / "20", "nircam").where(kind="dark").ramps()
    assert one.groups == 20
