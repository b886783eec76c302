"""The viewer as it is used: values under the pointer, keys, locks, blinking, addresses, small screens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from calibrant.files.fits import write
from calibrant.frame import DQ, Frame

IDLE = "__calibrant.idle()"
Until = Callable[..., None]
Serve = Callable[..., Any]


def opened(page: Page, url: str, until: Until) -> None:
    page.goto(url)
    page.evaluate("__calibrant.ready")
    until(page, IDLE)


def state(page: Page) -> dict[str, Any]:
    return page.evaluate("__calibrant.state()")


def values(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """Floats of every size, whose last bit matters."""
    generator = np.random.default_rng(seed)
    bits = generator.integers(0, 1 << 32, (rows, cols), np.uint32).view(np.float32)
    return np.where(np.isfinite(bits), bits, np.float32(1.1))


def point(page: Page, row: int, col: int, number: int = 1) -> str:
    """Move the pointer over a pixel; what the line below says."""
    x, y = page.evaluate(
        """([row, col, number]) => {
          __calibrant.app.stage.paint();
          const shown = __calibrant.app.stage.shown.find((one) => one.frame.number === number);
          const { left, top } = document.getElementById('overlay').getBoundingClientRect();
          const [x, y] = shown.camera.toScreen(row, col);
          return [x + left, y + top] }""",
        [row, col, number],
    )
    page.mouse.move(x, y)
    for _ in range(200):
        words = page.get_by_test_id("status").inner_text()
        if words.startswith(f"Frame {number} · row {row} · col {col} · ") and "…" not in words:
            break
        page.wait_for_timeout(20)
    return words


def test_pixels_and_not_pictures_cross_the_wire(page: Page, serve: Serve, until: Until) -> None:
    data = values(600, 520)
    counts = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40)
    served = serve(data, counts)
    answers: dict[str, Any] = {}
    page.on("response", lambda answer: answers.setdefault(answer.url.split("?")[0], answer))
    opened(page, served.url, until)
    page.keyboard.press("2")
    until(page, IDLE)
    tiles = {url: answer for url, answer in answers.items() if "/tiles/data/" in url}
    assert tiles
    assert not [url for url, answer in answers.items() if answer.headers["content-type"].startswith("image")]
    for url, answer in tiles.items():
        level, ty, tx = (int(part) for part in url.split("/")[-3:])
        assert answer.headers["content-type"] == "application/octet-stream"
        if level == 0:
            whole = data if served.images[0] in url else counts
            part = whole[512 * ty : 512 * (ty + 1), 512 * tx : 512 * (tx + 1)]
            assert answer.body() == part.astype(part.dtype.newbyteorder("<")).tobytes()
            assert answer.headers["x-encoding"] == ("f4" if whole is data else "u2")
    level_0 = [url for url in tiles if url.split("/")[-3] == "0"]
    assert len(level_0) == 2 * 2 + 1


def test_values_are_those_of_the_file_also_after_zoom_bin_and_blink(
    page: Page, serve: Serve, until: Until
) -> None:
    one, other = values(1300, 1100, 1), values(1300, 1100, 2)
    counts = np.random.default_rng(3).integers(0, 65536, (1300, 1100), np.uint16)
    opened(page, serve(one, other, counts).url, until)
    images = {1: one, 2: other, 3: counts}

    def read(row: int, col: int, number: int) -> None:
        point(page, row, col, number)
        until(
            page, f"document.getElementById('status').textContent.startsWith('Frame {number} · row {row} ')"
        )
        until(page, "!document.getElementById('status').textContent.includes('…')")
        words = page.get_by_test_id("status").inner_text().split(" · ")
        assert words[:3] == [f"Frame {number}", f"row {row}", f"col {words[2].split()[1]}"]
        at = int(words[2].split()[1])
        said = images[number].dtype.type(words[3].split()[0])
        assert said.tobytes() == images[number][row, at].tobytes(), words

    read(700, 600, 1)  # the whole image: a level of the pyramid is on the screen
    page.evaluate("__calibrant.app.set({pyramid: 'peak'})")
    read(20, 31, 1)
    page.evaluate("__calibrant.app.set({view: {fit: false, zoom: 24, row: 512, col: 511}, smooth: 3})")
    for row, col in ((511, 511), (512, 512), (513, 500)):
        read(row, col, 1)
    page.evaluate("__calibrant.app.page({current: 3})")
    until(page, IDLE)
    read(1299, 1099, 3)
    assert page.evaluate("__calibrant.app.pixels(__calibrant.app.frame(3)).value(5, 7)") == counts[5, 7]
    page.evaluate("__calibrant.app.page({blink: {on: true, rate: 20, frames: [1, 2]}})")
    until(page, "__calibrant.blinker.count > 4")
    page.evaluate("__calibrant.app.page({blink: {rate: 0.25}})")
    until(page, IDLE)
    number = page.evaluate("__calibrant.app.showing()[0].number")
    page.evaluate("__calibrant.app.set({view: {fit: true}, smooth: 0}, 1)")
    read(640, 550, number)


def test_the_address_holds_the_whole_view(page: Page, serve: Serve, until: Until) -> None:
    served = serve(values(70, 90), values(70, 90, 1), values(70, 90, 2))
    opened(page, served.url, until)
    page.evaluate(
        """() => { const { app } = __calibrant;
        app.set({stretch: {name: 'asinh', q: 12.5}, limits: {mode: 'typed', low: -3.25, high: 1e-7}});
        app.set({colours: {map: 'magma', invert: true}, view: {fit: false, zoom: 7.5, row: 10.25, col: 80}});
        app.set({pyramid: 'peak', smooth: 1.5, masks: {alpha: 0.2, shown: {HOT: false}}}, 2);
        app.set({against: {frame: 1, kind: 'ratio'}, limits: {mode: 'percentile', percent: 98}}, 2);
        app.set({regions: [{shape: 'box', row: 3, col: 4, text: 'a & b = #1'}]}, 3);
        app.set({marks: [{row: 1, col: 2}]}, 3);
        app.page({current: 2, layout: 'grid', blink: {rate: 4, frames: [1, 3]}, lock: {zoom: true}}) }"""
    )
    page.wait_for_timeout(200)
    before, address = state(page), page.url
    assert "#" in address
    second = page.context.new_page()
    opened(second, address, until)
    assert state(second) == before
    second.close()
    # A piece of nonsense is left out, the rest of the address is obeyed.
    page.goto("about:blank")
    nonsense = "1.stretch.name=steep&1.view.zoom=far&current=77&layout=[]&1.colours.map=viridis&%E0%A4%A=1"
    opened(page, f"{served.url}#{nonsense}&__proto__.x=1&1.read=-4&1.against.frame=1", until)
    found = state(page)
    assert found["frames"][0]["stretch"]["name"] == "linear" and found["frames"][0]["view"]["zoom"] == 1
    assert found["frames"][0]["colours"]["map"] == "viridis"
    assert (found["current"], found["layout"], found["frames"][0]["read"]) == (1, "single", 0)
    opened(page, f"{served.url}?again#4.image=unheard-of&current=4", until)
    assert "Not open here: the image of frame 4" in page.get_by_role("alert").inner_text()


def test_everything_by_keys(page: Page, serve: Serve, until: Until) -> None:
    opened(page, serve(values(700, 900), values(700, 900, 1)).url, until)

    def frame() -> dict[str, Any]:
        return next(one for one in state(page)["frames"] if one["number"] == state(page)["current"])

    press = page.keyboard.press
    for key, path, expected in (
        ("s", "stretch.name", "log"), ("S", "stretch.name", "linear"), ("S", "stretch.name", "equalise"),
        ("l", "limits.percent", 99), ("L", "limits.mode", "zscale"), ("c", "colours.map", "viridis"),
        ("C", "colours.map", "grey"), ("i", "colours.invert", True), ("k", "pyramid", "peak"),
        ("z", "view.zoom", 1), ("+", "view.zoom", 2**0.5), ("-", "view.zoom", 1), ("f", "view.fit", True),
    ):  # fmt: skip
        press(key)
        found: Any = frame()
        for name in path.split("."):
            found = found[name]
        assert found == pytest.approx(expected), key
    press("z")
    for key, name, sign in (
        ("ArrowLeft", "col", -1), ("ArrowRight", "col", 1), ("ArrowUp", "row", 1), ("ArrowDown", "row", -1)
    ):  # fmt: skip
        before = frame()["view"][name]
        press(key)
        assert (frame()["view"][name] - before) * sign > 10, key
    press(".")
    assert state(page)["current"] == 2
    press(",")
    press("2")
    assert state(page)["current"] == 2
    for key, name in (("Z", "zoom"), ("X", "pan"), ("V", "stretch")):
        press(key)
        assert state(page)["lock"][name], key
    press("g")
    press("b")
    press(">")
    assert state(page)["layout"] == "grid" and state(page)["blink"]["on"]
    assert state(page)["blink"]["rate"] == 2.75
    press("b")
    press("g")
    page.evaluate(
        "window.clicked = []; __calibrant.app.on('click', ({row, col}) => clicked.push([row, col])); 0"
    )
    press("Shift+ArrowUp")
    press("Shift+ArrowRight")
    cross = page.evaluate("__calibrant.navigator.cross")
    press("Enter")
    assert page.evaluate("clicked") == [[cross["row"], cross["col"]]]
    assert f"row {cross['row']} · col {cross['col']}" in page.get_by_test_id("status").inner_text()
    press("?")
    assert page.get_by_test_id("keys").is_visible()
    listed = page.get_by_test_id("keys").inner_text()
    for _, words in page.evaluate(
        "[...__calibrant.app.keys.table.values()].map((one) => [one.key, one.words])"
    ):
        assert words in listed or words.startswith("Frame "), words
    press("Escape")
    assert not page.get_by_test_id("keys").is_visible()
    # Keys belong to a field while something is typed into it.
    page.get_by_test_id("low").fill("-12.5")
    press("Enter")
    assert frame()["limits"]["mode"] == "typed" and frame()["limits"]["low"] == -12.5
    before = state(page)
    page.get_by_test_id("low").press("g")
    assert state(page) == before


def test_locks_blinking_and_tabs(page: Page, serve: Serve, until: Until) -> None:
    opened(page, serve(*(values(200, 300, n) for n in range(3))).url, until)
    view = lambda: [one["view"] for one in state(page)["frames"]]  # noqa: E731
    page.get_by_test_id("zoom-in").click()
    assert [one["fit"] for one in view()] == [False, True, True]
    page.get_by_test_id("lock-zoom").click()
    assert view()[0]["zoom"] == view()[2]["zoom"] and not view()[2]["fit"]
    page.keyboard.press("ArrowLeft")
    assert view()[0]["col"] != view()[1]["col"]
    page.get_by_test_id("lock-pan").click()
    assert view()[0] == view()[1] == view()[2]
    page.get_by_test_id("tab-3").click()
    page.get_by_test_id("stretch").select_option("sqrt")
    assert [one["stretch"]["name"] for one in state(page)["frames"]] == ["linear", "linear", "sqrt"]
    page.get_by_test_id("lock-stretch").click()
    page.get_by_test_id("limits").select_option("sigma3")
    page.get_by_test_id("map").select_option("inferno")
    for one in state(page)["frames"]:
        assert (one["stretch"]["name"], one["limits"]["mode"], one["colours"]["map"]) == (
            "sqrt",
            "sigma",
            "inferno",
        )
    page.evaluate(
        "window.seen = new Set(); __calibrant.app.on('blink', ({frame}) => seen.add(frame.number)); 0"
    )
    page.get_by_test_id("blink").click()
    page.get_by_test_id("rate").fill("20")
    page.keyboard.press("Tab")
    until(page, "seen.size === 3")
    page.get_by_test_id("blink").click()
    page.wait_for_timeout(80)
    count = page.evaluate("__calibrant.blinker.count")
    page.wait_for_timeout(120)
    assert page.evaluate("__calibrant.blinker.count") == count, "blinking has ended"
    page.get_by_test_id("close").click()
    assert [one["number"] for one in state(page)["frames"]] == [1, 2]


def test_a_grid_of_sixteen_and_bounded_memory(page: Page, serve: Serve, until: Until) -> None:
    served = serve(*(np.full((600, 600), n, np.float32) for n in range(16)))
    opened(page, served.url, until)
    page.evaluate("__calibrant.app.tiles.budget = 6 << 20")
    page.get_by_test_id("grid").click()
    until(page, IDLE)
    cells = page.evaluate(
        "__calibrant.app.stage.shown.map(({cell, frame}) => [frame.number, cell.x, cell.y])"
    )
    assert len({tuple(cell[1:]) for cell in cells}) == 16
    assert page.evaluate("__calibrant.app.stage.painted.every(({draws}) => draws.length > 0)")
    page.evaluate("__calibrant.app.page({layout: 'single'})")
    for number in (1, 5, 9, 13, 16):
        page.evaluate("(current) => __calibrant.app.page({current})", number)
        until(page, IDLE)
    memory = page.evaluate("__calibrant.memory()")
    assert 0 < memory["tiles"] <= memory["budget"] and memory["textures"] <= 6 << 20
    assert point(page, 3, 4, 16).split(" · ")[3] == "15"


def test_python_changes_only_what_it_asks_for(page: Page, serve: Serve, until: Until) -> None:
    served = serve(values(80, 80))
    opened(page, served.url, until)
    page.get_by_test_id("map").select_option("viridis")
    served.session.look(1, stretch={"name": "asinh"}, view={"zoom": 4.0, "fit": False})
    served.session.mark(
        1, {"row": 40, "col": 41, "symbol": "+", "size": 2, "colour": "#ff0000", "text": "here"}
    )
    until(page, "__calibrant.state().frames[0].marks.length === 1")
    one = state(page)["frames"][0]
    assert (one["stretch"]["name"], one["view"]["zoom"], one["colours"]["map"]) == ("asinh", 4, "viridis")
    x, y = page.evaluate("__calibrant.app.stage.shown[0].camera.toScreen(40, 41)")
    red = page.evaluate(
        "([x, y]) => [...__calibrant.app.stage.context.getImageData(x - 4, y - 1, 3, 3).data]", [x, y]
    )
    assert max(red[0::4]) > 200 and max(red[1::4]) < 90
    page.get_by_test_id("zoom-in").click()
    image = served.shelf.add(values(60, 50, 4), "another")[0]
    served.session.show(1, image)
    until(page, f"__calibrant.state().frames[0].image === '{image}'")
    one = state(page)["frames"][0]
    assert one["view"]["zoom"] == pytest.approx(4 * 2**0.5) and one["marks"] == []


def test_an_altered_file_is_said_and_not_mixed(
    browser: Browser, serve: Serve, until: Until, tmp_path: Path
) -> None:
    # Not `page`: the browser itself logs the refusals as errors.
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    path = tmp_path / "frame.fits"
    write(Frame(np.full((1200, 1200), 5, np.float32), unit="adu"), path)
    opened(page, serve(path).url, until)
    write(Frame(np.full((1200, 1200), 7, np.float32), unit="adu"), path, overwrite=True)
    page.evaluate("__calibrant.app.set({pyramid: 'peak'})")  # tiles that the browser does not have yet
    until(page, "!document.getElementById('note').hidden")
    assert page.evaluate("__calibrant.app.stage.painted[0].draws.length") == 0, "no stale pixels"
    page.get_by_role("button", name="Read it again").click()
    until(page, IDLE)
    assert page.get_by_role("alert").count() == 0
    assert point(page, 30, 40).split(" · ")[3].startswith("7")
    page.close()


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (900, 2)])
def test_odd_images(page: Page, serve: Serve, until: Until, shape: tuple[int, int]) -> None:
    served = serve(np.full(shape, np.nan, np.float32), np.full(shape, 3, np.int16))
    opened(page, served.url, until)
    page.keyboard.press("g")
    for key in "slckszf+-":
        page.keyboard.press(key)
    until(page, IDLE)
    assert point(page, 0, 0, 1).split(" · ")[3] == "NaN"
    assert point(page, 0, 0, 2).split(" · ")[3].split()[0] == "3"


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]
)
def test_accessible_on_small_and_large_screens(
    browser: Browser, serve: Serve, until: Until, width: int, scheme: Any
) -> None:
    dq = np.zeros((300, 300), np.uint32)
    dq[5:9, 5:9] = DQ.HOT
    served = serve(Frame(values(300, 300), dq=dq), values(300, 300, 1))
    context = browser.new_context(viewport={"width": width, "height": 760}, color_scheme=scheme)
    page = context.new_page()
    opened(page, served.url, until)
    if width == 400:
        assert not page.get_by_test_id("stretch").is_visible()
        page.get_by_test_id("show-tools").click()
    page.get_by_test_id("stretch").select_option("asinh")
    page.get_by_test_id("blink").click()
    page.get_by_test_id("blink").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    stage = page.get_by_test_id("stage").bounding_box()
    assert stage is not None and stage["width"] > 0.6 * width and stage["height"] > 150
    outside = page.evaluate(
        """() => [...document.querySelectorAll('.top button, .tools button, .tools select')].filter((one) => {
          const { left, right, width } = one.getBoundingClientRect();
          return width && (left < -1 || right > innerWidth + 1) }).map((one) => one.id)"""
    )
    assert outside == []
    found = Axe().run(page).response["violations"]
    assert not found, json.dumps(
        [(one["id"], [node["html"] for node in one["nodes"]]) for one in found], indent=1
    )
    context.close()


def test_all_modules_are_fetched_at_once(page: Page, serve: Serve, until: Until) -> None:
    # One import after the other would each wait for a round trip before the first picture.
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url.split("/static/")[-1]))
    opened(page, serve(values(9, 9)).url, until)
    links = "[...document.querySelectorAll('link[rel=modulepreload]')]"
    hinted = page.evaluate(f"{links}.map(({{href}}) => href.split('/static/')[1])")
    modules = {name for name in fetched if name.endswith(".js")}
    assert modules - {"viewer/main.js"} == set(hinted)


def test_by_pointer(page: Page, serve: Serve, until: Until) -> None:
    opened(page, serve(values(700, 900)).url, until)
    page.evaluate(
        "window.boxes = []; __calibrant.app.on('box', ({rows, cols}) => boxes.push({rows, cols})); 0"
    )
    here = "(() => { const { camera } = __calibrant.app.stage.shown[0]; return camera.toImage(300, 250) })()"
    left, top = page.evaluate(
        "(({left, top}) => [left, top])(document.getElementById('overlay').getBoundingClientRect())"
    )
    page.mouse.move(left + 300, top + 250)
    before = page.evaluate(here)
    page.mouse.wheel(0, -600)
    until(page, "!__calibrant.state().frames[0].view.fit")
    page.evaluate("__calibrant.app.stage.paint()")
    zoom = state(page)["frames"][0]["view"]["zoom"]
    assert page.evaluate(here) == pytest.approx(before, abs=1.5 / zoom), (
        "what is under the pointer stays there"
    )

    def drag(button: str = "left") -> None:
        page.mouse.move(left + 300, top + 250)
        page.mouse.down(button=button)
        page.mouse.move(left + 340, top + 280, steps=2)
        page.mouse.move(left + 400, top + 310, steps=2)
        page.mouse.up(button=button)

    view = state(page)["frames"][0]["view"]
    drag()
    after = state(page)["frames"][0]["view"]
    assert after["col"] - view["col"] == pytest.approx(-100 / zoom)
    assert after["row"] - view["row"] == pytest.approx(60 / zoom)
    drag("right")
    assert state(page)["frames"][0]["limits"]["mode"] == "typed"
    assert state(page)["frames"][0]["view"] == after
    page.evaluate("__calibrant.app.stage.paint()")
    corners = page.evaluate(
        """() => { const { camera } = __calibrant.app.stage.shown[0];
        return [...camera.toImage(300, 250), ...camera.toImage(400, 310)].map(Math.round) }"""
    )
    page.keyboard.down("Shift")
    drag()
    page.keyboard.up("Shift")
    top_row, first, low_row, last = corners
    assert page.evaluate("boxes") == [{"rows": [low_row, top_row + 1], "cols": [first, last + 1]}]
