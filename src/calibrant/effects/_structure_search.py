"""The search: from digests of flats to findings and profiles, structure after structure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import _structure_surface as surfaces
from calibrant.effects._structure_digest import Digest
from calibrant.effects._structure_finding import Finding
from calibrant.effects._structure_lines import Column
from calibrant.effects._structure_patterns import Pattern, patterns
from calibrant.effects._structure_rings import Rings, rings
from calibrant.effects._structure_shadows import (
    TRIALS,
    Shadow,
    covered,
    depth_in,
    shadows,
    smooth_away,
    weighted_mean,
)

F8 = NDArray[np.float64]
OUTERMOST = 0.02  # of the shorter side: too close to the edge for small structure
MODEL = 0.05  # of an amplitude that a model of circles may miss
PIXEL_DOUBT = 0.02  # relative, of the scatter of pixels from robust widths
LAYERS = 3  # of shadows, the deep ones first


@dataclass(eq=False)
class Search:
    """What was found of all detectors and bands.

    Attributes
    ----------
    digests : sequence of Digest
        One for each detector and band.
    threshold : float
        Sigmas.
    """

    digests: Sequence[Digest]
    threshold: float
    lights: dict[str, surfaces.Surface] = field(default_factory=dict)
    rolls: dict[str, dict[str, surfaces.Roll]] = field(default_factory=dict)
    found_shadows: dict[str, tuple[Shadow, ...]] = field(default_factory=dict)
    found_rings: dict[str, Rings] = field(default_factory=dict)
    found_patterns: dict[str, tuple[Pattern, ...]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    _masks: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def alone(self) -> bool:
        """Whether the places of the detectors on the focal plane are unknown."""
        return any(d.geometry.origin is None for d in self.digests)

    def of_detector(self, name: str) -> list[Digest]:
        """Its digests."""
        return [d for d in self.digests if d.detector == name]

    def of_band(self, name: str) -> list[Digest]:
        """Its digests."""
        return [d for d in self.digests if d.band == name]

    @property
    def detectors(self) -> list[str]:
        """In the order in which they came."""
        return list(dict.fromkeys(d.detector for d in self.digests))

    @property
    def bands(self) -> list[str]:
        """In the order in which they came."""
        return list(dict.fromkeys(d.band for d in self.digests))

    def run(self) -> Search:
        """Look for everything; shadows twice, since rings hide them and they spoil the rest."""
        for _ in range(2):
            self._slow()
            for name in self.detectors:
                rests = self._rests(name)
                self._shadows(name, rests)
                self.found_rings[name] = self._rings(name, rests)
        self._slow()
        for name in self.detectors:
            self._patterns(name, self._rests(name))
        return self

    def _slow(self) -> None:
        for band in self.bands:
            digests = self.of_band(band)
            self.lights[band] = surfaces.surface(digests, self._masks)
            self.rolls[band] = surfaces.roll_off(digests, self.lights[band], self.alone)

    def _rests(self, name: str) -> dict[str, F8]:
        """Maps of the bands without light, gains and edges; NaN at the very edge."""
        rests = {}
        for d in self.of_detector(name):
            roll = self.rolls[d.band][name]
            seen = roll if abs(roll.amplitude) > self.threshold * roll.sigma else None
            rest = surfaces.residual(d, self.lights[d.band], seen, self.alone)
            rests[d.band] = np.where(surfaces.inner(d, OUTERMOST), rest, math.nan)
        return rests

    def ringed(self, name: str, band: str) -> bool:
        """Whether a band of a detector has rings."""
        return self._has_rings(name) and self.found_rings[name].in_band(band) > self.threshold

    def _has_rings(self, name: str) -> bool:
        return name in self.found_rings and self.found_rings[name].significance > self.threshold

    def _ring_planes(self, name: str) -> dict[str, F8]:
        has = self._has_rings(name)
        return {
            d.band: self.found_rings[name].plane(d.band, d.row, d.col) if has else np.zeros(d.map.shape)
            for d in self.of_detector(name)
        }

    def _shadows(self, name: str, rests: Mapping[str, F8]) -> None:
        planes = self._ring_planes(name)
        noise = self.of_detector(name)[0].noise
        found: tuple[Shadow, ...] = ()
        for _ in range(LAYERS):  # deep ones widen the scatter, behind which others hide
            mask = covered(noise.shape, found)
            small = {b: smooth_away(np.where(mask, math.nan, rest - planes[b])) for b, rest in rests.items()}
            more = shadows(weighted_mean(small), noise, self.threshold)
            found += more
            if not more:
                break
        self.found_shadows[name], self._masks[name] = found, covered(noise.shape, found)

    def _rings(self, name: str, rests: Mapping[str, F8]) -> Rings:
        first = self.of_detector(name)[0]
        small = {b: smooth_away(np.where(self._masks[name], math.nan, rest)) for b, rest in rests.items()}
        return rings(weighted_mean(small), small, first.row, first.col)

    def _patterns(self, name: str, rests: Mapping[str, F8]) -> None:
        digests, planes, found = self.of_detector(name), self._ring_planes(name), self.found_rings[name]
        maps = {}
        for d in digests:
            # Light and gains come back: as fitted they differ from band to band by errors, themselves not.
            row, col = np.broadcast_arrays(*surfaces.places(d, self.alone))
            light = self.lights[d.band]
            whole = rests[d.band] + surfaces.by_amplifier(d, light.offsets[name]) + light.at(row, col)
            maps[d.band] = np.where(self._masks[name], math.nan, whole - planes[d.band])
        removed = {d.band: found.amplitude[d.band] if self._has_rings(name) else 0.0 for d in digests}
        self.found_patterns[name], self.references[name] = patterns(
            maps, digests[0].windows, removed, self.threshold
        )

    # --- findings ---

    def findings(self) -> list[Finding]:
        """All of them, in the order of the inventory."""
        parts = (
            self._steps, self._vignetting, self._dust, self._edges, self._tree_rings, self._chromatic,
            self._columns, self._periodic, self._pixels,
        )  # fmt: skip
        return [finding for part in parts for finding in part()]

    def _judged(self, structure: str, amplitude: float, sigma: float, **more: float | str) -> Finding:
        """A finding by its amplitude and sigma, as fractions of the light."""
        significance = abs(amplitude) / sigma if sigma > 0 else 0.0
        significance = float(more.pop("significance", significance))
        detected = significance > self.threshold
        return Finding(
            structure, amplitude=100.0 * amplitude, sigma=100.0 * sigma, significance=significance,
            detected=detected, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    def _steps(self) -> list[Finding]:
        """Gains are the same in all bands: a step counts if the mean over the bands has it too."""
        found = []
        for name in self.detectors:
            digests = self.of_detector(name)
            values, sigmas = (np.array([getattr(d.levels, n) for d in digests]) for n in ("values", "sigma"))
            weights = np.where(np.isfinite(sigmas) & (sigmas > 0), sigmas, math.inf) ** -2.0
            mean = np.sum(weights * np.where(np.isfinite(values), values, 0.0), axis=0)
            whole = np.abs(mean) / np.sqrt(np.maximum(weights.sum(axis=0), 1e-300))
            for d, value, sigma in zip(digests, values, sigmas, strict=True):
                for k in np.flatnonzero(np.isfinite(value)):
                    both = min(float(whole[k]) / TRIALS, abs(float(value[k])) / float(sigma[k]))
                    found.append(
                        self._judged(
                            "amplifier_steps",
                            math.expm1(value[k]),
                            sigma[k] * math.exp(value[k]),
                            detector=name,
                            band=d.band,
                            amplifier=d.geometry.amplifiers[k].name,
                            significance=both,
                        )
                    )
        return found

    def _vignetting(self) -> list[Finding]:
        found = []
        for band, light in self.lights.items():
            # The range of a fitted surface is never negative: its shape as a whole has to be there too.
            both = min(light.significance, light.loss / light.sigma if light.sigma > 0 else 0.0)
            distance = math.dist(light.brightest, light.faintest)
            found.append(
                self._judged(
                    "vignetting", light.loss, light.sigma, band=band, significance=both, scale=distance
                )
            )
        return found

    def _dust(self) -> list[Finding]:
        found = []
        for name, several in self.found_shadows.items():
            digests, rests, planes = self.of_detector(name), self._rests(name), self._ring_planes(name)
            small = (
                {band: smooth_away(rest - planes[band]) for band, rest in rests.items()} if several else {}
            )
            for shadow in several:
                first = digests[0]
                size = first.geometry.extent[0] / first.map.shape[0]
                place = {
                    "row": float(first.row[int(shadow.row)]) / first.geometry.pitch[0],
                    "col": float(first.col[int(shadow.col)]) / first.geometry.pitch[1],
                    "scale": shadow.radius * size,
                }
                whole = shadow.depth / shadow.sigma
                found.append(
                    self._judged(
                        "dust_shadow", shadow.depth, shadow.sigma, detector=name, significance=whole, **place
                    )
                )
                for band, plane in small.items():
                    depth, sigma = depth_in(plane, shadow)
                    if math.isfinite(depth):
                        found.append(
                            self._judged("dust_shadow", depth, sigma, detector=name, band=band, **place)
                        )
        return found

    def _edges(self) -> list[Finding]:
        return [
            self._judged(
                "edge_roll_off", roll.amplitude, roll.sigma, detector=name, band=band, scale=roll.scale
            )
            for band, several in self.rolls.items()
            for name, roll in several.items()
            if math.isfinite(roll.amplitude)
        ]

    def _tree_rings(self) -> list[Finding]:
        found = []
        for name, ring in self.found_rings.items():
            geometry = self.of_detector(name)[0].geometry
            for band, amplitude in ring.amplitude.items():
                sigma = math.hypot(ring.sigma[band], MODEL * amplitude)
                found.append(
                    self._judged(
                        "tree_rings", amplitude, sigma, detector=name, band=band, scale=ring.period,
                        significance=min(ring.significance, ring.in_band(band)),
                        row=ring.row / geometry.pitch[0], col=ring.col / geometry.pitch[1],
                    )
                )  # fmt: skip
        return found

    def _chromatic(self) -> list[Finding]:
        found = []
        for name, several in self.found_patterns.items():
            geometry = self.of_detector(name)[0].geometry
            for pattern in several:
                structure = "fringes" if pattern.banded else "chromatic_pattern"
                period = max(geometry.extent) / pattern.shape.waves
                for band, amplitude in pattern.amplitude.items():
                    own = {"significance": pattern.significance} if band == pattern.template else {}
                    found.append(
                        self._judged(
                            structure,
                            amplitude,
                            pattern.sigma[band],
                            detector=name,
                            band=band,
                            scale=period,
                            **own,
                        )
                    )
        return found

    def _columns(self) -> list[Finding]:
        found = []
        for d in self.digests:
            rows = d.geometry.pitch[0]
            for column in d.columns:
                if self._at_a_shadow(d, column):
                    continue
                found.append(
                    Finding(
                        "column",
                        d.detector,
                        d.band,
                        d.geometry.amplifiers[column.amplifier].name,
                        amplitude=100.0 * column.amplitude,
                        sigma=100.0 * column.sigma,
                        significance=abs(column.amplitude) / column.sigma,
                        detected=True,
                        scale=(column.rows[1] - column.rows[0]) * rows,
                        row=0.5 * sum(column.rows),
                        col=column.col,
                    )
                )
        return found

    def _at_a_shadow(self, d: Digest, column: Column) -> bool:
        """Whether the edge of a shadow may look like the column: it is steep where pixels are large."""
        low, high = (row * d.geometry.pitch[0] for row in column.rows)
        col = (column.col + 0.5) * d.geometry.pitch[1]
        size = d.geometry.extent[1] / d.map.shape[1]
        for shadow in self.found_shadows.get(d.detector, ()):
            row, reach = float(d.row[int(shadow.row)]), 1.3 * shadow.radius * size
            inside = abs(col - float(d.col[int(shadow.col)])) < reach and low - reach < row < high + reach
            if inside and abs(column.amplitude) < 2.0 * shadow.depth:
                return True
        return False

    def _periodic(self) -> list[Finding]:
        return [
            self._judged(
                "periodic_pattern", peak.amplitude, peak.sigma, detector=d.detector, band=d.band,
                significance=peak.significance, scale=peak.period * d.geometry.pitch[peak.axis],
                **{"row" if peak.axis == 0 else "col": 0.0},
            )
            for d in self.digests
            for peak in d.peaks
        ]  # fmt: skip

    def _pixels(self) -> list[Finding]:
        found = []
        for d in self.digests:
            seen, stated = d.pixels.seen, d.pixels.stated
            good = np.isfinite(seen) & np.isfinite(stated) & (d.pixels.count > 0)
            if not good.any():
                continue
            excess = float(np.mean(seen[good] ** 2 - stated[good] ** 2))
            # Second differences of neighbours are correlated, and a robust width is worth 37 % of the values.
            each = seen[good] ** 2 * np.sqrt(20.0 / d.pixels.count[good])
            sigma = math.hypot(
                float(np.sqrt(np.sum(each**2)) / good.sum()),
                2.0 * PIXEL_DOUBT * float(np.mean(seen[good] ** 2)),
            )
            amplitude = math.sqrt(max(excess, 0.0))
            error = sigma / (2.0 * amplitude) if amplitude > 0 else math.sqrt(sigma)
            found.append(
                self._judged(
                    "pixel_response", amplitude, error, detector=d.detector, band=d.band,
                    significance=max(0.0, excess) / sigma,
                )
            )  # fmt: skip
        return found
