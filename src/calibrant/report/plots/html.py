"""How frames and products show themselves in a notebook: a small picture and a table of facts."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calibrant.frame import DQ, Frame
from calibrant.product import Product
from calibrant.report.plots.drawing import Picture, limits_of
from calibrant.report.plots.images import frame_facts
from calibrant.report.plots.look import colour_map, norm
from calibrant.report.plots.panels import DEFECTS_LOOK, product_title, quantity_text, shown_plane
from calibrant.report.plots.pixels import (
    FLAG_CLASSES,
    Shown,
    block_mean,
    block_or,
    flag_classes,
    shown,
    unit_text,
)

SMALL_SIDE = 240
"""Pixels of the longer side of a thumbnail."""
CELL = "padding:1px 10px 1px 0;text-align:left;vertical-align:top"


def frame_html(frame: Frame) -> str:
    """A frame as HTML: thumbnail, facts, numbers of its good pixels, flags and history.

    Parameters
    ----------
    frame : Frame
        Lazy planes are read.
    """
    what = shown(frame)
    rows = [
        ("", " · ".join(frame_facts(frame.exposure))),
        ("shape", " × ".join(map(str, frame.shape))),
        ("unit", unit_text(frame.unit) or "none"),
        *_numbers(what),
        ("planes", ", ".join(_planes(frame))),
        ("flags", _flags(what)),
        ("history", " → ".join(step.effect for step in frame.history)),
    ]
    return _card(frame.name, rows, thumbnail(Picture(what)))


def product_html(product: Product) -> str:
    """A product as HTML: thumbnail of its main plane, keys, quantities, inputs, notes and identity.

    Parameters
    ----------
    product : Product
    """
    rows = [
        ("instrument", product.instrument),
        ("keys", ", ".join(f"{name} = {value}" for name, value in product.keys.items())),
        ("planes", ", ".join(_plane_text(product, name) for name in product.planes)),
        ("tables", ", ".join(product.tables)),
        *(("", quantity_text(quantity)) for quantity in product.quantities),
        ("inputs", str(len(product.provenance.inputs) or "")),
        *(("note", note) for note in product.provenance.notes),
        ("identity", f"{product.identity[:19]}…"),
    ]
    return _card(product_title(product), rows, product_picture(product))


def thumbnail(picture: Picture) -> bytes:
    """The pixels alone as a small PNG, row 0 at the bottom.

    Parameters
    ----------
    picture : Picture
        Its flags are painted over the image.
    """
    what = picture.shown
    factor = -(-max(what.values.shape) // SMALL_SIDE)
    pad = [(0, -size % factor) for size in what.values.shape]
    values = block_mean(np.pad(what.values, pad, mode="edge"), np.pad(what.blank, pad, mode="edge"), factor)
    scale = norm(limits_of(picture), picture.look.stretch)
    colours = colour_map(picture.look.cmap)(scale(np.ma.masked_invalid(values)), bytes=True)
    if picture.flags and what.dq is not None:
        _paint(colours, block_or(what.dq, factor), picture.flags)
    larger = max(1, SMALL_SIDE // 2 // max(colours.shape[:2]))
    colours = colours.repeat(larger, axis=0).repeat(larger, axis=1)
    target = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(colours[::-1, :, :3])).save(target, "PNG", optimize=True)
    return target.getvalue()


def _paint(colours: NDArray[np.uint8], dq: NDArray[np.uint32], bits: int) -> None:
    index, _ = flag_classes(dq, bits)
    for place, kind in enumerate(FLAG_CLASSES):
        colours[index == place, :3] = [int(kind.colour[i : i + 2], 16) for i in (1, 3, 5)]


def product_picture(product: Product) -> bytes | None:
    """The main plane of a product as a small PNG, its flags if it has no other; None without an image.

    Parameters
    ----------
    product : Product
    """
    """The main plane of a product as a small PNG, else its first, or its flags; None if it has none."""
    images = [name for name, plane in product.planes.items() if plane.ndim >= 2 and plane.dtype.kind == "f"]
    if images:
        return thumbnail(Picture(shown_plane(product, "data" if "data" in images else images[0])))
    if "dq" in product.planes:
        return thumbnail(Picture(shown_plane(product, "dq"), DEFECTS_LOOK, flags=0xFFFFFFFF))
    return None


def _numbers(what: Shown) -> list[tuple[str, str]]:
    """Least, median and greatest of the pixels that can be trusted."""
    good = what.good
    if good.size == 0:
        return [("pixels", "no data")]
    numbers = (("min", good.min()), ("median", np.median(good)), ("max", good.max()))
    return [(name, f"{float(value):.6g}".replace("-", "−")) for name, value in numbers]


def _flags(what: Shown) -> str:
    """Names of the bits that are set, with their numbers of pixels."""
    if what.dq is None:
        return ""
    counts = [(bit.name or "", int(np.count_nonzero(what.dq & np.uint32(bit)))) for bit in DQ]
    return ", ".join(f"{name} {n}" for name, n in counts if n) or "none set"


def _planes(frame: Frame) -> list[str]:
    names = [name for name in ("data", "variance", "systematic", "dq") if getattr(frame, name) is not None]
    return names + list(frame.extra)


def _plane_text(product: Product, name: str) -> str:
    unit = unit_text(product.units.get(name))
    size = "×".join(map(str, product.planes[name].shape))
    return f"{name} {size}" + (f" [{unit}]" if unit else "")


def _card(title: str, rows: Sequence[tuple[str, str]], picture: bytes | None) -> str:
    """A title, and a table with the picture to its left; lines without a value are left out."""
    lines = "".join(
        f'<tr><th style="{CELL}">{escape(name)}</th><td style="{CELL}">{escape(text)}</td></tr>'
        for name, text in rows
        if text
    )
    image = ""
    if picture is not None:
        data = base64.b64encode(picture).decode("ascii")
        style = "margin-right:12px;image-rendering:pixelated"
        image = f'<img alt="{escape(title)}" style="{style}" src="data:image/png;base64,{data}">'
    return (
        f'<div><b>{escape(title)}</b><div style="display:flex;align-items:flex-start">'
        f"{image}<table>{lines}</table></div></div>"
    )
