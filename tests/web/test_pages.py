"""The pages of a registry, without a browser: what they tell, in both forms, and what they refuse."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from calibrant.web.pages import ADDRESSES, routes

JSON = {"accept": "application/json"}


def helper() -> object:
    path = Path(__file__).with_name("small_registry.py")
    spec = importlib.util.spec_from_file_location("small_registry", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, str]]]:
    registry, names = helper().filled(tmp_path_factory.mktemp("registry"))
    app = Starlette(routes=routes(registry, lambda keys, mosaic: f"/#{' '.join(keys)}"))
    with TestClient(app) as client, registry:
        yield client, names


def pages(names: dict[str, str]) -> list[str]:
    """Every kind of page once, with content."""
    return [
        "/registry",
        "/registry/products?kind=flat",
        f"/registry/products/{names['flat1']}",
        "/registry/exposures",
        "/registry/explain?kind=flat&time=2023-11-16T04:00Z&filter=R&detector=0&instrument=generic-ccd",
        f"/registry/lineage/{names['flat0']}",
        "/registry/trend?kind=bias&quantity=level",
        f"/registry/compare?a={names['bias0']}&b={names['bias1']}",
    ]


def test_every_page_has_a_twin_at_its_address(known) -> None:
    client, names = known
    assert len(pages(names)) == len(ADDRESSES)
    for address in pages(names):
        page = client.get(address, headers={"accept": "text/html"})
        assert page.status_code == 200, address
        assert page.headers["content-type"].startswith("text/html") and "<h1>" in page.text
        twin = client.get(address, headers=JSON)
        joined = "&" if "?" in address else "?"
        asked = client.get(f"{address}{joined}format=json")
        assert twin.headers["content-type"] == "application/json" and twin.json() == asked.json()


def test_hostile_text_stays_text(known) -> None:
    client, names = known
    page = client.get(f"/registry/products/{names['bias2']}").text
    assert "&lt;b&gt;light&lt;/b&gt; leak" in page and "<b>light" not in page
    asked = client.get("/registry/explain?kind=flat&exposure=%22%3E%3Cscript%3E").text
    assert "<script>" not in asked


def test_the_time_line_has_a_bar_for_each_certification(known) -> None:
    client, _ = known
    page = client.get("/registry/products?kind=flat").text
    bars = re.findall(r'<rect class="bar (\w+)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', page)
    assert [state for state, _, _ in bars] == ["certified", "certified"]
    (_, x0, w0), (_, x1, w1) = bars
    assert float(x0) + float(w0) == pytest.approx(float(x1), abs=0.2)  # one ends where the next begins
    assert float(x1) + float(w1) == pytest.approx(996, abs=0.2)  # and that one is open


def test_what_was_withdrawn_and_what_is_tainted(known) -> None:
    client, names = known
    found = client.get("/registry/products?state=withdrawn", headers=JSON).json()
    assert [entry["identity"] for entry in found["products"]] == [names["bias2"]]
    product = client.get(f"/registry/products/{names['flat0']}", headers=JSON).json()
    assert product["verdict"]["passed"] and product["last_certified"]["identity"] == names["flat1"]
    assert [event["kind"] for event in product["events"]] == ["certified", "verified", "draft"]


def test_an_explanation_names_the_rule(known) -> None:
    client, names = known
    address = "/registry/explain?kind=flat&time=2023-11-16T04:00Z&filter=R&detector=0&instrument=generic-ccd"
    answer = client.get(address, headers=JSON).json()["answer"]
    assert answer["chosen"]["identity"] == names["flat0"]
    assert [line["refusal"] and line["refusal"]["rule"] for line in answer["candidates"]] == [
        None,
        "validity",
    ]
    later = client.get(f"{address.replace('11-16', '12-24')}", headers=JSON).json()["answer"]
    assert later["chosen"]["identity"] == names["flat1"]


def test_a_lineage_goes_back_to_raw_files(known) -> None:
    client, names = known
    found = client.get(f"/registry/lineage/{names['flat0']}", headers=JSON).json()
    assert [node["kind"] for node in found["nodes"]] == ["flat", "bias", "light", "light", "light"]
    assert found["root"] == names["flat0"] and len(found["edges"]) == 5
    page = client.get(f"/registry/lineage/{names['flat0']}").text
    assert f"/registry/lineage/{names['bias0']}" in page and "2 raw" in page


def test_a_trend_is_drawn_with_its_limits(known) -> None:
    client, _ = known
    found = client.get("/registry/trend?kind=flat&quantity=level", headers=JSON).json()
    assert [point["value"] for point in found["points"]] == [5.0, 6.0] and (found["low"], found["high"]) == (
        4.0,
        8.0,
    )
    page = client.get("/registry/trend?kind=flat&quantity=level").text
    assert page.count("<circle") == 2 and page.count('class="limit"') == 2
    gone = client.get("/registry/trend?kind=bias&quantity=level").text
    assert gone.count('class="point s0 gone"') == 1


def test_pictures_and_the_way_to_the_viewer(known) -> None:
    client, names = known
    picture = client.get(f"/registry/pictures/{names['bias0']}")
    assert picture.headers["content-type"] == "image/png" and picture.content[1:4] == b"PNG"
    onward = client.get(f"/registry/view/{names['bias0'][:16]}", follow_redirects=False)
    assert onward.status_code == 303 and onward.headers["location"] == f"/#{names['bias0'][:16]}"
    query = {"a": names["bias0"], "b": names["bias1"]}
    both = client.get("/registry/view", params=query, follow_redirects=False)
    assert both.headers["location"] == f"/#{names['bias0']} {names['bias1']}"


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/registry/products/..%2f..%2fetc%2fpasswd", 404, None),
        ("/registry/products/zzz", 400, "names no product"),
        ("/registry/products/abcdef0123", 404, "no product"),
        ("/registry/view", 400, "names no product"),
        ("/registry/view/%2Fetc%2Fpasswd", 404, None),
        ("/registry/lineage/%2Fetc%2Fpasswd", 404, None),
        ("/registry/compare?a=/etc/passwd&b=x", 400, "names no product"),
        ("/registry/products?kind=flot", 404, "did you mean 'flat'"),
        ("/registry/products?state=lost", 400, "no state"),
        ("/registry/products?offset=-3", 400, "whole number"),
        ("/registry/trend?kind=flat&quantity=levels", 404, "did you mean 'level'"),
        ("/registry/explain?kind=flat&time=yesterday", 400, "yesterday"),
        ("/registry/explain?kind=flat&keys=temperature", 400, "name=value"),
    ],
)
def test_a_bad_question_gets_one_sentence(known, address: str, status: int, words: str | None) -> None:
    client, _ = known
    found = client.get(address, headers=JSON)
    assert found.status_code == status
    if words is not None:
        assert words in found.json()["error"]["sentence"]
        page = client.get(address, headers={"accept": "text/html"})
        assert page.status_code == status and "Traceback" not in page.text and 'role="alert"' in page.text


def test_nothing_can_be_written(known) -> None:
    client, names = known
    for address in pages(names):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert client.request(method, address).status_code == 405
