"""The registry in a real browser: explained, walked back and compared by click and key."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from calibrant.web.opening import opened
from calibrant.web.server import Background

Until = Callable[..., None]


def helper() -> Any:
    path = Path(__file__).with_name("small_registry.py")
    spec = importlib.util.spec_from_file_location("small_registry", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """Address of a served registry, and the identities of its products by name."""
    folder = tmp_path_factory.mktemp("served")
    registry, names = helper().filled(folder)
    registry.close()
    with ExitStack() as stack:
        db = str(folder / "calibrant.db")
        viewer = stack.enter_context(opened([], port=0, host="127.0.0.1", token=None, db=db, first=1))
        stack.enter_context(Background(viewer.app, viewer.listening))
        yield viewer.url.removesuffix("/registry"), names


def test_a_calibration_is_explained_and_followed_back(page: Page, known: tuple[str, dict[str, str]]) -> None:
    url, names = known
    page.goto(f"{url}/registry")
    page.get_by_role("link", name="Explain").click()
    page.get_by_label("Kind").select_option("flat")
    page.get_by_label("Or time (UTC)").fill("2023-11-16T04:00Z")
    page.get_by_label("Filter").fill("R")
    page.get_by_label("Detector").fill("0")
    page.keyboard.press("Enter")
    rows = page.get_by_test_id("candidates").locator("tbody tr")
    expect(rows).to_have_count(2)
    assert "chosen" in rows.nth(0).inner_text() and "validity" in rows.nth(1).inner_text()
    assert "kind=flat" in page.url and "2023-11-16" in page.url  # the address can be shared
    page.get_by_role("link", name="Where it comes from").click()
    bias = page.get_by_test_id("graph").locator(f'a[href$="{names["bias0"]}"]')
    bias.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/lineage/{names['bias0']}")
    expect(page.get_by_test_id("nodes").locator("tbody tr")).to_have_count(4)
    page.get_by_test_id("graph").locator(f'a[href$="/products/{names["bias0"]}"]').click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("bias")


def test_from_the_time_line_to_the_pixels(
    page: Page, known: tuple[str, dict[str, str]], until: Until
) -> None:
    url, names = known
    page.goto(f"{url}/registry/products?kind=flat")
    page.get_by_test_id("timeline").locator("a").nth(1).click()
    page.wait_for_url(f"**/products/{names['flat1']}")
    assert page.locator("img").evaluate("(image) => image.complete && image.naturalWidth > 0")
    page.get_by_test_id("view").click()
    until(page, "window.__calibrant")
    page.evaluate("__calibrant.ready")
    until(page, "__calibrant.idle()")
    page.keyboard.press("h")
    until(page, "document.querySelector('[data-testid=provenance] a')")
    page.locator("[data-testid=provenance] a").click()
    page.wait_for_url(f"**/registry/products/{names['bias0']}")


def test_two_products_blink_in_the_viewer_and_a_raw_file_opens_there(
    page: Page, known: tuple[str, dict[str, str]], until: Until
) -> None:
    url, names = known
    page.goto(f"{url}/registry/compare?a={names['flat0']}&b={names['flat1']}")
    page.get_by_test_id("view-both").click()
    until(page, "window.__calibrant?.idle()")
    state = page.evaluate("__calibrant.state()")
    assert [frame["number"] for frame in state["frames"]] == state["blink"]["frames"] == [1, 2]
    assert state["layout"] == "grid" and state["lock"]["zoom"] and state["lock"]["pan"]
    page.keyboard.press("b")
    until(page, "__calibrant.blinker.count > 1")
    page.goto(f"{url}/registry/exposures")
    page.get_by_test_id("exposures").get_by_test_id("view").first.click()
    until(page, "window.__calibrant?.idle()")
    assert page.evaluate("__calibrant.app.pixels(__calibrant.app.frame()).value(0, 0)") == 100


def test_two_products_side_by_side_and_a_trend(page: Page, known: tuple[str, dict[str, str]]) -> None:
    url, names = known
    page.goto(f"{url}/registry/products?kind=flat")
    page.get_by_test_id("compare").click()
    expect(page.get_by_test_id("agreement")).to_contain_text("differs")
    assert page.get_by_test_id("differences").locator("tbody tr").count() >= 2
    page.get_by_role("link", name="Trend").click()
    page.get_by_label("Kind").select_option("bias")
    page.get_by_test_id("draw").click()
    points = page.get_by_test_id("trend").locator("a")
    expect(points).to_have_count(3)
    assert "withdrawn" in points.nth(2).locator("title").text_content()
    points.nth(0).click()
    page.wait_for_url(f"**/products/{names['bias0']}")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_every_page_can_be_read_by_everybody(
    browser: Browser, known: tuple[str, dict[str, str]], width: int, scheme: Any
) -> None:
    url, names = known
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    for address in (
        "", "/products?kind=flat", f"/products/{names['bias2']}", "/exposures",
        "/explain?kind=flat&time=2023-11-16T04:00Z&filter=R&detector=0&instrument=generic-ccd",
        f"/lineage/{names['flat0']}", "/trend?kind=bias&quantity=level",
        f"/compare?a={names['bias0']}&b={names['bias1']}", "/products/zzz",
    ):  # fmt: skip
        page.goto(f"{url}/registry{address}")
        found = Axe().run(page).response["violations"]
        assert [(rule["id"], rule["nodes"][0]["html"][:120]) for rule in found] == [], address
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
    context.close()
