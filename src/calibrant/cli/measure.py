"""``calibrant measure``: gain, linearity, crosstalk and more of the detectors of a folder, with errors."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from calibrant.cli.common import Progress, Terminal
from calibrant.cli.pictures import is_newer
from calibrant.cli.tables import rounded, with_sigma
from calibrant.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from calibrant.pipeline.measure import Measured

NAMES = (
    "gain",
    "linearity",
    "crosstalk",
    "charge-transfer",
    "brighter-fatter",
    "amplifier-offsets",
    "sky-flat",
    "illumination",
    "fringe-frame",
    "defects",
    "dark-library",
    "flat-structure",
    "read-noise",
    "ramp",
    "superbias",
    "dark-ramp",
    "ramp-linearity",
    "one-over-f",
    "reference-pixels",
    "dark-slope",
    "bad-pixels",
)
"""The commands; what they do stands in `calibrant.pipeline.measurements`, too heavy for a help page."""

ABOUT = {
    "gain": "Gain, read noise, brighter-fatter coefficient and full well, by photon transfer curves.",
    "linearity": "Non-linearity of each amplifier from a series of flats.",
    "crosstalk": "What each amplifier sees of the others, from frames with bright sources.",
    "charge-transfer": "Inefficiency of charge transfer, from the trails in the overscan of flats.",
    "brighter-fatter": "The kernel that says how charge moves the boundaries of pixels, from pairs of flats.",
    "amplifier-offsets": "Steps between amplifiers across their borders: offsets and ratios of gains.",
    "sky-flat": "A flat of the night sky: dithered science frames, sources masked.",
    "illumination": "What the dome's flat gets wrong on large scales, from dithered science frames.",
    "fringe-frame": "The fringes of the sky, from dithered science frames of one filter.",
    "defects": "Hot, dead, deaf and noisy pixels and bad columns, on the masters of the folder.",
    "dark-library": "Rate and activation energy of each pixel, from darks of several times and temperatures.",
    "flat-structure": "An inventory of what is seen in flats, of all detectors and bands, and its cure.",
    "read-noise": "Read noise of infrared arrays from ramps in the dark: stack, ramp or residual.",
    "ramp": "Slopes of infrared arrays from ramps, jumps left out: of each exposure, with errors and flags.",
    "superbias": "What each pixel of an infrared array shows after the reset, from many ramps.",
    "dark-ramp": "What each pixel of an infrared array gathers in the dark, read by read.",
    "ramp-linearity": "Linearity and saturation of each pixel of an infrared array, from flats.",
    "one-over-f": "1/f noise of infrared arrays: white, own, common and alternating parts, coherence.",
    "reference-pixels": "How stable reference pixels are, and active ones; which of them cannot be trusted.",
    "dark-slope": "The dark slope of each pixel of infrared arrays, from ramps in the dark.",
    "bad-pixels": "Hot, noisy, RC, telegraph, dead, deaf and open pixels of infrared arrays.",
}


def verb(name: str) -> Callable[..., None]:
    """The command that measures `name`."""

    def measure(
        terminal: Terminal,
        paths: Annotated[list[Path], typer.Argument(help="Raw frames: folders, files.", metavar="FILES|DIR")],
        out: Annotated[
            Path,
            typer.Option("--out", "-o", help="Folder of the results, or a .fits file for a single product."),
        ] = Path("measured"),
        instrument: Annotated[
            str, typer.Option("--instrument", "-i", help="Name of an instrument, a TOML file, or auto.")
        ] = "auto",
        recipe: Annotated[
            str, typer.Option(help="Whose overscan and masters: name, TOML file, or auto.")
        ] = "auto",
        change: Annotated[
            list[str] | None,
            typer.Option("--set", help="An option of the measurement: name=value; also --name value."),
        ] = None,
        where: Annotated[
            str | None, typer.Option("--where", help="Which frames: 'filter=r and exptime>1'.")
        ] = None,
        kinds: Annotated[
            Path | None,
            typer.Option(help="A table (CSV or TOML) that says what files are: name or glob, kind."),
        ] = None,
        corrections: Annotated[
            bool, typer.Option(help="Correct before what can be measured on the same frames: linearity.")
        ] = True,
        register: Annotated[
            bool, typer.Option("--register", help="Record raw frames and products (as drafts) in a registry.")
        ] = False,
        db: Annotated[
            str | None,
            typer.Option(
                "--db",
                "--url",
                help="The registry: file or URL. [default: $CALIBRANT_REGISTRY, or calibrant.db]",
            ),
        ] = None,
        plots: Annotated[bool, typer.Option(help="Draw pictures.")] = True,
        budget: Annotated[str, typer.Option(help="Memory that combining may use.")] = "512MB",
        jobs: Annotated[int, typer.Option(help="Threads; 0 for one per core.")] = 0,
    ) -> None:
        from calibrant.cli.registry import opened
        from calibrant.pipeline.measure import measure as run

        with terminal.progress() as progress:
            options: dict[str, Any] = {
                "out": out,
                "options": options_of(change or []),
                "where": where,
                "instrument": instrument,
                "recipe": recipe,
                "kinds": kinds,
                "corrections": corrections,
                "overwrite": terminal.overwrite,
                "budget": budget,
                "runner": jobs or None,
                "progress": progress,
            }
            if register:
                with opened(terminal, db) as registry:
                    measured = run(paths, name, register=registry, **options)
            else:
                measured = run(paths, name, **options)
            pictures = draw(measured, progress) if plots else {}
        terminal.result(_facts(measured, pictures), lambda: _print(terminal, measured, pictures))

    measure.__doc__ = ABOUT[name]
    return measure


class Command(TyperCommand):
    """A command that takes the options of its measurement by their names: ``--name value`` is ``--set``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Words, with those of the measurement as ``--set name=value``."""
        own = {word for one in self.params for word in (*one.opts, *one.secondary_opts)}
        return super().parse_args(ctx, list(as_set(args, own, str(self.name))))


def as_set(words: list[str], own: set[str], name: str) -> Iterator[str]:
    """``--method stack`` as ``--set method=stack``, where `own` options of the command are not meant.

    A flag of the measurement needs no value, and ``--no-`` before it denies it. What the measurement does not
    know either stays as it is.
    """
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if not option.startswith("--") or option in ("--", *own):
            yield word
            continue
        known = _options(name)  # late: it loads the effects
        key = option.removeprefix("--").replace("-", "_")
        denied = key.removeprefix("no_")
        if known.get(key) is bool and not equals:
            yield from ("--set", f"{key}=true")
        elif known.get(denied) is bool and denied != key:
            yield from ("--set", f"{denied}=false")
        elif key in known or difflib.get_close_matches(key, known, 1):  # misspelt: the nearest is told later
            yield from ("--set", f"{key}={value if equals else next(rest, '')}")
        else:
            yield word


def _options(name: str) -> Mapping[str, Any]:
    """Names and types of the options of a measurement."""
    from calibrant.pipeline.measure import find
    from calibrant.pipeline.options import taken_by

    return taken_by(find(name).options)


def options_of(words: list[str]) -> dict[str, Any]:
    """``name=value`` as a mapping; values as JSON where they are that, else as text.

    Raises
    ------
    OptionError
        For a word without ``=``.
    """
    options: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise OptionError("an option of a measurement is name=value", where="--set", got=repr(word))
        try:
            options[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            options[name.strip()] = value.strip()
    return options


def draw(measured: Measured, progress: Progress | None) -> dict[str, list[str]]:
    """The pictures of each product, and of detectors side by side: name -> files; new ones are drawn."""
    from calibrant.report.plots import save

    found: dict[str, list[str]] = {}
    wanted = list(_wanted(measured))
    for count, (name, part, sources, make) in enumerate(wanted, 1):
        picture = measured.out / "plots" / f"{name}_{part}.png"
        picture.parent.mkdir(exist_ok=True)
        if not is_newer(picture, [measured.out / file for file in sources]):
            save(make(), picture, overwrite=True)
        found.setdefault(name, []).append(str(picture.relative_to(measured.out)))
        if progress is not None:
            progress(count, len(wanted), "drawing")
    return found


def _wanted(measured: Measured) -> Iterator[tuple[str, str, list[str], Callable[[], Figure]]]:
    """Name, part, files that it shows, and how to make each picture."""
    from calibrant.report.plots.measurements import figures, together

    mosaics: dict[tuple[Any, ...], list[Any]] = {}
    for entry in measured.entries:
        product = measured.product(entry["name"])
        for part, make in figures(product).items():
            yield entry["name"], part, [entry["file"]], make
        keys = {key: value for key, value in entry["keys"].items() if key != "detector"}
        mosaics.setdefault(tuple(sorted((key, str(value)) for key, value in keys.items())), []).append(entry)
    for entries in mosaics.values():
        products = [measured.product(entry["name"]) for entry in entries]
        label = re.sub(r"_det[^_]*", "", entries[0]["name"])
        for part, make in together(products, measured.exposures.instrument).items():
            yield label, part, [entry["file"] for entry in entries], make


def _facts(measured: Measured, pictures: Mapping[str, list[str]]) -> dict[str, Any]:
    return {
        "measured": measured.name,
        "out": str(measured.out),
        "file": None if measured.file is None else str(measured.file),
        "instrument": measured.exposures.instrument.name,
        "products": [{**entry, "pictures": pictures.get(entry["name"], [])} for entry in measured.entries],
        "pictures": [file for files in pictures.values() for file in files],
        "notes": measured.notes,
        "problems": measured.problems,
        "registered": measured.registered,
        "seconds": measured.seconds,
    }


def _print(terminal: Terminal, measured: Measured, pictures: Mapping[str, list[str]]) -> None:
    for entry in measured.entries:
        state = "kept" if entry.get("reused") else "made"
        frames = f"{entry['frames']} frames, " if entry["frames"] else ""
        _print_quantities(terminal, f"{entry['name']} ({frames}{state})", entry)
        _print_verdicts(terminal, entry)
        for sentence in _sentences(entry):
            typer.echo(f"\n{terminal.folded(sentence)}")
        for note in entry["notes"]:
            typer.echo(terminal.folded(f"note: {note}"))
    for note in measured.notes:
        typer.echo(terminal.folded(f"note: {note}"))
    for problem in measured.problems:
        told = problem["problem"] if problem["file"] in problem["problem"] else ": ".join(problem.values())
        typer.echo(terminal.folded(f"left out: {told}"))
    if measured.registered:
        from calibrant.pipeline.register import sentence as registered

        typer.echo(registered(measured.registered))
    files = ", ".join(
        file for entry in measured.entries for file in (entry["file"], *entry.get("beside", ()))
    )
    drawn = f"  pictures: {measured.out / 'plots'}/" if pictures else ""
    if measured.file is not None:
        typer.echo(f"product: {measured.file}")
    typer.echo(f"results: {measured.out}/ ({files}){drawn}")
    typer.echo(f"{measured.seconds:.1f} s without pictures")


def _print_quantities(terminal: Terminal, title: str, entry: Mapping[str, Any]) -> None:
    """A row for each place, a column for each quantity; those of the whole detector below.

    Places of several kinds (amplifiers, sides) that share no quantity have a table each.
    """
    kinds: list[tuple[dict[str, str], dict[str, dict[str, Any]]]] = []
    for place, told in _by_place(entry["quantities"]).items():
        kind = next((one for one in kinds if set(one[0]) & set(told)), None)
        columns, rows = kind or ({}, {})
        if kind is None:
            kinds.append((columns, rows))
        columns |= {name: heading(q) for name, q in told.items()}
        rows[place] = {"amplifier": place} | {columns[name]: _told(q) for name, q in told.items()}
    for number, (columns, rows) in enumerate(kinds):
        head = title if number == 0 else ""
        terminal.table(list(rows.values()), ["amplifier", *columns.values()], title=head, parted=True)
    if not kinds:
        typer.echo(f"\n{title}")
    whole = [q for q in entry["quantities"] if not q.get("place")]
    if whole:
        lines = [{"quantity": heading(q), "value": _told(q)} for q in whole]
        terminal.table(lines, ["quantity", "value"])


def _by_place(quantities: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Place -> name -> quantity, without those of the whole detector."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for quantity in quantities:
        if quantity.get("place"):
            found.setdefault(quantity["place"], {})[quantity["name"]] = quantity
    return found


def _print_verdicts(terminal: Terminal, entry: Mapping[str, Any]) -> None:
    """What is beyond its limits, or unlike its history."""
    table = entry["tables"].get("verdict") or {}
    rows = [dict(zip(table, line, strict=True)) for line in zip(*table.values(), strict=True)]
    told = [
        {name: rounded(value) if isinstance(value, float) else value for name, value in row.items()}
        for row in rows
        if row["verdict"] in ("beyond limit", "unlike history")
    ]
    if told:
        terminal.table(told, list(table), title="beyond limits, or unlike their history", parted=True)


def _told(quantity: Mapping[str, Any]) -> object:
    """Its value with its uncertainty, or to a few digits."""
    return rounded(with_sigma(quantity["value"], quantity.get("sigma")))


def heading(quantity: Mapping[str, Any]) -> str:
    """Name and unit of a quantity, as the head of a column."""
    unit = str(quantity.get("unit") or "").replace("electron", "e-")
    return f"{quantity['name']} [{unit}]" if unit else str(quantity["name"])


def _sentences(entry: Mapping[str, Any]) -> list[str]:
    """What an inventory says of what it found."""
    table = entry["tables"].get("inventory", {})
    return [str(sentence) for sentence in table.get("sentence", ())]
