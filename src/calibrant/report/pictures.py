"""Pictures: figures and thumbnails as PNG inside the page, small, and together within a budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from calibrant.errors import CalibrantError
from calibrant.frame import Frame
from calibrant.product import Product

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BUDGET = 6_500_000
"""Bytes of all pictures before base64 makes them a third larger: a page stays below 10 MB."""
THUMBNAILS = 0.45
"""Share of the budget that thumbnails may use; figures have the rest."""
COLOURS = 128
WIDEST = 1500
"""Pixels of a figure; larger ones are made smaller."""
AS_CHARTS: Mapping[str, frozenset[str]] = {
    "gain": frozenset({"curve", "variance"}),
    "fringe": frozenset({"spectrum", "depths", "columns"}),
    "linearity": frozenset({"residuals", "correction"}),
    "one_over_f": frozenset({"spectra"}),
    "read_noise_trend": frozenset({"epochs"}),
    "reference_pixels_trend": frozenset({"epochs"}),
    "dark_slope_trend": frozenset({"epochs"}),
}
"""Pictures of a kind that the page has as charts."""


@dataclass(frozen=True)
class Image:
    """A PNG inside the page.

    Attributes
    ----------
    uri : str
        ``data:image/png;base64,...``.
    width, height : int
        Pixels.
    alt : str
        What it shows.
    """

    uri: str
    width: int
    height: int
    alt: str


@dataclass(eq=False)
class Gallery:
    """Makes pictures until the budget is spent; what has no room left is told.

    Attributes
    ----------
    budget : int
        Bytes of all PNG files.
    left_out : list of str
        What is not shown for lack of room.
    failed : list of str
        Sentences: what could not be drawn, and why.
    """

    budget: int = BUDGET
    left_out: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _spent: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def thumbnail(self, product: Product, name: str) -> Image | None:
        """The main plane of a product, or its flags; None if it has neither."""
        from calibrant.report.plots.html import product_picture

        return self._image(f"picture of {name}", lambda: product_picture(product), small=True)

    def frame(self, path: Path, name: str) -> Image | None:
        """A frame in a file as a thumbnail."""
        return self._image(f"picture of {name}", lambda: _frame_picture(path), small=True)

    def figures(self, product: Product, name: str) -> Iterator[Image]:
        """The pictures of a product that are no charts."""
        for word, make in _makers(product).items():
            found = self.figure(make, f"{name}: {word.replace('_', ' ')}")
            if found is not None:
                yield found

    def figure(self, make: Callable[[], Figure], alt: str) -> Image | None:
        """A Matplotlib figure."""
        from calibrant.report.plots.canvas import encode

        return self._image(alt, lambda: encode(make()), small=False)

    def file(self, path: Path, alt: str) -> Image | None:
        """A PNG that was drawn before; None if it is not there."""
        return self._image(alt, path.read_bytes, small=False) if path.is_file() else None

    def _image(self, alt: str, make: Callable[[], bytes | None], small: bool) -> Image | None:
        room = self.budget * (THUMBNAILS if small else 1 - THUMBNAILS) - self._spent[small]
        if room <= 0:
            self.left_out.append(alt)
            return None
        try:
            drawn = make()
            if drawn is None:
                return None
            content, width, height = packed(drawn)
        except (CalibrantError, ValueError, TypeError, ArithmeticError, LookupError, OSError) as error:
            # A product of another version or of odd numbers costs its picture, never the report.
            self.failed.append(f"{alt} could not be drawn: {error}")
            return None
        if len(content) > room:
            self.left_out.append(alt)
            return None
        self._spent[small] += len(content)
        data = base64.b64encode(content).decode("ascii")
        return Image(f"data:image/png;base64,{data}", width, height, alt)


def packed(png: bytes) -> tuple[bytes, int, int]:
    """A PNG with a palette, much smaller, and not wider than `WIDEST`; its width and height."""
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    if picture.width > WIDEST:
        picture = picture.resize(
            (WIDEST, round(picture.height * WIDEST / picture.width)), Pillow.Resampling.LANCZOS
        )
    target = io.BytesIO()
    palette = picture.quantize(COLOURS, dither=Pillow.Dither.NONE)
    palette.save(target, "PNG", optimize=True)
    return target.getvalue(), picture.width, picture.height


def _makers(product: Product) -> dict[str, Callable[[], Figure]]:
    from calibrant.report import plots

    try:
        found = dict(plots.figures(product))
    except (CalibrantError, LookupError, ValueError, TypeError, AttributeError):
        return {}  # tables of another version: its numbers are told, its pictures are not
    if product.kind == "bias" and "read_noise" in product.planes:
        found["read noise of each pixel"] = lambda: plots.noise_map(product)
    hidden = AS_CHARTS.get(product.kind, frozenset())
    # The flags of a map of defects are its thumbnail already.
    hidden |= {"flags"} if product.kind == "defects" else frozenset()
    return {word: make for word, make in found.items() if word not in hidden}


def _frame_picture(path: Path) -> bytes | None:
    from calibrant.files.fits import read
    from calibrant.report.plots.drawing import Picture
    from calibrant.report.plots.html import thumbnail
    from calibrant.report.plots.pixels import shown

    found = read(path)
    return thumbnail(Picture(shown(found))) if isinstance(found, Frame) else None
