"""``calibrant debug-pixel``: what happened to one pixel at each stage of a combination."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from calibrant.cli import combining as of
from calibrant.cli.common import Terminal


def debug_pixel(
    terminal: Terminal,
    paths: Annotated[list[str], typer.Argument(help="Files, or @list.txt.")],
    row: Annotated[int, typer.Option(help="Row, from 0.")],
    col: Annotated[int, typer.Option(help="Column, from 0.")],
    method: of.Method = "median",
    reject: of.Reject = "none",
    scale: of.Scale = "",
    zero: of.Zero = "",
    weights: of.Weights = "",
    section: of.Section = "",
    gain: of.Gain = None,
    read_noise: of.ReadNoise = None,
    grow: of.Grow = 0.0,
    keep: of.Keep = 1,
    saturation: of.Saturation = None,
) -> None:
    """Tell what happened to one pixel: values, limits of each round, rejected frames, result."""
    import calibrant as cal

    options = of.asked(
        method=method,
        reject=reject,
        scale=scale,
        zero=zero,
        weights=weights,
        section=section,
        gain=gain,
        read_noise=read_noise,
        grow=grow,
        keep=keep,
        saturation=saturation,
    )
    story = cal.debug_pixel(paths, row, col, **options)
    terminal.result(asdict(story), lambda: typer.echo(str(story)))
