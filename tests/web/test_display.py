"""Display: frames from Python, served by this process, and gone with the last one."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import httpx2 as httpx
import numpy as np
import pytest

import calibrant
from calibrant.errors import OptionError
from calibrant.frame import Exposure, Frame
from calibrant.product import Product, Quantity
from calibrant.web.display import Display


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)  # idle workers are told to end, and do so in their own time
    assert set(threading.enumerate()) <= before


@pytest.fixture
def display() -> Iterator[Display]:
    with Display(frame=2) as found:
        yield found


def session(display: Display) -> dict:
    return httpx.get(display.url.partition("#")[0] + "api/session", trust_env=False).json()


def frame(display: Display) -> dict:
    return next(one for one in session(display)["frames"] if one["number"] == display.frame)


def test_it_is_public_and_of_this_machine(display: Display) -> None:
    assert calibrant.Display is Display
    assert display.url.startswith("http://127.0.0.1:") and display.url.endswith("#current=2")
    assert httpx.get(display.url, trust_env=False).status_code == 200


def test_all_displays_share_a_server_that_ends_with_the_last() -> None:
    one, two, again = Display(), Display(2), Display(2)
    url = one.url.partition("#")[0]
    assert two.url.partition("#")[0] == url
    two.show(np.ones((3, 3)))
    two.close()
    assert again.url and len(session(again)["images"]) == 1  # the frame is still held
    again.close()
    assert session(one)["images"] == [] and [f["number"] for f in session(one)["frames"]] == [1]
    one.close()
    one.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)
    with pytest.raises(OptionError, match="closed"):
        one.show(np.ones((2, 2)))
    assert "closed" in repr(one) and "closed" in one._repr_html_()
    with Display() as anew:
        assert httpx.get(anew.url, trust_env=False).status_code == 200


def test_what_is_shown_is_served_to_the_last_bit(display: Display) -> None:
    image = np.random.default_rng(1).normal(0, 1, (40, 50)).astype(np.float32)
    display.mtv(image, title="noise")
    found = session(display)["images"][0]
    assert found["name"] == "noise" and found["shape"] == [40, 50]
    tile = httpx.get(
        f"{display.url.partition('#')[0]}api/images/{found['id']}/tiles/data/0/0/0/0", trust_env=False
    )
    np.testing.assert_array_equal(np.frombuffer(tile.content, "<f4").reshape(40, 50), image)


def test_frames_and_products_are_shown(display: Display) -> None:
    display.show(Frame(np.ones((4, 5)), exposure=Exposure(kind="flat", path="/data/night/flat1.fits")))
    assert session(display)["images"][0]["name"] == "flat1.fits"
    display.show(Product("bias", planes={"data": np.ones((4, 5)), "kernel": np.ones((2, 2))}))
    assert len(session(display)["images"]) == 2
    display.show(Product("gain", quantities=(Quantity("gain", 1.5),)))
    image = session(display)["images"][0]["id"]
    meta = httpx.get(f"{display.url.partition('#')[0]}api/images/{image}", trust_env=False).json()
    assert "no image" in meta["message"]


def test_the_look_stays_and_old_images_go(display: Display) -> None:
    display.show(np.ones((4, 5)))
    display.scale("asinh", "zscale", q=10).zoom(4, 1, 2).mask_transparency(30).dot("+", 1, 2, colour="red")
    display.dot("here", 3, 4)
    view = frame(display)["view"]
    assert view["stretch"] == {"name": "asinh", "q": 10} and view["limits"] == {"mode": "zscale"}
    assert view["view"] == {"zoom": 4, "fit": False, "row": 1, "col": 2}
    assert view["masks"] == {"alpha": pytest.approx(0.7)}
    assert view["marks"] == [
        {"row": 1, "col": 2, "size": 2, "symbol": "+", "colour": "red"},
        {"row": 3, "col": 4, "size": 2, "symbol": "text", "text": "here"},
    ]
    first = frame(display)["image"]
    display.show(np.zeros((4, 5)))
    after = frame(display)
    assert after["image"] != first and len(session(display)["images"]) == 1
    assert {name: after["view"][name] for name in ("stretch", "limits", "view", "masks")} == {
        name: view[name] for name in ("stretch", "limits", "view", "masks")
    }
    assert after["view"]["marks"] == []


def test_limits(display: Display) -> None:
    for asked, said in (
        (("linear", 1, 5), {"mode": "typed", "low": 1, "high": 5}),
        (("log", "percentile", 98), {"mode": "percentile", "percent": 98}),
        (("sqrt", "sigma", 4), {"mode": "sigma", "sigma": 4}),
        (("power", "minmax"), {"mode": "minmax"}),
    ):
        display.scale(*asked)
        found = frame(display)["view"]
        assert {name: found["limits"][name] for name in said} == said
        assert found["stretch"]["name"] == asked[0]
    assert display.pan(5, 6).zoom().erase() is display
    assert frame(display)["view"]["view"]["fit"] is True


@pytest.mark.parametrize(
    "ask",
    [
        lambda d: d.scale("loglog"), lambda d: d.scale("log", "most"), lambda d: d.scale("log", 5, 1),
        lambda d: d.scale("log", 5), lambda d: d.scale("log", "zscale", 5), lambda d: d.scale("asinh", q=0),
        lambda d: d.zoom(0), lambda d: d.zoom(math.inf), lambda d: d.pan(math.nan, 1),
        lambda d: d.dot("o", "x", 1), lambda d: d.dot("o", 1, 1, size=-1), lambda d: d.show("a picture"),
        lambda d: d.mask_transparency(101),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_changes_nothing(display: Display, ask) -> None:
    before = session(display)
    with pytest.raises(OptionError):
        ask(display)
    assert session(display) == before


@pytest.mark.parametrize("number", [0, -1, 1.5, "1", True])
def test_frames_are_numbered_from_1(number: object) -> None:
    with pytest.raises(OptionError, match="numbered"):
        Display(number)  # type: ignore[arg-type]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibrant.web.find_spec", lambda name: None)
    with pytest.raises(OptionError, match="not installed"):
        Display()


def test_a_notebook_holds_the_page(display: Display) -> None:
    html = display._repr_html_()
    assert html.startswith("<iframe ") and f'src="{display.url}"' in html
    headers = httpx.get(display.url, trust_env=False).headers
    assert (
        "frame-ancestors 'self' http://127.0.0.1:* http://localhost:*" in headers["content-security-policy"]
    )


@pytest.mark.parametrize(
    "thing",
    [
        Frame(np.full((3, 3), np.nan)), Frame(np.ones((1, 1))), Frame(np.ones((2, 3, 4, 5), np.uint16)),
        Product("gain", quantities=(Quantity("gain", 1.5, None, "electron/adu", "A"),)),
        Product("defects", planes={"dq": np.ones((3, 4), np.uint32)}),
        Product("bias", planes={"data": np.ones((3, 3))}),
        Product("curve", planes={"data": np.ones(5)}), Product("ptc", tables={"points": {"x": np.ones(3)}}),
        Product("read_noise", planes={"read_noise": np.ones((3, 3))}),
    ],
    ids=lambda thing: getattr(thing, "kind", "frame"),
)  # fmt: skip
def test_frames_and_products_show_themselves(thing: Frame | Product) -> None:
    assert thing._repr_html_().startswith("<div")
