"""What a registry holds: one thing by what a person calls it, lists with filters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from calibrant.errors import AmbiguousError, OptionError, RegistryError
from calibrant.files.hashing import file_hash
from calibrant.frame import Exposure
from calibrant.instrument import load
from calibrant.registry import events, listing, naming
from calibrant.registry.ingest import ingest
from calibrant.registry.records import Draft, Item, Verdict

CAMERA = load("generic-ccd")
ALIKE = ("sha256:" + "ab" * 31 + "01", "sha256:" + "ab" * 31 + "02")


def draft(identity, path="/data/a.fits", kind="flat", **keys):
    keys = keys or {"detector": "0", "filter": "r"}
    hash = f"sha256:{identity[-2:] * 32}"
    return Draft(identity, kind, CAMERA.name, keys, 5, str(path), hash, 10, facts={"effect": kind})


def add(database, *drafts):
    with database.write() as writing:
        events.add(writing, drafts, {CAMERA.name: CAMERA})


def find(database, ref):
    with database.read() as connection:
        return listing.find(connection, ref)


@pytest.fixture
def two(database):
    add(database, draft(ALIKE[0]), draft(ALIKE[1], "/data/b.fits", filter="g", detector="1"))
    return database


@pytest.mark.parametrize(
    "ref", [ALIKE[0], ALIKE[0].removeprefix("sha256:"), ALIKE[0].upper()[7:], "/data/a.fits"]
)
def test_by_every_name(two, ref):
    entry = find(two, ref)
    assert entry.identity == ALIKE[0] and entry.state == "draft" and entry.verified is None
    assert entry.places == ("/data/a.fits",) and dict(entry.keys) == {"detector": "0", "filter": "r"}
    assert entry.facts["effect"] == "flat"


def test_a_beginning_that_two_share(two):
    with pytest.raises(AmbiguousError, match="say more digits"):
        find(two, "abab" * 3)
    add(two, draft("sha256:" + "cd" * 32, "/data/c.fits"))
    assert find(two, "cdcdcd").identity == "sha256:" + "cd" * 32


@pytest.mark.parametrize(
    "ref", ["cdcd", "deadbeef", "/nowhere/x.fits", "", "x'; DROP TABLE event; --", "abababg"]
)
def test_names_of_nothing(two, ref):
    with pytest.raises(RegistryError):
        find(two, ref)


def test_a_file_is_known_by_its_bytes_wherever_it_is(database, tmp_path):
    path = tmp_path / "a.fits"
    path.write_text("bytes")
    add(database, replace(draft(ALIKE[0], path), hash=file_hash(path)))
    path.rename(tmp_path / "b.fits")
    assert find(database, str(tmp_path / "b.fits")).identity == ALIKE[0]
    assert find(database, str(path)).identity == ALIKE[0]  # by the place where it was
    (tmp_path / "b.fits").write_text("other bytes")
    with pytest.raises(RegistryError, match="does not know this file"):
        find(database, str(tmp_path / "b.fits"))


def test_raw_files_have_keys_but_are_no_products(database, tmp_path):
    path = tmp_path / "r.fits"
    path.write_text("raw")
    with database.write() as writing:
        exposure = Exposure("light", start=1, identifier="E1", path=str(path))
        ingest(writing, [exposure], lambda name: (file_hash(name), 3), CAMERA)
    with database.read() as connection:
        assert naming.key_of(connection, str(path)) == file_hash(path)
        assert naming.key_of(connection, file_hash(path)[7:20]) == file_hash(path)
        assert listing.held(connection, str(path)) == (file_hash(path), [str(path)])
        (row,) = listing.exposures(connection, exposure="E1")
        assert (row["kind"], row["path"], row["time"]) == ("light", str(path), "1970-01-01T00:00:00Z")
        assert listing.exposures(connection, kind="flat") == []
    with pytest.raises(RegistryError, match="no product"):
        find(database, str(path))


def test_states_tags_and_counts(two):
    with two.write() as writing:
        events.verified(writing, Verdict(ALIKE[0], "flat", (Item("a", 1.0, 0.0, 2.0),)))
        events.certify(writing, ALIKE[0], 10, 20, "DP1")
        events.certify(writing, ALIKE[0], None, 5, "DP2")
        events.withdraw(writing, ALIKE[1], "dust")

    def listed(**filters):
        with two.read() as connection:
            found = listing.products(connection, **filters)
            assert listing.count(connection, **filters) == len(found)
            return [entry.identity for entry in found]

    entry = find(two, ALIKE[0])
    assert entry.state == "certified" and entry.verified is True
    assert set(entry.validity) == {("DP1", 10, 20), ("DP2", None, 5)}
    assert find(two, ALIKE[1]).state == "withdrawn" and find(two, ALIKE[1]).facts["withdrawn"] == "dust"
    assert listed() == [*ALIKE] and listed(kind="flat", instrument=CAMERA.name) == [*ALIKE]
    assert listed(tag="DP1") == listed(state="certified") == [ALIKE[0]]
    assert (
        listed(state="withdrawn") == [ALIKE[1]] and listed(state="draft") == listed(state="superseded") == []
    )
    with two.read() as connection:
        assert len(listing.products(connection, limit=1)) == 1
        assert listing.by_kind(connection) == {"flat": {"certified": 1, "withdrawn": 1}}
        assert listing.totals(connection) == {"products": 2, "exposures": 0, "frames": 0}


@pytest.mark.parametrize(
    "filters, sentence",
    [({"kind": "flta"}, "'flat'"), ({"tag": "DP"}, "no tag"), ({"instrument": "generic"}, "generic-ccd")],
)
def test_filters_of_nothing_are_told(two, filters, sentence):
    with two.read() as connection, pytest.raises(RegistryError, match=sentence):
        listing.products(connection, **filters)
    with two.read() as connection, pytest.raises(OptionError, match="certified"):
        listing.products(connection, state="gone")


def test_the_one_certified_last_is_within_the_tolerances(database):
    drafts = [
        draft(f"sha256:{number:064x}", f"/data/{number}", "dark", detector="0", temperature=temperature)
        for number, temperature in enumerate((-10.0, -10.3, -20.0))
    ]
    add(database, *drafts)
    with database.write() as writing:
        for one in drafts:
            events.certify(writing, one.identity, None, None, one.path, force="test")
    assert CAMERA.same("temperature", -10.0, -10.3) and not CAMERA.same("temperature", -10.0, -20.0)
    with database.read() as connection:
        found = [listing.last_certified(connection, listing.find(connection, one.identity)) for one in drafts]
    assert [None if one is None else one.identity for one in found] == [
        drafts[1].identity,
        drafts[0].identity,
        None,
    ]


def test_two_instruments_with_the_same_detector_number(database):
    other = CAMERA.model_copy(update={"name": "other-ccd"})
    with database.write() as writing:
        drafts = [draft(ALIKE[0]), replace(draft(ALIKE[1], "/data/b.fits"), instrument=other.name)]
        events.add(writing, drafts, {CAMERA.name: CAMERA, other.name: other})
    with database.read() as connection:
        for identity, name in zip(ALIKE, (CAMERA.name, other.name), strict=True):
            assert [one.identity for one in listing.products(connection, instrument=name)] == [identity]
        assert listing.instrument(connection, "other-ccd").name == "other-ccd"
