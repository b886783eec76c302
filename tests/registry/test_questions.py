"""Questions: what is looked up, what is checked, and the sentence for each thing that is wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from calibrant.errors import AmbiguousError, NoMatchError, OptionError, RegistryError
from calibrant.frame import Exposure
from calibrant.instrument import load
from calibrant.registry import events
from calibrant.registry.ingest import ingest
from calibrant.registry.questions import Memory, Question, calibrated, choose, for_exposure, raw, revision_of
from calibrant.registry.records import Draft

CAMERA = load("generic-ccd").model_copy(update={"name": "cam", "levels": {"flat": (1.0, 5.0)}})
OTHER = CAMERA.model_copy(update={"name": "other"})
DAY = 86_400_000_000
NOON = 1_731_067_200_000_000  # 2024-11-08T12:00:00Z
TAKEN = NOON + DAY  # of exposure 2024110900246


def sha(word):
    return f"sha256:{word.encode().hex():0<64}"


def draft(word, kind="flat", instrument="cam", epoch=NOON, **keys):
    return Draft(
        sha(word),
        kind,
        instrument,
        {"binning": (1, 1), **keys},
        epoch,
        f"/d/{word}.fits",
        sha(f"file {word}"),
        9,
    )


def exposure(identifier="2024110900246", detector="0", start=TAKEN, **facts):
    usual = {"filter": "r", "duration": 30.0, "temperature": -10.0, "instrument": "cam"}
    path = f"/raw/{facts.get('instrument', 'cam')}_{identifier}_{detector}_{start}.fits"
    return Exposure(
        "light", start, **{**usual, "path": path, **facts}, identifier=identifier, detector=detector
    )


def write(database, *deeds):
    with database.write() as writing:
        for deed in deeds:
            deed(writing)
        return writing.revision


def taken(*exposures, instrument=CAMERA):
    return lambda writing: ingest(writing, exposures, lambda path: (f"sha256:{path}", 100), instrument)


def drafts(*found):
    return lambda writing: events.add(writing, found, {"cam": CAMERA, "other": OTHER})


def valid(word, begin=NOON, end=NOON + 30 * DAY, tag="default", **options):
    return lambda writing: events.certify(writing, sha(word), begin, end, tag, force="test", **options)


@pytest.fixture
def filled(database):
    """Flats r and g of detectors 0 and 1, a dark, and an exposure of both detectors."""
    words = {f"{name}{detector}": (name, detector) for name in "rg" for detector in "01"}
    write(
        database,
        drafts(*(draft(word, filter=name, detector=detector) for word, (name, detector) in words.items())),
        drafts(draft("dark", kind="dark", detector="0", temperature=-10.0)),
        *(valid(word) for word in [*words, "dark"]),
        taken(exposure(), exposure(detector="1")),
    )
    return database


def ask(database, kind="flat", memory=None, **question):
    facts = question.pop("facts", {})
    with database.read() as connection:
        return choose(connection, Question(kind, **question, facts=facts), memory or Memory())


def name(choice):
    """The word of the identity."""
    return bytes.fromhex(choice.candidate.identity.removeprefix("sha256:")).rstrip(b"\0").decode()


def refused(error, database, *args, **question):
    with pytest.raises(error) as caught:
        ask(database, *args, **question)
    assert type(caught.value) is error
    return str(caught.value)


# --- what follows from what -------------------------------------------------------------------------------


def test_filter_and_time_follow_from_the_exposure(filled):
    choice = ask(filled, exposure=2024110900246, detector=0)
    assert (name(choice), choice.level, choice.path) == ("r0", 0, "/d/r0.fits")
    assert choice.notes == ()
    with filled.read() as connection:
        assert choice.revision == Memory().refresh(connection)
    assert name(ask(filled, exposure=" 2024110900246 ", detector="1", instrument="cam")) == "r1"
    assert name(ask(filled, "dark", exposure="2024110900246", detector=0)) == "dark"


def test_keys_and_time_do_instead_of_an_exposure(filled):
    question = {"instrument": "cam", "detector": 0, "facts": {"filter": "g"}}
    choice = ask(filled, **question, time="2024-11-09T05:00")
    assert name(choice) == "g0"
    assert choice.notes == ("2024-11-09T05:00 has no zone: taken as 2024-11-09T05:00:00Z",)
    assert name(ask(filled, **question, time=datetime(2024, 11, 9, tzinfo=UTC))) == "g0"
    assert name(ask(filled, **question)) == "g0"  # the only one, at any time


def test_a_stated_fact_must_not_contradict_the_exposure(filled):
    assert name(ask(filled, exposure="2024110900246", detector=0, facts={"filter": "r"})) == "r0"
    text = refused(OptionError, filled, exposure="2024110900246", detector=0, facts={"filter": "g"})
    assert "exposure 2024110900246 has filter r, and filter g was asked for" in text
    facts = {"temperature": "-10.5"}  # within the tolerance, and as text
    assert name(ask(filled, "dark", exposure="2024110900246", detector=0, facts=facts)) == "dark"
    text = refused(OptionError, filled, exposure="2024110900246", detector=0, time="2024-11-10T00:00Z")
    assert "began at 2024-11-09T12:00:00Z, and the time 2024-11-10T00:00:00Z was asked for" in text


def test_a_stated_fact_says_what_the_exposure_does_not(filled):
    write(filled, taken(exposure("clear", filter=None, path="/raw/clear.fits")))
    assert "say which filter" in refused(AmbiguousError, filled, exposure="clear", detector=0)
    assert name(ask(filled, exposure="clear", detector=0, facts={"filter": "g"})) == "g0"


@pytest.mark.parametrize("binning", [1, "1", "1x1", (1, 1), [1, 1], "1 x 1"])
def test_binning_may_be_said_in_any_way(filled, binning):
    assert name(ask(filled, time=TAKEN, detector=0, facts={"filter": "r", "binning": binning})) == "r0"
    facts = {"filter": "r", "binning": 2}
    assert "binning is 1x1, not 2x2" in refused(NoMatchError, filled, time=TAKEN, detector=0, facts=facts)


def test_an_exposure_that_is_not_in_the_registry(filled):
    with filled.read() as connection:
        question = Question("", tag="default")
        choice = for_exposure(connection, "flat", exposure("new", "1", filter="g"), question, Memory())
        assert (name(choice), choice.notes) == ("g1", ())
        with pytest.raises(
            NoMatchError, match=r"no flat of cam fits exposure new, detector 0, filter z; nearest"
        ):
            for_exposure(connection, "flat", exposure("new", filter="z"), question, Memory())


def test_an_exposure_ingested_later_is_answered_as_of_then_and_told(filled):
    with filled.read() as connection:
        before = Memory().refresh(connection)
    write(filled, taken(exposure("late")), valid("r0", NOON + 40 * DAY, None))
    choice = ask(filled, exposure="late", detector=0, as_of=before)
    assert (name(choice), choice.revision) == ("r0", before)
    assert choice.notes == (f"exposure late was ingested after revision {before}",)


def test_an_old_model_of_the_instrument_counts_as_of_then(filled):
    with filled.read() as connection:
        before = Memory().refresh(connection)
    strict = CAMERA.model_copy(update={"tolerance": {}})
    write(filled, lambda writing: events.record_instrument(writing, strict))
    question = {
        "kind": "dark",
        "instrument": "cam",
        "detector": 0,
        "time": TAKEN,
        "facts": {"temperature": -10.4},
    }
    assert "temperature is -10, not -10.4" in refused(NoMatchError, filled, **question)
    assert name(ask(filled, **question, as_of=before)) == "dark"


def test_memory_sees_what_is_written_meanwhile(filled):
    memory = Memory()
    question = {"exposure": "2024110900246", "detector": 0, "memory": memory}
    assert name(ask(filled, **question)) == "r0"
    write(filled, drafts(draft("new", filter="r", detector="0", gain_setting="2")), valid("new", tag="lab"))
    assert ask(filled, **question, tag="lab").candidate.tag == "lab"
    write(filled, lambda writing: events.withdraw(writing, sha("new"), "light leak"))
    assert "withdrawn: light leak" in refused(NoMatchError, filled, **question, tag="lab")


# --- tags and revisions -----------------------------------------------------------------------------------


def test_tags_are_searched_in_order_and_all_if_none_is_named(filled):
    write(
        filled, drafts(draft("mine", filter="r", detector="0", epoch=NOON - DAY)), valid("mine", tag="mine")
    )
    question = {"exposure": "2024110900246", "detector": 0}
    assert name(ask(filled, **question, tag="mine,default")) == "mine"
    assert name(ask(filled, **question, tag=["default", "mine"])) == "r0"
    choice = ask(filled, **question)
    assert name(choice) == "r0"  # nearer in time
    assert choice.notes == ("no tag was named: all 2 were searched (default, mine)",)
    write(filled, lambda writing: events.chain(writing, "mine", ["default"]))
    assert name(ask(filled, exposure="2024110900246", detector=1, tag="mine")) == "r1"
    text = refused(RegistryError, filled, **question, tag="mime")
    assert "the registry has no tag 'mime' (did you mean 'mine'?)" in text
    write(filled, lambda writing: events.chain(writing, "mine", []))
    text = refused(NoMatchError, filled, exposure="2024110900246", detector=1, tag="mine")
    assert "certified under tag default, which is not searched" in text


def test_revisions_times_and_names(filled):
    with filled.read() as connection:
        head = Memory().refresh(connection)
    frozen = write(filled, lambda writing: events.freeze(writing, "DR1"))
    write(filled, lambda writing: events.withdraw(writing, sha("r0"), "light leak"))
    with filled.read() as connection:
        assert revision_of(connection, "DR1") == frozen
        assert revision_of(connection, head) == revision_of(connection, f" {head} ") == head
        assert revision_of(connection, "2000-01-01T00:00Z") == 0
        assert revision_of(connection, "2999-01-01") == frozen + 1
        for wrong, sentence in (
            (frozen + 2, f"no revision {frozen + 2}: its last one is {frozen + 1}"),
            (-1, "no revision -1"),
            ("DR2", r"no state was frozen under the name 'DR2' \(did you mean 'DR1'\?\)"),
        ):
            with pytest.raises(RegistryError, match=sentence):
                revision_of(connection, wrong)
    question = {"exposure": "2024110900246", "detector": 0}
    assert "withdrawn: light leak" in refused(NoMatchError, filled, **question)
    assert name(ask(filled, **question, as_of="DR1")) == "r0"
    choice = ask(filled, exposure="2024110900246", detector=1, as_of="2999-01-01")
    assert choice.notes == ("2999-01-01 has no zone: taken as 2999-01-01T00:00:00Z",)


def test_before_everything_there_is_nothing(filled):
    text = refused(NoMatchError, filled, exposure="2024110900246", detector=0, as_of=0)
    assert "the registry knows none for it" in text


# --- what is wrong ----------------------------------------------------------------------------------------


def test_no_match_names_the_nearest_misses(filled):
    write(filled, taken(exposure("night2", start=NOON + 33 * DAY)))
    text = refused(NoMatchError, filled, exposure="night2", detector=0)
    assert text.startswith("no flat of cam fits exposure night2, detector 0, filter r; nearest: sha256:")
    assert "valid 2024-11-08T12:00:00Z to 2024-12-08T12:00:00Z, 3.0 d before the exposure" in text
    assert "filter is g, not r" in text
    assert text.endswith(f"level 2 (`--level 2`) would accept {sha('r0')[:19]}.")
    choice = ask(filled, exposure="night2", detector=0, level=2)
    assert (name(choice), choice.level) == ("r0", 2)
    assert choice.notes[-1].startswith("taken at level 2, outside its validity")
    assert "there is no level 3 of flat" in refused(
        OptionError, filled, exposure="night2", detector=0, level=3
    )


def test_a_draft_is_chosen_if_it_is_asked_for(filled):
    write(filled, drafts(draft("z", filter="z", detector="0")), taken(exposure("zed", filter="z")))
    text = refused(NoMatchError, filled, exposure="zed", detector=0)
    assert "never certified" in text and "ask for drafts (`--drafts`)" in text
    choice = ask(filled, exposure="zed", detector=0, drafts=True)
    assert (name(choice), choice.level) == ("z", -1)


@pytest.mark.parametrize(
    "odd", ["Robert'); DROP TABLE exposure;--", '"', "%", "2024110900246%", "_", "\\", "", "é"]
)
def test_an_unknown_exposure(filled, odd):
    text = refused(NoMatchError, filled, exposure=odd, detector=0)
    assert "the registry does not know the exposure" in text
    assert "`calibrant registry ingest` records exposures" in text
    assert name(ask(filled, exposure="2024110900246", detector=0)) == "r0"


def test_an_identifier_with_quotes_and_semicolons(filled):
    odd = "Robert'); DROP TABLE exposure;--"
    write(filled, taken(exposure(odd, path="/raw/odd.fits")))
    assert name(ask(filled, exposure=odd, detector=0)) == "r0"


def test_the_nearest_identifiers_are_named(filled):
    write(filled, taken(*(exposure(f"202411090{n:04d}", start=TAKEN + n) for n in range(240, 250))))
    text = refused(NoMatchError, filled, exposure="2024110900250", detector=0)
    assert "does not know the exposure '2024110900250'; nearest: 20241109002" in text
    assert "nearest: 2024110900246" in refused(NoMatchError, filled, exposure="2024l10900246", detector=0)


def test_a_detector_that_the_exposure_has_not(filled):
    text = refused(NoMatchError, filled, exposure="2024110900246", detector=7)
    assert "exposure 2024110900246 has no detector 7: it has 0, 1" in text


def test_a_detector_that_is_left_open(filled):
    text = refused(AmbiguousError, filled, exposure="2024110900246")
    assert "several detectors" in text and "say which detector, for example detector=0" in text
    assert "of 2 detectors: 0, 1" in refused(AmbiguousError, filled, time=TAKEN, facts={"filter": "r"})
    assert name(ask(filled, "dark", exposure="2024110900246")) == "dark"  # the only detector with darks


def test_two_instruments_with_the_same_detector_number(filled):
    write(
        filled,
        drafts(draft("theirs", instrument="other", filter="r", detector="0")),
        valid("theirs"),
        taken(exposure(instrument="other", start=TAKEN + DAY), instrument=OTHER),
    )
    text = refused(AmbiguousError, filled, exposure="2024110900246", detector=0)
    assert "two instruments with the same detector number): cam, other" in text
    assert name(ask(filled, exposure="2024110900246", detector=0, instrument="other")) == "theirs"
    assert name(ask(filled, exposure="2024110900246", detector=0, time="2024-11-09T12:00:10Z")) == "r0"
    text = refused(AmbiguousError, filled, time=TAKEN, detector=0, facts={"filter": "r"})
    assert "products of kind flat are of 2 instruments: cam, other" in text
    assert name(ask(filled, "dark", time=TAKEN, detector=0)) == "dark"


def test_two_files_that_claim_to_be_one_exposure(filled):
    write(filled, taken(exposure(start=TAKEN + DAY)))
    text = refused(AmbiguousError, filled, exposure="2024110900246", detector=0)
    assert "2 different files are exposure 2024110900246, detector 0, of cam: /raw/" in text
    assert name(ask(filled, exposure="2024110900246", detector=0, time=TAKEN + DAY)) == "r0"
    write(filled, lambda writing: events.withdraw(writing, f"sha256:{exposure().path}", "a copy"))
    assert name(ask(filled, exposure="2024110900246", detector=0)) == "r0"


def test_unknown_instrument_kind_and_fact(filled):
    text = refused(NoMatchError, filled, exposure="2024110900246", detector=0, instrument="can")
    assert "exposure 2024110900246 is of cam, not of can (did you mean 'cam'?)" in text
    text = refused(NoMatchError, filled, time=TAKEN, detector=0, instrument="can")
    assert "the registry knows no instrument 'can' (did you mean 'cam'?)" in text
    text = refused(NoMatchError, filled, "flta", time=TAKEN, detector=0)
    assert "no products of kind 'flta' (did you mean 'flat'?): expected dark, flat" in text
    text = refused(OptionError, filled, time=TAKEN, detector=0, facts={"fliter": "r"})
    assert "exposures of cam have no fact 'fliter' (did you mean 'filter'?)" in text
    text = refused(OptionError, filled, "dark", time=TAKEN, detector=0, facts={"temperature": "cold"})
    assert "temperature is a number: got 'cold'" in text


def test_an_empty_registry_says_so(database):
    text = refused(NoMatchError, database, exposure="1")
    assert "it has no products at all" in text


# --- frames -----------------------------------------------------------------------------------------------


def test_raw_files(filled):
    with filled.read() as connection:
        found, path = raw(connection, Question("raw", exposure=2024110900246, detector=1))
        assert (found, path) == (exposure(detector="1"), exposure(detector="1").path)
        with pytest.raises(OptionError, match="a raw frame is asked for, and no exposure is named"):
            raw(connection, Question("raw", detector=1))
        with pytest.raises(AmbiguousError, match="several detectors"):
            raw(connection, Question("raw", exposure=2024110900246))
        with pytest.raises(OptionError, match="has filter r, and filter g was asked for"):
            raw(connection, Question("raw", exposure=2024110900246, detector=1, facts={"filter": "g"}))
    write(filled, lambda writing: events.withdraw(writing, f"sha256:{path}", "the shutter stuck"))
    with filled.read() as connection:
        question = Question("raw", exposure=2024110900246, detector=1)
        with pytest.raises(NoMatchError, match="detector 1, was withdrawn: the shutter stuck"):
            raw(connection, question)
        before = Memory().refresh(connection) - 1
        assert raw(connection, replace(question, as_of=before))[1] == path


def test_the_newest_calibrated_frame_that_was_not_withdrawn(filled):
    question = Question("calibrated", exposure="2024110900246", detector=0)

    def made(word):
        hash = f"sha256:{exposure().path}"
        return lambda writing: events.add_frame(writing, hash, f"/c/{word}.fits", sha(word), 9, [], {})

    with (
        filled.read() as connection,
        pytest.raises(NoMatchError, match="detector 0, has no calibrated frame"),
    ):
        calibrated(connection, question)
    first = write(filled, made("first"))
    write(filled, made("second"))
    with filled.read() as connection:
        assert calibrated(connection, question) == "/c/second.fits"
        assert calibrated(connection, replace(question, as_of=first)) == "/c/first.fits"
    write(filled, lambda writing: events.withdraw(writing, sha("second"), "wrong flat"))
    with filled.read() as connection:
        assert calibrated(connection, question) == "/c/first.fits"
    write(filled, lambda writing: events.withdraw(writing, sha("first"), "old"))
    with filled.read() as connection, pytest.raises(NoMatchError, match="was withdrawn: wrong flat"):
        calibrated(connection, question)
