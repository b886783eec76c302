"""``calibrant combine``: any files into one, no instrument needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calibrant.cli import combining as of
from calibrant.cli.common import Terminal


def combine(
    terminal: Terminal,
    paths: Annotated[list[str], typer.Argument(help="Files, or @list.txt.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
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
    budget: Annotated[str, typer.Option(help="Memory that may be used.")] = "512MB",
    jobs: Annotated[int, typer.Option(help="Threads; 0 for one per core.")] = 0,
) -> None:
    """Combine frames pixel by pixel, with variance, counts and flags."""
    import calibrant as cal
    from calibrant.files.atomic import refuse_existing

    refuse_existing(out, terminal.overwrite)
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
    with terminal.progress() as progress:
        frame = cal.combine(paths, budget=budget, runner=jobs or None, progress=progress, **options)
    cal.write(frame, out, overwrite=terminal.overwrite)
    facts = summary(frame)
    terminal.result({"out": str(out), **facts}, lambda: _print(terminal, out, facts))


def summary(frame: object) -> dict[str, object]:
    """Numbers of a combined frame that a person wants to see at once."""
    import numpy as np

    data = frame.data  # type: ignore[attr-defined]
    extra = frame.extra  # type: ignore[attr-defined]
    count = sum(int(np.count_nonzero(np.isfinite(row))) for row in data)
    middle = float(np.nanmedian(data)) if count else 0.0
    # Row by row: copies of the image would be the peak of the whole command.
    offsets = [
        (float(np.nansum(d, dtype=np.float64)), float(np.nansum(d * d, dtype=np.float64)))
        for d in (row - np.float32(middle) for row in data)
    ]
    total, squares = map(sum, zip(*offsets, strict=True))
    return {
        "frames": int(extra["count"].max(initial=0)) if "count" in extra else None,
        "shape": list(data.shape),
        "unit": frame.unit,  # type: ignore[attr-defined]
        "median": middle if count else None,
        "std": max(squares / count - (total / count) ** 2, 0.0) ** 0.5 if count else None,
        "rejected": int(extra["low"].sum(dtype=np.int64) + extra["high"].sum(dtype=np.int64))
        if "low" in extra
        else 0,
        "no_data": int(data.size - count),
    }


def _print(terminal: Terminal, out: Path, facts: dict[str, object]) -> None:
    terminal.table([facts], list(facts))
    typer.echo(f"written: {out}")
