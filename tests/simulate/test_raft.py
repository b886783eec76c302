"""A raft of detectors: its files say what cameras say, and their pixels show the truth."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from calibrant.effects import overscan
from calibrant.errors import OptionError, OutputExistsError, SelectionError
from calibrant.files.fits import read
from calibrant.frame import DQ, Frame
from calibrant.instrument import load as instrument
from calibrant.product import Product
from calibrant.simulate.camera import load
from calibrant.simulate.raft import Taken, make_sensor, simulate
from calibrant.simulate.raft_plan import Counts, plan

COMCAM = load("comcam")
NOTEBOOK = {
    "u": 2024110900195,
    "g": 2024110800266,
    "r": 2024110800246,
    "i": 2024110800245,
    "z": 2024111200285,
    "y": 2024111900091,
}
DETECTORS = (1, 6)


@pytest.fixture(scope="module")
def taken(tmp_path_factory) -> Taken:
    return simulate(COMCAM, tmp_path_factory.mktemp("raft"), seed=5, detectors=DETECTORS)


def truth_of(taken: Taken, detector: int) -> Product:
    product = read(taken.truth[DETECTORS.index(detector)])
    assert isinstance(product, Product) and product.keys["detector"] == str(detector)
    return product


def frames(taken: Taken, detector: int, **facts) -> list[Frame]:
    """Raw frames of a detector whose exposure has these facts, in order."""
    slot = COMCAM.slots[detector]
    found = (read(path, instrument=instrument("comcam")) for path in taken.raw if path.stem.endswith(slot))
    return [f for f in found if all(getattr(f.exposure, name) == value for name, value in facts.items())]


def light(taken: Taken, detector: int, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Electrons above the bias of a frame without its overscan, and the true gain of its pixels."""
    made = make_sensor(COMCAM, COMCAM.size("small"), detector, 5).detector
    counts = overscan.apply(frame).data - truth_of(taken, detector).planes["bias_structure"]
    return counts * made.gain, made.gain


# -- what the files say -----------------------------------------------------------------------------------


def test_a_file_for_each_exposure_and_detector(taken):
    assert len(taken.raw) == 76 * len(DETECTORS) == len({path.name for path in taken.raw})
    assert taken.raw[0].name == "CC_O_20241108_000001_R22_S01.fits"
    assert [path.name for path in taken.truth] == ["R22_S01.fits", "R22_S20.fits"]


def test_the_visits_of_the_notebook_are_there(taken):
    visits = frames(taken, 6, kind="light")
    assert {f.exposure.filter: int(f.exposure.identifier) for f in visits} == NOTEBOOK
    for frame in visits:
        # A day of observing begins at noon UTC.
        day = datetime.strptime(str(frame.exposure.identifier)[:8], "%Y%m%d").replace(tzinfo=UTC, hour=12)
        assert 0 < frame.exposure.start / 1e6 - day.timestamp() < 86_400


def test_headers_are_those_of_the_camera(taken):
    path = next(path for path in taken.raw if path.name == "CC_O_20241108_000246_R22_S01.fits")
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus[1:]] == [f"Segment1{i}" for i in range(8)] + [
            f"Segment0{i}" for i in range(7, -1, -1)
        ]
        first, header = hdus[1].header, hdus[0].header
        assert hdus[0].data is None and hdus[1].data.shape == (152, 55)
    expected = {
        "INSTRUME": "ComCam", "OBSID": "CC_O_20241108_000246", "DAYOBS": "20241108", "SEQNUM": 246,
        "IMGTYPE": "OBJECT", "FILTER": "r_03", "FILTBAND": "r", "CCDSLOT": "S01", "RAFTBAY": "R22",
        "EXPTIME": 30.0, "DARKTIME": 30.0, "TIMESYS": "TAI", "DATE-BEG": "2024-11-09T04:28:07.000",
    }  # fmt: skip
    assert {key: header[key] for key in expected} == expected
    assert header["MJD-BEG"] == pytest.approx(60623.18619213, abs=1e-8)
    sections = {key: first[key] for key in ("DATASEC", "BIASSEC", "DETSEC", "PRESEC", "PARSEC")}
    assert sections == {
        "DATASEC": "[4:39,1:144]",
        "BIASSEC": "[40:55,1:152]",
        "DETSEC": "[36:1,288:145]",
        "PRESEC": "[1:3,1:144]",
        "PARSEC": "[4:39,145:152]",
    }
    frame = read(path, instrument=instrument("comcam"))
    assert isinstance(frame, Frame)  # 37 s between TAI and UTC
    assert frame.exposure.start == datetime(2024, 11, 9, 4, 27, 30, tzinfo=UTC).timestamp() * 1e6


def test_real_size_is_that_of_the_camera():
    size = COMCAM.size("real")
    assert COMCAM.shape(size) == (4000, 4072)
    assert (size.rows + size.parallel, size.prescan + size.cols + size.overscan) == (2048, 576)
    assert [COMCAM.centre(number) for number in (0, 4, 5)] == [(-42.25, -42.25), (0.0, 0.0), (0.0, 42.25)]


def test_each_amplifier_states_its_own_gain_and_noise(taken):
    truth, frame = truth_of(taken, 6), frames(taken, 6, kind="bias")[0]
    readouts = instrument("comcam").readouts(frame.exposure)
    assert len({readout.gain for readout in readouts}) > 12
    for readout in readouts:
        gain = truth.quantity("gain", readout.name).value
        assert readout.gain == pytest.approx(gain, abs=5e-5)
        noise = truth.quantity("read_noise", readout.name).value * gain
        assert readout.read_noise == pytest.approx(noise, abs=5e-4)


# -- what the pixels say ----------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", DETECTORS)
def test_assembled_flats_are_the_truth_within_their_noise(taken, detector):
    truth = truth_of(taken, detector)
    level = dict(zip(truth.tables["files"]["name"], truth.tables["files"]["level"], strict=True))
    good = truth.planes["dq"] == 0
    for number, band in ((1, "u"), (1, "y"), (2, "r")):
        frame = frames(taken, detector, kind="flat", filter=band)[-1 if number == 2 else 0]
        electrons, gain = light(taken, detector, frame)
        expected = level[Path(frame.exposure.path).name] * truth.planes[f"flat_{band}_{number}"]
        variance = expected + (truth.planes["read_noise"] ** 2 + 1 / 12) * gain**2
        pulls = ((electrons - expected) / np.sqrt(variance))[good]
        assert np.median(pulls) == pytest.approx(0.0, abs=0.03), band
        assert np.std(np.clip(pulls, -6, 6)) == pytest.approx(1.0, abs=0.02), band


@pytest.mark.parametrize("band", ["r", "y"])
def test_assembled_visits_are_the_truth_within_their_noise(taken, band):
    truth = truth_of(taken, 6)
    (frame,) = frames(taken, 6, kind="light", filter=band)
    number = 2 if band == "y" else 1
    electrons, gain = light(taken, 6, frame)
    scene, parts = truth.planes[f"scene_{Path(frame.exposure.path).stem}"], truth.planes
    fringes = truth.tables["bands"]["fringes"][list(truth.tables["bands"]["band"]).index(band)]
    response = parts[f"flat_{band}_{number}"] / parts[f"lamp_{number}"] / (1 + fringes * parts["fringes"])
    expected = scene * response + parts["dark"] * gain * 30.0
    variance = expected + (parts["read_noise"] ** 2 + 1 / 12) * gain**2
    good = (parts["dq"] == 0) & (scene < 40_000)
    pulls = ((electrons - expected) / np.sqrt(variance))[good]
    assert np.median(pulls) == pytest.approx(0.0, abs=0.03)
    assert np.std(np.clip(pulls, -6, 6)) == pytest.approx(1.0, abs=0.02)


def test_flats_in_pairs_give_the_gain_of_each_amplifier(taken):
    truth, made = truth_of(taken, 6), make_sensor(COMCAM, COMCAM.size("small"), 6, 5).detector
    assert {amplifier.name for amplifier in made.amplifiers} == {f"C{i}{j}" for i in "01" for j in range(8)}
    first, second = (overscan.apply(f).data for f in frames(taken, 6, kind="flat", filter="r")[:2])
    pulls = []
    for amplifier in made.amplifiers:
        good = truth.planes["dq"][amplifier.window] == 0
        one, two = first[amplifier.window][good], second[amplifier.window][good]
        two = two * (np.mean(one) / np.mean(two))
        noise = amplifier.read_noise**2 + 1 / 12
        gain = np.mean(one) / (np.var(one - two) / 2 - noise)
        pulls.append((gain / amplifier.gain - 1.0) / np.sqrt(2.0 / good.sum()))
    assert np.max(np.abs(pulls)) < 4.0 and abs(np.mean(pulls)) < 1.0
    assert np.std([amplifier.gain for amplifier in made.amplifiers]) > 0.01


def test_biases_and_darks(taken):
    truth = truth_of(taken, 1)
    biases = [overscan.apply(f).data for f in frames(taken, 1, kind="bias")]
    noise = truth.planes["read_noise"]
    residual = (np.mean(biases, axis=0) - truth.planes["bias_structure"]) / noise * np.sqrt(len(biases))
    assert np.std(residual) == pytest.approx(1.0, abs=0.15)  # the overscan adds the noise of its own rows
    files = truth.tables["files"]
    offset = files["offset"][files["kind"] == "bias"]
    level = np.array([np.mean(f.load().data) for f in frames(taken, 1, kind="bias")])
    np.testing.assert_allclose(level - offset, np.mean(level - offset), atol=0.1)
    assert np.ptp(offset[:5]) < 0.5 < abs(offset[5:].mean() - offset[:5].mean())  # from night to night
    darks = np.median([overscan.apply(f).data for f in frames(taken, 1, kind="dark")], axis=0)
    rate = (darks - truth.planes["bias_structure"]) / 180.0
    hot = (truth.planes["dq"] & np.uint32(DQ.HOT)) != 0
    assert hot.sum() > 20
    np.testing.assert_allclose(rate[hot], truth.planes["dark"][hot], atol=0.2, rtol=0.05)


def test_a_hot_column_ends_with_its_amplifier(taken):
    for detector in DETECTORS:
        dark = truth_of(taken, detector).planes["dark"]
        column = int(np.argmax(np.median(dark, axis=0) + np.mean(dark > 30.0, axis=0)))
        rows = np.flatnonzero(dark[:, column] > 30.0)
        assert rows[-1] in (143, 287) and np.all(np.diff(rows) == 1) and len(rows) > 5


# -- the same again ---------------------------------------------------------------------------------------


def digests(paths) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_fewer_detectors_and_bands_give_the_same_files(taken, tmp_path):
    few = simulate(COMCAM, tmp_path, seed=5, detectors=[6], bands=["y"])
    whole, part = digests(taken.raw), digests(few.raw)
    assert len(part) == 2 * (5 + 3 + 3) + 3 + 1
    assert part.items() <= whole.items()
    other = simulate(COMCAM, tmp_path / "b", seed=6, detectors=[6], bands=["y"], counts=Counts(1, 0, 0))
    assert all(digests(other.raw)[name] != whole[name] for name in digests(other.raw))


def test_mistakes_are_explained(tmp_path):
    with pytest.raises(SelectionError, match="no such band"):
        simulate(COMCAM, tmp_path, seed=1, bands=["r", "w"])
    with pytest.raises(SelectionError, match="no such detector"):
        simulate(COMCAM, tmp_path, seed=1, detectors=[9])
    with pytest.raises(SelectionError, match="did you mean small"):
        simulate(COMCAM, tmp_path, seed=1, size="smal")
    with pytest.raises(SelectionError, match="no such name"):
        load("com")
    with pytest.raises(OptionError, match="negative"):
        simulate(COMCAM, tmp_path, seed=-1)
    with pytest.raises(OptionError, match="fewer biases"):
        plan(COMCAM, Counts(biases=79))
    with pytest.raises(OptionError, match="fewer biases"):
        plan(COMCAM, Counts(biases=0, flats=0, darks=140))
    with pytest.raises(OptionError, match="negative"):
        Counts(flats=-1)
    one = {"seed": 1, "detectors": [0], "bands": ["r"], "counts": Counts(1, 0, 0, False)}
    assert len(simulate(COMCAM, tmp_path, **one).raw) == 2
    with pytest.raises(OutputExistsError):
        simulate(COMCAM, tmp_path, **one)
    assert len(simulate(COMCAM, tmp_path, overwrite=True, **one).raw) == 2


def test_numbers_and_times_of_a_day_do_not_collide():
    exposures = plan(COMCAM, Counts())
    assert len({(item.day, item.sequence) for item in exposures}) == len(exposures) == 76
    starts = [item.start for item in exposures]
    assert starts == sorted(starts)
    gaps = [(after.start - before.start) / 1e6 - before.exptime for before, after in pairwise(exposures)]
    assert min(gaps) >= 2.3
