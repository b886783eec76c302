"""A real headless Chromium for the pages: any error in its console fails the test that saw it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

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


def launched(*more: str) -> Iterator[Browser]:
    """One browser process, ended with the fixture that asked for it."""
    path = chromium()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=[*FLAGS, *more])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium with WebGL2 in software, as on a machine without a graphics card."""
    yield from launched()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page of 1280 x 800; what it logs as an error fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    yield page
    context.close()
    assert not troubles, troubles
