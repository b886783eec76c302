"""The table of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from calibrant.cli import (
    combine,
    compare,
    dark_scaling,
    instrument,
    listing,
    measure,
    measure_slices,
    pixel,
    reduce,
    registry,
    report,
    show,
    simulate,
    view,
)
from calibrant.cli.common import command

app = typer.Typer(
    name="calibrant",
    help="Raw detector frames in, calibrations that can be trusted and calibrated frames out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"calibrant {version('calibrant')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Raw detector frames in, calibrations that can be trusted and calibrated frames out."""


command(app, "ls")(listing.ls)
command(app, "reduce")(reduce.reduce)
command(app, "combine")(combine.combine)
command(app, "compare")(compare.compare)
command(app, "debug-pixel")(pixel.debug_pixel)
command(app, "show")(show.show)
command(app, "report")(report.report)
command(app, "view")(view.view)
command(app, "serve")(view.serve)

measurements = typer.Typer(
    no_args_is_help=True, help="Measure a detector: gain, linearity, crosstalk and more."
)
for name in measure.NAMES:
    command(measurements, name, cls=measure.Command)(measure.verb(name))
for name in measure_slices.ABOUT:
    command(measurements, name, cls=measure.Command)(measure_slices.verb(name))
command(measurements, dark_scaling.NAME)(dark_scaling.dark_scaling)
app.add_typer(measurements, name="measure")

simulations = typer.Typer(no_args_is_help=True, help="Simulate raw frames whose truth is known.")
command(simulations, "ccd-night")(simulate.ccd_night)
command(simulations, "dark-pair")(simulate.dark_pair)
command(simulations, "infrared")(simulate.infrared)
for camera in simulate.cameras():
    command(simulations, camera)(simulate.of_camera(camera))
for slicer in simulate.slicers():
    command(simulations, slicer)(simulate.of_slicer(slicer))
app.add_typer(simulations, name="simulate")

instruments = typer.Typer(no_args_is_help=True, help="Instrument files: list, print, check.")
command(instruments, "ls")(instrument.ls)
command(instruments, "print")(instrument.print_file)
command(instruments, "check")(instrument.check)
app.add_typer(instruments, name="instrument")

registries = typer.Typer(
    no_args_is_help=True, help="Which calibration was valid when, why, and where it comes from."
)
command(registries, "init")(registry.init)
command(registries, "ingest")(registry.ingest)
command(registries, "add")(registry.add)
command(registries, "verify")(registry.verify)
command(registries, "certify")(registry.certify)
command(registries, "get")(registry.get)
command(registries, "explain")(registry.explain)
command(registries, "lineage")(registry.lineage)
command(registries, "withdraw")(registry.withdraw)
command(registries, "ls")(registry.ls)
command(registries, "check")(registry.check)
command(registries, "freeze")(registry.freeze)
command(registries, "tag")(registry.tag)
app.add_typer(registries, name="registry")
