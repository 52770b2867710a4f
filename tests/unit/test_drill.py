"""The drill's record and report: what comes from a device is judged, what is told follows from the records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.drill.command import _in_words
from relay.cli.drill.record import FORM, Step, read_record, write_record
from relay.cli.drill.report import describe, report
from relay.cli.drill.steps import steps_of
from relay.errors import Malformed
from relay.limits import MAX_DRILL_RECORD, MAX_DRILL_STEPS
from relay.node.diary import Diary, Event
from relay.records.identifiers import NodeId, ObjectId, RecordId, StatementId
from relay.records.notice import Station
from relay.store.interface import Bundle, BundleFile, State

STATIONS = (
    Station("1", 1, "Limbongan", "Gantung", "Pulau Long", 148, False),
    Station("2", 2, "Balok", "Dendang", "", 152, True),
)
FORMS = ("GUBERNUR", "BUPATI", FORM)
PHOTO = (BundleFile(ObjectId(bytes(32)), "form.jpg", "image/jpeg", 9),)


def bundle(tps: str, form: str, **changes: Any) -> Bundle:
    """A bundle at the receiver."""
    made = Bundle(
        id=StatementId(RecordId(bytes(32))),
        tps=tps,
        form=form,
        device="island",
        node=NodeId(bytes(32)),
        seq=1,
        state=State.DELIVERED,
        size=9,
        held=9,
        entry=0,
        own=False,
        supersedes=None,
        flags=(),
        captured_at=0,
        files=PHOTO,
    )
    return replace(made, **changes)


steps = st.builds(
    Step,
    st.text(st.characters(codec="utf-8", categories=("L", "N", "Zs")).filter(str.isprintable), max_size=50),
    st.integers(0, 10_000).map(lambda tenths: tenths / 10),
    st.sampled_from(["", "no phone was paired"]),
    st.sampled_from(["", "Android Redmi Note 8 0a1b2c3d"]),
)


@given(st.lists(steps, max_size=10).map(tuple))
def test_a_record_comes_back_as_it_was(record: tuple[Step, ...]) -> None:
    assert read_record(write_record(record)) == record


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_rubbish_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed):
        read_record(b"[" + text)


@pytest.mark.parametrize(
    "text",
    [
        b"null",
        b'{"steps": 3}',
        b'{"steps": [{}]}',
        b'{"steps": [{"step": "login", "seconds": NaN, "trouble": "", "who": ""}]}',
        b'{"steps": [{"step": "login", "seconds": true, "trouble": "", "who": ""}]}',
        b'{"steps": [{"step": "log\\u001bin", "seconds": 1, "trouble": "", "who": ""}]}',
        b'{"steps": [{"step": "login", "seconds": 1, "trouble": 0, "who": ""}]}',
        b'{"steps": [{"step": "login", "seconds": 1, "trouble": "", "who": 0}]}',
        b"[" * 100_000,
        b" " * (MAX_DRILL_RECORD + 1),
        write_record((Step("login", 1.0),) * (MAX_DRILL_STEPS + 1)),
    ],
)
def test_an_unfit_record_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed):
        read_record(text)


def test_who_has_done_what() -> None:
    record = (
        Step("login", 60.0, "wrong code, 2 times; upload resumed", "Redmi 1"),
        Step("pictures GUBERNUR 1", 120.0, "", "Redmi 1"),
        Step("pictures BUPATI 1", 90.5, "", "Redmi 1"),
        Step("receipt GUBERNUR 1", 30.0, "no receipt came back"),
    )
    bundles = [bundle("1", "GUBERNUR"), bundle("1", "BUPATI"), bundle("1", FORM)]
    first, second = report(STATIONS, FORMS, bundles, {"1": record})
    assert (first.state, first.seconds, first.forms) == ("done", 300.5, ("GUBERNUR", "BUPATI"))
    assert first.troubles == (
        "login: wrong code, 2 times",
        "login: upload resumed",
        "receipt GUBERNUR 1: no receipt came back",
    )
    assert (second.state, second.seconds) == ("missing", None)
    told = describe("drill-2024", [first, second])
    assert (told["done"], told["missing"], told["median_seconds"]) == (1, ["2"], 300.5)
    assert told["reports"][0]["people"] == [
        {"who": "Redmi 1", "seconds": {"login": 60.0, "pictures": 210.5}},
        {"who": "", "seconds": {"receipt": 30.0}},
    ]


def test_what_went_wrong() -> None:
    earlier = StatementId(RecordId(b"1" * 32))
    bundles = [
        bundle("1", "GUBERNUR", files=(), flags=("votes", "ballots")),
        bundle("1", "GUBERNUR", supersedes=earlier, files=()),
        bundle("2", "BUPATI", state=State.PARTIAL),
        bundle("2", "BUPATI"),
        bundle("2", "GUBERNUR"),
    ]
    first, second = report(STATIONS, FORMS, bundles, {})
    assert first.state == second.state == "under-way"
    assert first.troubles == (
        "GUBERNUR: no photograph",
        "GUBERNUR: the numbers do not add up (ballots, votes)",
        "GUBERNUR: corrected",
        "BUPATI: not sent",
    )
    assert second.troubles == ("BUPATI: not complete here yet", "BUPATI: sent 2 times")
    assert second.place == "Balok, Dendang"


def test_a_record_that_cannot_be_read_is_told() -> None:
    bundles = [bundle("1", "GUBERNUR"), bundle("1", "BUPATI")]
    first, _ = report(STATIONS, FORMS, bundles, {"1": Malformed("The drill's record cannot be read")})
    assert (first.state, first.troubles) == ("under-way", ("The drill's record cannot be read",))


def diary(tmp_path: Path, *lines: tuple[float, str, dict[str, str]], boot: str = "b") -> list[Event]:
    """A diary with these lines: when, what, and the rest."""
    now = 0.0
    kept = Diary(tmp_path, lambda: now, boot)
    for now, what, more in lines:  # noqa: B007  the clock reads it
        kept.note(what, **more)
    return kept.read()


def test_two_people_at_one_box_are_timed_each_for_himself(tmp_path: Path) -> None:
    a, b = {"who": "A 1", "tps": "1", "form": "BUPATI"}, {"who": "B 2", "tps": "2", "form": "BUPATI"}
    events = diary(
        tmp_path,
        (0, "started", {}),
        (10, "opened", {"who": "wifi"}),
        (15, "wrong-code", {"who": "wifi"}),
        (20, "paired", {"who": "A 1", "detail": "wifi"}),
        (21, "opened", {"who": "wifi"}),
        (24, "paired", {"who": "B 2", "detail": "wifi"}),
        (30, "began", a),
        (40, "began", b),
        (50, "arriving", {**a, "detail": "p"}),
        (51, "resumed", {**a, "detail": "p"}),
        (52, "resumed", {**a, "detail": "p"}),
        (58, "arrived", {**a, "detail": "p"}),
        (60, "refused", {**b, "detail": "q"}),
        (90, "sent", b),
        (90.2, "package", {"tps": "2", "form": "BUPATI"}),
        (100, "sent", a),
        (130, "delivered", {"tps": "1", "form": "BUPATI"}),
    )
    assert steps_of(events, "1", ["BUPATI", "GUBERNUR"]) == (
        Step("login", 10.0, "wrong code", "A 1"),
        Step("pictures BUPATI 1", 20.0, "upload resumed, 2 times", "A 1"),
        Step("upload BUPATI 1", 8.0, "", "A 1"),
        Step("numbers BUPATI 1", 42.0, "", "A 1"),
        Step("receipt BUPATI 1", 30.0, "", "A 1"),
    )
    assert steps_of(events, "2", ["BUPATI"]) == (
        Step("login", 3.0, "", "B 2"),
        Step("pictures BUPATI 2", 0.0, "picture refused", "B 2"),
        Step("upload BUPATI 2", 0.0, "", "B 2"),
        Step("numbers BUPATI 2", 50.0, "", "B 2"),
    )


def test_what_no_clock_measured_is_not_timed(tmp_path: Path) -> None:
    """A restart between two moments; a walk that gave up; a package that no phone made."""
    diary(tmp_path, (5, "began", {"who": "A 1", "tps": "1", "form": "BUPATI"}))
    events = diary(
        tmp_path,
        (3, "sent", {"who": "A 1", "tps": "1", "form": "BUPATI"}),
        (4, "started", {}),
        (6, "gave-up", {"form": "receipt", "detail": "After 2 s no receipt came back"}),
        (9, "package", {"tps": "2", "form": "BUPATI"}),
        boot="c",
    )
    assert [(one.kind, one.seconds, one.trouble) for one in steps_of(events, "1", ["BUPATI"])] == [
        ("pictures", 0.0, ""),
        ("upload", 0.0, ""),
        ("numbers", 0.0, "the box was started anew meanwhile: not timed"),
        ("receipt", 0.0, "After 2 s no receipt came back"),
    ]
    assert steps_of(events, "2", ["BUPATI"])[0] == Step("package BUPATI 2", 5.0)


def test_a_diary_is_bounded_and_survives_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = diary(tmp_path, (1, "started", {}))
    with (tmp_path / "drill-diary.jsonl").open("a") as file:
        file.write('{"what": "pai')
    assert Diary(tmp_path).read() == events
    monkeypatch.setattr("relay.node.diary.MAX_DRILL_DIARY", 10)
    size = (tmp_path / "drill-diary.jsonl").stat().st_size
    Diary(tmp_path).note("started")
    assert (tmp_path / "drill-diary.jsonl").stat().st_size == size


@pytest.mark.parametrize(
    ("locale", "said"), [("C.UTF-8", "Not every number was typed. "), ("id_ID.UTF-8", "Tidak semua angka diketik. ")]
)
def test_a_report_says_what_flags_mean(locale: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    told = _in_words("F: the numbers do not add up (incomplete, voters-is-not-ballots-used)")
    assert said in told and "-is-not-" not in told
    assert _in_words("F: the numbers do not add up (of-a-later-version)").endswith("(of-a-later-version)")
    assert "(" not in _in_words("F: not sent")
