"""The session: what was asked of a frame stays, what concerned an image goes with it."""

from __future__ import annotations

from calibrant.web.session import Session


def frame(session: Session, number: int = 1) -> dict:
    return next(one for one in session.state()["frames"] if one["number"] == number)


def test_every_change_has_a_revision_of_its_own() -> None:
    session = Session()
    seen = {session.revision}
    for change in (
        lambda: session.show(1, "a"), lambda: session.look(1, stretch={"name": "log"}),
        lambda: session.mark(1, {"row": 1, "col": 2}), lambda: session.remove(1),
    ):  # fmt: skip
        change()
        assert session.revision not in seen
        seen.add(session.revision)


def test_the_view_stays_for_the_next_image_and_marks_go() -> None:
    session = Session()
    session.show(2, "a")
    session.look(2, stretch={"name": "asinh"}, view={"zoom": 4.0})
    session.look(2, view={"row": 3.0})
    session.mark(2, {"row": 0, "col": 0})
    assert session.show(2, "b") == "a"
    found = frame(session, 2)
    assert found["image"] == "b"
    assert found["view"] == {"stretch": {"name": "asinh"}, "view": {"zoom": 4.0, "row": 3.0}, "marks": []}


def test_frames_are_in_order_and_the_last_shown_is_in_front() -> None:
    session = Session()
    session.show(3, "c")
    session.show(1, "a")
    assert [one["number"] for one in session.state()["frames"]] == [1, 3]
    assert session.state()["current"] == 1
    assert session.remove(1) == "a"
    assert session.state()["current"] is None
    assert session.shows("c") and not session.shows("a")


def test_what_changed_when() -> None:
    session = Session()
    session.show(1, "a")
    session.look(1, stretch={"name": "log"})
    changed = frame(session)["changed"]
    assert changed["stretch"] == session.revision > changed["image"]


def test_the_state_is_a_copy() -> None:
    session = Session()
    session.look(1, stretch={"name": "log"})
    frame(session)["view"]["stretch"]["name"] = "sqrt"
    assert frame(session)["view"]["stretch"]["name"] == "log"
