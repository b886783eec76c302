"""What the planes of a dark library say of the detector: flags, and robust numbers with their errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._dark_facts import hot_limit
from calibrant.effects._library_fit import thin
from calibrant.effects._library_law import Law, doubling
from calibrant.frame import DQ, NO_DATA
from calibrant.product import Quantity
from calibrant.stats import MAD_TO_STD, finite_median

CHANCE = 1e-6  # of a quiet pixel to be called unstable
MEDIAN_ERROR = 1.2533  # of a median over that of a mean
OWN, MEDIAN = 0, 1  # kinds of a law: of the pixel itself, of the median pixel
HITS = 2  # values rejected that particles may have made, besides a tenth of all


class Energies(NamedTuple):
    """Of the normal pixels that show an energy of their own, eV; as they stand if there are none.

    The median, its error, and the width beyond the errors of the pixels; `borrowed`: the share of all pixels
    that follow the law of the median one.
    """

    median: float = math.nan
    sigma: float | None = None
    width: float = 0.0
    borrowed: float = 0.0

    @property
    def uncertainty(self) -> float:
        """Of the energy of a pixel that has none of its own, eV."""
        return math.hypot(self.width, self.sigma or 0.0)


def flags(planes: Mapping[str, NDArray[Any]], freedom: int, frames: int) -> NDArray[np.uint32]:
    """Flags of the pixels.

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
    return dq


def energies_of(planes: Mapping[str, NDArray[Any]], dq: NDArray[np.uint32]) -> Energies:
    """The energies of normal pixels; `planes` with the kind of their law."""
    borrowed = np.count_nonzero(planes["kind"] == MEDIAN) / planes["kind"].size
    normal = (thin(planes["kind"]) == OWN) & (thin(dq) == 0)
    found = thin(planes["energy"])[normal].astype(np.float64)
    if found.size < 3:
        return Energies(borrowed=borrowed)
    middle = finite_median(found)
    seen = MAD_TO_STD * finite_median(np.abs(found - middle))
    noise = finite_median(thin(planes["energy_variance"])[normal])
    width = math.sqrt(max(seen**2 - noise, 0.0))
    return Energies(middle, MEDIAN_ERROR * seen / math.sqrt(found.size), width, borrowed)


def quantities(
    planes: Mapping[str, NDArray[Any]],
    energies: Energies,
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
    energies : Energies
        Of its pixels.
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
    middle = finite_median(rate)
    spread = rate[good] - np.float32(middle)
    sigma = MEDIAN_ERROR * MAD_TO_STD * finite_median(np.abs(spread)) / math.sqrt(max(int(good.sum()), 1))
    found = [Quantity("rate", middle, sigma, "adu/s")]
    if "energy" in planes:
        found += _law(energies, law, reference)
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


def _law(energies: Energies, law: Law, reference: float) -> list[Quantity]:
    energy, sigma, width, borrowed = energies
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
        Quantity("median_law_fraction", borrowed),
    ]


def _share(dq: NDArray[np.uint32], flag: DQ) -> float:
    return np.count_nonzero(dq & np.uint32(flag)) / dq.size
