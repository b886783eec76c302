"""The command line inside this process: exit code, standard output, standard error."""

from __future__ import annotations

import contextlib
import io
import json
from typing import NamedTuple

import numpy as np
import pytest

from calibrant.cli import main
from calibrant.files.fits import write_raw
from calibrant.simulate.observe import ccd_night


class Told(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def sentence(self):
        """The one sentence of an error."""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("calibrant: ") and self.err.rstrip()[-1] in ".?", self.err
        assert "Traceback" not in self.err
        return self.err.removeprefix("calibrant: ").rstrip("\n")


@pytest.fixture(scope="session")
def calibrant():
    def run(*words):
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main([str(word) for word in words])
            except SystemExit as left:
                code = left.code or 0
        return Told(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """A small night: never changed."""
    folder = tmp_path_factory.mktemp("cli") / "raw"
    ccd_night(
        folder,
        seed=2,
        shape=(64, 96),
        biases=5,
        darks={60.0: 4},
        flats={"R": 5},
        science={"R": 2},
        exptime=60.0,
    )
    return folder


@pytest.fixture
def frame(tmp_path):
    """Write one small raw file; cards of None are left out."""
    rng = np.random.default_rng(1)

    def write(name, data=None, **cards):
        data = rng.normal(1000, 5, (24, 32)).astype(np.uint16) if data is None else data
        facts = {"EXPTIME": 10.0, "IMAGETYP": "Dark Frame", "INSTRUME": "cam", **cards}
        path = tmp_path / name
        write_raw(path, data, {key: value for key, value in facts.items() if value is not None})
        return path

    return write


@pytest.fixture
def four(frame):
    return [frame(f"g{count}.fit") for count in range(4)]
