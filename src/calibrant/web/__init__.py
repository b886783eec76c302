"""Web: the viewer in the browser, its server, and `Display`.

Nothing is imported here: the libraries of the server are an extra (``calibrant[web]``).
"""

from __future__ import annotations

from importlib.util import find_spec

from calibrant.errors import OptionError

NEEDED = ("starlette", "uvicorn")


def require() -> None:
    """See that the libraries of the server are installed.

    Raises
    ------
    OptionError
        If one is missing.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise OptionError(
            f"the viewer needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            "not installed",
            do="install the extra with pip install 'calibrant[web]'",
        )
