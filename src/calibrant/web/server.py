"""The server: a socket on this machine, in the foreground or in a thread, and its clean end."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from calibrant.errors import OptionError, WorkError

LOCAL = "127.0.0.1"
CONNECTIONS = 1024
PATIENCE = 10.0
"""Seconds for beginning, and for ending."""


class _Uvicorn(uvicorn.Server):
    """Ends the streams of events before it waits for connections to end."""

    def __init__(self, config: uvicorn.Config, session: Any) -> None:
        super().__init__(config)
        self._session = session

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, and wait for those that were begun."""
        self._session.close()
        await super().shutdown(sockets)


def bind(host: str = LOCAL, port: int = 0) -> socket.socket:
    """A listening socket; port 0 takes any that is free.

    Raises
    ------
    OptionError
        If the port is in use, or the host is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by name: only then does asyncio send small answers at once, and not 40 ms later.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(CONNECTIONS)
    except OverflowError:
        found.close()
        raise OptionError("this is no port", where="--port", expected="0 to 65535", got=port) from None
    except PermissionError:
        found.close()
        raise OptionError(
            "this port is not for users", where="--port", got=port, do="use one above 1023"
        ) from None
    except OSError as error:
        found.close()
        raise OptionError(
            f"the port cannot be had ({error.strerror or error})",
            where=f"{host}:{port}",
            do="name another with --port, or leave it out",
        ) from None
    return found


def address(
    listening: socket.socket, token: str | None = None, name: str | None = None, page: str = ""
) -> str:
    """Where a browser finds the server, or a page of it."""
    host, port = listening.getsockname()[:2]
    host = name or host
    text = f"http://{f'[{host}]' if ':' in host else host}:{port}/{page}"
    return text + (f"?token={token}" if token else "")


def _config(app: Any) -> uvicorn.Config:
    # h11 bounds what a request line and headers may take; the fast parser does not.
    return uvicorn.Config(
        app, http="h11", ws="none", log_config=None, access_log=False, lifespan="off", server_header=False,
        h11_max_incomplete_event_size=32768, limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=3,
        timeout_keep_alive=30,
    )  # fmt: skip


def run(app: Any, listening: socket.socket) -> None:
    """Serve until Ctrl-C, in the foreground."""
    server = _Uvicorn(_config(app), app.state.session)
    with closing(listening):
        try:
            server.run([listening])
        except KeyboardInterrupt:  # uvicorn hands the signal on once all is closed
            return


@dataclass
class Background:
    """A server in a thread of this process.

    Parameters
    ----------
    app : Starlette
    listening : socket
        Bound; closed with the server.
    """

    app: Any
    listening: socket.socket
    _server: _Uvicorn = field(init=False)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._server = _Uvicorn(_config(self.app), self.app.state.session)
        self._thread = threading.Thread(
            target=self._server.run, args=([self.listening],), name="calibrant-viewer", daemon=True
        )

    def start(self) -> Background:
        """Begin to answer.

        Raises
        ------
        WorkError
            If it does not begin.
        """
        self._thread.start()
        end = time.monotonic() + PATIENCE
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                raise WorkError("the viewer's server did not begin")
            time.sleep(0.005)
        return self

    @property
    def is_running(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End it, and wait until its thread and socket are gone."""
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self.listening.close()

    def __enter__(self) -> Background:
        return self.start()

    def __exit__(self, *what: object) -> None:
        self.stop()
