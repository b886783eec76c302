"""A dark scaling applied: a dark scaled as the fit says, or the scaled dark subtracted from a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._scaling_fit import Fitted, Scale
from calibrant.errors import OptionError, SelectionError, ShapeError, UnitError
from calibrant.frame import NO_DATA, Applied, Frame
from calibrant.product import Product


def chosen_model(product: Product, model: str | None) -> str:
    """The model named, else the chosen one, else the only one.

    Raises
    ------
    OptionError
        If the product does not hold it, or leaves open which.
    """
    names = [str(name) for name in product.tables["models"]["model"]]
    if model is not None:
        if model not in names:
            raise OptionError(
                f"the dark scaling has no model {model!r}", where="model", expected=", ".join(names)
            )
        return model
    marked = [name for name, yes in zip(names, product.tables["models"]["chosen"], strict=True) if bool(yes)]
    if len(marked or names) != 1:
        raise OptionError(
            "the dark scaling holds several models and none is chosen",
            where="model",
            expected=", ".join(names),
        )
    return (marked or names)[0]


def restored(product: Product, model: str | None = None) -> Fitted:
    """A fitted model of a product, ready to be called on arrays.

    Raises
    ------
    OptionError
        If the product does not hold it.
    """
    name = chosen_model(product, model)
    models, rows = product.tables["models"], product.tables["coefficients"]
    rank = int(models["rank"][models["model"] == name][0])
    own = rows["model"] == name
    coefficients = np.asarray(rows["value"][own], np.float64)
    table = product.tables["scale"]
    at = table["model"] == name
    scale = Scale(float(table["centre"][at][0]), float(table["half"][at][0]))
    if rank >= 1:
        series = np.asarray(rows["scaled_value"][own], np.float64)[::-1]
    elif rank == 0:
        series = coefficients[0] * np.array([scale.centre, scale.half])
    else:
        series = np.array([scale.centre + coefficients[0], scale.half])
    held = product.tables["covariance"]
    size = len(coefficients)
    covariance, blocked = (
        np.asarray(held[column][held["model"] == name], np.float64).reshape(size, size)
        for column in ("value", "block_value")
    )
    return Fitted(name, rank, coefficients, covariance, blocked, series, scale)


def scaled(frame: Frame, product: Product, fitted: Fitted, history: Applied) -> Frame:
    """A dark scaled: f(data); variance by the slope, errors of the coefficients to `systematic`."""
    data = np.asarray(frame.data, np.float64)
    slope = fitted.slope(data)
    variance = None if frame.variance is None else _f4(slope**2 * np.asarray(frame.variance))
    common = fitted.variance(data)
    if frame.systematic is not None:
        common = common + slope**2 * np.asarray(frame.systematic)
    return frame.after(
        history,
        data=_f4(fitted(data)),
        variance=variance,
        systematic=_f4(common),
        systematic_from=frame.systematic_from | {product.identity},
    )


def subtracted(frame: Frame, product: Product, fitted: Fitted, history: Applied) -> Frame:
    """The product's dark, scaled, subtracted from a frame or from every image of a cube.

    The noise of the dark is common to all frames that it is subtracted from: it goes to `systematic`.

    Raises
    ------
    ShapeError
        If the dark does not fit.
    """
    dark = np.asarray(product.planes["dark_from"], np.float64)
    if dark.shape != frame.shape[-2:]:
        raise ShapeError(
            "the dark does not fit the frame", where=frame.name, expected=frame.shape[-2:], got=dark.shape
        )
    model, common = fitted(dark), fitted.variance(dark)
    if "variance_from" in product.planes:
        common = common + fitted.slope(dark) ** 2 * np.asarray(product.planes["variance_from"], np.float64)
    systematic = np.broadcast_to(common, frame.shape)
    if frame.systematic is not None:
        systematic = systematic + np.asarray(frame.systematic)
    dq = np.zeros(dark.shape, np.uint32) if frame.dq is None else np.asarray(frame.dq).copy()
    dq |= product.planes["dq"] & np.uint32(~int(NO_DATA) & 0xFFFFFFFF)
    dq[~np.isfinite(model)] |= np.uint32(NO_DATA)
    return frame.after(
        history,
        data=_f4(np.asarray(frame.data, np.float64) - model),
        systematic=_f4(systematic),
        dq=dq,
        systematic_from=frame.systematic_from | {product.identity},
    )


def check(frame: Frame, product: Product, kind: str) -> None:
    """That the product is a dark scaling, in the unit and binning of the frame.

    Raises
    ------
    SelectionError, UnitError
    """
    if product.kind != kind:
        raise SelectionError("this product scales no dark", where=frame.name, expected=kind, got=product.kind)
    unit = product.units.get("dark_from", "adu")
    if frame.unit != unit:
        raise UnitError("the frame is in another unit", where=frame.name, expected=unit, got=frame.unit)


def _f4(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)
