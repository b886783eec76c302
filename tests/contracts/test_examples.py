"""The notebooks of examples/ run from the first cell to the last, without Jupyter, and store no outputs."""

from __future__ import annotations

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.ipynb"))
SMALL = {"SIZE = 512": "SIZE = 96"}


def cells(notebook: Path) -> list[dict[str, Any]]:
    """The code cells of a notebook."""
    found = json.loads(notebook.read_text())
    assert found["nbformat"] == 4
    return [cell for cell in found["cells"] if cell["cell_type"] == "code"]


def run(cell: dict[str, Any], namespace: dict[str, Any]) -> Any:
    """Run a cell; returns the value of its last line, as a notebook shows it."""
    lines = [line for line in cell["source"] if not line.startswith("%")]
    source = "".join(lines)
    for full, small in SMALL.items():
        source = source.replace(full, small)
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)


def test_there_are_examples() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_no_outputs_are_stored(notebook: Path) -> None:
    for cell in cells(notebook):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_the_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__notebook__"}
    shown = []
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in cells(notebook):
            value = run(cell, namespace)
            if hasattr(value, "_repr_html_"):
                value._repr_html_()
            shown.append(type(value).__name__)
    assert {"Figure", "Product"} <= set(shown)
    assert (tmp_path / "galaxy.fits").is_file()
    assert (tmp_path / "galaxy.jpg").read_bytes().startswith(b"\xff\xd8")
    frame = namespace["calibrated"]
    assert frame.unit == "electron"
    assert [step.effect for step in frame.history][-5:] == ["bias", "read_noise", "dark", "flat", "gain"]
