"""What the first run of a machine costs: kernels compiled by a whole reduction with an empty cache.

The main job, a simulated night of 256 x 256 pixels so that the work itself is small, runs three times in
fresh processes: with an empty kernel cache, then twice with what the first left. The rest is compilation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 15.0  # seconds of compilation in the first run

JOB = """
import sys
from numba.core import event
from calibrant.pipeline.run import reduce
with event.install_recorder("numba:compile") as recorder:
    reduce(sys.argv[1], out=sys.argv[2], changes={"steps_options.cosmic_rays.enabled": "false"})
starts = [e for _, e in recorder.buffer if e.is_start]
print(len(starts))
"""


def run(raw: Path, out: Path, cache: Path) -> tuple[float, int]:
    """Seconds of a whole process, and kernels it compiled (loading from the cache is not compiling)."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(raw), str(out)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        check=True,
        capture_output=True,
        text=True,
    )
    return time.perf_counter() - began, int(done.stdout.split()[-1])


def main() -> int:
    """Print the seconds of the runs; exit status 1 if the first costs too much or a later one compiles."""
    from calibrant.simulate.observe import ccd_night

    with tempfile.TemporaryDirectory() as folder:
        raw, cache = Path(folder) / "raw", Path(folder) / "cache"
        ccd_night(raw, seed=1, shape=(256, 256))
        first, compiled = run(raw, Path(folder) / "one", cache)
        second, again = run(raw, Path(folder) / "two", cache)
        third, last = run(raw, Path(folder) / "three", cache)
    cost = first - min(second, third)
    print(f"first run   {first:6.2f} s  {compiled} compilations")
    print(f"later runs  {second:6.2f} s  {third:6.2f} s  {again + last} compilations")
    print(f"compiling   {cost:6.2f} s  (at most {LIMIT:g})")
    return int(cost > LIMIT or again + last > 0)


if __name__ == "__main__":
    sys.exit(main())
