"""``calibrant simulate``: raw frames whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from calibrant.cli.common import Terminal
from calibrant.errors import OptionError


def ccd_night(
    terminal: Terminal,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; made if it is not there.")],
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 1,
    size: Annotated[int, typer.Option(help="Rows and columns of the detector.")] = 1024,
) -> None:
    """A night with a CCD: biases, darks, flats, a galaxy field; the truth beside them."""
    from calibrant.simulate.observe import ccd_night as observe

    with terminal.progress() as progress:
        truth = observe(out, seed=seed, shape=(size, size), progress=progress, overwrite=terminal.overwrite)
    files = sorted(str(path) for path in out.rglob("*") if path.is_file())
    facts = {"out": str(out), "files": len(files), "truth": truth.identity}
    terminal.result(facts, lambda: typer.echo(f"{len(files)} files written to {out}"))


def dark_pair(
    terminal: Terminal,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; made if it is not there.")],
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 1,
    lights: Annotated[int, typer.Option(help="Light frames beside the darks.")] = 1,
) -> None:
    """Three darks of a spectrograph, the last two with published moments; the truth beside them."""
    from calibrant.simulate.dark_pair_file import simulate

    raw, truth = simulate(out, seed=seed, lights=lights, overwrite=terminal.overwrite)
    facts = {"out": str(out), "files": 2, "raw": str(raw), "truth": str(truth)}
    terminal.result(facts, lambda: typer.echo(f"{raw}\n{truth}"))


def infrared(
    terminal: Terminal,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; made if it is not there.")],
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 1,
    detectors: Annotated[str, typer.Option(help="Names, such as NRCA1,NRCB4, or all; one if empty.")] = "",
    files: Annotated[int, typer.Option(help="Exposures of each detector.")] = 5,
    integrations: Annotated[int, typer.Option(help="Of an exposure, each from a reset on.")] = 1,
    groups: Annotated[int, typer.Option(help="Of an integration.")] = 20,
    pattern: Annotated[str, typer.Option(help="Read pattern, such as RAPID or MEDIUM8.")] = "RAPID",
    rows: Annotated[int, typer.Option(help="Of the array, its reference pixels included.")] = 256,
    cols: Annotated[int, typer.Option(help="The same; 2048 x 2048 is the real size.")] = 256,
    light: Annotated[float, typer.Option(help="Electrons per second in a pixel; 0 for darks.")] = 0.0,
    start: Annotated[str, typer.Option(help="UTC of the first exposure.")] = "2022-07-12T00:00:00",
    campaign: Annotated[str, typer.Option(help="Name of the epoch, written as CAMPAIGN.")] = "",
    noise: Annotated[float, typer.Option(help="White noise, as a multiple of the usual one.")] = 1.0,
) -> None:
    """Ramps of infrared arrays, one file for each exposure and detector; the truth beside them."""
    from calibrant.simulate.infrared_files import Set, simulate

    what = Set(
        files=files, integrations=integrations, groups=groups, pattern=pattern, rows=rows, cols=cols,
        light=light, start=start, campaign=campaign, noise=noise,
    )  # fmt: skip
    with terminal.progress() as progress:
        taken = simulate(
            out,
            seed=seed,
            detectors=_words(detectors) or None,
            what=what,
            overwrite=terminal.overwrite,
            progress=progress,
        )
    count = len(taken.raw) + len(taken.truth)
    facts = {"out": str(out), "files": count, "truth": [str(path) for path in taken.truth]}
    terminal.result(facts, lambda: typer.echo(f"{count} files written to {out}"))


def cameras() -> tuple[str, ...]:
    """Names of the cameras that have a command of their own."""
    from calibrant.simulate.cameras import names

    return names()


def of_camera(name: str) -> Callable[..., None]:
    """The command that simulates the camera of a file in ``simulate/cameras``."""

    def verb(
        terminal: Terminal,
        out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; made if it is not there.")],
        seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 1,
        size: Annotated[str, typer.Option(help="small, or real: a hundred times the bytes.")] = "small",
        detectors: Annotated[str, typer.Option(help="Numbers of detectors, such as 0,4; all if empty.")] = "",
        bands: Annotated[str, typer.Option(help="Bands, such as r,y; all if empty.")] = "",
        biases: Annotated[int | None, typer.Option(help="On each day of calibrations.")] = None,
        darks: Annotated[int | None, typer.Option(help="On each day of calibrations.")] = None,
        flats: Annotated[int | None, typer.Option(help="In each band, on each day of calibrations.")] = None,
        visits: Annotated[bool, typer.Option(help="Whether science visits are taken.")] = True,
    ) -> None:
        from calibrant.simulate.camera import load
        from calibrant.simulate.raft import simulate
        from calibrant.simulate.raft_plan import Counts

        with terminal.progress() as progress:
            taken = simulate(
                load(name),
                out,
                seed=seed,
                size=size,
                detectors=_numbers(detectors) or None,
                bands=_words(bands) or None,
                counts=Counts(biases, darks, flats, visits),
                overwrite=terminal.overwrite,
                progress=progress,
            )
        files = len(taken.raw) + len(taken.truth)
        facts = {"out": str(out), "files": files, "truth": [str(path) for path in taken.truth]}
        terminal.result(facts, lambda: typer.echo(f"{files} files written to {out}"))

    verb.__doc__ = (
        f"Frames of the camera {name}: calibrations and what its file plans; the truth beside them."
    )
    return verb


def slicers() -> tuple[str, ...]:
    """Names of the image slicers that have a command of their own."""
    from calibrant.simulate.slicers import names

    return names()


def of_slicer(name: str) -> Callable[..., None]:
    """The command that simulates the scene of a file in ``simulate/slicers``."""

    def verb(
        terminal: Terminal,
        out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; made if it is not there.")],
        seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 1,
        sources: Annotated[str, typer.Option(help="Such as internal,extended-800K; all if empty.")] = "",
        campaigns: Annotated[str, typer.Option(help="Such as FM,OTIS; all if empty.")] = "",
    ) -> None:
        from calibrant.simulate.slicer import Scene
        from calibrant.simulate.slicer_files import simulate

        with terminal.progress() as progress:
            taken = simulate(
                out,
                Scene.load(name),
                seed=seed,
                sources=_words(sources),
                campaigns=_words(campaigns),
                overwrite=terminal.overwrite,
                progress=progress,
            )
        files = len(taken.raw) + len(taken.truth)
        facts = {"out": str(out), "files": files, "truth": [str(path) for path in taken.truth]}
        terminal.result(facts, lambda: typer.echo(f"{files} files written to {out}"))

    verb.__doc__ = f"Slope images of {name}: lamps, points and campaigns; the truth beside them."
    return verb


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in _words(text)]
    except ValueError:
        raise OptionError(
            "not numbers of detectors", where="--detectors", expected="such as 0,4", got=repr(text)
        ) from None
