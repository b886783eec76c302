"""Pictures on disk, in threads, and without pyplot."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import calibrant.report.plots as plots
from calibrant.errors import OptionError, OutputExistsError, WriteError
from calibrant.frame import Frame
from calibrant.report.plots.canvas import encode


@pytest.fixture
def figure(field):
    return plots.image(field, sky=False)


@pytest.mark.parametrize(
    ("name", "form", "dpi"), [("a.png", "PNG", 120), ("b.JPG", "JPEG", 100), ("c.jpeg", "JPEG", 150)]
)
def test_png_and_jpeg_of_the_size_asked_for(tmp_path, figure, name, form, dpi):
    path = plots.save(figure, tmp_path / name, dpi)
    with Image.open(path) as picture:
        assert picture.format == form
        expected = np.round(figure.get_size_inches() * dpi)
        assert np.abs(np.array(picture.size) - expected).max() <= 1
        assert np.asarray(picture.convert("L")).std() > 10
        assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_nothing_is_overwritten_unasked(tmp_path, figure):
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        plots.save(figure, path)
    assert path.read_bytes() == b"mine"
    plots.save(figure, path, overwrite=True)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_mistakes_are_named(tmp_path, figure):
    with pytest.raises(OptionError, match=r"\.png, \.jpg"):
        plots.save(figure, tmp_path / "a.gif")
    with pytest.raises(OptionError, match="dpi"):
        plots.save(figure, tmp_path / "a.png", dpi=0)
    with pytest.raises(WriteError, match="folder"):
        plots.save(figure, tmp_path / "no" / "a.png")
    assert not list(tmp_path.iterdir())


def test_the_same_figure_gives_the_same_bytes(field):
    assert encode(plots.image(field)) == encode(plots.image(field))


def test_threads_draw_what_one_thread_draws(field, bias):
    def draw(kind: int) -> bytes:
        makers = (
            lambda: plots.image(field),
            lambda: plots.image(field.data, stretch="log", limits="minmax"),
            lambda: plots.histogram([field.data, field.data * 1.1]),
            lambda: plots.masters(bias),
        )
        return encode(makers[kind](), dpi=60)

    alone = [draw(kind) for kind in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, list(range(4)) * 2))
    assert together == alone * 2


def test_no_pyplot_and_nothing_loaded_before_it_is_used():
    code = (
        "import sys, numpy as np\n"
        "import calibrant.frame, calibrant.report.plots as plots\n"
        "assert not {'matplotlib', 'astropy', 'PIL'} & set(sys.modules), 'loaded too early'\n"
        "figure = calibrant.frame.Frame(np.ones((5, 6))).show()\n"
        "plots.masters, plots.sequence, plots.histogram, plots.drift, plots.frame_html\n"
        "figure.canvas.draw()\n"
        "assert 'matplotlib.pyplot' not in sys.modules, 'pyplot was loaded'\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_names_are_offered_lazily_and_completely():
    assert set(plots.__all__) == set(plots._HOMES)
    assert all(callable(getattr(plots, name)) for name in plots.__all__)
    assert all(getattr(plots, name).__name__ == name for name in plots.__all__), "a module hides a function"
    with pytest.raises(AttributeError, match="no attribute 'imag'"):
        plots.imag  # noqa: B018


@pytest.mark.real
def test_real_frames_are_drawn(real_data, tmp_path):
    from calibrant.files.fits import open_source
    from calibrant.stack.source import load

    for name in ("stl1001/flat-expos23s-Neg5-Vis.00000000.FIT", "st402/L2-sci-neon-1200.00000000.FIT"):
        frame = Frame(load(open_source(real_data / name)))
        plots.save(plots.image(frame), tmp_path / f"{name[-8:-4]}-{len(name)}.png")
    assert len(list(tmp_path.iterdir())) == 2
