"""Combine files, and print what it took. Run as a program of its own: ``probe.py '{...}' FILES``."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from calibrant.files.fits import open_source
from calibrant.stack.combine import combine

KILOBYTE = 1024


def status(name):
    """A number of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * KILOBYTE
    raise KeyError(name)


def bytes_read():
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


class OpenFiles:
    """The highest number of open files while the block runs."""

    def __enter__(self):
        self.most, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._stop.wait(0.001):
            self.most = max(self.most, len(list(Path("/proc/self/fd").iterdir())))

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def main():
    asked = json.loads(sys.argv[1])
    options = asked["options"]
    watched = options.pop("watch", False)
    sources = [open_source(path) for path in sys.argv[2:]]
    # Kernels are loaded before: they are code, and are not part of the plan.
    corner = [open_source(path, section="[1:64,1:64]") for path in sys.argv[2:5]]
    combine(corner * (len(sources) * asked["repeat"] // len(corner)), **options)
    sources = sources * asked["repeat"]
    baseline = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = bytes_read()
    if watched:
        with OpenFiles() as files:
            done = combine(sources, **options)
    else:
        done, files = combine(sources, **options), None
    read = bytes_read() - before
    print(
        json.dumps(
            {
                "baseline": baseline,
                "peak": status("VmHWM"),
                "plan": done.plan.bytes,
                "budget": done.plan.budget,
                "passes": done.plan.passes,
                "read": read,
                "pixels": sum(source.shape[0] * source.shape[1] * 2 for source in sources),
                "open": files.most if files else None,
                "median": float(done.data.mean()),
            }
        )
    )


main()
