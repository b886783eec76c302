"""A pair of darks as a file of their spectrograph, with the first dark and lights; the truth as a product."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.files.fits import write, write_raw
from calibrant.frame import DQ
from calibrant.product import Product, Provenance, Quantity
from calibrant.simulate.dark_pair import F8, DarkPair, Design, load, pair

UNIT = {"BUNIT": "DN"}
TRANSIENT = (180.0, 12.0)  # adu, rows: what the first dark has on top, from the first row on
ODD = 35.0  # adu: between odd and even columns of the first dark
NOISE = 45.0  # adu, of the first dark


class Written(NamedTuple):
    """Files that were written."""

    raw: Path
    truth: Path


@dataclass(frozen=True, eq=False)
class Set:
    """What the file holds: darks and lights, and what they are made of.

    Attributes
    ----------
    darks : array
        (3, rows, cols), int32, adu: the first, which is of another nature, and the pair.
    lights : array
        (lights, rows, cols), int32, adu.
    signal : array
        (rows, cols), float64, adu: light without dark.
    """

    darks: NDArray[np.int32]
    lights: NDArray[np.int32]
    signal: F8
    pair: DarkPair


def simulate(
    out: str | Path,
    *,
    seed: int,
    lights: int = 1,
    design: Design | None = None,
    overwrite: bool = False,
) -> Written:
    """Write the darks of a design into `out`, under the name it gives, and their truth into ``out/truth``.

    The same seed gives the same bytes.

    Parameters
    ----------
    lights : int
        Light frames, each ``slope dark2 + offset + signal`` with noise of its own; there may be none.
    design : Design, optional
        By default the published pair.

    Raises
    ------
    OptionError
        For a negative seed or number of lights.
    OutputExistsError
        If a file is in the way and `overwrite` is False.
    """
    if seed < 0 or lights < 0:
        raise OptionError("seed and lights cannot be negative", where="dark-pair", got=(seed, lights))
    design = design or load()
    taken = take(design, np.random.default_rng(seed), lights)
    folder = Path(out)
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    raw, beside = folder / design.file.name, folder / "truth" / "truth.fits"
    units = [(design.file.dark, taken.darks, UNIT)]
    if lights:
        units.append((design.file.raw, taken.lights, UNIT))
    write_raw(raw, None, {}, [*units, *_tables(design, lights)], overwrite=overwrite)
    write(truth(design, taken, seed), beside, overwrite=overwrite)
    return Written(raw, beside)


def take(design: Design, rng: np.random.Generator, lights: int) -> Set:
    """The frames of a file in memory."""
    pixels, first, photons = rng.spawn(3)
    darks = pair(pixels, design)
    signal = _signal(design)
    light, level = design.light, design.light.slope * darks.dark2 + design.light.offset + signal
    sigma = np.sqrt(light.read_noise**2 + np.maximum(level, 0.0) / light.gain)
    frames = level + sigma * photons.normal(size=(lights, *design.shape))
    return Set(
        np.stack([_first_dark(darks.dark1, first), *darks.whole]),
        np.rint(frames).astype(np.int32),
        signal,
        darks,
    )


def _first_dark(dark: F8, rng: np.random.Generator) -> NDArray[np.int32]:
    """A dark of another nature: it decays along the rows, and its odd columns are higher."""
    rows, cols = np.indices(dark.shape)
    level, length = TRANSIENT
    plane = dark + level * np.exp(-rows / length) + ODD * (cols % 2) + NOISE * rng.normal(size=dark.shape)
    return np.asarray(np.rint(plane), np.int32)


def _signal(design: Design) -> F8:
    """Light of the lit window, adu: a continuum that rises along the spectrum, and lines."""
    light, (rows, cols) = design.light, design.shape
    along = np.arange(cols, dtype=np.float64)
    spectrum = light.continuum * along / cols
    for centre, sigma, height in light.lines:
        spectrum += height * np.exp(-0.5 * ((along - centre) / sigma) ** 2)
    plane = np.zeros((rows, cols))
    lit = slice(*light.rows), slice(*light.cols)
    plane[lit] = spectrum[lit[1]]
    return plane


def _tables(design: Design, lights: int) -> list[tuple[str, dict[str, NDArray[Any]], dict[str, str]]]:
    """Tables of the file: columns are series by their names, or a number in every row."""
    counts = {"darks": len(design.file.temperatures), "lights": lights, "file": 1}
    found: list[tuple[str, dict[str, NDArray[Any]], dict[str, str]]] = []
    for name, table in design.tables.items():
        count = counts[table.rows]
        series = _series(design, table.rows, count)
        columns = {
            column: series[value] if isinstance(value, str) else np.full(count, value)
            for column, value in table.columns.items()
        }
        if count:
            found.append((name, columns, {}))
    return found


def _series(design: Design, rows: str, count: int) -> Mapping[str, NDArray[Any]]:
    file, shape = design.file, design.shape
    darks = np.array(file.temperatures)
    temperatures = darks if rows == "darks" else np.full(count, darks[-1])
    zero, slope = file.detector_dn
    start = datetime.fromisoformat(file.start).replace(tzinfo=UTC)
    first = start - timedelta(seconds=file.cadence * len(darks)) if rows == "darks" else start
    times = [first + timedelta(seconds=file.cadence * number) for number in range(count)]
    widths = [np.full((1, size), width, np.int32) for size, width in zip(shape, file.bin, strict=True)]
    return {
        "utc": np.array([f"{time:%Y/%j %b %d %H:%M:%S}.{time.microsecond // 10:05d}UTC" for time in times]),
        "temperature": temperatures,
        "temperature_dn": np.rint((temperatures - zero) / slope).astype(np.int32),
        "case_dn": np.full(count, file.case_dn, np.int32),
        "exptime": np.full(count, file.exptime),
        "row_widths": widths[0],
        "col_widths": widths[1],
        "row_ones": np.ones_like(widths[0]),
        "col_ones": np.ones_like(widths[1]),
    }


def truth(design: Design, taken: Set, seed: int) -> Product:
    """What is true of the file, as a product of kind ``truth``.

    Planes: ``dark1``, ``dark2`` before they were rounded, ``noise`` (dark2 less the cubic polynomial of
    dark1), ``signal`` of the lights, ``dq`` with the hot pixels. Quantities: mean, std and rms of what a
    model leaves, by its name; ``slope`` and ``offset`` of the light frame. Table: ``coefficients``.
    """
    found = [("offset", design.light.offset, "light", "adu"), ("slope", design.light.slope, "light", "")]
    for name, (mean, std) in design.moments.residuals(design.coefficients).items():
        found += [("mean", mean, name, "adu"), ("std", std, name, "adu")]
        found.append(("rms", math.hypot(mean, std), name, "adu"))
    found.append(("std", float(taken.pair.noise.std()), "poly3", "adu"))
    powers = [
        (name, (1 if name == "mult" else len(values) - 1) - place, value)
        for name, values in design.coefficients.items()
        for place, value in enumerate(values)
    ]
    darks = taken.pair
    planes = {"dark1": darks.dark1, "dark2": darks.dark2, "noise": darks.noise, "signal": taken.signal}
    return Product(
        kind="truth",
        keys={"binning": design.file.bin, "exptime": design.file.exptime},
        planes={**planes, "dq": np.where(darks.hot, np.uint32(DQ.HOT), np.uint32(0))},
        units={**dict.fromkeys(planes, "adu"), "dq": ""},
        tables={
            "coefficients": {
                "model": np.array([name for name, _, _ in powers]),
                "power": np.array([power for _, power, _ in powers], np.int32),
                "value": np.array([value for _, _, value in powers]),
            }
        },
        quantities=tuple(Quantity(name, value, unit=unit, place=place) for name, value, place, unit in found),
        provenance=Provenance(
            effect="simulate",
            options={"seed": seed},
            notes=("Frames with published moments, not the original ones.",),
        ),
    )
