"""Results on the internal lamp of an image slicer, recovered from the whole scene; and what must fail.

`slicer-demo` in `make test`; the spectrometer itself, full size, in `make soak`. Numbers: section 3 of the
specification of the notebook that asked the questions.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, cached_property

import numpy as np
import pytest
from astropy.io import fits

from calibrant.effects import campaigns, flatness, fringe, row_parity, stray_light, trace
from calibrant.simulate.slicer import Place, Scene, make

SMALL, FULL = "slicer-demo", "miri-mrs"
WAVES = np.linspace(4.8, 5.8, 40)
CAMPAIGNS = ("FM", "CV3", "OTIS")
EDGE = 0.12  # of a slice
PARITY = 0.01


class Shots:
    """Images of a scene, and what is found in them, each made once."""

    def __init__(self, name):
        self.full, self.scene = name == FULL, Scene.load(name)
        self.slices = self.scene.slices
        self.made = cache(self._made)
        self.fringes = cache(self._fringes)

    def _made(self, source, campaign="FM"):
        seed = np.random.default_rng([ord(letter) for letter in source + campaign])
        return make(self.scene, source, campaign, seed)

    def net(self, source):
        """The frame, the background of a pair taken off."""
        frame = self.made(source).frame
        if source == "internal":
            return frame
        dark = self.made("background").frame
        return replace(
            frame, data=frame.data - dark.data, variance=frame.variance + dark.variance, dq=frame.dq | dark.dq
        )

    def clean(self, source, frame=None):
        """Without stray light, as it is measured if nothing is said."""
        frame = self.net(source) if frame is None else frame
        return stray_light.apply(frame, stray_light.measure(frame, self.slices))

    def light(self, source):
        """True light of slices."""
        own = self.made(source).truth.planes["light"].astype(np.float64)
        return own if source == "internal" else own - self.made("background").truth.planes["light"]

    @cached_property
    def core(self):
        place = np.full(self.slices.shape, np.nan)
        for number in self.slices.numbers:
            place = np.fmax(place, self.slices.within(number))
        return (place > EDGE) & (place < 1 - EDGE) & (self.made("internal").frame.dq == 0)

    @cached_property
    def resolution(self):
        return tuple(WAVES), tuple(WAVES / self.scene.resolution(min(self.slices.numbers)).width(WAVES))

    def filtered(self, frame):
        """Through the published filter, which knows wavelengths along rows alone."""
        if self.slices.dispersion == "rows":
            return row_parity.binomial(frame)
        frame = replace(frame, systematic=None)
        turned = row_parity.binomial(
            replace(frame, data=frame.data.T, variance=frame.variance.T, dq=frame.dq.T)
        )
        return replace(turned, data=turned.data.T, variance=turned.variance.T, dq=turned.dq.T)

    def fitted(self, frame):
        return fringe.measure(frame, self.slices, resolution=self.resolution)

    def _fringes(self, source):
        frame = self.clean(source)
        return self.fitted(row_parity.apply(frame, row_parity.measure(frame, slices=self.slices)))

    @cached_property
    def campaigns(self):
        frames = {name: self.made("internal", name).frame for name in CAMPAIGNS}
        return campaigns.measure(frames, self.slices, reference="FM")

    def change(self, frames, name):
        """Per cent by which the light of the cores lies above FM."""
        one, other = (frames[which].data[self.core].astype(np.float64) for which in ("FM", name))
        both = np.isfinite(one) & np.isfinite(other)
        return 100 * (other[both].sum() / one[both].sum() - 1)


@pytest.fixture(scope="module", params=[SMALL, pytest.param(FULL, marks=pytest.mark.soak)])
def shots(request):
    return Shots(request.param)


def expected(product, truth, of):
    """The truth at slice and wavelength of each line of the table of fringes."""
    table, true = product.tables["fringes"], truth.tables["depths"]
    made = np.empty(len(table["slice"]))
    for number in set(table["slice"].tolist()):
        here, there = table["slice"] == number, true["slice"] == number
        made[here] = np.interp(table["wavelength"][here], true["wavelength"][there], true[of][there])
    return made


def test_1_the_ratio_of_the_two_lamps(shots):
    lamps = {source: shots.clean(source) for source in ("internal", "extended-800K")}
    numbers = shots.slices.numbers
    each = [[shots.light(s)[shots.core & (shots.slices.ids == n)].sum() for n in numbers] for s in lamps]
    true = np.mean(np.array(each[0]) / np.array(each[1]))
    found = flatness.ratio(*lamps.values(), shots.slices).quantity("ratio")
    assert 15 < true < 25
    assert found.value == pytest.approx(true, rel=0.01)
    raw = flatness.ratio(*(shots.net(source) for source in lamps), shots.slices).quantity("ratio")
    assert raw.value != pytest.approx(true, rel=0.01)  # the twin: stray light left in


def test_2_structure_follows_the_slices(shots):
    count = len(shots.slices.turned().ids)
    rows = [255, 511, 767] if shots.full else [round(count * part) - 1 for part in (0.25, 0.5, 0.75)]
    lamp, sky = (
        flatness.measure(shots.clean(source), shots.slices, rows=rows)
        for source in ("internal", "extended-800K")
    )
    along, column = (lamp.quantity(f"correlation_{by}").value for by in ("alpha", "column"))
    assert along > (0.99 if shots.full else 0.85) and column < 0.7  # the twin: by columns
    assert np.median(lamp.tables["slices"]["rms"]) > 0.2
    assert np.median(sky.tables["slices"]["rms"]) < 0.01


def test_3_structure_moved_and_edges_did_not(shots):
    found = shots.campaigns
    assert found.quantity("structure", "CV3").value == pytest.approx(1.5, abs=0.05)
    assert found.quantity("structure", "OTIS").value == pytest.approx(0.3, abs=0.05)
    for name in ("CV3", "OTIS"):
        assert found.quantity("edge", name).value == pytest.approx(0.0, abs=0.03)
        gain = shots.scene.campaign(name).gain / shots.scene.campaign("FM").gain
        own = found.quantity("gain", name)
        assert abs(own.value - gain) < 3 * own.sigma < 0.0035
    table = found.tables["change"]
    wide = {
        (name, part): np.median(
            (table["high"] - table["low"])[(table["campaign"] == name) & (table["part"] == part)]
        )
        for name in ("CV3", "OTIS")
        for part in ("core", "edge")
    }
    assert all(wide["OTIS", part] < 0.5 * wide["CV3", part] for part in ("core", "edge"))
    told = {note.split()[0]: note for note in found.provenance.notes}
    assert "gain and structure and pedestal changed" in told["CV3"] and "edge kept" in told["CV3"]


@pytest.mark.soak  # a small one: tests/effects/test_campaigns.py
def test_3_twin_edges_that_moved_are_not_taken_for_structure():
    scene = Scene.load(SMALL, campaigns={"FM": {}, "CV3": {"structure_shift": 1.5, "edge_shift": 0.2}})
    frames = {}
    for name in ("FM", "CV3"):
        frame = make(scene, "internal", name, np.random.default_rng(5)).frame
        stray = stray_light.measure(frame, scene.slices)
        frames[name] = stray_light.apply(frame, stray)
    found = campaigns.measure(frames, scene.slices)
    assert found.quantity("edge", "CV3").value == pytest.approx(0.2, abs=0.03)
    assert found.quantity("structure", "CV3").value == pytest.approx(1.5, abs=0.05)
    assert "edge and structure changed" in found.provenance.notes[0]


def test_4_gaps_of_the_campaigns_are_in_order(shots):
    level = {name: shots.campaigns.quantity("gap_level", name).value for name in CAMPAIGNS}
    assert level["FM"] < level["OTIS"] < level["CV3"]
    assert level["FM"] > shots.scene.campaign("FM").pedestal + 5  # with wings of slices and stray light
    for name in CAMPAIGNS:
        background = shots.campaigns.quantity("gap_background", name).value
        stray = shots.made("internal", name).truth.planes["stray"][shots.slices.gaps()]
        assert background == pytest.approx(np.median(stray), abs=3.0)
        assert level[name] != pytest.approx(np.median(stray), abs=3.0)  # the twin: wings left in


def test_5_removing_stray_light_raises_the_change_and_the_model_says_why(shots):
    raw = {name: shots.made("internal", name).frame for name in CAMPAIGNS}
    published = {
        name: stray_light.apply(frame, stray_light.measure(frame, shots.slices, method="as_published"))
        for name, frame in raw.items()
    }
    clean = {name: shots.clean("internal", frame) for name, frame in raw.items()}
    before, notebook, after = (shots.change(frames, "OTIS") for frames in (raw, published, clean))
    assert notebook < before - 0.5 and after < before - 1.0
    light = {name: shots.made("internal", name).truth.planes["light"] for name in CAMPAIGNS}
    true = 100 * (light["OTIS"][shots.core].sum() / light["FM"][shots.core].sum() - 1)  # structure moves, too
    assert after == pytest.approx(true, abs=0.3) and before != pytest.approx(true, abs=1.0)
    told = {note.split()[0]: note for note in shots.campaigns.provenance.notes}
    assert "gain and structure and pedestal changed" in told["OTIS"]
    stray = {n: np.median(shots.made("internal", n).truth.planes["stray"]) for n in CAMPAIGNS}
    change = shots.campaigns.quantity("pedestal_change", "OTIS")
    assert abs(change.value - (stray["OTIS"] - stray["FM"])) < 3 * change.sigma < 3


def test_6_fringes_have_one_place_and_two_depths(shots):
    sources = ("internal", "extended-800K")
    beside = fringe.compare(*(shots.fringes(source) for source in sources))
    assert abs(beside.quantity("phase").value) < 0.05 and abs(beside.quantity("D").value) < 1
    assert beside.tables["causes"]["cause"][0] == "reflectivity"
    for source in sources:
        product, truth = shots.fringes(source), shots.made(source).truth
        assert product.quantity("D").value == pytest.approx(1709.6, abs=1)
        table = product.tables["fringes"]
        for name, of in (("depth", "observed"), ("R", "reflectivity"), ("depth_intrinsic", "intrinsic")):
            off, sigma = table[name] - expected(product, truth, of), table[f"{name}_sigma"]
            allowed = np.hypot(sigma, 3e-4 * table[name])  # ghosts, which the kernel of stray light lacks
            assert np.mean(np.abs(off) < 2 * allowed) > 0.9, (source, name)
            assert np.mean(np.abs(off + 5 * allowed) < 2 * allowed) < 0.1  # the twin
        near = np.argsort(np.abs(table["wavelength"] - 4.95))[:8], np.argsort(-table["wavelength"])[:8]
        assert table["depth"][near[1]].mean() > 1.2 * table["depth"][near[0]].mean()


def test_6_contrast_of_a_point_lies_between_those_of_the_lamps(shots):
    """Of the spectrum along its trace, as the notebook would have it, but for jumps."""
    number = 4 if not shots.full else 110
    line = shots.scene.lines[number]
    made = make(shots.scene, "point", "FM", np.random.default_rng(3), Place(0.0, line.beta))
    depth = {"point": _depth_along(shots, made, number)}
    for source in ("internal", "extended-800K"):
        depth[source] = _depth_along(shots, shots.made(source), number)
    assert depth["extended-800K"] < depth["point"] < depth["internal"]


def _depth_along(shots, made, number):
    """Median depth of the fringes of one slice, in units of the truth."""
    frame = replace(made.frame, data=made.frame.data - made.truth.planes["stray"])
    ids = np.where(shots.slices.ids == number, number, 0).astype(np.int32)
    narrow = ids * (np.abs(np.nan_to_num(shots.slices.alpha)) < 0.4)
    slices = replace(shots.slices, ids=narrow.astype(np.int32))
    found = fringe.measure(frame, slices, resolution=shots.resolution, thickness=1709.6, margin=0)
    return float(np.median(found.tables["fringes"]["depth"]))


def test_7_parity_changes_depths_by_little_and_loses_no_peak(shots):
    name = FULL if shots.full else SMALL
    scene = Scene.load(name, campaigns={"even": {}, "odd": {"parity": PARITY}})
    frames = {}
    for name in ("even", "odd"):
        made = make(scene, "extended-800K", name, np.random.default_rng(7))
        frames[name] = replace(made.frame, data=made.frame.data - made.truth.planes["stray"])
    frames["mended"] = row_parity.apply(frames["odd"], row_parity.measure(frames["odd"], slices=shots.slices))
    depth = {n: shots.fitted(f).tables["fringes"]["depth"] for n, f in frames.items() if n != "mended"}
    assert np.abs(depth["odd"] / depth["even"] - 1).max() < 0.02 * (1 if shots.full else 2)
    assert np.abs(np.mean(depth["odd"] / depth["even"]) - 1) < 0.005
    number = shots.slices.numbers[3]
    along = trace.measure(frames["even"], shots.slices, method="alpha", numbers=[number])
    peaks = {}
    for name, frame in frames.items():
        spectrum = trace.extract(frame, shots.slices, along, width=6).tables["spectrum"]["value"]
        peaks[name] = len(fringe.norm_fringe(spectrum, 0.0, 5)[1])
    assert peaks["mended"] >= peaks["even"] - 1
    filtered = shots.fitted(shots.filtered(frames["odd"])).tables["fringes"]["depth"]
    assert np.mean(filtered / depth["even"]) < 0.95  # the twin: the published filter


def test_8_lamps_of_other_temperatures_have_the_same_fringes(shots):
    for source in ("extended-600K", "extended-400K"):
        beside = fringe.compare(shots.fringes("extended-800K"), shots.fringes(source))
        ratio, phase = beside.quantity("depth_ratio"), beside.quantity("phase")
        assert abs(ratio.value - 1) < max(4 * ratio.sigma, 0.004) < 0.1
        assert abs(phase.value) < 0.05
    other = fringe.compare(shots.fringes("extended-800K"), shots.fringes("internal"))
    assert abs(other.quantity("depth_ratio").value - 1) > 0.5  # the twin: another source


def test_the_notebook_filtered_one_source_and_not_the_other(shots):
    """Its size: contrast of the extended source is cos^2(pi / period) of what it is, 6 to 17 % lower."""
    right = shots.fringes("extended-800K").tables["fringes"]
    wrong = shots.fitted(shots.filtered(shots.clean("extended-800K"))).tables["fringes"]
    kept = wrong["depth"] / right["depth"]
    transfer = np.array([row_parity.transfer(float(period)) for period in right["period"]])
    assert np.median(np.abs(kept / transfer - 1)) < 0.02
    lamp = shots.fringes("internal").tables["fringes"]["depth"]
    share = np.median(lamp / wrong["depth"]) / np.median(lamp / right["depth"]) - 1
    assert 0.06 < share < 0.17
    if shots.full:
        sources = "internal", "extended-800K"
        lowest = [1 - _at(shots.fringes(source).tables["fringes"], 5.2) for source in sources]
        assert lowest == pytest.approx([0.795, 0.902], abs=0.004)
        assert 1 - _at(wrong, 5.2) == pytest.approx(0.912, abs=0.004)  # as the notebook had it


def _at(table, wavelength):
    """Depth at a wavelength, mean of the slices."""
    slices = np.unique(table["slice"])
    each = [
        np.interp(wavelength, table["wavelength"][here], table["depth"][here])
        for here in (table["slice"] == number for number in slices)
    ]
    return float(np.mean(each))


def test_lines_of_a_real_etalon_in_the_scene(real_data):
    """The table of measured lines, seen by the spectrometer, extracted along a slice, and found again."""
    with fits.open(real_data / "mrs" / "RAL_FTS_ET1A_FITPARAMS_07.01.00.fits") as file:
        table = file[1].data
        good = (table["LAMCEN"] > 4.7) & (table["LAMCEN"] < 5.9) & (table["HEIGHT"] > 0)
        centre, height = (np.array(table[name][good], np.float64) for name in ("LAMCEN", "HEIGHT"))
    flat = {"level": [400.0] * 3, "reflectivity": [0.0] * 3}
    scene = Scene.load(FULL, bad=0.0, stray=0.0, second_reflectivity=0.0, sources={"etalon-1A": flat})
    scene = scene.with_lines("etalon-1A", centre, height / height.max())
    frame = make(scene, "etalon-1A", "FM", np.random.default_rng(1)).frame
    along = trace.measure(frame, scene.slices, method="alpha", numbers=[110])
    made = trace.extract(frame, scene.slices, along).tables["spectrum"]
    rows = np.isfinite(made["value"])
    found = fringe.lines(made["wavelength"][rows], made["value"][rows], made["sigma"][rows], min_dist=3)
    lines = found.tables["lines"]
    good = np.asarray(lines["good"])
    nearest = centre[np.abs(lines["wavelength"][:, None] - centre).argmin(axis=1)]
    pull = ((lines["wavelength"] - nearest) / lines["wavelength_sigma"])[good]
    inside = (centre > made["wavelength"][rows].min()) & (centre < made["wavelength"][rows].max())
    assert good.sum() > 0.9 * inside.sum()
    assert np.median(np.abs(lines["wavelength"] - nearest)[good]) < 1e-5  # um: 0.01 pixel
    assert abs(np.median(pull)) < 1 and np.median(np.abs(pull)) < 1.5
    slope = np.median(np.diff(np.sort(1e4 / centre[inside])))
    spacing = found.quantity("spacing")
    assert spacing.value == pytest.approx(slope, rel=2e-3)
    assert spacing.value != pytest.approx(1.01 * slope, rel=2e-3)  # the twin
