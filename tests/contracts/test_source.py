"""What must not stand in the source, and what every public name must have."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "calibrant"
SOURCES = sorted(PACKAGE.rglob("*.py"))
KNOWN_INSTRUMENTS = (
    "nircam", "miri", "comcam", "iuvs", "hubble", "jwst", "rubin", "lsst", "thacher", "sbig", "stl1001",
    "st402",
)  # fmt: skip


def ids(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def instrument_names() -> set[str]:
    """Names of the instrument files, and words that name an instrument or its observatory in them."""
    names = {path.stem for path in (PACKAGE / "instruments").glob("*.toml")} - {"generic-ccd"}
    return names | set(KNOWN_INSTRUMENTS)


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_no_instrument_name(path: Path) -> None:
    """Instruments are data: their names stand in TOML, never in code (docstrings may cite a convention)."""
    tree = ast.parse(path.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    words = [
        str(node.value) if isinstance(node, ast.Constant) else getattr(node, "id", getattr(node, "attr", ""))
        for node in ast.walk(tree)
        if isinstance(node, (ast.Constant, ast.Name, ast.Attribute)) and id(node) not in docs
    ]
    for word in words:
        for name in instrument_names():
            assert not re.search(rf"\b{re.escape(name)}\b", word.lower()), f"{path}: {word!r} names {name}"


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_every_public_name_has_a_docstring_and_types(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name} has no docstring"
        if isinstance(node, ast.FunctionDef):
            assert node.returns is not None, f"{path}:{node.lineno} {node.name} has no return type"


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_no_global_state(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not any(isinstance(node, ast.Global) for node in ast.walk(tree)), f"{path} has a global statement"


def test_files_have_one_subject() -> None:
    """A file above 500 lines has grown a second subject."""
    long = {ids(path): path.read_text().count("\n") for path in SOURCES}
    assert not {name: lines for name, lines in long.items() if lines > 500}


def test_data_files_are_toml() -> None:
    found = sorted(PACKAGE.rglob("*.toml"))
    assert found
    for path in found:
        tomllib.loads(path.read_text())
