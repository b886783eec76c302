"""1/f noise: what is white, what outputs have alone, what they share; and its correction.

See docs/effects/one_over_f.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from calibrant.effects._input import check_products
from calibrant.effects._one_over_f_correct import Correction, corrected
from calibrant.effects._one_over_f_fit import parts
from calibrant.effects._one_over_f_picture import Picture
from calibrant.effects._one_over_f_product import QUANTITIES, Found, clock_of, quantities, tables, units
from calibrant.effects._one_over_f_read import (
    differences,
    good_pixels,
    raw_border,
    sampling_of,
    stream_names,
)
from calibrant.effects._one_over_f_reference import Reference, reference
from calibrant.effects._one_over_f_response import Sampling, responses
from calibrant.effects._one_over_f_spectra import Accumulator, Spectra
from calibrant.effects.common import Record, product_keys
from calibrant.errors import OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.exposures.ramps import Ramp, refuse_mixed, remarks_of
from calibrant.frame import Applied, Frame
from calibrant.instrument.clock import Border, Clock
from calibrant.product import Kind, Product, Provenance
from calibrant.stack.run import parse_budget

NAME = "one_over_f"
REACH = "frame"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("flat",)
MATCH_AS = "dark"
KIND = Kind(
    NAME,
    planes={"picture_frame": "Pattern of the picture-frame noise in boxes, rms 1, as the image lies."},
    quantities=QUANTITIES,
)
FRAMES = 9.0  # planes of float32 of one read that are in memory at a time

Progress = Callable[[int, int, str], None]


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    picture_frame: bool = True,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
) -> Product:
    """The parts of the noise of ramps in the dark, with the coherence of outputs and reference columns.

    Parameters
    ----------
    exposures : Exposures
        Ramps of one detector, size and read pattern, of two groups or more; files and integrations may be
        several. Two groups are in memory at a time, whatever the length of the ramps.
    products : mapping of Product
        Planes ``dq`` of any of them (defects, reference_pixels ...) leave bad pixels out.
    picture_frame : bool
        Whether picture-frame noise is looked for.

    Returns
    -------
    Product
        Quantities of `KIND`: densities are one-sided, of single reads, adu2/Hz; places are outputs in the
        order of columns as they are read (``1`` first), or the array. Tables ``spectra``, ``common``,
        ``coherence``, ``weights``, ``clock``.

    Raises
    ------
    SelectionError
        If the frames are no ramps, are mixed, or have fewer than two differences of groups.
    ConfigError
        If the instrument does not say when its pixels are read.
    OptionError
        If a budget does not hold two groups.
    """
    del runner
    check_products(products)
    ramps = exposures.ramps()
    refuse_mixed(ramps)
    one, instrument = ramps[0].exposure, exposures.instrument
    made = of_ramps(
        ramps,
        instrument.clock(one),
        instrument.reference(one),
        products=(products or {}).values(),
        picture_frame=picture_frame,
        progress=progress,
        budget=parse_budget(budget),
    )
    record = Record({**made.provenance.options}, [*made.provenance.notes, *remarks_of(ramps, flags=False)])
    used = {name: product for name, product in (products or {}).items() if "dq" in product.planes}
    return replace(
        made,
        instrument=instrument.name,
        keys={key: value for key, value in product_keys(exposures, MATCH_AS).items() if key != "shape"},
        epoch=exposures.epoch,
        provenance=record.provenance(NAME, exposures, used),
    )


def of_ramps(
    ramps: Sequence[Ramp],
    clock: Clock,
    border: Border,
    *,
    products: Iterable[Product] = (),
    picture_frame: bool = True,
    progress: Progress | None = None,
    budget: int = 1 << 29,
) -> Product:
    """As `measure`, of ramps of one kind whose clock and border are known.

    Parameters
    ----------
    border : Border
        Reference pixels at the sides of the image.
    budget : int
        Bytes.
    """
    needed = int(FRAMES * 4 * clock.rows * clock.cols)
    if needed > budget:
        raise OptionError(
            "the budget does not hold what two groups need", where="budget",
            expected=f"{needed >> 20} MB or more", got=f"{budget >> 20} MB",
        )  # fmt: skip
    turned, notes = raw_border(clock, border), list[str]()
    flags = [product.planes["dq"] for product in products if "dq" in product.planes]
    gathered = Accumulator(clock, good_pixels(list(ramps), clock, flags), border=turned)
    picture = Picture(gathered.clock) if picture_frame else None
    _gather(ramps, turned, gathered, picture, notes, progress)
    found = _found(gathered.result(), sampling_of(ramps[0].exposure), turned, picture, notes)
    planes = {}
    if found.picture is not None and found.picture.pattern is not None:
        planes["picture_frame"] = np.ascontiguousarray(clock.image(found.picture.pattern).astype(np.float32))
    return Product(
        NAME,
        planes=planes,
        units={"picture_frame": "", **units()} if planes else units(),
        tables=tables(found, clock, turned),
        quantities=quantities(found),
        provenance=Provenance(NAME, options={"picture_frame": picture_frame}, notes=tuple(notes)),
    )


def _gather(
    ramps: Sequence[Ramp],
    border: Border,
    gathered: Accumulator,
    picture: Picture | None,
    notes: list[str],
    progress: Progress | None,
) -> None:
    """Add all differences of all ramps."""
    total = sum(ramp.integrations * (ramp.groups // 2) for ramp in ramps)
    done = 0
    for ramp in ramps:
        notes += ramp.remarks
        lost = 0
        for one in differences(ramp, gathered.array, border):
            done += 1
            if one is None:
                lost += 1
                continue
            gathered.add(one.first, one.second, one.streams, one.flagged)
            if picture is not None:
                picture.add(gathered.laid)
            if progress is not None:
                progress(done, total, "1/f noise")
        if lost:
            notes.append(f"{ramp.name}: {lost} differences of groups without enough good pixels left out")


def _found(
    spectra: Spectra, sampling: Sampling, border: Border, picture: Picture | None, notes: list[str]
) -> Found:
    made = responses(spectra.clock, sampling)
    white = float(sampling.lags[0])
    names = stream_names(border)
    known: Reference | None = None
    if not names:
        notes.append("no reference pixels beside the rows: no coherence with them, and no weights")
    else:
        try:
            known = reference(spectra.tracked, spectra.clock.outputs, white)
        except SelectionError:
            notes.append("too few differences for the coherence with reference pixels")
    seen = None
    if picture is not None:
        seen = picture.result(white)
        if seen is None:
            notes.append("picture-frame noise was not looked for: it needs 4 outputs and 5 differences")
    if spectra.clock.outputs < 3:
        notes.append("what outputs share is told apart from their own noise only with three outputs or more")
    return Found(spectra, made, parts(spectra, made), white, known, names, seen)


def apply(
    frame: Frame,
    product: Product | None = None,
    *,
    clock: Clock | None = None,
    border: Border | None = None,
    rows: str = "parity",
    sides: str = "median",
    background: str = "none",
    smoothing: int = 11,
    by_output: bool = False,
) -> Frame:
    """The frame without the 1/f noise that its reference pixels, or its dark sky, show.

    Parameters
    ----------
    frame : Frame
        One image (rows, cols), or reads (..., rows, cols), adu or adu/s: each is corrected for itself.
    product : Product, optional
        Of `measure`; needed for ``optimal`` and ``fourier``. It holds the clock too.
    clock, border : Clock, Border, optional
        Of the image, where there is no product: ``instrument.clock(exposure)``,
        ``instrument.reference(exposure)``.
    rows : str
        Reference rows: ``parity`` (of each output and parity of columns), ``output`` or ``none``.
    sides : str
        Reference columns: ``median`` (running), ``optimal`` (frequency-dependent weights) or ``none``.
    background : str
        Pixels without sources: ``median`` (of each row), ``fourier`` (interpolated in the order of time by
        the measured spectra) or ``none``. Sources are found, and pixels with flags left out.
    smoothing : int
        Rows of the running median.
    by_output : bool
        Whether ``median`` of the background is of each output for itself.

    Returns
    -------
    Frame
        With a line in its history; float32. The note says what could not be done.

    Raises
    ------
    HistoryError
        If it was done already, or the flat was.
    OptionError
        If an option is unknown, or needs a product.
    """
    frame.require(NAME, forbids=set(FORBIDS) - frame.exposure.applied)
    if product is not None and clock is None:
        clock, turned = clock_of(product.tables["clock"])
    elif clock is None:
        raise OptionError("the clock of the image is not known", where=NAME, do="give a product, or clock=")
    else:
        turned = raw_border(clock, border or Border())
    choice = Correction(rows, sides, background, smoothing, by_output)
    choice.check(product)
    frame = frame.load()
    data, notes = corrected(np.asarray(frame.data), frame.dq, clock, turned, choice, product)
    options = {"rows": rows, "sides": sides, "background": background, "smoothing": smoothing}
    identity = None if product is None else product.identity
    return frame.after(Applied(NAME, identity, options, "; ".join(notes)), data=data)
