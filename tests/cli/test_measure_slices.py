"""measure fringes, stray-light, trace, flatness, row-parity: what is chosen, printed, kept and refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from calibrant.cli import main
from calibrant.cli.measure_slices import ABOUT
from calibrant.exposures import Exposures
from calibrant.files.fits import read
from calibrant.pipeline.measurements_slices import SLICED
from calibrant.simulate.slicer import Scene
from calibrant.simulate.slicer_files import simulate

SCENE = Scene.load("slicer-demo")
SLICES = SCENE.slices


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Two campaigns; the second lacks all but the lamp."""
    folder = tmp_path_factory.mktemp("slices") / "raw"
    for campaign, sources in (("FM", ["internal", "extended-800K", "background"]), ("CV3", ["internal"])):
        simulate(folder, SCENE, seed=1, sources=sources, campaigns=[campaign])
    return folder


@pytest.fixture
def run(raw, tmp_path, capsys):
    """Run a command on the frames; gives exit code, text, error."""

    def call(verb, *words, folder=raw, out="out"):
        path = str(tmp_path / out)
        given = ["measure", verb, str(folder), "-i", "slicer-demo", "--no-plots", "--out", path]
        with pytest.raises(SystemExit) as left:
            main([*given, *map(str, words)])
        told = capsys.readouterr()
        return left.value.code, told.out, told.err

    return call


def products(run, *words, **more):
    code, out, err = run(*words, "--json", **more)
    assert code == 0, err
    facts = json.loads(out)
    return {one["name"]: one for one in facts["products"]}, facts


def value(product, name, place=None):
    (found,) = [q for q in product["quantities"] if q["name"] == name and q.get("place") == place]
    return found["value"], found.get("sigma")


def observed(path):
    """Mean of the depths that the truth of a frame has as observed."""
    table = read(path).tables["depths"]
    return float(np.mean(table["observed"]))


def test_every_measurement_of_slices_is_a_command():
    assert list(ABOUT) == [one.name for one in SLICED]


def test_fringes_of_two_sources_and_what_makes_them_differ(run, raw):
    found, facts = products(run, "fringes", "--against", "extended-800K", "--campaign", "FM")
    assert list(found) == [
        "fringes_extended-800K_FM_demo",
        "fringes_internal_FM_demo",
        "fringes_internal_FM_demo_against_extended-800K",
    ]
    lamp, both = found["fringes_internal_FM_demo"], found["fringes_internal_FM_demo_against_extended-800K"]
    assert lamp["keys"]["source"] == "internal" and lamp["frames"] == 1
    assert found["fringes_extended-800K_FM_demo"]["frames"] == 2  # and its background
    truth = observed(raw / "truth" / "FM_internal.fits") / observed(raw / "truth" / "FM_extended-800K.fits")
    assert value(both, "depth_ratio")[0] == pytest.approx(truth, rel=0.03)
    assert value(both, "depth_ratio")[0] != pytest.approx(1.1 * truth, rel=0.03)
    assert "reflectivity: internal meets" in both["notes"][0] and both["keys"]["against"] == "extended-800K"
    assert facts["problems"] == []
    _, out, _ = run("fringes", "--against", "extended-800K", "--campaign", "FM")
    assert "(kept)" in out and "(made)" not in out
    for head in ("depth observed", "depth intrinsic", "D [um]", "wavelength [um]", "depth ratio", "cause"):
        assert head in out
    assert "0.21" in out and " +- " in out


def test_stray_light_makes_the_depths_of_campaigns_alike(run, tmp_path):
    depths = {}
    for out, words in (("as-is", ()), ("corrected", ("--correct", "row-parity,stray-light"))):
        found, facts = products(run, "fringes", *words, out=out)
        assert not facts["problems"]
        depths[out] = [value(one, "depth")[0] for one in found.values()]
    assert depths["corrected"][0] == pytest.approx(depths["corrected"][1], rel=3e-3)
    assert depths["as-is"][0] != pytest.approx(depths["as-is"][1], rel=1e-2)  # pedestals of 8 and 22
    kept = sorted(path.name for path in (tmp_path / "corrected" / "corrections").iterdir())
    assert kept[0] == "row_parity-stray_light_internal_CV3_demo.fits" and len(kept) == 4
    product = read(tmp_path / "corrected" / "fringes_internal_FM_demo.fits")
    assert len(product.provenance.parents) == 2
    assert "before: row parity, stray light removed" in product.provenance.notes


def test_signal_ratio_beside_what_is_expected(run):
    words = ("--against", "extended-800K", "--campaign", "FM", "--transmissions", "20+-0.5", "--over", "1.05")
    found, _ = products(run, "flatness", *words)
    both = found["flatness_internal_FM_demo_against_extended-800K"]
    assert value(both, "ratio")[0] == pytest.approx(19.0, rel=0.01)
    assert value(both, "expected") == (pytest.approx(20 / 1.05), pytest.approx(0.5 / 1.05))
    assert abs(value(both, "pull")[0]) < 3
    code, _, err = run("flatness", "--transmissions", "0.3")
    assert code == 2 and "--against" in err


def test_trace_and_its_spectrum(run, tmp_path):
    _, out, _ = run("trace", "--source", "internal", "--campaign", "FM", "--min_dist", "400")
    assert "a spline of degree 3 needs 4" in out and "peaks" in out and "rows lost" in out
    table = read(tmp_path / "out" / "spectrum_internal_FM_demo.fits").tables["spectrum"]
    assert {"wavelength", "value", "sigma", "continuum", "transmission", "peak"} <= set(table)
    code, _, _ = run("trace", "--source", "internal", "--campaign", "FM", out="one.fits")
    assert code == 0 and read(tmp_path / "one.fits").kind == "trace"


def test_lines_of_an_etalon_and_their_spacing(run, tmp_path):
    simulate(tmp_path / "etalon", SCENE, seed=1, sources=["etalon"], campaigns=["FM"])
    words = ("--method", "alpha", "--numbers", "[4]", "--lines", "gauss")
    found, _ = products(run, "trace", *words, folder=tmp_path / "etalon")
    spacing, sigma = value(found["spectrum_etalon_FM_demo"], "spacing", "4")
    assert sigma < 0.001 and abs(spacing - 5.0) < 4 * sigma
    assert abs(spacing - 5.005) > 4 * sigma
    table = read(tmp_path / "out" / "spectrum_etalon_FM_demo.fits").tables["lines"]
    assert len(table["order"]) == 30 and set(np.diff(table["order"])) == {-1}


def test_a_line_for_each_campaign(run):
    _, out, _ = run("row-parity")
    lines = [line for line in out.splitlines() if line.startswith(("internal CV3", "internal FM"))]
    assert [line.split()[3] for line in lines] == ["(5.0002", "(2.9975"]
    _, out, _ = run("stray-light")
    assert "gap  level [adu/s]" in out and "mean under slices [adu/s]" in out


def test_campaigns_that_lack_a_source_are_named(run):
    _, out, _ = run("row-parity", "--source", "extended-*")
    assert "CV3 has nothing of source extended-*: it has internal demo" in out


REFUSED = {
    "band": ("fringes", ("--band", "2A"), "no exposure has the band 2A: expected demo"),
    "campaign": ("fringes", ("--campaign", "FM,MARS"), "no exposure has the campaign MARS"),
    "source": ("fringes", ("--source", "moon"), "no exposure has the source moon"),
    "lacked": ("fringes", ("--source", "extended-800K", "--campaign", "CV3"), "among those of campaign CV3"),
    "background": ("fringes", ("--source", "internal", "--background", "sky"), "no background to subtract"),
    "itself": ("fringes", ("--source", "internal", "--against", "internal"), "against itself"),
    "traces": ("trace", ("--source", "internal", "--against", "extended-800K"), "not held against"),
    "correct": ("fringes", ("--correct", "trace"), "corrects no frames"),
    "slices": ("fringes", ("--slices", "nowhere.fits"), "there is no such file"),
    "resolution": ("fringes", ("--resolution", "-3"), "a resolution is positive"),
    "option": ("fringes", ("--pionts", "3"), "did you mean 'points'?"),
    "transmissions": ("flatness", ("--against", "background", "--over", "dark"), "not transmissions"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing(run, tmp_path, name):
    verb, words, sentence = REFUSED[name]
    code, _, err = run(verb, *words)
    assert code == 2 and sentence in err and err.count("\n") == 1, err
    assert not (tmp_path / "out").exists()


def changed(raw, folder, name, change, **cards):
    """A copy of a frame with other pixels or cards."""
    from astropy.io import fits

    folder.mkdir(exist_ok=True)
    shutil.copy(raw / name, folder / name)
    with fits.open(folder / name, mode="update") as units:
        change(units[0].data)
        units[0].header.update(cards)
    return folder


def planes(path, ids, wavelength):
    """A file with planes of slices."""
    from astropy.io import fits

    units = [fits.ImageHDU(ids.astype("i2"), name="SLICE")]
    units += [fits.ImageHDU(np.nan_to_num(wavelength).astype("f4"), name="WAVELENGTH")]
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(path)
    return path


def test_maps_that_do_not_fit(run, tmp_path):
    wave = SLICES.wavelength
    small = planes(tmp_path / "small.fits", SLICES.ids[:-10], wave[:-10])
    full = planes(tmp_path / "full.fits", np.where(SLICES.ids > 0, SLICES.ids, 1), wave)
    turned = np.where(np.arange(512) % 40 < 20, wave, wave[:, ::-1])
    back = planes(tmp_path / "back.fits", np.clip(SLICES.ids, 0, None), turned)
    for verb, path, sentence in (
        ("fringes", small, "does not fit the image: expected 250 x 512"),
        ("stray-light", full, "no good pixel lies between the slices"),
        ("fringes", back, "wavelengths in one order"),
        ("flatness", back, "no positions along slices"),
    ):
        code, _, err = run(verb, "--campaign", "FM", "--slices", path)
        assert code == 2 and sentence in err, err
        assert not (tmp_path / "out").exists()


def test_sources_of_different_readout_are_held_together_only_if_told(run, raw, tmp_path):
    folder = tmp_path / "modes"
    for name, mode in (("FM_internal", "FAST"), ("FM_extended-800K", "SLOW"), ("FM_background", "SLOW")):
        changed(raw, folder, f"{name}.fits", lambda planes: None, READPATT=mode)
    words = ("--source", "internal", "--against", "extended-800K")
    code, _, err = run("flatness", *words, folder=folder)
    assert code != 0 and "the sources differ in mode" in err
    assert run("flatness", *words, "--any-readout", folder=folder)[0] == 0


def test_bad_pixels_are_told_and_the_rest_is_measured(run, raw, tmp_path):
    def spoil(planes):
        planes[0][SLICES.ids == 3] = np.nan
        planes[0][:, 100:140] = np.nan
        row, col = np.nonzero(SLICES.gaps())
        planes[0][row[::600], col[::600]] = 1e5

    folder = changed(raw, tmp_path / "bad", "FM_internal.fits", spoil)
    found, _ = products(run, "fringes", folder=folder)
    (lamp,) = found.values()
    assert "slice 3: too few good pixels, left out" in lamp["notes"]
    truth = observed(raw / "truth" / "FM_internal.fits")
    assert value(lamp, "depth")[0] == pytest.approx(truth, rel=0.03)  # a pedestal lies under the light
    found, _ = products(run, "stray-light", folder=folder)
    assert 8 < value(next(iter(found.values())), "mean")[0] < 16
    found, _ = products(run, "trace", folder=folder)
    assert any("rows have no centre" in note for one in found.values() for note in one["notes"])


def test_a_file_with_planes_of_its_own_needs_no_instrument(run, raw, tmp_path, capsys):
    from astropy.io import fits

    cube = fits.getdata(raw / "FM_internal.fits")
    units = [fits.PrimaryHDU()]
    for name, plane in (("SCI", cube[0]), ("ERR", cube[1]), ("DQ", cube[2].astype("i4"))):
        units.append(fits.ImageHDU(plane, name=name))
    units.append(fits.ImageHDU(np.clip(SLICES.ids, 0, None).astype("i2"), name="SLICE"))
    units.append(fits.ImageHDU(np.nan_to_num(SLICES.wavelength), name="WAVELENGTH"))
    fits.HDUList(units).writeto(tmp_path / "a_rate.fits")
    powers = tmp_path / "power.csv"
    powers.write_text("um,R\n5.0,2860\n5.7,3140\n")
    words = ["measure", "fringes", str(tmp_path / "a_rate.fits"), "-i", "generic-ccd", "--no-plots", "--json"]
    words += ["--dispersion", "cols", "--out", str(tmp_path / "own"), "--resolution", str(powers)]
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0
    (one,) = json.loads(capsys.readouterr().out)["products"]
    assert one["name"] == "fringes_a_rate"
    assert value(one, "depth_intrinsic")[0] > value(one, "depth")[0] * 1.1


def test_campaigns_by_name(raw, capsys):
    def compared(*words):
        with pytest.raises(SystemExit) as left:
            main(["compare", str(raw), "--by", "slice", *words])
        return left.value.code, capsys.readouterr()

    code, told = compared("-i", "generic-ccd")
    assert code == 2 and "--instrument" in told.err and "--slices" in told.err
    code, told = compared("--source", "extended-800K")
    assert code == 2 and "nothing of CV3 is left" in told.err
    lamps = Exposures.scan(raw, "slicer-demo").where(source="internal")
    assert len(lamps) == 2
