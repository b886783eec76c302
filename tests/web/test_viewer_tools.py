"""The tools of the viewer as a person uses them: by click and by key, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page

from calibrant.files.fits import write_raw
from calibrant.frame import DQ, Exposure, Frame

ROWS, COLS = 60, 80
Until = Callable[..., None]
IDLE = "__calibrant.idle()"


def scene() -> Frame:
    """Ramps in both axes with one bright pixel, two flags and errors."""
    row, col = np.mgrid[:ROWS, :COLS]
    data = (1000 + 3 * row + 0.1 * col).astype(np.float32)
    data[30, 40] = 1234.5678
    dq = np.zeros((ROWS, COLS), np.uint32)
    dq[10:14, 20:25] = int(DQ.SATURATED)
    dq[30, 40] = int(DQ.JUMP_DET)
    return Frame(data, variance=np.full_like(data, 2.25), dq=dq, unit="adu", exposure=Exposure(kind="light"))


def opened(page: Page, url: str, until: Until) -> None:
    page.goto(url)
    page.evaluate("__calibrant.ready")
    until(page, IDLE)


def place(page: Page, row: float, col: float) -> tuple[float, float]:
    """Where a pixel of the current frame is on the screen."""
    x, y = page.evaluate(
        """([row, col]) => { const { app } = __calibrant;
          const one = app.stage.shown.find(({ frame }) => frame === app.frame());
          const [x, y] = one.camera.toScreen(row, col);
          const box = document.getElementById('overlay').getBoundingClientRect();
          return [x + box.left, y + box.top] }""",
        [row, col],
    )
    return x, y


def drag(page: Page, begin: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*place(page, *begin))
    page.mouse.down()
    page.mouse.move(*place(page, *end), steps=4)
    page.mouse.up()


def text(page: Page, name: str) -> str:
    return page.get_by_test_id(name).inner_text()


def frame(page: Page) -> dict[str, Any]:
    return page.evaluate(
        "() => __calibrant.state().frames.find(({ number }) => number === __calibrant.state().current)"
    )


def has(name: str, words: str) -> str:
    return f"document.querySelector('[data-testid=\"{name}\"]')?.textContent.includes({words!r})"


def test_a_pixel_is_told_exactly(page: Page, serve: Callable[..., Any], until: Until) -> None:
    opened(page, serve(scene()).url, until)
    page.mouse.click(*place(page, 30, 40))
    until(page, has("readout", "30, 40"))
    told = text(page, "readout")
    assert np.float32(1234.5678) == np.float32(told.split("data\t")[1].split()[0])
    assert "2.25 adu2" in told and "JUMP_DET" in told
    page.mouse.move(*place(page, 11, 22))
    until(page, has("readout", "SATURATED"))


def test_cuts_follow_a_click_and_a_line_has_its_profile(
    page: Page, serve: Callable[..., Any], until: Until
) -> None:
    served = serve(scene())
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opened(page, served.url, until)
    page.keyboard.press("x")
    page.mouse.click(*place(page, 30, 40))
    until(page, "document.querySelector('[data-testid=panel-cuts]').dataset.shown === '30,40'")
    assert page.locator("[data-testid=cut-row] canvas").count() == 1
    assert any("cut?plane=data&read=0&row=30" in url for url in asked)
    cut = page.evaluate(f"fetch('api/images/{served.images[0]}/cut?row=30').then((answer) => answer.json())")
    np.testing.assert_array_equal(np.float32(cut["values"]), scene().data[30])
    page.keyboard.press("n")
    drag(page, (5, 5), (5, 25))
    until(page, "document.querySelector('[data-testid=cut-line] canvas')")
    line = next(url for url in asked if "/line?" in url)
    assert "from=5" in line


def test_a_box_has_its_numbers(page: Page, serve: Callable[..., Any], until: Until) -> None:
    opened(page, serve(scene()).url, until)
    page.keyboard.down("Shift")
    drag(page, (40, 10), (49, 29))
    page.keyboard.up("Shift")
    until(page, has("statistics", "mean"))
    box = page.evaluate("() => __calibrant.navigator.box")
    (r0, r1), (c0, c1) = box["rows"], box["cols"]
    told = text(page, "statistics")
    part = scene().data[r0:r1, c0:c1].astype(np.float64)
    mean = float(told.split("mean\t")[1].split()[0])
    assert abs(mean - part.mean()) < 1e-3 and abs(r1 - r0 - 10) <= 1 and abs(c1 - c0 - 20) <= 1
    page.keyboard.press("u")
    until(page, has("statistics", f"0 to {ROWS - 1}, 0 to {COLS - 1}"))


def test_flags_are_named_coloured_and_switched(page: Page, serve: Callable[..., Any], until: Until) -> None:
    opened(page, serve(scene()).url, until)
    page.locator("[data-testid=panel-masks] summary").click()
    assert {"SATURATED", "JUMP_DET"} <= set(text(page, "masks").split())
    look = """([x, y]) => { const { left, top } = document.getElementById('overlay').getBoundingClientRect();
      return __calibrant.colours(Math.round(x - left), Math.round(y - top), 1, 1).slice(0, 3) }"""
    at = place(page, 12, 22)
    flagged = page.evaluate(look, at)
    assert max(flagged) - min(flagged) > 40  # a colour, not a grey
    page.get_by_test_id("mask-SATURATED").click()
    grey = page.evaluate(look, at)
    assert max(grey) - min(grey) <= 1
    page.keyboard.press("m")  # the rest off
    assert frame(page)["masks"]["shown"] == {"SATURATED": False, "JUMP_DET": False}
    page.keyboard.press("m")
    assert page.evaluate(look, at) == flagged
    page.get_by_test_id("mask-alpha").fill("1")
    assert frame(page)["masks"]["alpha"] == 1


def test_smoothing_leaves_the_data_alone(page: Page, serve: Callable[..., Any], until: Until) -> None:
    opened(page, serve(scene()).url, until)
    for _ in range(4):
        page.keyboard.press("y")
    assert frame(page)["smooth"] == 2
    page.mouse.click(*place(page, 30, 40))
    until(page, has("readout", str(np.float32(1234.5678))))
    page.keyboard.press("Y")
    assert frame(page)["smooth"] == 1.5


def test_difference_and_ratio_of_two_frames(page: Page, serve: Callable[..., Any], until: Until) -> None:
    other = scene()
    opened(page, serve(scene(), Frame(other.data - 5, unit="adu")).url, until)
    page.keyboard.press("d")
    assert frame(page)["against"] == {"frame": 2, "kind": "difference"}
    page.mouse.move(*place(page, 30, 40))
    until(page, has("status", "minus frame 2: 5"))
    page.keyboard.press("q")
    assert frame(page)["against"]["kind"] == "ratio" and frame(page)["colours"]["map"] == "diverging"
    page.keyboard.press("q")
    assert frame(page)["against"] is None


def test_regions_are_drawn_saved_and_read_again(
    page: Page, serve: Callable[..., Any], until: Until, tmp_path: Path
) -> None:
    opened(page, serve(scene()).url, until)
    page.keyboard.press("r")
    drag(page, (20, 10), (30, 30))
    page.get_by_test_id("draw-circle").click()
    drag(page, (40, 60), (40, 66))
    page.get_by_test_id("draw-polygon").click()
    for corner in ((5, 50), (5, 60), (15, 55)):
        page.mouse.click(*place(page, *corner))
    page.keyboard.press("Enter")
    drawn = frame(page)["regions"]
    assert [one["shape"] for one in drawn] == ["box", "circle", "polygon"] and len(drawn[2]["points"]) == 3
    assert abs(drawn[0]["height"] - 10) < 0.3 and abs(drawn[1]["radius"] - 6) < 0.3
    with page.expect_download() as saved:
        page.get_by_test_id("regions-write").click()
    saved.value.save_as(tmp_path / "saved.reg")
    words = (tmp_path / "saved.reg").read_text()
    assert words.startswith("# Region file format: DS9") and f"circle({drawn[1]['col'] + 1:.4g}" in words
    page.get_by_test_id("regions-clear").click()
    assert frame(page)["regions"] == []
    (tmp_path / "more.reg").write_text(words + 'fk5\ncircle(12:00:00,+1:00:00,3")\n')
    page.get_by_test_id("regions-file").set_input_files(tmp_path / "more.reg")
    until(page, "__calibrant.state().frames[0].regions.length === 3")
    assert frame(page)["regions"] == drawn
    assert "fk5 coordinates" in page.locator("#note-words").inner_text()
    page.get_by_test_id("region-numbers-0").click()
    until(page, has("statistics", "mean"))
    page.get_by_test_id("region-remove-1").click()
    assert [one["shape"] for one in frame(page)["regions"]] == ["box", "polygon"]


def test_a_cube_has_a_slider_and_ramps(
    page: Page, serve: Callable[..., Any], until: Until, tmp_path: Path
) -> None:
    cube = (
        100 + np.arange(6)[:, None, None] * np.arange(1, 1 + ROWS * COLS).reshape(ROWS, COLS) % 5000
    ).astype(np.uint16)
    write_raw(tmp_path / "cube.fits", cube)
    served = serve(tmp_path / "cube.fits")
    opened(page, served.url, until)
    until(page, "!document.querySelector('[data-testid=panel-ramp]').hidden")
    page.mouse.click(*place(page, 30, 40))
    until(page, "document.querySelector('[data-testid=panel-ramp]').dataset.shown === '30,40'")
    ramp = page.evaluate(
        f"fetch('api/images/{served.images[0]}/ramp?row=30&col=40').then((answer) => answer.json())"
    )
    assert ramp["values"] == cube[:, 30, 40].tolist()
    page.keyboard.press("]")
    page.keyboard.press("]")
    assert frame(page)["read"] == 2 and "2 of 5" in text(page, "read-words")
    until(page, has("readout", str(int(cube[2, 30, 40]))))
    page.get_by_test_id("read").fill("5")
    until(page, has("readout", str(int(cube[5, 30, 40]))))


def test_header_and_histogram_open_by_key(
    page: Page, serve: Callable[..., Any], until: Until, tmp_path: Path
) -> None:
    write_raw(
        tmp_path / "raw.fits",
        np.arange(ROWS * COLS, dtype=np.uint16).reshape(ROWS, COLS),
        {"OBJECT": "M 51 <b>"},
    )
    opened(page, serve(tmp_path / "raw.fits").url, until)
    page.keyboard.press("h")
    until(page, has("header", "M 51 <b>"))
    page.get_by_test_id("header-find").fill("object")
    assert text(page, "header").count("\n") == 0
    page.get_by_test_id("header-find").fill("nothing like this")
    assert "No card" in text(page, "header")
    page.locator("#overlay").focus()
    page.keyboard.press("j")
    until(page, "document.querySelector('[data-testid=histogram] canvas')")


def test_a_detector_is_entered_from_the_focal_plane(
    page: Page, until: Until, serve: Callable[..., Any]
) -> None:
    from calibrant.web.focal import stand

    def detector(number: int) -> Frame:
        data = np.full((40, 50), 100.0 * number, np.float32)
        return Frame(
            data, exposure=Exposure(kind="light", instrument="comcam", detector=str(number), identifier="5")
        )

    served = serve(*(detector(number) for number in range(9)))
    served.app.state.api.facts = lambda: {"registry": False, "focal": stand(served.shelf)}
    opened(page, served.url, until)
    page.get_by_test_id("focal").select_option(index=1)
    until(page, "!document.querySelector('[data-testid=panel-pieces]').hidden")
    until(page, IDLE)
    pieces = page.evaluate("() => __calibrant.app.meta(__calibrant.app.frame()).pieces")
    assert len(pieces) == 9
    wanted = next(one for one in pieces if one["name"] == "5")
    page.mouse.dblclick(*place(page, wanted["rows"][0] + 20, wanted["cols"][0] + 25))
    until(page, f"__calibrant.app.frame().image === '{wanted['image']}'")
    until(page, IDLE)
    page.mouse.move(*place(page, 20, 25))
    until(page, has("readout", "500"))


REGIONS = """# Region file format: DS9 version 4.1
global color=red dashlist=8 3 width=1 font="helvetica 10 normal roman"
physical
circle(10.5,20,3) # color=cyan text={a; b}
box 11 21 4 2 30
image; polygon(1,1,5,1,5,5) # text="corner"
-circle(4,4,1)
ellipse(3,3,1,2,0)
circle(1,2)
fk5
circle(12:00:00,+1:00:00,3")
"""


def test_region_files_of_ds9(page: Page, serve: Callable[..., Any], until: Until) -> None:
    opened(page, serve(scene()).url, until)
    found, again = page.evaluate(
        """async (text) => { const { parsed, written } = await import('/static/viewer/tools/regions.js');
          const found = parsed(text); return [found, parsed(written(found.regions))] }""",
        REGIONS,
    )
    circle, box, polygon = found["regions"]
    assert circle == {"shape": "circle", "row": 19, "col": 9.5, "radius": 3, "colour": "cyan", "text": "a; b"}
    assert (box["row"], box["col"], box["width"], box["height"], box["angle"]) == (20, 10, 4, 2, 30)
    assert (
        box["colour"] == "red"
        and polygon["points"] == [[0, 0], [0, 4], [4, 4]]
        and polygon["text"] == "corner"
    )
    assert [line.split(":")[0] for line in found["left"]] == ["Line 7", "Line 8", "Line 9", "Line 11"]
    assert again == {"regions": found["regions"], "left": []}
