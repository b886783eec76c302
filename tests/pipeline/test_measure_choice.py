"""Which exposures of a slicer are meant: by name or default, with background, beside another source."""

from __future__ import annotations

import numpy as np
import pytest

from calibrant.errors import FileError, MissingCalibrationError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.exposures.slice_maps import Maps
from calibrant.files.slice_planes import read_resolution
from calibrant.frame import Exposure, Frame
from calibrant.instrument import load
from calibrant.pipeline.measure_choice import Choice, named, partner, words


def frame(source=None, campaign="FM", band="demo", **keys):
    stated = {name: value for name, value in {"source": source, "band": band, **keys}.items() if value}
    exposure = Exposure(campaign=campaign, detector="demo", instrument="slicer-demo", keys=stated)
    return Frame(np.ones((4, 4), np.float32), exposure=exposure)


ALL = Exposures.from_frames(
    [
        frame("internal"),
        frame("extended-800K"),
        frame("extended-600K"),
        frame("background"),
        frame("internal", "CV3"),
        frame("point", pointing="P1"),
        frame("point", pointing="P2"),
    ],
    "slicer-demo",
)


def chosen(default="internal", **facts):
    found, notes = Choice(**facts).of(ALL, default)
    return named(found), notes


def test_the_lamp_of_every_campaign_unless_another_source_is_named():
    assert chosen()[0] == ["internal_FM_demo", "internal_CV3_demo"]
    assert chosen(campaign="CV3")[0] == ["internal_CV3_demo"]
    assert chosen("point")[0] == ["point_FM_demo_P1", "point_FM_demo_P2"]
    found, notes = chosen(source="extended-*, point")
    assert len(found) == 4 and notes[0].startswith(
        "CV3 has nothing of source extended-* or point: it has inter"
    )
    assert chosen(source="extended-800K", against="internal", campaign="FM")[0][0] == "internal_FM_demo"


def test_what_could_mean_several_sources_is_asked_for():
    with pytest.raises(SelectionError, match="one of extended-600K, extended-800K, internal, point"):
        chosen("")
    left = ALL.where(lambda one: one.get("source") in ("extended-600K", "background"))
    assert named(Choice().of(left, "internal")[0]) == ["extended-600K_FM_demo"]
    with pytest.raises(SelectionError, match="no source is left"):
        Choice().of(ALL.where(source="background"), "internal")


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"band": "2A"}, "no exposure has the band 2A: expected demo"),
        ({"source": "extended-800K", "campaign": "CV3"}, "among those of campaign CV3"),
        ({"campaign": "FM,MARS"}, "the campaign MARS"),
    ],
)
def test_the_fact_that_rules_all_out_is_named(facts, sentence):
    with pytest.raises(SelectionError, match=sentence):
        chosen(**facts)


def test_frames_without_sources_are_all_meant_and_go_by_their_files():
    files = [frame(None, None, None), frame(None, None, None)]
    found, notes = Choice().of(Exposures.from_frames(files), "internal")
    assert len(found) == 2 and notes == []
    assert named([Exposure(path="raw/a_rate.fits"), Exposure(path="raw/b.fits")]) == ["a_rate", "b"]
    same = [Exposure(campaign="FM", path=f"{n}.fits") for n in "ab"]
    assert named(same) == ["FM_a", "FM_b"]


def test_whose_background_is_subtracted():
    lamp, extended = ALL[0], ALL[1]
    assert len(Choice().members(ALL, lamp)) == 1
    assert [one.get("source") for one in Choice().members(ALL, extended)] == ["extended-800K", "background"]
    assert len(Choice(background="none").members(ALL, extended)) == 1
    assert len(Choice(background="background").members(ALL, lamp)) == 2
    without = ALL.where(lambda one: one.get("source") != "background")
    with pytest.raises(MissingCalibrationError, match="campaign FM, band demo, detector demo"):
        Choice().members(without, extended)


def test_a_source_is_held_against_one_of_its_campaign():
    assert partner(ALL[0], ALL, "extended-800K") is ALL[1]
    with pytest.raises(SelectionError, match="no extended-800K beside it"):
        partner(ALL[4], ALL, "extended-800K")
    with pytest.raises(SelectionError, match="2 exposures of point could be"):
        partner(ALL[0], ALL, "point")
    assert words(" a, b,,") == ["a", "b"] and words(None) == []


def test_channels_and_resolving_powers(tmp_path):
    def channel(**keys):
        return Maps()._channel(Exposure(keys=keys), (3, 4))

    assert channel(band="3C") == 3 and channel(channel="4", band="C") == 4
    assert channel(channel="34") is None and channel(band="1A") is None and channel() is None
    demo, slices = load("slicer-demo"), load("slicer-demo").slice_map(ALL[0])
    waves, powers = Maps().resolving(ALL[0], demo, slices)
    assert powers[0] < powers[-1] and waves[0] < 5.35 < waves[-1]
    assert Maps(resolution="none").resolving(ALL[0], demo, slices) is None
    assert Maps(resolution="3000").resolving(ALL[0], demo, slices) == 3000
    assert Maps().resolving(ALL[0], load("generic-ccd"), slices) is None
    with pytest.raises(OptionError, match="positive"):
        Maps(resolution=-1.0).resolving(ALL[0], demo, slices)
    table = tmp_path / "power.txt"
    table.write_text("# um, R\n5.8 3700\n4.8 3300\n")
    assert read_resolution(table, "1A")(5.3) == pytest.approx(3500)
    (tmp_path / "none.txt").write_text("nothing here\n")
    for path, sentence in (("none.txt", "no table"), ("nowhere.txt", "no such file")):
        with pytest.raises(FileError, match=sentence):
            read_resolution(tmp_path / path, "1A")
