"""The public names: lazy, listed, and each with its type."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import calibrant

TEXT = Path(calibrant.__file__).read_text()


def test_importing_loads_nothing() -> None:
    heavy = "('calibrant.', 'numpy', 'astropy')"
    code = f"import sys; import calibrant; print([m for m in sys.modules if m.startswith({heavy})])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", calibrant.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(calibrant, name) is not None
    assert name in dir(calibrant)


def test_the_typed_list_is_the_list() -> None:
    typed = {
        alias.name
        for block in ast.walk(ast.parse(TEXT))
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed | {"__version__"} == set(calibrant.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Exposurs'"):
        _ = calibrant.Exposurs
