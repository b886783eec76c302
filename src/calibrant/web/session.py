"""The session: which image stands in which frame, and what Python said about how to look at it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from threading import Condition
from typing import Any


@dataclass
class FrameState:
    """One frame of the page.

    Attributes
    ----------
    image : str or None
        Opaque name of what it shows.
    view : dict
        Parts of the state of a view that were asked for; the page has the rest.
    changed : dict
        Part of the view, or ``image`` -> revision of the session at which it was asked for.
    """

    image: str | None = None
    view: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)


@dataclass
class Session:
    """Frames by number, with a revision that grows with each change. Threads may share it.

    Attributes
    ----------
    title : str
        Of the page.
    current : int or None
        The frame in front, where somebody asked for one.
    """

    title: str = "Calibrant"
    revision: int = 0
    current: int | None = None
    closed: bool = False
    _frames: dict[int, FrameState] = field(default_factory=dict)
    _change: Condition = field(default_factory=Condition)

    def show(self, number: int, image: str | None) -> str | None:
        """Put an image into a frame; what was asked of its view stays, marks go. Returns the image before."""
        with self._change:
            frame = self._frames.setdefault(number, FrameState())
            before, frame.image, self.current = frame.image, image, number
            self._bump(frame, "image")
            if frame.view.pop("marks", None):
                self._set(frame, {"marks": []})
            return before

    def look(self, number: int, **view: Any) -> None:
        """Ask for parts of the view of a frame; mappings are laid over what was asked before."""
        with self._change:
            self._set(self._frames.setdefault(number, FrameState()), view)

    def mark(self, number: int, mark: Mapping[str, Any]) -> None:
        """Add a mark on a frame."""
        with self._change:
            frame = self._frames.setdefault(number, FrameState())
            self._set(frame, {"marks": [*frame.view.get("marks", []), dict(mark)]})

    def remove(self, number: int) -> str | None:
        """Take a frame off the page; returns the image that it showed."""
        with self._change:
            frame = self._frames.pop(number, None)
            self.revision += 1
            self.current = None if self.current == number else self.current
            return None if frame is None else frame.image

    def shows(self, image: str) -> bool:
        """Whether a frame shows this image."""
        with self._change:
            return any(frame.image == image for frame in self._frames.values())

    def close(self) -> None:
        """Say that no more will come: streams of events end."""
        self.closed = True

    def state(self) -> dict[str, Any]:
        """Revision, title and frames, for the page."""
        with self._change:
            frames = [
                {"number": number, "image": frame.image, "view": frame.view, "changed": frame.changed}
                for number, frame in sorted(self._frames.items())
            ]
            known = {"revision": self.revision, "title": self.title, "current": self.current}
            return deepcopy({**known, "frames": frames})

    def _set(self, frame: FrameState, view: Mapping[str, Any]) -> None:
        for part, value in view.items():
            before = frame.view.get(part)
            if isinstance(before, dict) and isinstance(value, Mapping):
                frame.view[part] = {**before, **value}
            else:
                frame.view[part] = deepcopy(value)
            self._bump(frame, part)

    def _bump(self, frame: FrameState, part: str) -> None:
        self.revision += 1
        frame.changed[part] = self.revision
