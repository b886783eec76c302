"""What the planes of a dark library say of the detector: flags, and robust numbers with their errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._dark_facts import hot_limit
from calibrant.effects._library_fit import finite_median, thin
from calibrant.effects._library_law import Law, doubling
from calibrant.frame import DQ, NO_DATA
from calibrant.product import Quantity
from calibrant.stats import MAD_TO_STD

CHANCE = 1e-6  # of a quiet pixel to be called unstable
MEDIAN_ERROR = 1.2533  # of a median over that of a mean
HITS = 2  # values rejected that particles may have made, besides a tenth of all


def flags(
    planes: Mapping[str, NDArray[Any]], freedom: int, frames: int, *, one: bool
) -> tuple[NDArray[np.uint32], float]:
    """Flags of the pixels, and the width of the activation energies [eV].

    HOT: more than 10 robust sigmas above the median rate. TELEGRAPH: chi squared beyond what one quiet pixel
    in a million has (of the median chi squared), or more values rejected than hits explain. UNRELIABLE_DARK:
    fewer than half of the darks were used.
    """
    from scipy.stats import chi2 as distribution

    rate, count = planes["data"], planes["count"]
    dq = np.zeros(rate.shape, np.uint32)
    dq[rate > np.float32(hot_limit(thin(rate)))] |= np.uint32(DQ.HOT)
    typical = max(1.0, finite_median(thin(planes["chi2"])))
    if frames > freedom:
        left = frames - freedom
        limit = typical * float(distribution.isf(CHANCE, left)) / left
        dq[planes["chi2"] > np.float32(limit)] |= np.uint32(DQ.TELEGRAPH)
    dq[count + max(HITS, frames // 10) < frames] |= np.uint32(DQ.TELEGRAPH)
    dq[count * 2 < frames] |= np.uint32(DQ.UNRELIABLE_DARK)
    dq[~np.isfinite(rate)] |= np.uint32(NO_DATA)
    return dq, 0.0 if one else _energies(planes, thin(planes["kind"]) == 0, dq)[1]


def _energies(
    planes: Mapping[str, NDArray[Any]], own: NDArray[np.bool_], dq: NDArray[np.uint32]
) -> tuple[float, float, float | None]:
    """Median energy of normal pixels, width beyond their errors, sigma of the median; NaN if there are none.

    `own`, of thinned planes: pixels that show an energy of their own.
    """
    normal = own & (thin(dq) == 0)
    found = thin(planes["energy"])[normal].astype(np.float64)
    if found.size < 3:
        return math.nan, 0.0, None
    middle = float(np.median(found))
    seen = MAD_TO_STD * float(np.median(np.abs(found - middle)))
    noise = float(np.median(thin(planes["energy_variance"])[normal]))
    width = math.sqrt(max(seen**2 - noise, 0.0))
    return middle, width, MEDIAN_ERROR * seen / math.sqrt(found.size)


def quantities(
    planes: Mapping[str, NDArray[Any]],
    law: Law,
    centres: NDArray[np.float64],
    reference: float,
    times: NDArray[np.float64],
    width: float,
) -> list[Quantity]:
    """The quantities of a dark library.

    Parameters
    ----------
    planes : mapping of ndarray
        Of the product.
    law : Law
        Of the median levels.
    centres, reference : ndarray, float
        Temperatures, C.
    times : ndarray
        Dark time of each dark, s.
    width : float
        Kelvin that count as one temperature.
    """
    rate, dq = thin(planes["data"]), planes["dq"]
    good = np.isfinite(rate)
    spread = rate[good] - np.float32(finite_median(rate))
    sigma = MEDIAN_ERROR * MAD_TO_STD * finite_median(np.abs(spread)) / math.sqrt(max(int(good.sum()), 1))
    found = [Quantity("rate", finite_median(rate), sigma, "adu/s")]
    if "energy" in planes:
        found += _law(planes, law, dq, reference)
    found += [
        *(
            Quantity(f"{word}temperature{end}", value, None, "C")
            for word, end, value in (
                ("reference_", "", reference),
                ("", "_min", float(centres.min())),
                ("", "_max", float(centres.max())),
            )
            if math.isfinite(value)  # unknown where no dark states its temperature
        ),
        Quantity("temperature_width", width, None, "K"),
        Quantity("time_min", float(times.min()), None, "s"),
        Quantity("time_max", float(times.max()), None, "s"),
        Quantity("level_scatter", float(np.std(law.shifts)), None, "adu"),
        Quantity("hot_fraction", _share(dq, DQ.HOT)),
        Quantity("unstable_fraction", _share(dq, DQ.TELEGRAPH)),
    ]
    chi2 = finite_median(thin(planes["chi2"]))
    return found + ([Quantity("chi2", chi2)] if math.isfinite(chi2) else [])


def _law(
    planes: Mapping[str, NDArray[Any]], law: Law, dq: NDArray[np.uint32], reference: float
) -> list[Quantity]:
    own = thin(planes["covariance"]) != 0  # pixels of the median law have none
    energy, width, sigma = _energies(planes, own, dq)
    found = [Quantity("level_energy", law.energy, law.sigma, "eV")] if not law.assumed else []
    if math.isnan(energy):
        energy, sigma = law.energy, law.sigma
    else:
        if sigma is not None and law.sigma is not None:  # what all pixels share does not average down
            sigma = math.hypot(sigma, law.sigma)
        found += [Quantity("activation_energy_width", width, None, "eV")]
    step = doubling(energy, reference)
    return [
        Quantity("activation_energy", energy, sigma, "eV"),
        Quantity("doubling_temperature", step, None if sigma is None else abs(step * sigma / energy), "K"),
        *found,
        Quantity("median_law_fraction", float(np.mean(~own))),
    ]


def _share(dq: NDArray[np.uint32], flag: DQ) -> float:
    return float(np.mean((dq & np.uint32(flag)) != 0))
