"""Illumination correction: how the light of the sky differs from that of the flats, over large scales.

See docs/effects/illumination.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._input import check_products
from calibrant.effects._sky_frames import FLATS, flags, flat_like, frames_table, sky_frames, sky_response
from calibrant.effects._sky_sources import F4, Search, boxes, chosen
from calibrant.effects._sky_surface import Fitted, Form, fit
from calibrant.effects._steps import check_kind
from calibrant.effects.common import Progress, Record, check_fits, product_keys
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.product import Kind, Product, Provenance, Quantity
from calibrant.stack.pixel import PixelStep, apply_steps

NAME = "illumination"
REACH = "pixel"
NEEDS: tuple[str, ...] = ("flat",)  # or a sky flat
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    NAME,
    planes={
        "data": "Sky over flat, smooth, relative to its median.",
        "variance": "Variance of data, of the fit.",
    },
    quantities={
        "range": "Largest less smallest value of the correction, per cent.",
        "scatter": "Scatter of the boxes about the surface, per cent.",
    },
)
MATCH_AS = "flat"
UNSEEN = DQ.DO_NOT_USE | DQ.UNRELIABLE_FLAT


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: str | int = "512MB",
    minimum: int = 3,
    passes: int = 2,
    method: Literal["median", "mean"] = "median",
    **options: Any,
) -> Product:
    """Large-scale response to the sky that is left in flat-fielded science frames.

    Parameters
    ----------
    exposures : Exposures
        Dithered science frames of one detector, setting and filter, adu or electron.
    products : mapping of Product
        ``flat``, and ``bias`` and ``dark``, where the exposures do not come through their steps.
    progress, runner, budget, minimum, passes, method
        As of `calibrant.effects.sky_flat.measure`.
    **options
        model : {"polynomial", "spline"}.
        order : int, 3. Of the polynomial; pieces of a spline along each side.
        surface_box : int. Pixels of the boxes whose medians are fitted; a sixteenth of the shorter side.
        sigma, box, grow: as of `calibrant.effects.sky_flat.measure`.

    Returns
    -------
    Product
        Kind ``illumination``, dimensionless, median 1; tables ``frames``, and ``boxes`` (row, col, value,
        rest).

    Raises
    ------
    SelectionError
        Too few frames, mixed ones, no sky without sources.
    HistoryError
        If frames are not flat-fielded, or their zero level is not taken off.
    OptionError
        If an option has no meaning.
    """
    check_products(products)
    given, (search, form) = dict(products or {}), chosen(options, Search, Form)
    if passes < 1:
        raise OptionError("sources are looked for once at least", where="passes", got=passes)
    record = Record(
        {**asdict(search), **asdict(form), "minimum": minimum, "passes": passes, "method": method}
    )
    series, frames = sky_frames(exposures, NAME, given, record, least=minimum, flat=True)
    how = {"method": method, "progress": progress, "runner": runner, "budget": budget}
    kept, frames, combined = sky_response(frames, NAME, search, passes, record, minimum, **how)
    series = series.take(kept)
    dq = flags(combined, len(frames), record, frames)
    response = np.where(dq & np.uint32(UNSEEN), np.float32(np.nan), combined.data)
    return _product(
        response,
        form,
        instrument=series.instrument.name,
        keys=product_keys(series, MATCH_AS),
        epoch=series.epoch,
        provenance=record.provenance(NAME, series, given),
        frames=frames_table(frames),
    )


def between(sky_flat: Product, flat: Product, **options: Any) -> Product:
    """The correction of a flat from a sky flat of the same detector and filter: their ratio, made smooth.

    Options are model, order and surface_box, as of `measure`.

    Raises
    ------
    SelectionError
        If the products are of other kinds, or of different detectors or filters.
    ShapeError
        If they are of different sizes.
    """
    check_kind(sky_flat, "sky_flat", "")
    check_kind(flat, "flat", "")
    if sky_flat.data.shape != flat.data.shape:
        raise ShapeError(
            "sky flat and flat are of different sizes", expected=flat.data.shape, got=sky_flat.data.shape
        )
    for key in sorted(set(sky_flat.keys) & set(flat.keys)):
        if sky_flat.keys[key] != flat.keys[key] and not isinstance(flat.keys[key], float):
            raise SelectionError(
                f"sky flat and flat are of different {key}", expected=flat.keys[key], got=sky_flat.keys[key]
            )
    ratio = sky_flat.data / flat.data
    for product in (sky_flat, flat):
        if "dq" in product.planes:
            ratio[(product.planes["dq"] & np.uint32(UNSEEN)) != 0] = np.nan
    (form,) = chosen(options, Form)
    return _product(
        ratio,
        form,
        instrument=flat.instrument,
        keys=dict(flat.keys),
        epoch=sky_flat.epoch,
        provenance=Provenance(
            NAME, sky_flat.provenance.inputs, (sky_flat.identity, flat.identity), asdict(form)
        ),
    )


def _product(
    response: F4, form: Form, *, frames: dict[str, NDArray[Any]] | None = None, **facts: Any
) -> Product:
    fitted = fit(response, form)
    middle = np.float32(np.median(fitted.surface))
    data = fitted.surface / middle
    if not float(data.min()) > 0:
        raise SelectionError(
            "the illumination correction runs to zero",
            where=NAME,
            got=float(data.min()),
            do="take a lower order, or more frames",
        )
    scatter = 100 * fitted.scatter / float(middle)
    sigma = 100 * float(np.sqrt(fitted.variance.max())) / float(middle)
    tables = {"boxes": _boxes(response, fitted, form, float(middle))}
    return Product(
        NAME,
        planes={"data": data, "variance": fitted.variance / middle**2},
        units={"data": "", "variance": ""},
        tables=tables if frames is None else {"frames": frames, **tables},
        quantities=(
            Quantity("range", 100 * float(data.max() - data.min()), sigma * 2**0.5, "%"),
            Quantity("scatter", scatter, None, "%"),
        ),
        **facts,
    )


def _boxes(response: F4, fitted: Fitted, form: Form, middle: float) -> dict[str, NDArray[Any]]:
    """What the surface goes through: middle of each box, its value, and value less surface."""
    rows, cols = (0.5 * (e[1:] + e[:-1] - 1) for e in boxes(response.shape, form.size(response.shape)))
    row, col = np.meshgrid(rows, cols, indexing="ij")
    at = np.ix_(rows.astype(int), cols.astype(int))
    return {
        "row": row.ravel(),
        "col": col.ravel(),
        "value": ((fitted.surface[at] + fitted.rest) / middle).ravel(),
        "rest": (fitted.rest / middle).ravel(),
    }


def step(exposure: Exposure, product: Product) -> PixelStep:
    """``data /= illumination``; its error goes to `systematic`.

    Raises
    ------
    SelectionError
        If the product is no illumination correction.
    """
    del exposure
    check_kind(product, NAME, "")
    return flat_like(product)


def apply(frame: Frame, product: Product) -> Frame:
    """The flat-fielded frame divided by the illumination correction.

    Raises
    ------
    HistoryError
        If it was done already, or no flat was divided out.
    SelectionError, ShapeError
        If the product does not belong to the frame.
    """
    frame.require(NAME, forbids=FORBIDS)
    if not any(frame.did(kind) for kind in FLATS):
        raise HistoryError(
            "an illumination correction needs a flat to be applied first",
            where=frame.name,
            do="apply the flat before the illumination",
        )
    check_fits(frame, product)
    return apply_steps(frame, [step(frame.exposure, product)])
