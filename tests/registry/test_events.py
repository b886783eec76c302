"""What changes a registry: drafts, verdicts, certifications, withdrawals, chains and frozen states."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sqlalchemy import func, insert, select

from calibrant.errors import CalibrantError, OptionError, OutputExistsError, OverlapError, RegistryError
from calibrant.frame import Exposure
from calibrant.instrument import load
from calibrant.registry import events, places, schema
from calibrant.registry.checking import check
from calibrant.registry.facts import exposure_json, exposure_of, keys_of, keys_text
from calibrant.registry.ingest import ingest
from calibrant.registry.records import Draft, Item, Verdict
from calibrant.registry.schema import ALWAYS, FOREVER

CAMERA = load("generic-ccd")  # temperatures within 1 degree are the same


def sha(word):
    return f"sha256:{word.encode().hex():0<64}"


def draft(word="flat", *, kind="flat", path=None, hash=None, **keys):
    keys = keys or {"detector": "0", "filter": "r"}
    path = path or f"/data/{word}.fits"
    return Draft(sha(word), kind, CAMERA.name, keys, 100, path, hash or sha(f"file {word}"), 1000)


def add(database, *drafts):
    with database.write() as writing:
        return events.add(writing, drafts, {CAMERA.name: CAMERA})


def judge(database, identity, passed=True):
    item = Item("level", 1.0, 0.0 if passed else 2.0, None)
    with database.write() as writing:
        return events.verified(writing, Verdict(identity, "flat", (item,)))


def good(database, word="flat", **options):
    """A product that is verified; returns its identity."""
    add(database, draft(word, **options))
    judge(database, sha(word))
    return sha(word)


def certify(database, identity, begin=None, end=None, tag="default", **options):
    with database.write() as writing:
        return events.certify(writing, identity, begin, end, tag, **options)


def valid(database):
    """What is valid now: (identity, begin, end), by time."""
    table, product = schema.current_validity, schema.product
    with database.read() as connection:
        rows = connection.execute(
            select(product.c.identity, table.c.begin, table.c.end)
            .select_from(table.join(product))
            .order_by(table.c.slot, table.c.begin)
        )
        return [tuple(row) for row in rows]


def told(database, kind):
    with database.read() as connection:
        event = schema.event
        return connection.execute(select(event).where(event.c.kind == kind).order_by(event.c.revision)).all()


def count(database, table):
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def agrees(database):
    """The derived tables are what the events say."""
    with database.read() as connection:
        found = check(connection, lambda path: (_ for _ in ()).throw(FileNotFoundError(path)))
    return not [trouble for trouble in found if trouble.what == "derived"]


# --- drafts -----------------------------------------------------------------------------------------------


def test_a_draft_with_all_it_has(database):
    made = Draft(
        sha("a"),
        "dark",
        CAMERA.name,
        {"temperature": np.float32(-10.5), "detector": 3, "binning": (2, 2)},
        7,
        "/data/a.fits",
        sha("file"),
        1234,
        [("level", "", np.float64(0.1), None, "e"), ("level", "amp 1", math.nan, math.inf, "e")],
        [(sha("raw"), "r1.fits"), (sha("raw"), "r1 again.fits"), (None, "gone.fits")],
        [sha("bias")],
        {"options": {"clip": (3, 4)}},
    )
    assert add(database, made) == []
    with database.read() as connection:
        product = connection.execute(select(schema.product)).one()
        setting = connection.execute(select(schema.setting.c.detector, schema.setting.c["keys"])).one()
        quantities = connection.execute(
            select(schema.quantity.c["place", "value", "sigma"]).order_by(schema.quantity.c.place)
        ).all()
        lineage = set(connection.execute(select(*schema.lineage.c)).all())
    assert (product.identity, product.epoch, product.hash) == (sha("a"), 7, sha("file"))
    assert json.loads(product.facts) == {"options": {"clip": [3, 4]}}
    assert setting[0] == "3"
    assert keys_of(setting[1]) == {"temperature": -10.5, "detector": "3", "binning": (2, 2)}
    assert [tuple(row) for row in quantities] == [("", 0.1, None), ("amp 1", None, math.inf)]
    assert {tuple(row) for row in lineage} == {
        (sha("a"), sha("raw"), "input", "r1 again.fits"),
        (sha("a"), "name:gone.fits", "input", "gone.fits"),
        (sha("a"), sha("bias"), "parent", ""),
    }
    told_draft = told(database, "draft")
    assert [(row.subject, row.product, row.revision) for row in told_draft] == [
        (sha("a"), product.id, product.revision)
    ]


def test_a_product_is_recorded_once(database):
    add(database, draft())
    (note,) = add(database, draft())
    assert "known already" in note
    assert count(database, schema.product) == count(database, schema.setting) == 1
    assert len(told(database, "draft")) == 1


def test_the_same_product_twice_in_one_call(database):
    notes = add(database, draft(), draft(path="/elsewhere/flat.fits"))
    assert len(notes) == 1 and "/elsewhere/flat.fits" in notes[0]
    assert count(database, schema.product) == 1
    with database.read() as connection:
        assert set(places.of_product(connection, sha("flat"))) == {"/data/flat.fits", "/elsewhere/flat.fits"}


def test_a_copy_with_other_bytes_is_a_file_of_the_product(database):
    """Written twice: the same content, another header."""
    add(database, draft())
    for _ in range(2):
        add(database, draft(path="/copy/flat.fits", hash=sha("other bytes")))
    with database.read() as connection:
        assert places.of_product(connection, sha("flat")) == ["/copy/flat.fits", "/data/flat.fits"]
    assert len(told(database, "copied")) == 1
    with database.write() as writing:
        events.withdraw(writing, sha("other bytes"), "by its copy")
    assert told(database, "withdrawn")[0].subject == sha("flat")


def test_a_path_holds_the_file_seen_last(database):
    add(database, draft("old", path="/data/flat.fits"))
    add(database, draft("new", path="/data/flat.fits"))
    with database.read() as connection:
        assert places.of_product(connection, sha("old")) == []
        assert places.of_product(connection, sha("new")) == ["/data/flat.fits"]
    add(database, draft("old", path="/data/flat.fits"))  # it came back
    with database.read() as connection:
        assert places.of_product(connection, sha("old")) == ["/data/flat.fits"]
        assert places.of_product(connection, sha("new")) == []


def test_many_drafts_share_settings(database):
    add(database, *(draft(f"p{n}", detector=str(n % 3), filter="r") for n in range(30)))
    assert count(database, schema.product) == 30
    assert count(database, schema.setting) == 3
    with database.read() as connection:
        assert connection.execute(select(schema.head.c.revision)).scalar() == 31  # one is of the instrument


def test_a_path_that_cannot_be_stored_is_refused_and_nothing_is_left(database):
    with pytest.raises(RegistryError, match="UTF-8"):
        add(database, draft("a"), draft("b", path="/data/\udcff.fits"))
    assert count(database, schema.product) == count(database, schema.event) == 0


def test_the_model_of_an_instrument_is_recorded_when_it_changes(database):
    for model in (CAMERA, CAMERA, CAMERA.model_copy(update={"title": "mended"}), CAMERA):
        with database.write() as writing:
            events.record_instrument(writing, model)
    assert [row.subject for row in told(database, "instrument")] == [CAMERA.name] * 3
    with database.read() as connection:
        texts = list(connection.execute(select(schema.instrument.c.model)).scalars())
    assert [type(CAMERA).model_validate_json(text).title for text in texts] == [
        CAMERA.title,
        "mended",
        CAMERA.title,
    ]


def test_keys_are_canonical():
    assert keys_text({"b": (1, np.int64(2)), "a": np.float64(0.1)}) == '{"a":0.1,"b":[1,2]}'
    assert keys_text({"detector": 1}) == keys_text({"detector": "1"})
    assert keys_of(keys_text({"temperature": math.nan})) == {"temperature": None}
    for value in (0.1, 1e-300, 2**53 + 1, -0.0, 'a "b"; \\ c', (2, (3,))):
        assert keys_of(keys_text({"k": value})) == {"k": value}


def test_an_exposure_comes_back_exactly():
    exposure = Exposure(
        kind="flat",
        start=1_731_067_200_123_456,
        duration=0.1,
        filter="r;'\"",
        binning=(2, 1),
        shape=(10, 20),
        applied=frozenset({"dark", "bias"}),
        keys={"amps": ("A", 1.5), "zone": None},
        path="/raw/a.fits",
    )
    assert exposure_of(exposure_json(exposure)) == exposure
    assert exposure_of(exposure_json(Exposure())) == Exposure()
    assert exposure_of('{"kind":"bias","of_a_later_version":1}') == Exposure(kind="bias")


# --- certification ----------------------------------------------------------------------------------------


def test_a_product_needs_a_verdict(database):
    add(database, draft())
    with pytest.raises(RegistryError, match=r"not been verified.*verify it"):
        certify(database, sha("flat"))
    judge(database, sha("flat"), passed=False)
    with pytest.raises(RegistryError, match="failed its verification"):
        certify(database, sha("flat"))
    judge(database, sha("flat"))
    assert certify(database, sha("flat")) == []
    judge(database, sha("flat"), passed=False)
    with pytest.raises(RegistryError, match="failed"):  # the last one counts
        certify(database, sha("flat"), tag="other")


def test_a_forced_certification_is_recorded(database):
    add(database, draft())
    with pytest.raises(RegistryError, match="verified"):
        certify(database, sha("flat"), force=" ")
    (note,) = certify(database, sha("flat"), force='only one; it\'s "fine"')
    assert "has not been verified" in note and "only one" in note
    (row,) = told(database, "certified")
    assert row.why == 'only one; it\'s "fine"' and row.verdict is None


def test_a_reason_is_not_recorded_where_none_was_needed(database):
    certify(database, good(database), force="in any case")
    (row,) = told(database, "certified")
    assert row.why is None and row.verdict is not None


def test_a_verdict_keeps_its_values(database):
    add(database, draft())
    items = (Item("level", 1.5, 1.0, None, "e", "amp 2"), Item("noise", None, 0.0, 3.0))
    with database.write() as writing:
        events.verified(writing, Verdict(sha("flat"), "flat", items, "ccd", ("a.fits",), ("note",)))
    with database.read() as connection:
        row = connection.execute(select(schema.verdict)).one()
    assert row.passed == 0
    assert [(i["name"], i["place"], i["value"], i["passed"]) for i in json.loads(row._mapping["items"])] == [
        ("level", "amp 2", 1.5, True),
        ("noise", "", None, False),
    ]
    assert json.loads(row.facts) == {"recipe": "ccd", "frames": ["a.fits"], "notes": ["note"]}
    assert told(database, "verified")[0].revision == row.revision
    with pytest.raises(RegistryError, match="nothing with the hash"):
        judge(database, sha("nobody"))


def test_spans_may_touch_and_not_overlap(database):
    one, two = good(database, "one"), good(database, "two")
    certify(database, one, 0, 100)
    certify(database, two, 100, 200)
    for begin, end in ((99, 100), (0, 1), (50, 60), (None, 1), (199, None), (None, None)):
        with pytest.raises(OverlapError):
            certify(database, two, begin, end)
    assert valid(database) == [(one, 0, 100), (two, 100, 200)]
    certify(database, one, None, 0)
    certify(database, one, 200, None)
    assert valid(database)[0] == (one, ALWAYS, 0) and valid(database)[-1] == (one, 200, FOREVER)
    assert told(database, "certified")[-1].end is None
    assert agrees(database)


def test_an_overlap_says_with_what(database):
    one, two = good(database, "one"), good(database, "two")
    certify(database, one, "2024-11-08T12:00Z", "2024-12-12T12:00Z", "DP1")
    with pytest.raises(OverlapError) as caught:
        certify(database, two, "2024-12-01T00:00Z", None, "DP1")
    for word in (one[:19], "2024-11-08T12:00:00Z", "2024-12-12T12:00:00Z", "'DP1'", "--replace"):
        assert word in str(caught.value)
    certify(database, two, "2024-12-01T00:00Z", None, "DP2")  # another tag is another slot


def test_the_same_span_again_is_certified_already(database):
    one = good(database)
    certify(database, one, 0, 100)
    for replace in (False, True):
        with pytest.raises(OverlapError, match="is certified already"):
            certify(database, one, 20, 100, replace=replace)
    assert len(told(database, "certified")) == 1


def test_replace_keeps_what_remains(database):
    old, new = good(database, "old"), good(database, "new")
    certify(database, old, 0, 100, who="ann")
    (note,) = certify(database, new, 40, 60, replace=True, who="bob")
    assert "replaced" in note and old[:19] in note and "of it remains" in note
    assert valid(database) == [(old, 0, 40), (new, 40, 60), (old, 60, 100)]
    first, *rest, last = told(database, "certified")
    (ended,) = told(database, "superseded")
    assert ended.ends == first.revision and ended.who == "bob"
    assert [json.loads(row.facts) for row in rest] == [{"remainder_of": first.revision}] * 2
    assert last.facts is None and all(row.verdict for row in rest)
    assert agrees(database)


def test_replace_of_several_with_open_ends(database):
    one, two, new = (good(database, word) for word in ("one", "two", "new"))
    certify(database, one, None, 100)
    certify(database, two, 100, None)
    assert len(certify(database, new, 50, 150, replace=True)) == 2
    assert valid(database) == [(one, ALWAYS, 50), (new, 50, 150), (two, 150, FOREVER)]
    assert told(database, "certified")[2].begin is None
    certify(database, new, replace=True)
    assert valid(database) == [(new, ALWAYS, FOREVER)]
    assert len(told(database, "superseded")) == 2 + 3
    assert agrees(database)


def test_from_after_to(database):
    one = good(database)
    with pytest.raises(OptionError, match="--from after --to"):
        certify(database, one, 2, 1)
    with pytest.raises(OptionError, match="the same time"):
        certify(database, one, 1, 1)
    with pytest.raises(OptionError, match="the end is no time"):
        certify(database, one, 1, "soon")
    assert valid(database) == [] and count(database, schema.tag) == 0


def test_a_zone_that_is_missing_is_told(database):
    notes = certify(database, good(database), "2024-11-08T12:00", "2024-12-12T12:00Z")
    assert notes == ["2024-11-08T12:00 has no zone: taken as 2024-11-08T12:00:00Z"]


def test_keys_within_tolerance_share_a_slot(database):
    cold = good(database, "cold", kind="dark", temperature=-15.0, detector="0")
    near = good(database, "near", kind="dark", temperature=-14.9, detector="0")
    warm = good(database, "warm", kind="dark", temperature=-10, detector="0")
    other = good(database, "other", kind="dark", temperature=-15.0, detector="1")
    certify(database, cold, 0, 100)
    with pytest.raises(OverlapError):
        certify(database, near, 50, 150)
    certify(database, near, 100, 200)
    certify(database, warm, 0, 100)
    certify(database, other, 0, 100)
    assert count(database, schema.slot) == 3


def test_the_nearest_slot_wins(database):
    first, second, third = (
        good(database, word, kind="dark", temperature=value)
        for word, value in (("a", -15.0), ("b", -13.5), ("c", -14.1))
    )
    certify(database, first, 0, 100)
    certify(database, second, 0, 100)
    with pytest.raises(OverlapError, match=second[:19]):  # 0.6 degrees away, not 0.9
        certify(database, third, 0, 100)


def test_a_key_that_is_unknown_is_a_slot_of_its_own(database):
    any_filter = good(database, "any", detector="0")
    certify(database, any_filter, 0, 100)
    certify(database, good(database, "r", detector="0", filter="r"), 0, 100)
    with pytest.raises(OverlapError):
        certify(database, good(database, "none", detector="0", filter=None), 0, 100)


def test_unknown_products_and_odd_tags(database):
    with pytest.raises(RegistryError, match="no product"):
        certify(database, sha("nobody"))
    one = good(database)
    for name in ("", " a", "a,b", "a\nb"):
        with pytest.raises(OptionError, match="cannot be named"):
            certify(database, one, tag=name)
    certify(database, one, tag='it\'s; "DP1" --')
    assert len(valid(database)) == 1


def test_a_refused_certification_leaves_nothing(database):
    one, two = good(database, "one"), good(database, "two")
    certify(database, one, 0, 100)
    before = count(database, schema.event)
    with pytest.raises(OverlapError):
        certify(database, two, 50, 150, tag="default")
    assert count(database, schema.event) == before
    with database.read() as connection:
        assert connection.execute(select(schema.head.c.revision)).scalar() == before


def test_the_database_itself_refuses_overlaps(database):
    """Whatever program writes: the constraint is in the database."""
    certify(database, good(database), 0, 100)
    with database.read() as connection:
        row = dict(connection.execute(select(schema.current_validity)).one()._mapping)
    for begin, end in ((99, 101), (ALWAYS, FOREVER), (10, 20)):
        with pytest.raises(CalibrantError), database.write() as writing:
            event = writing.event("certified")
            values = {**row, "event": event, "begin": begin, "end": end}
            writing.connection.execute(insert(schema.current_validity).values(values))
    assert len(valid(database)) == 1


# --- many at once -----------------------------------------------------------------------------------------


def many(database, spans, tag="default", **options):
    with database.write() as writing:
        return events.certify_many(writing, spans, tag, **options)


def test_many_are_certified_as_one_by_one(database):
    add(database, *(draft(f"p{n}", detector=str(n % 2), filter="r") for n in range(10)))
    spans = [(sha(f"p{n}"), n // 2 * 10, n // 2 * 10 + 10) for n in range(10)]
    with pytest.raises(RegistryError, match="verified"):
        many(database, spans)
    assert many(database, spans, force="test") == 10
    assert count(database, schema.slot) == 2
    assert sorted(valid(database)) == sorted(spans)
    assert {row.why for row in told(database, "certified")} == {"test"}
    assert many(database, []) == 0
    assert agrees(database)


def test_many_refuse_overlaps_among_themselves_and_with_others(database):
    one, two = good(database, "one"), good(database, "two")
    certify(database, one, 100, 200)
    for spans in (
        [(one, 0, 10), (two, 9, 20)],
        [(one, 0, 10), (two, 199, 300)],
        [(two, None, None)],
        [(two, 0, 101)],
        [(two, 120, 130)],
        [(one, 0, 10), (one, 0, 10)],
    ):
        with pytest.raises(OverlapError):
            many(database, spans)
    assert valid(database) == [(one, 100, 200)]
    assert many(database, [(two, None, 100), (two, 200, None)]) == 2


def test_many_refuse_what_one_refuses(database):
    one = good(database)
    with pytest.raises(OptionError, match="--from after --to"):
        many(database, [(one, 2, 1)])
    with pytest.raises(RegistryError, match="no product"):
        many(database, [(one, 0, 1), (sha("nobody"), 0, 1)])
    with database.write() as writing:
        events.withdraw(writing, one, "bad")
    with pytest.raises(RegistryError, match="was withdrawn"):
        many(database, [(one, 0, 1)], force="no")


# --- withdrawal -------------------------------------------------------------------------------------------


def test_a_withdrawal_ends_every_certification_and_makes_room(database):
    old, new = good(database, "old"), good(database, "new")
    certify(database, old, 0, 100)
    certify(database, old, 0, 100, tag="DP1")
    with database.write() as writing:
        revision = events.withdraw(writing, old, "light leak", "ann")
    assert valid(database) == []
    with pytest.raises(RegistryError, match=f"revision {revision}.*light leak"):
        certify(database, old, 0, 100)
    certify(database, new, 50, 150)
    assert valid(database) == [(new, 50, 150)]
    assert agrees(database)


def test_withdrawn_twice(database):
    one = good(database)
    with database.write() as writing:
        revision = events.withdraw(writing, one, 'it\'s; "bad" --')
    with pytest.raises(RegistryError) as caught, database.write() as writing:
        events.withdraw(writing, one, "again")
    assert f"revision {revision}" in str(caught.value) and 'it\'s; "bad" --' in str(caught.value)
    assert len(told(database, "withdrawn")) == 1


def test_a_withdrawal_needs_a_reason_and_a_thing(database):
    one = good(database)
    with pytest.raises(OptionError, match="reason"), database.write() as writing:
        events.withdraw(writing, one, " ")
    with pytest.raises(RegistryError, match="nothing with the hash"), database.write() as writing:
        events.withdraw(writing, sha("nobody"), "bad")


def test_raw_files_and_calibrated_frames_can_be_withdrawn(database):
    raw = Exposure(kind="light", start=1, identifier="E1", path="/raw/e1.fits")
    with database.write() as writing:
        ingest(writing, [raw], lambda path: (sha(path), 10), CAMERA)
        arguments = ("/out/e1.fits", sha("out"), 10, [(sha("flat"), "parent", "flat")], {"steps": ["flat"]})
        assert events.add_frame(writing, sha("/raw/e1.fits"), *arguments)
        assert not events.add_frame(writing, sha("/raw/e1.fits"), *arguments)
        with pytest.raises(RegistryError, match="ingest it first"):
            events.add_frame(writing, sha("other"), *arguments)
        for key in (sha("/raw/e1.fits"), sha("out")):
            events.withdraw(writing, key, "clouds")
    assert [row.product for row in told(database, "withdrawn")] == [None, None]
    with database.read() as connection:
        parents = set(connection.execute(select(schema.lineage.c["parent", "role"])).all())
    assert {tuple(row) for row in parents} == {(sha("flat"), "parent"), (sha("/raw/e1.fits"), "input")}


# --- chains and frozen states -----------------------------------------------------------------------------


def chain(database, tag, *members):
    with database.write() as writing:
        return events.chain(writing, tag, members)


def members(database, tag):
    table, names = schema.tag_member, schema.tag
    owner = names.alias()
    with database.read() as connection:
        return list(
            connection.execute(
                select(names.c.name)
                .select_from(
                    table.join(owner, owner.c.id == table.c.tag).join(names, names.c.id == table.c.member)
                )
                .where(owner.c.name == tag)
                .order_by(table.c.priority)
            ).scalars()
        )


def test_a_chain(database):
    one = good(database)
    for tag in ("DP1", "DP2"):
        certify(database, one, 0, 100, tag=tag)
    chain(database, "mine", "DP2", "DP1", "DP2")
    assert members(database, "mine") == ["DP2", "DP1"]
    chain(database, "mine", "DP1")
    assert members(database, "mine") == ["DP1"]
    assert [json.loads(row.facts)["members"] for row in told(database, "chained")] == [
        ["DP2", "DP1"],
        ["DP1"],
    ]
    assert agrees(database)
    chain(database, "mine")
    assert members(database, "mine") == []
    assert agrees(database)


def test_a_chain_has_no_circle_and_no_strangers(database):
    certify(database, good(database), tag="DP1")
    chain(database, "a", "DP1")
    chain(database, "b", "a")
    with pytest.raises(RegistryError, match="follow itself"):
        chain(database, "a", "b")
    with pytest.raises(RegistryError, match="follow itself"):
        chain(database, "a", "a")
    with pytest.raises(RegistryError, match="did you mean 'DP1'"):
        chain(database, "c", "DP11")
    assert members(database, "a") == ["DP1"] and members(database, "c") == []


def test_a_frozen_state_has_a_name(database):
    add(database, draft())
    with database.write() as writing:
        revision = events.freeze(writing, "paper; 'one'", "for the referee")
    with database.read() as connection:
        row = connection.execute(select(schema.context)).one()
    assert (row.name, row.revision, row.why) == ("paper; 'one'", revision, "for the referee")
    with pytest.raises(OutputExistsError, match=f"revision {revision}"), database.write() as writing:
        events.freeze(writing, "paper; 'one'")
    for name in ("", "12", "-3", "2024-11-08", "2024-11-08T12:00Z", " x"):
        with pytest.raises(OptionError, match="cannot be named"), database.write() as writing:
            events.freeze(writing, name)
    assert len(told(database, "frozen")) == 1
