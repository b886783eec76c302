"""Check: files that are lost, altered or moved, tainted products, derived tables, the clock."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import delete, update

from calibrant.files.hashing import file_hash
from calibrant.frame import Exposure
from calibrant.instrument import load
from calibrant.registry import events, schema
from calibrant.registry.checking import check
from calibrant.registry.ingest import ingest
from calibrant.registry.records import Draft

CAMERA = load("generic-ccd")


def sha(word):
    return f"sha256:{word.encode().hex():0<64}"


def made(folder, word, content=None, **options):
    """A file, and the draft of the product that it stands for."""
    path = folder / f"{word}.fits"
    path.write_text(content or f"content of {word}")
    return Draft(
        sha(word),
        "flat",
        CAMERA.name,
        {"filter": word},
        5,
        str(path),
        file_hash(path),
        path.stat().st_size,
        **options,
    )


def add(database, *drafts, certified=True):
    with database.write() as writing:
        events.add(writing, drafts, {})
        for draft in drafts if certified else ():
            events.certify(writing, draft.identity, 0, 100, "default", force="test")


class Reader:
    """Hashes, and the paths that were read."""

    def __init__(self):
        self.read = []

    def __call__(self, path):
        self.read.append(path)
        return file_hash(path), 0


def run(database, reader=None):
    with database.read() as connection:
        return check(connection, reader or Reader())


def brief(troubles):
    return [(trouble.what, trouble.severe) for trouble in troubles]


def test_all_is_well(database, tmp_path):
    add(database, made(tmp_path, "a"), made(tmp_path, "b"))
    reader = Reader()
    assert run(database, reader) == []
    assert len(reader.read) == 2


def test_a_lost_file(database, tmp_path):
    draft = made(tmp_path, "a")
    add(database, draft)
    (tmp_path / "a.fits").unlink()
    (trouble,) = run(database)
    assert brief([trouble]) == [("lost", True)]
    assert (
        trouble.where == draft.path
        and "is not there" in trouble.sentence
        and sha("a")[:19] in trouble.sentence
    )


def test_an_altered_file_of_another_size_is_not_read(database, tmp_path):
    draft = made(tmp_path, "a")
    add(database, draft)
    (tmp_path / "a.fits").write_text("short")
    reader = Reader()
    (trouble,) = run(database, reader)
    assert brief([trouble]) == [("altered", True)] and reader.read == []
    assert f"5 bytes, not {draft.size}" in trouble.sentence


def test_an_altered_file_of_the_same_size(database, tmp_path):
    draft = made(tmp_path, "a", "one bit")
    add(database, draft)
    (tmp_path / "a.fits").write_text("one bat")
    (trouble,) = run(database)
    assert brief([trouble]) == [("altered", True)]
    assert draft.hash[:19] in trouble.sentence and file_hash(draft.path)[:19] in trouble.sentence


def test_a_file_that_moved_and_an_altered_copy(database, tmp_path):
    draft = made(tmp_path, "a")
    add(database, draft)
    (tmp_path / "new").mkdir()
    add(database, made(tmp_path / "new", "a"), certified=False)
    assert run(database) == []
    (tmp_path / "a.fits").unlink()
    (trouble,) = run(database)
    assert (
        brief([trouble]) == [("moved", False)]
        and f"it is at {tmp_path / 'new' / 'a.fits'}" in trouble.sentence
    )
    (tmp_path / "a.fits").write_text("altered")
    assert brief(run(database)) == [("altered", False)]
    (tmp_path / "new" / "a.fits").unlink()
    assert brief(run(database)) == [("altered", True)]


def test_a_copy_with_other_bytes_keeps_a_product_alive(database, tmp_path):
    first = made(tmp_path, "a", "bytes")
    add(database, first)
    (tmp_path / "new").mkdir()
    add(database, made(tmp_path / "new", "a", "other bytes"), certified=False)
    (tmp_path / "a.fits").unlink()
    assert brief(run(database)) == [("moved", False)]


def test_a_product_made_anew_in_the_same_place(database, tmp_path):
    old = made(tmp_path, "a", "old")
    add(database, old, certified=False)
    new = made(tmp_path, "a", "new")
    new = Draft(sha("new"), *list(vars(new).values())[1:])
    add(database, new)
    (trouble,) = run(database)
    assert brief([trouble]) == [("lost", False)] and "holds another file since" in trouble.sentence
    with database.write() as writing:
        events.certify(writing, sha("a"), 200, 300, "default", force="test")
    assert brief(run(database)) == [("lost", True)]  # a certified one is missed


def test_a_withdrawn_product_may_go(database, tmp_path):
    add(database, made(tmp_path, "a"))
    with database.write() as writing:
        events.withdraw(writing, sha("a"), "bad")
    (tmp_path / "a.fits").unlink()
    assert brief(run(database)) == [("lost", False)]


def test_raw_files_and_calibrated_frames(database, tmp_path):
    for name in ("raw", "out"):
        (tmp_path / f"{name}.fits").write_text(name)
    raw, out = (str(tmp_path / f"{name}.fits") for name in ("raw", "out"))
    with database.write() as writing:
        exposure = Exposure(kind="light", start=1, identifier="E1", path=raw)
        ingest(writing, [exposure], lambda path: (file_hash(path), 3), CAMERA)
        events.add_frame(writing, file_hash(raw), out, file_hash(out), 3, [], {})
    assert run(database) == []
    (tmp_path / "raw.fits").unlink()
    (tmp_path / "out.fits").write_text("Out")
    found = run(database)
    assert sorted(brief(found)) == [("altered", True), ("lost", True)]
    assert any("raw file of E1" in trouble.sentence for trouble in found)


def test_a_certified_product_of_a_withdrawn_one_is_tainted(database, tmp_path):
    bias = made(tmp_path, "bias")
    flat = made(tmp_path, "flat", parents=[sha("bias")])
    gain = made(tmp_path, "gain", parents=[sha("flat")])
    loose = made(tmp_path, "loose", parents=[sha("bias")])
    add(database, bias, flat, gain)
    add(database, loose, certified=False)
    with database.write() as writing:
        events.withdraw(writing, sha("bias"), "light leak")
    found = run(database)
    assert [(trouble.what, trouble.where) for trouble in found] == [
        ("tainted", sha("flat")),
        ("tainted", sha("gain")),
    ]
    assert all("light leak" in trouble.sentence for trouble in found)


@pytest.mark.parametrize("table", ["current_validity", "tag_member"])
def test_a_derived_table_that_was_changed(database, tmp_path, table):
    add(database, made(tmp_path, "a"), made(tmp_path, "b"))
    with database.write() as writing:
        events.chain(writing, "mine", ["default"])
    assert run(database) == []
    with database.write() as writing:
        writing.connection.execute(delete(schema.metadata.tables[table]))
    found = run(database)
    assert {trouble.what for trouble in found} == {"derived"}
    assert len(found) == (2 if table == "current_validity" else 1)


def test_a_validity_that_was_changed_is_told_from_both_sides(database, tmp_path):
    add(database, made(tmp_path, "a"))
    with database.write() as writing:
        writing.connection.execute(update(schema.current_validity).values(end=99))
    assert brief(run(database)) == [("derived", True)] * 2


def test_an_event_of_the_future(database, tmp_path):
    add(database, made(tmp_path, "a"))
    ahead = time.time_ns() // 1000 + 3 * 3_600_000_000
    with database.write() as writing:
        writing.connection.execute(update(schema.head).values(at=ahead))
    (trouble,) = run(database)
    assert brief([trouble]) == [("clock", False)] and "3.0 h ahead" in trouble.sentence


def test_severe_ones_come_first(database, tmp_path):
    add(database, made(tmp_path, "a"), made(tmp_path, "b"))
    (tmp_path / "new").mkdir()
    add(database, made(tmp_path / "new", "a"), certified=False)
    for name in ("a", "b"):
        (tmp_path / f"{name}.fits").unlink()
    assert brief(run(database)) == [("lost", True), ("moved", False)]
