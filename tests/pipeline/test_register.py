"""A reduction is recorded as a whole: raw frames, masters as drafts, calibrated frames, what came of what."""

from __future__ import annotations

import json

import pytest

from calibrant.errors import DatabaseError
from calibrant.files.fits import read
from calibrant.files.hashing import file_hash
from calibrant.pipeline.register import register
from calibrant.pipeline.run import reduce
from calibrant.registry import Registry

OFF = {"steps_options.cosmic_rays.enabled": "false"}


@pytest.fixture
def registry(tmp_path):
    with Registry.create(tmp_path / "calibrant.db") as found:
        yield found


def test_all_of_a_reduction_is_recorded(raw, registry, tmp_path):
    out = tmp_path / "out"
    summary = reduce(raw, out=out, changes=OFF, register=registry).summary
    done = summary.registered
    assert (done["products"], done["known"], done["exposures"], done["frames"]) == (7, 0, 32, 3)
    assert done["revision"] == registry.revision
    assert json.loads((out / "summary.json").read_text()) == summary.as_dict()

    entries = {entry.identity: entry for entry in registry.products()}
    assert set(entries) == {entry["identity"] for entry in summary.masters}
    assert {entry.state for entry in entries.values()} == {"draft"}
    for made in summary.masters:
        entry, product = entries[made["identity"]], read(out / made["file"])
        assert entry.places == (str(out / made["file"]),)
        assert (entry.kind, dict(entry.keys), entry.epoch) == (
            product.kind,
            dict(product.keys),
            product.epoch,
        )
        assert entry.facts["versions"] == dict(product.provenance.versions)
        assert json.loads(json.dumps(entry.facts["options"])) == json.loads(
            json.dumps(dict(product.provenance.options))
        )
    assert len(registry.exposures()) == 32


def test_lineage_goes_back_to_the_raw_files(raw, registry, tmp_path):
    out = tmp_path / "out"
    summary = reduce(raw, out=out, changes=OFF, register=registry).summary
    masters = {entry["name"]: entry["identity"] for entry in summary.masters}
    frame = out / "calibrated" / "spiral-R-001.fits"
    found = registry.lineage(frame)
    assert found.root == file_hash(frame)
    parents = {parent for child, parent, _ in found.edges if child == found.root}
    used = {masters[name] for name in ("bias", "dark_120s", "flat_R", "defects_120s_R")}
    assert parents == used | {file_hash(raw / "spiral-R-001.fit")}
    of_bias = {parent for child, parent, _ in found.edges if child == masters["bias"]}
    assert of_bias == {file_hash(path) for path in raw.glob("bias-*.fit")}
    of_flat = {parent for child, parent, _ in found.edges if child == masters["flat_R"]}
    assert {masters["bias"], file_hash(raw / "flat-R-001.fit")} <= of_flat
    assert masters["flat_V"] not in found.nodes
    assert not [node for node in found.nodes.values() if node.problem]


def test_registering_again_changes_nothing(raw, registry, tmp_path):
    first = reduce(raw, out=tmp_path / "out", changes=OFF, register=registry)
    before = registry.revision
    again = reduce(raw, out=tmp_path / "out", changes=OFF, register=registry)
    assert all(entry["reused"] for entry in (*again.summary.masters, *again.summary.frames))
    assert registry.revision == before
    assert again.summary.registered["known"] == first.summary.registered["products"] == 7
    sentences = register(again, registry)
    assert sentences == [
        f"registered: 0 products as drafts (7 known already), 32 exposures, 3 frames (revision {before})"
    ]


def test_what_was_kept_is_registered_as_well_as_what_was_made(raw, registry, tmp_path):
    reduce(raw, out=tmp_path / "out", changes=OFF)
    (tmp_path / "out" / "masters" / "flat_V.fits").unlink()
    found = reduce(raw, out=tmp_path / "out", changes=OFF, register=registry).summary
    assert [entry["name"] for entry in found.masters if not entry["reused"]] == ["flat_V"]
    assert found.registered["known"] == 0 and len(registry.products()) == 7
    other = tmp_path / "other.db"
    with Registry.create(other) as whole:
        reduce(raw, out=tmp_path / "fresh", changes=OFF, register=whole)
        assert {e.identity for e in whole.products()} == {e.identity for e in registry.products()}


def test_ingesting_before_and_registering_after_agree(raw, registry, tmp_path):
    from calibrant.exposures import Exposures

    registry.ingest(Exposures.scan(raw).where(lambda one: one.kind != "product"))
    found = reduce(raw, out=tmp_path / "out", changes=OFF, register=registry).summary
    assert len(registry.exposures()) == 32
    assert found.registered["notes"] == []


def test_all_or_nothing(raw, registry, tmp_path, monkeypatch):
    from calibrant.registry import events

    before, real, calls = registry.revision, events.add_frame, []

    def failing(*args, **facts):
        calls.append(args)
        if len(calls) == 2:
            raise DatabaseError("the connection was lost")
        return real(*args, **facts)

    monkeypatch.setattr(events, "add_frame", failing)
    with pytest.raises(DatabaseError, match="the connection was lost"):
        reduce(raw, out=tmp_path / "out", changes=OFF, register=registry)
    assert len(calls) == 2
    assert registry.revision == before
    assert registry.products() == [] and registry.exposures() == []
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["registered"] is None and len(summary["frames"]) == 3  # the work itself is done

    monkeypatch.setattr(events, "add_frame", real)
    again = reduce(raw, out=tmp_path / "out", changes=OFF, register=registry).summary
    assert all(entry["reused"] for entry in again.frames)
    assert again.registered["frames"] == 3


def test_defects_of_two_filters_have_keys_of_their_own(raw, registry, tmp_path):
    summary = reduce(raw, out=tmp_path / "out", changes=OFF, register=registry).summary
    found = [entry for entry in summary.masters if entry["kind"] == "defects"]
    assert [(entry["keys"]["filter"], entry["keys"]["exptime"]) for entry in found] == [
        ("R", 120.0),
        ("V", 120.0),
    ]
    for entry in found:
        registry.certify(entry["identity"], force="a test")
    chosen = {
        name: registry.choose("defects", exposure=name).candidate.identity
        for name in ("spiral-R-001", "spiral-V-001")
    }
    assert list(chosen.values()) == [entry["identity"] for entry in found]


def test_the_command(raw, tmp_path, monkeypatch, capsys):
    from calibrant.cli import main

    def run(*words):
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        told = capsys.readouterr()
        return left.value.code, told.out, told.err

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALIBRANT_REGISTRY", raising=False)
    words = ("reduce", raw, "--no-plots", "--set", "steps_options.cosmic_rays.enabled=false")
    for more in (["--register"], ["--registry"], ["--register", "--db", tmp_path / "none.db"]):
        code, _, error = run(*words, *more)
        assert code == 2 and "calibrant registry init" in error
        assert not (tmp_path / "reduced").exists()
    for more, option in ((["--tag", "x"], "--tag"), (["--as-of", "3"], "--as-of"), (["--db", "x"], "--db")):
        code, _, error = run(*words, *more)
        assert code == 2 and option in error

    Registry.create(tmp_path / "calibrant.db").close()
    code, out, _ = run(*words, "--register")
    assert code == 0
    assert "registered: 7 products as drafts, 32 exposures, 3 frames (revision " in out
    assert (tmp_path / "reduced" / "masters" / "bias.fits").exists()
