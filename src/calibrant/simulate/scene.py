"""Scene: light on the detector, in electron/s at a response of 1: sky, stars, a spiral galaxy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import SelectionError
from calibrant.simulate.structure import F4, Shape

F8 = NDArray[np.float64]


@dataclass(frozen=True)
class TanWcs:
    """Gnomonic (TAN) world coordinates, after Calabretta & Greisen 2002, A&A 395, 1077.

    Attributes
    ----------
    ra, dec : float
        Of the reference pixel, degrees.
    row, col : float
        Reference pixel, from 0; whole numbers are centres of pixels.
    scale : float
        Arcseconds per pixel.
    angle : float
        Degrees by which north is turned from up towards the left; east is to the left of north.
    """

    ra: float = 202.4696
    dec: float = 47.1952
    row: float = 0.0
    col: float = 0.0
    scale: float = 0.61
    angle: float = 2.0

    @property
    def cd(self) -> F8:
        """The CD matrix, degrees per pixel, [[CD1_1, CD1_2], [CD2_1, CD2_2]]."""
        step, turn = self.scale / 3600.0, math.radians(self.angle)
        cos, sin = math.cos(turn), math.sin(turn)
        return np.array([[-step * cos, step * -sin], [step * -sin, step * cos]])

    def moved(self, rows: float, cols: float) -> TanWcs:
        """The coordinates after the image has moved by so many pixels on the detector."""
        return replace(self, row=self.row + rows, col=self.col + cols)

    def to_sky(self, row: F8 | float, col: F8 | float) -> tuple[F8, F8]:
        """Right ascension and declination in degrees of pixels."""
        dx, dy = np.asarray(col) - self.col, np.asarray(row) - self.row
        cd = np.radians(self.cd)
        xi, eta = cd[0, 0] * dx + cd[0, 1] * dy, cd[1, 0] * dx + cd[1, 1] * dy
        dec0 = math.radians(self.dec)
        denominator = math.cos(dec0) - eta * math.sin(dec0)
        ra = self.ra + np.degrees(np.arctan2(xi, denominator))
        dec = np.degrees(np.arctan2(math.sin(dec0) + eta * math.cos(dec0), np.hypot(xi, denominator)))
        return np.asarray(ra % 360.0), np.asarray(dec)

    def to_pixel(self, ra: F8 | float, dec: F8 | float) -> tuple[F8, F8]:
        """Row and column, from 0, of places on the sky in degrees."""
        delta, dec1, dec0 = np.radians(np.asarray(ra) - self.ra), np.radians(dec), math.radians(self.dec)
        cosine = math.sin(dec0) * np.sin(dec1) + math.cos(dec0) * np.cos(dec1) * np.cos(delta)
        xi = np.cos(dec1) * np.sin(delta) / cosine
        eta = (math.cos(dec0) * np.sin(dec1) - math.sin(dec0) * np.cos(dec1) * np.cos(delta)) / cosine
        inverse = np.linalg.inv(np.radians(self.cd))
        dx, dy = inverse[0, 0] * xi + inverse[0, 1] * eta, inverse[1, 0] * xi + inverse[1, 1] * eta
        return np.asarray(dy + self.row), np.asarray(dx + self.col)

    def cards(self) -> dict[str, str | float]:
        """FITS cards (pixels from 1, x first)."""
        cd = self.cd
        return {
            "WCSAXES": 2,
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "CRVAL1": self.ra,
            "CRVAL2": self.dec,
            "CRPIX1": self.col + 1.0,
            "CRPIX2": self.row + 1.0,
            "CD1_1": float(cd[0, 0]),
            "CD1_2": float(cd[0, 1]),
            "CD2_1": float(cd[1, 0]),
            "CD2_2": float(cd[1, 1]),
            "RADESYS": "ICRS",
            "EQUINOX": 2000.0,
        }


@dataclass(frozen=True)
class Band:
    """How a scene looks through one filter.

    Attributes
    ----------
    sky : float
        Brightness of the sky, electron/s per pixel.
    stars, disc, bulge, knots : float
        Factors on the light of each part: the colours.
    """

    sky: float = 8.0
    stars: float = 1.0
    disc: float = 1.0
    bulge: float = 1.0
    knots: float = 1.0


RED = Band(sky=9.0, stars=1.0, disc=0.9, bulge=1.2, knots=0.7)
VISUAL = Band(sky=6.0, stars=0.8, disc=0.8, bulge=0.8, knots=0.9)
BLUE = Band(sky=3.0, stars=0.5, disc=0.6, bulge=0.4, knots=1.2)


@dataclass(frozen=True)
class Psf:
    """Moffat profile of a star.

    Attributes
    ----------
    fwhm : float
        Pixels.
    beta : float
        Power of the wings.
    """

    fwhm: float = 3.2
    beta: float = 3.0

    @property
    def core(self) -> float:
        """Core radius, pixels."""
        return self.fwhm / (2.0 * math.sqrt(2.0 ** (1.0 / self.beta) - 1.0))

    def value(self, distance2: F8) -> F8:
        """Fraction of the light per pixel at a squared distance in pixels."""
        peak = (self.beta - 1.0) / (math.pi * self.core**2)
        return np.asarray(peak * (1.0 + distance2 / self.core**2) ** -self.beta)

    def reach(self, flux: float, least: float) -> int:
        """Pixels from the centre at which a star of `flux` has fallen below `least`."""
        peak = flux * float(self.value(np.zeros(1))[0])
        if peak <= least:
            return 4
        return max(4, math.ceil(self.core * math.sqrt((peak / least) ** (1.0 / self.beta) - 1.0)))


@dataclass(frozen=True, eq=False)
class Stars:
    """A field of stars.

    Attributes
    ----------
    row, col : array
        Places on the detector before any dither, pixels from 0.
    flux : array
        electron/s.
    """

    row: F8
    col: F8
    flux: F8

    @classmethod
    def drawn(
        cls,
        shape: Shape,
        count: int,
        rng: np.random.Generator,
        *,
        faintest: float = 25.0,
        slope: float = 0.75,
    ) -> Stars:
        """Uniform places up to 5 % outside the frame; luminosities with N(> f) ~ f**-slope above `faintest`.

        The last star always is bright enough to saturate within seconds and to bleed.
        """
        row, col = (rng.uniform(-0.05, 1.05, count) * side for side in shape)
        flux = np.minimum(faintest * (1.0 - rng.random(count)) ** (-1.0 / slope), 4.0e4)
        if count:
            row[-1], col[-1], flux[-1] = 0.21 * shape[0], 0.16 * shape[1], 2.0e5
        return cls(row, col, flux)

    def light(self, shape: Shape, psf: Psf, shift: tuple[float, float], least: float = 0.01) -> F4:
        """Light of all stars, electron/s, each followed outwards until it falls below `least`."""
        plane = np.zeros(shape, np.float32)
        for row, col, flux in zip(self.row + shift[0], self.col + shift[1], self.flux, strict=True):
            reach = min(psf.reach(flux, least), max(shape))
            rows, cols = _window(row, reach, shape[0]), _window(col, reach, shape[1])
            if rows.start >= rows.stop or cols.start >= cols.stop:
                continue
            y, x = np.ogrid[rows, cols]
            plane[rows, cols] += flux * psf.value((y - row) ** 2 + (x - col) ** 2)
        return plane


def _window(centre: float, reach: int, size: int) -> slice:
    middle = round(centre)
    return slice(min(max(0, middle - reach), size), max(0, min(size, middle + reach + 1)))


@dataclass(frozen=True, eq=False)
class Galaxy:
    """A spiral galaxy: exponential disc with logarithmic arms and dust lanes, a bulge, knots of young stars.

    A small companion stands at the end of an arm.

    Attributes
    ----------
    row, col : float
        Centre, pixels from 0.
    length : float
        Scale length of the disc, pixels.
    disc, bulge : float
        Central surface brightness, electron/s per pixel.
    axis_ratio, angle : float
        Apparent flattening, and position angle in degrees.
    arms : int
    pitch : float
        Pitch angle of the arms, degrees.
    knots : array
        (n, 4): row and column from the centre, sigma in pixels, flux in electron/s.
    """

    row: float
    col: float
    length: float
    disc: float
    bulge: float
    axis_ratio: float
    angle: float
    arms: int
    pitch: float
    knots: F8

    @classmethod
    def spiral(cls, shape: Shape, rng: np.random.Generator, *, brightness: float = 1.0) -> Galaxy:
        """A two-armed spiral that fills about half the frame, with knots drawn along its arms."""
        length = 0.085 * min(shape)
        bare = cls(
            row=0.52 * shape[0],
            col=0.47 * shape[1],
            length=length,
            disc=13.0 * brightness,
            bulge=90.0 * brightness,
            axis_ratio=0.78,
            angle=35.0,
            arms=2,
            pitch=19.0,
            knots=np.zeros((0, 4)),
        )
        return replace(bare, knots=bare._drawn_knots(420, rng, brightness))

    def _drawn_knots(self, count: int, rng: np.random.Generator, brightness: float) -> F8:
        radius = self.length * rng.gamma(4.0, 0.55, count).clip(0.5, 5.0)
        arm = rng.integers(0, self.arms, count) * 2.0 * math.pi / self.arms
        angle = np.log(radius / self.length) / math.tan(math.radians(self.pitch)) + arm
        angle += rng.normal(0.0, 0.16, count)
        x, y = radius * np.cos(angle), radius * np.sin(angle) * self.axis_ratio
        turn = math.radians(self.angle)
        rows, cols = x * math.sin(turn) + y * math.cos(turn), x * math.cos(turn) - y * math.sin(turn)
        sigma = rng.uniform(0.01, 0.05, count) * self.length + 1.2
        peak = brightness * 9.0 * np.exp(-0.5 * radius / self.length) * rng.gamma(0.6, 1.0, count)
        flux = 2.0 * math.pi * sigma**2 * peak
        return np.stack([rows, cols, sigma, flux], axis=1)

    def light(self, shape: Shape, band: Band, shift: tuple[float, float]) -> F4:
        """Light of the galaxy in electron/s, (rows, cols)."""
        turn = math.radians(self.angle)
        row, col = self.row + shift[0], self.col + shift[1]
        dy = (np.arange(shape[0], dtype=np.float32) - np.float32(row))[:, np.newaxis]
        dx = (np.arange(shape[1], dtype=np.float32) - np.float32(col))[np.newaxis, :]
        along = dx * np.float32(math.cos(turn)) + dy * np.float32(math.sin(turn))
        across = (dy * np.float32(math.cos(turn)) - dx * np.float32(math.sin(turn))) / np.float32(
            self.axis_ratio
        )
        radius = np.hypot(along, across) / np.float32(self.length) + np.float32(1e-3)
        phase = np.arctan2(across, along) - np.log(radius) / np.float32(math.tan(math.radians(self.pitch)))
        arms = self._arms(np.asarray(radius, np.float32), np.asarray(phase, np.float32))
        plane = np.float32(band.disc * self.disc) * np.exp(-radius) * arms
        centre = np.hypot(dy, dx) / np.float32(self.length)
        plane += np.float32(band.bulge * self.bulge) * np.exp(-4.5 * np.sqrt(centre))
        away = np.hypot(dy - np.float32(3.6 * self.length), dx - np.float32(1.5 * self.length))
        plane += np.float32(0.5 * band.bulge * self.bulge) * np.exp(
            -5.5 * np.sqrt(away / np.float32(self.length))
        )
        self._add_knots(plane, band.knots, row, col)
        return np.asarray(plane, np.float32)

    def _arms(self, radius: F4, phase: F4) -> F4:
        """Contrast of the arms: narrow ridges, with a dark lane on their inner side; none near the centre."""
        strength = np.clip((radius - 0.35) / 0.6, 0.0, 1.0)
        ridge = np.exp(3.0 * (np.cos(self.arms * phase) - 1.0))
        lane = np.exp(14.0 * (np.cos(self.arms * phase + 0.9) - 1.0))
        patches = 1.0 + 0.25 * np.sin(9.0 * radius + 2.0 * np.sin(3.0 * phase)) * np.cos(5.0 * phase + radius)
        return np.asarray(1.0 + strength * (2.4 * ridge * patches - 0.40 - 0.30 * lane), np.float32)

    def _add_knots(self, plane: F4, factor: float, row: float, col: float) -> None:
        for dy, dx, sigma, flux in self.knots:
            reach = math.ceil(4.0 * sigma)
            rows = _window(row + dy, reach, plane.shape[0])
            cols = _window(col + dx, reach, plane.shape[1])
            y, x = np.ogrid[rows, cols]
            shape = np.exp(-0.5 * ((y - row - dy) ** 2 + (x - col - dx) ** 2) / sigma**2)
            plane[rows, cols] += factor * flux / (2.0 * math.pi * sigma**2) * shape


@dataclass(frozen=True, eq=False)
class Scene:
    """What the telescope points at.

    Attributes
    ----------
    bands : mapping of str to Band
        Filter -> appearance.
    galaxy : Galaxy or None
    """

    shape: Shape
    wcs: TanWcs
    stars: Stars
    psf: Psf
    bands: Mapping[str, Band]
    galaxy: Galaxy | None = None

    @classmethod
    def spiral(
        cls,
        shape: Shape,
        filters: tuple[str, ...],
        rng: np.random.Generator,
        *,
        stars: int | None = None,
        galaxy: bool = True,
        sky: float = 1.0,
    ) -> Scene:
        """A spiral galaxy in a field of stars.

        Parameters
        ----------
        stars : int, optional
            How many; None: 330 in 2**20 pixels, at least 40.
        sky : float
            Factor on the brightness of the sky.
        """
        count = max(40, round(330 * shape[0] * shape[1] / 2**20)) if stars is None else stars
        colours = {"R": RED, "V": VISUAL, "G": VISUAL, "B": BLUE}
        bands = {name: colours.get(name[:1].upper(), Band()) for name in filters}
        return cls(
            shape=shape,
            wcs=TanWcs(row=(shape[0] - 1) / 2, col=(shape[1] - 1) / 2),
            stars=Stars.drawn(shape, count, rng),
            psf=Psf(),
            bands={name: replace(band, sky=sky * band.sky) for name, band in bands.items()},
            galaxy=Galaxy.spiral(shape, rng) if galaxy else None,
        )

    def light(self, filter: str, shift: tuple[float, float] = (0.0, 0.0)) -> F4:
        """Light on the detector, electron/s at a response of 1, (rows, cols) float32.

        Parameters
        ----------
        shift : tuple of float
            Rows and columns by which this pointing moved the image.

        Raises
        ------
        SelectionError
            If the scene does not say how it looks through `filter`.
        """
        if filter not in self.bands:
            raise SelectionError("the scene has no such filter", where=filter, got=", ".join(self.bands))
        band = self.bands[filter]
        plane = self.stars.light(self.shape, self.psf, shift)
        plane *= np.float32(band.stars)
        if self.galaxy is not None:
            plane += self.galaxy.light(self.shape, band, shift)
        plane += np.float32(band.sky)
        return plane
