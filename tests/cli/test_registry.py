"""``calibrant registry``: a night from init to freeze, and what is said when something is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import calibrant as cal

SPAN = ("--from", "2024-03-01T00:00Z", "--to", "2024-04-01T00:00Z")


@pytest.fixture(scope="module")
def night(tmp_path_factory, raw, calibrant):
    """A folder with a registry that knows a reduced night; never changed."""
    folder = tmp_path_factory.mktemp("registry")
    shutil.copytree(raw, folder / "raw")
    assert calibrant("registry", "init", "--db", folder / "calibrant.db").code == 0
    words = ("--out", folder / "reduced", "--register", "--db", folder / "calibrant.db", "--no-plots")
    assert calibrant("reduce", folder / "raw", *words).code == 0
    return folder


@pytest.fixture
def here(night, tmp_path, monkeypatch):
    """A copy of the registry, of which the files are those of `night`, as the working folder."""
    shutil.copy(night / "calibrant.db", tmp_path / "calibrant.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALIBRANT_REGISTRY", raising=False)
    return tmp_path


@pytest.fixture
def run(here, calibrant):
    def command(*words):
        return calibrant("registry", *words)

    return command


@pytest.fixture
def masters(night):
    return {path.stem.partition("_")[0]: path for path in (night / "reduced" / "masters").glob("*.fits")}


def short(path):
    return cal.read(path).identity[7:19]


# --- the way through ---


def test_init_makes_one_and_never_another(calibrant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALIBRANT_REGISTRY", raising=False)
    assert "calibrant registry init" in calibrant("registry", "ls").sentence
    assert "next: calibrant registry ingest" in calibrant("registry", "init").err
    again = calibrant("registry", "init")
    assert again.code == 2 and "there already" in again.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["calibrant.db"]


def test_ingest_counts_and_goes_on(calibrant, raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALIBRANT_REGISTRY", raising=False)
    calibrant("registry", "init")
    (tmp_path / "bad.fits").write_text("no FITS")
    told = calibrant("registry", "ingest", raw, "bad.fits")
    assert told.code == 0 and "16 new, 0 known" in told.out and "left out: bad.fits" in told.out
    found = calibrant("registry", "ingest", raw, "--json").json
    assert (found["new"], found["known"], found["moved"], found["problems"]) == (0, 16, 0, [])
    assert found["files_per_second"] > 0
    nothing = calibrant("registry", "ingest", "bad.fits")
    assert nothing.code == 2 and "no exposures" in nothing.sentence


def test_facts_are_read_again_if_asked(calibrant, raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALIBRANT_REGISTRY", raising=False)
    calibrant("registry", "init")
    (tmp_path / "kinds.csv").write_text("file,kind\n*,dark\n")
    calibrant("registry", "ingest", raw, "--kinds", "kinds.csv")
    told = calibrant("registry", "ingest", raw)
    assert " more: its facts read otherwise" in told.out and "--again" in told.out
    assert len(calibrant("registry", "ls", "dark", "--exposures", "--json").json) == 16
    told = calibrant("registry", "ingest", raw, "--again")
    assert told.code == 0 and "those of now count" in told.out
    assert len(calibrant("registry", "ls", "light", "--exposures", "--json").json) == 2


def test_verify_certify_get(run, masters, here):
    path = masters["flat"]
    told = run("verify", path)
    assert told.code == 0 and "normalisation" in told.out and "passes" in told.out, told
    told = run("certify", path, *SPAN, "--tag", "DP1")
    assert told.code == 0 and short(path) in told.out and "2024-03-01T00:00Z to 2024-04-01T00:00Z" in told.out
    told = run("get", "flat", "--exposure", "spiral-R-001", "--out", "flat.fits")
    assert told.code == 0 and "copied to flat.fits" in told.out
    assert "certified for DP1, 2024-03-01T00:00Z to 2024-04-01T00:00Z" in told.out
    assert (here / "flat.fits").read_bytes() == path.read_bytes()
    assert "exists" in run("get", "flat", "-e", "spiral-R-001", "--out", "flat.fits").sentence
    assert run("get", "flat", "-e", "spiral-R-001", "--out", "flat.fits", "--overwrite").code == 0
    found = run("get", "flat", "-e", "spiral-R-001", "--json").json
    assert found["identity"] == cal.read(path).identity and found["path"] == str(path)
    assert (found["tag"], found["from"], found["level"]) == ("DP1", "2024-03-01T00:00:00Z", 0)


def test_raw_and_calibrated_frames(run, night, here):
    assert run("get", "raw", "-e", "spiral-R-001").out.strip() == str(night / "raw" / "spiral-R-001.fit")
    for kind in ("calibrated", "visit_image"):
        assert "reduced/calibrated/spiral-R-001.fits" in run("get", kind, "-e", "spiral-R-001").out
    assert run("get", "raw", "-e", "spiral-R-001", "-o", "copy.fit").code == 0
    (here / "folder").mkdir()
    assert "copied to folder/spiral-R-001.fit" in run("get", "raw", "-e", "spiral-R-001", "-o", "folder").out
    assert (here / "copy.fit").read_bytes() == (night / "raw" / "spiral-R-001.fit").read_bytes()


def test_a_verdict_that_fails_is_recorded_and_bars_the_way(run, masters, tmp_path):
    strict = tmp_path / "strict.toml"
    from calibrant.pipeline import recipe

    text, _ = recipe._text("ccd")
    strict.write_text(text + "\n[verify.flat]\nnormalisation = [2.0, 3.0]\n")
    told = run("verify", masters["flat"], "--recipe", strict)
    assert told.code == 1 and "FAIL" in told.out and "fails in 1 of" in told.out
    refused = run("certify", masters["flat"], "--json")
    assert refused.code == 2 and "failed its verification" in refused.json["error"]["message"]
    forced = run("certify", masters["flat"], "--force", "nothing better", "--json")
    assert forced.code == 0 and any("nothing better" in note for note in forced.json["notes"])
    assert run("verify", masters["flat"], "--json").json["passed"] is True


def test_frames_can_be_named(run, masters, night):
    flats = sorted((night / "raw").glob("flat*"))
    words = [word for path in flats[:3] for word in ("--frames", path)]
    found = run("verify", masters["flat"], *words, "--json").json
    assert sorted(Path(path).name for path in found["frames"]) == [path.name for path in flats[:3]]


def test_explain_tells_every_candidate(run, masters):
    run("certify", masters["flat"], *SPAN, "--force", "test")
    told = run("explain", "flat", "-e", "spiral-R-001")
    assert told.code == 0 and "chosen" in told.out and short(masters["flat"]) in told.out
    told = run("explain", "flat", "--filter", "R", "--time", "2025-03-11T00:00")
    assert "validity" in told.out and "nothing is chosen" in told.out
    assert "has no zone: taken as 2025-03-11T00:00:00Z" in told.err
    found = run("explain", "flat", "-e", "spiral-R-001", "--json").json
    assert found["chosen"]["identity"] == found["candidates"][0]["identity"] and found["total"] >= 1


def test_lineage_as_a_tree_and_as_a_graph(run, masters, night):
    told = run("lineage", night / "reduced" / "calibrated" / "spiral-R-001.fits")
    for kind in ("bias", "dark", "flat"):
        assert f"{kind} {short(masters[kind])}" in told.out
    assert "5 raw bias" in told.out and "1 raw light: spiral-R-001" in told.out
    dot = run("lineage", masters["flat"], "--dot").out
    assert dot.startswith("digraph") and cal.read(masters["bias"]).identity in dot
    found = run("lineage", masters["flat"], "--json").json
    assert found["root"] == cal.read(masters["flat"]).identity and len(found["edges"]) >= 7


def test_withdraw_taints_what_was_made_of_it(run, masters):
    run("certify", masters["flat"], "--force", "test")
    told = run("withdraw", short(masters["bias"]), "--why", "light leak")
    assert told.code == 0 and short(masters["flat"]) in told.out
    again = run("withdraw", masters["bias"], "--why", "once more")
    assert again.code == 2 and "withdrawn already" in again.sentence and "light leak" in again.sentence
    told = run("check")
    assert told.code == 1 and "tainted" in told.out and "light leak" in told.out
    assert "light leak" in run("get", "flat", "-e", "spiral-R-001").err
    assert "light leak" in run("explain", "flat", "-e", "spiral-R-001").err
    assert "it is tainted: bias" in run("get", "visit_image", "-e", "spiral-R-001").err
    assert "light leak" in run("get", "visit_image", "-e", "spiral-R-001", "--json").json["notes"][0]
    assert "it was withdrawn: nothing chooses it" in run("verify", masters["bias"]).out
    assert run("ls", "--state", "withdrawn").out.splitlines()[-2].startswith("1 product of")
    assert "is withdrawn: light leak" in run("lineage", masters["flat"]).out
    refused = run("certify", masters["bias"], "--force", "x")
    assert refused.code == 2 and "was withdrawn" in refused.sentence


def test_ls(run, masters):
    run("certify", masters["flat"], *SPAN, "--tag", "DP1", "--force", "test")
    told = run("ls")
    assert all(short(path) in told.out for path in masters.values()) and "tags: DP1" in told.out
    assert [entry["kind"] for entry in run("ls", "--tag", "DP1", "--json").json["products"]] == ["flat"]
    assert {e["state"] for e in run("ls", "--state", "draft", "--json").json["products"]} == {"draft"}
    assert "1 of " in run("ls", "--limit", "1").out
    told = run("ls", "light", "--exposures")
    assert told.out.splitlines()[-1] == "2 exposures"
    assert run("ls", "--exposures", "--tag", "DP1").code == 2


def test_freeze_and_tag(run, masters):
    run("certify", masters["flat"], "--tag", "DP1", "--force", "test")
    assert "say --as-of paper" in run("freeze", "paper", "--why", "the tables").out
    run("withdraw", masters["flat"], "--why", "dust")
    assert run("get", "flat", "-e", "spiral-R-001").code == 2
    assert run("get", "flat", "-e", "spiral-R-001", "--as-of", "paper").code == 0
    run("certify", masters["dark"], "--tag", "DP2", "--force", "test")
    assert "DP2 is searched first, then DP1" in run("tag", "DP2", "--then", "DP1").out
    assert run("get", "flat", "-e", "spiral-R-001", "--tag", "DP2", "--as-of", "paper").code == 2  # later
    assert "frozen: paper" in run("ls").out and "DP2 then DP1" in run("ls").out


# --- files ---


def test_a_master_that_is_not_known_is_recorded_first(run, here, raw, calibrant):
    calibrant("reduce", raw, "--out", here / "again", "--no-plots")
    master = here / "again" / "masters" / "bias.fits"
    product = cal.read(master)
    calibrant("registry", "init", "--db", "other.db")
    told = run("certify", master, "--db", "other.db")
    assert told.code == 2 and "has not been verified" in told.err
    assert f"the bias {product.identity[7:19]}" in run("add", master, "--db", "other.db").err
    told = run("certify", "again/masters/bias.fits", "--force", "x", "--db", "other.db")
    assert told.code == 0 and "binning" in told.out
    fresh = run("verify", "again/masters/dark.fits", "--db", "other.db", "--json")
    assert fresh.json["recorded"] is False


def test_a_file_that_moved_or_was_altered(run, here, masters):
    copy = here / "mine.fits"
    shutil.copy(masters["flat"], copy)
    product = cal.read(copy)
    copy.unlink()
    cal.write(product, copy)
    cal.write(cal.Product("flat", product.instrument, {"detector": "x"}, 5, product.planes), here / "x.fits")
    run("certify", here / "x.fits", "--tag", "X", "--force", "test")
    (here / "x.fits").rename(here / "y.fits")
    question = ("get", "flat", "-d", "x", "--time", "2024-03-11T00:00Z", "--tag", "X")
    lost = run(*question)
    assert lost.code == 2 and "is lost" in lost.sentence and "calibrant registry add" in lost.sentence
    assert "lost: the flat" in run("check").out
    assert "its place is recorded" in run("add", "y.fits").err
    assert run(*question).code == 0
    with (here / "y.fits").open("r+b") as stream:
        stream.seek(20 * 2880)
        stream.write(b"12345678")
    altered = run(*question)
    assert altered.code == 2 and "not as it was recorded" in altered.sentence
    assert "altered: the flat" in run("check").out
    refused = run("certify", "y.fits", "--tag", "Z", "--force", "x")
    assert refused.code == 2 and "changed since it was written" in refused.sentence


# --- bad input ---


@pytest.mark.parametrize(
    "words, expected",
    [
        (("get", "flat", "-e", "spiral-R-009"), "does not know the exposure 'spiral-R-009'; nearest:"),
        (("get", "flat", "-e", "x'; DROP TABLE event; --"), "does not know the exposure"),
        (("get", "flat", "-e", "spiral-R-001"), "never certified"),
        (("get", "flta", "-e", "spiral-R-001"), "did you mean 'flat'?"),
        (("get", "flat", "-e", "spiral-R-001", "-i", "genric-ccd"), "not of genric-ccd"),
        (("get", "flat", "-e", "spiral-R-001", "--filter", "B"), "leave out one of the two"),
        (("get", "flat", "-e", "spiral-R-001", "--tag", "DP1"), "has no tag 'DP1'"),
        (("get", "flat", "-e", "spiral-R-001", "--as-of", "9999"), "no revision 9999"),
        (
            ("get", "flat", "-e", "spiral-R-001", "--as-of", "2024-03-11"),
            "that is as of revision 0: leave it out",
        ),
        (("get", "flat", "-e", "spiral-R-001", "--as-of", "paper"), "no state was frozen"),
        (("get", "flat", "-e", "spiral-R-001", "--level", "9"), "no level 9"),
        (("get", "flat", "-e", "spiral-R-001", "-k", "colour"), "expected name=value"),
        (("get", "flat", "-e", "spiral-R-001", "-k", "colour=red"), "no fact 'colour'"),
        (("get", "flat", "--time", "yesterday"), "is no time"),
        (
            ("get", "raw"),
            "a raw frame is asked for, and no exposure is named; say which, for example --exposure 2",
        ),
        (("certify", "nothing.fits"), "nothing.fits: this names no product"),
        (("certify", "abcdef123456"), "no product that begins with sha256:abcdef123456"),
        (("withdraw", "abcdef123456", "--why", "x"), "begins with"),
        (("freeze", "12"), "use a word"),
        (("tag", "A", "--then", "B"), "no tag 'B'"),
        (("ls", "flta"), "did you mean 'flat'?"),
        (("ls", "--tag", "DP1"), "the registry has no tag 'DP1', and no other."),
        (("get", "bias", "--time", "2024-03-11T00:00Z", "--key", "exposure=1"), "say --exposure 1"),
        (("ls", "--db", "nowhere.db"), "there is no registry"),
        (("ls", "--db", "mysql://me:secret@host/x"), "postgresql+psycopg://"),
        (("ls", "--db", "postgresql://me:p@secret@host/x"), "more than one @"),
        (("explain", "raw", "-e", "spiral-R-001"), "raw is no product"),
        (("ingest", "nowhere"), "no such file or folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_sentences(run, words, expected):
    told = run(*words)
    assert told.code == 2 and expected in told.sentence and "secret" not in told.err
    report = run(*words, "--json").json["error"]
    assert report["exit_code"] == 2 and expected in report["message"]


def test_spans_that_cannot_be(run, masters):
    path = masters["flat"]
    told = run("certify", path, "--from", "2024-04-01", "--to", "2024-03-01", "--force", "x")
    assert told.code == 2 and "--from before --to" in told.sentence
    run("certify", path, *SPAN, "--force", "x")
    told = run("certify", path, *SPAN, "--force", "x")
    assert told.code == 2 and "certified already" in told.sentence


def test_an_overlap_is_refused_unless_it_replaces(run, masters, here):
    product = cal.read(masters["flat"])
    planes = {**product.planes, "data": product.data * 1.01}
    other = cal.Product("flat", product.instrument, product.keys, product.epoch, planes, product.units)
    cal.write(other, here / "other.fits")
    run("certify", masters["flat"], *SPAN, "--force", "x")
    span = ("--from", "2024-03-10T00:00Z", "--to", "2024-03-20T00:00Z", "--force", "x")
    told = run("certify", "other.fits", *span)
    assert told.code == 2 and "overlap" in told.err and "--replace" in told.err
    told = run("certify", "other.fits", *span, "--replace", "--json")
    assert told.code == 0 and any("of it remains" in note for note in told.json["notes"])
    assert run("get", "flat", "-e", "spiral-R-001", "--json").json["identity"] == other.identity
    late = run("get", "flat", "--filter", "R", "--time", "2024-03-25T00:00Z", "--json").json
    assert late["identity"] == product.identity


def test_a_level_is_asked_for_and_told(run, masters):
    run("certify", masters["flat"], *SPAN, "--force", "x")
    question = ("get", "flat", "--filter", "R", "--time", "2024-04-01T12:00Z")
    assert "--level 1" in run(*question).sentence
    told = run(*question, "--level", "1")
    assert told.code == 0 and "taken at level 1" in told.err


def test_advice_is_in_the_words_of_the_command_line():
    from calibrant.cli.registry_words import as_options

    assert as_options("say which filter, for example filter=r") == "say which filter, for example --filter r"
    assert as_options("say which mode, for example mode=fast").endswith("for example --key mode=fast")
    assert as_options("say the time") == "say the time"
