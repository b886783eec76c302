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


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    """Every source file, parsed once."""
    return {path: ast.parse(path.read_text()) for path in SOURCES}


def instrument_names() -> set[str]:
    """Names of the instrument files, and words that name an instrument or its observatory in them."""
    names = {path.stem for path in (PACKAGE / "instruments").glob("*.toml")} - {"generic-ccd"}
    return names | set(KNOWN_INSTRUMENTS)


def naming(tree: ast.Module) -> list[str]:
    """Words of the code that name an instrument; docstrings may cite a convention."""
    nodes = list(ast.walk(tree))
    docs = {
        id(node.body[0].value)
        for node in nodes
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    words = {
        str(node.value) if isinstance(node, ast.Constant) else getattr(node, "id", getattr(node, "attr", ""))
        for node in nodes
        if isinstance(node, (ast.Constant, ast.Name, ast.Attribute)) and id(node) not in docs
    }
    name = re.compile(rf"\b({'|'.join(map(re.escape, instrument_names()))})\b")
    return sorted(word for word in words if name.search(word.lower()))


def test_no_instrument_name(trees) -> None:
    """Instruments are data: their names stand in TOML, never in code."""
    found = {ids(path): naming(tree) for path, tree in trees.items()}
    assert not {path: words for path, words in found.items() if words}


def test_an_instrument_name_is_seen() -> None:
    """The judge itself: in a string, a name and an attribute, not in a docstring."""
    seen = naming(ast.parse('"""Of the nircam."""\nmiri = camera.sbig + "the LSST-like"\n'))
    assert seen == ["miri", "sbig", "the LSST-like"]


def test_every_public_name_has_a_docstring_and_types(trees) -> None:
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name} has no docstring"
            if isinstance(node, ast.FunctionDef):
                assert node.returns is not None, f"{path}:{node.lineno} {node.name} has no return type"


def test_no_global_state(trees) -> None:
    held = {
        ids(path) for path, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.Global)
    }
    assert not held, "these files have a global statement"


def test_files_have_one_subject() -> None:
    """A file above 500 lines has grown a second subject."""
    long = {ids(path): path.read_text().count("\n") for path in SOURCES}
    assert not {name: lines for name, lines in long.items() if lines > 500}


def test_data_files_are_toml() -> None:
    found = sorted(PACKAGE.rglob("*.toml"))
    assert found
    for path in found:
        tomllib.loads(path.read_text())
