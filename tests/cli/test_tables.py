"""Tables as a person sees them: in a pipe, and in terminals of several widths."""

from __future__ import annotations

import pytest

from calibrant.cli.tables import blocks, lines, rounded, text

ROWS = [
    {"master": "bias", "frames": 10, "measured": "read noise 5.15 adu, drift 0.15 adu", "state": "made"},
    {"master": "dark_300s_-10C", "frames": None, "measured": None, "state": "kept"},
]
COLUMNS = ["master", "frames", "measured", "state"]


def test_a_pipe_gets_whole_lines():
    found = list(lines(ROWS, COLUMNS))
    assert len(found) == 4
    assert found[0] == "master          frames  measured                             state"
    assert found[2] == "bias                10  read noise 5.15 adu, drift 0.15 adu  made"
    assert found[3] == "dark_300s_-10C       -  -                                    kept"


@pytest.mark.parametrize("width", [56, 60, 70])
def test_a_narrow_terminal_folds_the_widest_column_after_commas(width):
    found = list(lines(ROWS, COLUMNS, width))
    assert max(map(len, found)) <= width
    assert "bias                10  read noise 5.15 adu," in found[2]
    assert found[3].strip() in ("drift 0.15 adu", "- kept") or "dark" in found[3]
    assert not any(line.endswith(" ") for line in found)


def test_nothing_is_cut_where_it_cannot_fit():
    found = list(lines([{"a": "x" * 90, "b": 1}], ["a", "b"], 40))
    assert found[2].startswith("x" * 90)


def test_a_table_that_fits_is_the_same_in_a_terminal_and_in_a_pipe():
    assert list(lines(ROWS, COLUMNS, 200)) == list(lines(ROWS, COLUMNS))


def test_no_rows_leave_the_heads():
    assert next(lines([], ["file", "kind"])) == "file  kind"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        (True, "yes"),
        (1.0, "1"),
        (1 / 3, "0.333333"),
        ((255, 765), "255x765"),
        (("a", "b"), "a, b"),
        (frozenset({"dark", "bias"}), "bias, dark"),
        ("", ""),
    ],
)
def test_values(value, words):
    assert text(value) == words


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_of_some_width(calibrant, raw, columns, monkeypatch):
    """As in a real terminal: nothing is wider, and nothing is folded that fits."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    from calibrant.cli import main

    class Screen(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Screen()
    with redirect_stdout(screen), redirect_stderr(io.StringIO()), pytest.raises(SystemExit):
        main(["ls", str(raw)])
    found = screen.getvalue().splitlines()
    assert len(found) == 19
    assert max(map(len, found)) <= columns


def test_columns_that_do_not_fit_go_on_below_with_the_names_of_the_rows():
    columns = ["amplifier", "gain", "noise", "a00"]
    rows = [
        {"amplifier": "C10", "gain": "1.4090 +- 0.0066", "noise": "7.36 +- 0.14", "a00": "(-3.2 +- 0.2)e-6"}
    ]
    assert blocks(columns, rows, None) == blocks(columns, rows, 80) == [columns]
    assert blocks(columns, rows, 42) == [["amplifier", "gain", "noise"], ["amplifier", "a00"]]
    assert blocks(columns, rows, 5) == [["amplifier", name] for name in columns[1:]]


@pytest.mark.parametrize(
    ("value", "told"), [(71.1953, 71.2), (52736.8, 52737.0), (0.04796059, 0.04796), (27.0, 27.0), ("x", "x")]
)
def test_numbers_without_an_uncertainty_have_few_digits(value, told):
    assert rounded(value) == told
