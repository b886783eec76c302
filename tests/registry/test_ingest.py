"""Exposures into the registry: once each, wherever their files move, and what is told of odd ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sqlalchemy import func, select

from calibrant.errors import FileError
from calibrant.files.fits import write
from calibrant.frame import Applied, Exposure, Frame
from calibrant.instrument import load
from calibrant.registry import places, schema
from calibrant.registry.database import head
from calibrant.registry.facts import exposure_of
from calibrant.registry.ingest import BATCH, SENTENCES, identifier_of, ingest
from calibrant.registry.subject import find

CAMERA = load("generic-ccd")


def taken(path, identifier="E1", **facts):
    facts = {"kind": "flat", "start": 1_000_000, "filter": "r", "duration": 2.0, **facts}
    return Exposure(identifier=identifier, path=path, **facts)


def run(database, *exposures, bytes_of=None, instrument=CAMERA, again=False):
    """Ingest; the hash of a file is made of `bytes_of` it, its own path by default."""
    content = bytes_of or {}
    with database.write() as writing:
        return ingest(
            writing, exposures, lambda path: (f"sha256:{content.get(path, path)}", 2880), instrument, again
        )


def rows(database):
    table = schema.exposure
    with database.read() as connection:
        return connection.execute(select(table).order_by(table.c.id)).all()


def held(database, content):
    with database.read() as connection:
        return places.of_hashes(connection, [f"sha256:{content}"]).get(f"sha256:{content}", [])


def test_an_exposure_and_all_its_facts(database):
    exposure = taken("/raw/a.fits", temperature=-10.5, detector="3", keys={"raft": ("R22", 0.1)})
    done = run(database, exposure)
    assert (done.new, done.known, done.moved, done.notes) == (1, 0, 0, ())
    (row,) = rows(database)
    assert (row.instrument, row.identifier, row.detector, row.kind) == (CAMERA.name, "E1", "3", "flat")
    assert (row.filter, row.start, row.mid, row.hash) == ("r", 1_000_000, 2_000_000, "sha256:/raw/a.fits")
    assert exposure_of(row.facts) == exposure
    assert held(database, "/raw/a.fits") == ["/raw/a.fits"]
    with database.read() as connection:
        assert connection.execute(select(schema.file.c.size)).scalar() == 2880
        assert connection.execute(select(schema.instrument.c.name)).scalar() == CAMERA.name


def test_again_moved_and_copied(database):
    run(database, taken("/raw/a.fits"), taken("/raw/b.fits", "E2"))
    again = run(database, taken("/raw/a.fits"), taken("/raw/b.fits", "E2"))
    assert (again.new, again.known, again.moved) == (0, 2, 0)
    moved = run(database, taken("/new/a.fits"), bytes_of={"/new/a.fits": "/raw/a.fits"})
    assert (moved.new, moved.known, moved.moved, moved.notes) == (0, 0, 1, ())
    assert held(database, "/raw/a.fits") == ["/new/a.fits", "/raw/a.fits"]
    assert len(rows(database)) == 2


def test_the_same_bytes_twice_in_one_folder(database):
    done = run(
        database,
        taken("/raw/a.fits", None),
        taken("/raw/copy.fits", None),
        bytes_of={"/raw/copy.fits": "/raw/a.fits"},
    )
    assert (done.new, done.moved) == (1, 1)
    assert sorted(held(database, "/raw/a.fits")) == ["/raw/a.fits", "/raw/copy.fits"]


def test_one_event_for_each_batch(database):
    exposures = [taken(f"/raw/{n}.fits", f"E{n}") for n in range(BATCH + 5)]
    assert run(database, *exposures).new == BATCH + 5
    event = schema.event
    with database.read() as connection:
        told = connection.execute(
            select(event.c.revision, event.c.facts)
            .where(event.c.kind == "ingested")
            .order_by(event.c.revision)
        ).all()
        table = schema.exposure
        each = [
            tuple(row)
            for row in connection.execute(
                select(table.c.revision, func.count()).group_by(table.c.revision).order_by(table.c.revision)
            )
        ]
    assert [json.loads(row.facts) for row in told] == [{"count": BATCH}, {"count": 5}]
    assert each == [(told[0].revision, BATCH), (told[1].revision, 5)]
    run(database, *exposures)
    with database.read() as connection:
        count = select(func.count()).select_from(event).where(event.c.kind == "ingested")
        assert connection.execute(count).scalar() == 2  # nothing new, no event


def test_two_files_that_claim_to_be_one_exposure(database):
    run(database, taken("/raw/a.fits"))
    done = run(database, taken("/raw/a2.fits"), taken("/raw/a3.fits", detector="1"))
    assert done.new == 2
    (note,) = done.notes
    assert "/raw/a.fits" in note and "/raw/a2.fits" in note and "'E1'" in note
    within = run(database, taken("/raw/c1.fits", "E3"), taken("/raw/c2.fits", "E3"))
    assert within.new == 2 and "/raw/c1.fits" in within.notes[0] and "/raw/c2.fits" in within.notes[0]


def test_a_file_that_was_overwritten_is_told(database):
    run(database, taken("/raw/a.fits"))
    done = run(database, taken("/raw/a.fits"), bytes_of={"/raw/a.fits": "others"})
    assert done.new == 1 and "/raw/a.fits is not the file that was recorded" in done.notes[0]
    assert held(database, "others") == ["/raw/a.fits"] and held(database, "/raw/a.fits") == []


def test_many_claims_are_told_in_short(database):
    run(database, *(taken(f"/raw/{n}.fits", f"E{n}") for n in range(SENTENCES + 3)))
    done = run(database, *(taken(f"/again/{n}.fits", f"E{n}") for n in range(SENTENCES + 3)))
    assert done.new == SENTENCES + 3 and len(done.notes) == SENTENCES + 1
    assert done.notes[-1].startswith("and 3 more")


def test_the_same_identifier_in_two_instruments(database):
    run(database, taken("/raw/a.fits"))
    other = CAMERA.model_copy(update={"name": "second"})
    done = run(database, taken("/raw/a.fits"), taken("/raw/b.fits"), instrument=other)
    assert done.new == 2 and "claim" in done.notes[0]  # within the second instrument
    assert [row.instrument for row in rows(database)] == [CAMERA.name, "second", "second"]


def test_frames_without_time(database):
    done = run(database, taken("/raw/a.fits", start=None), taken("/raw/b.fits", "E2", start=None))
    assert done.new == 2
    assert done.notes == (
        "/raw/a.fits and 1 more: no time of exposure is known: no calibration can be chosen by time",
    )
    assert rows(database)[0].mid is None


@pytest.mark.parametrize("identifier", ['it\'s; "E" --', "'; DROP TABLE exposure; --", "%s?:x", "Ä☉"])
def test_odd_identifiers(database, identifier):
    assert run(database, taken("/raw/a.fits", identifier, filter=identifier)).new == 1
    assert run(database, taken("/raw/a.fits", identifier, filter=identifier)).known == 1
    assert "claim" in run(database, taken("/raw/b.fits", identifier)).notes[0]
    assert rows(database)[0].identifier == rows(database)[0].filter == identifier


def test_what_is_left_out_is_told(database, tmp_path):
    ours, camera = tmp_path / "ours.fits", tmp_path / "camera.fits"
    frame = Frame(np.ones((4, 4), np.float32), history=(Applied("bias"),))
    write(frame, ours)
    write(frame, tmp_path / "x.fits")
    from astropy.io import fits

    fits.PrimaryHDU(np.ones((4, 4), np.int16)).writeto(camera)
    done = run(
        database,
        Exposure(kind="product", path="/out/flat.fits"),
        taken(None, "memory"),
        taken("/raw/\udcff.fits", "odd"),
        taken(str(ours), "ours", applied=frozenset({"bias"})),
        taken(str(camera), "camera", applied=frozenset({"dark"})),  # the camera itself subtracted a dark
        taken(str(tmp_path / "gone.fits"), "gone", applied=frozenset({"dark"})),
    )
    assert done.new == 1 and rows(database)[0].identifier == "camera"
    told = "\n".join(done.notes)
    for path in ("/out/flat.fits", "memory", "udcff", str(ours), "gone.fits"):
        assert path in told
    assert len(done.notes) == 5


def test_a_file_that_vanishes_is_told_and_the_rest_is_kept(database):
    def hashes(path):
        if "gone" in path:
            raise FileError("there is no such file", where=path)
        return f"sha256:{path}", 1

    with database.write() as writing:
        done = ingest(writing, [taken("/raw/gone.fits"), taken("/raw/a.fits", "E2")], hashes, CAMERA)
    assert done.new == 1 and "/raw/gone.fits" in done.notes[0]


def test_facts_that_read_otherwise_now_are_told(database):
    run(database, taken("/raw/a.fits", kind="unknown"))
    done = run(database, taken("/raw/a.fits", kind="flat"))
    assert done.known == 1 and "those recorded then stay" in done.notes[0]
    assert rows(database)[0].kind == "unknown"


def test_identifiers_from_names():
    names = {
        "a.fits": "a",
        "a.fits.gz": "a",
        "a.b.fit.fz": "a.b",
        "a.b.FTS": "a.b",
        "a": "a",
        "a.FITS.GZ": "a",
    }
    for name, stem in names.items():
        assert identifier_of(Exposure(path=f"/raw.d/{name}")) == stem
    assert identifier_of(Exposure(path="/raw/a.fits", identifier="E1")) == "E1"


def test_facts_read_again_in_one_of_two_instruments(database):
    """Two instruments may know one file; each has its own facts, also of before."""
    other = CAMERA.model_copy(update={"name": "second"})
    run(database, taken("/raw/a.fits"))
    run(database, taken("/raw/a.fits", filter="z"), instrument=other)
    with database.read() as connection:
        before = head(connection)[0]
    run(database, taken("/raw/a.fits", filter="g"), again=True)
    run(database, taken("/raw/a.fits", filter="y"), instrument=other, again=True)
    with database.read() as connection:
        for name, then, now in ((CAMERA.name, "r", "g"), ("second", "z", "y")):
            assert find(connection, "E1", instrument=name).exposure.filter == now
            assert find(connection, "E1", instrument=name, revision=before).exposure.filter == then
    assert [row.filter for row in rows(database)] == ["g", "y"]
