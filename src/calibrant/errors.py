"""The errors of the house, and the one sentence that each of them says.

::

    CalibrantError
    ├── UserError                    the caller can mend it (exit code 2)
    │   ├── FileError                not FITS, truncated, empty, unreadable, missing
    │   ├── HeaderError              a keyword is missing or its value cannot be used
    │   ├── ShapeError               planes, frames or sections that do not fit each other
    │   ├── UnitError                units that are unknown or cannot be mixed
    │   ├── SelectionError           no exposures, too few, or of mixed settings
    │   ├── ConfigError              an instrument or recipe file with a mistake in it
    │   ├── OptionError              an argument that has no meaning here
    │   ├── BudgetError              the memory budget cannot hold the plan
    │   ├── HistoryError             a step that was done already, or one that is missing
    │   ├── MissingCalibrationError  science frames without the masters they need
    │   ├── OutputExistsError        a file in the way, and no leave to overwrite it
    │   └── RegistryError            the registry cannot be used as asked
    │       ├── NoMatchError         no product fits; the nearest misses are named
    │       ├── AmbiguousError       several fit equally well, or the question leaves open which is meant
    │       └── OverlapError         a certification that would overlap another one
    └── WorkError                    the work itself failed (exit code 1)
        ├── WriteError               nothing was written: full disk, no permission
        └── DatabaseError            the database failed: connection lost, damaged file
"""

from __future__ import annotations

from os import PathLike


class CalibrantError(Exception):
    """Base of all errors raised on purpose; says what, where, expected, got, and what to do.

    Parameters
    ----------
    what : str
        What is wrong, as the beginning of a sentence.
    where : str or path, optional
        The file, keyword, option or pixel concerned.
    expected, got : object, optional
        The two sides of the disagreement.
    do : str, optional
        What the reader can do about it.

    Examples
    --------
    >>> print(FileError("the file ends early", where="b1.fit", expected="2880 bytes", got="100 bytes",
    ...                 do="copy it again or leave it out"))
    b1.fit: the file ends early: expected 2880 bytes, got 100 bytes; copy it again or leave it out.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | PathLike[str] | None = None,
        expected: object = None,
        got: object = None,
        do: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.got, self.do = what, where, expected, got, do
        super().__init__(what)

    def __str__(self) -> str:
        sentence = self.what if self.where is None else f"{self.where}: {self.what}"
        sides = [
            f"{name} {side}"
            for name, side in (("expected", self.expected), ("got", self.got))
            if side is not None
        ]
        if sides:
            sentence += ": " + ", ".join(sides)
        if self.do:
            sentence = f"{sentence.rstrip('.')}; {self.do}"
        return sentence if sentence.endswith("?") else sentence.rstrip(".") + "."

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not pickle by themselves, and workers send them.
        return _rebuild, (type(self), self.what, self.where, self.expected, self.got, self.do)


def _rebuild(
    kind: type[CalibrantError], what: str, where: str | None, expected: object, got: object, do: str | None
) -> CalibrantError:
    return kind(what, where=where, expected=expected, got=got, do=do)


class UserError(CalibrantError):
    """Something that the caller can mend."""

    exit_code = 2


class FileError(UserError):
    """A file that is not FITS, ends early, is empty, missing or unreadable."""


class HeaderError(UserError):
    """A keyword that is missing, or whose value cannot be used."""


class ShapeError(UserError):
    """Planes, frames or sections whose sizes do not fit each other."""


class UnitError(UserError):
    """Units that are unknown, or that cannot be mixed."""


class SelectionError(UserError):
    """No exposures, too few of them, or exposures of mixed settings."""


class ConfigError(UserError):
    """A mistake in an instrument or recipe file."""


class OptionError(UserError):
    """An argument that has no meaning here."""


class BudgetError(UserError):
    """A memory budget that cannot hold the plan."""


class HistoryError(UserError):
    """A step that was already done to a frame, or one that must be done before."""


class MissingCalibrationError(UserError):
    """Science frames without the masters that the recipe needs."""


class OutputExistsError(UserError):
    """A file in the way, and no leave to overwrite it."""


class RegistryError(UserError):
    """The registry cannot be used as asked: missing, foreign, read-only, or a question it refuses."""


class NoMatchError(RegistryError):
    """No product fits; the sentence names the nearest misses."""


class AmbiguousError(RegistryError):
    """Several products fit equally well, or the question leaves open which one is meant."""


class OverlapError(RegistryError):
    """A certification that would overlap another one of the same tag, kind and keys."""


class WorkError(CalibrantError):
    """Work that failed for a reason outside the input."""


class WriteError(WorkError):
    """Nothing was written: the disk is full, or writing is not allowed there."""


class DatabaseError(WorkError):
    """The database of a registry failed: connection lost, file damaged, or others hold it too long."""
