"""Dark scaling: from one dark to another, and to that behind a light; see docs/effects/dark_scaling.md.

``dark_to = f(dark_from)``, f an offset, a factor, a polynomial, or a line with errors in both darks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._scaling_apply import check, restored, scaled, subtracted
from calibrant.effects._scaling_hot import (
    Cut,
    Sorted,
    apart,
    hot_pixels,
    robust_z,
    sort_pixels,
)
from calibrant.effects._scaling_input import (
    Dark,
    NoiseModel,
    Pair,
    block_labels,
    noise_of,
    pair,
    split,
)
from calibrant.effects._scaling_judge import choose, remarks
from calibrant.effects._scaling_light import Where, calm_window, interpolate, window_mask
from calibrant.effects._scaling_models import Sample, fit_all, name_of_rank, rank_of
from calibrant.effects._scaling_product import Options, Work, product, provenance
from calibrant.errors import OptionError, ShapeError
from calibrant.frame import Applied, Frame
from calibrant.product import Kind, Product

__all__ = [
    "KIND",
    "NAME",
    "REACH",
    "NoiseModel",
    "apply",
    "calm_window",
    "interpolate",
    "measure",
    "measure_all",
    "restored",
]

NAME = "dark_scaling"
REACH = "frame"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("dark", "flat")
KIND = Kind(
    NAME,
    planes={
        "dark_from": "The dark that is scaled, as it was given.",
        "dark_to": "The dark (or light frame) that it is scaled to.",
        "residual_<model>": "dark_to minus the scaled dark, all pixels.",
        "variance_from": "Variance of dark_from, where it is known.",
        "used": "1 where a pixel took part in the fits.",
        "dq": "HOT, WARM, TELEGRAPH by population; no data where one of the darks has none.",
    },
    quantities={
        "std": "Standard deviation of the residuals about their mean.",
        "rms": "Root mean square of the residuals.",
        "sum_ratio": "Sum of the residuals over the sum of dark_to.",
        "fractional": "Mean of residual / dark_to, as published; biased by noise.",
        "cv_error": "Root mean square of the residuals of blocks that were held out.",
        "inliers": "Share of pixels within 5 sigma of the line.",
        "attenuation": "Factor by which noise in dark_from flattens the slope of least squares.",
        "temperature_factor": "Dark current of dark_to over that of dark_from, in equal time.",
    },
)
DEFAULT_LINES = ("deming", "robust")


def measure(
    dark_from: Dark,
    dark_to: Dark | None = None,
    *,
    model: str = "poly1",
    products: Mapping[str, Product] | None = None,
    noise: NoiseModel | None = None,
    hot: float | str | Cut | None = None,
    where: Where = None,
    **options: Any,
) -> Product:
    """Scale one dark to match another with one model.

    Parameters
    ----------
    dark_from, dark_to : Frame, ndarray or Exposures
        One image each, (rows, cols), any number type, of one binning and exposure time; adu. With Exposures
        of two alone, the earlier is scaled to the later. `dark_to` may be a light frame: see `where`.
    model : str
        ``add`` (y = x + a), ``mult`` (y = a x), ``poly1`` ... ``poly30``, ``deming``, ``york``, ``huber``,
        ``robust`` (or ``tukey``), ``affine``.
    products : mapping of Product
        ``bias``: for ``affine``. ``gain`` and ``read_noise``: the noise model, where `noise` is not given.
    noise : NoiseModel, optional
        Gain [e-/adu] and read noise [adu], where neither sigmas nor variances of the frames are known.
    hot : float or str, optional
        Pixels to be left out: a number of adu on the first dark (as published), ``"5sigma"`` from a robust
        line, ``"persistent:2500"`` in both (and all of `darks`), ``"persistent"`` by the width of the core.
    where : mask, (slice, slice), "unlit" or "calm", optional
        Pixels to fit: bool (rows, cols), a window, or those of a light frame `dark_to`: where no light
        falls, or its calmest window (as published).
    **options
        sigma_from, sigma_to : float or ndarray, adu. Standard deviations of the pixels.
        bias : float or Product, adu. Zero level of the darks, for ``affine``; of a product its median.
        ratio : float, 1. var(noise of dark_to) / var(noise of dark_from) where no noise is known.
        darks : sequence of ndarray. Further darks that a persistent hot pixel must be hot in.
        folds : int, 10; blocks : (int, int), (8, 8); seed : int, 0. Of the cross-validation.
        factors : floats. Of further copies of dark_from drawn, beside least squares and ratio of means.
        span : (float, float), adu. Of the histograms of the darks; None: of the data. bins : int, 100.

    Returns
    -------
    Product
        See docs/effects/dark_scaling.md: every statistic with the model as its place, tables for all plots,
        planes dark_from, dark_to, residual_<model> (float64), used, dq.

    Raises
    ------
    ShapeError, SelectionError, UnitError
        Darks of different shape, binning, exposure time or unit; without values; constant; too few pixels.
    OptionError
        No such model, or one whose coefficients the pixels do not tell.
    """
    rank_of(model)
    return _measured(
        split(dark_from, dark_to),
        [model],
        (products or {}, noise),
        (hot, where),
        Options(**options),
        strict=True,
    )


def measure_all(
    dark_from: Dark,
    dark_to: Dark | None = None,
    *,
    ranks: Iterable[int] = range(-1, 10),
    models: Sequence[str] = DEFAULT_LINES,
    products: Mapping[str, Product] | None = None,
    noise: NoiseModel | None = None,
    hot: float | str | Cut | None = None,
    where: Where = None,
    **options: Any,
) -> Product:
    """All models at once, judged on the same pixels, and one of them chosen.

    Parameters
    ----------
    ranks : iterable of int
        -1 add, 0 mult, n polynomial of degree n; the last is included if it is in the range.
    models : sequence of str
        Further models by name; one that cannot be fitted is a note.
    dark_from, dark_to, products, noise, hot, where, **options
        As of `measure`.

    Returns
    -------
    Product
        As of `measure`; the column ``chosen`` of the table ``models`` marks the simplest least-squares model
        within one standard error of the smallest held-out error.

    Raises
    ------
    ShapeError, SelectionError, UnitError, OptionError
        As of `measure`.
    """
    names = list(dict.fromkeys([*(name_of_rank(rank) for rank in ranks), *models]))
    for name in names:
        rank_of(name)
    return _measured(
        split(dark_from, dark_to),
        names,
        (products or {}, noise),
        (hot, where),
        Options(**options),
        strict=False,
    )


def apply(frame: Frame, product: Product, *, model: str | None = None, subtract: bool | None = None) -> Frame:
    """Scale a dark, or subtract the product's scaled dark from a frame.

    Parameters
    ----------
    frame : Frame
        A dark like `dark_from`: it becomes one like `dark_to`. Or a light frame, or a cube of them
        (ints, rows, cols): the product's `dark_from`, scaled, is subtracted from each.
    product : Product
        Kind ``dark_scaling``.
    model : str, optional
        Which of its models; None: the chosen one, or the only one.
    subtract : bool, optional
        None: subtract from all that is no dark and of a known kind.

    Returns
    -------
    Frame
        data float32, in the unit of the frame; errors of the coefficients, and noise of the subtracted dark,
        in `systematic`. The history says ``dark_scaling``, or ``dark`` if it was subtracted.

    Raises
    ------
    HistoryError
        If a dark was subtracted before, or the frame's bias is gone and the dark's is not.
    OptionError, SelectionError, ShapeError, UnitError
        If the product does not fit the frame, or leaves open which model.
    """
    check(frame, product, NAME)
    fitted = restored(product, model)
    whole = bool(product.keys.get("includes_bias"))
    if subtract is None:
        subtract = frame.exposure.kind not in ("dark", "unknown")
    effect = "dark" if subtract else NAME
    frame.require(effect, forbids=("bias", *FORBIDS) if whole and subtract else FORBIDS)
    done = {"model": fitted.name, "includes_bias": whole} if subtract else {"model": fitted.name}
    history = Applied(effect, product.identity, done, f"dark scaled by {fitted.name}")
    return (subtracted if subtract else scaled)(frame.load(), product, fitted, history)


def _measured(
    darks: tuple[Dark, Dark],
    names: Sequence[str],
    known: tuple[Mapping[str, Product], NoiseModel | None],
    chosen: tuple[float | str | Cut | None, Where],
    options: Options,
    *,
    strict: bool,
) -> Product:
    products, noise = known
    cut = Cut.of(chosen[0])
    sigma = options.sigma_from, options.sigma_to
    both = pair(*darks, sigma=sigma, noise=noise or noise_of(products), other_time=names == ["affine"])
    inside = both.good & window_mask(chosen[1], both.x, both.y)
    sample = _sample(both, inside, _bias(products, options), options)
    sorted_pixels, keep = _sort(both, sample, inside, cut, options)
    shared = {"folds": options.folds, "seed": options.seed}
    judged, notes = fit_all(sample.at(keep), names, strict=strict, **shared)
    judged = choose(judged)
    uncut = choose(fit_all(sample, names, strict=False, **shared)[0]) if cut else judged
    notes = [*both.notes, *notes, *remarks(judged), *apart(sorted_pixels), *_cut_notes(cut, keep)]
    used = inside.copy()
    used[inside] = keep
    where = chosen[1] if chosen[1] is None or isinstance(chosen[1], str) else "given"
    told = {"models": list(names), "hot": None if cut is None else cut.name, "where": where, **options.told()}
    work = Work(both, sample, inside, used, keep, sorted_pixels, cut, judged, uncut)
    return product(work, NAME, options, provenance(both, NAME, products, told, notes))


def _sample(both: Pair, inside: NDArray[np.bool_], bias: float | None, options: Options) -> Sample:
    """The pixels inside the window, in blocks of the image."""
    flat = inside.ravel()
    one, other = both.exposures
    return Sample(
        both.x.ravel()[flat],
        both.y.ravel()[flat],
        block_labels(inside, options.blocks),
        None if both.noise is None else both.noise.at(flat),
        options.ratio,
        bias if both.includes_bias else 0.0,
        (other.duration / one.duration) if one.duration and other.duration else 1.0,
        (one.temperature, other.temperature),
    )


def _bias(products: Mapping[str, Product], options: Options) -> float | None:
    """The level without dark current, adu; None where nothing is known."""
    bias = products.get("bias") if options.bias is None else options.bias
    return float(np.nanmedian(bias.data)) if isinstance(bias, Product) else bias


def _sort(
    both: Pair, sample: Sample, inside: NDArray[np.bool_], cut: Cut | None, options: Options
) -> tuple[Sorted, NDArray[np.bool_]]:
    """Populations of the pixels, and which of them are fitted."""
    dn = cut is not None and cut.rule != "sigma" and not math.isnan(cut.threshold)
    found = sort_pixels(sample.x, sample.y, sample.errors, cut.threshold if cut is not None and dn else None)
    if cut is None:
        return found, np.ones(sample.x.size, np.bool_)
    for dark in options.darks:
        if np.shape(dark) != both.shape:
            raise ShapeError("a further dark does not fit", expected=both.shape, got=np.shape(dark))
    others = [np.asarray(dark, np.float64)[inside] for dark in options.darks]
    z = robust_z(sample.x, sample.y, sample.errors, sample.labels) if cut.rule == "sigma" else found.z
    keep = ~hot_pixels(cut, sample.x, sample.y, z, others)
    if not keep.any():
        raise OptionError("the cut of hot pixels leaves none", where="hot", got=cut.name, do="raise it")
    return found, keep


def _cut_notes(cut: Cut | None, keep: NDArray[np.bool_]) -> list[str]:
    if cut is None:
        return []
    lost = int((~keep).sum())
    notes = [f"{lost} of {keep.size} pixels are cut ({cut.name})"]
    if cut.rule == "from":
        notes.append(
            "a cut on the first dark alone leaves pixels that are hot in the second only, and those of the "
            "first below the threshold that fell: the asymmetry of the residuals stays; a cut in sigma looks "
            "at both darks"
        )
    return notes
