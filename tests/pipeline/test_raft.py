"""Several detectors in one folder: each has its masters, and one that lacks them does not stop the others."""

from __future__ import annotations

import shutil

import pytest

from calibrant.errors import MissingCalibrationError
from calibrant.frame import Exposure
from calibrant.pipeline.folders import names
from calibrant.pipeline.run import reduce
from calibrant.registry import Registry
from calibrant.simulate.camera import load
from calibrant.simulate.raft import simulate
from calibrant.simulate.raft_plan import Counts

CAMERA = load("comcam")
DETECTORS = (0, 4)
FIRST, SECOND, THIRD = (
    "2024-11-08",
    "2024-11-15",
    "2024-11-25",
)  # days of flats; the visit in r is of the first
OFF = {"steps_options.cosmic_rays.enabled": "false"}


@pytest.fixture(scope="module")
def raft(tmp_path_factory):
    """Two detectors of a raft in one band, one exposure of each in a folder of its own."""
    taken = simulate(
        CAMERA, tmp_path_factory.mktemp("raft"), seed=5, detectors=DETECTORS, bands=("r",),
        counts=Counts(biases=3, darks=2, flats=2),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sorted")
    for path in taken.raw:
        exposure, _, slot = path.stem.rpartition("_R22_")
        (folder / slot).mkdir(exist_ok=True)
        shutil.copy(path, folder / slot / f"{exposure}.fits")
    return folder


@pytest.fixture(scope="module")
def whole(raft, tmp_path_factory):
    """Both detectors, reduced, registered and certified."""
    folder = tmp_path_factory.mktemp("whole")
    with Registry.create(folder / "calibrant.db") as registry:
        done = reduce(raft, out=folder / "out", instrument="comcam", changes=OFF, register=registry)
        for entry in done.summary.masters:
            spans = {
                FIRST: (None, "2024-11-12"),
                SECOND: ("2024-11-12", "2024-11-20"),
                THIRD: ("2024-11-20", None),
            }
            begin, end = spans.get(entry["name"][-10:], (None, None))
            registry.certify(entry["identity"], begin, end, force="a test")
    return folder, done


@pytest.fixture
def lame(raft, tmp_path):
    """The second detector has science frames alone."""
    folder = shutil.copytree(raft, tmp_path / "raw")
    science = {path.name for path in (folder / "S11").glob("*000246*")}
    assert science
    for path in (folder / "S11").iterdir():
        if path.name not in science:
            path.unlink()
    return folder


def test_each_detector_has_its_masters_and_its_files(whole):
    folder, done = whole
    rest = {
        "bias": [""],
        "dark": [""],
        "flat": [f"_r_{day}" for day in (FIRST, SECOND, THIRD)],
        "defects": [f"_r_{FIRST}"],
    }
    assert {entry["name"] for entry in done.summary.masters} == {
        f"{kind}_det{number}{words}" for kind, more in rest.items() for words in more for number in DETECTORS
    }
    found = {entry["name"]: entry["masters"]["flat"] for entry in done.summary.frames}
    assert len(found) == 2 == len(list((folder / "out" / "calibrated").iterdir()))
    assert {name.partition("-")[0]: flat for name, flat in found.items()} == {
        "S00": f"flat_det0_r_{FIRST}",
        "S11": f"flat_det4_r_{FIRST}",
    }
    defects = {
        e["keys"]["detector"]: e["keys"]["filter"] for e in done.summary.masters if e["kind"] == "defects"
    }
    assert defects == {"0": "r", "4": "r"}


def test_a_detector_without_calibrations_does_not_stop_the_others(lame, whole, tmp_path):
    with pytest.raises(MissingCalibrationError, match=r"no flat .* for CC_O_20241108_000246.fits"):
        reduce(lame, out=tmp_path / "out", instrument="comcam", changes=OFF)
    found = reduce(lame, out=tmp_path / "out", instrument="comcam", changes=OFF, allow_missing=True).summary
    first, second = sorted(found.frames, key=lambda entry: entry["source"])
    old = next(entry for entry in whole[1].summary.frames if entry["name"].startswith("S00"))
    assert (first["steps"], first["median"]) == (old["steps"], old["median"])
    assert {"no_flat", "no_dark"} <= set(second["steps"])
    assert {lack["frame"] for lack in found.missing} == {second["source"]}


def test_the_registry_gives_what_one_detector_lacks(lame, whole, tmp_path):
    with Registry(whole[0] / "calibrant.db") as registry:
        found = reduce(
            lame, out=tmp_path / "out", instrument="comcam", changes=OFF, registry=registry
        ).summary
    assert {entry["name"] for entry in found.stock} == {
        "bias_det4", "dark_det4", "flat_det4_r", "defects_det4_r",
    }  # fmt: skip
    assert {e["median"] for e in found.frames} == {e["median"] for e in whole[1].summary.frames}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/r/a.fits", "/r/b.fits"], ["a", "b"]),
        (["/r/0/a.fits", "/r/1/a.fits", "/r/b.fits"], ["0-a", "1-a", "b"]),
        (["/r/0/raw/a.fits", "/r/1/raw/a.fits"], ["0-raw-a", "1-raw-a"]),
        (["/r/a.fits", "/r/a.fit", "/r/a.fits.gz"], ["a-fits", "a-fit", "a-fits-gz"]),
        (["/0/a.fits", "/a.fits"], ["0-a", "a"]),
        (["/r/x/a.fits", "/r/y/a.fits", "/r/x-a.fits"], ["r-x-a", "y-a", "r-x-a-2"]),
    ],
)
def test_no_two_calibrated_files_have_one_name(paths, expected):
    found = names([Exposure(path=path) for path in paths])
    assert found == expected
    assert len(set(found)) == len(paths)
