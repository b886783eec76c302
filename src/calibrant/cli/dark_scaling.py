"""``calibrant measure dark-scaling``: one dark scaled to match another, by several models."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrant.cli.common import Progress, Terminal
from calibrant.cli.tables import with_sigma
from calibrant.errors import OptionError

if TYPE_CHECKING:
    from calibrant.pipeline.dark_scaling import Scaled
    from calibrant.product import Quantity

NAME = "dark-scaling"
NUMBERS = ("mean", "std", "rms", "sum", "held out")
PHYSICS = ("temperature_factor", "level_factor", "doubling_temperature", "implied_bias", "drift")
LEGEND = "sum: of the residuals, over that of the second dark; held out: rms of blocks left out; *: chosen"


def dark_scaling(
    terminal: Terminal,
    dark_from: Annotated[str, typer.Argument(metavar="FROM", help="The dark to scale: FILE or FILE[1].")],
    dark_to: Annotated[str, typer.Argument(metavar="TO", help="The dark to match: FILE or FILE[2].")],
    models: Annotated[
        str, typer.Option(help="Such as add, mult, poly1..9, deming, york, huber, robust, affine.")
    ] = "add,mult,poly1..4,deming,robust",
    hot: Annotated[
        str | None,
        typer.Option(help="Hot pixels to leave out: 2500 (adu, in the first dark), 5sigma, persistent:2500."),
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="Where to fit: a FITS section; unlit or calm, for a light frame.")
    ] = None,
    factors: Annotated[
        str, typer.Option(help="Of copies of the first dark in the pictures, such as 1.4,1.5,1.6.")
    ] = "",
    gain: Annotated[float | None, typer.Option(help="e-/adu, for the noise of the pixels.")] = None,
    read_noise: Annotated[float | None, typer.Option(help="adu, for the noise of the pixels.")] = None,
    zero: Annotated[
        float | None, typer.Option(help="adu: level without dark current, for that noise and for affine.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The fit file (.fits), or a folder of the results.")
    ] = Path("dark_fitting.fits"),
    product: Annotated[
        Path | None, typer.Option(help="File of the product, if not beside the fit file.")
    ] = None,
    instrument: Annotated[
        str, typer.Option("--instrument", "-i", help="Name of an instrument, a TOML file, or auto.")
    ] = "auto",
    register: Annotated[
        bool, typer.Option("--register", help="Record both files and the product (a draft) in a registry.")
    ] = False,
    db: Annotated[
        str | None,
        typer.Option(
            "--db", "--url", help="The registry: file or URL; else $CALIBRANT_REGISTRY, or calibrant.db."
        ),
    ] = None,
    plots: Annotated[bool, typer.Option(help="Draw pictures, into a folder beside the fit file.")] = True,
) -> None:
    """Scale one dark to match another: an offset, a factor, polynomials, lines with errors in both."""
    from calibrant.cli.registry import opened
    from calibrant.pipeline.dark_scaling import image_of, options_of, scale

    options = options_of(hot, _numbers(factors), gain, read_noise, zero)
    with opened(terminal, db) if register else nullcontext() as registry:
        done = scale(
            image_of(dark_from, instrument),
            image_of(dark_to, instrument),
            out=out,
            models=models,
            product=product,
            overwrite=terminal.overwrite,
            register=registry,
            where=_window(window),
            **options,
        )
    with terminal.progress() as progress:
        pictures = draw(done, progress) if plots else []
    terminal.result(_facts(done, pictures), lambda: _print(terminal, done, pictures))


def draw(done: Scaled, progress: Progress | None = None) -> list[str]:
    """All pictures of the scaling, in a folder of their own."""
    from calibrant.report.plots import figures, save

    folder = done.pictures
    folder.mkdir(exist_ok=True)
    makers = figures(done.product)
    for count, (part, make) in enumerate(makers.items(), 1):
        save(make(), folder / f"{part}.png", overwrite=True)
        if progress is not None:
            progress(count, len(makers), "drawing")
    return [str(folder / f"{part}.png") for part in makers]


def _window(text: str | None) -> Any:
    """A window as slices of rows and columns, or the word for one that is to be found."""
    from calibrant.sections import parse_section

    if text is None or text in ("calm", "unlit"):
        return text
    return tuple(parse_section(text)[:2])


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise OptionError(
            "not factors", where="--factors", expected="such as 1.4,1.5,1.6", got=repr(text)
        ) from None


def _facts(done: Scaled, pictures: list[str]) -> dict[str, Any]:
    from calibrant.pipeline.dark_scaling import table

    rows = table(done.product)
    return {
        "out": str(done.out),
        "product": str(done.file),
        "identity": done.product.identity,
        "inputs": [one.name for one in done.product.provenance.inputs],
        "models": rows,
        "chosen": next((row["model"] for row in rows if row["chosen"]), None),
        "physics": {one.name: {"value": one.value, "sigma": one.sigma} for one in _physics(done)},
        "populations": done.product.tables.get("populations", {}),
        "notes": list(done.product.provenance.notes),
        "pictures": pictures,
        "registered": done.registered,
    }


def _print(terminal: Terminal, done: Scaled, pictures: list[str]) -> None:
    from calibrant.pipeline.dark_scaling import table

    rows = _aligned([_row(row) for row in table(done.product)])
    terminal.table(rows, list(rows[0]), title=f"dark scaling of {int(_pixels(done))} pixels")
    typer.echo(terminal.folded(LEGEND))
    if physics := [_said(one) for one in _physics(done)]:
        typer.echo(terminal.folded(f"affine: {', '.join(physics)}"))
    for note in done.product.provenance.notes:
        typer.echo(terminal.folded(f"note: {note}"))
    if done.registered:
        from calibrant.pipeline.register import sentence

        for note in done.registered["notes"]:
            typer.echo(f"note: {note}")
        typer.echo(sentence(done.registered))
    typer.echo(f"fit file: {done.out}  product: {done.file}")
    if pictures:
        typer.echo(f"pictures: {Path(pictures[0]).parent}/")


def _physics(done: Scaled) -> list[Quantity]:
    """What the model ``affine`` says beyond its coefficients."""
    return [one for one in done.product.quantities if one.name in PHYSICS]


def _said(one: Quantity) -> str:
    return f"{one.name.replace('_', ' ')} {with_sigma(one.value, one.sigma)} {one.unit}".rstrip()


def _pixels(done: Scaled) -> int:
    return int(done.product.tables["models"]["n"][0])


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Short forms, so that the table fits 80 columns."""
    return {
        "model": row["model"],
        "rank": f"{row['rank']}{' *' if row['chosen'] else ''}",
        "coefficients": ", ".join(f"{value:.4g}" for value in row["coefficients"]),
        "mean": _short(row["mean"]),
        "std": _short(row["std"]),
        "rms": _short(row["rms"]),
        "sum": f"{row['sum_ratio'] + 0.0:.3f}".replace("-0.000", "0.000"),
        "held out": with_sigma(row["cv"], row["cv_sigma"]),
    }


def _aligned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Numbers with their points below each other."""
    wide = {name: max(len(str(row[name])) for row in rows) for name in rows[0] if name in NUMBERS}
    return [{name: str(cell).rjust(wide.get(name, 0)) for name, cell in row.items()} for row in rows]


def _short(value: float) -> str:
    """Two places, or five digits of what is large."""
    text = f"{value:.2f}" if abs(value) < 1e3 else f"{value:.5g}"
    return "0.00" if text == "-0.00" else text
