"""What using the viewer taught: drawing by keys, sentences in their place, names of what has no image."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from playwright.sync_api import Browser, Page, expect

from calibrant.product import Product, Quantity

Until = Callable[..., None]


@pytest.fixture
def looked_at(page: Page, serve: Callable[..., Any], until: Until) -> Callable[..., Any]:
    def show(*things: Any, hash: str = "") -> Any:
        served = serve(*things)
        page.goto(f"{served.url}{hash}")
        until(page, "window.__calibrant?.idle()")
        return served

    return show


def pressed(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_boxes_and_regions_are_drawn_by_keys_alone(page: Page, looked_at: Callable[..., Any]) -> None:
    looked_at(np.arange(60 * 80, dtype=np.float32).reshape(60, 80))
    page.focus("#overlay")
    up, right = ["Shift+ArrowUp"] * 4, ["Shift+ArrowRight"] * 6
    pressed(page, " ", *up, *right, " ")
    expect(page.get_by_test_id("statistics")).to_contain_text("30 to 34, 40 to 46")
    pressed(page, "r", "r", " ", *up, " ")
    pressed(page, "r", "r", "r", " ", *up, " ", *right, " ", "Enter")
    circle, polygon = page.evaluate("__calibrant.state().frames[0].regions")
    assert (circle["row"], circle["col"], circle["radius"]) == (34, 46, 4)
    assert polygon["points"] == [[38, 46], [42, 46], [42, 52]]


def test_an_altered_file_is_said_by_whatever_asks_first(
    browser: Browser, serve: Callable[..., Any], until: Until, tmp_path: Path
) -> None:
    path = tmp_path / "night.fits"
    fits.PrimaryHDU(np.ones((40, 50), np.float32)).writeto(path)
    served, page = serve(path), browser.new_page()  # its console tells of the answer 409
    page.goto(served.url)
    until(page, "window.__calibrant?.idle()")
    fits.PrimaryHDU(np.full((40, 50), 7, np.float32)).writeto(path, overwrite=True)
    page.keyboard.press("u")
    until(page, "__calibrant.app.trouble(__calibrant.app.frame())")
    expect(page.get_by_test_id("status")).to_contain_text("changed")
    page.get_by_role("button", name="Read it again").click()
    until(page, "__calibrant.app.pixels(__calibrant.app.frame()).value(3, 4) === 7")
    page.close()


def test_a_product_of_numbers_has_its_name_and_numbers(page: Page, looked_at: Callable[..., Any]) -> None:
    product = Product("gain", quantities=(Quantity("gain", 1.25, 0.01, "electron/adu", "C00"),))
    looked_at(product, np.ones((8, 9), np.float32))
    expect(page.get_by_test_id("tab-1")).to_contain_text("gain")
    page.keyboard.press("h")
    expect(page.get_by_test_id("exposure")).to_contain_text("1.25 ± 0.01 electron/adu")
    expect(page.get_by_test_id("status")).to_contain_text("no image")


def test_frames_that_are_chosen_blink(page: Page, looked_at: Callable[..., Any], until: Until) -> None:
    looked_at(*(np.full((8, 9), level, np.float32) for level in (1, 2, 3)))
    pressed(page, "1", "a", "3")
    page.get_by_test_id("blink-this").click()
    seen = page.evaluate("__calibrant.app.blinking().map(({number}) => number)")
    assert seen == page.evaluate("__calibrant.state().blink.frames") == [1, 3]
    expect(page.get_by_test_id("tab-3")).to_have_attribute("title", re.compile("blink"))
    page.keyboard.press("a")  # one alone: all blink again
    assert page.evaluate("__calibrant.app.blinking().length") == 3


def test_an_address_with_images_says_which_frames_there_are(
    page: Page, looked_at: Callable[..., Any], until: Until
) -> None:
    images = [np.full((8, 9), level, np.float32) for level in (1, 2, 3)]
    served = looked_at(*images)
    page.goto("about:blank")
    page.goto(f'{served.url}#2.image="{served.images[1]}"')
    until(page, "window.__calibrant?.idle()")
    assert page.evaluate("__calibrant.state().frames.map(({number}) => number)") == [2]
