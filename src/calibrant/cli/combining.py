"""What ``combine`` and ``debug-pixel`` share: their options, and what those mean in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from calibrant.cli.words import REJECT_HELP, numbers, parse_rejection
from calibrant.errors import OptionError

if TYPE_CHECKING:
    from calibrant.stack.noise import Noise

Method = Annotated[str, typer.Option(help="median, mean, sum or weighted.")]
Reject = Annotated[str, typer.Option(help=REJECT_HELP)]
Scale = Annotated[
    str, typer.Option(help="mode, median or mean: bring frames to one such level; or factors a,b,...")
]
Zero = Annotated[
    str,
    typer.Option(
        help="mode, median or mean: shift frames to one such level, after scaling; or shifts a,b,..."
    ),
]
Weights = Annotated[str, typer.Option(help="Weights of the frames, a,b,...")]
Section = Annotated[str, typer.Option(help="Where scale and zero are measured, e.g. [100:900,100:900].")]
Gain = Annotated[
    float | None,
    typer.Option(help="e-/adu: adds photon noise to the noise model; frames without bias level."),
]
ReadNoise = Annotated[float | None, typer.Option(help="adu, of one frame: for the noise model of ccdclip.")]
Grow = Annotated[float, typer.Option(help="Reject neighbours too, within so many pixels.")]
Keep = Annotated[int, typer.Option(help="Values that a rejection leaves at least.")]
Saturation = Annotated[
    float | None, typer.Option(help="adu: values from here on are flagged, and left out where others exist.")
]


def asked(**words: Any) -> dict[str, Any]:
    """Options of `calibrant.combine` from those of the command line, by the same names.

    Raises
    ------
    OptionError
        If one of them cannot be used.
    """
    from calibrant.sections import parse_section

    options: dict[str, Any] = {
        "method": words["method"],
        "reject": parse_rejection(words["reject"]),
        "scale": numbers(words["scale"]),
        "zero": numbers(words["zero"]),
        "weights": numbers(words["weights"]),
        "section": parse_section(words["section"])[:2] if words["section"] else None,
        "noise": _noise(words["gain"], words["read_noise"]),
    }
    if words["saturation"] is not None:
        options["limits"] = (None, words["saturation"])
    if words["grow"]:
        options["grow"] = words["grow"]
    if words["keep"] != 1:
        options["n_keep"] = words["keep"]
    return options


def _noise(gain: float | None, read_noise: float | None) -> Noise | None:
    """The noise of every frame: read noise alone, or with that of the photons if the gain is known."""
    from calibrant.stack.noise import Noise

    if gain is None and read_noise is None:
        return None
    if read_noise is None:
        raise OptionError("a noise model needs the read noise", where="--gain", do="give --read-noise too")
    if not 0 <= read_noise < float("inf"):
        raise OptionError("the read noise is not negative", where="--read-noise", got=read_noise)
    return Noise(read_noise, float("inf") if gain is None else gain)
