"""Brighter-fatter: collected charge moves the borders of pixels; see docs/effects/brighter_fatter.md.

The kernel is that of Coulton et al. (2018, AJ 155, 258): its Laplacian is minus the a matrix of the flats'
covariances (Astier et al. 2019, A&A 629, A36).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._brighter_fatter_correct import Corrected, Image, Maps, correct, filled, grown
from calibrant.effects._brighter_fatter_kernel import Kernel, Matrix, checks, mirrored, solve
from calibrant.effects._brighter_fatter_lags import Lags, detector_lags
from calibrant.effects._input import check_products
from calibrant.effects._steps import check_kind
from calibrant.effects.common import Record, begin, check_keys
from calibrant.errors import OptionError, SelectionError, ShapeError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Applied, Frame
from calibrant.product import Kind, Product, Provenance, Quantity

NAME = "brighter_fatter"
REACH = "frame"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    NAME,
    planes={
        "data": "Kernel K by lag (rows, cols), lag (0, 0) in the middle, 1/electron.",
        "variance": "Variance of data, 1/electron2.",
    },
    quantities={
        "a00": "Relative change of a pixel's area by an electron in it; the place is an amplifier, or none.",
        "centre": "Kernel at lag (0, 0), its minimum.",
        "sum": "Sum of a over all lags that were measured: what lands beyond them has the other sign.",
        "chi2": "Reduced chi-square of the amplifiers' a about their common mean.",
    },
)
MATCH_AS = "bias"
FORMS = ("flux", "coulton")
READOUT = frozenset({"gain_setting", "offset_setting", "temperature"})  # say nothing of electrons in silicon

Progress = Callable[[int, int, str], None]


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    lags: int | None = None,
    pad: int = 1,
    zero_sum: bool = False,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
) -> Product:
    """The kernel of a detector, from the photon transfer curve of its flats.

    Parameters
    ----------
    exposures : Exposures
        The flats of the photon transfer curve, of one detector; their pixels are not read again.
    products : mapping of Product
        ``gain``, measured from pairs of flats with covariances.
    lags, pad, zero_sum
        As of `from_gain`.

    Returns
    -------
    Product
        As of `from_gain`.

    Raises
    ------
    SelectionError
        No exposures, mixed ones, or no gain with covariances.
    """
    del progress, runner, budget
    check_products(products)
    exposures = begin(exposures, MATCH_AS)
    gain = (products or {}).get("gain")
    if gain is None:
        raise SelectionError(
            "the kernel of brighter-fatter is made of the covariances of flats",
            where="products",
            expected="a gain measured from pairs of flats",
            do="measure the gain first, and give it as products={'gain': ...}",
        )
    made = from_gain(gain, lags=lags, pad=pad, zero_sum=zero_sum)
    inputs = Record(options=dict(made.provenance.options), notes=list(made.provenance.notes))
    return replace(made, provenance=inputs.provenance(NAME, exposures, products or {}))


def from_gain(product: Product, *, lags: int | None = None, pad: int = 1, zero_sum: bool = False) -> Product:
    """The kernel of a detector, from the a matrices of its amplifiers.

    All amplifiers are in one piece of silicon: their matrices are averaged, weighted by their errors.

    Parameters
    ----------
    product : Product
        Of kind gain, with the table ``a_matrix``, or with ``covariances`` that the full model is fitted to.
    lags : int, optional
        Use lags 0 .. lags - 1 of those that were measured; all if not given.
    pad : int
        Pixels that the kernel reaches beyond the lags, 1 or more.
    zero_sum : bool
        Whether a00 is lowered until the sum of a over the lags is zero. By default what the sum lacks lies
        beyond the lags, where light goes in fact.

    Returns
    -------
    Product
        Planes data and variance: the kernel, (2n+1, 2n+1) float64 with n = lags - 1 + pad [1/electron].
        Tables ``a_matrix`` (i, j, a, sigma [1/electron]) and ``shifts`` (i, j, rows, cols [pixel/electron]):
        displacement towards higher rows and columns of the borders of the pixel at lag (i, j) to the next
        ones, by an electron at (0, 0). Quantities a00 of the detector and of each amplifier, centre, sum and
        chi2. What is wrong with the kernel stands in the notes.

    Raises
    ------
    SelectionError
        If the product is no gain, holds no covariances, or no amplifier has any.
    OptionError
        If there are not as many lags, or no pad.
    """
    check_kind(product, "gain", product.unit)
    if pad < 1:
        raise OptionError("the kernel ends in a ring beyond the lags", where="pad", expected=">= 1", got=pad)
    found = detector_lags(product, lags)
    kernel = solve(found.a, found.sigma, pad=pad, zero_sum=zero_sum)
    record = Record(
        options={
            "lags": len(found.a),
            "pad": pad,
            "zero_sum": zero_sum,
            "model": found.model,
            "residual": kernel.residual,
        },
        notes=[*found.notes, *checks(kernel, found.sigma)],
    )
    return Product(
        NAME,
        instrument=product.instrument,
        keys={name: value for name, value in product.keys.items() if name not in READOUT},
        epoch=product.epoch,
        planes={"data": kernel.values, "variance": kernel.variance},
        units={"data": "1/electron", "variance": "1/electron2", **_UNITS},
        tables={"a_matrix": _matrix_table(kernel.a, found.sigma), "shifts": _shift_table(kernel)},
        quantities=_quantities(kernel, found),
        provenance=_provenance(record, product),
    )


_UNITS = {
    "a_matrix.a": "1/electron",
    "a_matrix.sigma": "1/electron",
    "shifts.rows": "pixel/electron",
    "shifts.cols": "pixel/electron",
}


def _matrix_table(a: Matrix, sigma: Matrix) -> dict[str, NDArray[Any]]:
    i, j = np.indices(a.shape)
    return {"i": i.ravel(), "j": j.ravel(), "a": a.ravel(), "sigma": sigma.ravel()}


def _shift_table(kernel: Kernel) -> dict[str, NDArray[Any]]:
    """Steps of the kernel across borders: towards the charge where it is lower."""
    n = kernel.half
    quadrant = np.pad(kernel.values[n:, n:], ((0, 1), (0, 1)))
    i, j = np.indices((n + 1, n + 1))
    rows, cols = -np.diff(quadrant, axis=0)[:, :-1], -np.diff(quadrant, axis=1)[:-1]
    return {"i": i.ravel(), "j": j.ravel(), "rows": rows.ravel(), "cols": cols.ravel()}


def _quantities(kernel: Kernel, found: Lags) -> tuple[Quantity, ...]:
    n, unit = kernel.half, "1/electron"
    lags = np.minimum(np.indices(found.a.shape), 1).sum(axis=0)  # on how many axes a lag has two signs
    spread = math.sqrt(float(np.square(2.0**lags * found.sigma).sum()))
    own = [
        Quantity("a00", value, sigma, unit, name) for name, (value, sigma) in found.amplifiers.items() if name
    ]
    return (
        Quantity("a00", float(kernel.a[0, 0]), float(found.sigma[0, 0]), unit),
        *own,
        Quantity("centre", float(kernel.values[n, n]), math.sqrt(float(kernel.variance[n, n])), unit),
        Quantity("sum", float(mirrored(found.a).sum()), spread, unit),
        Quantity("chi2", found.chi2),
    )


def _provenance(record: Record, product: Product) -> Provenance:
    """That of the gain: its flats, and the gain itself as the parent."""
    old = product.provenance
    return replace(
        old,
        effect=NAME,
        parents=tuple(dict.fromkeys([*old.parents, product.identity])),
        options=record.options,
        notes=tuple(record.notes),
    )


# --- applying ---------------------------------------------------------------------------------------------


def apply(
    frame: Frame,
    product: Product,
    *,
    form: str = "flux",
    tolerance: float = 1e-3,
    max_iterations: int = 10,
    grow: int = 2,
    response: NDArray[Any] | None = None,
    runner: Maps | None = None,
) -> Frame:
    """The frame with its charge moved back to where its light fell.

    Parameters
    ----------
    frame : Frame
        electron, (rows, cols), above the bias.
    product : Product
        Of `measure`.
    form : str
        ``flux``: charge crosses borders of pixels, none is lost. ``coulton``: derivatives at the middles of
        pixels, as published; the total changes a little.
    tolerance : float
        The iteration ends when it changes less than this fraction of the correction.
    max_iterations : int
    grow : int
        Pixels so near to one without a value are flagged CHARGELOSS, as are those at the edge of the frame
        (half of the kernel's half width): their correction rests on charge that is guessed.
    response : (rows, cols), optional
        What the data were divided by, a flat: charge moves borders, and the data times it are charge.
    runner : Runner, optional
        Of threads: bands of rows are mapped over them.

    Returns
    -------
    Frame
        The correction is added to the data; pixels flagged DO_NOT_USE and not saturated, and those that are
        no number, are interpolated for the computation only. `systematic` has the kernel's relative error of
        the correction. Iterations and the last change are in the history; so is a failure to converge.

    Raises
    ------
    UnitError
        If the frame is not in electrons.
    ShapeError
        If it is no image, or smaller than the kernel; or if the response does not fit it.
    SelectionError
        If the product is no kernel, or one of another detector or binning.
    OptionError
        If there is no such form, or a limit is not positive.
    HistoryError
        If it was done already.
    """
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    _check(frame, product, form, tolerance, max_iterations)
    if response is not None and response.shape != frame.shape:
        raise ShapeError("the response does not fit the frame", expected=frame.shape, got=response.shape)
    frame = frame.load()
    data = np.asarray(frame.data, np.float32)
    read = data if response is None else data * np.asarray(response, np.float32)
    dq = np.zeros(data.shape, np.uint32) if frame.dq is None else np.array(frame.dq, np.uint32)
    bad = ~np.isfinite(read) | ((dq & np.uint32(DQ.DO_NOT_USE | DQ.SATURATED)) == np.uint32(DQ.DO_NOT_USE))
    options = {"form": form, "tolerance": tolerance, "max_iterations": max_iterations}
    if bad.all():
        return frame.after(Applied(NAME, product.identity, options, "no good pixel"))
    charge = filled(read, bad)
    kernel = np.asarray(product.data)
    found = correct(charge, kernel, **options, runner=runner)  # type: ignore[arg-type]
    moved = np.subtract(found.light, charge, out=charge)
    if response is not None:
        moved = np.divide(moved, response, out=np.zeros_like(moved), where=~bad, casting="same_kind")
    dq[_guessed(bad, grow, kernel.shape[0] // 4)] |= np.uint32(DQ.CHARGELOSS)
    return frame.after(
        Applied(NAME, product.identity, options, _note(found)),
        data=data + moved,
        dq=dq,
        systematic=_systematic(frame, product, moved),
        systematic_from=frame.systematic_from | {product.identity},
    )


def _check(frame: Frame, product: Product, form: str, tolerance: float, max_iterations: int) -> None:
    check_kind(product, NAME, "1/electron")
    if frame.unit != "electron":
        raise UnitError(
            "the brighter-fatter kernel moves electrons",
            where=frame.name,
            expected="electron",
            got=repr(frame.unit),
            do="apply the gain first, and divide by the time later",
        )
    if form not in FORMS:
        raise OptionError("there is no such form", where="form", expected=" or ".join(FORMS), got=form)
    if not tolerance > 0 or max_iterations < 1:
        raise OptionError(
            "limits of the iteration must be positive", where=NAME, got=(tolerance, max_iterations)
        )
    size = product.data.shape
    if len(frame.shape) != 2 or min(frame.shape) < size[0]:
        raise ShapeError(
            "the kernel is larger than the image"
            if len(frame.shape) == 2
            else "no image of rows and columns",
            where=frame.name,
            expected=f"at least {size[0]} x {size[1]}",
            got=frame.shape,
            do="measure the kernel with fewer lags" if len(frame.shape) == 2 else None,
        )
    if not np.isfinite(product.data).all():
        raise SelectionError("the kernel has values that are no numbers", do="measure it again")
    check_keys(frame, product)


def _guessed(bad: NDArray[np.bool_], grow: int, edge: int) -> NDArray[np.bool_]:
    """Pixels whose correction rests on interpolated charge, or on none beyond the edge."""
    near = grown(bad, grow)
    near[:edge] = near[-edge:] = near[:, :edge] = near[:, -edge:] = True
    return near


def _note(found: Corrected) -> str:
    told = f"{found.iterations} iterations, the last changed {found.change:.1e} of the correction"
    return told if found.converged else f"not converged: {told}"


def _systematic(frame: Frame, product: Product, moved: Image) -> Image:
    """Variance of the correction, electron2: the strength of the kernel is common to all pixels."""
    middle = tuple(size // 2 for size in product.data.shape)
    strength = float(product.planes["variance"][middle]) / float(product.data[middle]) ** 2
    own = np.square(moved) * np.float32(strength)
    return own if frame.systematic is None else np.asarray(frame.systematic, np.float32) + own
