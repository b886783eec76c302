"""Sources on the sky: pixels that hold more than it, above a background that may vary, and their wings."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_filter, zoom

from calibrant.errors import OptionError
from calibrant.stats import mad_std

F4 = NDArray[np.float32]
Mask = NDArray[np.bool_]

SMOOTH = 1.5  # pixels: sigma of what the image is smoothed with before sources are looked for
FILLED = 0.25  # of a box of the background: with fewer good pixels it takes the value of its neighbours
ITERATIONS = 4
CHANGED = 1e-4  # of the pixels: a mask that changes by less is done


@dataclass(frozen=True)
class Search:
    """How sources are found.

    Attributes
    ----------
    sigma : float
        Limit over the noise of the smoothed image.
    box : int
        Of the background, pixels: larger than sources, smaller than what the sky varies over.
    grow : int
        Pixels around a source that belong to it: faint wings.
    """

    sigma: float = 4.0
    box: int = 48
    grow: int = 6

    def __post_init__(self) -> None:
        if not self.sigma > 0 or self.box < 4 or self.grow < 0:
            raise OptionError(
                "sources are searched with a sigma above 0, a box of 4 pixels or more, and grow of 0 or more",
                got=f"sigma {self.sigma:g}, box {self.box}, grow {self.grow}",
            )


def chosen(options: Mapping[str, Any], *kinds: type) -> list[Any]:
    """Options as objects of several dataclasses, each with those that are fields of it.

    Raises
    ------
    OptionError
        For an option that none of them has, with the nearest spelling.
    """
    owners = {field.name: kind for kind in kinds for field in fields(kind)}
    for name in options:
        if name not in owners:
            near = difflib.get_close_matches(name, owners, 1)
            raise OptionError(
                f"there is no option {name!r}",
                expected=", ".join(owners),
                do=f"did you mean {near[0]!r}?" if near else None,
            )
    return [
        kind(**{name: value for name, value in options.items() if owners[name] is kind}) for kind in kinds
    ]


def boxes(shape: tuple[int, ...], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges of boxes of about `size` pixels that cover an image, along rows and along columns."""
    rows, cols = (np.linspace(0, n, max(1, round(n / size)) + 1).round().astype(np.int64) for n in shape)
    return rows, cols


def box_medians(image: F4, size: int, least: float = FILLED) -> F4:
    """Median of each box; NaN where less than a part `least` of its pixels is good. NaN pixels are not."""
    rows, cols = boxes(image.shape, size)
    found = np.full((rows.size - 1, cols.size - 1), np.nan, np.float32)
    for r in range(rows.size - 1):
        band = image[rows[r] : rows[r + 1]]
        for c in range(cols.size - 1):
            box = band[:, cols[c] : cols[c + 1]]
            values = box[np.isfinite(box)]
            if values.size and values.size >= least * box.size:
                found[r, c] = np.median(values)
    return found


def background(image: F4, size: int) -> F4:
    """What varies slowly: medians of boxes, linear between their middles; float32, as the image.

    Boxes without good pixels are like the nearest ones that have some; NaN if there is none.
    """
    coarse = box_medians(image, size)
    missing = np.isnan(coarse)
    if missing.all():
        return np.full(image.shape, np.nan, np.float32)
    if missing.any():
        at = distance_transform_edt(missing, return_distances=False, return_indices=True)
        coarse = coarse[tuple(at)]
    factors = [n / m for n, m in zip(image.shape, coarse.shape, strict=True)]
    surface: F4 = zoom(coarse, factors, order=1, mode="nearest", grid_mode=True)
    return surface


def sources(image: F4, search: Search) -> Mask:
    """Pixels that are no sky: those of sources, grown, and those that are NaN.

    Parameters
    ----------
    image : ndarray
        float32, (rows, cols), in any unit; structure of the detector in it would be taken for sources.
    search : Search
    """
    bad = ~np.isfinite(image)
    mask = bad
    for _ in range(ITERATIONS):
        if mask.all():
            break
        rest = image - background(np.where(mask, np.float32(np.nan), image), search.box)
        rest[~np.isfinite(rest)] = 0
        smooth = gaussian_filter(rest, SMOOTH)
        bright = smooth > search.sigma * float(mad_std(smooth[~mask]))
        bright &= ~bad
        before, mask = mask, grown(bright, search.grow) | bad
        if np.mean(mask != before) < CHANGED:
            break
    return mask


def grown(mask: Mask, distance: int) -> Mask:
    """Pixels of a mask, and those up to a distance from them along rows and columns."""
    if distance == 0 or not mask.any():
        return mask
    wide = maximum_filter(mask.view(np.uint8), size=2 * distance + 1, mode="constant")
    return np.asarray(wide, np.uint8).view(np.bool_)
