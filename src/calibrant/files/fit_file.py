"""The fit file of a dark scaling: two darks, and what each model leaves of the second one.

Its layout is the one that was published in 2015: ``PRIMARY`` is the dark that was scaled, ``DARK2`` the dark
that was to be matched, and each further image the **residual** dark2 - model(dark1) of one model, though its
card KIND calls it a fitted dark. Keywords, comments and their order are those of the published files, to the
letter; that is also why these files carry no checksums. The effect's product has errors and provenance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import FileError, HeaderError, OptionError, ShapeError
from calibrant.files.atomic import atomic_write
from calibrant.files.cards import CardLike, format_card
from calibrant.files.encode import Unit, write_units
from calibrant.files.header import HDU, Contents, inspect
from calibrant.files.reading import Pathish
from calibrant.files.source import FitsSource

SCHEMAS = ("2015",)
_NAMED = re.compile(r"[a-z]+(?=\d{4}$)")  # who published a schema may stand before its year
ADD, MULTIPLY = -1, 0
"""Ranks that are no degree of a polynomial: an offset alone, and a factor alone."""

_KIND = "The kind of image"
_RANKS = (
    "The rank is '-1' for 'Additive' fitting, '0' is for 'Multiplicative' fitting without additive offset. "
    "For all ranks larger than 0 it is equivalent to the degree of the polynomial fit."
)
_ORDER = "The coefficients are listed highest rank first."
_BITPIX = {"i4": 32, "f4": -32, "f8": -64}
_WRAPPED = re.compile(r"np\.float\d+\(([^)]*)\)")
"""How NumPy 2 prints its own numbers in a list: files written with it are read all the same."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """One model of the second dark.

    Attributes
    ----------
    rank : int
        -1 for an offset alone, 0 for a factor alone, else the degree of the polynomial.
    coefficients : tuple of float
        Highest power first, of the darks in their own unit.
    residual : array
        (rows, cols), float64, adu: dark2 - model(dark1).
    std : float
        adu: standard deviation (ddof 0) of the residual about its own mean, not its rms.
    name : str
        Of a model that its rank does not name, such as ``deming``; it becomes the EXTNAME.
    """

    rank: int
    coefficients: tuple[float, ...]
    residual: NDArray[np.float64]
    std: float
    name: str = ""

    @property
    def extname(self) -> str:
        """EXTNAME of its image."""
        return self.name.upper() or f"RANK{self.rank}"


@dataclass(frozen=True, eq=False)
class FitFile:
    """What a fit file holds.

    Attributes
    ----------
    dark1, dark2 : array
        (rows, cols), adu, int32 or floats as they are stored.
    fits : tuple of Fitted
        In the order of the file.
    """

    dark1: NDArray[Any]
    dark2: NDArray[Any]
    fits: tuple[Fitted, ...]

    def __getitem__(self, name: str) -> Fitted:
        """The model with an EXTNAME, such as ``RANK1``.

        Raises
        ------
        KeyError
            If there is none.
        """
        return {fit.extname: fit for fit in self.fits}[name.upper()]


def write_fits(
    path: Pathish,
    dark1: NDArray[Any],
    dark2: NDArray[Any],
    fits: Sequence[Fitted],
    schema: str = "2015",
    overwrite: bool = False,
) -> None:
    """Write the fit file, whole or not at all.

    Parameters
    ----------
    dark1, dark2 : array
        (rows, cols), adu: the dark that was scaled, and the one that was to be matched. Whole numbers of any
        type are stored as int32, others as floats.
    fits : sequence of Fitted
        Written in this order.
    schema : str
        ``2015``, or that year after the name of the instrument: the published layout, card by card.

    Raises
    ------
    OptionError
        For an unknown schema, or two models of one name.
    ShapeError
        If the darks and residuals are not images of one shape.
    OutputExistsError
        If the file exists and `overwrite` is false.
    WriteError
        If it cannot be written; nothing is left behind.
    """
    if _NAMED.sub("", schema) not in SCHEMAS:
        raise OptionError("an unknown schema of fit files", expected=", ".join(SCHEMAS), got=repr(schema))
    _check(np.asarray(dark1), np.asarray(dark2), fits)
    units = [
        _unit(_stored(dark1), [("KIND", "original dark", _KIND), ("NAME", "dark1")], primary=True),
        _unit(_stored(dark2), [("KIND", "original dark", _KIND), ("EXTNAME", "DARK2", "extension name")]),
        *(_unit(np.asarray(fit.residual, np.float64), _cards(fit)) for fit in fits),
    ]
    with atomic_write(path, overwrite) as out:
        write_units(out, units, sums=False)


def _check(dark1: NDArray[Any], dark2: NDArray[Any], fits: Sequence[Fitted]) -> None:
    if dark1.ndim != 2:
        raise ShapeError("a dark is an image of rows and columns", got=dark1.shape, do="choose one plane")
    planes = {"dark2": dark2, **{fit.extname: np.asarray(fit.residual) for fit in fits}}
    for name, plane in planes.items():
        if plane.shape != dark1.shape:
            raise ShapeError("not of the shape of dark1", where=name, expected=dark1.shape, got=plane.shape)
    if len(planes) <= len(fits):
        raise OptionError("two models have one name", got=", ".join(fit.extname for fit in fits))


def _stored(dark: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as int32, as the darks of the published files are."""
    values = np.asarray(dark)
    limits = np.iinfo(np.int32)
    if values.dtype.kind not in "f":
        fits_in = values.dtype.kind == "b" or (values.min() >= limits.min and values.max() <= limits.max)
        return values.astype(np.int32 if fits_in else np.float64)
    whole = bool(np.all(np.isfinite(values)) and np.all(values == np.rint(values)))
    if whole and values.min() >= limits.min and values.max() <= limits.max:
        return values.astype(np.int32)
    return values.astype(np.float32 if values.dtype.itemsize <= 4 else np.float64)


def _cards(fit: Fitted) -> list[CardLike]:
    # float() of each: the text of a list of NumPy's own numbers would name their type.
    return [
        ("KIND", "fitted dark", _KIND),
        ("RANK", int(fit.rank), "The degree of polynom used for the scaling."),
        ("COEFFS", str([float(value) for value in fit.coefficients])),
        ("STDDEV", float(fit.std), "Standard deviation of residual"),
        ("EXTNAME", fit.extname, "extension name"),
        ("COMMENT", _RANKS),
        ("COMMENT", _ORDER),
    ]


def _unit(data: NDArray[Any], cards: Iterable[CardLike], *, primary: bool = False) -> Unit:
    rows, cols = data.shape
    head: list[CardLike] = [
        ("SIMPLE", True, "conforms to FITS standard")
        if primary
        else ("XTENSION", "IMAGE", "Image extension"),
        ("BITPIX", _BITPIX[data.dtype.str[1:]], "array data type"),
        ("NAXIS", 2, "number of array dimensions"),
        ("NAXIS1", cols),
        ("NAXIS2", rows),
    ]
    head += (
        [("EXTEND", True)]
        if primary
        else [("PCOUNT", 0, "number of parameters"), ("GCOUNT", 1, "number of groups")]
    )
    return Unit("".join(format_card(*card) for card in (*head, *cards)), data)


def read_fits(path: Pathish) -> FitFile:
    """Read a fit file, ours or one that was written by others in that layout.

    Raises
    ------
    FileError
        If the file cannot be used, or has no ``DARK2``.
    HeaderError
        If the cards of a model cannot be read.
    """
    contents = inspect(path)
    second = contents.find("DARK2")
    if second is None or not contents.hdus[0].is_image:
        names = ", ".join(f"{unit.index} {unit.name}".strip() for unit in contents.hdus)
        raise FileError("this is no fit file of darks", where=contents.path, expected="DARK2", got=names)
    models = [unit for unit in contents.hdus if unit.is_image and unit.header.get("COEFFS") is not None]
    return FitFile(
        _load(contents, contents.hdus[0]),
        _load(contents, second),
        tuple(_fitted(contents, unit) for unit in models),
    )


def _load(contents: Contents, unit: HDU) -> NDArray[Any]:
    return FitsSource.of(contents, unit).load()


def _fitted(contents: Contents, unit: HDU) -> Fitted:
    rank, std = unit.header.integer("RANK"), unit.header.get("STDDEV")
    name = "" if unit.name == f"RANK{rank}" else unit.name.lower()
    return Fitted(
        rank,
        numbers_of(str(unit.header["COEFFS"]), f"{contents.path}[{unit.name}]"),
        _load(contents, unit),
        float(std) if isinstance(std, (int, float)) else float("nan"),
        name,
    )


def numbers_of(text: str, where: str | None = None) -> tuple[float, ...]:
    """The numbers of a list as Python prints it; nothing is evaluated.

    Raises
    ------
    HeaderError
        If the text is no list of numbers.
    """
    inner = _WRAPPED.sub(r"\1", text).strip()
    try:
        if not (inner.startswith("[") and inner.endswith("]")):
            raise ValueError
        return tuple(float(word) for word in inner[1:-1].replace(",", " ").split())
    except ValueError:
        raise HeaderError("COEFFS is no list of numbers", where=where, got=repr(text)) from None
