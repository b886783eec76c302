"""Read or measure a ramp, and print what it took. Run as a program: ``probe_ramps.py BUDGET FILE WHAT``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from calibrant.effects import read_noise
from calibrant.exposures import Exposures

KILOBYTE = 1024


def status(name):
    """A number of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * KILOBYTE
    raise KeyError(name)


def bytes_read():
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


def main():
    budget, path = int(sys.argv[1]), sys.argv[2]
    exposures = Exposures.from_paths(path, "nircam")
    if sys.argv[3] == "read_noise":
        baseline = status("VmRSS")
        read_noise.measure(exposures, budget=budget)
        print(json.dumps({"baseline": baseline, "peak": status("VmHWM")}))
        return
    (ramp,) = exposures.ramps()
    ramp.values(slice(0, 1))
    ramp.read_dq(slice(0, 1))
    baseline = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before, total = bytes_read(), 0
    for rows in ramp.bands(budget, itemsize=3):  # a count and its flag
        values, flags = ramp.values(rows), ramp.read_dq(rows)
        total += int(values.max()) + int(flags.max())
        del values, flags
    found = {"baseline": baseline, "peak": status("VmHWM"), "read": bytes_read() - before, "total": total}
    print(json.dumps(found))


main()
