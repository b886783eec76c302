"""What every command shares: its four options, its ways to print, and how an error leaves the program."""

from __future__ import annotations

import inspect
import json
import math
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from calibrant.errors import CalibrantError

Progress = Callable[[int, int, str], None]
INTERRUPTED = 130  # the shell's convention: 128 + SIGINT

OPTIONS: dict[str, Any] = {
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")],
    "as_json": Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
    "overwrite": Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")],
}


@dataclass(frozen=True)
class Terminal:
    """Where a command prints: results to standard output, words and progress to standard error."""

    quiet: bool = False
    as_json: bool = False
    debug: bool = False
    overwrite: bool = False

    def result(self, value: object, render: Callable[[], None]) -> None:
        """Print the result: as JSON if asked, else by `render`, or not at all if quiet."""
        if self.as_json:
            sys.stdout.write(as_json(value) + "\n")
        elif not self.quiet:
            render()

    def say(self, text: str) -> None:
        """A sentence for the reader, on standard error."""
        if not (self.quiet or self.as_json):
            typer.echo(text, err=True)

    @contextmanager
    def progress(self) -> Iterator[Progress | None]:
        """A bar on standard error while work goes on; None where nobody looks at a terminal."""
        if self.quiet or self.as_json or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            tasks: dict[str, Any] = {}

            def advance(done: int, total: int, what: str) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done, total=total, visible=done < total)

            yield advance

    def folded(self, text: str) -> str:
        """Words in lines that fit the terminal; a pipe gets one line."""
        return text if self.width is None else textwrap.fill(text, self.width, break_on_hyphens=False)

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None for a pipe."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def table(
        self,
        rows: Sequence[Mapping[str, object]],
        columns: Sequence[str],
        title: str = "",
        *,
        parted: bool = False,
    ) -> None:
        """Print rows under column heads, numbers to the right; a pipe gets whole lines.

        A table that is `parted` goes on below where it is too wide, with its first column again.
        """
        from calibrant.cli.tables import blocks, lines

        if title:
            typer.echo(f"\n{title}")
        for number, part in enumerate(blocks(columns, rows, self.width) if parted else [columns]):
            if number:
                typer.echo("")
            for line in lines(rows, part, self.width):
                typer.echo(line)


def as_json(value: object) -> str:
    """Text that every reader of JSON takes: what is no number is null."""
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Mapping):
        return {str(_key(key)): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return _finite(plain(value))


def _key(key: object) -> object:
    return plain(key) if hasattr(key, "item") else key


def plain(value: object) -> object:
    """Values that JSON does not know."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if hasattr(value, "tolist"):  # arrays as lists, their numbers as Python's
        return value.tolist()
    return str(value)


F = TypeVar("F", bound=Callable[..., None])


def command(app: typer.Typer, name: str, **settings: Any) -> Callable[[F], F]:
    """Register ``verb(terminal, ...)``: the four common options are added, errors become sentences.

    `settings` are those of typer's own command.
    """

    def register(verb: F) -> F:
        hints = get_type_hints(verb, include_extras=True)
        parameters = [p for p in inspect.signature(verb).parameters.values() if p.name != "terminal"]
        common = [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
            for option, kind in OPTIONS.items()
        ]

        def run(**values: Any) -> None:
            terminal = Terminal(**{option: values.pop(option) for option in OPTIONS})
            with guarded(terminal):
                verb(terminal, **values)

        run.__doc__ = verb.__doc__
        run.__name__ = verb.__name__
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
            + common
        )
        run.__annotations__ = {**{p.name: hints[p.name] for p in parameters}, **OPTIONS}
        app.command(name, **settings)(run)
        return verb

    return register


@contextmanager
def guarded(terminal: Terminal) -> Iterator[None]:
    """Turn every exception into one sentence and an exit code."""
    try:
        yield
    except CalibrantError as error:
        _leave(terminal, str(error), error.exit_code, error)
    except KeyboardInterrupt as error:
        _leave(
            terminal,
            "Interrupted: what was finished is kept, nothing is half-written; run it again to go on.",
            INTERRUPTED,
            error,
        )
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the pipe went away, as `head` does
        raise typer.Exit(0) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        sentence = (
            f"{type(error).__name__}: {error}; this is a fault of Calibrant, please report it with --debug."
        )
        _leave(terminal, sentence, 1, error)


def _leave(terminal: Terminal, sentence: str, code: int, error: BaseException) -> None:
    if terminal.debug:
        traceback.print_exception(error)
    if terminal.as_json:
        sides = {name: getattr(error, name, None) for name in ("what", "where", "expected", "got", "do")}
        report = {"error": {"type": type(error).__name__, "message": sentence, "exit_code": code, **sides}}
        sys.stdout.write(as_json(report) + "\n")
    typer.echo(f"calibrant: {sentence}", err=True)
    raise typer.Exit(code) from None
