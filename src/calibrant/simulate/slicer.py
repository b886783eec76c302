"""Images of an image slicer: lamps and points through slices, with fringes, stray light, parity and noise.

``image = gain * E(x - edge shift) * P(x - structure shift) * level * fringes + stray light + pedestal``; the
whole times the parity of the row. Wavelength runs along rows until the image is turned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import erf

from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument.slices import Line
from calibrant.product import Product, Quantity
from calibrant.simulate import _slicer_fringes as fringes
from calibrant.simulate._slicer_scene import Campaign, Scene, Source, parabola

__all__ = ["Campaign", "Image", "Scene", "Source", "image", "make", "truth"]

F8 = NDArray[np.float64]
WINGS = 8  # pixels beyond the edge of a slice
FWHM = float(np.sqrt(8 * np.log(2)))
GHOSTS = (0.2, 20.0, 5.0)  # part of the scattered light, distance and width in pixels
BETA_SIGMA = 0.18  # arcsec, of a point across slices
DEAD, HOT = 0.5, 0.25  # parts of the bad pixels that are NaN, and that are hot
HEIGHT = 40.0  # adu/s of a hot pixel
BAD_SEED = 495
SAMPLES = 64
GLOW = 0.05  # of an etalon between its lines
NEIGHBOURS = 2  # lines of a table on each side
ROOT2 = float(np.sqrt(2.0))


@dataclass(frozen=True, eq=False)
class Image:
    """An image with its truth, before noise."""

    frame: Frame
    truth: Product


@dataclass(frozen=True)
class Place:
    """Where a point source stands, arcsec."""

    alpha: float = 0.0
    beta: float = 0.0


def image(
    scene: Scene, source: str, campaign: str, rng: np.random.Generator, place: Place | None = None
) -> Frame:
    """One slope image, adu/s, with its variance.

    Parameters
    ----------
    source, campaign : str
        Names in the scene.
    place : Place, optional
        Of a point source; the middle if not given.

    Raises
    ------
    SelectionError
        If the scene has no such source or campaign.
    """
    return make(scene, source, campaign, rng, place).frame


def truth(scene: Scene, source: str, campaign: str, place: Place | None = None) -> Product:
    """What an analysis of the image should find, see `make`."""
    return make(scene, source, campaign, np.random.default_rng(0), place).truth


def make(
    scene: Scene, source: str, campaign: str, rng: np.random.Generator, place: Place | None = None
) -> Image:
    """One slope image and its truth.

    Returns
    -------
    Image
        Truth: planes ``light`` (of slices, without stray light), ``stray`` (with the pedestal), ``clean``
        (without noise and bad pixels), ``fringes`` (transmission as recorded), ``illumination`` and
        ``structure`` of the slices, ``dq``; table ``depths``; quantities of the campaign.
    """
    lamp, taken = scene.source(source), scene.campaign(campaign)
    lit, illumination, structure, transmitted = _light(scene, lamp, taken, place or Place())
    blind = _blind(scene, lit.shape)
    stray = _scattered(scene, lit) + (taken.pedestal if lamp.pedestal else 0.0)
    parity = 1.0 + taken.parity * np.where(np.arange(lit.shape[0]) % 2 == 0, 1.0, -1.0)[:, None]
    clean = np.where(blind, 0.0, (lit + stray) * parity)
    variance = np.maximum(clean, 0.0) / (scene.electrons * scene.exposed) + scene.read_noise**2
    seen = clean + np.sqrt(variance) * rng.standard_normal(clean.shape)
    dq = _broken(scene, seen, blind, rng)
    planes = {
        "light": lit, "stray": stray, "clean": clean, "fringes": transmitted, "illumination": illumination,
        "structure": structure,
    }  # fmt: skip
    turned = {name: _turned(scene, plane.astype(np.float32)) for name, plane in planes.items()}
    exposure = _exposure(scene, lamp, source, campaign, place)
    frame = Frame(
        _turned(scene, seen.astype(np.float32)),
        variance=_turned(scene, variance.astype(np.float32)),
        dq=_turned(scene, dq),
        unit="adu/s",
        exposure=exposure,
    )
    units = dict.fromkeys(("light", "stray", "clean"), "adu/s")
    product = Product(
        "truth",
        scene.instrument,
        keys={**exposure.keys, "campaign": campaign},
        planes={**turned, "dq": _turned(scene, dq)},
        units={**units, "depths.wavelength": "um", "depths.period": "pix"},
        tables={"depths": _depths(scene, lamp, taken)},
        quantities=_quantities(scene, taken, lamp),
    )
    return Image(frame, product)


def _exposure(scene: Scene, lamp: Source, source: str, campaign: str, place: Place | None) -> Exposure:
    return Exposure(
        kind="light" if lamp.point else "flat",
        campaign=campaign,
        instrument=scene.instrument,
        detector=str(scene.cards.get("DETECTOR", "0")),
        shape=scene.slices.shape,
        unit="adu/s",
        keys={"source": source, "band": scene.band, **_place_keys(scene, lamp, place)},
        identifier=f"{source} {campaign}",
    )


def _light(scene: Scene, lamp: Source, taken: Campaign, place: Place) -> tuple[F8, F8, F8, F8]:
    """Light of the slices, its illumination, its structure and its fringes; (rows, cols), upright."""
    shape = scene.slices.upright(scene.slices.ids).shape
    lit, illumination = np.zeros(shape), np.zeros(shape)
    structure, transmitted = np.ones(shape), np.ones(shape)
    row = np.arange(shape[0], dtype=np.float64)[:, None]
    middle = (shape[0] - 1) / 2
    for number, line in scene.lines.items():
        u = (row - middle) / (middle + 0.5)
        centre = np.polynomial.polynomial.polyval(u, line.centre)
        reach = _half(line) + WINGS
        first = max(int(np.floor(centre.min() - reach)), 0)
        cols = slice(first, min(int(np.ceil(centre.max() + reach)) + 1, shape[1]))
        away = np.arange(cols.start, cols.stop, dtype=np.float64) - centre
        slope = np.interp(u, (-1.0, 0.0, 1.0), line.smile)
        at = (row - slope * away - taken.dispersion_shift - middle) / (middle + 0.5)
        waves = _waves(lamp, line.scale * (away - taken.structure_shift))
        edges = _edges(scene, lamp, line, away - taken.edge_shift, place)
        fringe = _fringes(scene, number, lamp, taken, at, middle)
        level = _level(scene, number, lamp, at, row)
        ambient = scene.ambient * _edges(
            scene, Source(level=(0,) * 3, reflectivity=(0,) * 3), line, away, place
        )
        lit[:, cols] += taken.gain * (level * edges * waves + ambient) * fringe
        illumination[:, cols] = np.maximum(illumination[:, cols], edges)
        here = np.abs(away) < _half(line)
        structure[:, cols] = np.where(here, waves, structure[:, cols])
        transmitted[:, cols] = np.where(here, fringe, transmitted[:, cols])
    return lit, illumination, structure, transmitted


def _half(line: Line) -> float:
    """Half the width of a slice, pixels."""
    return 0.5 * line.width if line.limit is None else line.limit / abs(line.scale)


def _waves(lamp: Source, alpha: F8) -> F8:
    parts = [size * np.sin(2 * np.pi * alpha / period + phase) for size, period, phase in lamp.structure]
    return np.asarray(1.0 + sum(parts) + np.zeros_like(alpha))


def _edges(scene: Scene, lamp: Source, line: Line, away: F8, place: Place) -> F8:
    """Illumination of a slice by distance from its middle: blurred edges, or the image of a point."""
    if lamp.point:
        across = np.exp(-0.5 * ((line.beta - place.beta) / BETA_SIGMA) ** 2)
        return np.asarray(across * np.exp(-0.5 * ((away - place.alpha / line.scale) / scene.blur) ** 2))
    half, wide = _half(line), np.sqrt(2.0) * scene.blur
    return np.asarray(0.5 * (erf((away + half) / wide) - erf((away - half) / wide)))


def _wavelength(line: Line, at: F8, middle: float) -> tuple[F8, F8]:
    """Micrometres, and micrometres per row, at u."""
    poly = np.polynomial.polynomial
    step = poly.polyval(at, poly.polyder(np.array(line.wavelength))) / (middle + 0.5)
    return np.asarray(poly.polyval(at, line.wavelength)), np.asarray(step)


def _sigma(scene: Scene, number: int, wavelength: F8, step: F8) -> F8:
    """Of the line spread, rows."""
    return np.asarray(scene.resolution(number).width(wavelength) / FWHM / np.abs(step))


def _fringes(scene: Scene, number: int, lamp: Source, taken: Campaign, at: F8, middle: float) -> F8:
    wavelength, step = _wavelength(scene.lines[number], at, middle)
    sigma = _sigma(scene, number, wavelength, step)
    first = fringes.Cavity(
        scene.thickness + taken.thickness_change, scene.phase, parabola(lamp.reflectivity, at)
    )
    second = fringes.Cavity(scene.second_thickness, 0.0, scene.second_reflectivity)
    both = [fringes.transmission(one, wavelength, step, sigma) for one in (first, second)]
    return both[0] * both[1]


def _level(scene: Scene, number: int, lamp: Source, at: F8, row: F8) -> F8:
    level = parabola(lamp.level, at)
    if lamp.point:
        level = level * (1 + scene.undulation * np.sin(2 * np.pi * row / scene.undulation_period))
    if not (lamp.lines or lamp.table):
        return level
    middle = (row.size - 1) / 2
    wavelength, step = _wavelength(scene.lines[number], at, middle)
    sigma = _sigma(scene, number, wavelength, step) * np.abs(step)
    if lamp.table:
        return np.asarray(level * (GLOW + _listed(lamp, wavelength, step, sigma)))
    order = 1 / (wavelength * fringes.TO_CM) / lamp.lines  # away: to the nearest line
    away = (order - np.rint(order)) * lamp.lines * (wavelength * fringes.TO_CM) ** 2 / fringes.TO_CM
    return np.asarray(level * (GLOW + _line(away, step, sigma)))


def _listed(lamp: Source, wavelength: F8, step: F8, sigma: F8) -> F8:
    """Lines of a table: of each pixel those next to it, which are all that it can see."""
    centre, height = (np.array(values) for values in zip(*lamp.table, strict=True))
    after = np.searchsorted(centre, wavelength)
    total = np.zeros(wavelength.shape)
    for place in range(-NEIGHBOURS, NEIGHBOURS):
        there = (after + place >= 0) & (after + place < centre.size)
        near = np.clip(after + place, 0, centre.size - 1)
        total += np.where(there, height[near] * _line(wavelength - centre[near], step, sigma), 0.0)
    return total


def _line(away: F8, step: F8, sigma: F8) -> F8:
    """A Gaussian line of height 1, mean of the pixel."""
    half = 0.5 * np.abs(step)
    ends = erf((away + half) / (ROOT2 * sigma)) - erf((away - half) / (ROOT2 * sigma))
    return np.asarray(np.sqrt(np.pi / 2) * sigma * ends / (2 * half))


def _scattered(scene: Scene, lit: F8) -> F8:
    """Light scattered along lines, a part `stray` of all: a Lorentzian halo, and ghosts to either side."""
    cols = lit.shape[1]
    away = np.arange(-cols, cols, dtype=np.float64)
    part, distance, width = GHOSTS
    halo = 1 / (1 + (2 * away / scene.halo) ** 2)
    ghosts = np.exp(-0.5 * ((np.abs(away) - distance) * FWHM / width) ** 2)
    kernel = scene.stray * ((1 - part) * halo / halo.sum() + part * ghosts / ghosts.sum())
    size = fft.next_fast_len(3 * cols, real=True)
    spread = fft.irfft(fft.rfft(lit, size, axis=1) * fft.rfft(kernel, size), size, axis=1)
    return np.asarray(spread[:, cols : 2 * cols])


def _blind(scene: Scene, shape: tuple[int, int]) -> NDArray[np.bool_]:
    reference = scene.slices.reference
    return np.zeros(shape, bool) if reference is None else scene.slices.upright(reference)


def _broken(scene: Scene, seen: F8, blind: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.uint32]:
    """Break pixels of `seen`, the same ones in all images; flags."""
    dq = np.where(blind, np.uint32(DQ.REFERENCE_PIXEL), np.uint32(0)).astype(np.uint32)
    fixed = np.random.default_rng(BAD_SEED)
    drawn = fixed.random(seen.shape)
    bad, dead = ~blind & (drawn < scene.bad), drawn < scene.bad * DEAD
    hot = bad & ~dead & (drawn < scene.bad * (DEAD + HOT))
    seen[bad & dead] = np.nan
    seen[hot] += HEIGHT * fixed.lognormal(0.0, 1.0, int(hot.sum()))
    other = bad & ~dead & ~hot
    seen[other] += seen[other] * 0.3 * rng.standard_normal(int(other.sum()))
    dq[bad] |= np.uint32(DQ.DO_NOT_USE)
    for line in fixed.integers(0, seen.shape[0], scene.stripes):
        seen[line], dq[line] = np.nan, dq[line] | np.uint32(DQ.DO_NOT_USE)
    return dq


def _turned(scene: Scene, plane: NDArray[np.generic]) -> NDArray[np.generic]:
    """As the instrument's images lie."""
    return np.ascontiguousarray(scene.slices.upright(plane))


def _place_keys(scene: Scene, lamp: Source, place: Place | None) -> dict[str, str]:
    if not lamp.point or place is None:
        return {}
    told = (
        ("pointing", scene.raster.pointings, place.beta),
        ("position", scene.raster.positions, place.alpha),
    )
    return {key: name for key, table, at in told for name, value in table.items() if value == at}


def _depths(scene: Scene, lamp: Source, taken: Campaign) -> dict[str, NDArray[np.generic]]:
    """Fringes along the middle of each slice of the band: wavelength, R, depth intrinsic and as recorded."""
    rows = scene.slices.upright(scene.slices.ids).shape[0]
    middle = (rows - 1) / 2
    at = np.linspace(-1.0, 1.0, SAMPLES)
    found: dict[str, list[F8]] = {
        name: [] for name in ("slice", "wavelength", "period", "reflectivity", "intrinsic", "observed")
    }
    for number in scene.slices.numbers:
        wavelength, step = _wavelength(scene.lines[number], at, middle)
        period = fringes.period_of(scene.thickness + taken.thickness_change, wavelength, step)
        reflectivity = parabola(lamp.reflectivity, at)
        intrinsic, observed = fringes.depths(reflectivity, period, _sigma(scene, number, wavelength, step))
        values = (np.full(SAMPLES, float(number)), wavelength, period, reflectivity, intrinsic, observed)
        for name, one in zip(found, values, strict=True):
            found[name].append(one)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _quantities(scene: Scene, taken: Campaign, lamp: Source) -> tuple[Quantity, ...]:
    return (
        Quantity("gain", taken.gain),
        Quantity("pedestal", taken.pedestal if lamp.pedestal else 0.0, unit="adu/s"),
        Quantity("structure_shift", taken.structure_shift, unit="pix"),
        Quantity("edge_shift", taken.edge_shift, unit="pix"),
        Quantity("dispersion_shift", taken.dispersion_shift, unit="pix"),
        Quantity("parity", taken.parity),
        Quantity("thickness", (scene.thickness + taken.thickness_change) / fringes.TO_CM, unit="um"),
        Quantity("phase", scene.phase, unit="cycle"),
        Quantity("blur", scene.blur, unit="pix"),
        Quantity("stray", scene.stray),
    )
