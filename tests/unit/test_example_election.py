"""The example election: its register is complete, and every made-up tally keeps a real form's arithmetic."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.demo.election import (
    FORMS,
    ballots_for,
    example_stations,
    example_tally,
    load_example_islands,
    load_example_register,
)


def test_register_is_the_one_described() -> None:
    stations = example_stations()
    assert load_example_register().splitlines()[0] == b"tps,number,village,district,island,registered_voters,signal"
    assert len(stations) == len({s.tps for s in stations}) == 192
    assert len({s.district for s in stations}) == 7
    assert len({(s.district, s.village) for s in stations}) == 39


def test_three_islands_are_without_signal() -> None:
    silent = {s.island for s in example_stations() if not s.signal}
    assert silent == {"Pulau Batun", "Pulau Ketapang", "Pulau Long"}
    assert silent == {s.island for s in example_stations() if s.island}


def test_islands_have_coordinates() -> None:
    rows = list(csv.DictReader(io.StringIO(load_example_islands().decode())))
    places = {row["island"]: (float(row["latitude"]), float(row["longitude"])) for row in rows}
    assert {"Pulau Ketapang", "Pulau Long"} <= set(places)
    assert all(-4 < latitude < -2 and 107 < longitude < 110 for latitude, longitude in places.values())


@pytest.mark.parametrize(("registered", "received"), [(412, 423), (400, 410), (1, 2), (0, 0)])
def test_ballots_are_rounded_up(registered: int, received: int) -> None:
    assert ballots_for(registered) == received


def test_every_example_tally_adds_up() -> None:
    for station in example_stations():
        for form in FORMS:
            _adds_up(example_tally(station.tps, form, station.registered_voters), station.registered_voters)


@given(st.text(max_size=20), st.sampled_from(FORMS), st.integers(0, 10_000))
def test_any_tally_adds_up(tps: str, form: str, registered: int) -> None:
    _adds_up(example_tally(tps, form, registered), registered)


def test_tally_has_the_shape_of_a_tally_file() -> None:
    tally = example_tally("1906022011006", FORMS[0], 148)
    assert json.loads(json.dumps(tally)) == tally
    assert set(tally) == {
        "registered_voters", "voters", "ballots_received", "ballots_used", "ballots_spoiled", "ballots_unused",
        "votes", "valid", "invalid",
    }  # fmt: skip
    assert isinstance(tally["votes"], dict)
    assert set(tally["votes"]) == {"1", "2"}


def test_tally_repeats_itself_and_differs_between_forms() -> None:
    first, second = (example_tally("1906022011006", form, 148) for form in FORMS)
    assert first == example_tally("1906022011006", FORMS[0], 148)
    assert first["votes"] != second["votes"]
    assert first["voters"] == second["voters"]


def _adds_up(tally: dict[str, object], registered: int) -> None:
    votes = tally["votes"]
    assert isinstance(votes, dict)
    n = {key: value for key, value in tally.items() if isinstance(value, int)}
    assert min(*n.values(), *votes.values()) >= 0
    assert n["registered_voters"] == registered
    assert n["valid"] == sum(votes.values())
    assert n["valid"] + n["invalid"] == n["ballots_used"] == n["voters"] <= registered
    assert n["ballots_received"] == n["ballots_used"] + n["ballots_spoiled"] + n["ballots_unused"]
    assert n["ballots_received"] == ballots_for(registered)
