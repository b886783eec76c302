"""What is painted, against the same rules in NumPy: in WebGL2, and in Canvas2D where there is none."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from calibrant.frame import DQ, Frame

ROWS, COLS = 90, 110
LOW, HIGH = 200.0, 900.0
BINS = 1024
Until = Callable[..., None]
IDLE = "__calibrant.idle()"
MAPS = {
    "grey": "grey",
    "viridis": "viridis",
    "inferno": "inferno",
    "magma": "magma",
    "cubehelix": "cubehelix",
}
MAPS["diverging"] = "RdBu_r"


@pytest.fixture(params=["webgl2", "canvas2d"])
def painted(request: pytest.FixtureRequest, browser: Browser, serve: Any) -> Iterator[Page]:
    """A page in each of the two ways of painting."""
    chosen = browser if request.param == "webgl2" else request.getfixturevalue("bare_browser")
    context = chosen.new_context(viewport={"width": 900, "height": 700})
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    page.kind = request.param  # type: ignore[attr-defined]
    yield page
    context.close()
    assert not troubles, troubles


def opened(page: Page, url: str, until: Until) -> None:
    # In the browser that has WebGL2 it is asked for: by itself the page does not use an imitated one.
    page.goto(f"{url}?renderer=webgl2")
    page.evaluate("__calibrant.ready")
    until(page, IDLE)


def image() -> np.ndarray:
    generator = np.random.default_rng(11)
    data = generator.uniform(0, 1100, (ROWS, COLS)).astype(np.float32)
    data[3:9, 5:20] = np.nan
    data[40, 50:53] = [np.inf, -np.inf, 3e38]
    return data


def screen(page: Page, row: int, col: int, rows: int, cols: int, number: int = 1) -> np.ndarray:
    """Colours of a part of an image that is shown 1:1, its first row first."""
    text = page.evaluate(
        """([row, col, rows, cols, number]) => {
          __calibrant.app.stage.paint();
          const { camera } = __calibrant.app.stage.shown.find((one) => one.frame.number === number);
          const seen = __calibrant.colours(camera.left + col, camera.bottom - row - rows, cols, rows);
          return btoa(String.fromCharCode(...seen)) }""",
        [row, col, rows, cols, number],
    )
    flat = np.frombuffer(base64.b64decode(text), np.uint8).astype(float)
    return flat.reshape(rows, cols, 4)[::-1, :, :3]


def colours(page: Page, patch: dict[str, Any] | None = None, number: int = 1) -> np.ndarray:
    """Colours of the whole image at 1:1, row 0 first."""
    look = {"view": {"fit": False, "zoom": 1, "row": ROWS / 2 - 0.5, "col": COLS / 2 - 0.5}, **(patch or {})}
    page.evaluate("([patch, number]) => __calibrant.app.set(patch, number)", [look, number])
    return screen(page, 0, 0, ROWS, COLS, number)


def fraction(data: np.ndarray, stretch: dict[str, Any], low: float = LOW, high: float = HIGH) -> np.ndarray:
    """The reference: from values to 0..1."""
    with np.errstate(over="ignore", invalid="ignore"):
        t = np.clip((data.astype(float) - low) / (high - low), 0, 1)
    name = stretch["name"]
    if name == "log":
        return np.log1p(1000 * t) / np.log1p(1000)
    if name == "sqrt":
        return np.sqrt(t)
    if name == "asinh":
        return np.arcsinh(stretch["q"] * t) / np.arcsinh(stretch["q"])
    if name == "power":
        return t ** stretch["gamma"]
    if name == "equalise":
        inside = data[np.isfinite(data)].astype(float)
        bins = np.floor((inside - low) * BINS / (high - low))
        counts = np.bincount(bins[(bins >= 0) & (bins < BINS)].astype(int), minlength=BINS)
        table = (np.cumsum(counts) - counts / 2) / counts.sum()
        return table[np.minimum(BINS - 1, np.floor(np.nan_to_num(t) * BINS)).astype(int)]
    return t


def nearly(seen: np.ndarray, data: np.ndarray, part: np.ndarray, lut: np.ndarray) -> np.ndarray:
    """Whether a colour is that of the step, or of a neighbour where float32 may round otherwise."""
    exact = np.nan_to_num(part) * 256
    near = np.zeros(seen.shape[:2], bool)
    for shift in (-0.01, 0, 0.01):
        step = np.clip(np.floor(exact + shift), 0, 255).astype(int)
        near |= (np.abs(seen - lut[step]) <= 1).all(axis=2)
    return near | np.isnan(data)


STRETCHES = [
    {"name": "linear"},
    {"name": "log"},
    {"name": "sqrt"},
    {"name": "asinh", "q": 8},
    {"name": "asinh", "q": 100},
    {"name": "power", "gamma": 2},
    {"name": "power", "gamma": 0.5},
    {"name": "equalise"},
]


def test_stretches_and_colours_are_those_of_the_reference(
    painted: Page, serve: Callable[..., Any], until: Until
) -> None:
    data = image()
    opened(painted, serve(data, np.clip(np.nan_to_num(data), 0, 65535).astype(np.uint16)).url, until)
    assert painted.evaluate("__calibrant.app.stage.renderer.kind") == painted.kind  # type: ignore[attr-defined]
    limits = {"mode": "typed", "low": LOW, "high": HIGH}
    grey = np.repeat(np.arange(256)[:, None], 3, axis=1)
    for stretch in STRETCHES:
        seen = colours(painted, {"stretch": stretch, "limits": limits})
        assert nearly(seen, data, fraction(data, stretch), grey).all(), stretch
        # The test can fail: the same picture is not that of a stretch that is a little steeper.
        assert not nearly(seen, data, fraction(data, stretch) ** 1.05, grey).all(), stretch
    for name, theirs in MAPS.items():
        lut = np.round(
            matplotlib.colormaps["gray" if theirs == "grey" else theirs](np.arange(256))[:, :3] * 255
        )
        for invert in (False, True):
            patch = {"stretch": {"name": "linear"}, "colours": {"map": name, "invert": invert}}
            seen = colours(painted, patch)
            shown = lut[::-1] if invert else lut
            assert nearly(seen, data, fraction(data, {"name": "linear"}), shown).all(), name
            nan = seen[np.isnan(data)]
            assert (nan == nan[0]).all()
            assert np.abs(lut - nan[0]).sum(axis=1).min() > 24, "NaN has a colour of its own"
    painted.evaluate("__calibrant.app.page({current: 2})")
    until(painted, IDLE)
    whole = np.clip(np.nan_to_num(data), 0, 65535).astype(np.uint16)
    seen = colours(painted, {"limits": limits, "stretch": {"name": "sqrt"}}, 2)
    assert nearly(seen, whole, fraction(whole, {"name": "sqrt"}), grey).all()


def test_masks_no_data_and_constant_images(painted: Page, serve: Callable[..., Any], until: Until) -> None:
    data = np.full((ROWS, COLS), 500, np.float32)
    dq = np.zeros((ROWS, COLS), np.uint32)
    dq[10:20, 10:20] = DQ.HOT | DQ.DO_NOT_USE
    dq[30:40, 10:20] = DQ.SATURATED
    dq[50:60, 10:20] = DQ.DO_NOT_USE | DQ.NON_SCIENCE
    dq[70:75, 10:20] = DQ.REFERENCE_PIXEL
    opened(painted, serve(Frame(data, dq=dq)).url, until)
    legend = painted.evaluate("__calibrant.app.meta(1).dq")
    tint = {one["name"]: np.array([int(one["colour"][i : i + 2], 16) for i in (1, 3, 5)]) for one in legend}
    limits = {"mode": "typed", "low": 0, "high": 1000}
    seen = colours(painted, {"limits": limits, "masks": {"alpha": 0.25}})
    grey = np.array([128.0] * 3)
    for row, names in ((15, ("DO_NOT_USE", "HOT")), (35, ("SATURATED",)), (72, ("REFERENCE_PIXEL",))):
        expected = grey
        for name in names:
            expected = 0.75 * expected + 0.25 * tint[name]
        assert np.abs(seen[row, 12] - expected).max() <= 1.5, names
    assert (seen[80, 80] == 128).all()
    none = seen[55, 15]
    assert none.tolist() == painted.evaluate(
        "import('/static/viewer/colours.js').then((m) => m.blanks('grey').none)"
    )
    off = colours(painted, {"masks": {"shown": {"HOT": False, "DO_NOT_USE": False, "SATURATED": False}}})
    assert (off[15, 15] == 128).all() and (off[35, 15] == 128).all()
    assert (off[55, 15] == none).all(), "what holds no data never looks like data"
    constant = colours(painted, {"limits": {"mode": "minmax"}})
    assert (constant[80, 80] == 128).all(), "a constant image is grey, neither black nor white"


def test_tiles_meet_without_a_seam_and_peaks_stay_when_zoomed_out(
    painted: Page, serve: Callable[..., Any], until: Until
) -> None:
    generator = np.random.default_rng(5)
    data = generator.normal(100, 3, (1500, 1300)).astype(np.float32)
    data[700, 333] = 5000
    opened(painted, serve(data).url, until)
    limits = {"mode": "typed", "low": 85, "high": 115}
    painted.evaluate(
        "(limits) => __calibrant.app.set({limits, view: {fit: false, zoom: 1, row: 511.5, col: 511.5}})",
        limits,
    )
    until(painted, IDLE)
    corner = data[472:552, 472:552]
    seen = screen(painted, 472, 472, 80, 80)
    grey = np.repeat(np.arange(256)[:, None], 3, axis=1)
    assert nearly(seen, corner, fraction(corner, {"name": "linear"}, 85, 115), grey).all()

    def brightest(pyramid: str) -> int:
        look = {
            "pyramid": pyramid,
            "view": {"fit": True},
            "limits": {"mode": "typed", "low": 0, "high": 5000},
        }
        painted.evaluate("(look) => __calibrant.app.set(look)", look)
        until(painted, IDLE)
        return painted.evaluate(
            """() => { const { cell } = __calibrant.app.stage.shown[0];
            const all = __calibrant.colours(cell.x, cell.y, cell.w, cell.h);
            let most = 0;
            for (let i = 0; i < all.length; i += 4) if (all[i] === all[i + 2]) most = Math.max(most, all[i]);
            return most }"""
        )

    assert brightest("peak") == 255
    assert brightest("mean") < 100
    look = {
        "view": {"fit": False, "zoom": 0.1},
        "stretch": {"name": "equalise"},
        "limits": {"mode": "minmax"},
    }
    forget = "__calibrant.app.tiles.drop(__calibrant.app.frame().image)"
    painted.evaluate(
        f"(look) => {{ {forget}; __calibrant.app.equalisers.clear(); __calibrant.app.set(look) }}", look
    )
    until(painted, IDLE)
    shares = painted.evaluate(
        """() => { const { app } = __calibrant, frame = app.frame();
        return [...app.equal(frame, app.source(frame), app.limits(frame))] }"""
    )
    assert shares[100] > 0.9, "nearly all pixels lie in the first bins, seen from however far"


def test_smooth_difference_and_ratio_are_those_of_numpy(
    painted: Page, serve: Callable[..., Any], until: Until
) -> None:
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(6)
    one = generator.normal(100, 10, (600, 560)).astype(np.float32)
    other = generator.normal(50, 5, (600, 560)).astype(np.float32)
    one[300:303, 200:203] = np.nan
    opened(painted, serve(one, other).url, until)
    grey = np.repeat(np.arange(256)[:, None], 3, axis=1)
    box = np.s_[480:560, 480:560]

    def seen(patch: dict[str, Any]) -> np.ndarray:
        view = {"fit": False, "zoom": 1, "row": 520, "col": 520}
        painted.evaluate("(patch) => __calibrant.app.set(patch)", {**patch, "view": view})
        until(painted, IDLE)
        return screen(painted, 480, 480, 80, 80)

    def agrees(patch: dict[str, Any], values: np.ndarray, low: float, high: float) -> bool:
        found = seen({"limits": {"mode": "typed", "low": low, "high": high}, **patch})
        return bool(nearly(found, values, fraction(values, {"name": "linear"}, low, high), grey).all())

    none = {"against": None, "smooth": 0}
    assert agrees({**none, "against": {"frame": 2, "kind": "difference"}}, (one - other)[box], 20, 80)
    assert agrees({**none, "against": {"frame": 2, "kind": "ratio"}}, (one / other)[box], 1, 3)
    assert not agrees({**none, "against": {"frame": 2, "kind": "ratio"}}, (one - other)[box], 1, 3)
    good = np.isfinite(one)
    weight = gaussian_filter(good.astype(float), 2.5, mode="constant", truncate=4)
    smooth = gaussian_filter(np.where(good, one, 0).astype(float), 2.5, mode="constant", truncate=4) / weight
    assert agrees({**none, "smooth": 2.5}, smooth[box], 90, 110)


def test_a_lost_context_comes_back_or_canvas2d_takes_over(
    page: Page, serve: Callable[..., Any], until: Until
) -> None:
    data = image()
    opened(page, serve(data).url, until)
    before = colours(page)
    lose = "window.gone = __calibrant.app.stage.renderer.gl.getExtension('WEBGL_lose_context')"
    lose += "; gone.loseContext()"
    page.evaluate(lose)
    until(page, "__calibrant.app.stage.renderer.gl.isContextLost()")
    page.evaluate("gone.restoreContext()")
    until(page, "!__calibrant.app.stage.renderer.gl.isContextLost()")
    page.wait_for_timeout(50)
    assert (colours(page) == before).all()
    page.evaluate(lose)
    until(page, "__calibrant.app.stage.renderer.kind === 'canvas2d'")
    assert np.abs(colours(page) - before).max() <= 1
