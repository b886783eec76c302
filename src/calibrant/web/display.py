"""Display: a frame of the viewer as an object of Python; its server lives in this process."""

from __future__ import annotations

import atexit
import math
import os
import webbrowser
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from threading import RLock
from typing import Any

from calibrant.errors import OptionError
from calibrant.web import require
from calibrant.web.shelf import Shelf

STRETCHES = ("linear", "log", "sqrt", "asinh", "power", "equalise")
LIMITS = ("zscale", "minmax", "percentile", "sigma")
SYMBOLS = ("+", "x", "*", "o")
HEIGHT = 640
"""Pixels of the frame in a notebook."""


@dataclass
class Home:
    """The one server of this process; it begins with the first Display and ends with the last."""

    shelf: Shelf = field(default_factory=Shelf)
    session: Any = None
    server: Any = None
    users: Counter[int] = field(default_factory=Counter)
    lock: RLock = field(default_factory=RLock)

    def enter(self, frame: int) -> None:
        """One more Display of a frame."""
        with self.lock:
            if self.server is None:
                self._begin()
            self.users[frame] += 1
            self.session.look(frame)

    def _begin(self) -> None:
        from calibrant.web.app import create
        from calibrant.web.server import Background, bind
        from calibrant.web.session import Session

        self.shelf, self.session = Shelf(), Session()
        self.server = Background(create(self.shelf, self.session), bind()).start()

    def leave(self, frame: int) -> None:
        """One Display less; a frame that nobody holds goes, and with the last one the server."""
        with self.lock:
            self.users[frame] -= 1
            if self.users[frame] <= 0:
                del self.users[frame]
                self.put_away(self.session.remove(frame))
            if not self.users:
                self.end()

    def put_away(self, image: str | None) -> None:
        """Forget an image that no frame shows any more."""
        if image is not None and not self.session.shows(image):
            self.shelf.drop_family(image)

    def end(self) -> None:
        """Stop the server, if it runs."""
        with self.lock:
            server, self.server = self.server, None
            self.users.clear()
            if server is not None:
                server.stop()
                self.shelf = Shelf()


@lru_cache(maxsize=1)
def _home(process: int) -> Home:
    home = Home()
    atexit.register(home.end)
    return home


class Display:
    """A numbered frame of the viewer.

    The first Display starts a server inside this process, on 127.0.0.1 alone; all further ones share it.
    What is shown is served from memory: no pixel is posted anywhere. Open `url` in a browser, call `open`,
    or leave the Display at the end of a notebook's cell.

    Parameters
    ----------
    frame : int
        Number of the frame, from 1. Two Displays of one number are the same frame.

    Raises
    ------
    OptionError
        If the number has no meaning, or the extra ``web`` is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from calibrant import Display
    >>> with Display(frame=1) as display:
    ...     _ = display.show(np.eye(64), title="diagonal").scale("asinh", "zscale").dot("o", 10, 10)
    ...     display.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, frame: int = 1) -> None:
        require()
        if isinstance(frame, bool) or not isinstance(frame, int) or not 1 <= frame <= 9999:
            raise OptionError("frames are numbered from 1", where="frame", got=frame)
        self.frame = frame
        self._home: Home | None = _home(os.getpid())
        self._home.enter(frame)

    # --- what is shown ---

    def show(self, thing: Any, title: str = "") -> Display:
        """Show a Frame, a Product or an array in this frame; stretch, zoom and pan stay as they were.

        Parameters
        ----------
        thing : Frame, Product or array
            An array is copied as it is now; Frames and Products are served from where they are.
        title : str
            On the tab; the name of the file or the kind of the product by default.

        Raises
        ------
        OptionError
            If it cannot be shown.
        """
        home = self._open
        image = home.shelf.add(thing, title)[0]
        home.put_away(home.session.show(self.frame, image))
        return self

    mtv = show

    def erase(self) -> Display:
        """Take all marks off the frame."""
        self._open.session.look(self.frame, marks=[])
        return self

    def close(self) -> None:
        """Take the frame off the page; the server ends with the last Display. Twice is no harm."""
        home, self._home = self._home, None
        if home is not None:
            home.leave(self.frame)

    # --- how ---

    def scale(
        self,
        stretch: str,
        limits: str | float = "zscale",
        high: float | None = None,
        *,
        q: float | None = None,
        gamma: float | None = None,
    ) -> Display:
        """Choose stretch and limits, for this and the next images of the frame.

        Parameters
        ----------
        stretch : str
            ``linear``, ``log``, ``sqrt``, ``asinh``, ``power`` or ``equalise``.
        limits : str or float
            ``zscale``, ``minmax``, ``percentile`` or ``sigma``; or the lower limit, and `high` the upper one.
        high : float, optional
            With ``percentile`` how many percent are shown, with ``sigma`` how many of them.
        q, gamma : float, optional
            Of ``asinh`` and of ``power``.

        Raises
        ------
        OptionError
            If something is unknown, or the limits are not in order.
        """
        _known("stretch", stretch, STRETCHES)
        numbers = {"q": q, "gamma": gamma}
        chosen = {name: _positive(name, value) for name, value in numbers.items() if value is not None}
        self._open.session.look(self.frame, stretch={"name": stretch, **chosen}, limits=_limits(limits, high))
        return self

    def mask_transparency(self, percent: float) -> Display:
        """How much of the image is seen through the flags: 0 (nothing) to 100 (flags are not seen).

        Raises
        ------
        OptionError
            If it is out of this range.
        """
        if not 0 <= percent <= 100:
            raise OptionError("a transparency is in percent", expected="0 to 100", got=percent)
        self._open.session.look(self.frame, masks={"alpha": 1 - percent / 100})
        return self

    def dot(
        self, symbol: str, row: float, col: float, size: float = 2.0, colour: str | None = None
    ) -> Display:
        """Mark a place.

        Parameters
        ----------
        symbol : str
            ``+``, ``x``, ``*`` or ``o``; any other text is written there.
        row, col : float
            From 0; the middle of a pixel is a whole number.
        size : float
            Half its width, in pixels of the image.
        colour : str, optional
            A colour of CSS, such as ``red`` or ``#ffcc00``.

        Raises
        ------
        OptionError
            If place or size are no numbers.
        """
        mark: dict[str, Any] = {"row": _finite("row", row), "col": _finite("col", col)}
        mark["size"] = _positive("size", size)
        mark |= {"symbol": symbol} if symbol in SYMBOLS else {"symbol": "text", "text": str(symbol)}
        if colour is not None:
            mark["colour"] = str(colour)
        self._open.session.mark(self.frame, mark)
        return self

    def zoom(
        self, factor: float | None = None, row: float | None = None, col: float | None = None
    ) -> Display:
        """Screen pixels for each pixel, about the middle or about (row, col); None fits all into the window.

        Raises
        ------
        OptionError
            If the factor is not positive.
        """
        if factor is None:
            self._open.session.look(self.frame, view={"fit": True})
            return self
        self._open.session.look(self.frame, view={"zoom": _positive("zoom", factor), "fit": False})
        return self if row is None or col is None else self.pan(row, col)

    def pan(self, row: float, col: float) -> Display:
        """Move this place into the middle.

        Raises
        ------
        OptionError
            If it is none.
        """
        middle = {"row": _finite("row", row), "col": _finite("col", col), "fit": False}
        self._open.session.look(self.frame, view=middle)
        return self

    # --- where ---

    @property
    def url(self) -> str:
        """Address of the page, with this frame in front."""
        from calibrant.web.server import address

        return f"{address(self._open.server.listening)}#current={self.frame}"

    def open(self) -> Display:
        """Open the page in the user's browser."""
        webbrowser.open(self.url)
        return self

    @property
    def _open(self) -> Home:
        if self._home is None or self._home.server is None:
            raise OptionError("this Display was closed", do="make a new one")
        return self._home

    def __repr__(self) -> str:
        return (
            f"<Display {self.frame}, closed>"
            if self._home is None
            else f"<Display {self.frame} at {self.url}>"
        )

    def _repr_html_(self) -> str:
        """How a notebook shows it: the page itself, in a frame."""
        if self._home is None:
            return escape(repr(self))
        style = f"width:100%;height:{HEIGHT}px;border:1px solid #8888"
        title = f"Calibrant, frame {self.frame}"
        return f'<iframe title="{title}" src="{escape(self.url)}" style="{style}"></iframe>'

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *what: object) -> None:
        self.close()


def _known(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise OptionError(f"{what} has no choice {name!r}", where=what, expected=", ".join(names))


def _limits(low: str | float, high: float | None) -> dict[str, Any]:
    if isinstance(low, str):
        _known("limits", low, LIMITS)
        own = {"percentile": "percent", "sigma": "sigma"}.get(low)
        if high is None:
            return {"mode": low}
        if own is None:
            raise OptionError(f"{low} takes no number", where="limits", got=high)
        return {"mode": low, own: _positive(own, high)}
    first, last = _finite("limits", low), _finite("limits", math.nan if high is None else high)
    if first >= last:
        raise OptionError(
            "the limits are not in order", where="limits", expected="low < high", got=(low, high)
        )
    return {"mode": "typed", "low": first, "high": last}


def _finite(name: str, value: float) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise OptionError("this is no number", where=name, got=value)
    return found


def _positive(name: str, value: float) -> float:
    found = _finite(name, value)
    if found <= 0:
        raise OptionError("this must be greater than 0", where=name, got=value)
    return found
