"""Masters of a registry where the folder has none: which, as of when, and what is said of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibrant.errors import MissingCalibrationError, OutputExistsError, RegistryError
from calibrant.exposures import Exposures
from calibrant.files.fits import read
from calibrant.pipeline.plan import make_plan
from calibrant.pipeline.recipe import load
from calibrant.pipeline.register import register
from calibrant.pipeline.run import reduce
from calibrant.pipeline.supply import Stocked
from calibrant.product import Quantity
from calibrant.registry import Registry

OFF = {"steps_options.cosmic_rays.enabled": "false"}
MEDIAN = {**OFF, "measure.flat.method": "median"}


def certify(registry, entries, tag="DP1", **more):
    for entry in entries:
        registry.certify(entry["identity"], tag=tag, force="a test", **more)


@pytest.fixture(scope="module")
def library(raw, tmp_path_factory):
    """A night that was reduced, registered and certified; never changed."""
    folder = tmp_path_factory.mktemp("library")
    with Registry.create(folder / "calibrant.db") as registry:
        whole = reduce(raw, out=folder / "reduced", changes=OFF, register=registry)
        certify(registry, whole.summary.masters)
    return folder, whole


@pytest.fixture
def registry(library, tmp_path):
    """A copy of the database; the masters lie where they lay."""
    with Registry(shutil.copy(library[0] / "calibrant.db", tmp_path / "calibrant.db")) as found:
        yield found


def without(night, *patterns):
    for pattern in patterns:
        for path in night.glob(pattern):
            path.unlink()
    return night


def planes(out):
    """Every plane of every calibrated frame, as bytes."""
    found = {}
    for path in sorted((Path(out) / "calibrated").glob("*.fits")):
        frame = read(path).load()
        arrays = (frame.data, frame.variance, frame.systematic, frame.dq)
        found[path.name] = [None if array is None else array.tobytes() for array in arrays]
    return found


@pytest.fixture
def no_pixels(monkeypatch):
    """Fail if a run reads the pixels of an image."""
    from calibrant.files.source import FitsSource

    def refuse(self, *a, **k):
        raise AssertionError(f"pixels of {self.name} were read")

    monkeypatch.setattr(FitsSource, "read_into", refuse)
    monkeypatch.setattr(FitsSource, "load", refuse)


def test_frames_alone_come_out_as_with_their_whole_night(night, registry, library, tmp_path):
    without(night, "bias*", "dark*", "flat*")
    found = reduce(night, out=tmp_path / "out", changes=OFF, registry=registry)
    assert found.summary.masters == []
    assert len(found.summary.frames) == 3 and not found.summary.missing
    assert planes(tmp_path / "out") == planes(library[0] / "reduced")
    names = {entry["name"] for entry in found.summary.stock}
    assert names == {"bias", "dark_120s", "flat_R", "flat_V", "defects_120s_R", "defects_120s_V"}
    assert all(entry["steps"] == library[1].summary.frames[0]["steps"] for entry in found.summary.frames)


def test_what_came_from_the_registry_is_said(night, registry, tmp_path):
    without(night, "flat-V*")
    registry.certify(
        registry.products(kind="flat")[0].identity, "2001-01-01", "2002-01-01", tag="other", force="a test"
    )
    found = reduce(night, out=tmp_path / "out", changes=OFF, registry=registry).summary
    (entry,) = found.stock
    told = f"flat_V from the registry: {entry['identity'][:19]}, certified under DP1, for all times"
    assert told in found.warnings
    assert (entry["kind"], entry["tag"], entry["level"]) == ("flat", "DP1", 0)
    assert found.registry["revision"] == registry.revision
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == found.as_dict()
    assert {"bias", "dark", "dark_120s", "flat_R"} <= {entry["name"] for entry in found.masters}


def test_the_folder_comes_first(night, registry, tmp_path, done):
    found = reduce(night, out=tmp_path / "out", registry=registry).summary
    assert found.stock == []
    assert {e["identity"] for e in found.masters} == {e["identity"] for e in done.summary.masters}


def test_flats_of_the_folder_with_the_bias_and_dark_of_the_registry(night, registry, library, tmp_path):
    without(night, "bias*", "dark*")
    found = reduce(night, out=tmp_path / "out", changes=OFF, registry=registry, register=registry)
    made = {entry["kind"] for entry in found.summary.masters}
    assert made == {"flat", "defects"}  # the flats are the folder's own, and so are the defects seen on them
    assert {entry["name"] for entry in found.summary.stock} == {"bias", "dark", "dark_120s"}
    first = {entry["name"]: entry["identity"] for entry in library[1].summary.masters}
    flats = {entry["name"]: entry["identity"] for entry in found.summary.masters if entry["kind"] == "flat"}
    assert flats == {name: first[name] for name in flats}
    lineage = registry.lineage(tmp_path / "out" / "calibrated" / "spiral-R-001.fits")
    assert {first["bias"], first["dark_120s"], first["flat_R"]} <= set(lineage.nodes)


def test_what_is_missing_in_both_is_listed_before_pixels_are_read(night, registry, tmp_path, no_pixels):
    without(night, "flat*")
    flats = {entry.keys["filter"]: entry.identity for entry in registry.products(kind="flat")}
    registry.withdraw(flats["R"], "dust on the window")
    with pytest.raises(MissingCalibrationError) as caught:
        reduce(night, out=tmp_path / "out", changes=OFF, registry=registry)
    sentence = str(caught.value)
    assert "spiral-R-001.fit, spiral-R-002.fit" in sentence and "spiral-V" not in sentence
    assert f"in the registry: {flats['R'][:19]}: withdrawn: dust on the window" in sentence


def test_drafts_are_never_used(night, raw, tmp_path, no_pixels, library):
    without(night, "flat*")
    with Registry.create(tmp_path / "drafts.db") as registry:
        register(library[1], registry)
        with pytest.raises(MissingCalibrationError, match=r"in the registry: sha256:.*never certified"):
            reduce(night, out=tmp_path / "out", changes=OFF, registry=registry)
    assert not (tmp_path / "out").exists()


def test_nothing_of_that_kind(night, tmp_path, no_pixels):
    without(night, "flat*")
    with (
        Registry.create(tmp_path / "empty.db") as registry,
        pytest.raises(MissingCalibrationError, match=r"no flat \(none at all; in the registry: "),
    ):
        reduce(night, out=tmp_path / "out", changes=OFF, registry=registry)


def test_a_frozen_state_repeats_a_reduction_bit_for_bit(night, raw, registry, tmp_path):
    without(night, "flat*")
    reduce(night, out=tmp_path / "first", changes=OFF, registry=registry)
    registry.freeze("paper")
    other = reduce(raw, out=tmp_path / "median", changes=MEDIAN, register=registry).summary
    flats = [entry for entry in other.masters if entry["kind"] == "flat"]
    certify(registry, flats, replace=True)

    again = reduce(night, out=tmp_path / "again", changes=OFF, registry=Registry(registry.url, as_of="paper"))
    assert planes(tmp_path / "again") == planes(tmp_path / "first")
    assert again.summary.registry["revision"] == registry.contexts()["paper"]
    by_number = Registry(registry.url, as_of=again.summary.registry["revision"])
    reduce(night, out=tmp_path / "number", changes=OFF, registry=by_number)
    assert planes(tmp_path / "number") == planes(tmp_path / "first")

    now = reduce(night, out=tmp_path / "now", changes=OFF, registry=registry).summary
    used = {entry["identity"] for entry in now.stock if entry["kind"] == "flat"}
    assert used == {entry["identity"] for entry in flats}
    assert planes(tmp_path / "now") != planes(tmp_path / "first")


def test_the_ledger_notices_another_choice(night, raw, registry, tmp_path):
    without(night, "flat*")
    out = tmp_path / "out"
    reduce(night, out=out, changes=OFF, registry=registry)
    kept = reduce(night, out=out, changes=OFF, registry=registry).summary
    assert all(entry["reused"] for entry in kept.frames)
    other = reduce(raw, out=tmp_path / "median", changes=MEDIAN, register=registry).summary
    certify(registry, [entry for entry in other.masters if entry["kind"] == "flat"], replace=True)
    with pytest.raises(OutputExistsError, match="made of other frames or with other options"):
        reduce(night, out=out, changes=OFF, registry=registry)
    again = reduce(night, out=out, changes=OFF, registry=registry, overwrite=True).summary
    assert not any(entry["reused"] for entry in again.frames)


def test_a_rate_of_times_that_are_too_short_is_not_used(night, registry, tmp_path, edit, no_pixels):
    without(night, "dark*")
    edit(night / "spiral-R-001.fit", EXPTIME=130.0)
    with pytest.raises(MissingCalibrationError) as caught:
        reduce(night, out=tmp_path / "out", changes=OFF, registry=registry)
    assert "a rate of darks of at most 120 s) for spiral-R-001.fit" in str(caught.value)
    assert "spiral-R-002" not in str(caught.value)


def test_a_file_that_is_gone_is_told_before_pixels_are_read(raw, night, tmp_path):
    whole = reduce(raw, out=tmp_path / "reduced", changes=OFF)
    with Registry.create(tmp_path / "own.db") as registry:
        register(whole, registry)
        certify(registry, whole.summary.masters)
        without(night, "flat*")
        flat = tmp_path / "reduced" / "masters" / "flat_V.fits"
        kept = flat.read_bytes()
        flat.unlink()
        with pytest.raises(MissingCalibrationError, match=r"flat_V.fits") as caught:
            reduce(night, out=tmp_path / "out", changes=OFF, registry=registry)
        assert "spiral-V-001.fit" in str(caught.value) and "spiral-R" not in str(caught.value)

        altered = bytearray(kept)
        altered[5 * 2880 + 400] ^= 1  # a pixel: the header still tells of the product that was chosen
        flat.write_bytes(bytes(altered))
        with pytest.raises(
            RegistryError, match=r"the certified flat sha256:\w+ cannot be used: .*flat_V.fits"
        ):
            reduce(night, out=tmp_path / "out", changes=OFF, registry=registry)


@pytest.fixture
def movable(night, library, registry, tmp_path):
    """Science frames alone, and a registry of their masters, whose files may be lost: they are put back."""
    folder, whole = library
    masters = folder / "reduced" / "masters"
    kept = shutil.copytree(masters, tmp_path / "kept")
    yield without(night, "flat*", "bias*", "dark*"), registry, masters, whole
    shutil.copytree(kept, masters, dirs_exist_ok=True)


def lose(kind, masters, whole):
    """Remove the master of a kind that the frames in R use."""
    used = next(frame["masters"] for frame in whole.summary.frames if frame["filter"] == "R")
    (masters / f"{used[kind]}.fits").unlink()


@pytest.mark.parametrize("kind", ["bias", "dark", "flat", "defects"])
def test_nothing_that_is_certified_is_left_out_in_silence(movable, tmp_path, no_pixels, kind):
    """A file that is lost is refused whatever its kind: without it the frames would be others."""
    night, registry, masters, whole = movable
    lose(kind, masters, whole)
    with pytest.raises(
        MissingCalibrationError, match=rf"the certified {kind} sha256:\w+ cannot be used"
    ) as caught:
        reduce(night, out=tmp_path / "out", changes=OFF, registry=registry)
    assert "no such file" in str(caught.value) and "registry check" in str(caught.value)
    assert str(caught.value).count("spiral-R-001.fit") == 1
    assert not (tmp_path / "out").exists()


def test_without_it_only_if_that_is_said(movable, tmp_path):
    night, registry, masters, whole = movable
    lose("defects", masters, whole)
    found = reduce(night, out=tmp_path / "out", changes=OFF, registry=registry, allow_missing=True).summary
    assert {lack["kind"] for lack in found.missing} == {"defects"}
    assert {lack["frame"].rpartition("/")[2] for lack in found.missing} == {
        "spiral-R-001.fit",
        "spiral-R-002.fit",
    }


@pytest.mark.parametrize("harm", ["lost", "altered"])
def test_another_place_of_the_same_product_will_do(movable, tmp_path, harm):
    night, registry, masters, whole = movable
    copy = Path(shutil.copy(masters / "flat_R.fits", tmp_path / "copy.fits"))
    registry.add(read(copy), copy)
    assert len(registry.entry(str(copy)).places) == 2
    for path in (copy, masters / "flat_R.fits"):
        kept = path.read_bytes()
        altered = bytearray(kept)
        altered[5 * 2880 + 400] ^= 1
        path.unlink() if harm == "lost" else path.write_bytes(bytes(altered))
        out = tmp_path / path.stem
        reduce(night, out=out, changes=OFF, registry=registry)
        assert planes(out) == planes(whole.workshop.ledger.folder)
        path.write_bytes(kept)


# --- the plan, with a stock that is no registry ---


def fake(**products):
    """A stock that gives the same products to every frame."""
    return lambda kind, exposure: products.get(kind, "none of its kind")


def dark(**keys):
    longest = (Quantity("time_max", 120.0, None, "s"),)
    return Stocked("dark", "sha256:" + "d" * 64, "dark.fits", keys, quantities=longest)


def test_a_plan_takes_what_the_folder_lacks(night):
    without(night, "bias*", "dark*")
    bias = Stocked("bias", "sha256:" + "b" * 64, "bias.fits", {})
    plan = make_plan(Exposures.scan(night), load("ccd"), stock=fake(bias=bias, dark=dark()))
    assert not plan.missing
    assert {item.name for item in plan.stock} == {"bias", "dark"}
    assert {target.uses["bias"] for target in plan.targets} == {"bias"}
    assert next(item for item in plan.stock if item.kind == "dark").uses == {"bias": "bias"}
    assert {job.name for job in plan.jobs} == {"flat_R", "flat_V"}
    assert all(job.uses == {"bias": "bias", "dark": "dark"} for job in plan.jobs)


def test_a_dark_that_holds_its_bias_needs_none(night):
    without(night, "bias*", "dark*", "flat*")
    whole = dark(includes_bias=True, exptime=120.0)
    plan = make_plan(Exposures.scan(night), load("ccd"), stock=fake(dark=whole), allow_missing=True)
    assert all(target.uses == {"dark": "dark_120s"} for target in plan.targets)
    assert not plan.advised


def test_darks_of_the_folder_become_a_rate_with_the_bias_of_the_stock(night):
    without(night, "bias*")
    bias = Stocked("bias", "sha256:" + "b" * 64, "bias.fits", {})
    plan = make_plan(Exposures.scan(night), load("ccd"), stock=fake(bias=bias))
    darks = {job.name: job for job in plan.jobs if job.kind == "dark"}
    assert darks["dark"].uses == {"bias": "bias"} and not darks["dark"].includes_bias
    assert not plan.missing


def test_names_of_the_stock_do_not_clash_with_those_of_the_folder(night):
    """The folder has darks, but of times too short for one frame."""
    exposures = Exposures.scan(night)
    first = next(i for i, one in enumerate(exposures) if one.kind == "light")
    long = replace(exposures[first], duration=500.0, dark_time=500.0)
    rate = replace(dark(), quantities=(Quantity("time_max", 600.0, None, "s"),))
    plan = make_plan(exposures.updated({first: long}), load("ccd"), stock=fake(dark=rate))
    used = {target.index: target.uses["dark"] for target in plan.targets}
    assert used.pop(first) == "dark_dddddddd"
    assert set(used.values()) == {"dark_120s"}


def test_without_a_stock_nothing_changes(night):
    plan = make_plan(Exposures.scan(night), load("ccd"))
    assert plan.stock == () and not plan.missing
    assert np.all([target.uses["flat"].startswith("flat_") for target in plan.targets])
