"""A real headless Chromium for the pages: any error in its console fails the test that saw it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from calibrant.web.app import create
from calibrant.web.server import Background, address, bind
from calibrant.web.session import Session
from calibrant.web.shelf import Shelf

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WITHOUT_WEBGL = "--disable-software-rasterizer"


def chromium() -> str:
    """Path of the browser; absent, the test is skipped unless $CALIBRANT_REQUIRE names ``chromium``."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if "chromium" in os.environ.get("CALIBRANT_REQUIRE", "").split(","):
            pytest.fail("Chromium is required, and there is none on the PATH")
        pytest.skip("no Chromium on the PATH")
    return found


@pytest.fixture(scope="session")
def driver() -> Iterator[Playwright]:
    """What drives browsers; there can be one in a thread."""
    with sync_playwright() as started:
        yield started


def launched(driver: Playwright, *more: str) -> Iterator[Browser]:
    """One browser process, ended with the fixture that asked for it."""
    browser = driver.chromium.launch(executable_path=chromium(), args=[*FLAGS, *more])
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def browser(driver: Playwright) -> Iterator[Browser]:
    """Chromium with WebGL2 in software, as on a machine without a graphics card."""
    yield from launched(driver)


@pytest.fixture(scope="session")
def bare_browser(driver: Playwright) -> Iterator[Browser]:
    """Chromium without WebGL, as on a machine whose driver it does not trust."""
    yield from launched(driver, WITHOUT_WEBGL)


@pytest.fixture
def page(browser: Browser, serve: Callable[..., Served]) -> Iterator[Page]:
    """A fresh page of 1280 x 800, closed before its servers; what it logs as an error fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    yield page
    context.close()
    assert not troubles, troubles


@dataclass(frozen=True)
class Served:
    """A viewer of some things: its address, what it holds and their opaque names in order."""

    url: str
    shelf: Shelf
    session: Session
    images: tuple[str, ...]
    app: Any


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Start a viewer of arrays, frames, products and paths, each in its own frame; it ends with the test."""
    with ExitStack() as stack:

        def begin(*things: Any) -> Served:
            shelf, session = Shelf(), Session()
            for number, thing in enumerate(things, 1):
                add = shelf.add_paths if isinstance(thing, Path) else shelf.add
                names = add([thing] if isinstance(thing, Path) else thing)
                session.show(number, names[0])
            listening = bind()
            url = address(listening)
            app = create(shelf, session)
            stack.enter_context(Background(app, listening))
            return Served(url, shelf, session, tuple(entry.id for entry in shelf.entries()), app)

        yield begin


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait until an expression is true in the page; the driver's own way needs eval, which pages forbid."""

    def wait(page: Page, expression: str, seconds: float = 10) -> None:
        for _ in range(int(seconds / 0.02)):
            if page.evaluate(f"() => Boolean({expression})"):
                return
            page.wait_for_timeout(20)
        pytest.fail(f"not within {seconds} s: {expression}")

    return wait
