"""Dark library: darks of many times and temperatures, made into a dark for any time and temperature."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import common
from calibrant.effects._input import ceiling, check_kinds, check_products
from calibrant.effects._levels import Survey, survey
from calibrant.effects._library_fit import Design, Rules, design_of, fit_pixels, in_order, levels_of
from calibrant.effects._library_law import Law, inverse_kt, law_of, temperature_groups
from calibrant.effects._library_numbers import Energies, energies_of, flags, quantities
from calibrant.effects._library_predict import Prediction, step_of
from calibrant.effects._library_predict import predict as _predict
from calibrant.effects._steps import dark_time, total_error
from calibrant.errors import HeaderError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import Exposure, Frame
from calibrant.product import Kind, Product
from calibrant.stack.pixel import PixelStep, apply_steps

NAME = "dark_library"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("dark", "flat", "gain")
KIND = Kind(
    NAME,
    planes={
        "data": "Rate of dark counts at the reference temperature, adu/s.",
        "variance": "Variance of data, that of the zero level included.",
        "energy": "Activation energy, eV; that of the median pixel where the pixel shows none of its own.",
        "energy_variance": "Its variance, eV2.",
        "covariance": "Of data and energy, adu/s eV.",
        "bias": "Zero level from the fit, adu; only where no bias was given.",
        "bias_propagated": "Variance of the zero level, adu2.",
        "bias_response": "Change of data with the zero level, 1/s.",
        "energy_response": "Change of the energy with the zero level, eV/adu.",
        "chi2": "Reduced chi squared of the lines in time.",
        "law_chi2": "Reduced chi squared of ln rate against 1/kT; NaN for fewer than three temperatures.",
        "count": "Darks that were used.",
        "dq": "Flags.",
    },
    quantities={
        "rate": "Median rate at the reference temperature, adu/s.",
        "activation_energy": "Median over the normal pixels that show one of their own, eV.",
        "activation_energy_width": "Robust width over those pixels beyond their own errors, eV.",
        "doubling_temperature": "Kelvin by which the rate doubles about the reference.",
        "level_energy": "Activation energy of the median levels of whole frames, eV.",
        "reference_temperature": "Temperature of the planes, C.",
        "temperature_min": "Coldest darks, C.",
        "temperature_max": "Warmest darks, C.",
        "temperature_width": "Temperatures that count as one, K.",
        "time_min": "Shortest dark time, s.",
        "time_max": "Longest dark time, s.",
        "level_scatter": "Scatter of the levels of frames about their lines in time, adu.",
        "chi2": "Median of the plane.",
        "hot_fraction": "Pixels more than 10 robust sigmas above the median rate.",
        "unstable_fraction": "Pixels whose darks scatter more than their noise.",
        "median_law_fraction": "Pixels that follow the law of the median pixel.",
    },
)
Level = Literal["common", "keep"]


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    progress: common.Progress | None = None,
    runner: Any = None,
    budget: str | int = "512MB",
    reference: float | None = None,
    width: float = 1.0,
    limit: float = common.NOISE_LIMIT,
    level: Level = "common",
    gain: float | None = None,
    read_noise: float | None = None,
) -> Product:
    """Rate at a reference temperature and activation energy of each pixel, from darks of a grid.

    In each pixel: weighted least squares of ``value = zero + rate_g t`` over all darks, with one rate for
    each temperature and one zero level (the bias, if one is given); then
    ``ln rate_g = ln rate_0 - E (1/kT_g - 1/kT_0)``, weighted by the errors of the rates (Arrhenius law;
    Widenhorn et al. 2002, Proc. SPIE 4669, 193).

    Parameters
    ----------
    exposures : Exposures
        Darks of one detector and setting, adu, of any times and temperatures.
    products : mapping of Product, optional
        ``bias``; ``gain``, ``read_noise`` for the noise model.
    progress, runner, budget
        As of `calibrant.stack.combine.combine`.
    reference : float, optional
        Temperature of the planes, C; the middle of those of the darks if not given.
    width : float
        Kelvin within which temperatures count as one: cooled cameras state theirs in coarse steps.
    limit : float
        Sigmas beyond which a value is left out, the worst first.
    level : {"common", "keep"}
        ``"common"`` shifts each frame of a temperature of three or more onto the line of their median levels
        in time; ``"keep"`` leaves them.
    gain, read_noise : float, optional
        e-/adu and adu, before those of products and instrument.

    Returns
    -------
    Product
        Kind ``dark_library``; planes (rows, cols) as of `KIND`. Without planes of the energy if there is
        but one temperature.

    Raises
    ------
    SelectionError, ShapeError, HistoryError
        If the darks do not belong together, are too few, or had bias or dark removed already.
    HeaderError
        If some of them do not state their time or temperature.
    BudgetError
        If the memory is too small even row by row.
    """
    check_products(products)
    if level not in ("common", "keep"):
        raise OptionError("level is common or keep", where="level", got=repr(level))
    if not (width > 0 and limit > 0):
        raise OptionError("width and limit are positive numbers", got=f"width {width}, limit {limit}")
    given = dict(products or {})
    record = common.Record({"reference": reference, "width": width, "limit": limit, "level": level})
    check_kinds(exposures, "dark") if len(exposures) else None
    series = common.begin(exposures, NAME, forbids=("bias", *FORBIDS), notes=record.notes)
    times = np.array([dark_time(exposure) for exposure in series])
    temperatures = _temperatures(series, record.notes)
    bias = common.bias_for(series, given)
    facts = common.facts(series, given, gain=gain, read_noise=read_noise)
    sources = series.sources()
    less = None if bias is None else bias.data
    levels = levels_of(sources, less, runner)
    read_noise = facts.read_noise
    if read_noise is None:
        read_noise = _read_noise(survey(sources, progress=progress), record.notes)
    if facts.gain is None:
        record.notes.append("the gain is unknown: 1 e-/adu was assumed for the noise of the dark electrons")
    groups = temperature_groups(temperatures, width)
    _check_enough(times, groups, bias is not None)
    centres = np.array([temperatures[members].mean() for members in groups])
    at = _reference(reference, centres)
    x = inverse_kt(centres, at) if len(groups) > 1 else np.zeros(1)
    law = law_of(levels, times, groups, x, known=bias is not None)
    record.notes += _told(law, groups, centres, bias is not None)
    shifts = law.shifts if level == "common" else np.zeros(len(series))
    darks = in_order(times, shifts, groups)
    rules = Rules(
        read_noise=read_noise,
        gain=facts.gain or 1.0,
        known=bias is not None,
        limit=limit,
        saturation=ceiling(sources[0]) if facts.saturation is None else facts.saturation,
        pivot=float(np.median(levels)),
    )
    design = design_of(darks, law, x, rules)
    planes, plan = fit_pixels(
        [sources[index] for index in darks.order],
        design,
        bias=less,
        bias_variance=None if bias is None else total_error(bias),
        runner=runner,
        budget=budget,
        progress=progress,
    )
    record.options["memory"] = f"{plan.bytes / 1e6:.0f} MB planned"
    found, energies = _finish(planes, design, len(series), bias, record)
    numbers = quantities(found, energies, law, centres, at, times, width)
    return Product(
        kind=NAME,
        instrument=series[0].instrument,
        keys=common.product_keys(series, NAME, **({} if bias is not None else {"includes_bias": True})),
        epoch=series.epoch,
        planes=found,
        units=_units(found),
        tables=_tables(series, times, temperatures, levels, law, shifts, groups, centres),
        quantities=tuple(numbers),
        provenance=record.provenance(NAME, series, given),
    )


def _temperatures(series: Exposures, notes: list[str]) -> NDArray[np.float64]:
    """Of every dark, C; NaN for all if none is known, which a note says."""
    known = [exposure.temperature for exposure in series]
    if all(value is None for value in known):
        notes.append("no dark states its temperature: all were taken as of one, unknown temperature")
        return np.full(len(series), np.nan)
    series.require("temperature")
    found = np.array([float(value or 0.0) for value in known])
    if not (np.isfinite(found) & (found > -273.0)).all():
        raise HeaderError("a temperature is no temperature", got=f"{found.min():g} C", expected="degrees C")
    return found


def _read_noise(levels: Survey, notes: list[str]) -> float:
    """Of the quietest pair of successive darks."""
    seen = levels.pair_noise[np.isfinite(levels.pair_noise)]
    if not seen.size:
        raise OptionError(
            "the read noise is unknown, and a single dark does not show it",
            where="read_noise",
            do="give read_noise in adu, or a bias",
        )
    notes.append(f"the read noise was unknown: {seen.min():.3g} adu from successive darks")
    return float(seen.min())


def _check_enough(times: NDArray[np.float64], groups: list[list[int]], known: bool) -> None:
    """That there are at least as many darks as numbers wanted of a pixel."""
    wanted = len(groups) + (not known)
    if not (times > 0).any():
        raise SelectionError("no dark has a dark time above zero", do="add darks of longer times")
    if times.size < wanted:
        raise SelectionError(
            "fewer darks than numbers to be found in each pixel",
            expected=f"at least {wanted}: a rate at each of {len(groups)} temperatures"
            + ("" if known else " and a zero level"),
            got=f"{times.size} dark{'s' if times.size != 1 else ''}",
            do="add darks" if known else "add darks, or give a bias",
        )


def _reference(wanted: float | None, centres: NDArray[np.float64]) -> float:
    if len(centres) == 1:
        return float(centres[0])
    return float((centres.min() + centres.max()) / 2) if wanted is None else float(wanted)


def _told(law: Law, groups: list[list[int]], centres: NDArray[np.float64], known: bool) -> list[str]:
    notes = []
    if len(groups) == 1:
        told = "" if np.isnan(centres[0]) else f" ({centres[0]:.1f} C)"
        notes.append(
            f"all darks are of one temperature{told}: a rate without a temperature law, "
            "for frames of that temperature only"
        )
    if law.assumed:
        notes.append(
            f"the levels show no rate at two temperatures: an energy of {law.energy} eV was assumed where "
            "pixels show none of their own"
        )
    if not known:
        notes.append("no bias was given: the zero level was fitted, and is subtracted with the dark")
    return notes


def _finish(
    planes: dict[str, NDArray[Any]], design: Design, frames: int, bias: Product | None, record: common.Record
) -> tuple[dict[str, NDArray[Any]], Energies]:
    """Flags added, and what is not known taken out; with what the planes say of the energies."""
    dq = flags(planes, design.freedom, frames)
    if bias is not None:
        dq |= bias.planes.get("dq", np.uint32(0))
        if total_error(bias) is None:
            for name in ("bias_propagated", "bias_response", "energy_response"):
                planes.pop(name)
    energies = energies_of(planes, dq)
    median = planes.pop("kind") == 1
    if design.x.size == 1:
        for name in ("energy", "energy_variance", "covariance", "energy_response", "law_chi2"):
            planes.pop(name, None)
    else:
        planes["energy_variance"][median] = energies.uncertainty**2
        if median.any():
            record.notes.append(
                f"{100 * energies.borrowed:.3g} % of the pixels show no positive rate at two temperatures: "
                f"they follow the law of the median pixel, E = {_told_energy(design.law.energy, energies)}"
            )
        if design.x.size == 2:
            planes.pop("law_chi2")
    return {**planes, "dq": dq}, energies


def _told_energy(value: float, energies: Energies) -> str:
    sigma = energies.uncertainty
    places = min(max(1 - math.floor(math.log10(sigma)), 3), 6) if sigma > 0 else 3
    return f"{value:.{places}f}" + (f" +- {sigma:.{places}f} eV" if sigma > 0 else " eV")


def _units(planes: Mapping[str, Any]) -> dict[str, str]:
    units = {
        "data": "adu/s", "variance": "adu2/s2", "energy": "eV", "energy_variance": "eV2",
        "covariance": "adu eV/s", "bias": "adu", "bias_propagated": "adu2", "bias_response": "1/s",
        "energy_response": "eV/adu",
    }  # fmt: skip
    columns = {"frames.time": "s", "frames.temperature": "C", "frames.median": "adu", "frames.shift": "adu"}
    columns |= {"temperatures.temperature": "C", "temperatures.time_max": "s"}
    columns |= {"temperatures.rate": "adu/s", "temperatures.law": "adu/s"}
    return {name: unit for name, unit in units.items() if name in planes} | columns


def _tables(
    series: Exposures,
    times: NDArray[np.float64],
    temperatures: NDArray[np.float64],
    levels: NDArray[np.float64],
    law: Law,
    shifts: NDArray[np.float64],
    groups: list[list[int]],
    centres: NDArray[np.float64],
) -> dict[str, dict[str, NDArray[Any]]]:
    """One line per dark; one line per temperature, with the median rate and what the law says."""
    frames = {
        "name": np.array([common.label(e, i) for i, e in enumerate(series)]),
        "start": np.array([-1 if e.start is None else e.start for e in series], np.int64),
        "time": times,
        "temperature": temperatures,
        "median": levels,
        "shift": shifts,
    }
    by_temperature = {
        "temperature": centres,
        "darks": np.array([len(members) for members in groups], np.int64),
        "time_max": np.array([times[members].max() for members in groups]),
        "rate": law.rates,
        "law": law.fitted,
    }
    return {"frames": frames, "temperatures": by_temperature}


def predict(
    product: Product, exptime: float, temperature: float | None = None, *, after: Collection[Any] = ()
) -> Prediction:
    """The dark of a time and temperature, with its own uncertainty.

    Parameters
    ----------
    product : Product
        Kind ``dark_library``.
    exptime : float
        Dark time, s.
    temperature : float, optional
        C; one within the `width` of a temperature of the library counts as that. The only temperature of
        the library if not given.
    after : collection of Product or identity
        What was subtracted from the frame before: an error of the bias that both share cancels in part.

    Returns
    -------
    Prediction
        data, variance (rows, cols) float32, adu and adu2; the zero level included where the library fitted
        it. `notes` and `outside` say if the library does not reach that far.

    Raises
    ------
    SelectionError
        If the library is of one temperature, and another is asked for, or none is known.
    """
    return _predict(product, exptime, temperature, after=after)


def step(
    exposure: Exposure,
    product: Product,
    *,
    after: Collection[Any] = (),
    temperature: float | None = None,
    read_noise: float | NDArray[Any] | None = None,
    gain: float | None = None,
) -> PixelStep:
    """``data -= dark(t, T)`` of the time and temperature of the frame.

    Parameters
    ----------
    exposure : Exposure
        Of the frame.
    product : Product
        Kind ``dark_library``.
    after : collection of Product or identity
        What was subtracted before.
    temperature : float, optional
        C, in place of what the frame states.
    read_noise, gain : float or array, optional
        adu and e-/adu: where the library holds the zero level, the noise of the frame is added here.

    Raises
    ------
    HistoryError, HeaderError, SelectionError
        If the camera removed the dark, or time or temperature are missing or out of reach.
    """
    return step_of(exposure, product, after=after, temperature=temperature, read_noise=read_noise, gain=gain)


def apply(frame: Frame, product: Product, **options: Any) -> Frame:
    """Subtract the dark that a library predicts for the frame's time and temperature.

    Parameters
    ----------
    frame : Frame
        (rows, cols), adu; with its bias subtracted unless the library holds the zero level.
    product : Product
        Kind ``dark_library``.
    **options
        `temperature`, `read_noise`, `gain` of `step`.

    Returns
    -------
    Frame
        `systematic` holds the uncertainty of the prediction. Beyond the library's times and temperatures the
        history says so, and all pixels are flagged UNRELIABLE_DARK.

    Raises
    ------
    HistoryError, ShapeError, SelectionError, HeaderError
        If the library does not fit the frame.
    """
    whole = bool(product.keys.get("includes_bias"))
    frame.require("dark", forbids=("bias", "flat", "gain") if whole else ("flat", "gain"))
    if not whole:
        common.require_bias(frame, "dark")
    common.check_fits(frame, product)
    return apply_steps(frame, [step(frame.exposure, product, after=common.before(frame), **options)])
