"""The page of a report: what stands in it, in which order, with which units; only its own script runs."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from calibrant.errors import FileError
from calibrant.frame import DQ
from calibrant.product import Input, Product, Provenance, Quantity
from calibrant.registry.records import Entry, Item, Verdict
from calibrant.report.matter import Run, Subject
from calibrant.report.page import as_data, page
from calibrant.report.verdicts import ATTENTION, FAIL, OPEN, PASS

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)"> & "quoted" \'</script>'


class Words(HTMLParser):
    """Elements with their attributes, and the text of each table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def gain(rng: np.random.Generator, **changes) -> Product:
    amplifiers = np.repeat(["C00", "C01"], 8)
    mean = np.tile(np.linspace(1e3, 4e4, 8), 2)
    model = 25 + mean / 1.5
    ptc = {
        "amplifier": amplifiers,
        "mean": mean,
        "variance": model + rng.normal(0, 30, 16),
        "sigma": np.full(16, 30.0),
        "model": model,
        "residual": rng.normal(0, 1, 16),
        "used": np.arange(16) % 8 < 7,
    }
    units = {"ptc.mean": "adu", "ptc.variance": "adu2", "ptc.sigma": "adu2", "ptc.model": "adu2"}
    quantities = [Quantity("gain", 1.5 + 0.01 * k, 0.004, "electron/adu", f"C0{k}") for k in (0, 1)]
    quantities += [Quantity("chi2", 1.1, None, "", f"C0{k}") for k in (0, 1)]
    made = Product("gain", "camera", {"detector": "S00"}, tables={"ptc": ptc}, units=units,
                   quantities=tuple(quantities))  # fmt: skip
    return replace(made, **changes)


@pytest.fixture
def noisy(rng, bias):
    """With a map of its read noise, whose figure takes its time."""
    noise = np.abs(rng.normal(6.7, 1.5, (60, 80))).astype(np.float32)
    return replace(bias, planes={**bias.planes, "read_noise": noise})


@pytest.fixture(name="bias")
def plain_bias(bias):
    return replace(bias, planes={name: bias.planes[name] for name in ("data", "variance")})


@pytest.fixture
def verdict(bias):
    items = (
        Item("level", 0.1, -0.5, 0.5, "sigma"),
        Item("quantity.read_noise", 6.7, 0.0, 8.0, "adu"),
        Item("noise_ratio", 1.02, 0.9, 1.1),
    )
    return Verdict(bias.identity, "bias", items, "ccd", ("a.fits", "b.fits"))


def subject(product, **facts):
    return Subject(product.kind, lambda: product, f"masters/{product.kind}.fits", **facts)


def row(html: str, name: str) -> str:
    """The line of a product in the table of verdicts."""
    table = html[html.index('id="verdicts"') :]
    return next(line for line in table.split("<tr>") if f'<span class="name">{name}</span>' in line)


# --- order, units, completeness ---


def test_sections_come_in_the_order_in_which_they_are_asked_for(bias, rng):
    summary = {"frames": [{"name": "m51", "median": 5.0, "unit": "electron", "noise": 1.0, "flagged": {}}]}
    html = page([bias, gain(rng)], run=Run(summary=summary))
    order = [html.index(f'<section id="{name}"') for name in (
        "verdicts", "masters", "measurements", "plots", "comparison", "frames", "provenance", "warnings"
    )]  # fmt: skip
    assert order == sorted(order)


def test_nothing_is_asked_of_the_network(bias, rng):
    html = page([bias, gain(rng)])
    read = Words(html)
    for tag, attrs in read.found:
        for name in ("src", "href", "srcset", "data", "action"):
            if attrs.get(name):
                assert attrs[name].startswith(("data:", "#")), (tag, attrs)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    (policy,) = [m["content"] for m in read.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_every_quantity_has_its_unit_sigma_limits_and_mark(bias, verdict, rng):
    html = page([subject(bias, verdict=verdict), gain(rng)])
    text = Words(html).text
    assert "gain [e⁻/ADU]" in text and "chi2 [–]" in text and "1.5000 ± 0.0040" in text
    line = next(line for line in html.split("<tr>") if '<th scope="row">read noise</th>' in line)
    assert "ADU" in line and "0 … 8" in line and "✓" in line


def test_a_value_of_frames_marks_no_quantity_of_the_same_name(bias, verdict):
    """The level of verified frames is in sigmas, that of the product in adu: its limits are not its own."""
    html = page([subject(bias, verdict=verdict)])
    line = next(
        line for line in html[html.index('id="measurements"') :].split("<tr>") if ">level</th>" in line
    )
    assert "no limit" in line and "0.5" not in re.sub(r"<[^>]*>", " ", line).split("none")[1]


def test_masters_tell_level_noise_frames_rejected_and_identity(bias):
    html = page([bias])
    card = html[html.index('class="card"') : html.index("</article>")]
    told = dict(re.findall(r"<dt>([^<]*)</dt><dd>(.*?)</dd>", card))
    assert told["frames"] == str(len(bias.provenance.inputs))
    assert "ADU" in told["level"] and "ADU" in told["read noise"]
    assert bias.identity.removeprefix("sha256:")[:12] in told["identity"]
    assert 'src="data:image/png;base64,' in card


def test_rejected_values_are_counted(rng):
    used = np.full((10, 10), 4, np.uint16)
    used[0, :5] = 3
    planes = {"data": rng.normal(0, 1, (10, 10)).astype(np.float32), "count": used}
    inputs = Provenance(inputs=tuple(Input(f"{k}.fits") for k in range(4)))
    html = page([Product("bias", planes=planes, units={"data": "adu"}, provenance=inputs)])
    assert "1.25 % of values" in html


# --- verdicts ---


def standings(html):
    return dict(re.findall(r"<strong>(\d+)</strong> <span>(pass|attention|fail|not verified)", html))


def test_what_nobody_verified_says_so(bias):
    html = page([bias])
    assert "not verified" in row(html, "bias") and "nobody verified it" in row(html, "bias")


def test_a_verdict_that_passes_names_the_value_nearest_to_its_limit(bias, verdict):
    line = row(page([subject(bias, verdict=verdict)]), "bias")
    assert 'class="mark pass"' in line
    assert "all 3 limits kept, the closest by read noise 6.7 ADU (0 … 8)" in line and "on 2 frames" in line


def test_what_the_frames_of_a_verdict_could_not_show_is_told(bias, verdict):
    html = page([subject(bias, verdict=replace(verdict, notes=("all frames are its own",)))])
    assert "all frames are its own" in html[: html.index('id="masters"')]


def test_masters_that_a_registry_gave_are_told(bias):
    entry = {
        "name": "flat_r",
        "identity": "sha256:0123456789abcdef",
        "tag": "DP1",
        "begin": "2024-03-01T12:00:00Z",
    }
    html = page([bias], run=Run(summary={"stock": [entry]}))
    assert "DP1" in html and "0123456789ab" in html and "2024-03-01 12:00:00 to …" in html


def test_a_broken_limit_fails_and_is_told_first(bias, verdict):
    items = (*verdict.items, Item("outliers", 0.5, 0.0, 0.002))
    html = page([subject(bias, verdict=replace(verdict, items=items))])
    line = row(html, "bias")
    assert 'class="mark fail"' in line and "1 of 4 limits broken: outliers 0.5 (0 … 0.002)" in line


def test_what_asks_for_somebody_comes_first(bias, verdict):
    broken = replace(verdict, items=(Item("outliers", 0.5, 0.0, 0.002),))
    several = [subject(bias, verdict=verdict), subject(replace(bias, kind="dark"), verdict=broken)]
    html = page(several)
    table = html[html.index('class="verdicts"') :]
    assert table.index(">dark<") < table.index(">bias<")


def test_what_passes_in_a_long_report_is_folded_away(verdict):
    small = Product("bias", quantities=(Quantity("level", 0.1, 0.1, "adu"),))
    passing = [subject(replace(small, kind=f"bias{n}"), verdict=verdict) for n in range(13)]
    broken = replace(verdict, items=(Item("outliers", 0.5, 0.0, 0.002),))
    html = page([*passing, subject(replace(small, kind="dark"), verdict=broken)])
    verdicts = html[html.index('id="verdicts"') : html.index('id="comparison"')]
    folded = verdicts.index("<summary>13 products")
    assert (
        verdicts.index(">dark<") < folded < verdicts.index(">bias12<") and "Limits of 13 products" in verdicts
    )
    assert "<summary>12 products" not in page(passing[:12])


def test_a_value_that_could_not_be_measured_asks_for_attention(bias, verdict):
    items = (*verdict.items, Item("row_structure", None, -0.1, 0.5, note="no frame fits"))
    line = row(page([subject(bias, verdict=replace(verdict, items=items))]), "bias")
    assert 'class="mark attention"' in line and "row structure, no frame fits" in line


def entry(product, **facts):
    state = {"state": "certified", "verified": True, "validity": (("default", None, None),), **facts}
    return Entry(product.identity, product.kind, product.instrument, product.keys, None, places=(),
                 revision=3, **state)  # fmt: skip


def test_withdrawn_and_tainted_products_are_no_passes(bias, verdict):
    gone = entry(bias, state="withdrawn", validity=(), facts={"withdrawn": "light leak"})
    line = row(page([subject(bias, verdict=verdict, entry=gone)]), "bias")
    assert 'class="mark fail"' in line and "withdrawn from the registry: light leak" in line
    tainted = entry(bias, tainted=("its bias was withdrawn",))
    line = row(page([subject(bias, verdict=verdict, entry=tainted)]), "bias")
    assert 'class="mark attention"' in line and "its bias was withdrawn" in line


def test_a_difference_to_the_reference_asks_for_attention(rng):
    one, other = gain(rng), gain(rng, quantities=(Quantity("gain", 1.2, 0.004, "electron/adu", "C00"),))
    html = page([subject(one, reference=lambda: other, against="last month")])
    assert 'class="mark attention"' in row(html, "gain") and "gain[C00] by" in row(html, "gain")
    section = html[html.index('id="comparison"') :]
    assert "last month" in section and "+53.0 σ" in section
    same = page([subject(one, reference=lambda: one, against="itself")])
    assert 'class="mark not-verified"' in row(same, "gain") and "against itself: agrees" in row(same, "gain")


def test_a_reference_that_cannot_be_compared_costs_a_line(bias, rng):
    html = page([subject(bias, reference=lambda: gain(rng), against="a gain")])
    assert "cannot be compared" in html and 'class="card"' in html


def test_the_own_table_of_a_product_is_a_verdict(rng):
    table = {
        "quantity": np.array(["chi2", "gain"]), "place": np.array(["C00", "C00"]),
        "value": np.array([1.1, 1.5]), "low": np.array([0.0, 0.0]), "high": np.array([1.0, 2.0]),
        "verdict": np.array(["beyond limit", "ok"]),
    }  # fmt: skip
    html = page([gain(rng, tables={"verdict": table})])
    assert 'class="mark fail"' in row(html, "gain") and "beyond their limits: chi2 (C00)" in row(html, "gain")
    assert html.count('aria-label="fail"') == 1 and html.count('aria-label="pass"') == 1


# --- charts and pictures ---


def test_charts_are_drawn_twice_from_the_same_numbers(rng):
    html = page([gain(rng)])
    assert html.count("<svg ") == html.count('class="chart"') == 2
    assert "gain: photon transfer: variance against mean" in html and "variance [ADU²]" in html
    assert "2 points were left out of the fit" in html
    assert "uPlot" in html and '"levels":[]' in html


def test_figures_stand_in_the_page_as_png(noisy):
    html = page([noisy])
    assert 'alt="bias: read noise of each pixel"' in html and html.count("data:image/png;base64,") == 2


def test_a_page_without_charts_carries_no_library(bias):
    html = page([replace(bias, tables={})])
    assert "var uPlot" not in html and "<svg" not in html


def test_pictures_stay_within_their_budget(bias):
    html = page([subject(bias), replace(bias, kind="dark")], budget=9000)
    assert "Not shown, so that the page stays small" in html and len(html) < 150_000


def test_a_product_without_pixels_or_numbers_is_told(rng):
    html = page([Product("oddity", keys={"detector": 3})])
    assert "oddity" in row(html, "oddity") and 'id="masters"' not in html and 'id="measurements"' not in html


def test_a_picture_that_cannot_be_drawn_costs_a_line(rng):
    broken = gain(rng, kind="bad_pixels", tables={"kinds": {"kind": np.array(["hot"])}})
    html = page([broken])
    assert "bad pixels" in html and 'class="mark' in html


# --- bad input ---


def test_numbers_that_are_none_are_told(rng):
    numbers = (
        Quantity("gain", float("nan"), 0.1, "electron/adu"),
        Quantity("rate", float("inf"), None, "adu/s"),
    )
    html = page([Product("gain", quantities=numbers)])
    assert "no number" in html and "∞" in html and not re.search(r"\bnan\b", Words(html).text)


def test_an_image_without_a_number_has_a_card(rng):
    planes = {"data": np.full((8, 8), np.nan, np.float32), "dq": np.full((8, 8), DQ.DO_NOT_USE, np.uint32)}
    html = page([Product("flat", planes=planes)])
    assert "no number [–]" in html and "100 % of pixels" in html


def test_a_file_that_cannot_be_read_is_a_warning(bias):
    def broken():
        raise FileError("the file ends in the middle", where="masters/dark.fits")

    html = page([bias, Subject("dark", broken, "masters/dark.fits")])
    assert "the file ends in the middle" in html[html.index('id="warnings"') :]
    assert "1 product" in html


def test_a_page_of_nothing_is_a_page():
    html = page([])
    assert "There is no product in this report" in html


def test_hostile_words_are_words(bias, rng):
    evil = replace(
        gain(rng), kind=HOSTILE, instrument=HOSTILE, keys={"detector": HOSTILE, HOSTILE: HOSTILE},
        quantities=(Quantity(HOSTILE, 1.0, 0.1, HOSTILE, HOSTILE),),
        provenance=Provenance(HOSTILE, (Input(HOSTILE),), (HOSTILE,), {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE},
                              HOSTILE, (HOSTILE,)),
    )  # fmt: skip
    table = {"name": np.array([HOSTILE] * 3), "level": np.arange(3.0)}
    evil_bias = replace(bias, tables={"frames": table})
    summary = {"warnings": [HOSTILE], "folder": HOSTILE, "instrument": HOSTILE, "recipe": HOSTILE,
               "problems": [{"problem": HOSTILE}], "missing": [{"kind": HOSTILE, "frame": HOSTILE}],
               "frames": [{"name": HOSTILE, "object": HOSTILE, "filter": HOSTILE, "masters": {"a": HOSTILE}}],
               "exposures": {HOSTILE: 3}}  # fmt: skip
    html = page(
        [Subject(HOSTILE, lambda: evil, HOSTILE, why=HOSTILE, against=HOSTILE, reference=lambda: evil),
         Subject(HOSTILE, lambda: evil_bias)],
        title=HOSTILE, run=Run(summary=summary, notes=(HOSTILE,), problems=(HOSTILE,)), created=HOSTILE,
    )  # fmt: skip
    read = Words(html)
    assert len(read.all("script")) == 2, "the data and the script of the page, and nothing else"
    assert not [attrs for _, attrs in read.found if any(name.startswith("on") for name in attrs)]
    assert not [attrs for attrs in read.all("img") if not (attrs.get("src") or "").startswith("data:")]
    assert HOSTILE in read.text


def test_data_cannot_leave_its_element():
    text = str(as_data(["</script><script>", "<!--", "&amp;"]))
    assert "<" not in text and ">" not in text and "&" not in text


def test_words_of_verdicts_are_four():
    assert {PASS, ATTENTION, FAIL, OPEN} == {"pass", "attention", "fail", "not verified"}


def test_no_number_of_the_run_is_invented(tmp_path: Path):
    """A summary of another version, or damaged: what is not there is left out."""
    html = page([], run=Run(tmp_path, {"frames": 3, "warnings": None, "masters": "x"}))
    assert "There is no product" in html
