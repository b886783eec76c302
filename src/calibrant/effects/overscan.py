"""Overscan: the level of the amplifier, read beyond the last pixel of each row; trimmed off and subtracted.

``corrected[row, col] = raw[row, col] - level[row] (- level[col])``; see docs/effects/overscan.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._assembly import Assembly
from calibrant.effects._input import check_products
from calibrant.effects._overscan_levels import LevelModel, StripLevels, strip_levels
from calibrant.effects._overscan_source import AmplifierLevels, OverscanSource
from calibrant.effects._trimmed_cards import trimmed_cards
from calibrant.effects.common import Record, begin, label, product_keys, text
from calibrant.errors import ConfigError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import Applied, Exposure, Frame, Plane
from calibrant.instrument import Instrument, load
from calibrant.instrument.sections import bounds
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.pixel import MapRunner
from calibrant.stack.source import ArraySource, Source

__all__ = [
    "FORBIDS", "KIND", "NAME", "NEEDS", "REACH", "LevelModel", "Overscan", "OverscanSource", "StripLevels",
    "apply", "assembly_of", "has_overscan", "measure", "model_of", "step", "strip_levels",
]  # fmt: skip

NAME = "overscan"
REACH = "amplifier"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("bias", "dark", "flat", "gain")
KIND = Kind(
    "overscan",
    quantities={
        "level": "Mean level of an amplifier's overscan; sigma is its scatter from frame to frame.",
        "level_sigma": "Uncertainty of the level under one pixel: it adds to the read noise of each frame.",
        "read_noise": "Standard deviation of the overscan pixels about the level of their line.",
        "rejected": "Fraction of the overscan pixels that were rejected.",
    },
)
MATCH_AS = "bias"  # an overscan is measured for the same settings as a bias

Progress = Callable[[int, int, str], None]
Options = LevelModel | Mapping[str, Any] | bool | None


def model_of(options: Options) -> LevelModel | None:
    """A level model from a recipe's table; None and False mean that the strip is left alone.

    Besides the fields of `LevelModel`, a table may say ``method``: ``median`` or ``mean`` (a level for each
    line), ``constant``, ``polynomial``, ``spline`` or ``cubic``.

    Raises
    ------
    OptionError
        If a name or value has no meaning.
    """
    if isinstance(options, LevelModel) or options is None:
        return options
    if isinstance(options, bool):
        return LevelModel() if options else None
    table = dict(options)
    method = table.pop("method", None)
    if method in ("median", "mean"):
        table = {"fit": "line", "centre": method, **table}
    elif method is not None:
        table = {"fit": method, **table}
    known = [item.name for item in fields(LevelModel)]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise OptionError(f"an overscan has no option {unknown[0]!r}", expected=", ".join(["method", *known]))
    if "skip" in table:
        table["skip"] = _pair(table["skip"])
    return LevelModel(**table)


def _pair(skip: Any) -> tuple[int, int]:
    if isinstance(skip, int):
        return skip, 0
    near, far = skip
    return int(near), int(far)


def assembly_of(exposure: Exposure, instrument: Instrument | None = None) -> Assembly:
    """Sections of the amplifiers of an exposure, by its instrument.

    Raises
    ------
    HeaderError, ShapeError
        If the sections do not fit the image.
    """
    instrument = load(exposure.instrument) if instrument is None else instrument
    shape = exposure.shape[-2:]
    readouts = instrument.readouts(exposure)
    if exposure.saturation is not None:  # the header's word counts more than the file's, as for the gain
        readouts = tuple(replace(readout, saturation=exposure.saturation) for readout in readouts)
    return Assembly.of(readouts, (shape[0], shape[1]))


def has_overscan(exposure: Exposure, instrument: Instrument | None = None) -> bool:
    """Whether the instrument, or the header, names an overscan for this exposure."""
    instrument = load(exposure.instrument) if instrument is None else instrument
    sections = ((r.overscan, r.prescan, r.parallel_overscan) for r in instrument.readouts(exposure))
    return any(section is not None for own in sections for section in own)


def _checked(assembly: Assembly, where: str, serial: LevelModel | None, parallel: LevelModel | None) -> None:
    amplifiers = assembly.amplifiers
    found = (serial is not None and any(a.overscan is not None for a in amplifiers)) or (
        parallel is not None and any(a.parallel is not None for a in amplifiers)
    )
    if not found:
        raise ConfigError(
            "there is no overscan: neither the instrument file nor the header names a section for it",
            where=where,
            do="name it as overscan in the instrument file, or leave the overscan out of the recipe",
        )


@dataclass(frozen=True, eq=False)
class Overscan:
    """The correction as a step of `Exposures.through`: it wraps the source of each exposure.

    Parameters
    ----------
    instrument : Instrument, optional
        Taken from the exposure if not given.
    serial, parallel : LevelModel or None
    product : str, optional
        Identity of the measurement, for the history.
    """

    instrument: Instrument | None = None
    serial: LevelModel | None = None
    parallel: LevelModel | None = None
    product: str | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """Identity of the product, for the provenance of what is made of the corrected pixels."""
        return () if self.product is None else (self.product,)

    def wrap(self, source: Source, exposure: Exposure) -> OverscanSource:
        """The source, corrected, trimmed and assembled when it is read.

        Raises
        ------
        ConfigError
            If the exposure has no overscan.
        """
        assembly = assembly_of(exposure, self.instrument)
        _checked(assembly, source.name, self.serial, self.parallel)
        return OverscanSource(source, assembly, self.serial, self.parallel)

    def apply(self, frame: Frame) -> Frame:
        """A whole frame at once, with its history and header; as `calibrant.effects.overscan.apply`."""
        frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
        assembly = assembly_of(replace(frame.exposure, shape=frame.shape), self.instrument)
        return _applied(frame, assembly, self.serial, self.parallel, self.product)

    def __call__(self, exposure: Exposure) -> Overscan:
        """Itself: the sections are found when the source is wrapped."""
        return self


def step(
    exposure: Exposure,
    product: Product | None = None,
    *,
    instrument: Instrument | None = None,
    parallel: Options = None,
    **options: Any,
) -> Overscan:
    """The correction of one exposure, to be read lazily; options as of `apply`, else those of the product."""
    serial, parallel_model = _models(product, parallel, options)
    return Overscan(instrument, serial, parallel_model, None if product is None else product.identity)


def _models(
    product: Product | None, parallel: Options, options: Mapping[str, Any]
) -> tuple[LevelModel | None, LevelModel | None]:
    """Models as asked for; where nothing is asked, as the product was measured."""
    if product is not None and product.kind != NAME:
        raise SelectionError("not an overscan", expected=f"a product of kind {NAME}", got=product.kind)
    if product is not None and not options and parallel is None:
        measured = product.provenance.options
        return model_of(measured.get("serial")), model_of(measured.get("parallel"))
    return model_of(options), model_of(parallel)


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
    parallel: Options = None,
    **options: Any,
) -> Product:
    """Overscan levels and residual read noise of every amplifier, frame by frame.

    Parameters
    ----------
    exposures : Exposures
        Raw, of one detector and mode; any kind.
    parallel : LevelModel, mapping or bool, optional
        How the parallel overscan is treated; not at all by default.
    **options
        Of the serial overscan: ``method`` (``median`` and ``mean`` per row, ``constant``, ``polynomial``,
        ``spline``, ``cubic``) and the fields of `LevelModel`.
    products, runner, budget
        Accepted as by every `measure`; one frame at a time is read, in bands of a few megabytes.

    Returns
    -------
    Product
        Table ``levels`` (frame, amplifier, level [adu], sigma, read_noise, rejected), table ``amplifiers``
        (sections); quantities level, level_sigma, read_noise [adu] and rejected, with the amplifier as place.

    Raises
    ------
    SelectionError
        No exposures, or mixed ones.
    ConfigError
        If there is no overscan.
    """
    del runner, budget
    check_products(products)
    exposures = begin(exposures, MATCH_AS, forbids=FORBIDS)
    serial, parallel_model = model_of(options), model_of(parallel)
    record = Record(options={"serial": _table(serial), "parallel": _table(parallel_model)})
    rows: list[tuple[str, str, AmplifierLevels]] = []
    first: Assembly | None = None
    for index, source in enumerate(exposures.sources()):
        found = Overscan(exposures.instrument, serial, parallel_model).wrap(source, exposures[index])
        first = found.assembly if first is None else first
        name = label(exposures[index], index)
        rows += [(name, amplifier, levels) for amplifier, levels in found.levels.items()]
        if progress is not None:
            progress(index + 1, len(exposures), "overscan")
    assert first is not None
    return Product(
        NAME,
        instrument="" if exposures.instrument is None else exposures.instrument.name,
        keys=product_keys(exposures, MATCH_AS),
        epoch=exposures.epoch,
        tables={"levels": _levels(rows), "amplifiers": first.table()},
        units={"levels.level": "adu", "levels.sigma": "adu", "levels.read_noise": "adu"},
        quantities=_quantities(rows),
        provenance=record.provenance(NAME, exposures, products or {}),
    )


def _table(model: LevelModel | None) -> dict[str, Any] | None:
    """A model as plain values."""
    if model is None:
        return None
    return {
        item.name: list(value) if isinstance(value := getattr(model, item.name), tuple) else text(value)
        for item in fields(model)
    }


def _noise(levels: AmplifierLevels) -> float:
    strip = levels.serial if levels.serial is not None else levels.parallel
    return math.nan if strip is None else strip.read_noise


def _rejected(levels: AmplifierLevels) -> float:
    strip = levels.serial if levels.serial is not None else levels.parallel
    return math.nan if strip is None else strip.rejected


def _levels(rows: list[tuple[str, str, AmplifierLevels]]) -> dict[str, NDArray[Any]]:
    return {
        "frame": np.array([name for name, _, _ in rows]),
        "amplifier": np.array([amplifier for _, amplifier, _ in rows]),
        "level": np.array([levels.level for _, _, levels in rows]),
        "sigma": np.array([levels.sigma for _, _, levels in rows]),
        "read_noise": np.array([_noise(levels) for _, _, levels in rows]),
        "rejected": np.array([_rejected(levels) for _, _, levels in rows]),
    }


def _quantities(rows: list[tuple[str, str, AmplifierLevels]]) -> tuple[Quantity, ...]:
    quantities = []
    for amplifier in dict.fromkeys(name for _, name, _ in rows):
        own = [levels for _, name, levels in rows if name == amplifier]
        level = np.array([levels.level for levels in own])
        noise = np.array([_noise(levels) for levels in own])
        few = len(own) < 2
        rms = float(np.sqrt(np.mean(noise**2)))
        quantities += [
            Quantity(
                "level", float(level.mean()), None if few else float(level.std(ddof=1)), "adu", amplifier
            ),
            Quantity("level_sigma", float(np.median([x.sigma for x in own])), None, "adu", amplifier),
            Quantity(
                "read_noise",
                rms,
                None if few else float(noise.std(ddof=1)) / math.sqrt(len(own)),
                "adu",
                amplifier,
            ),
            Quantity("rejected", float(np.mean([_rejected(x) for x in own])), None, "", amplifier),
        ]
    return tuple(quantities)


def apply(
    frame: Frame,
    product: Product | None = None,
    *,
    instrument: Instrument | None = None,
    parallel: Options = None,
    lazy: bool = False,
    runner: MapRunner | None = None,
    **options: Any,
) -> Frame:
    """The frame with its overscan levels subtracted, trimmed, and its amplifiers assembled.

    The levels are the frame's own. A product gives the sections and the options it was measured with.

    Parameters
    ----------
    frame : Frame
        Raw, adu, (rows, cols).
    product : Product, optional
        Of `measure`.
    instrument : Instrument, optional
        Where there is no product; found by the exposure's instrument name if not given.
    parallel, **options
        As of `measure`; by default those of the product.
    lazy : bool
        Leave the pixels, with their flags, to who reads them: the data are a Source, and dq is None. Only the
        levels are measured now.
    runner : Runner, optional
        Threads that share the amplifiers when their levels are measured.

    Returns
    -------
    Frame
        float32, adu, of the assembled shape; saturated pixels flagged; other planes assembled too.

    Raises
    ------
    HistoryError
        If the overscan, or a later step, was done already.
    ConfigError
        If there is no overscan.
    ShapeError
        If the frame is not of the size that the sections describe.
    """
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    serial, parallel_model = _models(product, parallel, options)
    if product is not None:
        assembly = Assembly.from_table(product.tables["amplifiers"])
    else:
        assembly = assembly_of(replace(frame.exposure, shape=frame.shape), instrument)
    identity = None if product is None else product.identity
    return _applied(frame, assembly, serial, parallel_model, identity, lazy=lazy, runner=runner)


def _applied(
    frame: Frame,
    assembly: Assembly,
    serial: LevelModel | None,
    parallel: LevelModel | None,
    product: str | None,
    *,
    lazy: bool = False,
    runner: MapRunner | None = None,
) -> Frame:
    _checked(assembly, frame.name, serial, parallel)
    flags = None if frame.dq is None else np.asarray(_loaded(frame.dq), np.uint32)
    raw = ArraySource(_loaded(frame.data), flags, frame.name)  # counts stay the integers that they are
    source = OverscanSource(raw, assembly, serial, parallel, runner)
    data: Plane = source
    dq = None
    if not lazy:
        data, dq = np.empty(assembly.shape, np.float32), np.empty(assembly.shape, np.uint32)
        source.read_into(slice(0, assembly.shape[0]), data, dq)
    planes = {
        name: None if plane is None else assembly.assemble(np.asarray(_loaded(plane), np.float32))
        for name, plane in (("variance", frame.variance), ("systematic", frame.systematic))
    }
    extra = {name: assembly.assemble(_loaded(plane)) for name, plane in frame.extra.items()}
    models = {"serial": _table(serial), "parallel": _table(parallel)}
    done = Applied(NAME, product, models, _note(source.levels))
    header = None if frame.header is None else _trimmed(frame.header, assembly)
    return frame.after(done, data=data, dq=dq, extra=extra, header=header, **planes)


def _loaded(plane: Plane) -> NDArray[Any]:
    return plane if isinstance(plane, np.ndarray) else plane.load()


def _trimmed(cards: str, assembly: Assembly) -> str:
    """Cards of the assembled image, whose first pixel belongs to the amplifier placed there."""
    first = next(amp for amp in assembly.amplifiers if bounds(amp.place, assembly.shape)[::2] == (0, 0))
    top, bottom, left, right = bounds(first.data, assembly.raw)
    # An axis runs backwards where only one of the two sections does.
    turned = [
        (data.step == -1) != (place.step == -1) for data, place in zip(first.data, first.place, strict=True)
    ]
    origin = bottom - 1 if turned[0] else top, right - 1 if turned[1] else left
    return trimmed_cards(cards, origin, (turned[0], turned[1]), (assembly.shape[0], assembly.shape[1]))


def _note(levels: Mapping[str, AmplifierLevels]) -> str:
    parts = [f"{name or 'level'} {found.level:.2f} adu" for name, found in levels.items()]
    return ", ".join(parts)
