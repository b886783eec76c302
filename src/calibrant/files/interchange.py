"""Frames to and from `astropy.nddata.CCDData`, the type that other packages pass around."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from calibrant.errors import UnitError
from calibrant.files.cards import format_card
from calibrant.files.units import parse_unit
from calibrant.frame import DQ, Exposure, Frame


def to_ccddata(frame: Frame) -> Any:
    """The frame as a CCDData: independent and systematic variance added, mask = any dq bit set, flags = dq.

    The data keep float32. Cards come along as its meta, and world coordinates as its wcs.

    Returns
    -------
    astropy.nddata.CCDData
    """
    from astropy.nddata import CCDData, VarianceUncertainty

    frame = frame.load()
    parts = [np.asarray(errors) for errors in (frame.variance, frame.systematic) if errors is not None]
    variance = None if not parts else np.sum(parts, axis=0)
    meta = _cards_as_header(frame.header)
    return CCDData(
        frame.data,
        unit=_astropy_unit(frame.unit),
        uncertainty=None if variance is None else VarianceUncertainty(variance, copy=False),
        mask=None if frame.dq is None else np.asarray(frame.dq) != 0,
        flags=frame.dq,
        meta=meta,
        wcs=_wcs(meta),
    )


def from_ccddata(ccd: Any) -> Frame:
    """A frame made of a CCDData, or of any NDData with a unit.

    Standard deviations and inverse variances become variances, the mask ``DO_NOT_USE``; flags that are
    unsigned 32-bit integers are taken as dq.

    Raises
    ------
    UnitError
        If it has no unit, or one that pixels cannot have here.
    """
    if ccd.unit is None:
        raise UnitError("the CCDData has no unit", expected="adu, electron, or either per second")
    unit = parse_unit(ccd.unit.to_string() or "1")
    dq = None
    if ccd.mask is not None:
        mask = np.broadcast_to(np.asarray(ccd.mask, bool), ccd.data.shape)
        dq = np.where(mask, np.uint32(DQ.DO_NOT_USE), np.uint32(0))
    flags = getattr(ccd, "flags", None)
    if isinstance(flags, np.ndarray) and flags.dtype == np.uint32:
        # Our own flags come back as they were; a mask that was widened meanwhile still counts.
        dq = flags if dq is None else np.where((dq != 0) & (flags == 0), dq, flags)
    cards = _header_as_cards(ccd.meta)
    return Frame(
        data=np.asarray(ccd.data, np.float32),
        variance=_variance(ccd),
        dq=dq,
        unit=unit or "",
        exposure=Exposure(shape=ccd.data.shape),
        header=cards,
    )


def _variance(ccd: Any) -> Any:
    uncertainty = ccd.uncertainty
    if uncertainty is None or uncertainty.uncertainty_type == "unknown":
        return None
    from astropy.nddata import VarianceUncertainty

    return np.asarray(uncertainty.represent_as(VarianceUncertainty).array, np.float32)


def _astropy_unit(unit: str) -> Any:
    from astropy import units

    return units.dimensionless_unscaled if unit == "" else units.Unit(unit)


def _cards_as_header(cards: str | None) -> Any:
    from astropy.io import fits

    return fits.Header() if cards is None else fits.Header.fromstring(cards)


def _header_as_cards(meta: Any) -> str | None:
    from astropy.io import fits

    if not meta:
        return None
    header = meta if isinstance(meta, fits.Header) else _header_of_mapping(meta)
    text: str = header.tostring(endcard=False, padding=False)
    return text


def _header_of_mapping(meta: Any) -> Any:
    """Entries of a plain mapping that a header can hold."""
    from astropy.io import fits

    kept = "".join(
        format_card(str(key), value)
        for key, value in meta.items()
        if value is None or isinstance(value, (bool, int, float, complex, str, np.generic))
    )
    return fits.Header.fromstring(kept)


def _wcs(header: Any) -> Any:
    """World coordinates of a header; None if it has none."""
    if "CTYPE1" not in header:
        return None
    from astropy.wcs import WCS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # WCS comments on every date that it would have written otherwise
        return WCS(header)
