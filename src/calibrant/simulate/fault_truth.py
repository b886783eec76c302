"""Truth of a detector whose amplifiers have faults, as quantities and tables of its product.

Quantities have the names and units of what effects measure, and a sigma of 0: a measurement is compared with
them as with any product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.product import Quantity
from calibrant.simulate import readout
from calibrant.simulate.boundaries import implied_a
from calibrant.simulate.detector import Detector
from calibrant.simulate.night import Visit

LAGS = 10
NODES = 65  # of the table of a curve

COLUMNS = {
    "a_matrix.a": "1/electron",
    "nonlinearity.true": "adu",
    "nonlinearity.measured": "adu",
    "series.level": "electron",
}
"""Units of the columns that have one."""


def quantities(detector: Detector) -> Iterator[Quantity]:
    """Gain, noise and faults of each amplifier; nothing if it has no chain."""
    chain, full_well = detector.chain, detector.design.full_well
    if chain is None:
        return
    a00 = 0.0 if detector.boundaries is None else float(implied_a(detector.boundaries, 1)[0, 0])
    limits = readout.limits(detector)
    for number, amplifier in enumerate(detector.amplifiers):
        full = full_well / amplifier.gain
        values = {
            "gain": (amplifier.gain, "electron/adu"),
            "read_noise": (amplifier.read_noise * amplifier.gain, "electron"),
            "level": (amplifier.level, "adu"),
            "saturation": (limits[number], "adu"),
            "full_well": (full_well, "electron"),
            "a00": (a00, "1/electron"),
            "nonlinearity": (1.0 - float(chain.measured(number, full)) / full, ""),
            "quadratic": (float(chain.quadratic[number]), "1/adu"),
            "cubic": (float(chain.cubic[number]), "1/adu2"),
            "cti_serial": (float(chain.cti_serial[number]), ""),
            "cti_parallel": (float(chain.cti_parallel[number]), ""),
            "offset": (float(chain.pedestal[number]), "adu"),
        }
        for name, (value, unit) in values.items():
            yield Quantity(name, value, 0.0, unit, amplifier.name)


def tables(detector: Detector, visits: Sequence[Visit]) -> dict[str, dict[str, NDArray[Any]]]:
    """``a_matrix``, ``crosstalk``, ``nonlinearity``, and ``series`` with what each of its frames was."""
    found: dict[str, dict[str, NDArray[Any]]] = {}
    if detector.boundaries is not None:
        i, j = np.indices((LAGS, LAGS))
        a = implied_a(detector.boundaries, LAGS)
        found["a_matrix"] = {"i": i.ravel(), "j": j.ravel(), "a": a.ravel()}
    if detector.chain is not None:
        found["crosstalk"], found["nonlinearity"] = _crosstalk(detector), _curves(detector)
    series = [visit for visit in visits if visit.object]
    if series:
        found["series"] = {
            "name": np.array([visit.name for visit in series]),
            "object": np.array([visit.object for visit in series]),
            **{
                name: np.array([getattr(visit, name) for visit in series], np.float64)
                for name in ("level", "photodiode", "sky", "fringes")
            },
        }
    return found


def _crosstalk(detector: Detector) -> dict[str, NDArray[Any]]:
    assert detector.chain is not None
    names = np.array([amplifier.name for amplifier in detector.amplifiers])
    source, target = np.nonzero(~np.eye(len(names), dtype=bool))
    coefficient = detector.chain.crosstalk[source, target]
    return {"source": names[source], "target": names[target], "coefficient": coefficient}


def _curves(detector: Detector) -> dict[str, NDArray[Any]]:
    """The signal of each amplifier above its bias up to full well, and what it makes of it."""
    assert detector.chain is not None
    true = [np.linspace(0.0, detector.design.full_well / amp.gain, NODES) for amp in detector.amplifiers]
    measured = [detector.chain.measured(number, signal) for number, signal in enumerate(true)]
    return {
        "amplifier": np.repeat([amplifier.name for amplifier in detector.amplifiers], NODES),
        "true": np.concatenate(true),
        "measured": np.concatenate(measured),
    }
