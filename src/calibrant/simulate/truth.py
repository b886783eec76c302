"""Truth: what a simulated night really was, as a `Product` of kind ``truth``.

Planes, all (rows, cols) of the data section: ``bias`` [adu], ``bias_structure`` [adu] (what is left when each
row has lost its overscan level), ``dark`` [adu/s] at the set temperature, ``read_noise`` [adu], ``telegraph``
[adu], ``shutter`` [s], ``dq``, ``flat_<filter>``, and for each science frame ``scene_<stem>`` [electron]: the
photo-electrons that a perfect detector of response 1 would have collected, which is what a calibrated frame
in electrons should show.

The detectors of a raft have a truth each, with the parts of their flats as further planes (see `KIND`).

Tables: ``files``, ``hits`` (a row for each pixel that a cosmic ray touched), ``saturated``, ``stars``; if
amplifiers have faults also those of `calibrant.simulate.fault_truth`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.frame import DQ, MICROSECOND
from calibrant.product import Kind, Product, Provenance, Quantity, Table
from calibrant.simulate import fault_truth, readout
from calibrant.simulate.cosmic_rays import Hits
from calibrant.simulate.detector import Detector
from calibrant.simulate.night import CAMERA, Visit
from calibrant.simulate.scene import Scene

KIND = Kind(
    "truth",
    planes={
        "bias": "Mean of a bias frame whose level has settled.",
        "bias_structure": "What is left of the bias when each row has lost its overscan level.",
        "dark": "Dark current at the set temperature.",
        "read_noise": "Read noise, before rounding to whole adu adds 1/12 adu squared.",
        "telegraph": "Amplitude of pixels that jump between two levels.",
        "shutter": "Time by which the shutter exposes longer than asked.",
        "dq": "Defects.",
        "flat_*": "Response to light in a filter, median 1 before defects; of a raft: in a band and epoch.",
        "scene_*": "Photo-electrons of a science frame at a response of 1.",
        "vignetting": "Throughput of the optics, 1 on the axis.",
        "lamp_*": "Light of the flat-field lamp in an epoch, 1 in the middle of the raft.",
        "dust_*": "Throughput through the dust of an epoch.",
        "tree_rings": "Pattern of the silicon, rms 1: the table bands holds its amplitudes.",
        "edges": "Pattern of the edges, 1 at them.",
        "coating": "Pattern of the coating, rms 1.",
        "fringes": "Pattern of thin-film interference, -1 to 1.",
        "pixels": "Response pixel by pixel, mean 1, and of the defects.",
    },
    quantities={
        "gain": "Gain of an amplifier.",
        "read_noise": "Read noise of an amplifier.",
        "level": "Bias level of an amplifier, settled.",
        "dark": "Median dark current at the set temperature.",
        "doubling": "Rise of temperature that doubles the dark current.",
        "cosmic_ray_rate": "Particles per pixel and second.",
        "first_frame": "Offset of the first frame of each series.",
        "drift": "Drift of the level over the night.",
        "full_well": "Charge that a pixel holds.",
        "saturation": "Raw counts at full well or at the end of the converter.",
        "hot_fraction": "Fraction of pixels flagged hot.",
        "prnu": "Sigma of the response pixel by pixel.",
        "a00": "Relative change of the area of a pixel by an electron in it.",
        "nonlinearity": "Fraction of the signal that is missing at full well.",
        "quadratic": "measured = true - quadratic true^2 + cubic true^3.",
        "cubic": "measured = true - quadratic true^2 + cubic true^3.",
        "cti_serial": "Charge transfer inefficiency of serial transfers, as EPER measures it.",
        "cti_parallel": "Charge transfer inefficiency of parallel transfers, as EPER measures it.",
        "offset": "On pixels that see light, not on the overscan, once the shutter has been open.",
    },
)

COLUMNS = {
    "files.exptime": "s",
    "files.level": "electron",
    "files.offset": "adu",
    "hits.charge": "electron",
    "stars.ra": "deg",
    "stars.dec": "deg",
    "stars.flux": "electron/s",
}
"""Units of the columns that have one."""


class Record:
    """Collects the truth of a night while its frames are taken.

    Parameters
    ----------
    temperature : float
        Set point, degrees Celsius, for which the dark plane is given.
    seed : int
        Written into the provenance.
    name, instrument : str
        Of the detector and of its instrument file, for the product's keys.
    parts : mapping of str to array
        Further planes without unit.
    tables : mapping
        Further tables.
    flats : bool
        Whether the throughput is kept; its parts may do.
    """

    def __init__(
        self,
        detector: Detector,
        scene: Scene,
        temperature: float,
        seed: int,
        *,
        name: str = CAMERA,
        instrument: str = "",
        parts: Mapping[str, NDArray[np.float32]] | None = None,
        tables: Mapping[str, Table] | None = None,
        flats: bool = True,
    ) -> None:
        self.detector, self.scene, self.temperature, self.seed = detector, scene, temperature, seed
        self.name, self.instrument, self.flats = name, instrument, flats
        self.parts, self.tables = dict(parts or {}), dict(tables or {})
        self._visits: list[Visit] = []
        self._events: list[int] = []
        self._scenes: dict[str, NDArray[np.float32]] = {}
        self._hits: list[tuple[NDArray[Any], ...]] = []
        self._saturated: list[tuple[NDArray[Any], ...]] = []

    def add(
        self,
        visit: Visit,
        hits: Hits,
        saturated: NDArray[np.bool_],
        light: NDArray[np.floating] | float | None,
    ) -> None:
        """Note one exposure: its plan, cosmic rays, saturated pixels, and the light of a science frame."""
        number = len(self._visits)
        self._visits.append(visit)
        self._events.append(hits.events)
        self._hits.append((_same(number, len(hits.row)), hits.track, hits.row, hits.col, hits.charge))
        row, col = np.nonzero(saturated)
        self._saturated.append((_same(number, len(row)), row.astype(np.int32), col.astype(np.int32)))
        if isinstance(light, np.ndarray):
            self._scenes[f"scene_{visit.stem}"] = np.asarray(light * visit.exptime, np.float32)

    def product(self, **settings: float) -> Product:
        """All that was noted, as a product; `settings` of the night in adu become quantities."""
        planes, units = self._planes()
        mids = [visit.start + round(visit.exptime * MICROSECOND / 2) for visit in self._visits]
        return Product(
            kind=KIND.name,
            instrument=self.instrument,
            keys={"detector": self.name, "binning": (1, 1), "temperature": self.temperature},
            epoch=sum(mids) // len(mids) if mids else None,
            planes=planes,
            units={**units, **COLUMNS, **(fault_truth.COLUMNS if self.detector.chain else {})},
            tables={**self._tables(), **self.tables},
            quantities=self._quantities(settings),
            provenance=Provenance(effect="simulate", options={"seed": self.seed}),
        )

    def _planes(self) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        detector = self.detector
        planes: dict[str, NDArray[Any]] = {
            "bias": detector.bias,
            "bias_structure": detector.structure + 0.5 * detector.telegraph,
            "dark": detector.dark_at(self.temperature) / detector.gain,
            "read_noise": detector.read_noise,
            "telegraph": detector.telegraph,
            "shutter": detector.shutter,
            "dq": detector.dq,
        }
        units = {"bias": "adu", "bias_structure": "adu", "dark": "adu/s", "read_noise": "adu"}
        units |= {"telegraph": "adu", "shutter": "s", "dq": ""}
        flats = detector.throughput if self.flats else {}
        extra = {**self.parts, **{f"flat_{name}": plane for name, plane in flats.items()}}
        planes, units = planes | extra, units | dict.fromkeys(extra, "")
        for name, plane in self._scenes.items():
            planes[name], units[name] = plane, "electron"
        return planes, units

    def _tables(self) -> dict[str, dict[str, NDArray[Any]]]:
        visits, stars = self._visits, self.scene.stars
        ra, dec = self.scene.wcs.to_sky(stars.row, stars.col)
        tables = {
            "files": {
                "name": np.array([visit.name for visit in visits]),
                "kind": np.array([visit.kind for visit in visits]),
                "exptime": np.array([visit.exptime for visit in visits], np.float64),
                "filter": np.array([visit.filter for visit in visits]),
                "level": np.array([visit.level for visit in visits], np.float64),
                "offset": np.array([visit.offset for visit in visits], np.float64),
                "temperature": np.array([visit.temperature for visit in visits], np.float64),
                "row_shift": np.array([visit.shift[0] for visit in visits], np.float64),
                "col_shift": np.array([visit.shift[1] for visit in visits], np.float64),
                "start": np.array([visit.start for visit in visits], np.int64),
                "cosmic_rays": np.array(self._events, np.int32),
            },
            "hits": _columns(("file", "track", "row", "col", "charge"), self._hits),
            "saturated": _columns(("file", "row", "col"), self._saturated),
            "stars": {"ra": ra, "dec": dec, "row": stars.row, "col": stars.col, "flux": stars.flux},
        }
        return {**tables, **fault_truth.tables(self.detector, visits)}

    def _quantities(self, settings: Mapping[str, float]) -> tuple[Quantity, ...]:
        detector, design = self.detector, self.detector.design
        dark = float(np.median(detector.dark_at(self.temperature) / detector.gain))
        hot = float(np.mean(detector.dq & np.uint32(DQ.HOT) != 0))
        several = len(detector.amplifiers) > 1
        found = []
        for amplifier in detector.amplifiers:
            place = amplifier.name if several else ""
            found += [
                Quantity("gain", amplifier.gain, unit="electron/adu", place=place),
                Quantity("read_noise", amplifier.read_noise, unit="adu", place=place),
                Quantity("level", amplifier.level, unit="adu", place=place),
            ]
        if several and detector.chain is not None:
            found = list(fault_truth.quantities(detector))
        return (
            *found,
            Quantity("dark", dark, unit="adu/s"),
            Quantity("doubling", design.doubling, unit="K"),
            Quantity("cosmic_ray_rate", design.cosmic_rate, unit="1/s"),
            *(Quantity(name, value, unit="adu") for name, value in settings.items()),
            Quantity("full_well", design.full_well, unit="electron"),
            Quantity("saturation", readout.saturation(detector), unit="adu"),
            Quantity("hot_fraction", hot),
            Quantity("prnu", design.prnu),
        )


def _same(number: int, count: int) -> NDArray[np.int32]:
    return np.full(count, number, np.int32)


def _columns(names: tuple[str, ...], parts: list[tuple[NDArray[Any], ...]]) -> dict[str, NDArray[Any]]:
    """Columns of a table from pieces of it; ``file`` counts the rows of the table of files."""
    if not parts:
        return {name: np.zeros(0, np.int32) for name in names}
    return {
        name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)
    }
