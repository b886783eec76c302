"""What the tests of pictures share: a field with coordinates, a flagged frame, small masters."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from calibrant.files.cards import format_card
from calibrant.frame import DQ, NO_DATA, Exposure, Frame
from calibrant.product import Input, Product, Provenance, Quantity
from calibrant.report.plots.canvas import encode

TURN = math.radians(12.0)
SCALE = 0.61 / 3600  # degrees per pixel
SKY = {
    "NAXIS1": 200,
    "NAXIS2": 120,
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 202.47,
    "CRVAL2": 47.2,
    "CRPIX1": 100.5,
    "CRPIX2": 60.5,
    "CD1_1": -SCALE * math.cos(TURN),
    "CD1_2": SCALE * math.sin(TURN),
    "CD2_1": SCALE * math.sin(TURN),
    "CD2_2": SCALE * math.cos(TURN),
    "RADECSYS": "FK5",
    "EQUINOX": 2000.0,
    "DATE-OBS": "12/03/98",
}
"""A solved field with two traps: an old name of the system, and an old form of the date."""


def header_of(cards: dict[str, object]) -> str:
    return "".join(format_card(name, value) for name, value in cards.items())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240517)


@pytest.fixture
def field(rng) -> Frame:
    """120 x 200, 300 e- of sky, flags of four kinds, 240 pixels without data, solved."""
    data = rng.normal(300.0, 15.0, (120, 200)).astype(np.float32)
    dq = np.zeros(data.shape, np.uint32)
    dq[10, 20] = DQ.HOT | DQ.DO_NOT_USE
    data[10, 20] = 50_000
    dq[50:53, 60] = DQ.SATURATED
    dq[:, 150] = DQ.DEAD
    dq[80, 30] = DQ.JUMP_DET
    dq[100:102, :120] = NO_DATA
    exposure = Exposure(
        kind="light",
        object="M51",
        duration=300.0,
        temperature=-20.0,
        filter="V",
        path="/night/M51-V-0007.fits",
        start=1_505_000_000_000_000,
    )
    return Frame(data, dq=dq, unit="electron", header=header_of(SKY), exposure=exposure)


@pytest.fixture
def bias(rng) -> Product:
    level = 1000.0 + 0.05 * np.arange(10) + rng.normal(0, 0.02, 10)
    return Product(
        "bias",
        "camera",
        {"detector": "0", "binning": (1, 1), "temperature": -5.25},
        planes={
            "data": rng.normal(1000.0, 2.0, (60, 80)).astype(np.float32),
            "read_noise": np.abs(rng.normal(6.7, 1.5, (60, 80))).astype(np.float32),
            "variance": np.full((60, 80), 4.0, np.float32),
        },
        units={"data": "adu", "read_noise": "adu", "variance": "adu2"},
        tables={"frames": {"level": level, "start": 10**15 + 30_000_000 * np.arange(10)}},
        quantities=(
            Quantity("level", 1000.3, 0.012, "adu"),
            Quantity("read_noise", 6.702, 0.0051, "adu"),
            Quantity("read_noise", 6.6, 0.01, "adu", "A"),
            Quantity("drift", 0.05, 0.003, "adu"),
        ),
        provenance=Provenance("bias", tuple(Input(f"b{i}.fit") for i in range(10))),
    )


@pytest.fixture
def dark(rng) -> Product:
    time = np.array([10.0, 20, 30, 60, 150, 300])
    return Product(
        "dark",
        "camera",
        {"temperature": -5.0},
        planes={"data": rng.exponential(0.3, (60, 80)).astype(np.float32)},
        units={"data": "adu/s"},
        tables={"frames": {"time": time, "median": 0.4 + 0.35 * time}},
        quantities=(
            Quantity("rate", 0.352, 0.001, "adu/s"),
            Quantity("slope", 0.35, 0.002, "adu/s"),
            Quantity("intercept", 0.4, 0.1, "adu"),
        ),
        provenance=Provenance("dark", tuple(Input(f"d{i}.fit") for i in range(6))),
    )


@pytest.fixture
def defects() -> Product:
    dq = np.zeros((60, 80), np.uint32)
    dq[:, 7] = DQ.DEAD
    dq[30, 40] = DQ.HOT
    return Product("defects", "camera", planes={"dq": dq})


def texts(figure: Figure) -> list[str]:
    """All words on a page: its own, and titles, labels and legends of its axes."""
    found = [text.get_text() for text in figure.texts]
    legends = list(figure.legends)
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_title(loc="right"), axes.get_xlabel(), axes.get_ylabel()]
        found += [text.get_text() for text in axes.texts]
        legends += [axes.get_legend()] if axes.get_legend() else []
    return [*found, *(text.get_text() for legend in legends for text in legend.get_texts())]


def said(figure: Figure) -> str:
    return "\n".join(texts(figure))


def pixels_of(figure: Figure, dpi: float = 120) -> np.ndarray:
    """The drawn page, uint8 (rows, cols, 3), first row at the top."""
    with Image.open(io.BytesIO(encode(figure, dpi=dpi))) as picture:
        return np.asarray(picture.convert("RGB"))


def inside(figure: Figure, axes, page: np.ndarray) -> np.ndarray:
    """The pixels of a drawn page that belong to axes, first row at the bottom."""
    tall, wide = page.shape[:2]
    box = axes.get_position()
    rows = slice(round((1 - box.y1) * tall), round((1 - box.y0) * tall))
    return page[rows, round(box.x0 * wide) : round(box.x1 * wide)][::-1]


@pytest.fixture
def seen() -> SimpleNamespace:
    """Ways of looking at a figure, and of making headers."""
    return SimpleNamespace(said=said, texts=texts, pixels=pixels_of, inside=inside, header=header_of, sky=SKY)
