"""What docs/infrared.md shows is done: its first commands, its Python and its instrument file."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibrant.cli.app import app
from calibrant.instrument import check

PAGE = Path(__file__).resolve().parents[1] / "docs" / "infrared.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("infrared")


def test_commands_and_python_of_the_page(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for line in blocks("sh")[0].splitlines():
        words = shlex.split(line, comments=True)[1:]
        told = CliRunner().invoke(app, words)
        assert told.exit_code == 0, f"{line}: {told.output}"
    known = {}
    for block in blocks("python"):
        exec(block, known)
    assert known["border"].left == 4 and known["counts"].shape[:2] == (1, 20)
    assert [output.name for output in known["outputs"]] == ["1", "2", "3", "4"]
    assert known["clock"].shape == known["times"].shape == (256, 256)


def test_the_instrument_file_of_the_page(tmp_path):
    (tmp_path / "mine.toml").write_text(blocks("toml")[0])
    assert not check(tmp_path / "mine.toml")


def test_commands_of_the_page_exist():
    for block in blocks("sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)[1:]
            verb = words[:2] if words[0] in ("simulate", "measure", "instrument") else words[:1]
            assert CliRunner().invoke(app, [*verb, "--help"]).exit_code == 0, line
