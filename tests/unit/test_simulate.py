"""`relay simulate`: the plan's format, the flow held against sums done by hand, the statistics, the picture."""

from __future__ import annotations

import json
import math
import random
import re
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.cli.language import number, told
from relay.cli.simulate.chance import Contact, Night, draw_night
from relay.cli.simulate.command import simulate
from relay.cli.simulate.flow import NEVER, play
from relay.cli.simulate.forecast import forecast, moment_of, times_of, wilson
from relay.cli.simulate.picture import draw
from relay.cli.simulate.plan import Plan, Span, parse_plan
from relay.errors import BadInput, RelayError

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "belitung-timur.toml"

SMALL = """
deadline = "20:00"
packages = 1
size = "1 MB"
settle = "0 s"
share = 1.0
[[place]]
name = "island"
rate = "8 Mbit/s"
stations = ["1"]
counted = "10:00"
[[place]]
name = "harbour"
rate = "8 Mbit/s"
uplink = "0.8 Mbit/s"
[[boat]]
name = "ferry"
calls = [
  { at = "island", from = "11:00", to = "11:10" },
  { at = "harbour", from = "12:00", to = "13:00" },
  { at = "island", from = "14:00", to = "14:10" },
]
"""
HOUR = 3600.0


def small(**changes: str) -> Plan:
    """The small plan, with some of its lines replaced."""
    text = SMALL
    for old, new in changes.items():
        assert old.replace("_", " ") in text
        text = text.replace(old.replace("_", " "), new)
    return parse_plan(text.encode())


def sure(plan: Plan) -> Night:
    """The one night of a plan without chance."""
    return draw_night(plan, random.Random(0))


def test_the_journey_of_one_package_takes_what_one_reckons() -> None:
    outcome = play(small(), sure(small()))
    # 1 MB: 1 s over the harbour's Wi-Fi, 10 s over its uplink, which begins with the first sixteenth; the boat brings
    # the receipt back at 14:00.
    assert outcome.arrived == pytest.approx([12 * HOUR + 1 / 16 + 10])
    assert outcome.receipt == pytest.approx([14 * HOUR])
    assert outcome.moved == pytest.approx({0: 1e6, 1: 1e6, 2: 0.0})
    assert outcome.cut == set()


def test_what_was_cut_off_goes_on_at_the_next_contact() -> None:
    text = SMALL.replace('"11:10"', '"11:00:00"').replace('to = "11:00:00"', 'to = "11:00:01"').replace("1 MB", "2 MB")
    text = text.replace(
        '{ at = "island", from = "14:00", to = "14:10" }',
        '{ at = "island", from = "14:00", to = "14:00:01" },\n  { at = "harbour", from = "15:00", to = "16:00" }',
    )
    plan = parse_plan(text.encode())
    outcome = play(plan, sure(plan))
    assert outcome.arrived == pytest.approx([15 * HOUR + 1 / 8 + 10]), "half of it at each call"
    assert 0 in outcome.cut
    assert outcome.moved[0] == pytest.approx(1e6)


def test_what_was_counted_after_the_boat_left_waits_for_the_next() -> None:
    late = small(**{'counted_=_"10:00"': 'counted = "11:30"'})
    assert play(late, sure(late)).arrived == [NEVER]


def test_the_air_of_a_place_is_shared() -> None:
    text = SMALL.replace('stations = ["1"]', 'stations = ["1", "2"]') + (
        '[[boat]]\nname = "police"\ncalls = [{ at = "island", from = "11:00", to = "11:10" }]\n'
    )
    plan = parse_plan(text.encode())
    outcome = play(plan, sure(plan))
    # Two boats take two packages each: 4 MB over 1 MB/s, and neither hands anything to the other.
    assert outcome.moved[0] == pytest.approx(2e6)
    assert outcome.moved[3] == pytest.approx(2e6)
    assert outcome.arrived == pytest.approx([12 * HOUR + 1 / 16 + 10, 12 * HOUR + 1 / 16 + 20])


def test_what_has_its_receipt_is_carried_no_further() -> None:
    text = SMALL + (
        '[[boat]]\nname = "police"\ncalls = [{ at = "island", from = "11:00", to = "11:10" },'
        '{ at = "harbour", from = "15:00", to = "16:00" }]\n'
    )
    plan = parse_plan(text.encode())
    outcome = play(plan, sure(plan))
    assert outcome.arrived == pytest.approx([12 * HOUR + 1 / 16 + 10])
    assert outcome.moved[4] == 0.0


def test_a_missed_call_is_missed_as_often_as_the_plan_says() -> None:
    plan = small(**{'to_=_"11:10"_}': 'to = "11:10", missed = 0.25 }'})
    result = forecast(plan, 2_000, seed=7)
    low, high = result.stations[0].risk_range
    assert low < 0.25 < high
    assert result.stations[0].arrival.median == pytest.approx(12 * HOUR + 1 / 16 + 10, abs=0.1)
    assert result.stations[0].arrival.last == NEVER


def test_the_same_seed_gives_the_same_forecast() -> None:
    plan = parse_plan(EXAMPLE.read_bytes())
    assert forecast(plan, 20, 3) == forecast(plan, 20, 3) != forecast(plan, 20, 4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 1), st.floats(0, 100), st.floats(0.1, 30), st.floats(0.1, 1)),
        max_size=12,
    ),
    st.lists(st.floats(0, 60), min_size=3, max_size=3),
)
def test_nothing_arrives_before_it_could(
    calls: list[tuple[int, int, float, float, float]], counted: list[float]
) -> None:
    text = 'deadline = "1:00"\npackages = 2\nsize = "100 kB"\n'
    for name in "abc":
        text += f'[[place]]\nname = "{name}"\nrate = "1 Mbit/s"\nstations = ["{name}"]\ncounted = "0:00"\n'
    plan = parse_plan((text + 'uplink = "0.5 Mbit/s"\n').encode())
    plan = Plan(**{field: getattr(plan, field) for field in plan.__slots__} | {"calls": (_call("x"), _call("y"))})
    contacts = tuple(
        Contact(number, boat, place, start, start + length, share)
        for number, (place, boat, start, length, share) in enumerate(calls)
    )
    outcome = play(plan, Night(contacts, tuple(counted), (1.0, 1.0, 1.0)))
    seconds = 100e3 / 62.5e3
    for package, (arrived, receipt) in enumerate(zip(outcome.arrived, outcome.receipt, strict=True)):
        assert arrived >= counted[package // 2] + seconds - 1e-3
        assert receipt >= arrived
    assert all(math.isfinite(moment) for moment in outcome.arrived[4:]), "the harbour's own are never lost"
    ends = sorted(moment for moment in outcome.arrived if moment != NEVER)
    first = min(counted)
    assert all(end >= first + number * seconds - 1e-3 for number, end in enumerate(ends, 1)), "one uplink for all"
    room = {number: 125e3 * share * length for number, (_, _, _, length, share) in enumerate(calls)}
    assert all(moved <= room[call] + 1 for call, moved in outcome.moved.items())


def _call(boat: str) -> Any:
    from relay.cli.simulate.plan import Call

    return Call(boat, "a", 0.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('deadline = "20:00"', "", "no deadline"),
        ('deadline = "20:00"', 'deadline = "20:65"', "deadline"),
        ('deadline = "20:00"', "deadline = 20", "deadline"),
        ('size = "1 MB"', 'size = "1 MiB/s"', "size"),
        ("share = 1.0", "share = [0.9, 0.2]", "smaller comes first"),
        ("share = 1.0", "share = nan", "share"),
        ("packages = 1", "packages = 0", "packages"),
        ("packages = 1", "packages = true", "packages"),
        ("packages = 1", "packages = 1\nspeed = 3", "unknown key 'speed'"),
        ('name = "harbour"', 'name = "island"', "twice"),
        ('at = "harbour"', 'at = "nowhere"', "'nowhere'"),
        ('from = "12:00"', 'from = "11:05"', "after the end of the call before"),
        ('to = "13:00"', 'to = "12:00"', "after `from`"),
        ('to = "13:00"', 'to = "13:00", missed = 1.5', "missed"),
        ('uplink = "0.8 Mbit/s"', "", "uplink"),
        ('stations = ["1"]', "stations = [1]", "stations"),
        ('stations = ["1"]\ncounted = "10:00"', "", "no polling station"),
        ('stations = ["1"]', 'stations = ["1", "1"]', "twice"),
        ("[[place]]", "[place]", "TOML"),
        ("[[boat]]", "[[boat]", "TOML"),
    ],
)
def test_a_plan_that_is_wrong_is_refused_by_the_name_of_what_is_wrong(old: str, new: str, told: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_plan(SMALL.replace(old, new, 1).encode())
    assert told in refused.value.what
    assert refused.value.advice


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "at", "from"]), inner),
    ),
    st.sampled_from(["deadline", "packages", "size", "settle", "share", "place", "boat", "day", "title"]),
)
def test_no_value_of_any_key_ends_in_a_traceback(value: object, key: str) -> None:
    from relay.cli.simulate import plan as module

    document = tomllib.loads(SMALL)
    document[key] = value
    try:
        module._plan(module._Table("the plan", document))
    except RelayError as error:
        assert error.advice


def test_figures_of_the_statistics() -> None:
    assert times_of([4, 1, 3, 2]).median == 2
    assert times_of([*range(1, 101)]).ninetieth == 90
    assert times_of([1.0, NEVER]).last == NEVER
    # Newcombe (1998), table I: 81 of 263, Wilson's method: 0.2553 to 0.3662.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0
    assert moment_of(17.5 * HOUR) == "17:30"
    assert moment_of(30 * HOUR + 5) == "1 06:00:05"
    assert moment_of(NEVER) is None


def test_the_picture_is_a_plain_svg() -> None:
    text = EXAMPLE.read_text().replace('title = "Belitung Timur', 'title = "<script>&\\"Timur')
    result = forecast(parse_plan(text.encode()), 30, 1)
    root = ElementTree.fromstring(draw(result))
    kinds = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert kinds <= {"svg", "style", "rect", "text", "line", "polyline", "title"}
    assert len([element for element in root.iter() if element.tag.endswith("polyline")]) == 3
    told = [element.text or "" for element in root.iter() if element.tag.endswith("title")]
    assert any(line.startswith("KM Bahari at Pulau Long, 17:00 to 17:20: ") for line in told)
    assert not any(key.rpartition("}")[2] in ("href", "onload") for element in root.iter() for key in element.attrib)


def test_the_picture_speaks_the_language_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "id_ID.UTF-8")
    result = forecast(parse_plan(EXAMPLE.read_bytes()), 20, 1)
    picture = draw(result, told, number)
    spoken = [one.text or "" for one in ElementTree.fromstring(picture).iter() if one.tag.endswith(("text", "title"))]
    assert any(re.search(r"\d,\d+ MB", one) for one in spoken)
    assert not [one for one in spoken if re.search(r"\d\.\d", one)], "a decimal point"
    for said in (
        "20 malam diundi",
        "→ penerima",
        "Di penerima:",
        "terlambat: ",
        "KM Bahari di Pulau Long, 17:00 sampai",
    ):
        assert said in picture
    for english in ("nights drawn", "receiver", ">late", " at ", "missed", "too short"):
        assert english not in picture, english
    assert "nights drawn" in draw(result)


def test_the_command_tells_writes_and_prints(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(SMALL)
    picture = tmp_path / "plan.svg"
    options = [str(plan), "--draws", "10", "--svg", str(picture)]
    done = CliRunner().invoke(simulate, [*options, "--json"], catch_exceptions=False)
    document = json.loads(done.stdout)
    assert document["stations"][0]["arrival"]["median"] == pytest.approx(12 * HOUR + 1 / 16 + 10, abs=0.1)
    assert document["risk"] == 0.0
    assert picture.read_text().startswith("<svg")
    told = CliRunner().invoke(simulate, options, catch_exceptions=False).stdout
    assert "12:01" in told
    assert "any station late: 0.0%" in told


def test_the_example_plan_is_of_the_example_election() -> None:
    from relay.cli.demo.election import example_stations

    islands = {station.tps: station.island for station in example_stations() if station.island}
    plan = parse_plan(EXAMPLE.read_bytes())
    assert {tps: place.name for tps, place in plan.stations} == islands
    assert plan.settle == Span(1, 8)
