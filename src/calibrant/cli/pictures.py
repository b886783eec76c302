"""The pictures of a reduction: masters, the way of the middle frame, histograms, calibrated frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibrant.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from calibrant.frame import Frame
    from calibrant.pipeline.run import Reduction
    from calibrant.product import Product

FOLDER = "plots"
Maker = Callable[[], "Figure"]


def drawable(path: Path, plane: str) -> Frame:
    """A file as something to draw: a frame, or a plane of a master or frame by name.

    The plane ``dq`` is not data: its flags come as those of an empty frame.

    Raises
    ------
    OptionError
        If the file has no such plane.
    """
    import numpy as np

    from calibrant.files.fits import read
    from calibrant.frame import Frame

    found = read(path)
    if plane == "dq":
        dq = found.dq if isinstance(found, Frame) else found.planes.get("dq")
        if dq is not None:
            flags = dq if isinstance(dq, np.ndarray) else dq.load()
            return Frame(np.zeros(flags.shape, np.uint8), dq=flags)
    if isinstance(found, Frame):
        planes: dict[str, Any] = {"data": found.data, **found.extra}
        planes |= {name: getattr(found, name) for name in ("variance", "systematic", "dq")}
        if plane == "data":
            return found
        if planes.get(plane) is not None:
            return Frame(planes[plane], unit=found.unit, exposure=found.exposure)
        known = [name for name, value in planes.items() if value is not None]
    else:
        if plane in found.planes:
            dq = found.planes.get("dq") if plane == "data" else None
            return Frame(found.planes[plane], dq=dq, unit=found.units.get(plane, ""))
        known = list(found.planes)
    raise OptionError(f"there is no plane {plane!r}", where=path, expected=", ".join(known))


def draw(reduction: Reduction, progress: Callable[[int, int, str], None] | None = None) -> list[str]:
    """Draw what is new since the last run; returns the files of all pictures, below the folder of results."""
    from calibrant.report.plots import save

    folder = Path(reduction.summary.out) / FOLDER
    folder.mkdir(exist_ok=True)
    wanted = list(_wanted(reduction))
    for count, (name, sources, make) in enumerate(wanted, 1):
        path = folder / name
        if not is_newer(path, [folder.parent / source for source in sources]):
            save(make(), path, overwrite=True)
        if progress is not None:
            progress(count, len(wanted), "drawing")
    return [f"{FOLDER}/{name}" for name, _, _ in wanted]


def is_newer(picture: Path, sources: list[Path]) -> bool:
    """Whether a picture was drawn after all that it shows was written."""
    try:
        drawn = picture.stat().st_mtime_ns
    except FileNotFoundError:
        return False
    return all(source.stat().st_mtime_ns < drawn for source in sources)


def _wanted(reduction: Reduction) -> Iterator[tuple[str, list[str], Maker]]:
    """Name, files that it shows, and how to make each picture; opens none of the files."""
    from calibrant.report import plots

    shown = {entry["name"]: entry for entry in reduction.summary.masters if entry["kind"] != "defects"}
    product = reduction.workshop.product
    if shown:
        files = [entry["file"] for entry in shown.values()]
        yield "masters.png", files, lambda: plots.masters({name: product(name) for name in shown})
    for name, entry in shown.items():
        yield from _of_master(name, entry, lambda name=name: product(name))  # type: ignore[misc]
    frames = reduction.summary.frames
    if frames:
        files = [entry["file"] for entry in frames]
        yield "sequence.png", files, lambda: _sequence(reduction)
        yield "histogram.png", files, lambda: _histogram(reduction)
    for entry in frames:
        path = Path(reduction.summary.out) / entry["file"]
        yield f"{entry['name']}.png", [entry["file"]], lambda path=path: _frame(path)  # type: ignore[misc]


def _of_master(
    name: str, entry: Mapping[str, Any], product: Callable[[], Product]
) -> Iterator[tuple[str, list[str], Maker]]:
    from calibrant.report import plots

    files = [entry["file"]]
    if entry["kind"] == "bias":
        yield f"{name}_drift.png", files, lambda: plots.drift(product())
        if "read_noise" in entry["planes"]:
            yield f"{name}_noise.png", files, lambda: plots.noise_map(product())
    if entry["kind"] == "dark":
        yield f"{name}_levels.png", files, lambda: plots.dark_line(product())


def _middle(reduction: Reduction) -> Any:
    """The middle science frame of those that were calibrated."""
    done = {entry["source"] for entry in reduction.summary.frames}
    targets = [target for target in reduction.plan.targets if target.exposure.path in done]
    return targets[len(targets) // 2]


def _sequence(reduction: Reduction) -> Figure:
    from calibrant.report import plots

    target = _middle(reduction)
    title = Path(target.exposure.path or "").name
    return plots.sequence(list(reduction.stages(target)), title=title)


def _histogram(reduction: Reduction) -> Figure:
    """The first and last stage: what calibration did to the distribution of the pixels."""
    from calibrant.report import plots

    target = _middle(reduction)
    steps = list(reduction.stages(target))
    named = {name: frame for name, frame in steps if frame.unit == steps[0][1].unit}
    return plots.histogram(named, title=f"{Path(target.exposure.path or '').name}: pixel values")


def _frame(path: Path) -> Figure:
    from calibrant.files.fits import read
    from calibrant.frame import Frame
    from calibrant.report import plots

    frame = read(path)
    assert isinstance(frame, Frame)
    return plots.image(frame.load(), title=path.name)
