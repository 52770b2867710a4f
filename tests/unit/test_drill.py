"""The drill's record and report: what comes from a device is judged, what is told follows from the records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.drill.record import FORM, Step, read_record, write_record
from relay.cli.drill.report import describe, report
from relay.errors import Malformed
from relay.limits import MAX_DRILL_RECORD, MAX_DRILL_STEPS
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
        b'{"steps": [{"step": "login", "seconds": NaN, "trouble": ""}]}',
        b'{"steps": [{"step": "login", "seconds": true, "trouble": ""}]}',
        b'{"steps": [{"step": "log\\u001bin", "seconds": 1, "trouble": ""}]}',
        b'{"steps": [{"step": "login", "seconds": 1, "trouble": 0}]}',
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
        Step("login", 60.0),
        Step("package GUBERNUR 1", 120.0),
        Step("package BUPATI 1", 90.5),
        Step("package BUPATI 7", 999.0),
        Step("receipt GUBERNUR 1", 30.0, "no receipt came back"),
    )
    bundles = [bundle("1", "GUBERNUR"), bundle("1", "BUPATI"), bundle("1", FORM)]
    first, second = report(STATIONS, FORMS, bundles, {"island": record})
    assert (first.state, first.seconds, first.forms) == ("done", 300.5, ("GUBERNUR", "BUPATI"))
    assert first.troubles == ("receipt GUBERNUR 1: no receipt came back",)
    assert (second.state, second.seconds) == ("missing", None)
    told = describe("drill-2024", [first, second])
    assert (told["done"], told["missing"], told["median_seconds"]) == (1, ["2"], 300.5)


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
    first, _ = report(STATIONS, FORMS, bundles, {"island": Malformed("The drill's record cannot be read")})
    assert (first.state, first.troubles) == ("under-way", ("The drill's record cannot be read",))
