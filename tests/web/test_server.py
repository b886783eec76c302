"""The server: begins, ends, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest

from calibrant.cli import main
from calibrant.errors import OptionError
from calibrant.files.fits import write_raw
from calibrant.web import opening
from calibrant.web.app import create
from calibrant.web.opening import names_of, token_for
from calibrant.web.server import Background, address, bind
from calibrant.web.session import Session
from calibrant.web.shelf import Shelf


def test_it_ends_without_a_trace_even_while_a_page_listens() -> None:
    before = set(threading.enumerate())
    listening = bind()
    url = address(listening)
    server = Background(create(Shelf(), Session()), listening).start()
    with httpx.Client(base_url=url, trust_env=False) as client, client.stream("GET", "/api/events") as stream:
        assert next(stream.iter_lines()).startswith("retry:")
        server.stop()
    assert not server.is_running
    for thread in set(threading.enumerate()) - before:
        thread.join(5)  # idle workers are told to end, and do so in their own time
    assert set(threading.enumerate()) <= before
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_it_listens_on_this_machine_alone() -> None:
    with bind() as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_a_port_in_use_is_said() -> None:
    with bind() as listening, pytest.raises(OptionError, match="cannot be had") as told:
        bind(port=listening.getsockname()[1])
    assert "--port" in str(told.value)


@pytest.mark.parametrize("port", [70000, -1])
def test_what_is_no_port_is_said(port: int) -> None:
    with pytest.raises(OptionError, match="no port"):
        bind(port=port)


def test_a_host_that_is_not_of_this_machine() -> None:
    with pytest.raises(OptionError, match="cannot be had"):
        bind("192.0.2.1")


def test_tokens() -> None:
    assert token_for("127.0.0.1", None) is None
    assert token_for("localhost", None) is None
    made = token_for("0.0.0.0", None)
    assert made is not None and len(made) >= 32 and made != token_for("0.0.0.0", None)
    assert token_for("127.0.0.1", "sixteen-letters-or-more") == "sixteen-letters-or-more"
    with pytest.raises(OptionError, match="too short"):
        token_for("0.0.0.0", "1234")


def test_names() -> None:
    assert names_of("127.0.0.1") == {"127.0.0.1", "localhost", "[::1]"}
    assert "192.0.2.7" in names_of("192.0.2.7")
    assert socket.gethostname().lower() in names_of("0.0.0.0")


# --- the command line ---


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_raw(tmp_path / "a.fits", np.arange(12, dtype=np.uint16).reshape(3, 4))
    return tmp_path / "a.fits"


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def test_the_address_is_printed(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(opening.Viewer, "run", lambda self: None)
    shown: list[str] = []
    monkeypatch.setattr(opening.Viewer, "show", lambda self: shown.append(self.url))
    assert run("view", path, "--json", "--no-browser") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["url"].startswith("http://127.0.0.1:") and told["images"] == 1 and shown == []
    assert run("view", path, "--host", "0.0.0.0", "--token", "a-token-of-many-letters") == 0
    url = capsys.readouterr().out.splitlines()[0]
    assert url.endswith("/?token=a-token-of-many-letters") and shown == [url]


def test_what_is_wrong_is_one_sentence(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    with bind() as listening:
        port = listening.getsockname()[1]
        for words, said in (
            (["view"], "nothing to look at"),
            (["view", tmp_path / "none.fits"], "no such file"),
            (["view", tmp_path / "empty"], "no FITS file"),
            (["view", path, "--port", port], "the port cannot be had"),
            (["view", path, "--token", "short"], "too short"),
            (["serve", "--db", tmp_path / "none.db"], "none.db"),
        ):
            assert run(*words) == 2
            told = capsys.readouterr().err
            assert told.startswith("calibrant: ") and said in told and told.count("\n") == 1
    monkeypatch.setattr("calibrant.web.find_spec", lambda name: None)
    assert run("view", path) == 2
    assert "pip install 'calibrant[web]'" in capsys.readouterr().err


@contextmanager
def started(*words: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and the address that it printed."""
    command = [sys.executable, "-m", "calibrant", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_ctrl_c_ends_it_quietly(path: Path) -> None:
    with started("view", path, "--no-browser") as (process, url):
        assert httpx.get(url, trust_env=False).status_code == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "")
        assert err == "Ctrl-C ends it.\n"
