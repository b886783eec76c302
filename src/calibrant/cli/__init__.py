"""The command line: one command per verb, each a few lines; nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0 done, 1 failed work, 2 the caller's mistake.

    Parameters
    ----------
    arguments : list of str, optional
        Words after the program's name; those of the process if not given.
    """
    from calibrant.cli.app import app

    app(args=sys.argv[1:] if arguments is None else arguments, prog_name="calibrant")
