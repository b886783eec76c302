"""Images of an image slicer as files: a cube of slope, uncertainty and flags each, and its truth beside it.

Every random number is drawn from the seed and the name of the image: a file is the same, whatever
else is taken.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from calibrant.errors import OptionError
from calibrant.files.fits import write, write_raw
from calibrant.frame import MICROSECOND, Frame, iso_time
from calibrant.simulate.slicer import Place, Scene, make
from calibrant.times import parse_time

Progress = Callable[[int, int, str], None]
PAUSE = 600.0  # s, from image to image
FULL = ("light", "stray", "fringes", "dq")
"""Planes of the truth that are written; the others follow from them."""


class Taken(NamedTuple):
    """Files that were written."""

    raw: tuple[Path, ...]
    truth: tuple[Path, ...]


class Shot(NamedTuple):
    """One image to take."""

    source: str
    campaign: str
    pointing: str = ""
    position: str = ""

    @property
    def name(self) -> str:
        """As in names of files."""
        return "_".join(filter(None, (self.source, self.pointing, self.position)))


def simulate(
    out: str | Path,
    scene: Scene,
    *,
    seed: int = 1,
    sources: Sequence[str] = (),
    campaigns: Sequence[str] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Taken:
    """Write images of all sources in all campaigns into `out`, and their truths into ``out/truth``.

    Parameters
    ----------
    sources, campaigns : sequence of str
        Names in the scene; all if not given. A point source is moved through the raster, in one campaign.

    Raises
    ------
    SelectionError
        If the scene has no such source or campaign.
    OptionError
        If the seed is negative.
    OutputExistsError
        If a file is in the way and `overwrite` is False.
    """
    if seed < 0:
        raise OptionError("a seed is not negative", where="--seed", got=seed)
    folder = Path(out)
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    shots = list(_shots(scene, sources or tuple(scene.sources), campaigns or tuple(scene.campaigns)))
    raw: list[Path] = []
    truths: list[Path] = []
    for number, shot in enumerate(shots):
        rng = np.random.default_rng([seed, zlib.crc32(f"{shot.campaign} {shot.name}".encode())])
        place = None
        if shot.pointing:
            raster = scene.raster
            place = Place(raster.positions[shot.position], raster.pointings[shot.pointing])
        made = make(scene, shot.source, shot.campaign, rng, place)
        path = folder / scene.file.format(campaign=shot.campaign, name=shot.name)
        _write(path, scene, shot, made.frame, number, overwrite)
        beside = folder / "truth" / path.name
        kept = {name: made.truth.planes[name] for name in FULL}
        write(replace(made.truth, planes=kept), beside, overwrite=overwrite)
        raw.append(path)
        truths.append(beside)
        if progress is not None:
            progress(number + 1, len(shots), "images")
    return Taken(tuple(raw), tuple(truths))


def _shots(scene: Scene, sources: Sequence[str], campaigns: Sequence[str]) -> Iterator[Shot]:
    for campaign in campaigns:
        scene.campaign(campaign)
        for source in sources:
            if not scene.source(source).point:
                yield Shot(source, campaign)
            elif campaign == scene.raster.campaign:
                raster = scene.raster
                yield from (Shot(source, campaign, p, q) for p in raster.pointings for q in raster.positions)


def _write(path: Path, scene: Scene, shot: Shot, frame: Frame, number: int, overwrite: bool) -> None:
    planes = [np.asarray(frame.data), np.sqrt(np.asarray(frame.variance)), np.asarray(frame.dq) != 0]
    cube = np.stack([plane.astype(np.float32) for plane in planes])
    begin = parse_time(scene.start, None, "UTC") + round(number * PAUSE * MICROSECOND)
    cards = [(key, value, "") for key, value in scene.cards.items()]
    cards += [
        ("CAMPAIGN", shot.campaign, ""),
        ("SOURCE", shot.source, ""),
        ("BAND", scene.band, ""),
        ("EXPTIME", scene.exposed, "[s]"),
        ("DATE-OBS", iso_time(begin).rstrip("Z"), "UTC"),
    ]
    told = (("POINTING", shot.pointing, ""), ("POSITION", shot.position, ""))
    write_raw(path, cube, [*cards, *(card for card in told if card[1])], overwrite=overwrite)
