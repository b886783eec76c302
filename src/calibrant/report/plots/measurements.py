"""Which pictures a measurement has: by the kind of its product, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from calibrant.instrument import Instrument
from calibrant.product import Product
from calibrant.report.plots import (
    amplifiers,
    bad_pixels,
    borders,
    campaigns,
    charge,
    deviations,
    flat_sources,
    focal,
    fringes,
    library,
    linearity,
    lines,
    one_over_f,
    photon_transfer,
    ramp,
    read_noise,
    reference_pixels,
    scaling,
    scaling_pixels,
    stray,
    structures,
    traces,
)
from calibrant.report.plots.panels import masters
from calibrant.report.plots.sheets import has

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Maker = Callable[[], "Figure"]
Makers = Iterator[tuple[str, Maker]]


def figures(product: Product) -> dict[str, Maker]:
    """The pictures of a product: a word for the file's name, and what makes the figure.

    Parameters
    ----------
    product : Product
        Of any kind; one without pictures of its own, or without numbers to draw, has none.
    """
    makers = KINDS.get(product.kind)
    return {} if makers is None else dict(makers(product))


def together(products: Iterable[Product], instrument: Instrument) -> dict[str, Maker]:
    """The pictures of the detectors of a mosaic side by side: each quantity of amplifiers on the focal plane.

    Parameters
    ----------
    products : iterable of Product
        Of one kind and setting, one of each detector.
    instrument : Instrument
        Without a focal plane, or with products of one detector only, there are none.
    """
    several = list(products)
    if instrument.focal_plane is None or len({str(p.keys.get("detector", "")) for p in several}) < 2:
        return {}
    names = dict.fromkeys(name for product in several for name in amplifiers.drawn_names(product))
    return {f"focal_plane_{name}": partial(focal.focal_plane, several, instrument, name) for name in names}


def _gain(product: Product) -> Makers:
    if has(product, "ptc", "variance"):
        if photon_transfer.several_levels(product):
            yield "curve", partial(photon_transfer.noise_curve, product)
        yield "variance", partial(photon_transfer.variance_curve, product)
    yield from _matrix(product)
    yield from _amplifiers(product)


def _matrix(product: Product) -> Makers:
    if has(product, "a_matrix", "a"):
        yield "matrix", partial(photon_transfer.a_matrix, product)


def _linearity(product: Product) -> Makers:
    if has(product, "linearity", "residual_before"):
        yield "residuals", partial(linearity.linearity_residuals, product)
    if has(product, "curve", "correction"):
        yield "correction", partial(linearity.linearity_curves, product)
    yield from _amplifiers(product)


def _crosstalk(product: Product) -> Makers:
    if has(product, "crosstalk", "coefficient"):
        yield "matrix", partial(charge.crosstalk_matrix, product)
    yield from _amplifiers(product)


def _transfer(product: Product) -> Makers:
    if has(product, "trail", "deferred"):
        yield "trails", partial(charge.transfer_trails, product)
    yield from _amplifiers(product)


def _brighter_fatter(product: Product) -> Makers:
    if _filled(product):
        yield "kernel", partial(charge.kernel_map, product)
    yield from _matrix(product)
    yield from _amplifiers(product)


def _borders(product: Product) -> Makers:
    if "amplifiers" in product.tables and has(product, "interfaces", "step"):
        yield "borders", partial(borders.amplifier_borders, product)
    yield from _amplifiers(product)


def _structures(product: Product) -> Makers:
    if has(product, "structures", "significance"):
        yield "inventory", partial(structures.structure_matrix, product)
    if has(product, "profiles", "level"):
        yield "profiles", partial(structures.structure_profiles, product)


def _deviations(product: Product) -> Makers:
    if _filled(product):
        yield "map", partial(deviations.deviation_map, product)
    if has(product, "frames", "amplitude"):
        yield "amplitudes", partial(deviations.fringe_amplitudes, product)


def _reference_pixels(product: Product) -> Makers:
    for word, table, column, make in (
        ("levels", "outputs", "difference", reference_pixels.reference_levels),
        ("allan", "allan", "deviation", reference_pixels.allan_deviation),
        ("unstable", "regions", "pixels", reference_pixels.unstable_map),
        ("shared", "covariance", "reference", reference_pixels.shared_levels),
    ):
        if has(product, table, column):
            yield word, partial(make, product)


def _bad_pixels(product: Product) -> Makers:
    if len(product.tables["kinds"]["kind"]):
        yield "kinds", partial(bad_pixels.bad_pixel_kinds, product)
    yield from _flags(product)


def _dark_slope(product: Product) -> Makers:
    if _filled(product):
        yield "map", partial(bad_pixels.dark_slope_map, product)
        yield "histogram", partial(bad_pixels.dark_slope_histogram, product)


def _epochs(*names: str) -> Callable[[Product], Makers]:
    """The pictures of a history: these quantities in time."""

    def made(product: Product) -> Makers:
        if set(names) & set(np.asarray(product.tables["trend"]["quantity"]).astype(str)):
            yield "epochs", partial(bad_pixels.epochs, product, names)

    return made


def _flags(product: Product) -> Makers:
    if "dq" in product.planes:
        yield "flags", partial(masters, product)


def _scaling(product: Product) -> Makers:
    for word, table, make in (
        ("histograms", "histograms", scaling.dark_histograms),
        ("profiles", "profiles", scaling.dark_profiles),
        ("residuals", "residual_histograms", scaling.residual_histograms),
        ("fits", "density", scaling_pixels.fits_on_density),
        ("populations", "populations", scaling_pixels.populations),
    ):
        if table in product.tables:
            yield word, partial(make, product)
    models = [str(name) for name in product.tables.get("models", {}).get("model", ())]
    if len(scaling.least_squares(models)) > 1:
        yield "degrees", partial(scaling.degrees, product)
    if "dark_to" in product.planes and models:
        yield "images", partial(scaling_pixels.dark_images, product)
        yield "fitted", partial(scaling_pixels.fitted_images, product)
        yield "scatter", partial(scaling_pixels.scatter, product)
        if product.provenance.options.get("hot"):
            yield "hot", partial(scaling.vectors, product)
            yield "cuts", partial(scaling.cuts, product)


def _library(product: Product) -> Makers:
    if _filled(product):
        yield "maps", partial(library.library_maps, product)
    if has(product, "temperatures", "rate") and len(product.tables["temperatures"]["rate"]) > 1:
        yield "law", partial(library.library_law, product)
    if "energy" in product.planes and bool((product.planes.get("covariance", np.zeros(1)) != 0).any()):
        yield "energies", partial(library.energy_histogram, product)


def _ramp(product: Product) -> Makers:
    if _filled(product):
        yield "slopes", partial(ramp.slope_map, product)
        yield "chi2", partial(ramp.chi2_map, product)
        yield "jumps", partial(ramp.jump_map, product)


def _superbias(product: Product) -> Makers:
    if _filled(product):
        yield "map", partial(ramp.superbias_map, product)


def _dark_ramp(product: Product) -> Makers:
    if _filled(product):
        yield "map", partial(ramp.dark_ramp_map, product)
        yield "reads", partial(ramp.dark_ramp_curves, product)


def _ramp_linearity(product: Product) -> Makers:
    if bool(np.isfinite(product.planes["c2"]).any()):
        yield "map", partial(ramp.linearity_maps, product)


def _read_noise(product: Product) -> Makers:
    if "read_noise" in product.planes:
        yield "map", partial(read_noise.noise_map, product)
    if has(product, "histogram", "pixels"):
        yield "histogram", partial(read_noise.noise_histogram, product)
    if has(product, "boxes", "ratio"):
        yield "boxes", partial(read_noise.noise_boxes, product)


def _one_over_f(product: Product) -> Makers:
    if has(product, "spectra", "power"):
        yield "spectra", partial(one_over_f.noise_spectra, product)
    if has(product, "coherence", "coherence"):
        yield "coherence", partial(one_over_f.coherence, product)
    if "picture_frame" in product.planes:
        yield "picture_frame", partial(one_over_f.picture_frame, product)


def _noise_trend(product: Product) -> Makers:
    yield "epochs", partial(read_noise.noise_trend, product)


def _amplifiers(product: Product) -> Makers:
    """Bars where there are amplifiers to compare; how well they are known on a page of its own."""
    if len(amplifiers.places(product)) > 1:
        for word, checks in (("amplifiers", False), ("checks", True)):
            names = amplifiers.drawn_names(product, checks=checks)
            if names:
                yield word, partial(amplifiers.amplifier_bars, product, names)


def _filled(product: Product) -> bool:
    """Whether the main plane has a number."""
    return "data" in product.planes and bool(np.isfinite(product.data).any())


def _campaigns(product: Product) -> Makers:
    yield "frames", partial(campaigns.campaign_frames, product)
    yield "rows", partial(campaigns.campaign_rows, product)
    yield "changes", partial(campaigns.campaign_changes, product)
    yield "model", partial(campaigns.campaign_model, product)
    yield "table", partial(campaigns.campaign_table, product)
    yield "gaps", partial(campaigns.gap_levels, product)


def _tables(*pictures: tuple[str, str, str, Callable[[Product], Figure]]) -> Callable[[Product], Makers]:
    """Pictures by word, each where a column of a table has a number."""

    def made(product: Product) -> Makers:
        for word, table, column, make in pictures:
            if has(product, table, column):
                yield word, partial(make, product)

    return made


def _stray_light(product: Product) -> Makers:
    if _filled(product):
        yield "map", partial(stray.stray_map, product)
    yield from _tables(("rows", "cuts", "stray", stray.stray_rows))(product)


KINDS: dict[str, Callable[[Product], Makers]] = {
    "amplifier_offsets": _borders,
    "bad_pixels": _bad_pixels,
    "brighter_fatter": _brighter_fatter,
    "campaigns": _campaigns,
    "charge_transfer": _transfer,
    "crosstalk": _crosstalk,
    "dark_library": _library,
    "dark_scaling": _scaling,
    "dark_ramp": _dark_ramp,
    "dark_slope": _dark_slope,
    "dark_slope_trend": _epochs("dark", "noise", "reduced_chi2"),
    "defects": _flags,
    "flat_structure": _structures,
    "flatness": _tables(
        ("rows", "cuts", "value", flat_sources.source_rows),
        ("profiles", "profiles", "value", flat_sources.source_profiles),
        ("slices", "slices", "rms", flat_sources.source_slices),
        ("rows", "cuts", "first", flat_sources.source_rows),
        ("ratio", "slices", "ratio", flat_sources.source_ratio),
    ),
    "etalon_lines": _tables(("lines", "lines", "wavenumber", lines.etalon_lines)),
    "fringe": _tables(
        ("spectrum", "example", "value", fringes.fringe_spectrum),
        ("fit", "example", "model", fringes.fringe_fit),
        ("depths", "fringes", "depth", fringes.fringe_depths),
        ("columns", "columns", "D", fringes.fringe_columns),
    ),
    "fringe_comparison": _tables(
        ("transmissions", "transmissions", "first", fringes.transmissions),
        ("contrast", "models", "ratio", fringes.contrast_ratio),
    ),
    "fringe_frame": _deviations,
    "gain": _gain,
    "illumination": _deviations,
    "linearity": _linearity,
    "one_over_f": _one_over_f,
    "ramp": _ramp,
    "superbias": _superbias,
    "ramp_linearity": _ramp_linearity,
    "read_noise": _read_noise,
    "read_noise_trend": _noise_trend,
    "reference_pixels": _reference_pixels,
    "reference_pixels_trend": _epochs("noise_ratio", "instability", "unstable"),
    "row_parity": _tables(("rows", "parts", "before", stray.parity_rows)),
    "sky_flat": _deviations,
    "spectrum": _tables(
        ("spectrum", "spectrum", "value", traces.spectrum),
        ("lines", "lines", "wavenumber", lines.etalon_lines),
    ),
    "stray_light": _stray_light,
    "trace": _tables(("image", "trace", "col", traces.trace_image)),
}
