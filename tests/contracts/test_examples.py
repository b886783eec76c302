"""The notebooks of examples/ run from the first cell to the last, without Jupyter, and store no outputs."""

from __future__ import annotations

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
SMALL = {
    "SIZE = 512": "SIZE = 96",
    'INSTRUMENT = "miri-mrs"': 'INSTRUMENT = "slicer-demo"',
    'if m["kind"] == "flat")': 'if m["kind"] == "flat" and "2024-11-08" in m["name"])',  # of one day of three
}


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


def test_every_example_is_played() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "ccd_night",
        "dark_scaling",
        "image_slicer",
        "infrared_noise",
        "isr_exploration",
    ]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_no_outputs_are_stored(notebook: Path) -> None:
    for cell in cells(notebook):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def play(notebook: Path) -> tuple[dict[str, Any], list[Any]]:
    """What a notebook defines, and what its cells show."""
    namespace: dict[str, Any] = {"__name__": "__notebook__"}
    shown = []
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in cells(notebook):
            value = run(cell, namespace)
            if hasattr(value, "_repr_html_"):
                value._repr_html_()
            shown.append(value)
    return namespace, shown


def test_a_ccd_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace, shown = play(EXAMPLES / "ccd_night.ipynb")
    assert {"Figure", "Product"} <= {type(value).__name__ for value in shown}
    assert (tmp_path / "galaxy.fits").is_file()
    assert (tmp_path / "galaxy.jpg").read_bytes().startswith(b"\xff\xd8")
    frame = namespace["calibrated"]
    assert frame.unit == "electron"
    assert [step.effect for step in frame.history][-5:] == ["bias", "read_noise", "dark", "flat", "gain"]


def test_isr_exploration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace, shown = play(EXAMPLES / "isr_exploration.ipynb")
    assert sum(type(value).__name__ == "Figure" for value in shown) == 4
    assert namespace["flat"].keys["filter"] == "r" and namespace["visit"].unit == "electron"
    found = namespace["inventory"].tables["inventory"]
    seen = dict(zip(found["structure"], found["detected"], strict=True))
    assert seen["amplifier_steps"] and seen["edge_roll_off"] and seen["tree_rings"]
    assert not seen["periodic_pattern"]
    line = namespace["line"]
    assert (
        abs(line.gain - 0.8) < 4 * line.gain_sigma and abs(line.read_noise - 5.0) < 4 * line.read_noise_sigma
    )


def test_dark_scaling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace, shown = play(EXAMPLES / "dark_scaling.ipynb")
    assert sum(type(value).__name__ == "Figure" for value in shown) == 4
    rows = namespace["found"].tables["coefficients"]
    published = {"add": 235.82480370850152, "mult": 1.4510501785354721}
    for model, expected in published.items():
        assert rows["value"][rows["model"] == model] == pytest.approx(expected, rel=1e-4)
    assert namespace["clean"].did("dark")


def test_infrared_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace, shown = play(EXAMPLES / "infrared_noise.ipynb")
    assert sum(type(value).__name__ == "Figure" for value in shown) == 7
    assert 0.9 < namespace["old"] / namespace["middle"](namespace["found"]["ramp"]) < 0.94
    (change,) = [q for q in namespace["change"].quantities if q.name == "read_noise" and not q.place]
    assert 0.05 < change.difference < 0.2
    assert change.sigma < change.difference / 5
    truth = namespace["truth"]
    for output in "1234":
        one = namespace["parts"].quantity("white_noise", output)
        assert abs(one.value - np.hypot(truth.quantity("white", output).value, 12**-0.5)) < 4 * one.sigma
    scatter = namespace["scatter"]
    assert max(scatter["median"], scatter["optimal"]) < 0.95 * scatter["none"]
    assert (tmp_path / "readnoise.fits").is_file()


def test_image_slicer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_slicer(*play(EXAMPLES / "image_slicer.ipynb"))


@pytest.mark.soak
def test_image_slicer_of_full_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SMALL, 'INSTRUMENT = "miri-mrs"', 'INSTRUMENT = "miri-mrs"')
    check_slicer(*play(EXAMPLES / "image_slicer.ipynb"))


def check_slicer(namespace: dict[str, Any], shown: list[Any]) -> None:
    """What was put in: stray light, shifts and gains of campaigns, fringes; and the flaw of the notebook."""
    assert sum(type(value).__name__ == "Figure" for value in shown) == 11
    truth = {"CV3": (1.00, 22.0, 1.5), "FM": (1.03, 8.0, 0.0), "OTIS": (0.99, 21.0, 0.3)}
    for name, (gain, pedestal, structure) in truth.items():
        assert abs(namespace["stray"][name].quantity("pedestal").value - pedestal) < 0.5
        found = namespace["before"]
        assert abs(found.quantity("gain", name).value - gain / 1.03) < 0.004
        assert abs(found.quantity("structure", name).value - structure) < 0.05
        assert abs(found.quantity("edge", name).value) < 0.03
    change = {key: namespace[key].quantity("core_change", "OTIS").value for key in ("before", "after")}
    assert change["after"] < change["before"] - 1.5
    phase, thickness = (namespace["both"].quantity(name) for name in ("phase", "D"))
    assert abs(phase.value) < 0.05 and abs(thickness.value) < 1.0
    assert namespace["both"].tables["causes"]["cause"][0] == "reflectivity"
    lost = namespace["lost"]
    assert 0.05 < min(lost) < 0.09 and 0.1 < max(lost) < 0.18
