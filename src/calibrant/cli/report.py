"""``calibrant report``: products as one HTML file to be read, printed and sent."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrant.cli.common import Progress, Terminal
from calibrant.cli.registry import DB
from calibrant.errors import OptionError, SelectionError

if TYPE_CHECKING:
    from calibrant.cli.reporting import Desk, Found
    from calibrant.registry import Registry
    from calibrant.report.matter import Run

BY = ("reduction", "detector")


def report(
    terminal: Terminal,
    paths: Annotated[
        list[Path], typer.Argument(help="Folders of results, files of products; with --db identities.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file to write.")] = Path("report.html"),
    by: Annotated[str, typer.Option(help="One file for each reduction, or for each detector.")] = "reduction",
    detector: Annotated[str | None, typer.Option("--detector", "-d", help="Only this detector.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="An earlier folder (or product) to compare with.")
    ] = None,
    raw: Annotated[
        Path | None, typer.Option(help="Folder of the raw frames to verify on; by default the reduction's.")
    ] = None,
    verify: Annotated[bool, typer.Option(help="Verify products that nobody has verified.")] = True,
    instrument: Annotated[
        str, typer.Option("--instrument", "-i", help="Name of an instrument, a TOML file, or auto.")
    ] = "auto",
    recipe: Annotated[
        str, typer.Option(help="Whose limits: name of a recipe, a TOML file, or auto.")
    ] = "auto",
    title: Annotated[str, typer.Option(help="The heading. [default: what was reduced]")] = "",
    db: DB = None,
) -> None:
    """Write a report: verdicts, masters, measurements, plots, comparison and origin, in one HTML file."""
    from calibrant.cli.reporting import each
    from calibrant.registry import Registry

    if by not in BY:
        raise OptionError("a report is made for each of these", where="--by", expected=", ".join(BY), got=by)
    options = {"raw": raw, "verify": verify, "instrument": instrument, "recipe": recipe, "title": title}
    groups = list(each(paths))
    with ExitStack() as stack, terminal.progress() as progress:
        registry = None if db is None else stack.enter_context(Registry(db))
        work = _Work(registry, against, detector, by == "detector", options, progress)
        files = []
        for group in groups:
            target = out if len(groups) == 1 else _of_group(out, group)
            files += work.reports(group, target, terminal.overwrite)
    told = [{"file": str(file), "bytes": file.stat().st_size} for file in files]
    terminal.result({"reports": told}, lambda: _print(told))


def _of_group(out: Path, group: list[Path]) -> Path:
    from calibrant.cli.reporting import beside

    return beside(out, group[0].resolve().name if group[0].is_dir() else "products")


def _print(told: list[dict[str, Any]]) -> None:
    for one in told:
        typer.echo(f"report: {one['file']} ({one['bytes'] / 1e6:.1f} MB)")


class _Work:
    """What the reports of one command share."""

    def __init__(
        self,
        registry: Registry | None,
        against: Path | None,
        detector: str | None,
        apart: bool,
        options: dict[str, Any],
        progress: Progress | None,
    ) -> None:
        from calibrant.cli.reporting import products_of

        self.registry, self.detector, self.apart = registry, detector, apart
        self.options, self.progress = options, progress
        self.others = [] if against is None else products_of(against)[0]

    def reports(self, group: list[Path], out: Path, overwrite: bool) -> list[Path]:
        """The reports of one folder, or of some files."""
        from calibrant.cli import reporting
        from calibrant.files.atomic import refuse_existing
        from calibrant.report.matter import Run

        several = [reporting.products_of(path, self.registry) for path in group]
        found = [one for products, _ in several for one in products]
        problems = [sentence for _, sentences in several for sentence in sentences]
        folder = group[0] if group[0].is_dir() else None
        summary = {} if folder is None else reporting.summary_of(folder)
        targets = self._targets(found, out)
        for target, _, _ in targets:
            refuse_existing(target, overwrite)
        desk = self._desk(found, summary, folder or group[0].parent)
        run = Run(folder, summary, problems, (), self.registry, desk.judge.instrument)
        return [
            self._report(
                desk, reporting.of_detector(run, found, name) if name else run, own, target, name, overwrite
            )
            for target, name, own in targets
        ]

    def _targets(self, found: list[Found], out: Path) -> list[tuple[Path, str, list[Found]]]:
        """File, detector and products of each report."""
        from calibrant.cli.reporting import beside, detectors_of

        known = detectors_of(found)
        if self.detector is not None:
            if self.detector not in known:
                raise SelectionError(
                    "no product is of this detector", where="--detector",
                    expected=", ".join(known) or "none", got=self.detector,
                )  # fmt: skip
            return [(out, self.detector, known[self.detector])]
        if self.apart and len(known) > 1:
            return [(beside(out, name), name, own) for name, own in known.items()]
        return [(out, "", found)]

    def _desk(self, found: list[Found], summary: dict[str, Any], results: Path) -> Desk:
        from calibrant.cli.reporting import Desk, Judge, instrument_of, neighbours, raw_frames

        model, why = instrument_of(self.options["instrument"], found)
        folder = self.options["raw"] or (Path(summary["folder"]) if summary.get("folder") else None)
        judge = Judge(
            model,
            raw_frames(folder, results, model, found) if self.options["verify"] else None,
            self.options["recipe"] if self.options["recipe"] != "auto" else summary.get("recipe", "auto"),
            {one.identity: one for one in (*neighbours(found), *found)},
            why or ("" if folder is None else f"its raw frames are not to be found in {folder}"),
        )
        return Desk(
            judge, self.registry, self.others, progress=self.progress, verifies=bool(self.options["verify"])
        )

    def _report(
        self, desk: Desk, run: Run, found: list[Found], out: Path, detector: str, overwrite: bool
    ) -> Path:
        from dataclasses import replace

        from calibrant.cli.reporting import now, title_of, written
        from calibrant.report.page import page

        subjects = desk.subjects(found)
        run = replace(run, notes=tuple(desk.notes))
        title = self.options["title"] or title_of(run.summary, run.folder or found[0].path, detector)
        return written(page(subjects, title=title, run=run, created=now()), out, overwrite)
