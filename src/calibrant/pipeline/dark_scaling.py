"""Two darks of files scaled to each other: from names of images to the fit file and the product."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibrant.effects import dark_scaling
from calibrant.effects._scaling_models import LINES, rank_of
from calibrant.errors import FileError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.exposures.scan import SUFFIX, Item
from calibrant.files.atomic import refuse_existing
from calibrant.files.cube import plane_source, planes_of
from calibrant.files.fit_file import Fitted, write_fits
from calibrant.files.fits import write
from calibrant.files.hashing import HashCache, file_hash
from calibrant.files.header import Contents, inspect
from calibrant.frame import Exposure, Frame
from calibrant.instrument import Instrument
from calibrant.pipeline.folders import make_folders
from calibrant.product import Product

if TYPE_CHECKING:
    from calibrant.registry import Registry

FIT_FILE = "dark_fitting.fits"
MODELS = "add,mult,poly1..4,deming,robust"
_IMAGE = re.compile(
    r"(?P<path>.+?)(?:\[(?:(?P<hdu>[^\],]*[^\],\d\s][^\],]*)(?:,\s*(?P<of>\d+))?|(?P<plane>\d+))\])?"
)
_SERIES = re.compile(r"([a-z]+)(\d+)\.\.(?:[a-z]+)?(\d+)")


@dataclass(frozen=True)
class Scaled:
    """What was measured and written.

    Attributes
    ----------
    product : Product
        Kind ``dark_scaling``.
    out, file : Path
        The fit file, and that of the product.
    pictures : Path
        The folder for pictures.
    registered : mapping or None
        What was recorded in a registry.
    """

    product: Product
    out: Path
    file: Path
    pictures: Path
    registered: Mapping[str, Any] | None = None


def names_of(text: str) -> list[str]:
    """Models by name, separated by commas; ``poly1..4`` are four of them.

    Raises
    ------
    OptionError
        If one is unknown, or none is named.
    """
    found: list[str] = []
    for word in (part.strip() for part in text.split(",")):
        series = _SERIES.fullmatch(word)
        if series:
            first, last = int(series[2]), int(series[3])
            found += [f"{series[1]}{number}" for number in range(first, last + 1)] or [word]
        elif word:
            found.append(word)
    if not found:
        raise OptionError("no model is named", where="models", expected=MODELS, got=repr(text))
    for name in found:
        rank_of(name)
    return list(dict.fromkeys(found))


def image_of(text: str, instrument: str | Path | Instrument = "auto") -> Exposures:
    """The one image that a name such as ``file.fits[1]`` means.

    Parameters
    ----------
    text : str
        A file; with ``[1]`` plane 1 of its cube of darks, counted from 0 (HDU 1 of a file without cubes);
        with ``[NAME]`` or ``[NAME,1]`` the image, or a plane of the cube, of an HDU. A file with a single
        image needs nothing.
    instrument : str, path or Instrument
        ``auto``: that of the header; files of none are images all the same.

    Returns
    -------
    Exposures
        Of length one.

    Raises
    ------
    FileError
        If the file cannot be read, or has no such image.
    SelectionError
        If it has several, and none is named.
    """
    found = _IMAGE.fullmatch(text) if not Path(text).exists() else None
    path = text if found is None else found["path"]
    hdu, plane = (None, None) if found is None else (found["hdu"], found["of"] or found["plane"])
    contents = inspect(path)
    exposures = Exposures.scan([path], instrument=instrument)
    lights = {name.lower() for name in exposures.instrument.layout.also}
    if hdu is None and exposures.problems and any(unit.name.lower() in lights for unit in contents.hdus):
        raise FileError(exposures.problems[0].sentence, do=f"name it, if a light is meant: {path}[HDU,PLANE]")
    cube = exposures.where(lambda one: "plane" in one.keys)
    if len(cube):
        return _plane(cube, path, hdu, plane)
    if hdu is None and plane is None and len(exposures) == 1 and len(exposures[0].shape) == 2:
        return exposures
    return _from_cube(contents, hdu, plane, exposures.instrument)


def _plane(cube: Exposures, path: str, hdu: str | None, plane: str | None) -> Exposures:
    """One of the exposures of a file: a dark, unless another HDU is named."""
    if hdu is None:
        own = cube.where(lambda one: one.kind == "dark")
        own = own if len(own) else cube
    else:
        own = cube.where(lambda one: str(one.keys["hdu"]).lower() == hdu.lower())
    if plane is not None:
        own = own.where(lambda one: one.keys["plane"] == int(plane))
    if len(own) == 1:
        return own
    have = ", ".join(f"{one.keys['hdu']},{one.keys['plane']}" for one in cube)
    raise SelectionError(
        "the file has no such image" if not len(own) else "the file has several images, and one is wanted",
        where=path, got=have, do=f"name one: {path}[HDU,PLANE]",
    )  # fmt: skip


def _from_cube(contents: Contents, hdu: str | None, plane: str | None, instrument: Instrument) -> Exposures:
    """An image or a plane of a file of no instrument."""
    images = [unit for unit in contents.hdus if unit.is_image]
    unit = contents.image(_spelled(contents, hdu))
    if hdu is None and len(images) > 1:
        if plane is None or any(len(one.shape) > len(("rows", "columns")) for one in images):
            raise FileError(
                "the file has several images, and one is wanted",
                where=contents.path,
                got=", ".join(f"{one.index} {one.name}".strip() for one in images),
                do=f"name one: {contents.path}[NAME] or {contents.path}[NAME,PLANE], or the instrument",
            )
        unit, plane = contents.image(int(plane)), None
    if plane is None and len(unit.shape) > 2 and planes_of(unit) > 1:
        raise SelectionError(
            "the image is a cube, and one plane is wanted",
            where=contents.path, got=" x ".join(map(str, unit.shape)), do=f"name it: {contents.path}[0]",
        )  # fmt: skip
    source = plane_source(contents, unit.index, int(plane or 0))
    exposure = instrument.exposure(contents.header(unit.index), contents.path)
    keys = {**exposure.keys, "hdu": unit.name or unit.index, "plane": int(plane or 0)}
    exposure = replace(exposure, shape=source.shape, keys=keys)
    frame = Frame(source, unit=exposure.unit, exposure=exposure)
    return Exposures([Item(exposure, frame, file_hash(contents.path))], instrument)


def _spelled(contents: Contents, hdu: str | None) -> str | None:
    """The name of an HDU as the file spells it."""
    if hdu is None:
        return None
    names = {unit.name.lower(): unit.name for unit in contents.hdus if unit.name}
    return names.get(hdu.lower(), hdu)


def scale(
    dark_from: Exposures,
    dark_to: Exposures,
    *,
    out: str | Path,
    models: str = MODELS,
    product: str | Path | None = None,
    overwrite: bool = False,
    register: Registry | None = None,
    **options: Any,
) -> Scaled:
    """Fit all models, and write the fit file and the product.

    Parameters
    ----------
    dark_from, dark_to : Exposures
        Of one image each, such as `image_of` gives.
    out : path
        The fit file, if it ends as one; else the folder of the results, with `FIT_FILE` in it.
    models : str
        As of `names_of`.
    product : path, optional
        File of the product; beside the fit file, ``<name>_product.fits`` (in a folder of the
        results ``dark_scaling.fits``), if not given.
    overwrite : bool
        Whether files that are there may be replaced.
    register : Registry, optional
        Where both files and the product (as a draft) are recorded.
    **options
        Of `calibrant.effects.dark_scaling.measure_all`: hot, where, noise, factors ...

    Raises
    ------
    OutputExistsError, WriteError
        If a file is in the way, or cannot be written.
    ShapeError, SelectionError, UnitError, OptionError
        If the darks do not fit each other, or an option makes no sense.
    """
    target, own, pictures = _places(Path(out))
    file = own if product is None else Path(product)
    if file == target:
        raise OptionError("the product needs a file of its own", where=str(file))
    for path in (target, file):
        refuse_existing(path, overwrite)
    found = dark_scaling.measure_all(dark_from, dark_to, ranks=(), models=names_of(models), **options)
    found = _naming_planes(found, dark_from[0], dark_to[0])
    planes = found.planes
    if target != Path(out):
        make_folders(target.parent)
    write_fits(target, planes["dark_from"], planes["dark_to"], fitted(found), overwrite=overwrite)
    write(found, file, overwrite=overwrite)
    done = Scaled(found, target, file, pictures)
    return (
        done
        if register is None
        else replace(done, registered=_registered(done, dark_from, dark_to, register))
    )


def _naming_planes(product: Product, *exposures: Exposure) -> Product:
    """The product, whose provenance says which image of a file was taken: two may share one."""
    inputs = [
        replace(one, name=f"{one.name}[{exposure.keys['hdu']},{exposure.keys['plane']}]")
        if "plane" in exposure.keys
        else one
        for one, exposure in zip(product.provenance.inputs, exposures, strict=True)
    ]
    return replace(product, provenance=replace(product.provenance, inputs=tuple(inputs)))


def _places(out: Path) -> tuple[Path, Path, Path]:
    """The fit file, that of the product, and the folder for pictures: beside a file, or in a folder."""
    if not SUFFIX.search(out.name):
        return out / FIT_FILE, out / f"{dark_scaling.NAME}.fits", out / "plots"
    stem = SUFFIX.sub("", out.name)
    return out, out.with_name(f"{stem}_product.fits"), out.with_name(f"{stem}_plots")


def fitted(product: Product) -> list[Fitted]:
    """The models of a product as a fit file holds them.

    Parameters
    ----------
    product : Product
        Kind ``dark_scaling``.
    """
    models = product.tables["models"]
    return [
        Fitted(
            int(models["rank"][row]),
            _coefficients(product, name),
            np.asarray(product.planes[f"residual_{name}"], np.float64),
            float(models["std"][row]),
            name if name in LINES else "",
        )
        for row, name in enumerate(str(model) for model in models["model"])
    ]


def _coefficients(product: Product, model: str) -> tuple[float, ...]:
    """Highest power first."""
    table = product.tables["coefficients"]
    own = np.asarray(table["model"]).astype(str) == model
    return tuple(float(value) for value in table["value"][own])


def _registered(done: Scaled, dark_from: Exposures, dark_to: Exposures, registry: Registry) -> dict[str, Any]:
    from calibrant.pipeline.register import record_files

    raw = dark_from if dark_from.paths == dark_to.paths else dark_from + dark_to
    return record_files([done.file], raw, registry, HashCache(None), model=dark_from.instrument)


def options_of(
    hot: str | None,
    factors: Sequence[float] | None,
    gain: float | None,
    read_noise: float | None,
    zero: float | None = None,
) -> dict[str, Any]:
    """Options of the fit as a command line has them; `zero` [adu] is the level without dark current.

    Raises
    ------
    OptionError
        If one of gain and read noise is given without the other.
    """
    options: dict[str, Any] = {"hot": hot or None}
    if factors:
        options["factors"] = tuple(factors)
    if (gain is None) != (read_noise is None):
        raise OptionError("a noise model needs both", expected="--gain and --read-noise")
    if gain is not None and read_noise is not None:
        options["noise"] = dark_scaling.NoiseModel(gain, read_noise, zero or 0.0)
    if zero is not None:
        options["bias"] = zero
    return options


def table(product: Product) -> list[dict[str, Any]]:
    """A line for each model: its statistics, and its coefficients, highest power first."""
    models = product.tables["models"]
    return [
        {
            **{column: values[row].item() for column, values in models.items()},
            "coefficients": list(_coefficients(product, str(name))),
        }
        for row, name in enumerate(models["model"])
    ]
