"""Cosmic rays of a single frame, by their edges, sharper than the optics can make them (L.A.Cosmic).

The search is van Dokkum's (2001, PASP 113, 1420) as astroscrappy has it; see docs/effects/cosmic_rays.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label as connected

from calibrant.effects._input import check_products
from calibrant.effects.common import Record, begin, label, product_keys
from calibrant.errors import OptionError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Applied, Frame
from calibrant.product import Kind, Product, Quantity
from calibrant.stats import MAD_TO_STD

NAME = "cosmic_rays"
REACH = "frame"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    "cosmic_rays",
    quantities={
        "rate": "Hits (groups of touching pixels) per pixel and second.",
        "fraction": "Mean fraction of the pixels of a frame that were hit.",
    },
)
COUNTS = ("adu", "electron")

Progress = Callable[[int, int, str], None]


def find(
    frame: Frame,
    *,
    gain: float | None = None,
    read_noise: float | None = None,
    sigma: float = 4.5,
    neighbours: float = 0.3,
    contrast: float = 5.0,
    iterations: int = 4,
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Pixels hit by cosmic rays, and the frame with them filled from their neighbours.

    Parameters
    ----------
    frame : Frame
        adu or electron, bias-subtracted; its variance plane is the noise if it has one, and pixels that are
        flagged DO_NOT_USE or SATURATED are left out.
    gain : float, optional
        e-/adu; the header's if not given. 1 for frames in electrons.
    read_noise : float, optional
        In the unit of the frame. If neither it nor a variance is known, it is taken from the frame's own
        noise (robust standard deviation of differences of neighbours).
    sigma : float
        Limit of the Laplacian over the noise.
    neighbours : float
        Fraction of `sigma` that is the limit for neighbours of a hit.
    contrast : float
        Least ratio of the Laplacian to the fine structure: raise it where cores of stars are taken for hits.
    iterations : int

    Returns
    -------
    tuple of ndarray
        Mask (rows, cols), and float32 data in the unit of the frame.

    Raises
    ------
    UnitError
        If the frame is not in counts.
    OptionError
        If a limit is not positive, or no gain is known.
    """
    from astroscrappy import detect_cosmics

    if frame.unit not in COUNTS:
        raise UnitError(
            "cosmic rays are searched in counts",
            where=frame.name,
            expected=" or ".join(COUNTS),
            got=repr(frame.unit),
            do="search before dividing by the time",
        )
    if min(sigma, neighbours, contrast, iterations) <= 0:
        raise OptionError(
            "limits of cosmic rays must be positive", got=(sigma, neighbours, contrast, iterations)
        )
    frame = frame.load()
    data = np.asarray(frame.data, np.float32)
    e_per = _gain(frame, gain)
    bad = _bad(frame, data)
    if bad.all():
        return np.zeros(data.shape, bool), data
    noise = _read_noise(np.where(np.isfinite(data), data, np.nan)) if read_noise is None else read_noise
    level = float(np.median(data[~bad]))
    variance = _variance(frame, bad)
    mask, clean = detect_cosmics(
        np.ascontiguousarray(np.where(bad, np.float32(level), data)),
        inmask=np.ascontiguousarray(bad),
        invar=variance,
        sigclip=sigma,
        sigfrac=neighbours,
        objlim=contrast,
        gain=e_per,
        readnoise=noise * e_per,
        satlevel=math.inf,
        niter=iterations,
    )
    hit = np.asarray(mask, bool) & ~bad
    return hit, np.where(hit, np.asarray(clean, np.float32), data)


def _bad(frame: Frame, data: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels that are left out of the search."""
    bad: NDArray[np.bool_] = ~np.isfinite(data)
    if frame.dq is not None:
        bad |= (np.asarray(frame.dq) & np.uint32(DQ.DO_NOT_USE | DQ.SATURATED)) != 0
    return bad


def _gain(frame: Frame, gain: float | None) -> float:
    if frame.unit == "electron":
        return 1.0
    value = frame.exposure.gain if gain is None else gain
    if value is None or not (math.isfinite(value) and value > 0):
        raise OptionError(
            "the search for cosmic rays needs the gain", where=frame.name, expected="> 0 e-/adu", got=value,
            do="give gain=..., or add it to the instrument file",
        )  # fmt: skip
    return float(value)


def _read_noise(data: NDArray[np.float32]) -> float:
    steps = np.diff(data, axis=1)
    steps = steps[np.isfinite(steps)]
    if not steps.size:  # no two neighbours are good
        return 0.0
    return MAD_TO_STD * float(np.median(np.abs(steps - np.median(steps)))) / math.sqrt(2.0)


def _variance(frame: Frame, bad: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    if frame.variance is None:
        return None
    plane = np.asarray(frame.variance, np.float32)
    usable = np.isfinite(plane) & (plane > 0) & ~bad
    if not usable.any():
        return None
    return np.ascontiguousarray(np.where(usable, plane, np.float32(np.median(plane[usable]))))


def apply(
    frame: Frame,
    product: Product | None = None,
    *,
    replace_pixels: bool = False,
    **options: Any,
) -> Frame:
    """The frame with its cosmic rays flagged JUMP_DET, and filled from their neighbours if asked.

    Parameters
    ----------
    frame : Frame
        adu or electron, bias-subtracted.
    product : Product, optional
        Not used: hits are the frame's own.
    replace_pixels : bool
        Fill the pixels: their flags are then JUMP_DET and FLUX_ESTIMATED. By default data stay, and
        hits are flagged DO_NOT_USE too.
    **options
        As of `find`.

    Raises
    ------
    HistoryError
        If it was done already.
    """
    del product
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    frame = frame.load()
    hit, clean = find(frame, **options)
    dq = np.zeros(hit.shape, np.uint32) if frame.dq is None else np.array(frame.dq, np.uint32)
    dq[hit] |= np.uint32(DQ.JUMP_DET | (DQ.FLUX_ESTIMATED if replace_pixels else DQ.DO_NOT_USE))
    done = Applied(
        NAME,
        options={"replace_pixels": replace_pixels, **options},
        note=_note(frame, hit),
    )
    return frame.after(done, data=clean if replace_pixels else frame.data, dq=dq)


def _note(frame: Frame, hit: NDArray[np.bool_]) -> str:
    if _bad(frame, np.asarray(frame.data, np.float32)).all():
        return "no good pixel"
    return f"{int(hit.sum())} pixels in {count(hit)} hits"


def count(hit: NDArray[np.bool_]) -> int:
    """Groups of touching pixels, corners included."""
    return int(connected(hit, structure=np.ones((3, 3)))[1])


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
    **options: Any,
) -> Product:
    """Hits of every frame, and their rate.

    Parameters
    ----------
    exposures : Exposures
        Bias-subtracted, adu or electron, prepared by `Exposures.through`.
    **options
        As of `find`.

    Returns
    -------
    Product
        Table ``frames`` (frame, time [s], hits, pixels); quantities rate [1/s, per pixel] and fraction.
    """
    del runner, budget
    check_products(products)
    exposures = begin(exposures, "bias", units=COUNTS)
    names, times, hits, pixels = [], [], [], []
    size = 1
    for index, frame in enumerate(exposures.frames()):
        loaded = frame.load()
        mask, _ = find(replace(loaded, exposure=exposures[index]), **options)
        size = mask.size
        names.append(label(exposures[index], index))
        times.append(float(exposures[index].duration or 0.0))
        hits.append(count(mask))
        pixels.append(int(mask.sum()))
        if progress is not None:
            progress(index + 1, len(exposures), NAME)
    total = sum(times)
    found = float(sum(hits))
    rate = found / total / size if total > 0 else math.nan
    sigma = math.sqrt(max(found, 1.0)) / total / size if total > 0 else None
    return Product(
        NAME,
        instrument=exposures.instrument.name,
        keys=product_keys(exposures, "bias"),
        epoch=exposures.epoch,
        tables={
            "frames": {
                "frame": np.array(names),
                "time": np.array(times),
                "hits": np.array(hits),
                "pixels": np.array(pixels),
            }
        },
        units={"frames.time": "s"},
        quantities=(
            Quantity("rate", rate, sigma, "1/s"),
            Quantity("fraction", float(np.mean(pixels)) / size),
        ),
        provenance=Record(options=dict(options)).provenance(NAME, exposures, products or {}),
    )
