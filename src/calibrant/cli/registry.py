"""``calibrant registry``: which calibration was valid when, why, and where it comes from."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrant.cli import registry_print as show
from calibrant.cli.common import Terminal
from calibrant.cli.registry_words import as_options, question_of
from calibrant.errors import CalibrantError, OptionError, SelectionError

if TYPE_CHECKING:
    from calibrant.registry import Registry

DB = Annotated[
    str | None,
    typer.Option(
        "--db", "--url", help="The registry: file or URL. [default: $CALIBRANT_REGISTRY, or calibrant.db]"
    ),
]
PRODUCT = Annotated[
    str,
    typer.Argument(help="A product: its file, its identity, or the first digits of it.", metavar="PRODUCT"),
]
TAGS = Annotated[
    str | None, typer.Option("--tag", help="Tags to search, by commas, the first one first. [default: all]")
]
AS_OF = Annotated[
    str | None, typer.Option("--as-of", help="What was known then: a revision, a time, a frozen state.")
]
EXPOSURE = Annotated[str | None, typer.Option("--exposure", "-e", help="Identifier of an exposure.")]
DETECTOR = Annotated[str | None, typer.Option("--detector", "-d", help="Name or number of a detector.")]
INSTRUMENT = Annotated[str | None, typer.Option("--instrument", "-i", help="Name of an instrument.")]
FILTER = Annotated[str | None, typer.Option("--filter", "-f", help="Filter, if no exposure is named.")]
TIME = Annotated[str | None, typer.Option("--time", "-t", help="Time (UTC), if no exposure is named.")]
KEY = Annotated[
    list[str] | None, typer.Option("--key", "-k", help="A further fact: temperature=-10, binning=2x2.")
]
LEVEL = Annotated[int, typer.Option("--level", "-l", help="How far outside its validity; 0 is not at all.")]
DRAFTS = Annotated[bool, typer.Option("--drafts", help="Also products that nobody certified.")]


@contextmanager
def opened(terminal: Terminal, db: str | None, **options: Any) -> Iterator[Registry]:
    """The registry of `--db`; what it has to say is said at the end, too."""
    from calibrant.registry import Registry

    with Registry(db, **options) as registry:
        try:
            yield registry
        except CalibrantError as error:
            error.do = error.do and as_options(error.do)
            raise
        for note in registry.notes:
            terminal.say(f"note: {note}")


def init(terminal: Terminal, db: DB = None) -> None:
    """Make an empty registry: a file, or the tables of one in a database that there is."""
    from calibrant.registry import Registry

    with Registry.create(db) as registry:
        result = {"url": registry.url, "revision": registry.revision, "notes": list(registry.notes)}
        terminal.result(result, lambda: typer.echo(f"{show.place(registry.url)}: an empty registry"))
        for note in registry.notes:
            terminal.say(f"note: {note}")
        terminal.say("next: calibrant registry ingest FOLDER --instrument NAME")


def ingest(
    terminal: Terminal,
    folders: Annotated[list[Path], typer.Argument(help="Folders, files, or @list.txt.")],
    instrument: Annotated[
        str, typer.Option("--instrument", "-i", help="Name of an instrument, a TOML file, or auto.")
    ] = "auto",
    kinds: Annotated[
        Path | None, typer.Option(help="A table (CSV or TOML) that says what files are: name or glob, kind.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Let facts that read otherwise now replace those recorded before.")
    ] = False,
    db: DB = None,
) -> None:
    """Record raw exposures: facts from their headers, hash, size, and where the bytes are."""
    from calibrant.exposures import Exposures

    with opened(terminal, db) as registry, terminal.progress() as progress:
        began = clock.monotonic()
        exposures = Exposures.scan(
            [str(folder) for folder in folders], instrument=instrument, kinds=kinds, progress=progress
        )
        if not any(exposure.kind != "product" for exposure in exposures):
            first = f": {exposures.problems[0].sentence}" if exposures.problems else ""
            raise SelectionError(
                f"there are no exposures to ingest{first}", where=", ".join(map(str, folders))
            )
        size = sum(Path(path).stat().st_size for path in exposures.paths if Path(path).exists())
        done = registry.ingest(exposures, again=again, progress=progress)
        seconds, revision = clock.monotonic() - began, registry.revision
    result = {
        **asdict(done),
        "instrument": exposures.instrument.name,
        "problems": [{"file": problem.path, "problem": problem.sentence} for problem in exposures.problems],
        "seconds": round(seconds, 3),
        "files_per_second": round(len(exposures) / max(seconds, 1e-9), 1),
        "mb_per_second": round(size / 1e6 / max(seconds, 1e-9), 1),
        "revision": revision,
    }
    terminal.result(result, lambda: show.ingested(result))


def add(
    terminal: Terminal,
    files: Annotated[list[Path], typer.Argument(help="Files of products.")],
    db: DB = None,
) -> None:
    """Record products as drafts; of those that are known, a further place of the file."""
    from calibrant.registry import plain
    from calibrant.registry.opening import product_file

    rows = []
    with opened(terminal, db) as registry:
        for path in files:
            product = product_file(path)
            before = registry.known(product.identity)
            entry = registry.add(product, path)
            known = None if before is None else str(path.absolute()) in before.places
            rows.append({**plain.entry(entry), "file": str(path), "known": before is not None})
            terminal.say(show.added(entry, str(path), known))
    terminal.result(rows, lambda: None)


def verify(
    terminal: Terminal,
    product: PRODUCT,
    recipe: Annotated[str, typer.Option(help="Whose limits: name, TOML file, or auto.")] = "auto",
    frames: Annotated[
        list[Path] | None,
        typer.Option("--frames", help="Raw frames to judge it on, or folders; else those it was made of."),
    ] = None,
    db: DB = None,
) -> None:
    """Judge a product on frames that are processed with it, by the limits of the recipe."""
    from calibrant.pipeline.evidence import evidence

    with opened(terminal, db) as registry:
        found = evidence(registry, product, frames or ())
        verdict = found.judge(recipe)
        if found.entry is not None:
            registry.verified(verdict)
    notes = [*found.notes, *verdict.notes]
    if found.entry is not None and found.entry.state == "withdrawn":
        notes.append("it was withdrawn: nothing chooses it, whatever its verdict")
    result = {
        **asdict(verdict),
        "items": [{**asdict(item), "passed": item.passed} for item in verdict.items],
        "passed": verdict.passed,
        "recorded": found.entry is not None,
        "notes": notes,
    }
    terminal.result(result, lambda: show.verdict(terminal, verdict, notes, recorded=found.entry is not None))
    if not verdict.passed:
        raise typer.Exit(1)


def certify(
    terminal: Terminal,
    product: PRODUCT,
    begin: Annotated[str | None, typer.Option("--from", help="First moment (UTC). [default: always]")] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="First moment it is no longer valid. [default: for ever]")
    ] = None,
    tag: Annotated[str, typer.Option(help="Under which name; made if it is new.")] = "default",
    replace: Annotated[
        bool, typer.Option("--replace", help="End what is certified for that time; the rest of it stays.")
    ] = False,
    force: Annotated[
        str | None, typer.Option("--force", help="Reason to certify what no verification passed; recorded.")
    ] = None,
    db: DB = None,
) -> None:
    """Say from when to when a product is valid."""
    from calibrant.registry import plain

    with opened(terminal, db) as registry:
        added = _added(registry, product)
        entry, notes = registry.certify(product, begin, end, tag=tag, replace=replace, force=force)
        result = {**plain.entry(entry), "notes": [*added, *notes], "revision": registry.revision}
        terminal.result(result, lambda: show.certified(entry, tag))
        for note in (*added, *notes):
            terminal.say(f"note: {note}")


def _added(registry: Registry, ref: str) -> list[str]:
    """Record a product's file that the registry does not know; returns what there is to say."""
    if not Path(ref).is_file():
        return []
    from calibrant.registry.opening import product_file

    product = product_file(ref)
    before = registry.known(product.identity)
    if before is not None and str(Path(ref).absolute()) in before.places:
        return []
    return [show.added(registry.add(product, ref), ref, None if before is None else False)]


def get(
    terminal: Terminal,
    kind: Annotated[str, typer.Argument(help="bias, dark, flat ...; raw; or calibrated.")],
    exposure: EXPOSURE = None,
    detector: DETECTOR = None,
    instrument: INSTRUMENT = None,
    filter: FILTER = None,
    time: TIME = None,
    key: KEY = None,
    as_of: AS_OF = None,
    tag: TAGS = None,
    level: LEVEL = 0,
    drafts: DRAFTS = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Copy the file here: a file, or a folder.")
    ] = None,
    db: DB = None,
) -> None:
    """Which product, raw file or calibrated frame belongs to an exposure; --out copies it."""
    from calibrant.registry import plain
    from calibrant.registry.words import as_of_of

    asked = question_of(exposure, detector, instrument, time, key, filter)
    asked |= {"tag": tag, "as_of": as_of_of(as_of), "level": level, "drafts": drafts}
    with opened(terminal, db) as registry:
        path, choice = registry.locate(kind, **asked)
        if out is not None:
            from calibrant.files.copying import copy

            out = out / Path(path).name if out.is_dir() else out
            copy(path, out, overwrite=terminal.overwrite)
        result: dict[str, Any] = {"kind": kind, "path": path, "out": None if out is None else str(out)}
        result |= {"notes": list(registry.notes)} if choice is None else plain.choice(choice)
        terminal.result(result, lambda: show.got(result))
        for note in () if choice is None else choice.notes:
            terminal.say(f"note: {note}")


def explain(
    terminal: Terminal,
    kind: Annotated[str, typer.Argument(help="bias, dark, flat ...")],
    exposure: EXPOSURE = None,
    detector: DETECTOR = None,
    instrument: INSTRUMENT = None,
    filter: FILTER = None,
    time: TIME = None,
    key: KEY = None,
    as_of: AS_OF = None,
    tag: TAGS = None,
    level: LEVEL = 0,
    drafts: DRAFTS = False,
    db: DB = None,
) -> None:
    """Every candidate for an exposure: chosen, or which rule refused it."""
    from calibrant.registry import plain
    from calibrant.registry.words import as_of_of

    asked = question_of(exposure, detector, instrument, time, key, filter)
    asked |= {"tag": tag, "as_of": as_of_of(as_of), "level": level, "drafts": drafts}
    with opened(terminal, db) as registry:
        found = registry.explain(kind, **asked)
    terminal.result(plain.explanation(found), lambda: show.explanation(terminal, found))
    for note in found.notes:
        terminal.say(f"note: {note}")


def lineage(
    terminal: Terminal,
    product: Annotated[
        str,
        typer.Argument(
            help="A product, calibrated frame or raw file: its file, or the first digits of its identity.",
            metavar="PRODUCT",
        ),
    ],
    dot: Annotated[bool, typer.Option("--dot", help="Print it for Graphviz.")] = False,
    db: DB = None,
) -> None:
    """What a product or frame was made of, back to raw files."""
    from calibrant.registry import plain

    with opened(terminal, db) as registry:
        found = registry.lineage(product)
    if dot:
        from calibrant.registry.lineage import dot as dotted

        typer.echo(dotted(found), nl=False)
        return
    terminal.result(plain.lineage(found), lambda: show.lineage(found))


def withdraw(
    terminal: Terminal,
    product: PRODUCT,
    why: Annotated[str, typer.Option("--why", help="Shown wherever it is refused from now on.")],
    db: DB = None,
) -> None:
    """Take a product, a calibrated frame or a raw file back: nothing chooses it any more."""
    with opened(terminal, db) as registry:
        made = registry.withdraw(product, why)
        result = {"withdrawn": product, "why": why, "tainted": list(made), "revision": registry.revision}
        terminal.result(result, lambda: show.withdrawn(product, made))


def ls(
    terminal: Terminal,
    kind: Annotated[str | None, typer.Argument(help="Only products (or exposures) of this kind.")] = None,
    exposures: Annotated[
        bool, typer.Option("--exposures", help="Raw exposures instead of products.")
    ] = False,
    instrument: INSTRUMENT = None,
    tag: Annotated[str | None, typer.Option(help="Only what is certified under this tag.")] = None,
    state: Annotated[
        str | None, typer.Option(help="Only draft, certified, superseded or withdrawn ones.")
    ] = None,
    limit: Annotated[int, typer.Option(help="So many at most; 0 for all.")] = 100,
    db: DB = None,
) -> None:
    """List products: what they are for, their state, and when they are valid."""
    from calibrant.registry import plain

    if exposures and (tag or state):
        raise OptionError("exposures have neither tag nor state", do="leave out --exposures, or the others")
    with opened(terminal, db) as registry:
        if exposures:
            rows = registry.exposures(kind=kind, instrument=instrument, limit=limit or None)
            terminal.result(rows, lambda: show.exposures(terminal, rows, limit))
            return
        filters = {"kind": kind, "instrument": instrument, "tag": tag, "state": state}
        entries, total = registry.products(**filters, limit=limit or None), registry.count(**filters)
        about = {"tags": registry.tags(), "frozen": registry.contexts(), "total": total}
    result = {"products": [plain.entry(entry) for entry in entries], **about}
    terminal.result(result, lambda: show.products(terminal, entries, about))


def check(terminal: Terminal, db: DB = None) -> None:
    """Read every file that the registry knows: lost, moved, altered, or made of what was withdrawn."""
    with opened(terminal, db) as registry, terminal.progress() as progress:
        troubles = registry.check(progress=progress)
    severe = sum(trouble.severe for trouble in troubles)
    result = {"troubles": [asdict(trouble) for trouble in troubles], "severe": severe}
    terminal.result(result, lambda: show.troubles(troubles, severe))
    if severe:
        raise typer.Exit(1)


def freeze(
    terminal: Terminal,
    name: Annotated[str, typer.Argument(help="A word, to be said as --as-of NAME.")],
    why: Annotated[str, typer.Option("--why", help="For those who come later.")] = "",
    db: DB = None,
) -> None:
    """Give the present state a name, so that a reduction can be repeated years later."""
    with opened(terminal, db) as registry:
        revision = registry.freeze(name, why)
        result = {"name": name, "revision": revision, "why": why}
        terminal.result(result, lambda: typer.echo(f"{name} is revision {revision}: say --as-of {name}"))


def tag(
    terminal: Terminal,
    name: Annotated[str, typer.Argument(help="A tag; made if it is new.")],
    then: Annotated[
        list[str] | None,
        typer.Option("--then", help="Tags to search after it, in order; none ends the chain."),
    ] = None,
    db: DB = None,
) -> None:
    """Let a tag be followed by others where it is searched."""
    members = [word.strip() for words in then or () for word in words.split(",") if word.strip()]
    with opened(terminal, db) as registry:
        revision = registry.chain(name, members)
        result = {"tag": name, "then": members, "revision": revision}
        told = f"{name} is searched first, then {', '.join(members)}" if members else f"{name} stands alone"
        terminal.result(result, lambda: typer.echo(told))
