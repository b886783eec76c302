"""``calibrant instrument``: the files that describe detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calibrant.cli.common import Terminal


def ls(terminal: Terminal) -> None:
    """List the instruments that come with Calibrant."""
    from calibrant.instrument import load, names

    rows = [{"name": name, "title": load(name).title} for name in names()]
    terminal.result(rows, lambda: terminal.table(rows, ["name", "title"]))


def print_file(
    terminal: Terminal, name: Annotated[str, typer.Argument(help="Name of an instrument.")]
) -> None:
    """Print the TOML of an instrument, to copy and change for your own."""
    from calibrant.instrument import source_text

    text = source_text(name)
    terminal.result({"name": name, "toml": text}, lambda: typer.echo(text, nl=False))


def check(
    terminal: Terminal,
    path: Annotated[Path, typer.Argument(help="A TOML file.")],
    raw: Annotated[
        Path | None, typer.Option("--with", help="A raw file of this camera, to try the sections on.")
    ] = None,
) -> None:
    """Explain every mistake in an instrument file."""
    from calibrant.exposures.fit import fit
    from calibrant.instrument import check as findings_of

    findings = findings_of(path)
    if raw is not None and all(finding.level != "error" for finding in findings):
        findings += fit(path, raw)
    wrong = [finding for finding in findings if finding.level == "error"]
    lines = [{"level": finding.level, "finding": str(finding)} for finding in findings]
    terminal.result({"file": str(path), "findings": lines}, lambda: None)
    for finding in findings:
        typer.echo(str(finding), err=True)
    if wrong:
        raise typer.Exit(2)
    fitting = f", and it fits {raw}" if raw is not None else ""
    terminal.say(
        f"{path}: no mistakes found{fitting}."
        if not findings
        else f"{path}: usable, with the warnings above."
    )
