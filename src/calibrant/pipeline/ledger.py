"""Ledger: what a folder of results holds and what each file was made of, so that nothing is made twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibrant.errors import OutputExistsError, WriteError
from calibrant.files.atomic import atomic_write
from calibrant.pipeline.summary import plain

NAME = ".calibrant.json"
SCHEMA = 1


def recipe_key(**parts: Any) -> str:
    """``sha256:`` of everything that decides a result: inputs' hashes, options, versions, masters' keys."""
    text = json.dumps(plain(parts), sort_keys=True, default=str)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True)
class Record:
    """One file that was written: its recipe key, the state it was left in, and its line of the summary."""

    key: str
    size: int
    mtime_ns: int
    entry: Mapping[str, Any]


@dataclass
class Ledger:
    """Records of one output folder by the file's name below it.

    Attributes
    ----------
    folder : Path
    records : dict of str to Record
    verdicts : dict
        What the pixels of raw frames said, by the hash of the question.
    overwrite : bool
        Whether files that are in the way, or were made in another way, may be replaced.
    pending : set of str
        Files that were being written: after an interrupt they may be there without a record.
    """

    folder: Path
    overwrite: bool = False
    records: dict[str, Record] = field(default_factory=dict)
    verdicts: dict[str, Any] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, folder: Path, overwrite: bool = False) -> Ledger:
        """The ledger of a folder; empty if there is none, or one that cannot be understood."""
        try:
            found = json.loads((folder / NAME).read_text(encoding="utf-8"))
            records = {name: Record(**record) for name, record in found["records"].items()}
            if found["schema"] == SCHEMA:
                pending = set(found.get("pending", ()))
                return cls(folder, overwrite, records, dict(found["verdicts"]), pending)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return cls(folder, overwrite)

    def fresh(self, file: str, key: str) -> Mapping[str, Any] | None:
        """The summary line of a file that is there, untouched, and was made of the same; None otherwise.

        Raises
        ------
        OutputExistsError
            If a file is in the way that was made in another way, or by somebody else.
        """
        path = self.folder / file
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        record = self.records.get(file)
        untouched = record is not None and (record.size, record.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
        if record is not None and untouched and record.key == key:
            return record.entry
        if self.overwrite or file in self.pending:
            return None
        raise OutputExistsError(
            "the file was made of other frames or with other options"
            if untouched
            else "the file is not one of this reduction",
            where=path,
            do="choose another --out, or overwrite with --overwrite",
        )

    @contextmanager
    def writing(self, file: str) -> Iterator[bool]:
        """Announce a file before it is written; gives whether it may replace one that is there.

        An interrupt between the file and its record must not leave a file that the next run does not know.
        """
        replace = self.overwrite or file in self.pending
        self.pending.add(file)
        self.save()
        try:
            yield replace
        finally:
            if not (self.folder / file).exists():
                self.pending.discard(file)
                with suppress(WriteError):  # on a full disk the file's own error is told, not this one
                    self.save()

    def put(self, file: str, key: str, entry: Mapping[str, Any]) -> None:
        """Record a file that was just written, on disk at once: an interrupt loses nothing."""
        stat = (self.folder / file).stat()
        self.records[file] = Record(key, stat.st_size, stat.st_mtime_ns, entry)
        self.pending.discard(file)
        self.save()

    def save(self) -> None:
        """Write the ledger atomically."""
        text = json.dumps(
            {
                "schema": SCHEMA,
                "pending": sorted(self.pending),
                "verdicts": self.verdicts,
                "records": {name: vars(record) for name, record in self.records.items()},
            }  # not indented: it is written twice for each file, and that takes ten times as long
        )
        with atomic_write(self.folder / NAME, overwrite=True) as out:
            out.write(text.encode())
