"""From an exposure to its pixels: Sources and Frames, prepared by steps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from calibrant.exposures.scan import Item
from calibrant.files.source import FitsSource
from calibrant.frame import Exposure, Frame
from calibrant.instrument import Instrument
from calibrant.stack.pixel import PixelStep, PreparedSource, apply_steps
from calibrant.stack.run import default_runner
from calibrant.stack.source import ArraySource, Source

BAND_PIXELS = 1 << 20
GLANCES = 4  # rows that tell two noisy frames apart


class Wrapping(Protocol):
    """A step that needs more than one pixel at a time: it wraps the source of an exposure in its own."""

    def wrap(self, source: Source, exposure: Exposure) -> Source:
        """The source of the prepared pixels."""
        ...


Step = Callable[[Exposure], PixelStep] | Wrapping


def source_of(item: Item, instrument: Instrument, steps: Sequence[Step] = ()) -> Source:
    """The pixels of an exposure, prepared by the steps when they are read."""
    source = _raw_source(item, instrument)
    pending: list[PixelStep] = []
    unit = item.exposure.unit if item.frame is None else item.frame.unit
    for step in steps:
        if hasattr(step, "wrap"):
            source, unit = _prepared(source, pending, unit)
            source, pending = cast(Wrapping, step).wrap(source, item.exposure), []
        else:
            pending.append(step(item.exposure))
    return _prepared(source, pending, unit)[0]


def _prepared(source: Source, steps: list[PixelStep], unit: str) -> tuple[Source, str]:
    if not steps:
        return source, unit
    prepared = PreparedSource(source, tuple(steps), unit=unit)
    return prepared, prepared.unit_after


def _raw_source(item: Item, instrument: Instrument) -> Source:
    if item.frame is None:
        from calibrant.files.raw import raw_source

        return raw_source(item.exposure, instrument)
    return _memory_source(item.frame)


def _memory_source(frame: Frame) -> Source:
    dq = None if frame.dq is None else np.asarray(_array(frame.dq), np.uint32)
    if isinstance(frame.data, np.ndarray):
        return ArraySource(frame.data, dq, frame.name)
    if isinstance(frame.data, Source) and dq is None:
        return frame.data
    return ArraySource(frame.data.load(), dq, frame.name)


def frame_of(item: Item, instrument: Instrument, steps: Sequence[Step] = ()) -> Frame:
    """The frame of an exposure, prepared by the steps."""
    frame = replace(_raw_frame(item, instrument), exposure=item.exposure)
    pending: list[PixelStep] = []
    for step in steps:
        if hasattr(step, "wrap"):
            frame = _wrapped(apply_steps(frame, pending) if pending else frame, cast(Wrapping, step))
            pending = []
        else:
            pending.append(step(item.exposure))
    return apply_steps(frame, pending) if pending else frame


def _wrapped(frame: Frame, step: Wrapping) -> Frame:
    """A frame through a step that wraps sources.

    One that can `apply` itself to a whole frame does; else its errors, if it had any, are of other pixels.
    """
    whole = getattr(step, "apply", None)
    if whole is not None:
        return cast(Frame, whole(frame))
    source = step.wrap(_memory_source(frame), frame.exposure)
    data = np.empty(source.shape, np.dtype(source.encoding.dtype))
    dq = np.zeros(source.shape, np.uint32)
    source.read_into(slice(0, source.shape[0]), data, dq if source.has_dq else None)
    return replace(frame, data=data, dq=dq, variance=None, systematic=None, extra={})


def _raw_frame(item: Item, instrument: Instrument) -> Frame:
    if item.frame is not None:
        return item.frame
    from calibrant.files.raw import raw_frame

    return raw_frame(item.exposure, instrument)


def parents_of(steps: Sequence[Step], exposures: Sequence[Exposure]) -> tuple[str, ...]:
    """Identities of the products that the steps use for these exposures, each once."""
    found: dict[str, None] = {}
    for step in steps:
        if hasattr(step, "wrap"):
            found.update(dict.fromkeys(getattr(step, "parents", ())))
        else:
            for exposure in exposures:
                product = step(exposure).product
                if product is not None:
                    found[product] = None
    return tuple(found)


def hash_of(item: Item) -> str:
    """``sha256:`` of the file's bytes; of the pixels for a frame that is only in memory."""
    if item.hash is not None:
        return item.hash
    if item.frame is None and item.exposure.path is not None:
        from calibrant.files.hashing import file_hash

        return file_hash(item.exposure.path)
    assert item.frame is not None
    return f"sha256:{hashlib.sha256(_bytes(_array(item.frame.data))).hexdigest()}"


def hashes_of(items: Sequence[Item]) -> list[str]:
    """As `hash_of`, of many at once: hashing lets go of the interpreter lock."""
    if all(item.hash is not None for item in items):
        return [hash_of(item) for item in items]
    return list(default_runner(None).map(hash_of, items))


def copies(items: Sequence[Item], instrument: Instrument) -> list[list[int]]:
    """Indices of exposures whose pixels are the same, in groups of two or more."""
    groups = _alike(
        range(len(items)),
        lambda i: (items[i].exposure.shape, items[i].exposure.start, items[i].exposure.duration),
    )
    for whole in (False, True):
        groups = [
            same
            for group in groups
            for same in _alike(group, lambda i: fingerprint(items[i], instrument, whole=whole))  # noqa: B023
        ]
    return groups


def _alike(indices: Iterable[int], key: Callable[[int], Any]) -> list[list[int]]:
    found: dict[Any, list[int]] = {}
    for index in indices:
        found.setdefault(key(index), []).append(index)
    return [group for group in found.values() if len(group) > 1]


def fingerprint(item: Item, instrument: Instrument, *, whole: bool = True) -> str:
    """A hash of the pixels alone, as they are stored: headers of copies may have been edited.

    Not `whole`: of a few rows, spread evenly.
    """
    source = _one_image(item, instrument)
    rows, cols = source.shape
    digest = hashlib.blake2b(f"{source.shape} {source.encoding}".encode(), digest_size=16)
    step = max(1, BAND_PIXELS // cols) if whole else max(1, rows // GLANCES)
    for first in range(0 if whole else step // 2, rows, step):
        band = slice(first, min(first + step if whole else first + 1, rows))
        values = np.empty((band.stop - first, cols), np.dtype(source.encoding.dtype))
        source.read_into(band, values)
        digest.update(_bytes(values))
    return digest.hexdigest()


def _one_image(item: Item, instrument: Instrument) -> Source:
    """The stored pixels as one image; the planes of a ramp stand one above the other."""
    data = None if item.frame is None else item.frame.data
    if isinstance(data, np.ndarray) and data.ndim > 2:
        return ArraySource(data.reshape(-1, data.shape[-1]))
    source = _raw_source(item, instrument)
    return source.stacked() if isinstance(source, FitsSource) and len(source.shape) > 2 else source


def _array(plane: Any) -> NDArray[Any]:
    return plane if isinstance(plane, np.ndarray) else plane.load()


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).view(np.uint8).reshape(-1).data
