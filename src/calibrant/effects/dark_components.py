"""Dark components: the few ways in which darks differ, fitted to the unlit pixels of a frame of light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import common
from calibrant.effects._components_fit import (
    LIMIT,
    Noise,
    Task,
    bands_of,
    basis_of,
    choose,
    cross_validate,
    guide_of,
    products_of,
)
from calibrant.effects._input import check_kinds, check_products
from calibrant.effects._levels import Survey, survey
from calibrant.effects._steps import TIME_TOLERANCE, check_kind, dark_time, name_of
from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, NO_DATA, Frame
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.pixel import PixelStep, apply_steps
from calibrant.stack.run import default_runner

NAME = "dark_components"
REACH = "frame"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("bias", "dark", "flat", "gain")
REFINED = 2  # times: components first found with large swings cut show which values are hits, and so on
FEWEST = 3  # darks; with fewer none can be left out
KIND = Kind(
    NAME,
    planes={
        "data": "Mean dark, bias included, adu.",
        "variance": "Its variance, adu2.",
        "noise": "Noise of the pixel in one dark, adu.",
        "component_1": "The largest way in which darks differ, adu; component_2 and so on are the next ones.",
        "dq": "Flags.",
    },
    quantities={
        "components": "Number of them.",
        "cross_validated_error": "Squared error of a dark left out, over that of the mean dark alone.",
        "explained": "Share of the variance of darks in the components, per cent.",
    },
)


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    progress: common.Progress | None = None,
    runner: Any = None,
    budget: str | int = "512MB",
    components: int | None = None,
    most: int = 10,
) -> Product:
    """Mean dark and principal components of darks, each pixel weighted by its noise.

    Parameters
    ----------
    exposures : Exposures
        Darks of one detector and setting, adu; dozens, over the temperatures and days that frames will have.
    products : mapping of Product, optional
        ``gain``, ``read_noise`` for the noise model; ``defects``: pixels that take no part.
    progress, runner, budget
        As of `calibrant.stack.combine.combine`.
    components : int, optional
        Their number. By default the fewest that are as good as the best, within one standard error: each dark
        in turn is left out, fitted on one half of its rows and held against the other. What lowers the
        squared error by less than 0.5 % is left out.
    most : int
        Largest number that is tried.

    Returns
    -------
    Product
        Kind ``dark_components``; planes (rows, cols) as of `KIND`; the table ``cross_validation``.

    Raises
    ------
    SelectionError, ShapeError, HistoryError
        If the darks do not belong together, or are fewer than three.
    OptionError
        If more components are asked for than the darks can tell.
    BudgetError
        If the memory is too small.
    """
    check_products(products)
    given = dict(products or {})
    record = common.Record({"components": components, "most": most})
    if len(exposures):
        check_kinds(exposures, "dark")
    series = common.begin(exposures, "dark_library", forbids=FORBIDS, notes=record.notes)
    top = _number(len(series), components, most)
    sources, engine = series.sources(), {"runner": runner, "budget": budget, "progress": progress}
    seen = survey(sources, progress=progress)
    levels, noise = seen.median, _noise(common.facts(series, given), seen, record)
    shifts = levels - levels.mean()
    defects = given.get("defects")
    bad = None if defects is None else defects.planes["dq"] != 0
    task = Task(tuple(sources), shifts, bad, noise)
    sums = products_of(task, top, **engine)
    for _ in range(REFINED):
        task = replace(task, guide=guide_of(sums, top))
        sums = products_of(task, top, **engine)
    errors = cross_validate(sums, top)
    best, sigma = choose(errors)
    error, count = errors.mean(axis=0), best if components is None else components
    basis, share = basis_of(sums, count)
    planes = _planes(replace(task, basis=basis / len(series) ** 0.5), engine)
    times = {dark_time(exposure) for exposure in series}
    keys = common.product_keys(series, "dark_library", includes_bias=True)
    if max(times) - min(times) <= TIME_TOLERANCE * max(times):
        keys["exptime"] = max(times)
    return Product(
        kind=NAME,
        instrument=series[0].instrument,
        keys=keys,
        epoch=series.epoch,
        planes=planes,
        units={name: _unit(name) for name in planes if name != "dq"},
        tables={
            "cross_validation": {
                "components": np.arange(top + 1),
                "error": error,
                "sigma": sigma,
                "share": np.concatenate([[0.0], share[:top]]),
                "chosen": np.arange(top + 1) == count,
            },
            "frames": {
                "name": np.array([common.label(e, i) for i, e in enumerate(series)]),
                "level": levels,
            },
        },
        quantities=(
            Quantity("components", float(count)),
            Quantity("cross_validated_error", float(error[count]), float(sigma[count])),
            Quantity("explained", 100 * float(share[:count].sum()), None, "%"),
        ),
        provenance=record.provenance(NAME, series, given),
    )


def _number(frames: int, wanted: int | None, most: int) -> int:
    if frames < FEWEST:
        raise SelectionError(
            "too few darks to tell in what they differ",
            expected=f"at least {FEWEST}, better dozens",
            got=f"{frames}",
            do="take more darks, or make a plain dark of these",
        )
    limit = frames - 2
    if wanted is not None and not 0 <= wanted <= limit:
        raise OptionError(
            "the darks do not tell that many components",
            where="components",
            expected=f"0 to {limit} of {frames} darks",
            got=wanted,
        )
    return max(min(most, limit), wanted or 0)


def _noise(known: common.Facts, seen: Survey, record: common.Record) -> Noise:
    """The noise model by which pixels are weighted."""
    read_noise, gain = known.read_noise, known.gain
    if read_noise is None:
        read_noise = float(np.nanmin(seen.pair_noise))
        record.notes.append(f"the read noise was unknown: {read_noise:.3g} adu from successive darks")
    if gain is None:
        gain = 1.0
        record.notes.append("the gain is unknown: 1 e-/adu was assumed for the weights of pixels")
    return Noise(max(read_noise, 0.3), gain, float(seen.median.min()))


def _unit(name: str) -> str:
    return "adu2" if name == "variance" else "adu"


def _planes(task: Task, engine: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    assert task.basis is not None
    shape, count = task.sources[0].shape, task.basis.shape[1]
    names = ["data", "noise", *(f"component_{k + 1}" for k in range(count))]
    planes: dict[str, NDArray[Any]] = {name: np.empty(shape, np.float32) for name in names}
    dq = np.zeros(shape, np.uint32)
    hands = default_runner(engine["runner"])
    for rows, (mean, noise, parts, good) in hands.map(
        task, bands_of(task.sources, hands.workers, count, engine["budget"])
    ):
        for name, part in zip(names, (mean, noise, *parts), strict=True):
            planes[name][rows] = part.reshape(-1, shape[1])
        dq[rows][~good.reshape(-1, shape[1])] = np.uint32(DQ.UNRELIABLE_DARK)
        if engine["progress"] is not None:
            engine["progress"](rows.stop, shape[0], "components")
    planes["variance"] = planes["noise"] ** 2 / np.float32(len(task.sources))
    return {**planes, "dq": dq}


@dataclass(frozen=True, eq=False)
class Fit:
    """Components as fitted to the unlit pixels of one frame.

    Attributes
    ----------
    amplitudes, sigmas : ndarray
        Of the level [adu], then of each component; float64 (components + 1,).
    covariance : ndarray
        Of the same, float64.
    chi2 : float
        Reduced, of the pixels kept.
    pixels : int
        Pixels kept.
    """

    amplitudes: NDArray[np.float64]
    sigmas: NDArray[np.float64]
    covariance: NDArray[np.float64]
    chi2: float
    pixels: int


def fit(frame: Frame, product: Product, unlit: NDArray[np.bool_]) -> Fit:
    """Level and amplitudes of the components in the unlit pixels of a frame.

    Parameters
    ----------
    frame : Frame
        (rows, cols), raw adu.
    product : Product
        Kind ``dark_components``.
    unlit : ndarray of bool
        (rows, cols), True: no light reaches the pixel.

    Returns
    -------
    Fit
        By weighted least squares; pixels beyond 5 sigma (hits, light) are left out until nothing changes, and
        the covariance is scaled by a chi squared above 1.

    Raises
    ------
    ShapeError
        If mask and frame differ in size, or fewer good unlit pixels are left than ten per amplitude.
    """
    check_kind(product, NAME, "adu")
    common.check_fits(frame, product)
    frame = frame.load()
    data, flags = np.asarray(frame.data, np.float64), frame.dq
    if unlit.shape != frame.shape:
        raise ShapeError(
            "the mask of unlit pixels does not fit the frame",
            where=frame.name,
            expected=frame.shape,
            got=unlit.shape,
        )
    noise = product.planes["noise"]
    use = unlit & (product.planes["dq"] == 0) & np.isfinite(data) & (noise > 0)
    if flags is not None:
        use &= (np.asarray(flags) & np.uint32(DQ.DO_NOT_USE | DQ.SATURATED)) == 0
    rows = [np.ones(int(use.sum())), *(plane[use].astype(np.float64) for plane in _components(product))]
    weight = 1.0 / np.sqrt(noise[use].astype(np.float64) ** 2 + product.planes["variance"][use])
    a = np.array(rows) * weight
    y = (data[use] - product.data[use]) * weight
    if y.size < 10 * len(rows):
        raise ShapeError(
            "too few unlit pixels for the components",
            where=frame.name,
            expected=f"at least {10 * len(rows)}",
            got=y.size,
            do="name a larger unlit region, or measure fewer components",
        )
    return _robust(a, y)


def _robust(a: NDArray[np.float64], y: NDArray[np.float64]) -> Fit:
    # The median stands for the level at first: light in a few pixels must not draw the fit.
    keep = np.abs(y - np.median(y)) < LIMIT * max(3.0, 1.4826 * float(np.median(np.abs(y - np.median(y)))))
    for _ in range(20):
        square = np.linalg.inv(a[:, keep] @ a[:, keep].T)
        found = square @ (a[:, keep] @ y[keep])
        left = y - found @ a
        width = max(1.0, 1.4826 * float(np.median(np.abs(left[keep]))))
        now = np.abs(left) < LIMIT * width
        if (now == keep).all():
            break
        keep = now
    chi2 = float(left[keep] @ left[keep]) / max(int(keep.sum()) - found.size, 1)
    covariance = np.asarray(square * max(chi2, 1.0), np.float64)
    return Fit(found, np.sqrt(np.diag(covariance)), covariance, chi2, int(keep.sum()))


def _components(product: Product) -> list[NDArray[Any]]:
    count = round(product.quantity("components").value)
    return [product.planes[f"component_{k + 1}"] for k in range(count)]


def step(frame: Frame, product: Product, unlit: NDArray[np.bool_]) -> PixelStep:
    """``data -= mean + level + sum of amplitudes times components``, as fitted to the unlit pixels.

    Raises
    ------
    SelectionError
        If all darks were of one time, and the frame is of another.
    """
    own = product.keys.get("exptime")
    time = dark_time(frame.exposure) if own is not None else None
    if own is not None and time is not None and abs(time - own) > TIME_TOLERANCE * max(own, 1.0):
        raise SelectionError(
            "these darks are all of one time and hold their bias: they serve frames of that time only",
            where=name_of(frame.exposure),
            expected=f"{own:g} s",
            got=f"{time:g} s",
            do="measure components of darks of several times",
        )
    found = fit(frame, product, unlit)
    basis = np.array([np.ones(product.data.shape, np.float32), *_components(product)])
    dark = product.data + np.tensordot(found.amplitudes, basis, 1)
    # Each component is as uncertain in a pixel as the mean is, in units of its amplitude.
    share = 1.0 + float((found.amplitudes[1:] ** 2).sum())
    variance = product.planes["variance"].astype(np.float64) * share
    for row, plane in zip(found.covariance, basis, strict=True):
        variance += plane * np.tensordot(row, basis, 1)
    told = ", ".join(f"{v:.3g} +- {s:.2g}" for v, s in zip(found.amplitudes, found.sigmas, strict=True))
    dq = product.planes["dq"].copy()
    dq[~np.isfinite(dark)] |= np.uint32(NO_DATA)
    return PixelStep(
        effect="dark",
        product=product.identity,
        offset=dark.astype(np.float32),
        offset_variance=np.maximum(variance, 0).astype(np.float32),
        dq=dq,
        options={"includes_bias": True, "pixels": found.pixels},
        note=f"level and components, fitted to {found.pixels} unlit pixels: {told}",
    )


def apply(frame: Frame, product: Product, *, unlit: NDArray[np.bool_]) -> Frame:
    """Subtract the dark that the unlit pixels of a frame show.

    Parameters
    ----------
    frame : Frame
        (rows, cols), raw adu: the darks hold their bias.
    product : Product
        Kind ``dark_components``.
    unlit : ndarray of bool
        (rows, cols), True: no light reaches the pixel.

    Returns
    -------
    Frame
        `systematic` holds the variance of mean, components and fit; the history says the amplitudes.

    Raises
    ------
    HistoryError, ShapeError, SelectionError
        If the frame had bias or dark removed, or does not fit.
    """
    frame.require("dark", forbids=("bias", "flat", "gain"))
    return apply_steps(frame, [step(frame, product, unlit)])
