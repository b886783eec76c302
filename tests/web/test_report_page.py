"""The report in a real browser: charts to be looked into, dark, narrow, on paper, without JavaScript."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from calibrant.frame import DQ
from calibrant.product import Input, Product, Provenance, Quantity
from calibrant.registry.records import Item, Verdict
from calibrant.report.matter import Run, Subject
from calibrant.report.page import page as report

HOSTILE = '</script><script>document.title = "taken"</script><img src=x onerror="document.title=1">'
LEVELS = 12


def bias(rng: np.random.Generator) -> Product:
    dq = np.zeros((40, 60), np.uint32)
    dq[:, 7] = DQ.HOT
    return Product(
        "bias",
        "camera",
        {"detector": "S00", "temperature": -99.5},
        planes={"data": rng.normal(0, 2, (40, 60)).astype(np.float32), "dq": dq},
        units={"data": "adu"},
        tables={"frames": {"level": rng.normal(0, 0.1, 8)}},
        quantities=(Quantity("read_noise", 5.1, 0.01, "adu"), Quantity("level", 0.1, 0.02, "adu")),
        provenance=Provenance(
            "bias",
            tuple(Input(f"raw/{HOSTILE}{k}.fits") for k in range(8)),
            notes=(HOSTILE,),
            versions={"calibrant": "1"},
        ),
    )


def gain(rng: np.random.Generator) -> Product:
    names = [f"C{k:02d}" for k in range(9)]
    mean = np.tile(np.geomspace(100, 4e4, LEVELS), len(names))
    ptc = {
        "amplifier": np.repeat(names, LEVELS),
        "mean": mean,
        "variance": (25 + mean / 1.5) * rng.normal(1, 0.01, mean.size),
        "sigma": 0.01 * (25 + mean / 1.5),
        "model": 25 + mean / 1.5,
        "residual": rng.normal(0, 1, mean.size),
        "used": np.ones(mean.size, bool),
    }
    quantities = tuple(
        Quantity(name, value, 0.01, unit, place)
        for place in names
        for name, value, unit in (("gain", 1.5, "electron/adu"), ("read_noise", 7.0, "electron"),
                                  ("a00", -2e-6, "1/electron"), ("turnoff", 5e4, "adu"),
                                  ("full_well", 7e4, "electron"), ("chi2", 1.0, ""), ("pairs", 30.0, ""))
    )  # fmt: skip
    units = {"ptc.mean": "adu", "ptc.variance": "adu2"}
    return Product(
        "gain", "camera", {"detector": "S00"}, tables={"ptc": ptc}, units=units, quantities=quantities
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    rng = np.random.default_rng(3)
    one, other = bias(rng), bias(rng)
    items = (Item("outliers", 0.5, 0.0, 0.002), Item("quantity.read_noise", 5.1, 0.0, 8.0, "adu"))
    subjects = [
        Subject("bias", lambda: one, "masters/bias.fits", Verdict(one.identity, "bias", items, "ccd"),
                reference=lambda: other, against="last month"),
        Subject("gain", lambda: gain(rng), why="nobody asked"),
    ]  # fmt: skip
    frame = {"name": "m51", "filter": HOSTILE, "median": 5.0, "unit": "electron", "noise": 1.0, "flagged": {}}
    run = Run(summary={"frames": [frame], "warnings": [HOSTILE], "instrument": "camera", "recipe": "ccd"})
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report(subjects, title=f"Night of {HOSTILE}", run=run, created="today"), encoding="utf-8")
    return path


def opened(browser, file: Path, **options):
    """A page of its own, with what it said and asked for."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    shown = context.new_page()
    said: list[str] = []
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    shown.on("request", lambda request: said.append(request.url) if _outside(request.url, file) else None)
    shown.goto(file.as_uri())
    return shown, said


def _outside(url: str, file: Path) -> bool:
    return url != file.as_uri() and not url.startswith("data:")


def troubles(shown) -> list[str]:
    found = Axe().run(shown).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_clean_and_asks_for_nothing(browser, file, scheme):
    shown, said = opened(browser, file, color_scheme=scheme)
    assert said == [] and shown.title().startswith("Night of </script>")
    assert troubles(shown) == []
    paper = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(int(part) for part in re.findall(r"\d+", paper)[:3]) < 60) == (scheme == "dark")
    assert shown.locator(".live canvas").count() == 3 and not shown.locator("svg").first.is_visible()
    shown.context.close()


def test_it_fits_a_telephone(browser, file):
    shown, said = opened(browser, file, viewport={"width": 400, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 400
    assert troubles(shown) == [] and said == []
    shown.context.close()


def test_a_curve_is_hidden_and_shown_by_key_and_click(page, file):
    page.goto(file.as_uri())
    chart = page.locator("figure.chart").filter(has_text="variance against mean")
    canvas = chart.locator("canvas")
    before = canvas.evaluate("one => one.toDataURL()")
    button = chart.get_by_role("button", name="C03")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    page.wait_for_function("([one, old]) => one.toDataURL() !== old", arg=[canvas.element_handle(), before])
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    page.wait_for_function("([one, old]) => one.toDataURL() === old", arg=[canvas.element_handle(), before])


def test_the_pointer_reads_values_and_a_drag_zooms(page, file):
    page.goto(file.as_uri())
    chart = page.locator("figure.chart").filter(has_text="variance against mean")
    chart.scroll_into_view_if_needed()
    before = chart.locator("canvas").evaluate("one => one.toDataURL()")
    over = chart.locator(".u-over").bounding_box()
    page.mouse.move(over["x"] + over["width"] / 2, over["y"] + over["height"] / 2)
    assert re.search(r"C00: [\d.]+ at [\d.]+", chart.locator(".reading").inner_text())
    page.mouse.down()
    page.mouse.move(over["x"] + over["width"] * 0.8, over["y"] + over["height"] * 0.1, steps=4)
    page.mouse.up()
    page.mouse.move(0, 0)
    assert chart.locator("canvas").evaluate("one => one.toDataURL()") != before
    chart.get_by_role("button", name="Whole range").click()
    assert chart.locator("canvas").evaluate("one => one.toDataURL()") == before


def test_without_javascript_the_same_charts_are_drawn(browser, file):
    shown, said = opened(browser, file, java_script_enabled=False)
    assert said == [] and shown.locator("svg.chart-svg").count() == 3
    assert all(one.is_visible() for one in shown.locator("svg.chart-svg").all())
    shown.context.close()


def test_paper_has_everything_and_cuts_no_table(browser, file, tmp_path):
    shown, _ = opened(browser, file)
    content = shown.pdf(prefer_css_page_size=True, print_background=True)
    assert content.startswith(b"%PDF") and len(content) > 20_000
    assert (
        content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") + content.count(b"/Type/Page\n") >= 2
    )
    shown.emulate_media(media="print")
    shown.set_viewport_size({"width": 695, "height": 980})  # A4 between its margins, in CSS pixels
    assert shown.evaluate("document.documentElement.scrollWidth") <= 695
    wide = shown.evaluate(
        "[...document.querySelectorAll('table')].filter(t => t.getBoundingClientRect().right > 696).length"
    )
    assert wide == 0
    assert all(one.is_visible() for one in shown.locator("svg.chart-svg").all())
    shown.context.close()


def test_what_is_folded_is_open_on_paper(browser, file):
    shown, _ = opened(browser, file)
    assert shown.locator("#provenance details[open]").count() == 0
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown.locator("details:not([open])").count() == 0
    shown.evaluate("dispatchEvent(new Event('afterprint'))")
    assert shown.locator("#provenance details[open]").count() == 0
    shown.context.close()


def test_a_script_in_a_header_does_not_run(page, file):
    page.goto(file.as_uri())
    assert page.title() not in ("taken", "1")
    assert page.locator("main script, main img[src=x]").count() == 0
    assert HOSTILE in page.locator("#warnings").inner_text()


def test_the_policy_refuses_scripts_that_are_not_its_own(browser, file, tmp_path):
    """The twin that must fail: markup that got in would not run."""
    bad = tmp_path / "bad.html"
    bad.write_text(file.read_text().replace("<footer>", "<footer><script>document.title = 'taken'</script>"))
    shown, said = opened(browser, bad)
    assert shown.title() != "taken" and any("Content Security Policy" in one for one in said)
    shown.context.close()
