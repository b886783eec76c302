"""The routes: what the contract promises, with the right statuses, over a real connection."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest

from calibrant.files.fits import write_raw
from calibrant.frame import DQ, Frame
from calibrant.web import api, app
from calibrant.web.app import static_table

IMAGE = np.random.default_rng(3).normal(1000, 20, (600, 700)).astype(np.float32)
IMAGE[5, 6] = np.nan


@pytest.fixture
def client(serve: Callable) -> Iterator[httpx.Client]:
    dq = np.zeros(IMAGE.shape, np.uint32)
    dq[5, 6] = DQ.DO_NOT_USE
    served = serve(Frame(IMAGE, variance=IMAGE**2, dq=dq), np.ones((2, 3, 20, 30), np.uint16))
    with httpx.Client(base_url=served.url, trust_env=False) as found:
        found.headers["x-images"] = ",".join(served.images)
        yield found


def images(client: httpx.Client) -> list[str]:
    return client.headers["x-images"].split(",")


def test_the_session(client: httpx.Client) -> None:
    found = client.get("/api/session").json()
    assert set(found) >= {"revision", "title", "frames", "images", "registry", "focal", "current"}
    assert [frame["number"] for frame in found["frames"]] == [1, 2]
    assert [one["id"] for one in found["images"]] == images(client)
    assert found["images"][1]["reads"] == 6 and found["images"][1]["shape"] == [20, 30]


def test_everything_about_an_image(client: httpx.Client) -> None:
    image = images(client)[0]
    meta = client.get(f"/api/images/{image}").json()
    assert set(meta) >= {
        "id", "name", "kind", "shape", "reads", "unit", "dtype", "version", "tile", "levels", "planes",
        "limits", "amplifiers", "dq", "sky", "exposure", "quantities", "message",
    }  # fmt: skip
    assert meta["shape"] == [600, 700] and meta["tile"] == 512
    assert meta["levels"] == [
        {"level": 0, "rows": 600, "cols": 700}, {"level": 1, "rows": 300, "cols": 350},
        {"level": 2, "rows": 150, "cols": 175},
    ]  # fmt: skip
    assert meta["limits"]["zscale"][0] < 1000 < meta["limits"]["zscale"][1]
    for part in ("limits", "statistics", "histogram", "header", "provenance"):
        assert client.get(f"/api/images/{image}/{part}", params={"plane": "variance"}).status_code == 200
    pixel = client.get(f"/api/images/{image}/pixel", params={"row": 5, "col": 6}).json()
    assert pixel["planes"]["data"]["value"] is None and pixel["dq"]["names"] == ["DO_NOT_USE"]
    exact = client.get(f"/api/images/{image}/pixel", params={"row": 7, "col": 8}).json()["planes"]["data"]
    assert np.float32(exact["text"]) == np.float32(exact["value"]) == IMAGE[7, 8]
    cut = client.get(f"/api/images/{image}/cut", params={"row": 5}).json()
    assert cut["start"] == 0 and cut["values"][6] is None and len(cut["values"]) == 700
    box = client.get(f"/api/images/{image}/statistics", params={"rows": "0,10", "cols": "0,10"}).json()
    assert box["n"] == 99 and box["not_finite"] == 1
    ramp = client.get(f"/api/images/{images(client)[1]}/ramp", params={"row": 1, "col": 1}).json()
    assert ramp["values"] == [1] * 6 and ramp["axes"] == [2, 3]


def test_tiles_have_their_headers_and_are_kept(client: httpx.Client) -> None:
    image = images(client)[0]
    version = client.get(f"/api/images/{image}").json()["version"]
    target = f"/api/images/{image}/tiles/data/0/0/1/1"
    answer = client.get(target, params={"v": version})
    assert (answer.headers["x-shape"], answer.headers["x-encoding"]) == ("88,188", "f4")
    assert answer.headers["cache-control"] == api.FOREVER
    np.testing.assert_array_equal(np.frombuffer(answer.content, "<f4").reshape(88, 188), IMAGE[512:, 512:])
    again = client.get(target, params={"v": version}, headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304 and again.content == b""
    assert "immutable" not in client.get(target).headers["cache-control"]
    head = client.head(target, params={"v": version})
    assert head.content == b"" and int(head.headers["content-length"]) == 88 * 188 * 4
    wrong = client.get(target, params={"v": "0123"})
    assert wrong.status_code == 409 and "open it again" in wrong.json()["error"]["sentence"]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("x", 404), ("{}/tiles/none/0/0/0/0", 404), ("{}/tiles/data/0/0/9/9", 404),
        ("{}/tiles/data/0/x/0/0", 400),
        ("{}/pixel", 400), ("{}/pixel?row=1", 400), ("{}/pixel?row=a&col=1", 400),
        ("{}/pixel?row=600&col=0", 404),
        ("{}/pixel?row=-1&col=0", 404), ("{}/pixel?row=0&col=0&read=1", 404), ("{}/limits?plane=x", 404),
        ("{}/statistics?rows=5,1", 400), ("{}/statistics?rows=0,9999", 400), ("{}/statistics?rows=1", 400),
        ("{}/histogram?bins=0", 400), ("{}/histogram?low=nan", 400), ("{}/histogram?low=5&high=1", 400),
        ("{}/cut", 400), ("{}/cut?row=1&col=1", 400), ("{}/cut?row=600", 404), ("{}/line?from=1,1", 400),
        ("{}/line?from=1,1&to=1e9,1", 400), ("{}/line?from=1,1&to=2,2&width=9999", 400),
        ("{}/ramp?row=0", 400),
        ("{}/nothing", 404), ("{}/limits?read=1", 404),
    ],
)  # fmt: skip
def test_what_makes_no_sense_has_a_sentence(client: httpx.Client, target: str, status: int) -> None:
    answer = client.get(f"/api/images/{target.format(images(client)[0])}")
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["sentence"].endswith(".")


def test_a_file_that_changes_under_the_page(serve: Callable, tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    write_raw(path, IMAGE)
    served = serve(path)
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        image = served.images[0]
        version = client.get(f"/api/images/{image}").json()["version"]
        tile = f"/api/images/{image}/tiles/data/0/0/0/0?v={version}"
        assert client.get(tile).status_code == 200
        os.utime(path, ns=(1, 1))
        for target in (tile, f"/api/images/{image}/pixel?row=1&col=1", f"/api/images/{image}/statistics"):
            answer = client.get(target)
            assert answer.status_code == 409 and "was changed" in answer.json()["error"]["sentence"]
            assert str(tmp_path) not in answer.text
        new = client.get(f"/api/images/{image}").json()["version"]
        assert new != version
        assert client.get(tile).status_code == 409  # it asks for the pixels that were
        assert client.get(tile.replace(version, new)).status_code == 200
        path.unlink()
        answer = client.get(tile.replace(version, new))
        assert answer.status_code == 410 and str(tmp_path) not in answer.text


def test_events_say_when_something_changed(serve: Callable) -> None:
    served = serve(np.ones((4, 4)))
    with (
        httpx.Client(base_url=served.url, trust_env=False, timeout=10) as client,
        client.stream("GET", "/api/events") as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        first = json.loads(next(lines)[6:])["revision"]
        served.session.look(1, stretch={"name": "log"})
        assert json.loads(next(lines)[6:])["revision"] == first + 1


def test_many_pages_leave_connections_for_pixels(serve: Callable) -> None:
    """A browser has six for a server: all streams of events but three end when they said theirs."""
    served, kept = serve(np.ones((4, 4))), []
    with httpx.Client(base_url=served.url, trust_env=False, timeout=10) as client, ExitStack() as stack:
        for _ in range(3):
            kept.append(stack.enter_context(client.stream("GET", "/api/events")).iter_lines())
            assert any(line.startswith("data:") for line in kept[-1])
        text = client.get("/api/events").text  # it ends
        assert text == f'retry: {api.AGAIN}\n\ndata: {{"revision": {served.session.revision}}}\n\n'


def test_only_packaged_files_are_static(serve: Callable, tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("1")
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "link.js").symlink_to("/etc/hostname")
    assert list(static_table(tmp_path)) == ["a.js"]
    table = static_table()
    assert app.PAGE in table
    served = serve(np.ones((4, 4)))
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        for name, path in table.items():
            answer = client.get(f"/static/{name}")
            assert answer.status_code == 200 and answer.content == path.read_bytes()
            assert answer.headers["content-type"] == app.TYPES[path.suffix]
        etag = {"if-none-match": answer.headers["etag"]}
        assert client.get(f"/static/{name}", headers=etag).status_code == 304
        assert client.get("/").text == table[app.PAGE].read_text()


def test_a_fault_of_ours_is_one_sentence(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(np.ones((4, 4)))
    monkeypatch.setattr(api.describe, "summary", lambda entry: 1 / 0)
    answer = httpx.get(f"{served.url}api/session", trust_env=False)
    assert answer.status_code == 500
    assert answer.json()["error"]["sentence"] == "this is a fault of the viewer (ZeroDivisionError)."
