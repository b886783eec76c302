"""Page: products, what was found of them, and the run that made them, as one HTML file that needs no other.

It asks nothing of the network: style, script and pictures stand in it, and its Content-Security-Policy lets
nothing else run, so that text of a header cannot either.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from calibrant.errors import CalibrantError
from calibrant.product import Product
from calibrant.report import verdicts, words
from calibrant.report.charts import Chart, single, together
from calibrant.report.matter import Run, Subject
from calibrant.report.pictures import BUDGET, Gallery, Image
from calibrant.report.sections import FRAME_HEADS, Told, frames, tell
from calibrant.report.svg import COLOURS, svg
from calibrant.report.tables import tables
from calibrant.report.trends import trends

FOLD = 12
"""Products that pass and are told one by one; more of them are folded away."""
MARKS = {verdicts.PASS: "✓", verdicts.ATTENTION: "!", verdicts.FAIL: "✗", verdicts.OPEN: "?"}
GENERATOR = "Calibrant report"
"""How a page of ours is told from others."""
PICTURES = {
    "sequence.png": "A frame on its way: each step of its calibration",
    "histogram.png": "Distribution of its pixels before and after calibration",
}
"""Pictures of a reduction, drawn before, that the page takes in."""
FACTS = ("instrument", "recipe", "folder", "out", "exposures", "version")
"""Of the summary that the page says."""
DIGITS, LISTED = 6, 6
"""Of numbers; values of a list that are shown."""


def page(
    products: Iterable[Product | Subject],
    *,
    title: str = "",
    run: Run | None = None,
    created: str = "",
    budget: int = BUDGET,
) -> str:
    """The report as one HTML file.

    Parameters
    ----------
    products : iterable of Product or Subject
        Products in memory, or what says where they are and what was found of them. One after another is
        read, told of, and let go; one that cannot be read costs a line. Names told before get a number.
    title : str
    run : Run, optional
        What made them.
    created : str
        When the report was made, as it is to be printed.
    budget : int
        Bytes of all pictures.

    Returns
    -------
    str
        HTML, UTF-8.
    """
    run = Run() if run is None else run
    gallery = Gallery(budget)
    told, problems = _told(products, gallery)
    calibrated = frames(run, run.entries("frames"), gallery)
    drawn = _charts(told, run)
    context = {
        "generator": GENERATOR,
        "title": title or "Calibration report",
        "created": created,
        "run": {name: run.summary.get(name) for name in FACTS},
        "tally": verdicts.tally(one.standing for one in told),
        "told": told,
        "judged": sorted(told, key=lambda one: verdicts.ORDER_OF_TABLE.index(one.standing.word)),
        "masters": [one for one in told if one.has_pixels],
        "tables": list(tables([one.numbers for one in told])),
        "charts": [(chart, svg(chart)) for chart in drawn],
        "figures": [*_figures(told, run, gallery), *_pictures(run, gallery)],
        "compared": [one.compared for one in told if one.compared is not None],
        "frames": calibrated,
        "frame_heads": FRAME_HEADS,
        "stock": [_stocked(entry) for entry in run.entries("stock")],
        "versions": _versions(told),
        "names": {one.identity: one.name for one in told},
        "warnings": _warnings(run, told),
        "problems": [*run.problems, *problems, *_left_out(run)],
        "gallery": gallery,
        "registry": run.registry,
        "fold": FOLD,
        **_code(drawn),
    }
    return _environment().get_template("report.html").render(context)


def _told(products: Iterable[Product | Subject], gallery: Gallery) -> tuple[list[Told], list[str]]:
    """Each product, and sentences on those that cannot be read; names are told once."""
    found: list[Told] = []
    problems = []
    borne: Counter[str] = Counter()
    for one in products:
        subject = Subject.of(one) if isinstance(one, Product) else one
        borne[subject.name] += 1
        if borne[subject.name] > 1:
            subject = replace(subject, name=f"{subject.name} ({borne[subject.name]})")
        try:
            found.append(tell(subject, gallery))
        except CalibrantError as error:
            problems.append(f"{subject.file or subject.name}: {error}")
    return found, problems


def _charts(told: Sequence[Told], run: Run) -> list[Chart]:
    """Those of one curve are put together by kind; those of amplifiers say whose they are."""
    shared = [(one.kind, chart) for one in told if single(one.outline) for chart in one.charts]
    own = [
        replace(chart, title=f"{one.name}: {chart.title[0].lower()}{chart.title[1:]}")
        for one in told
        if not single(one.outline)
        for chart in one.charts
    ]
    history = [] if run.registry is None else trends(run.registry, told)
    return [*together(shared), *own, *history]


def _figures(told: Sequence[Told], run: Run, gallery: Gallery) -> list[Image]:
    """Of each product, then those of the detectors of a focal plane together."""
    found = [image for one in told for image in one.figures]
    if run.instrument is not None:
        from calibrant.report.plots import together as side_by_side

        for kind in dict.fromkeys(one.kind for one in told):
            several = [one.outline for one in told if one.kind == kind]
            for word, make in side_by_side(several, run.instrument).items():
                image = gallery.figure(make, f"{words.plain(kind)}: {words.plain(word)}")
                found += [] if image is None else [image]
    return found


def _pictures(run: Run, gallery: Gallery) -> list[Image]:
    if run.folder is None or not run.entries("frames"):
        return []
    drawn = (gallery.file(run.folder / "plots" / name, alt) for name, alt in PICTURES.items())
    return [image for image in drawn if image is not None]


def _versions(told: Sequence[Told]) -> dict[str, list[str]]:
    """Software: name -> its versions among the products."""
    found: dict[str, list[str]] = {}
    for one in told:
        for name, version in one.provenance.versions.items():
            known = found.setdefault(str(name), [])
            known += [] if str(version) in known else [str(version)]
    return found


def _stocked(entry: Mapping[str, Any]) -> dict[str, str]:
    """A master that a registry gave, in words."""
    edges = [str(entry.get(edge) or "…")[:19].replace("T", " ") for edge in ("begin", "end")]
    return {
        "name": str(entry.get("name")),
        "identity": words.short(str(entry.get("identity"))),
        "tag": str(entry.get("tag") or words.UNKNOWN),
        "validity": "always" if edges == ["…", "…"] else f"{edges[0]} to {edges[1]}",
    }


def _warnings(run: Run, told: Sequence[Told]) -> list[str]:
    """Of the run, and of products that no summary speaks for; each sentence once."""
    said = [str(warning) for warning in run.entries("warnings")]
    if not said:
        notes: dict[str, list[str]] = {}
        for one in told:
            for note in one.provenance.notes:
                notes.setdefault(note, []).append(one.name)
        said = [f"{words.listed(names)}: {note}" for note, names in notes.items()]
    return list(dict.fromkeys([*run.notes, *said]))


def _left_out(run: Run) -> list[str]:
    """What the run could not use, and what frames went without."""
    found = [str(entry.get("problem", entry)) for entry in run.entries("problems")]
    lacks: dict[str, list[str]] = {}
    for entry in run.entries("missing"):
        lacks.setdefault(str(entry.get("kind")), []).append(str(entry.get("frame")))
    return [*found, *(f"without {kind}: {words.listed(names)}" for kind, names in lacks.items())]


# --- what stands in the page -------------------------------------------------------------------------------


def _code(drawn: Sequence[Chart]) -> dict[str, Any]:
    """Style, script and data; the library for charts only where there are any."""
    style = Markup(_static("report.css") + (_static("uplot/uPlot.min.css") if drawn else ""))
    script = Markup((_static("uplot/uPlot.iife.min.js") + "\n" if drawn else "") + _static("report.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return {
        "style": style,
        "script": script,
        "policy": policy,
        "data": as_data([_plain(one) for one in drawn]),
    }


def _static(name: str) -> str:
    return (resources.files("calibrant.report") / "static" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def as_data(value: Any) -> Markup:
    """JSON that may stand in a ``script`` element whatever its words are."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _plain(chart: Chart) -> Mapping[str, Any]:
    """A chart as JSON values, of six digits."""
    names, (low, high) = chart.names, chart.reach("y")
    span = high - low
    return {
        "words": chart.words,
        "x": chart.xlabel,
        "y": chart.ylabel,
        "xlog": chart.xlog,
        "ylog": chart.ylog,
        "time": chart.time,
        "names": names,
        "reach": [low, high],
        "levels": [[value, word] for value, word in chart.levels],
        "series": [
            {
                "name": names.index(one.name),
                "colour": names.index(one.name) % COLOURS,
                "line": one.line,
                "x": one.x.tolist() if chart.time else _rounded(one.x),
                "y": _rounded(one.y, 0.0 if chart.ylog else span),
                "sigma": None if one.sigma is None else _rounded(one.sigma),
            }
            for one in chart.series
        ],
    }


def _rounded(values: Any, span: float = 0.0) -> list[float | None]:
    """Values of six digits; of curves that vary little, six of what they vary by `span`."""
    places = max(0, DIGITS - 1 - math.floor(math.log10(span))) if span > 0 else None
    return [
        None if not np.isfinite(value)
        else float(f"{value:.{DIGITS}g}") if places is None
        else round(value, places)
        for value in values.tolist()
    ]  # fmt: skip


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("calibrant.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "plain": words.plain,
        "short": words.short,
        "number": words.number,
        "listed": words.listed,
    }
    found.globals |= {"marks": MARKS, "count": words.count, "values": _value}
    return found


def _value(value: Any) -> str:
    """An option as a person reads it: of long lists the beginning, and how many there are."""
    if isinstance(value, (list, tuple)):
        told = ", ".join(_value(one) for one in value[:LISTED])
        return f"[{told}, … {len(value)} values]" if len(value) > LISTED else f"[{told}]"
    if isinstance(value, float):
        return words.number(value, DIGITS)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
