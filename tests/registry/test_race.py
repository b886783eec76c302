"""Two processes that certify the same spans and ingest at once: counts exact, nothing overlaps, no gaps."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from calibrant.registry.database import Database

HERE = Path(__file__).parent
SECONDS = 30 if os.environ.get("CALIBRANT_SOAK") else 3


def module(name):
    """A file beside this one: the tests are no package."""
    spec = importlib.util.spec_from_file_location(f"registry_race_{name}", HERE / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


worker, oracle = module("worker"), module("oracle")


def test_two_processes_at_once(where, tmp_path):
    worker.prepare(where)
    database = Database.open(where)
    before = oracle.whole(database)
    processes, reports, go = [], [], tmp_path / "go"
    for name in ("one", "other"):
        report, flag = tmp_path / f"{name}.report", tmp_path / f"{name}.flag"
        flag.write_bytes(b"\0")
        words = [sys.executable, HERE / "worker.py", "racing", where, report, flag, str(len(reports))]
        processes.append(subprocess.Popen([*words, go, str(SECONDS)], stderr=subprocess.PIPE))
        reports.append(report)
    go.touch()
    for process in processes:
        errors = process.communicate(timeout=SECONDS + 120)[1]
        assert process.returncode == 0, errors.decode()
    told = [[json.loads(line) for line in report.read_text().splitlines()] for report in reports]
    ends = [one.pop() for one in told]
    reported = [[event for made in one for event in made] for one in told]
    stored = oracle.whole(database)
    database.close()
    assert stored == before + sorted(reported[0] + reported[1])
    print({"transactions": [len(one) for one in told], "overlaps": ends})
    for events, end in zip(reported, ends, strict=True):
        kinds = [kind for _, kind, _ in events]
        assert kinds.count("ingested") > 10  # neither starves: each stores exposures all the time
        assert kinds.count("certified") > 0
        assert end["overlaps"] > 0  # they did compete
