"""The focal plane: detectors in their places, read only where they are looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from calibrant.files.fits import write
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import load
from calibrant.product import Product, Quantity
from calibrant.simulate.camera import load as camera
from calibrant.simulate.raft import simulate
from calibrant.simulate.raft_plan import Counts
from calibrant.web import describe, focal
from calibrant.web.patchwork import Assembled, Window
from calibrant.web.planes import Plane
from calibrant.web.shelf import Shelf

CAMERA = load("comcam")
GAP = CAMERA.focal_plane.gap
ROWS, COLS = 40, 60


def frame(detector: int, identifier: str = "7") -> Frame:
    data = (1000 * detector + np.arange(ROWS * COLS).reshape(ROWS, COLS) % 97).astype(np.float32)
    exposure = Exposure(kind="science", instrument="comcam", detector=str(detector), identifier=identifier)
    return Frame(data, dq=np.zeros((ROWS, COLS), np.uint32), unit="adu", exposure=exposure)


def gains(detector: int) -> Product:
    """A product without an image: the gains of two amplifiers, side by side."""
    table = {
        "name": np.array(["A", "B"]),
        "place": np.array(["[1:30,1:40]", "[31:60,1:40]"]),
        "rows": np.array([ROWS, ROWS]),
        "cols": np.array([COLS, COLS]),
    }
    values = [
        Quantity("gain", 1.0 + detector + step, 0.01, "electron/adu", name)
        for step, name in ((0, "A"), (0.5, "B"))
    ]
    keys = {"detector": str(detector), "filter": "r"}
    return Product(
        kind="gain",
        instrument="comcam",
        keys=keys,
        planes={},
        quantities=tuple(values),
        tables={"amplifiers": table},
    )


@pytest.fixture
def raft() -> Shelf:
    shelf = Shelf()
    for detector in range(9):
        shelf.add(frame(detector), f"det{detector}")
    return shelf


def rows_of(shelf: Shelf, image: str, plane: str, begin: int, stop: int) -> np.ndarray:
    return shelf.rows(image, shelf.view(image).plane(plane), 0, begin, stop)


def test_detectors_stand_where_the_camera_has_them(raft: Shelf) -> None:
    (plane,) = focal.stand(raft)
    meta = describe.meta(raft, plane["id"])
    assert meta["shape"] == [3 * ROWS + 2 * GAP[0], 3 * COLS + 2 * GAP[1]]
    assert plane["title"].endswith("9 detectors") and meta["message"] is None
    whole = rows_of(raft, plane["id"], "data", 0, meta["shape"][0])
    for piece in meta["pieces"]:
        (r0, r1), (c0, c1) = piece["rows"], piece["cols"]
        row, col = CAMERA.focal_plane.where(piece["name"])
        assert (r0, c0) == (row * (ROWS + GAP[0]), col * (COLS + GAP[1]))
        np.testing.assert_array_equal(whole[r0:r1, c0:c1], frame(int(piece["name"])).data)
        assert raft.view(piece["image"]).exposure.detector == piece["name"]
        whole[r0:r1, c0:c1] = np.nan
    assert np.isnan(whole).all()


def test_gaps_hold_no_data_in_the_flags(raft: Shelf) -> None:
    (plane,) = focal.stand(raft)
    flags = rows_of(raft, plane["id"], "dq", ROWS - 1, ROWS + 1)
    assert (
        flags[0, 0] == 0 and flags[1, 0] == int(DQ.DO_NOT_USE | DQ.NON_SCIENCE) and flags.dtype == np.uint32
    )


def test_exposures_are_not_mixed_and_one_detector_is_no_plane(raft: Shelf) -> None:
    raft.add(frame(0, "8"), "other")
    assert len(focal.stand(raft)) == 1
    raft.add(frame(1, "8"), "neighbour")
    titles = [plane["title"] for plane in focal.stand(raft)]
    assert titles == ["science 7: 9 detectors", "science 8: 2 detectors"]
    assert sum(bool(entry.viewable.pieces) for entry in raft.entries()) == 2


def test_a_plane_whose_member_is_gone_is_made_anew(raft: Shelf) -> None:
    (before,) = focal.stand(raft)
    raft.drop(next(entry.id for entry in raft.entries() if entry.name == "det4"))
    (after,) = focal.stand(raft)
    assert after["title"] == "science 7: 8 detectors" and after["id"] != before["id"]
    assert before["id"] not in {entry.id for entry in raft.entries()}


@pytest.mark.parametrize("stored", [False, True])
def test_amplifiers_in_the_colours_of_their_gain(tmp_path: Path, stored: bool) -> None:
    shelf = Shelf()
    for detector in (0, 4):
        if stored:
            write(gains(detector), tmp_path / f"gain{detector}.fits")
        else:
            shelf.add(gains(detector))
    if stored:
        shelf.add_paths([tmp_path])
    alone = shelf.entries()[0]
    assert shelf.view(alone.id).shape == (ROWS, COLS)
    assert set(np.unique(rows_of(shelf, alone.id, "gain", 0, ROWS))) == {1.0, 1.5}
    (plane,) = focal.stand(shelf)
    view = shelf.view(plane["id"])
    whole = rows_of(shelf, plane["id"], "gain", 0, view.shape[0])
    row, col = ROWS + GAP[0], COLS + GAP[1]
    assert (
        whole[0, 0] == 1.0
        and whole[0, 30] == 1.5
        and whole[row, col + 29] == 5.0
        and whole[row, col + 30] == 5.5
    )
    assert np.isnan(whole[ROWS]).all() and view.plane("gain").unit == "electron/adu"
    assert {one.name for one in view.amplifiers} == {"0/A", "0/B", "4/A", "4/B"}


def test_a_camera_without_focal_plane_has_none() -> None:
    shelf = Shelf()
    for detector in range(2):
        exposure = Exposure(kind="bias", instrument="generic-ccd", detector=str(detector), identifier="7")
        shelf.add(Frame(np.zeros((4, 4), np.float32), unit="adu", exposure=exposure))
    assert focal.stand(shelf) == []


def test_detectors_that_a_registry_opens_together_are_one_focal_plane(tmp_path: Path) -> None:
    from calibrant.registry import Registry
    from calibrant.web.opening import opened

    with Registry.create(tmp_path / "calibrant.db") as registry:
        names = []
        for detector in range(3):
            write(gains(detector), path := tmp_path / f"gain{detector}.fits")
            names.append(registry.add(gains(detector), path).identity)
    db = str(tmp_path / "calibrant.db")
    with opened([], port=0, host="127.0.0.1", token=None, db=db, first=1) as viewer:
        client = TestClient(viewer.app, base_url="http://127.0.0.1")
        query = {"with": names[:2], "mosaic": "1"}
        answer = client.get("/registry/view", params=query, follow_redirects=False)
        plane = answer.headers["location"].split("%22")[1]
        assert [piece.name for piece in viewer.app.state.shelf.view(plane).pieces] == ["0", "1"]
        alone = client.get("/registry/view", params={"with": names[2]}, follow_redirects=False)
        image = alone.headers["location"].split("%22")[1]
        assert viewer.app.state.shelf.view(image).kind == "gain" and "layout" not in alone.headers["location"]


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_raw_amplifiers_are_put_together_as_slices_would(turned: tuple[bool, bool]) -> None:
    raw = np.random.default_rng(2).normal(size=(30, 50)).astype(np.float32)
    expected = np.empty((40, 18), np.float32)
    step = tuple(slice(None, None, -1) if one else slice(None) for one in turned)
    expected[:20] = raw[5:25, 3:21]
    expected[20:] = raw[5:25, 28:46][step]
    windows = (Window((5, 25, 3, 21), (0, 20, 0, 18)), Window((5, 25, 28, 46), (20, 40, 0, 18), turned))
    made = Assembled(Plane("data", "adu", raw), windows, 18)
    for begin, stop in ((0, 40), (0, 7), (13, 27), (19, 21), (33, 40)):
        np.testing.assert_array_equal(made.rows(0, begin, stop), expected[begin:stop])


def test_raw_frames_of_a_raft_stand_as_on_the_detector(tmp_path: Path) -> None:
    counts = Counts(biases=1, darks=0, flats=1, visits=False)
    simulate(camera("comcam"), tmp_path, seed=1, detectors=(0, 4), bands=("r",), counts=counts)
    shelf = Shelf()
    shelf.add_paths([tmp_path])
    plane = next(one for one in focal.stand(shelf) if one["title"].startswith("flat"))
    piece = next(one for one in shelf.view(plane["id"]).pieces if one.name == "4")
    (r0, r1), (c0, c1) = piece.rows, piece.cols
    shown = rows_of(shelf, plane["id"], "data", r0, r1)[:, c0:c1]
    raw = shelf.view(piece.image)
    stored = raw.planes[0].rows(0, 0, raw.shape[0])
    expected = np.full(shown.shape, np.nan, np.float32)
    for one in load("comcam").readouts(raw.exposure):
        expected[one.place] = stored[one.data]
    np.testing.assert_array_equal(shown, expected)
