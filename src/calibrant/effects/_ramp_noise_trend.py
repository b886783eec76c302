"""Read noise of detectors over epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import SelectionError
from calibrant.frame import MICROSECOND
from calibrant.product import Product, Provenance, Quantity

YEAR = 365.25 * 86_400 * MICROSECOND
NAME, TREND = "read_noise", "read_noise_trend"
Array = NDArray[np.float64]


def trend(products: Sequence[Product]) -> Product:
    """Read noise against time: a table of all epochs, and for each detector and output its change in a year.

    Parameters
    ----------
    products : sequence of Product
        Kind ``read_noise``, of known epochs; detectors may be mixed.

    Returns
    -------
    Product
        Kind ``read_noise_trend``: table ``trend`` (detector, output, epoch [us since 1970], read_noise, sigma
        [adu]), quantities change [adu per year] and change_relative; the place is detector, or
        detector.output.

    Raises
    ------
    SelectionError
        If no product has an epoch and a read noise, or they are of different read patterns.
    """
    rows = [
        (str(one.keys.get("detector", "")), q.place, one.epoch, q.value, q.sigma or math.nan)
        for one in products
        if one.epoch is not None
        for q in one
        if q.name == NAME and math.isfinite(q.value)
    ]
    patterns = sorted({str(one.keys.get("readpatt", "")) for one in products})
    if not rows or len(patterns) > 1:
        raise SelectionError(
            "a trend needs read noise of known epochs, of one read pattern",
            got=", ".join(patterns) if rows else "none",
        )
    rows.sort(key=lambda row: (row[0], row[1], row[2]))
    detector, output, epoch, value, sigma = (np.array(column) for column in zip(*rows, strict=True))
    quantities = []
    for name, place in dict.fromkeys((row[0], row[1]) for row in rows):
        own = (detector == name) & (output == place)
        label = f"{name}.{place}" if place else name
        if own.sum() > 1 and np.ptp(epoch[own]) > 0:
            slope, error = _line(epoch[own] / YEAR, value[own], sigma[own])
            middle = float(value[own].mean())
            quantities.append(Quantity("change", slope, error, "adu", label))
            quantities.append(Quantity("change_relative", slope / middle, error / middle, "", label))
    return Product(
        TREND,
        instrument=products[0].instrument,
        keys={"readpatt": patterns[0]} if patterns[0] else {},
        epoch=round(float(epoch.mean())),
        tables={
            "trend": {
                "detector": detector, "output": output, "epoch": epoch.astype(np.int64),
                "read_noise": value.astype(np.float64), "sigma": sigma.astype(np.float64),
            }
        },
        units={"trend.read_noise": "adu", "trend.sigma": "adu", "trend.epoch": "us"},
        quantities=tuple(quantities),
        provenance=Provenance(
            TREND,
            parents=tuple(one.identity for one in products),
            notes=("change: adu per year, a line through the epochs",),
        ),
    )  # fmt: skip


def _line(t: Array, y: Array, sigma: Array) -> tuple[float, float]:
    """Slope by weights, and its error: that of the sigmas, or of the scatter where that is larger."""
    known = np.where(np.isfinite(sigma) & (sigma > 0), sigma, np.nan)
    weight = np.nan_to_num(1.0 / known**2) if np.isfinite(known).all() else np.ones_like(y)
    t = t - np.average(t, weights=weight)
    power = float((weight * t * t).sum())
    slope = float((weight * t * y).sum()) / power
    rest = y - np.average(y, weights=weight) - slope * t
    free = len(y) - 2
    reduced = float((weight * rest**2).sum()) / free if free > 0 else 1.0
    own = np.isfinite(known).all()
    return slope, math.sqrt((max(reduced, 1.0) if own else reduced) / power)
