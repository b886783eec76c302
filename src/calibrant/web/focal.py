"""The focal plane: detectors of one exposure, or products of one setting, in their places as one image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calibrant.errors import CalibrantError
from calibrant.frame import DQ, Exposure
from calibrant.instrument import FocalPlane, Instrument, load
from calibrant.instrument.readout import Readout
from calibrant.instrument.sections import bounds
from calibrant.web import painted
from calibrant.web.images import Piece, Viewable
from calibrant.web.painted import Amplifier
from calibrant.web.patchwork import Assembled, Patch, Patchwork, Uniform, Window
from calibrant.web.planes import Plane
from calibrant.web.shelf import Shelf

BETWEEN = int(DQ.DO_NOT_USE | DQ.NON_SCIENCE)
"""Flags of the gaps."""
UNTOLD = ("detector", "identifier")
"""Keys of a product that are no part of its setting here."""


@dataclass(frozen=True)
class Member:
    """A detector of a focal plane, and the image that shows it."""

    detector: str
    image: str
    view: Viewable


@dataclass(frozen=True)
class Group:
    """Images of different detectors that belong together."""

    key: tuple[Any, ...]
    title: str
    instrument: Instrument
    members: tuple[Member, ...]

    @property
    def id(self) -> str:
        """An opaque name, the same whenever the same images are there."""
        text = repr((self.key, [(member.image, member.view.version) for member in self.members]))
        return hashlib.blake2b(text.encode(), digest_size=9).hexdigest()


def groups(images: Iterable[tuple[str, Viewable]]) -> list[Group]:
    """What can stand in a focal plane: two detectors or more of one exposure, or products of one setting.

    Parameters
    ----------
    images : iterable of (str, Viewable)
        Opaque names, and what they show.
    """
    found: dict[tuple[Any, ...], dict[str, Member]] = {}
    titles: dict[tuple[Any, ...], str] = {}
    for image, view in images:
        facts = _facts(view)
        if facts is None:
            continue
        name, detector, key, title = facts
        plane = _focal_plane(name)
        if plane is not None and detector in plane.names:
            titles.setdefault(key, title)
            found.setdefault(key, {}).setdefault(detector, Member(detector, image, view))
    return [
        Group(key, f"{titles[key]}: {len(members)} detectors", load(key[0]), tuple(members.values()))
        for key, members in found.items()
        if len(members) > 1
    ]


def _focal_plane(name: str) -> FocalPlane | None:
    try:
        return load(name).focal_plane
    except CalibrantError:
        return None


def _facts(view: Viewable) -> tuple[str, str, tuple[Any, ...], str] | None:
    """Instrument, detector, what its neighbours share with it, and how that is called."""
    made = view.provenance
    if "identity" in made:
        keys = {name: value for name, value in made["keys"].items() if value is not None}
        setting = tuple(sorted((name, str(value)) for name, value in keys.items() if name not in UNTOLD))
        told = " ".join(value for name, value in setting if name != "binning" and not _is_number(value))
        name, detector = str(made["instrument"]), str(keys.get("detector", ""))
        epoch = _night(view)
        coarse = tuple((name, value) for name, value in setting if not _is_number(value))
        return (
            name,
            detector,
            (name, view.kind, coarse, epoch),
            " ".join(filter(None, (view.kind, told, epoch))),
        )
    exposure = view.exposure
    if exposure is None or not exposure.instrument or not exposure.detector:
        return None
    when = exposure.identifier or (exposure.time or "")
    if not when:
        return None
    key = (exposure.instrument, exposure.kind, when, view.name.count("/"))
    title = " ".join(filter(None, (exposure.kind, exposure.filter, str(when))))
    return exposure.instrument, exposure.detector, key, title


def _is_number(text: str) -> bool:
    """Temperatures differ a little from detector to detector."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _night(view: Viewable) -> str:
    """Day of a product's epoch; empty if it has none."""
    epoch = view.provenance.get("epoch")
    return "" if epoch is None else str(epoch)[:10]


def stand(shelf: Shelf) -> list[dict[str, str]]:
    """Put the focal planes of what is on a shelf there, too; returns their names and titles.

    Parameters
    ----------
    shelf : Shelf
        Focal planes whose members are gone or changed are taken off.
    """
    entries = [(entry.id, entry.viewable) for entry in shelf.entries() if entry.viewable is not None]
    known = {image for image, view in entries if view.pieces}
    wanted = {group.id: group for group in groups((i, view) for i, view in entries if not view.pieces)}
    for image in known - set(wanted):
        shelf.drop(image)
    for image, group in wanted.items():
        if image not in known:
            shelf.stand(image, mosaic(group))
    return [{"id": image, "title": group.title} for image, group in wanted.items()]


# --- one image --------------------------------------------------------------------------------------------


def mosaic(group: Group) -> Viewable:
    """The detectors of a group in their places, with their gaps, as one image.

    Planes are those that every member has; of products, each quantity of amplifiers (or of detectors) is a
    plane of its own, in which an amplifier has the colour of its value.
    """
    plane = group.instrument.focal_plane
    assert plane is not None
    group = replace(group, members=tuple(_trimmed(member) for member in group.members))
    detectors = {member.detector: _amplifiers(member, group.instrument) for member in group.members}
    size = _size(group, detectors)
    whole = plane.shape(size)
    corner = {member.detector: plane.offset(member.detector, size) for member in group.members}
    planes = list(_images(group, corner, size, whole))
    taken = {one.name for one in planes}
    colours = painted.planes(_quantities(group, detectors, corner, size), whole)
    planes += [one for one in colours if one.name not in taken]
    first = group.members[0].view
    return Viewable(
        name=group.title,
        kind=f"focal plane of {first.kind}",
        planes=tuple(planes),
        dq=_flags(group, corner, size, whole),
        amplifiers=tuple(_moved(detectors, corner)),
        pieces=tuple(
            Piece(m.detector, m.image, (r, r + size[0]), (c, c + size[1]))
            for m in group.members
            for r, c in [corner[m.detector]]
        ),
        provenance={"instrument": group.instrument.name, "members": [m.view.name for m in group.members]},
        message=None if planes else f"{group.title}: these products hold neither images nor quantities.",
        version=group.id,
    )


def _trimmed(member: Member) -> Member:
    """A raw frame of several amplifiers as it lies on the detector, without overscan; others as they are."""
    view, exposure = member.view, member.view.exposure
    if exposure is None or not view.amplifiers or tuple(exposure.shape[-2:]) not in (view.shape, ()):
        return member
    readouts = load(exposure.instrument).readouts(exposure)
    assert view.shape is not None
    windows = tuple(_window(one, view.shape) for one in readouts)
    size = max(one.target[1] for one in windows), max(one.target[3] for one in windows)
    whole = sum((r1 - r0) * (c1 - c0) for r0, r1, c0, c1 in (one.target for one in windows))
    if whole != size[0] * size[1]:
        return member  # places that overlap, or leave gaps, say nothing of the detector
    planes = tuple(
        Plane(one.name, one.unit, Patchwork(size, [Patch(Assembled(one, windows, size[1]), 0, 0, size)]))
        for one in view.planes
    )
    placed = zip(readouts, windows, strict=True)
    amplifiers = tuple(
        Amplifier(one.name, at.target[:2], at.target[2:], one.gain, one.read_noise) for one, at in placed
    )
    return replace(member, view=replace(view, planes=planes, dq=None, amplifiers=amplifiers))


def _window(one: Readout, shape: tuple[int, int]) -> Window:
    turned = [(a.step == -1) != (b.step == -1) for a, b in zip(one.data, one.place, strict=True)]
    return Window(bounds(one.data, shape), bounds(one.place, shape), (turned[0], turned[1]))


def _size(group: Group, detectors: Mapping[str, Sequence[Amplifier]]) -> tuple[int, int]:
    """Rows, columns of one detector: of the images, else up to the farthest amplifier."""
    found = [member.view.shape for member in group.members if member.view.shape]
    found = found or [painted.size_of(own) for own in detectors.values() if own] or [(100, 100)]
    return max(rows for rows, _ in found), max(cols for _, cols in found)


def _amplifiers(member: Member, instrument: Instrument) -> tuple[Amplifier, ...]:
    """The amplifiers of a member: as its image has them, else as the instrument places them."""
    if member.view.amplifiers:
        return member.view.amplifiers
    binning = member.view.provenance.get("keys", {}).get("binning") or (1, 1)
    exposure = Exposure(instrument=instrument.name, detector=member.detector, binning=tuple(binning))
    try:
        placed = [(one.name, bounds(one.place, (0, 0))) for one in instrument.readouts(exposure)]
    except CalibrantError:
        return ()
    return tuple(Amplifier(name, (r0, r1), (c0, c1)) for name, (r0, r1, c0, c1) in placed if r1 > r0)


def _images(
    group: Group, corner: Mapping[str, tuple[int, int]], size: tuple[int, int], whole: tuple[int, int]
) -> Iterator[Plane]:
    """Planes that every member has as an image of this size, the first image of each."""
    views = [member.view for member in group.members]
    if any(view.shape is None or (view.is_painted and view.exposure is None) for view in views):
        return
    for plane in views[0].planes:
        parts = [(member, member.view.plane(plane.name)) for member in group.members]
        if all(part is not None and part.shape == size for _, part in parts):
            patches = [
                Patch(part, *corner[member.detector], size) for member, part in parts if part is not None
            ]
            yield Plane(plane.name, plane.unit, Patchwork(whole, patches))


def _flags(
    group: Group, corner: Mapping[str, tuple[int, int]], size: tuple[int, int], whole: tuple[int, int]
) -> Plane:
    """Flags of the members, none where they have none; in the gaps, that nothing is there."""
    patches = []
    for member in group.members:
        own = member.view.dq
        shown = own if own is not None and own.shape == size else Uniform(0, size[1])
        patches.append(Patch(shown, *corner[member.detector], size))
    return Plane("dq", "", Patchwork(whole, patches, np.dtype(np.uint32), BETWEEN))


def _quantities(
    group: Group,
    detectors: Mapping[str, Sequence[Amplifier]],
    corner: Mapping[str, tuple[int, int]],
    size: tuple[int, int],
) -> Iterator[tuple[str, str, Patch]]:
    for member in group.members:
        own = detectors[member.detector]
        yield from painted.patches(member.view.quantities, own, size, corner[member.detector])


def _moved(
    detectors: Mapping[str, Sequence[Amplifier]], corner: Mapping[str, tuple[int, int]]
) -> Iterator[Amplifier]:
    """The amplifiers where they lie in the mosaic, named detector/amplifier."""
    for detector, own in detectors.items():
        row, col = corner[detector]
        for one in own:
            yield replace(
                one,
                name=f"{detector}/{one.name}",
                rows=(one.rows[0] + row, one.rows[1] + row),
                cols=(one.cols[0] + col, one.cols[1] + col),
                margins={
                    name: (r0 + row, r1 + row, c0 + col, c1 + col)
                    for name, (r0, r1, c0, c1) in one.margins.items()
                },
            )
