"""``calibrant reduce``: a folder of raw frames to masters, calibrated frames, pictures and a summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrant.cli.common import Terminal
from calibrant.errors import OptionError

if TYPE_CHECKING:
    from calibrant.registry import Registry


def reduce(
    terminal: Terminal,
    folder: Annotated[Path, typer.Argument(help="Folder of raw frames.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path("reduced"),
    instrument: Annotated[
        str, typer.Option("--instrument", "-i", help="Name of an instrument, a TOML file, or auto.")
    ] = "auto",
    recipe: Annotated[str, typer.Option(help="Name of a recipe, a TOML file, or auto.")] = "auto",
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe: steps_options.gain.enabled=false")
    ] = None,
    kinds: Annotated[
        Path | None,
        typer.Option(help="A table (CSV: file,kind) or TOML that says what files are, by name or glob."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on without calibrations that are missing.")
    ] = False,
    register: Annotated[
        bool,
        typer.Option("--register", help="Record raw frames, masters (as drafts) and frames in a registry."),
    ] = False,
    registry: Annotated[
        bool, typer.Option("--registry", help="Take certified masters from a registry where there are none.")
    ] = False,
    db: Annotated[
        str | None,
        typer.Option(
            "--db", "--url", help="The registry: file or URL. [default: $CALIBRANT_REGISTRY, or calibrant.db]"
        ),
    ] = None,
    tag: Annotated[str | None, typer.Option(help="With --registry: tags to search, by commas.")] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="With --registry: a revision, a time or a frozen state.")
    ] = None,
    plots: Annotated[bool, typer.Option(help="Draw pictures.")] = True,
    report: Annotated[
        bool, typer.Option("--report", help="Verify the masters, and write report.html beside the results.")
    ] = False,
    budget: Annotated[str, typer.Option(help="Memory that combining may use.")] = "512MB",
    jobs: Annotated[int, typer.Option(help="Threads; 0 for one per core.")] = 0,
) -> None:
    """Reduce a folder: masters/, calibrated/, plots/ and summary.json."""
    from calibrant.pipeline.run import reduce as run

    written = None
    if report:
        from calibrant.cli.reporting import place_in

        place_in(out)  # before the work
    with _registries(register, registry, db, tag, as_of) as (book, stock), terminal.progress() as progress:
        reduction = run(
            folder,
            out=out,
            instrument=instrument,
            recipe=recipe,
            changes=_changes(change or []),
            kinds=kinds,
            budget=budget,
            runner=jobs or None,
            progress=progress,
            overwrite=terminal.overwrite,
            allow_missing=allow_missing,
            registry=stock,
            register=book,
        )
        pictures = _pictures(reduction, progress) if plots else []
        if report:
            from calibrant.cli.reporting import of_reduction

            written = str(of_reduction(reduction, book or stock, progress))
    summary = reduction.summary.as_dict()
    result = {**summary, "pictures": pictures, **({"report": written} if written else {})}
    terminal.result(result, lambda: _print(terminal, result, pictures))
    if reduction.summary.failed:
        raise typer.Exit(1)


@contextmanager
def _registries(
    register: bool, registry: bool, db: str | None, tag: str | None, as_of: str | None
) -> Iterator[tuple[Registry | None, Registry | None]]:
    """The registry to record in and the one to ask, as far as they are wanted; opened before any work."""
    asked = {"--tag": tag, "--as-of": as_of}
    for option, value in asked.items():
        if value is not None and not registry:
            raise OptionError(
                "this option says which masters a registry gives", where=option, do="add --registry"
            )
    if db is not None and not (register or registry):
        raise OptionError(
            "a registry is named, but not used", where="--db", do="add --register or --registry"
        )
    if not (register or registry):
        yield None, None
        return
    from calibrant.registry import Registry

    revision = int(as_of) if as_of is not None and as_of.isdigit() else as_of
    with Registry(db, tag=tag, as_of=revision) as found:
        yield found if register else None, found if registry else None


def _pictures(reduction: Any, progress: Any) -> list[str]:
    from calibrant.cli.pictures import draw

    return draw(reduction, progress)


def _changes(words: list[str]) -> dict[str, str]:
    changes = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise OptionError("a change of the recipe is name=value", where="--set", got=repr(word))
        changes[name.strip()] = value.strip()
    return changes


def _print(terminal: Terminal, summary: Mapping[str, Any], pictures: list[str]) -> None:
    """The table on the terminal: what was found, masters, frames, then what is doubtful."""
    from calibrant.pipeline.plan import listed

    found = ", ".join(f"{count} {kind}" for kind, count in sorted(summary["exposures"].items()))
    typer.echo(f"{summary['folder']}: {found} ({summary['instrument']})")
    rows = [_master_row(entry) for entry in summary["masters"]]
    if rows:
        terminal.table(rows, list(rows[0]), title="masters")
    rows = [_stock_row(entry) for entry in summary["stock"]]
    if rows:
        columns = [name for name in rows[0] if any(row[name] for row in rows)]
        terminal.table(rows, columns, title=f"masters of the registry{_repeat(summary)}")
    if summary["frames"]:
        rows = [_frame_row(entry) for entry in summary["frames"]]
        ways = {row["steps"] for row in rows}
        if len(ways) == 1:  # said once, so that the table fits a terminal
            rows = [{name: value for name, value in row.items() if name != "steps"} for row in rows]
            terminal.table(rows, list(rows[0]), title=f"calibrated frames: {ways.pop()}")
        else:
            terminal.table(rows, list(rows[0]), title="calibrated frames")
    in_table = tuple(f"{entry['name']} from the registry: " for entry in summary["stock"])
    for warning in summary["warnings"]:
        if not warning.startswith(in_table):
            typer.echo(f"note: {warning}")
    lacks: dict[str, list[str]] = {}
    for lack in summary["missing"]:
        lacks.setdefault(lack["kind"], []).append(lack["frame"])
    for kind, names in lacks.items():
        typer.echo(f"without {kind}: {listed(names)}")
    for problem in summary["problems"]:
        typer.echo(f"left out: {problem['problem']}")
    if summary["registered"]:
        _print_registered(summary["registered"])
    out = Path(summary["out"])
    typer.echo(
        f"results: {out}/  summary: {out / 'summary.json'}"
        + (f"  pictures: {out / 'plots'}/" if pictures else "")
        + (f"  report: {summary['report']}" if summary.get("report") else "")
    )
    typer.echo(f"{summary['seconds']:.1f} s without pictures")


def _print_registered(done: Mapping[str, Any]) -> None:
    from calibrant.pipeline.register import sentence

    for note in done["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(sentence(done))


TOLD = (
    ("read_noise", "read noise {value:.3g} {unit}"),
    ("drift_range", "drift {value:.2g} {unit}"),
    ("rate", "{value:.3g} {unit}"),
    ("hot_fraction", "hot {percent:.2g} %"),
    ("cosmic_ray_rate", "hits {value:.2g} {unit}"),
    ("nonlinearity", "non-linear {value:.2g} %"),
    ("pair_gain", "gain {value:.3g} e-/adu"),
    ("scatter", "scatter {value:.2g} %"),
)


def _master_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    values = {q["name"]: q for q in reversed(entry["quantities"])}
    told = [
        form.format(
            value=values[name]["value"],
            percent=100 * values[name]["value"],
            unit=values[name].get("unit", ""),
        )
        for name, form in TOLD
        if name in values and values[name]["value"] is not None
    ]
    return {
        "master": entry["name"],
        "frames": entry["frames"] or None,
        "median": None if entry["median"] is None else f"{entry['median']:.5g} {entry['unit']}".strip(),
        "measured": ", ".join(told) or None,
        "state": "kept" if entry.get("reused") else "made",
    }


def _repeat(summary: Mapping[str, Any]) -> str:
    """What has to be said to have the same masters chosen again."""
    revision = summary["registry"]["revision"]
    return f"; --as-of {revision} chooses the same again"


def _stock_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "master": entry["name"],
        "product": entry["identity"].removeprefix("sha256:")[:12],
        "tag": entry["tag"],
        "from": _day(entry["begin"]),
        "to": _day(entry["end"]),
        "level": entry["level"] or None,
    }


def _day(time: str | None) -> str:
    """A time to the minute, as ``certify`` takes it."""
    return "..." if time is None else f"{time[:16]}Z"


def _frame_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    steps = [step for step in entry["steps"] if step not in ("saturation", "read_noise")]
    return {
        "frame": entry["name"],
        "filter": entry["filter"],
        "exptime": entry["exptime"],
        "steps": ", ".join(steps),
        "median": None if entry["median"] is None else f"{entry['median']:.5g} {entry['unit']}",
        "noise": None if entry["noise"] is None else f"{entry['noise']:.4g} {entry['unit']}",
        "state": "kept" if entry.get("reused") else "made",
    }
