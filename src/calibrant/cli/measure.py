"""``calibrant measure``: gain, linearity, crosstalk and more of the detectors of a folder, with errors."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from calibrant.cli.common import Progress, Terminal
from calibrant.cli.pictures import is_newer
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


Paths = Annotated[list[Path], typer.Argument(help="Raw frames: folders, files.", metavar="FILES|DIR")]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the results, or a .fits file for a single product.")
]
Whose = Annotated[
    str, typer.Option("--instrument", "-i", help="Name of an instrument, a TOML file, or auto.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option of the measurement: name=value; also --name value."),
]
Where = Annotated[str | None, typer.Option("--where", help="Which frames: 'filter=r and exptime>1'.")]
Kinds = Annotated[
    Path | None, typer.Option(help="A table (CSV or TOML) that says what files are: name or glob, kind.")
]
Register = Annotated[
    bool, typer.Option("--register", help="Record raw frames and products (as drafts) in a registry.")
]
Db = Annotated[
    str | None,
    typer.Option(
        "--db", "--url", help="The registry: file or URL. [default: $CALIBRANT_REGISTRY, or calibrant.db]"
    ),
]
Plots = Annotated[bool, typer.Option(help="Draw pictures.")]


def verb(name: str) -> Callable[..., None]:
    """The command that measures `name`."""

    def measure(
        terminal: Terminal,
        paths: Paths,
        out: Out = Path("measured"),
        instrument: Whose = "auto",
        recipe: Annotated[
            str, typer.Option(help="Whose overscan and masters: name, TOML file, or auto.")
        ] = "auto",
        change: Set = None,
        where: Where = None,
        kinds: Kinds = None,
        corrections: Annotated[
            bool, typer.Option(help="Correct before what can be measured on the same frames: linearity.")
        ] = True,
        register: Register = False,
        db: Db = None,
        plots: Plots = True,
        budget: Annotated[str, typer.Option(help="Memory that combining may use.")] = "512MB",
        jobs: Annotated[int, typer.Option(help="Threads; 0 for one per core.")] = 0,
    ) -> None:
        engine = {"budget": budget, "runner": jobs or None, "recipe": recipe, "corrections": corrections}
        frames = {"where": where, "instrument": instrument, "kinds": kinds}
        more = {"out": out, "options": options_of(change or []), **frames, **engine}
        measured_and_told(terminal, name, paths, (register, db), plots, more)

    measure.__doc__ = ABOUT[name]
    return measure


def measured_and_told(
    terminal: Terminal,
    name: str,
    paths: list[Path],
    registry: tuple[bool, str | None],
    plots: bool,
    options: Mapping[str, Any],
) -> None:
    """Measure, draw and print; `options` are those of `calibrant.pipeline.measure.measure`."""
    from calibrant.cli.measure_print import facts, print_measured
    from calibrant.cli.registry import opened
    from calibrant.pipeline.measure import measure

    register, db = registry
    with terminal.progress() as progress, opened(terminal, db) if register else nullcontext() as where:
        told: dict[str, Any] = {"register": where, "progress": progress, "overwrite": terminal.overwrite}
        measured = measure(paths, name, **told, **options)
        pictures = draw(measured, progress) if plots else {}
    terminal.result(facts(measured, pictures), lambda: print_measured(terminal, measured, pictures))


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
