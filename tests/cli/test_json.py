"""JSON on standard output is strict: every reader takes it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import typer

from calibrant.cli.common import Terminal, as_json, guarded
from calibrant.errors import OptionError


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_no_number_is_null():
    value = {
        "a": math.nan,
        "b": [math.inf, 1.5, (-math.inf,)],
        "c": np.float32(math.nan),
        "d": np.array([1.0, math.nan]),
        "e": {"x", "y"},
        "f": np.int16(3),
        "g": None,
        "h": True,
        np.int64(7): "key",
    }
    assert strict(as_json(value)) == {
        "a": None, "b": [None, 1.5, [None]], "c": None, "d": [1.0, None], "e": ["x", "y"], "f": 3,
        "g": None, "h": True, "7": "key",
    }  # fmt: skip


@pytest.mark.parametrize("got", [math.nan, np.float32(math.inf), (1.0, math.nan)])
def test_errors_too(capsys, got):
    with pytest.raises(typer.Exit), guarded(Terminal(as_json=True)):
        raise OptionError("a limit has no meaning", expected=1.0, got=got)
    report = strict(capsys.readouterr().out)["error"]
    assert report["got"] in (None, [1.0, None])
    assert report["expected"] == 1.0


def test_results_too(capsys):
    Terminal(as_json=True).result({"level": math.nan}, lambda: None)
    assert strict(capsys.readouterr().out) == {"level": None}
