"""``calibrant report`` and ``reduce --report``: folders, files, detectors, registries, and bad input."""

from __future__ import annotations

import re
import shutil

import pytest

import calibrant as cal
from calibrant.files.fits import write

FAST = ("--no-plots", "--set", "steps_options.cosmic_rays.enabled=false")


@pytest.fixture(scope="module")
def night(tmp_path_factory, raw, calibrant):
    """A reduced night with its report, and a registry that knows it; never changed."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(raw, folder / "raw")
    db = folder / "calibrant.db"
    assert calibrant("registry", "init", "--db", db).code == 0
    words = ("--out", folder / "night", "--register", "--db", db, "--report", *FAST)
    told = calibrant("reduce", folder / "raw", *words)
    assert told.code == 0, told.err
    (folder / "said").write_text(told.out)
    return folder


@pytest.fixture
def report(tmp_path, calibrant):
    def run(*words, code=0):
        told = calibrant("report", *words, "--out", tmp_path / "report.html")
        assert told.code == code, told.err
        return told

    run.file = tmp_path / "report.html"
    return run


def standings(html: str) -> dict[str, str]:
    """Product -> its word in the table of verdicts."""
    table = html[html.index('class="verdicts"') :]
    table = table[: table.index("</table>")]
    return dict(re.findall(r'<span class="name">([^<]*)</span>.*?class="mark ([a-z-]+)"', table, re.DOTALL))


def test_reduce_writes_it_beside_the_products_and_says_where(night):
    file = night / "night" / "report.html"
    assert f"report: {file}" in (night / "said").read_text()
    found = standings(file.read_text())
    assert set(found) == {path.stem for path in (night / "night" / "masters").glob("*.fits")}
    assert found["bias"] == "pass" and "not-verified" not in found.values()


def test_a_folder_is_verified_on_the_frames_of_its_summary(night, report):
    assert f"report: {report.file}" in report(night / "night").out
    html = report.file.read_text()
    assert standings(html) == standings((night / "night" / "report.html").read_text())
    assert "Reduction of raw" in html and "held against limits" in html


def test_frames_that_are_gone_leave_products_unverified(night, report, tmp_path):
    shutil.copytree(night / "night", tmp_path / "moved")
    summary = tmp_path / "moved" / "summary.json"
    summary.write_text(summary.read_text().replace(str(night / "raw"), "/nowhere/raw"))
    report(tmp_path / "moved")
    html = report.file.read_text()
    assert standings(html)["bias"] == "not-verified" and "not to be found in /nowhere/raw" in html
    report(tmp_path / "moved", "--raw", night / "raw", "--overwrite")
    assert standings(report.file.read_text())["bias"] == "pass"


def test_a_single_file_is_verified_with_what_lies_beside_it(night, report):
    (flat,) = (night / "night" / "masters").glob("flat*.fits")
    report(flat, "--raw", night / "raw")
    alone = report.file.read_text()
    whole = (night / "night" / "report.html").read_text()
    told = [
        re.search(rf'{flat.stem}</span>.*?class="reason">([^<]*)', one, re.DOTALL)[1]
        for one in (alone, whole)
    ]
    assert told[0] == told[1]


def test_no_verify_looks_at_no_frame(night, report):
    report(night / "night", "--no-verify")
    assert set(standings(report.file.read_text()).values()) == {"not-verified"}


def test_json_tells_the_files(night, report):
    told = report(night / "night" / "masters" / "bias.fits", "--json").json
    assert told["reports"][0]["file"] == str(report.file) and told["reports"][0]["bytes"] > 10_000


def test_a_report_in_the_way_stays(night, report):
    report.file.write_text("mine")
    assert "exists already" in report(night / "night", code=2).sentence
    assert report.file.read_text() == "mine"


def test_a_registry_gives_verdicts_references_and_trends(night, report, calibrant, tmp_path):
    db = tmp_path / "copy.db"
    shutil.copy(night / "calibrant.db", db)
    old = cal.read(night / "night" / "masters" / "bias.fits")
    assert calibrant("registry", "verify", old.identity, "--db", db).code == 0
    assert calibrant("registry", "certify", old.identity, "--db", db).code == 0
    report(night / "night" / "masters" / "bias.fits", "--db", db)
    html = report.file.read_text()
    assert "as the registry has it" in html and "certified (default: always)" in html

    from dataclasses import replace

    later = replace(old, epoch=old.epoch + 86_400_000_000, quantities=tuple(
        replace(q, value=q.value + 1) if q.name == "read_noise" else q for q in old.quantities
    ))  # fmt: skip
    write(later, tmp_path / "later.fits")
    assert calibrant("registry", "add", tmp_path / "later.fits", "--db", db).code == 0
    report(tmp_path / "later.fits", "--db", db, "--overwrite")
    html = report.file.read_text()
    assert f"the last certified, {old.identity[7:19]}" in html and "read noise" in html
    assert "over the epochs of the registry" in html


def test_an_earlier_folder_is_compared(night, report):
    report(night / "night", "--against", night / "night")
    html = report.file.read_text()
    assert html.count("agrees</p>") == len(standings(html))
    assert str(night / "night" / "masters" / "bias.fits") in html


def test_what_an_earlier_folder_lacks_is_said(night, report):
    report(night / "night", "--against", night / "night" / "masters" / "bias.fits", "--no-verify")
    assert "the earlier folder has nothing of its kind and setting" in report.file.read_text()


def test_one_for_each_detector(night, report, tmp_path):
    from dataclasses import replace

    folder = tmp_path / "two"
    folder.mkdir()
    bias = cal.read(night / "night" / "masters" / "bias.fits")
    for name in ("S00", "S/01"):
        keys = {**bias.keys, "detector": name}
        write(replace(bias, keys=keys), folder / f"bias_{name[-2:]}.fits")
    told = report(folder, "--by", "detector", "--no-verify", "--json").json["reports"]
    assert [one["file"] for one in told] == [
        str(tmp_path / "report_S00.html"),
        str(tmp_path / "report_S-01.html"),
    ]
    assert set(standings((tmp_path / "report_S00.html").read_text())) == {"bias_00"}
    report(folder, "--detector", "S/01", "--no-verify")
    assert set(standings(report.file.read_text())) == {"bias_01"}
    sentence = report(folder, "--detector", "S9", "--overwrite", code=2).sentence
    assert "no product is of this detector" in sentence and "S00" in sentence


def test_two_folders_have_two_reports(night, report, tmp_path):
    shutil.copytree(night / "night" / "masters", tmp_path / "other")
    told = report(night / "night", tmp_path / "other", "--no-verify", "--json").json["reports"]
    assert [one["file"].rpartition("/")[2] for one in told] == ["report_night.html", "report_other.html"]


def test_an_identity_is_found_in_a_registry(night, report):
    bias = cal.read(night / "night" / "masters" / "bias.fits")
    report(bias.identity[7:19], "--db", night / "calibrant.db", "--no-verify")
    assert list(standings(report.file.read_text())) == ["bias"]


# --- bad input ---


def test_reduce_replaces_its_own_report_and_no_other(night, calibrant, tmp_path):
    shutil.copytree(night / "night", tmp_path / "n")
    words = ("reduce", night / "raw", "--out", tmp_path / "n", "--report", *FAST)
    assert calibrant(*words).code == 0
    (tmp_path / "n" / "report.html").write_text("mine")
    told = calibrant(*words)
    assert told.code == 2 and "exists already" in told.sentence
    assert (tmp_path / "n" / "report.html").read_text() == "mine"


def test_a_folder_without_products(report, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "there is no product in the folder" in report(tmp_path / "empty", code=2).sentence
    assert not report.file.exists()


def test_no_such_folder(report, tmp_path):
    assert "there is no such file or folder" in report(tmp_path / "nowhere", code=2).sentence


def test_a_broken_file_among_others_is_a_line(night, report, tmp_path):
    folder = tmp_path / "some"
    shutil.copytree(night / "night" / "masters", folder)
    whole = (folder / "bias.fits").read_bytes()
    (folder / "dark.fits").write_bytes(whole[: len(whole) // 3])
    (folder / "bias.fits").write_bytes(whole[:-20_000] + bytes(14_000) + whole[-6_000:])
    (folder / "junk.fits").write_bytes(b"SIMPLE = nonsense")
    report(folder, "--no-verify")
    html = report.file.read_text()
    assert "junk.fits" in html[html.index('id="warnings"') :] and standings(html)
    assert "left out" in html


def test_only_a_broken_file_is_a_sentence(report, tmp_path):
    (tmp_path / "junk.fits").write_bytes(b"SIMPLE = nonsense")
    told = report(tmp_path / "junk.fits", code=2)
    assert "junk.fits" in told.sentence


def test_a_frame_is_no_product(night, report):
    frame = next((night / "night" / "calibrated").glob("*.fits"))
    assert "a frame, and no product" in report(frame, code=2).sentence


def test_a_registry_that_is_not_there(night, report, tmp_path):
    told = report(night / "night", "--db", tmp_path / "none.db", code=2)
    assert "none.db" in told.sentence and not (tmp_path / "none.db").exists()


def test_an_unknown_way_of_parting(night, report):
    assert "reduction, detector" in report(night / "night", "--by", "moon", code=2).sentence


def test_a_damaged_summary_costs_only_what_it_says(night, report, tmp_path):
    shutil.copytree(night / "night", tmp_path / "n")
    (tmp_path / "n" / "summary.json").write_text("{ damaged")
    report(tmp_path / "n", "--no-verify")
    assert "bias" in standings(report.file.read_text())


def test_a_product_of_an_instrument_that_is_not_known(night, report, tmp_path):
    from dataclasses import replace

    strange = replace(cal.read(night / "night" / "masters" / "bias.fits"), instrument="periscope")
    write(strange, tmp_path / "bias.fits")
    report(tmp_path / "bias.fits")
    assert (
        "periscope" in report.file.read_text()
        and "name its file with --instrument" in report.file.read_text()
    )
