"""How nouns show themselves in a notebook."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from calibrant.frame import DQ, Applied, Exposure, Frame
from calibrant.product import Product, Provenance, Quantity


class Balanced(HTMLParser):
    """Fails on tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(html: str) -> tuple[str, list[np.ndarray]]:
    parser = Balanced()
    parser.feed(html)
    assert not parser.open
    pictures = []
    for data in re.findall('base64,([^"]*)"', html):
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            pictures.append(np.asarray(picture))
    return " | ".join(parser.words), pictures


def test_a_frame_shows_its_numbers_and_its_picture(field):
    frame = field.after(Applied("bias"), Applied("flat"))
    words, (picture,) = read(frame._repr_html_())
    good = field.data[(field.dq & np.uint32(DQ.DO_NOT_USE)) == 0]
    for told in (
        "M51",
        "120 × 200",
        "e⁻",
        "bias → flat",
        f"{float(np.median(good)):.6g}",
        "HOT 1",
        "JUMP_DET 1",
    ):
        assert told in words
    assert picture.shape == (120, 200, 3)
    assert tuple(picture[120 - 1 - 100, 5]) == (0x6B, 0x4C, 0x9A), "row 0 is at the bottom"


def test_large_frames_are_reduced_and_small_ones_enlarged():
    data = np.zeros((1000, 1500), np.float32)
    data[900:, :300] = 100.0
    html = Frame(data)._repr_html_()
    _, (picture,) = read(html)
    assert picture.shape == (143, 215, 3)
    assert picture[3, 3, 0] > 200 > picture[-3, -3, 0]
    assert len(html) < 100_000
    _, (small,) = read(Frame(np.arange(6.0).reshape(2, 3))._repr_html_())
    assert small.shape == (80, 120, 3)


def test_names_are_escaped_and_empty_frames_told():
    words, _ = read(Frame(np.full((4, 5), np.nan), exposure=Exposure(path='<b>&"x".fit'))._repr_html_())
    assert '<b>&"x".fit' in words
    assert "no data" in words


def test_products_show_keys_quantities_notes_and_identity(bias, defects):
    noted = Product(
        "bias", "camera", bias.keys, planes=bias.planes, units=bias.units, quantities=bias.quantities,
        provenance=Provenance(notes=("made of 3 frames",), inputs=bias.provenance.inputs),
    )  # fmt: skip
    words, pictures = read(noted._repr_html_())
    for told in (
        "Master bias of 10 frames",
        "detector = 0",
        "data 60×80 [ADU]",
        "variance 60×80 [ADU²]",
        "read noise (A) 6.600 ± 0.010 ADU",
        "made of 3 frames",
        noted.identity[:19],
    ):
        assert told in words
    assert len(pictures) == 1
    _, (flags,) = read(defects._repr_html_())
    assert (flags == (0x00, 0x72, 0xB2)).all(axis=2).any()
    words, pictures = read(Product("gain", quantities=(Quantity("gain", 1.9),))._repr_html_())
    assert not pictures
    assert "gain 1.9" in words
