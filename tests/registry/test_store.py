"""The door to the registry: what is recorded is found, read, checked, and given back as it was."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

import calibrant as cal
from calibrant.errors import (
    AmbiguousError,
    FileError,
    NoMatchError,
    OptionError,
    OutputExistsError,
    OverlapError,
    RegistryError,
)
from calibrant.files.fits import write_raw
from calibrant.frame import Applied, Exposure, Frame
from calibrant.product import Input, Product, Provenance, Quantity
from calibrant.registry import Registry
from calibrant.registry.records import Item, Verdict

DAY = 86_400_000_000
NIGHT = "2024-11-08T"


@pytest.fixture
def registry(where):
    with Registry.create(where) as made:
        yield made


@pytest.fixture
def raws(tmp_path):
    """Three raw frames of a night, ten minutes apart."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for number in range(3):
        cards = {
            "IMAGETYP": "Light Frame",
            "EXPTIME": 60.0,
            "FILTER": "r",
            "DATE-OBS": f"{NIGHT}20:{number}0:00",
        }
        write_raw(folder / f"m{number}.fits", np.full((8, 10), 100 + number, np.uint16), cards)
    return folder


def flat(value=1.0, *, filter="r", epoch=0, **more):
    return Product(
        "flat",
        "generic-ccd",
        {"detector": "0", "filter": filter},
        epoch,
        {"data": np.full((8, 10), value, np.float32)},
        {"data": ""},
        quantities=(Quantity("scatter", 0.1, 0.01, "%"),),
        **more,
    )


def kept(registry, product, path, begin=None, end=None, **options):
    """Write, add and certify a product."""
    cal.write(product, path)
    registry.add(product, path)
    options.setdefault("force", "test")
    return registry.certify(product.identity, begin, end, **options)[0]


# --- itself ---


def test_a_registry_is_made_only_on_purpose(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALIBRANT_REGISTRY", raising=False)
    with pytest.raises(RegistryError, match="calibrant registry init"):
        cal.Registry()
    assert list(tmp_path.iterdir()) == []
    Registry.create().close()
    assert (tmp_path / "calibrant.db").is_file()
    with pytest.raises(OutputExistsError):
        Registry.create()


def test_the_environment_says_where(tmp_path, monkeypatch):
    monkeypatch.setenv("CALIBRANT_REGISTRY", str(tmp_path / "mine.db"))
    Registry.create().close()
    with Registry() as found:
        assert found.url.endswith("mine.db")


def test_it_is_pickled_and_survives_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Registry.create("calibrant.db") as made:
        made.tag, made.as_of = "DP1", 3
        monkeypatch.chdir(tmp_path.parent)
        with pickle.loads(pickle.dumps(made)) as again:
            assert (again.url, again.tag, again.as_of) == (made.url, "DP1", 3)


def test_how_it_shows_itself(registry, tmp_path):
    kept(registry, flat(), tmp_path / "flat.fits")
    assert "1 products, 0 exposures, 0 frames, revision 3" in repr(registry)
    assert "<td>flat</td><td>0</td><td>1</td>" in registry._repr_html_()


# --- products ---


def test_get_gives_the_product_back_as_it_was(registry, tmp_path):
    made = flat(1.25, provenance=Provenance("flat", (Input("a.fits", "sha256:" + "0" * 64),)))
    kept(registry, made, tmp_path / "flat.fits")
    got = registry.get("flat", filter="r")
    assert got.identity == made.identity and got.provenance == made.provenance
    assert np.array_equal(got.data, made.data)
    assert registry.last.candidate.identity == made.identity
    assert registry.choose("flat", filter="r").path == str(tmp_path / "flat.fits")
    assert registry.locate("flat", filter="r")[0] == str(tmp_path / "flat.fits")
    assert registry.explain("flat", filter="r").chosen.candidate.identity == made.identity


@pytest.mark.parametrize(
    "time", [f"{NIGHT}20:00Z", f"{NIGHT}20:00", datetime(2024, 11, 8, 20, tzinfo=UTC), 1731096000000000]
)
def test_time_by_every_form(registry, tmp_path, time):
    kept(registry, flat(), tmp_path / "old.fits", None, "2024-11-01T00:00Z")
    new = kept(registry, flat(2.0), tmp_path / "new.fits", "2024-11-01T00:00Z", "2024-12-01T00:00Z")
    assert registry.choose("flat", filter="r", time=time).candidate.identity == new.identity


def test_by_exposure_its_filter_and_time_follow(registry, raws, tmp_path):
    kept(registry, flat(filter="g"), tmp_path / "g.fits")
    first = kept(registry, flat(), tmp_path / "r1.fits", None, f"{NIGHT}20:10Z")
    second = kept(registry, flat(2.0), tmp_path / "r2.fits", f"{NIGHT}20:10Z")
    registry.ingest(cal.Exposures.scan(raws))
    for exposure, expected in (("m0", first), ("m1", second), ("m2", second)):
        assert registry.get("flat", exposure=exposure).identity == expected.identity
    with pytest.raises(NoMatchError, match="does not know the exposure 'm9'"):
        registry.get("flat", exposure="m9")


def test_an_exposure_that_was_not_ingested(registry, tmp_path):
    made = kept(registry, flat(), tmp_path / "r.fits", "2024-11-01T00:00Z", "2024-12-01T00:00Z")
    exposure = Exposure("light", start=1731096000000000, filter="r", instrument="generic-ccd")
    assert registry.choose_for("flat", exposure).candidate.identity == made.identity
    with pytest.raises(NoMatchError, match="filter is r, not g"):
        registry.choose_for("flat", replace(exposure, filter="g"))


def test_tag_and_revision_of_the_registry_are_those_of_its_questions(registry, where, tmp_path):
    old = kept(registry, flat(), tmp_path / "a.fits", tag="old")
    then = registry.revision
    new = kept(registry, flat(2.0), tmp_path / "b.fits", tag="new")
    question = {"filter": "r", "time": f"{NIGHT}20:00Z"}
    with pytest.raises(AmbiguousError):
        registry.choose("flat", **question)
    with Registry(where, tag="new") as by_tag, Registry(where, as_of=then) as by_revision:
        assert by_tag.choose("flat", **question).candidate.identity == new.identity
        assert by_tag.choose("flat", **question, tag="old").candidate.identity == old.identity
        assert by_revision.choose("flat", **question).candidate.identity == old.identity
    registry.chain("all", ["new", "old"])
    assert registry.choose("flat", **question, tag="all").candidate.identity == new.identity
    assert registry.tags() == {"all": ["new", "old"], "new": [], "old": []}


def test_a_frozen_state_is_replayed(registry, tmp_path):
    first = kept(registry, flat(), tmp_path / "a.fits")
    revision = registry.freeze("then", "for the paper")
    second = kept(registry, flat(2.0), tmp_path / "b.fits", replace=True)
    assert registry.get("flat", filter="r").identity == second.identity
    assert registry.get("flat", filter="r", as_of="then").identity == first.identity
    assert registry.contexts() == {"then": revision}
    assert [entry.state for entry in registry.products()] == (
        ["superseded", "certified"] if first.identity < second.identity else ["certified", "superseded"]
    )


def test_a_file_that_is_gone_or_altered(registry, tmp_path):
    made = flat()
    path = tmp_path / "flat.fits"
    kept(registry, made, path)
    path.rename(tmp_path / "moved.fits")
    with pytest.raises(RegistryError, match=r"is lost: .*flat\.fits.*calibrant registry add"):
        registry.get("flat", filter="r")
    registry.add(made, tmp_path / "moved.fits")
    assert registry.get("flat", filter="r").identity == made.identity
    data = bytearray((tmp_path / "moved.fits").read_bytes())
    data[2 * 2880 + 100] ^= 1  # a pixel
    (tmp_path / "moved.fits").write_bytes(data)
    with pytest.raises(RegistryError, match="not as it was recorded"):
        registry.get("flat", filter="r")
    cal.write(made, path)  # the first place is good again: it is found, though it was seen earlier
    assert registry.get("flat", filter="r").identity == made.identity
    assert registry.locate("flat", filter="r")[0] == str(path)


def test_another_product_in_its_place_is_not_given(registry, tmp_path):
    kept(registry, flat(), tmp_path / "flat.fits")
    cal.write(flat(3.0), tmp_path / "flat.fits", overwrite=True)
    with pytest.raises(RegistryError, match="it holds another product"):
        registry.get("flat", filter="r")


def test_an_altered_file_is_not_certified_by_what_it_says_of_itself(registry, tmp_path):
    made, path = flat(), tmp_path / "flat.fits"
    kept(registry, made, path, tag="first")
    data = bytearray(path.read_bytes())
    data[2 * 2880 + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileError, match="changed since it was written"):
        registry.certify(path, tag="second", force="test")
    assert [tag for tag, _, _ in registry.entry(made.identity).validity] == ["first"]


def test_certified_from_to_and_replaced(registry, tmp_path):
    first = kept(registry, flat(), tmp_path / "a.fits", "2024-11-01T00:00Z", "2024-12-01T00:00Z", tag="DP1")
    cal.write(flat(2.0), tmp_path / "b.fits")
    second = registry.add(flat(2.0), tmp_path / "b.fits").identity
    span = ("2024-11-10", "2024-11-20T00:00Z")
    with pytest.raises(OverlapError, match="overlap"):
        registry.certify(second, *span, tag="DP1", force="better")
    entry, notes = registry.certify(second, *span, tag="DP1", force="better", replace=True)
    assert "2024-11-10 has no zone: taken as 2024-11-10T00:00:00Z" in notes
    assert [tag for tag, _, _ in entry.validity] == ["DP1"]
    assert len(registry.entry(first.identity).validity) == 2


def test_a_verdict_opens_the_way(registry, tmp_path):
    cal.write(flat(), tmp_path / "a.fits")
    entry = registry.add(flat(), tmp_path / "a.fits")
    with pytest.raises(RegistryError, match="has not been verified"):
        registry.certify(entry.identity)
    for value, verified in ((2.0, False), (1.0, True)):
        verdict = Verdict(entry.identity, "flat", (Item("normalisation", value, 0.9, 1.1),))
        assert registry.verified(verdict).verified is verified
    assert registry.certify(entry.identity)[0].state == "certified"


def test_withdrawn_once_with_all_that_was_made_of_it(registry, tmp_path):
    dark = replace(flat(5.0), kind="dark")
    kept(registry, dark, tmp_path / "dark.fits")
    made = kept(registry, flat(provenance=Provenance(parents=(dark.identity,))), tmp_path / "flat.fits")
    assert registry.withdraw(tmp_path / "dark.fits", "light leak") == (made.identity,)
    with pytest.raises(RegistryError, match="withdrawn already"):
        registry.withdraw(dark.identity, "again")
    assert "light leak" in registry.entry(made.identity).tainted[0]
    registry.get("flat", filter="r")
    assert any("tainted" in note and "light leak" in note for note in registry.last.notes)
    assert {trouble.what for trouble in registry.check()} == {"tainted"}


def test_taint_is_told_wherever_a_product_is_chosen(registry, raws, tmp_path):
    dark = replace(flat(5.0), kind="dark")
    kept(registry, dark, tmp_path / "dark.fits")
    made = kept(registry, flat(provenance=Provenance(parents=(dark.identity,))), tmp_path / "flat.fits")
    before = registry.freeze("before")
    registry.withdraw(dark.identity, "light leak")
    exposure = cal.Exposures.scan([raws], instrument="generic-ccd")[0]
    told = [
        registry.choose("flat", filter="r"),
        registry.choose_for("flat", exposure),
        registry.explain("flat", filter="r").chosen,
        registry.locate("flat", filter="r")[1],
    ]
    for choice in told:
        (note,) = choice.notes
        assert note.startswith(f"it is tainted: dark {dark.identity[:19]}, an ancestor, was withdrawn"), note
    (note,) = registry.choose("flat", filter="r", as_of=before).notes
    assert note.startswith("it is tainted, as is known since: dark") and "light leak" in note
    registry.withdraw(made.identity, "dust")
    note = registry.choose("flat", filter="r", as_of="before").notes[0]
    assert note.startswith("it was withdrawn since (revision") and note.endswith("dust")


def test_other_bytes_around_the_same_product_are_told(registry, tmp_path):
    path = tmp_path / "flat.fits"
    kept(registry, flat(), path)
    assert registry.locate("flat", filter="r")[1].notes == ()
    data = path.read_bytes()
    path.write_bytes(
        data.replace(b"conforms", b"CONFORMS", 1) if b"conforms" in data else data + b"\0" * 2880
    )
    assert registry.get("flat", filter="r").identity == flat().identity
    (note,) = registry.locate("flat", filter="r")[1].notes
    assert "the bytes of the file around it are not" in note
    assert [trouble.what for trouble in registry.check()] == ["altered"]
    registry.add(flat(), path)  # a further form of it, from now on
    assert registry.locate("flat", filter="r")[1].notes == ()


def test_facts_that_are_read_again(registry, raws, tmp_path):
    """A corrected instrument file: the exposure is asked for by its new facts, and as of then by the old."""
    exposures = cal.Exposures.scan([raws], instrument="generic-ccd")
    registry.ingest(exposures)
    red, green = flat(), flat(2.0, filter="g")
    for number, product in enumerate((red, green)):
        kept(registry, product, tmp_path / f"{number}.fits")
    question = {"exposure": "m0", "detector": "0"}
    assert registry.choose("flat", **question).candidate.identity == red.identity
    before = registry.freeze("before")
    other = [replace(one, filter="g") for one in exposures]
    model = exposures.instrument
    (note,) = registry.ingest(other, instrument=model).notes
    assert "those recorded then stay, unless you ingest it with --again" in note
    assert registry.choose("flat", **question).candidate.identity == red.identity
    (note,) = registry.ingest(other, instrument=model, again=True).notes
    assert "those of now count" in note
    assert registry.ingest(other, instrument=model, again=True).notes == ()
    assert registry.choose("flat", **question).candidate.identity == green.identity
    assert registry.choose("flat", **question, as_of=before).candidate.identity == red.identity
    assert registry.get("raw", **question).exposure.filter == "g"
    between = registry.revision
    registry.ingest(exposures, again=True)
    assert registry.choose("flat", **question).candidate.identity == red.identity
    assert registry.choose("flat", **question, as_of=between).candidate.identity == green.identity
    assert registry.check() == []


# --- frames ---


def test_raw_frames(registry, raws, tmp_path):
    done = registry.ingest(cal.Exposures.scan(raws))
    assert (done.new, done.known, done.moved) == (3, 0, 0)
    assert registry.ingest(cal.Exposures.scan(raws)).known == 3
    frame = registry.get("raw", exposure="m1")
    assert isinstance(frame.data, np.ndarray) and frame.data[0, 0] == 101
    assert (frame.exposure.filter, frame.exposure.path) == ("r", str(raws / "m1.fits"))
    (raws / "m1.fits").rename(tmp_path / "else.fits")
    with pytest.raises(RegistryError, match="lost"):
        registry.get("raw", exposure="m1")
    assert registry.ingest(cal.Exposures.scan(tmp_path / "else.fits")).moved == 1
    assert registry.get("raw", exposure="m1").exposure.path == str(tmp_path / "else.fits")
    (tmp_path / "else.fits").write_bytes((raws / "m2.fits").read_bytes())
    with pytest.raises(RegistryError, match="altered"):
        registry.get("raw", exposure="m1")


def test_calibrated_frames_by_both_names(registry, raws, tmp_path):
    registry.ingest(cal.Exposures.scan(raws))
    made = kept(registry, flat(), tmp_path / "flat.fits")
    frame = Frame(np.ones((8, 10), np.float32), unit="electron", history=(Applied("flat", made.identity),))
    cal.write(frame, tmp_path / "out.fits")
    assert registry.add_frame(frame, tmp_path / "out.fits", raw=raws / "m1.fits")
    assert not registry.add_frame(frame, tmp_path / "out.fits", raw=raws / "m1.fits")
    for kind in ("calibrated", "visit_image"):
        assert registry.get(kind, exposure="m1").unit == "electron"
    found = registry.lineage(tmp_path / "out.fits")
    assert {node.kind for node in found.nodes.values()} == {"calibrated", "flat", "light"}
    with pytest.raises(NoMatchError, match="calibrated"):
        registry.get("calibrated", exposure="m2")
    before = registry.revision
    registry.withdraw(made.identity, "dust")
    registry.get("calibrated", exposure="m1")
    (note,) = registry.notes
    assert note.startswith(f"it is tainted: flat {made.identity[:19]}") and note.endswith("dust")
    registry.get("calibrated", exposure="m1", as_of=before)
    assert registry.notes[0].startswith("it is tainted, as is known since")
    registry.get("raw", exposure="m1")
    assert registry.notes == ()
    with pytest.raises(OptionError, match="no product"):
        registry.explain("raw", exposure="m1")


def test_a_file_that_is_gone_is_told_in_the_lineage(registry, raws, tmp_path):
    exposures = cal.Exposures.scan(raws)
    registry.ingest(exposures)
    made = flat(provenance=Provenance(inputs=tuple(exposures.inputs())))
    kept(registry, made, tmp_path / "flat.fits")
    assert {node.problem for node in registry.lineage(made.identity).nodes.values()} == {""}
    (raws / "m0.fits").unlink()
    (raws / "m1.fits").write_bytes(b"short")
    problems = [node.problem for node in registry.lineage(made.identity).nodes.values()]
    assert sorted(problems) == ["", "", "altered", "lost"]


def test_exposures_need_an_instrument(registry):
    with pytest.raises(OptionError, match="instrument"):
        registry.ingest([Exposure("light", path="/nowhere.fits")])


def test_hashes_are_kept_beside_a_file(raws, tmp_path):
    with Registry.create(tmp_path / "calibrant.db") as registry:
        registry.ingest(cal.Exposures.scan(raws))
    assert (tmp_path / ".calibrant.db.hashes").stat().st_size > 0
    # A hash that is known is not made again: the bytes change, but neither size nor time do.
    path = raws / "m0.fits"
    info = path.stat()
    with path.open("r+b") as stream:
        stream.seek(2880)
        stream.write(b"zz")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    with Registry(tmp_path / "calibrant.db") as registry:
        assert registry.ingest(cal.Exposures.scan(raws)).known == 3
        assert [trouble.what for trouble in registry.check()] == ["altered"]  # check reads every byte


def test_nothing_of_a_reduction_that_fails_is_recorded(registry, raws, tmp_path):
    from calibrant.registry.opening import draft_of
    from calibrant.registry.records import CalibratedFile

    cal.write(flat(), tmp_path / "flat.fits")
    exposures = cal.Exposures.scan(raws)
    orphan = CalibratedFile("sha256:" + "0" * 64, "/x.fits", "sha256:" + "1" * 64, 1)
    models = {"generic-ccd": exposures.instrument}
    with pytest.raises(RegistryError, match="ingest it first"):
        registry.record([draft_of(flat(), tmp_path / "flat.fits")], models, [orphan], exposures)
    assert registry.revision == 0 and registry.products() == [] and registry.exposures() == []
    registry.record([draft_of(flat(), tmp_path / "flat.fits")], models, (), exposures)
    assert len(registry.products()) == 1 and len(registry.exposures()) == 3
