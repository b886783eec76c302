"""Pictures of frames: what is drawn where, in which colour, and what is written beside it."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from calibrant.errors import HeaderError, OptionError
from calibrant.frame import DQ, Exposure, Frame
from calibrant.report.plots import flags, image
from calibrant.report.plots.drawing import image_size
from calibrant.report.plots.look import NO_DATA_COLOUR

PURPLE = tuple(round(255 * part) for part in to_rgb(NO_DATA_COLOUR))


def drawn(figure):
    """The image that holds the pixels."""
    return figure.axes[0].images[0]


def test_limits_title_facts_and_unit(field, seen):
    figure = image(field, limits="percentile", low=1, high=99, sky=False)
    good = field.data[(field.dq & np.uint32(DQ.DO_NOT_USE)) == 0]
    assert drawn(figure).get_clim() == pytest.approx(tuple(np.percentile(good, [1, 99])))
    words = seen.said(figure)
    assert "M51-V-0007.fits" in words
    assert "/night" not in words
    assert "light · M51 · 300 s · −20.0 °C · V · 2017-09-09 23:33:20 · 120 × 200" in words
    assert "signal [e⁻]" in words
    assert "column [pixel]" in words
    assert "no data: 240" in words


def test_hot_pixels_to_be_ignored_do_not_set_the_limits(field):
    assert drawn(image(field, limits="minmax")).get_clim()[1] < 400
    assert drawn(image(field.data, limits="minmax")).get_clim()[1] == 50_000


def test_row_zero_is_at_the_bottom_and_pixels_are_whole(seen):
    data = np.zeros((6, 9))
    data[0, 0], data[5, 8], data[2, 3] = 1, 2, 3
    figure = image(data, limits=(0, 3))
    page = seen.inside(figure, figure.axes[0], seen.pixels(figure))
    rows, cols = page.shape[:2]
    assert rows % 6 == 0
    assert cols % 9 == 0
    side = rows // 6
    middles = page[side // 2 :: side, side // 2 :: side, 0]
    assert np.array_equal(middles, np.floor(data / 3 * 255).astype(int) + (data % 3 > 0) * 0)


@pytest.mark.parametrize("stretch", ["linear", "log", "sqrt", "asinh"])
def test_pixels_without_data_have_their_own_colour(field, seen, stretch):
    figure = image(field, stretch=stretch, sky=False)
    page = seen.inside(figure, figure.axes[0], seen.pixels(figure))
    scale = page.shape[0] / 120
    assert tuple(page[int(101 * scale), int(60 * scale)]) == PURPLE
    assert tuple(page[int(101 * scale), int(160 * scale)]) != PURPLE


def test_a_lone_hot_pixel_survives_a_large_image(seen):
    data = np.zeros((3000, 3000), np.float32)
    data[1501, 777] = 1000.0
    figure = image(data, limits=(0, 10))
    page = seen.inside(figure, figure.axes[0], seen.pixels(figure))[..., 0]
    row, col = np.unravel_index(page.argmax(), page.shape)
    assert page.max() == 255
    assert (row, col) == pytest.approx((1501 * page.shape[0] / 3000, 777 * page.shape[1] / 3000), abs=2)


def test_fine_columns_make_no_false_pattern(seen):
    """Odd and even columns differ; drawn smaller, each n-th column alone would show bands."""
    data = np.zeros((400, 2500), np.float32)
    data[:, ::2] = 100.0
    figure = image(data, limits=(0, 100))
    page = seen.inside(figure, figure.axes[0], seen.pixels(figure))[40:-40, 40:-40, 0].astype(float)
    assert page.mean() == pytest.approx(127, abs=3)
    smooth = np.convolve(page.mean(axis=0), np.ones(9) / 9, "valid")
    assert np.ptp(smooth) < 12


def test_very_large_images_are_reduced_with_their_edges(monkeypatch, rng):
    import calibrant.report.plots.drawing as drawing

    monkeypatch.setattr(drawing, "LARGEST", 50)
    data = rng.normal(5.0, 1.0, (101, 130))
    figure = image(data)
    array = drawn(figure).get_array()
    assert array.shape == (34, 44)
    assert array[0, 0] == pytest.approx(data[:3, :3].mean())
    assert tuple(drawn(figure).get_extent()) == (-0.5, 131.5, -0.5, 101.5)
    assert figure.axes[0].get_xlim() == (-0.5, 129.5)


def test_flags_are_painted_and_counted(field, seen):
    figure = image(field, dq=True, sky=False)
    words = seen.said(figure)
    for told in ("saturated: 3", "hot or warm: 1", "cosmic ray: 1", "dead, open or insensitive: 120"):
        assert told in words.replace("\u2009", "")
    page = seen.inside(figure, figure.axes[0], seen.pixels(figure))
    scale = page.shape[0] / 120
    assert tuple(page[int(10.5 * scale), int(20.5 * scale)]) == (0xE6, 0x9F, 0x00)
    assert tuple(page[int(40.5 * scale), int(150.5 * scale)]) == (0x00, 0x72, 0xB2)
    assert tuple(page[int(101 * scale), int(60 * scale)]) == PURPLE, "no data is no flag"


def test_only_the_flags_asked_for(field, seen):
    words = seen.said(image(field, dq=DQ.SATURATED, sky=False))
    assert "saturated: 3" in words
    assert "hot" not in words
    assert "saturated" not in seen.said(image(field, sky=False))


def test_a_single_flag_is_seen_on_a_large_image(seen):
    dq = np.zeros((2500, 2500), np.uint32)
    dq[1777, 333] = DQ.HOT
    figure = image(Frame(np.zeros(dq.shape, np.float32), dq=dq), dq=True)
    page = seen.inside(figure, figure.axes[0], seen.pixels(figure))
    orange = (page == (0xE6, 0x9F, 0x00)).all(axis=2)
    assert orange.sum() >= 2
    assert np.argwhere(orange).mean(axis=0) == pytest.approx(np.array([1777, 333]) * len(page) / 2500, abs=2)


def test_marks_are_rings_about_their_pixels(field, seen):
    figure = image(field, mark=(10, 20), sky=False)
    ring = figure.axes[0].lines[0]
    assert (ring.get_ydata()[0], ring.get_xdata()[0]) == (10, 20)
    assert "(10, 20)" in seen.said(figure)
    assert len(image(field, mark=[(1, 2), (3, 4)], sky=False).axes[0].lines) == 4
    words = [image(field, mark=(10, col), sky=False).axes[0].texts[0] for col in (1, field.data.shape[1] - 2)]
    assert [word.get_ha() for word in words] == ["left", "right"], "away from the colour bar"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (np.full((50, 60), 3.0), "50 × 60"),
        (np.full((50, 60), np.nan), "no data"),
        (np.array([[5.0]]), "1 × 1"),
        (np.zeros((4, 20, 30), np.uint16), "plane 0 of 4"),
        (np.ones((1, 2000)), "pixels not drawn square"),
        (np.ones((300, 20), bool), "300 × 20"),
        (np.full((8, 8), -1e38, np.float32), "8 × 8"),
    ],
)
def test_odd_images_are_drawn(data, told, seen):
    figure = image(data)
    assert told in seen.said(figure)
    seen.pixels(figure, 50)


def test_saturated_everywhere(seen):
    dq = np.full((10, 10), DQ.SATURATED | DQ.DO_NOT_USE, np.uint32)
    figure = image(Frame(np.full((10, 10), 65_535, np.uint16), dq=dq), dq=True)
    assert "saturated: 100" in seen.said(figure)
    seen.pixels(figure, 50)


def test_the_colour_bar_points_where_values_lie_outside(field):
    def ends(**options):
        figure = image(field, sky=False, **options)
        return drawn(figure).get_clim(), figure.axes[1]._colorbar.extend

    assert ends(limits="minmax")[1] == "neither"
    assert ends(limits=(290, 310))[1] == "both"
    assert ends(limits=(-10, 310))[1] == "max"
    assert len(image(field, colorbar=False).axes) == 1


@pytest.mark.parametrize("sky", [True, False])
def test_the_user_s_style_does_not_change_the_picture(field, seen, sky):
    plain = seen.pixels(image(field, sky=sky), 60)
    theirs = {"image.origin": "upper", "image.cmap": "jet", "axes.grid": True, "xtick.minor.visible": True}
    with mpl.rc_context({**theirs, "font.size": 20, "axes.facecolor": "black", "xtick.direction": "in"}):
        assert np.array_equal(seen.pixels(image(field, sky=sky), 60), plain)


@pytest.mark.parametrize(
    ("shape", "scale"),
    [((1024, 1024), None), ((255, 765), 1.0), ((100, 100), 8.0), ((2200, 2200), 0.0)],
)
def test_pixels_of_the_page_are_whole_pixels_of_the_image(shape, scale):
    width, height = image_size(shape, 8.6, 7.4)
    assert width <= 8.6 + 1e-9
    assert height <= 7.4 + 1e-9
    assert width / height == pytest.approx(shape[1] / shape[0])
    if scale:
        assert width * 120 / shape[1] == pytest.approx(scale)


def test_no_text_overlaps(field):
    """Title, facts, labels, numbers of the bar and legend each have a place of their own."""
    figure = image(field, dq=True)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts]
    boxes += [axes.get_window_extent(renderer) for axes in figure.axes]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    boxes.append(figure.axes[1].yaxis.label.get_window_extent(renderer))
    for i, one in enumerate(boxes):
        assert figure.bbox.x0 <= one.x0 < one.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= one.y0 < one.y1 <= figure.bbox.y1
        for other in boxes[:i]:
            assert not one.overlaps(other)


def test_long_names_are_shortened_and_dollars_are_no_formulas(field, seen):
    name = "a$b$" + "x" * 200 + "end.fits"
    figure = image(Frame(field.data, exposure=Exposure(path=name)))
    (told,) = [text for text in seen.texts(figure) if text.startswith("a$b$")]
    assert "…" in told
    assert told.endswith("end.fits")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent(figure.canvas.get_renderer()) for text in figure.texts]
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"mark": (120, 3)}, OptionError, "outside"),
        ({"mark": 5}, OptionError, "row and a column"),
        ({"dq": -1}, OptionError, "32 bits"),
        ({"sky": "yes"}, OptionError, "auto"),
        ({"limits": "zscail"}, OptionError, "zscale"),
    ],
)
def test_mistakes_are_named(field, options, error, word):
    with pytest.raises(error, match=word):
        image(field, **options)


def test_sky_is_refused_where_there_is_none():
    with pytest.raises(HeaderError, match="no celestial coordinates"):
        image(np.ones((5, 5)), sky=True)


def test_show_is_this_picture(field, seen):
    assert "M51-V-0007.fits" in seen.said(field.show(limits="minmax", sky=False))


def test_flags_alone_are_classes_on_white(field, seen):
    figure = flags(field, sky=False)
    words = seen.said(figure)
    for told in ("saturated: 3", "hot or warm: 1", "cosmic ray: 1", "no data: 240", "120 × 200"):
        assert told in words
    assert len(figure.axes) == 1  # no bar: bits have no order
    page = seen.inside(figure, figure.axes[0], seen.pixels(figure))
    assert (page.reshape(-1, 3) == 255).all(axis=1).mean() > 0.9
    column = page[page.shape[0] // 4, round(page.shape[1] * 150.5 / 200)]
    assert column.tolist() == [0x00, 0x72, 0xB2]


def test_flags_of_a_clean_frame_and_of_one_without(seen):
    clean = Frame(np.ones((20, 30), np.float32), dq=np.zeros((20, 30), np.uint32))
    assert "no flags" in seen.said(flags(clean))
    with pytest.raises(OptionError, match="no flags to draw"):
        flags(Frame(np.ones((20, 30), np.float32)))
