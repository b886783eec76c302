"""The documentation is held against the program: commands, effects, links, tables, and all that can be typed.

In README and the pages of PLAYED, blocks of ``python`` are run in order, and lines of ``sh`` that
begin with ``calibrant`` too, on a small night; a line says what exit code it expects if it is not 0. Blocks
with a file name (``toml mycam.toml``) are written to that file. Blocks of ``text`` are only read.
"""

from __future__ import annotations

import contextlib
import glob
import io
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from calibrant.frame import DQ
from calibrant.stack.reject import REJECTIONS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
PLAYED = ["README.md", "docs/tutorial.md", "docs/howto.md", "docs/registry.md", "docs/exercise.md"]
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LANGUAGES = {"python", "sh", "text", "toml", "csv"}
SMALL = "96"  # rows and columns of the night that the pages are played on


def commands() -> list[tuple[str, ...]]:
    """Every command of the program, as the words that call it."""
    from calibrant.cli.app import app

    found: list[tuple[str, ...]] = []

    def walk(group, words: tuple[str, ...]) -> None:
        for name, item in group.commands.items():
            if hasattr(item, "commands"):
                walk(item, (*words, name))
            else:
                found.append((*words, name))

    walk(get_command(app), ())
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_is_documented(words: tuple[str, ...]) -> None:
    assert f"calibrant {' '.join(words)}" in TEXT


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_has_help_and_the_four_options(words: tuple[str, ...]) -> None:
    from calibrant.cli.app import app

    command = get_command(app)
    for word in words:
        command = command.commands[word]
    assert command.help, words
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--quiet", "--json", "--debug", "--overwrite"} <= options
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{words}: {parameter.name} has no help"


def test_every_effect_has_its_page() -> None:
    effects = {
        path.stem
        for path in (ROOT / "src" / "calibrant" / "effects").glob("*.py")
        if not path.stem.startswith("_") and path.stem != "common"
    }
    assert effects == {path.stem for path in (ROOT / "docs" / "effects").glob("*.md")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", page.read_text()):
        if "://" in target:
            continue
        other = page.parent / target if target else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor[1:] in anchors(other), f"{page.name} links to {target}{anchor}"


def anchors(page: Path) -> set[str]:
    """What headings can be linked to as."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pictures_are_shown_and_small() -> None:
    pictures = [path for path in (ROOT / "docs" / "pictures").iterdir() if path.suffix != ".md"]
    for path in pictures:
        assert f"pictures/{path.name})" in TEXT, f"no page shows {path.name}"
        assert path.stat().st_size < 400_000, path.name
    assert sum(path.stat().st_size for path in pictures) < 1_700_000


# --- tables that say what the source says ---


def dq_table() -> str:
    """The rows of the table of flags, as docs/dq.md has them."""
    return "\n".join(
        f"| {bit.bit_length() - 1} | {bit.value} | {bit.name} | {bit.sentence.rstrip('.')} |" for bit in DQ
    )


def test_the_table_of_flags_is_fresh() -> None:
    assert dq_table() in (ROOT / "docs" / "dq.md").read_text(), f"docs/dq.md should hold:\n{dq_table()}"


def test_flags_of_the_how_to_have_their_bits() -> None:
    rows = re.findall(r"^\| ([A-Z_]{3,}) \| (\d+) \|", (ROOT / "docs" / "howto.md").read_text(), re.MULTILINE)
    assert len(rows) > 10
    for name, bit in rows:
        assert DQ[name] == 1 << int(bit), name


def test_the_table_of_rejections_is_fresh() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (?:`(\w+)`)? ?\|[^|]*\| (\d+) \|", (ROOT / "docs/howto.md").read_text(), re.MULTILINE
    )
    told = {name: (kind, int(fewest)) for name, kind, fewest in rows}
    known = {
        name: (kind.__name__ if name != "none" else "", kind().least_frames())
        for name, kind in REJECTIONS.items()
    }
    assert told == known


# --- pages are played ---


@pytest.mark.parametrize("name", PLAYED)
def test_what_can_be_typed_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "README.md":  # it begins after `make demo`
        assert typed("calibrant simulate ccd-night --out demo/raw", name) == ""
    namespace: dict[str, object] = {"__name__": "__page__"}
    blocks = BLOCK.findall((ROOT / name).read_text())
    assert {"python", "sh"} & {language for language, _, _ in blocks}
    for language, file, text in blocks:
        assert language in LANGUAGES, language
        if file:
            Path(file).write_text(text)
        elif language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(text, name, "exec"), namespace)
        elif language == "sh":
            for line in text.splitlines():
                typed(line, name)


def test_pages_have_no_blocks_that_are_neither_run_nor_marked() -> None:
    for name in PLAYED[1:]:
        fences = re.findall(r"^```(.*)$", (ROOT / name).read_text(), re.MULTILINE)
        assert all(fence.split(" ")[0] in LANGUAGES for fence in fences[::2]), name


def typed(line: str, page: str) -> str:
    """Run one line as a shell would; returns what was printed, or "" if it went to a file."""
    from calibrant.cli import main

    words = shlex.split(line, comments=True)
    if not words or words[0] != "calibrant":
        return ""
    if words[1] == "simulate":
        words += ["--size", SMALL, "--quiet"]
    if words[1] == "reduce" and page == "README.md":
        words += ["--no-plots"]  # the tutorial makes them
    target = None
    if ">" in words:
        target = Path(words[-1])
        words = words[:-2]
    arguments = [match for word in words[1:] for match in sorted(glob.glob(word)) or [word]]  # noqa: PTH207
    printed, said = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) as end,
    ):
        main(arguments)
    expected = re.search(r"# exit code (\d+)", line)
    assert end.value.code == (int(expected[1]) if expected else 0), (
        f"{page}: {line}\n{printed.getvalue()}{said.getvalue()}"
    )
    if target is not None:
        target.write_text(printed.getvalue())
        return ""
    return printed.getvalue()
