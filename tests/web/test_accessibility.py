"""Names, roles and contrast of every page, as axe-core finds them; light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from calibrant.frame import DQ, Exposure, Frame

FORMS = [(1280, 800, "light"), (1280, 800, "dark"), (400, 800, "light"), (400, 800, "dark")]


def troubles(page: Any) -> list[str]:
    """What axe-core objects to, with the elements; it is injected past the page's own policy."""
    found = Axe().run(page)
    return [
        f"{rule['id']} ({rule['impact']}): {', '.join(node['html'][:90] for node in rule['nodes'][:4])}"
        for rule in found.response["violations"]
    ]


def scene() -> Frame:
    data = np.random.default_rng(4).normal(100, 3, (50, 60)).astype(np.float32)
    dq = np.zeros(data.shape, np.uint32)
    dq[4:9, 5:9] = int(DQ.SATURATED)
    return Frame(data, variance=data, dq=dq, unit="adu", exposure=Exposure(kind="light"))


@pytest.mark.parametrize(("width", "height", "scheme"), FORMS)
def test_the_viewer(
    browser: Browser,
    serve: Callable[..., Any],
    until: Callable[..., None],
    width: int,
    height: int,
    scheme: Any,
) -> None:
    served = serve(scene(), scene())
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto(served.url)
    page.evaluate("__calibrant.ready")
    until(page, "__calibrant.idle()")
    for name in ("cuts", "histogram", "masks", "adjust", "regions", "header", "statistics"):
        page.evaluate(f"document.querySelector('[data-testid=panel-{name}]').open = true")
    page.evaluate("__calibrant.app.panels.fold(true)")
    page.keyboard.press("x")
    page.keyboard.press("x")
    assert troubles(page) == []
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, f"the page is {wide} pixels wide"
    page.get_by_test_id("show-keys").click() if width > 700 else page.keyboard.press("?")
    assert troubles(page) == []
    context.close()


def test_a_fault_is_found(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content(
        '<html lang="en"><title>x</title><main><h1>x</h1><button></button>'
        '<p style="color:#aaa;background:#fff">pale</p></main></html>'
    )
    found = " ".join(troubles(page))
    page.close()
    assert "button-name" in found and "color-contrast" in found
