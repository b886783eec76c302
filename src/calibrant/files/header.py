"""Headers without reading pixels: the first blocks of a file, its cards parsed when they are asked for."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from calibrant.errors import CalibrantError, FileError, HeaderError
from calibrant.files.cards import BLOCK, CARD, Value, parse_comment, parse_value
from calibrant.files.reading import (
    GzippedFile,
    MemoryFile,
    Pathish,
    PlainFile,
    Reader,
    Stamp,
    truncated,
    unreadable,
)
from calibrant.stack.source import Encoding

FIRST_READ = 4 * BLOCK  # bytes: the header of most cameras, in one read
MAX_HEADER = 4096 * BLOCK  # bytes: beyond this, END is not missed but absent
_DTYPES = {8: "|u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


class Header(Mapping[str, Value]):
    """Keyword -> value over the original cards; nothing is parsed before it is asked for.

    Of a repeated keyword the last one counts, so that the cards of an extension may follow those of its
    primary. ``HISTORY`` and ``COMMENT`` give all their lines, joined by line ends; ``HIERARCH`` keywords are
    found with and without that word. Keywords are not case-sensitive.

    Parameters
    ----------
    cards : str
        The cards, 80 characters each, without ``END``.
    """

    __slots__ = ("_places", "cards")

    def __init__(self, cards: str) -> None:
        self.cards = cards
        self._places: dict[str, int] | None = None

    @property
    def _index(self) -> dict[str, int]:
        if self._places is None:
            cards = self.cards
            self._places = {cards[at : at + 8].rstrip(): at for at in range(0, len(cards), CARD)}
            if "HIERARCH" in self._places:
                self._add_hierarch(self._places)
        return self._places

    def _add_hierarch(self, places: dict[str, int]) -> None:
        del places["HIERARCH"]
        for at in range(0, len(self.cards), CARD):
            if self.cards.startswith("HIERARCH ", at):
                key = self.cards[at + 9 : at + CARD].partition("=")[0].strip()
                places[key.upper()] = at

    def _place(self, key: str) -> int | None:
        at = self._index.get(key)
        if at is None and not (
            key.isupper() and len(key) <= 8
        ):  # most that are not there were written rightly
            at = self._index.get(key.upper().removeprefix("HIERARCH ").strip())
        return at

    def __getitem__(self, key: str) -> Value:
        at = self._place(key)
        if at is None or not key:
            raise KeyError(key)
        return self._value(at)

    def get(self, key: str, default: Value = None) -> Value:  # type: ignore[override]
        """The value of a keyword, or `default`."""
        at = self._place(key)
        return default if at is None else self._value(at)

    def _value(self, at: int) -> Value:
        card = self.cards[at : at + CARD]
        if card.startswith(("HISTORY ", "COMMENT ")):
            return "\n".join(self.lines(card[:7]))
        field = self._field(card)
        if field is None:
            return card[8:].strip()
        value = parse_value(field)
        while isinstance(value, str) and value.endswith("&") and self.cards.startswith("CONTINUE", at + CARD):
            at += CARD
            more = parse_value(self.cards[at + 8 : at + CARD])
            value = value[:-1] + (more if isinstance(more, str) else "")
        return value.rstrip() if isinstance(value, str) else value  # the last card may hold blanks alone

    @staticmethod
    def _field(card: str) -> str | None:
        """The text after the ``=``; None for a card without a value."""
        if card.startswith("HIERARCH "):
            return card[9:].partition("=")[2]
        return card[9:] if card[8:9] == "=" else None

    def comment(self, key: str) -> str:
        """The comment of a keyword; empty where there is none."""
        at = self._place(key)
        return "" if at is None else parse_comment(self._field(self.cards[at : at + CARD]) or "")

    def lines(self, key: str) -> list[str]:
        """All lines of ``HISTORY``, ``COMMENT`` or another repeated keyword without value."""
        head = f"{key:<8}"
        return [
            self.cards[at + 8 : at + CARD].rstrip()
            for at in range(0, len(self.cards), CARD)
            if self.cards.startswith(head, at)
        ]

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._index if key not in ("", "CONTINUE", "END"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(key) and self._place(key) is not None

    def __repr__(self) -> str:
        return f"<Header of {len(self.cards) // CARD} cards>"

    def __add__(self, other: Header) -> Header:
        """The cards of both; where both know a keyword, `other` counts."""
        return Header(self.cards + other.cards)

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number that the structure of the file depends on.

        Raises
        ------
        HeaderError
            If it is missing and there is no default, or no whole number.
        """
        value = self.get(key, default)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, int):
            return value
        raise HeaderError(f"{key} is not a whole number", expected="a whole number", got=repr(value))


@dataclass(frozen=True)
class HDU:
    """One header-data unit of a file, known by its header.

    Attributes
    ----------
    index : int
        From 0, the primary one.
    start, offset : int
        Bytes before its header, and before its data (in the unpacked file, for ``.gz``).
    size : int
        Bytes of its data, without padding.
    shape : tuple of int
        Of its image, rows last but one (of the unpacked one, for ``.fz``); empty if there is none.
    compressed : bool
        Whether the image is stored as a compressed table (``.fz``).
    """

    index: int
    header: Header
    start: int
    offset: int
    size: int
    shape: tuple[int, ...]
    compressed: bool = False

    @property
    def name(self) -> str:
        """EXTNAME in upper case; ``PRIMARY`` for a nameless primary one."""
        name = self.header.get("EXTNAME")
        return str(name).strip().upper() if name else ("" if self.index else "PRIMARY")

    @property
    def version(self) -> int:
        """EXTVER, 1 if there is none."""
        return self.header.integer("EXTVER", 1)

    @property
    def is_image(self) -> bool:
        """Whether it holds an image of two or more axes."""
        return len(self.shape) >= 2 and 0 not in self.shape

    @property
    def is_table(self) -> bool:
        """Whether it holds a binary table that is no compressed image."""
        return not self.compressed and self.header.get("XTENSION") == "BINTABLE"

    @property
    def end(self) -> int:
        """Where the next unit starts."""
        return self.offset + -(-self.size // BLOCK) * BLOCK

    @property
    def encoding(self) -> Encoding:
        """How the stored numbers become values."""
        header, prefix = self.header, "Z" if self.compressed else ""
        bitpix = header.integer(prefix + "BITPIX")
        scale, zero = header.get("BSCALE", 1.0), header.get("BZERO", 0.0)
        blank = header.get("ZBLANK" if self.compressed and "ZBLANK" in header else "BLANK")
        return Encoding(
            _DTYPES[bitpix],
            float(scale) if isinstance(scale, (int, float)) else 1.0,
            float(zero) if isinstance(zero, (int, float)) else 0.0,
            int(blank) if isinstance(blank, (int, float)) and bitpix > 0 else None,
        )


@dataclass(frozen=True)
class Contents:
    """What a file holds, known from its headers alone.

    Attributes
    ----------
    path : str
    stamp : Stamp
        Of the file when it was looked at.
    gzipped : bool
    hdus : tuple of HDU
        All of them, or those up to the first image.
    """

    path: str
    stamp: Stamp
    gzipped: bool
    hdus: tuple[HDU, ...]

    @property
    def is_complete(self) -> bool:
        """Whether no unit is left behind those that were looked at, as far as the size tells."""
        return not self.gzipped and self.hdus[-1].end >= self.stamp.size

    def find(self, name: str, version: int | None = None) -> HDU | None:
        """The unit with an EXTNAME (and EXTVER), or None."""
        for hdu in self.hdus:
            if hdu.name == name.upper() and (version is None or hdu.version == version):
                return hdu
        return None

    def image(self, hdu: int | str | None = None) -> HDU:
        """The image with an index or EXTNAME; the first image if none is asked for.

        Raises
        ------
        FileError
            If there is no such image.
        """
        if hdu is None:
            found = next((unit for unit in self.hdus if unit.is_image), None)
        elif isinstance(hdu, str):
            found = self.find(hdu)
        else:
            found = self.hdus[hdu] if -len(self.hdus) <= hdu < len(self.hdus) else None
        if found is not None and found.is_image:
            return found
        if hdu is None:
            raise FileError(
                "the file holds no image: NAXIS is 0 or 1 in all its units",
                where=self.path,
                do="leave it out",
            )
        have = ", ".join(f"{unit.index} {unit.name}".strip() for unit in self.hdus if unit.is_image)
        raise FileError(f"the file has no image {hdu!r}", where=self.path, got=have or "no image at all")

    def header(self, hdu: int | str | None = None) -> Header:
        """The cards of the primary unit, and after them those of the image, which count first."""
        unit = self.image(hdu)
        return unit.header if unit.index == 0 else self.hdus[0].header + unit.header


def inspect(path: Pathish, *, all_hdus: bool = True) -> Contents:
    """Look at a file's headers without reading its pixels; a file of one unit costs one small read.

    Parameters
    ----------
    all_hdus : bool
        Whether to go on behind the first image.

    Raises
    ------
    FileError
        If the file is missing, unreadable, empty, not FITS, or shorter than its headers say.
    """
    name = os.fspath(path)
    try:
        file = os.open(name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise unreadable(name, error) from None
    try:
        stamp = Stamp.of(os.fstat(file))
        first = os.pread(file, FIRST_READ, 0)
        gzipped = first[:2] == b"\x1f\x8b"
        reader: Reader = GzippedFile(file, stamp.size) if gzipped else PlainFile(file, stamp.size)
        if gzipped:
            first = reader.read(FIRST_READ, 0)
        _check_start(name, first, stamp.size)
        return Contents(name, stamp, gzipped, tuple(_walk(name, reader, first, all_hdus)))
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(name, error) from None
    except HeaderError as error:
        raise FileError(f"the header is broken: {error}", where=name) from None
    finally:
        os.close(file)


def unpacked_hdus(data: bytes) -> tuple[HDU, ...]:
    """The units of a file that is in memory."""
    return tuple(_walk("memory", MemoryFile(data), data[:FIRST_READ], all_hdus=True))


def read_header(path: Pathish, hdu: int | str | None = None) -> Header:
    """The header of a file's image: the primary cards, and after them those of the extension that holds it.

    Parameters
    ----------
    hdu : int or str, optional
        Index or EXTNAME; by default the first image. The primary header of a file without any image is 0.

    Raises
    ------
    FileError
        As `inspect`, or if there is no such unit.
    """
    contents = inspect(path, all_hdus=hdu is not None)
    if hdu == 0:
        return contents.hdus[0].header
    return contents.header(hdu)


def scan_headers(paths: Iterable[Pathish]) -> Iterator[tuple[str, Contents | CalibrantError]]:
    """Look at many files, up to the first image of each; one that cannot be used gives its error."""
    for path in paths:
        try:
            contents = inspect(path, all_hdus=False)
            contents.image()
        except CalibrantError as error:
            yield os.fspath(path), error
        else:
            yield os.fspath(path), contents


def _check_start(path: str, first: bytes, size: int) -> None:
    if size == 0 or not first:
        raise FileError("the file is empty (zero bytes)", where=path, do="leave it out")
    if not first.startswith(b"SIMPLE  ="):
        raise FileError(
            "this is not a FITS file: it does not begin with SIMPLE", where=path, do="leave it out"
        )


def _walk(path: str, reader: Reader, first: bytes, all_hdus: bool) -> Iterator[HDU]:
    start, index, head = 0, 0, first
    while True:
        text, length = _header_text(path, reader, head, start)
        hdu = _unit(index, Header(text), start, start + length)
        if reader.size is not None and reader.size < hdu.offset + hdu.size:
            raise truncated(path, hdu.offset + hdu.size, reader.size)
        yield hdu
        start, index = hdu.end, index + 1
        if (hdu.is_image and not all_hdus) or reader.ends_at(start):
            return
        head = reader.read(FIRST_READ, start)
        if not head.startswith(b"XTENSION"):  # end of a packed file, or rubbish behind the last unit
            return


def _header_text(path: str, reader: Reader, head: bytes, start: int) -> tuple[str, int]:
    """The cards before END, and the length of the header in bytes, a multiple of the block."""
    searched = 0
    while True:
        at = _find_end(head, searched)
        if at is not None:
            # Latin-1 never fails, and gives every byte one character: cameras write degree signs.
            return head[:at].decode("latin-1"), -(-(at + CARD) // BLOCK) * BLOCK
        searched = len(head) - len(head) % CARD
        more = reader.read(max(len(head), FIRST_READ), start + len(head)) if len(head) < MAX_HEADER else b""
        if not more:
            raise FileError(
                "the header has no END card: the file ends early or is not FITS",
                where=path,
                do="copy it again or leave it out",
            )
        head += more


def _find_end(head: bytes, begin: int) -> int | None:
    at = head.find(b"END     ", begin)
    while at >= 0:
        if at % CARD == 0 and not head[at + 3 : at + CARD].strip():
            return at
        at = head.find(b"END     ", at + 1)
    return None


def _unit(index: int, header: Header, start: int, offset: int) -> HDU:
    axes = [header.integer(f"NAXIS{n}") for n in range(header.integer("NAXIS"), 0, -1)]
    bitpix = header.integer("BITPIX")
    if bitpix not in _DTYPES:
        raise HeaderError("BITPIX has no meaning", expected="8, 16, 32, 64, -32 or -64", got=bitpix)
    count = math.prod(axes) if axes else 0
    size = abs(bitpix) // 8 * count
    if index:
        size = header.integer("GCOUNT", 1) * (size + abs(bitpix) // 8 * header.integer("PCOUNT", 0))
    if index and header.get("XTENSION") not in ("IMAGE", "IUEIMAGE"):
        if header.get("ZIMAGE") is not True:
            return HDU(index, header, start, offset, size, ())
        axes = [header.integer(f"ZNAXIS{n}") for n in range(header.integer("ZNAXIS"), 0, -1)]
        return HDU(index, header, start, offset, size, tuple(axes), compressed=True)
    return HDU(index, header, start, offset, size, tuple(axes))
