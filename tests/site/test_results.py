"""What the log says about one station and form: which statement stands, what is added up, and every flag."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli.demo.election import example_tally
from relay.receiver.chains import Fork, Gap
from relay.receiver.results import Logged, LoggedFile, Standing, judge
from relay.records.identifiers import ObjectId, is_code, sha256
from relay.records.notice import Station
from relay.records.statement import read_statement
from relay.records.tally import IMPOSSIBLE, Tally, read_tally
from tests.factory import make_election, make_file, make_node, make_statement
from tests.vectors import judged
from tests.vectors.judged import FORM, ISLAND, OTHER, name

STATION = Station("1906022011006", 6, "Limbongan", "Gantung", "Pulau Long", 148, signal=False)
FORMS = frozenset({FORM})
GOOD = read_tally(example_tally(STATION.tps, FORM, 148))


def statement(entry: int = 0, tally: Tally | None = GOOD, **changes: Any) -> Logged:
    """A logged statement; its id follows from its entry."""
    return replace(judged.statement(entry, tps=STATION.tps), tally=tally, **changes)


def tally(**changes: Any) -> Tally:
    """The good tally with some numbers changed."""
    return read_tally({**GOOD.to_map(), **changes})


def flags(*logged: Logged, **options: Any) -> list[str]:
    """The names of the flags of these statements."""
    return [flag.name for flag in judge(logged, STATION, FORMS, **options).flags]


def test_one_good_statement_is_the_result() -> None:
    result = judge([statement()], STATION, FORMS)
    assert (result.tally, result.counted, result.flags, result.corrected) == (GOOD, True, (), False)
    assert [standing for _, standing in result.statements] == [Standing.CURRENT]


def test_a_correction_stands_and_what_it_corrects_is_kept() -> None:
    wrong, right = statement(0, tally(valid=999)), statement(1, supersedes=name(0), reason="typing error")
    result = judge([right, wrong], STATION, FORMS)
    assert result.statements == ((wrong, Standing.SUPERSEDED), (right, Standing.CURRENT))
    assert (result.tally, result.counted, result.corrected) == (GOOD, True, True)


def test_what_did_not_add_up_before_a_correction_is_told_and_keeps_nothing_from_being_added_up() -> None:
    wrong = statement(0, tally(valid=999), flags=("hard-to-read",))
    alone = judge([wrong], STATION, FORMS)
    assert not alone.counted
    result = judge([wrong, statement(1, supersedes=name(0))], STATION, FORMS)
    assert result.counted
    assert result.flags == tuple(replace(flag, superseded=True) for flag in alone.flags)
    assert {flag.statements for flag in result.flags} == {(name(0),)}
    assert all(flag.to_map()["superseded"] for flag in result.flags)
    assert "superseded" not in alone.flags[0].to_map()


def test_what_does_not_add_up_after_a_correction_comes_before_what_did_not_before() -> None:
    result = judge([statement(0, tally(valid=999)), statement(1, tally(valid=998), supersedes=name(0))], STATION, FORMS)
    said = [flag.values["said"] for flag in result.flags if flag.name == "valid-is-not-sum-of-votes"]
    assert (said, result.counted) == ([998, 999], False)


def test_a_flag_of_what_was_corrected_has_a_name_that_no_device_signs() -> None:
    (flag,) = judge([statement(0, flags=("mine",)), statement(1, supersedes=name(0))], STATION, FORMS).flags
    assert flag.label == "superseded:mine"
    assert not is_code(flag.label)


def test_a_correction_of_a_correction() -> None:
    result = judge([statement(0), statement(1, supersedes=name(0)), statement(2, supersedes=name(1))], STATION, FORMS)
    assert [one.entry for one in result.standing] == [2]


def test_two_corrections_of_one_statement_are_in_conflict() -> None:
    both = [statement(1, tally(voters=1), supersedes=name(0)), statement(2, supersedes=name(0))]
    result = judge([statement(0), *both], STATION, FORMS)
    assert [standing for _, standing in result.statements] == [Standing.SUPERSEDED, *[Standing.CONFLICT] * 2]
    assert (result.tally, result.counted) == (None, False)


def test_two_statements_in_conflict_are_both_kept_and_neither_is_added_up() -> None:
    result = judge([statement(0), statement(1, tally(votes={"1": 1, "2": 2}))], STATION, FORMS)
    assert {standing for _, standing in result.statements} == {Standing.CONFLICT}
    assert (result.tally, result.counted) == (None, False)
    conflict = next(flag for flag in result.flags if flag.name == "two-statements-in-conflict")
    assert conflict.statements == (name(0), name(1))


def test_two_statements_that_agree_are_one_result_with_a_flag() -> None:
    result = judge([statement(0), statement(1, node=OTHER)], STATION, FORMS)
    assert (result.tally, result.counted) == (GOOD, True)
    assert [flag.name for flag in result.flags] == ["two-statements-agree"]


@pytest.mark.parametrize(
    ("changes", "flag", "said", "expected"),
    [
        ({"valid": 1}, "valid-is-not-sum-of-votes", 1, sum(GOOD.votes.values())),
        ({"voters": 10}, "more-votes-than-voters", GOOD.counts["valid"] + GOOD.counts["invalid"], 10),
        ({"voters": 900}, "more-voters-than-ballots", 900, GOOD.counts["ballots_received"]),
        ({"ballots_used": 7}, "used-is-not-valid-plus-invalid", 7, GOOD.counts["valid"] + GOOD.counts["invalid"]),
        ({"registered_voters": 150}, "registered-differs-from-register", 150, 148),
        ({"ballots_received": 400}, "received-is-not-registered-plus-reserve", 400, 152),
    ],
)
def test_what_does_not_add_up_is_told_with_its_numbers(
    changes: dict[str, int], flag: str, said: int, expected: int
) -> None:
    found = {one.name: one for one in judge([statement(0, tally(**changes))], STATION, FORMS).flags}
    assert found[flag].values == {"said": said, "sum": expected}


def consistent(people: int) -> Tally:
    """A tally that adds up in itself, of so many people."""
    counts = dict.fromkeys(GOOD.counts, people) | {"ballots_spoiled": 0, "ballots_unused": 0, "invalid": 0}
    return Tally(counts, {"1": people})


@pytest.mark.parametrize(
    "outvoting",
    [consistent(10_000_000), Tally({}, {"1": 10_000_000}), Tally({"voters": 10_000_000}, {"1": 1})],
)
def test_no_station_outvotes_its_register(outvoting: Tally) -> None:
    result = judge([statement(0, outvoting)], STATION, FORMS)
    found = {flag.name: flag for flag in result.flags}
    assert not result.counted
    assert found["more-votes-than-register"].values == {"said": 10_000_000, "sum": STATION.registered_voters}


def test_voters_who_moved_are_added_up() -> None:
    """A tenth beyond the register, and where that is little, twenty people."""
    assert judge([statement(0, consistent(148 + 20))], STATION, FORMS).counted
    assert not judge([statement(0, consistent(148 + 21))], STATION, FORMS).counted
    large = replace(STATION, registered_voters=600)
    assert judge([statement(0, consistent(660))], large, FORMS).counted
    assert not judge([statement(0, consistent(661))], large, FORMS).counted


@pytest.mark.parametrize("pair", ["0", "01", "21", "PENIPUAN-lihat-evil.example.com"])
def test_a_pair_that_does_not_exist_is_shown_and_not_added_up(pair: str) -> None:
    result = judge([statement(0, tally(votes={**GOOD.votes, pair: 0}))], STATION, FORMS)
    found = {flag.name: flag for flag in result.flags}
    assert not result.counted
    assert result.tally is not None
    assert pair in result.tally.votes
    assert found["unknown-pair"].values == {"pair": pair[:16]}


def test_statements_without_numbers_neither_agree_nor_contradict_each_other() -> None:
    result = judge([statement(0, None), statement(1, None, node=OTHER)], STATION, FORMS)
    assert {standing for _, standing in result.statements} == {Standing.CURRENT}
    assert [flag.name for flag in result.flags] == ["two-statements-without-numbers"]


def test_more_votes_than_voters_shows_in_the_pairs_alone() -> None:
    """Votes of the pairs are counted even where the form's own sum says less."""
    assert "more-votes-than-voters" in flags(statement(0, tally(votes={"1": 5_000, "2": 1})))


@given(
    changes=st.dictionaries(
        st.sampled_from(sorted(GOOD.counts)), st.integers(min_value=-50, max_value=2_000), min_size=1, max_size=4
    )
)
def test_what_cannot_be_true_is_never_added_up(changes: dict[str, int]) -> None:
    result = judge([statement(0, tally(**changes))], STATION, FORMS)
    assert result.counted == (not IMPOSSIBLE & {flag.name for flag in result.flags})
    if result.counted and result.tally is not None:
        counts = result.tally.counts
        assert sum(result.tally.votes.values()) == counts["valid"]
        assert counts["valid"] + counts["invalid"] <= counts["voters"] <= counts["ballots_received"]


def test_what_the_device_flagged_is_flagged() -> None:
    assert flags(statement(flags=("hard-to-read",))) == ["hard-to-read"]
    assert flags(statement(tally=None, flags=("hard-to-read",))) == ["hard-to-read"]


def test_photographs_alone_are_no_numbers() -> None:
    result = judge([statement(tally=None)], STATION, FORMS)
    assert (result.tally, result.counted, result.flags) == (None, False, ())


def test_corrections_that_need_a_second_look() -> None:
    assert flags(statement(1, supersedes=name(70))) == ["corrects-what-is-not-here"]
    by_other = statement(1, node=OTHER, device="laptop", supersedes=name(0))
    (flag,) = judge([statement(0), by_other], STATION, FORMS).flags
    assert (flag.name, flag.values) == ("corrected-by-another-device", {"device": "laptop", "other": "pulau-long"})


def test_gaps_and_forks_of_a_device_show_where_they_are() -> None:
    gap = Gap(ISLAND, 1, 4, (name(3),))
    assert flags(statement(4), chains=[gap]) == ["chain-gap"]
    assert flags(statement(5), chains=[gap]) == []
    assert flags(statement(4, node=OTHER), chains=[gap]) == []
    fork = Fork(ISLAND, 2, (name(1),), (name(9),))
    assert flags(statement(1), chains=[fork]) == ["chain-fork"]
    assert flags(statement(2, previous=name(9)), chains=[fork]) == ["chain-fork"]
    assert flags(statement(2, previous=name(50)), chains=[fork]) == []


def test_what_the_register_does_not_know() -> None:
    unknown = judge([statement()], None, FORMS)
    assert ([flag.name for flag in unknown.flags], unknown.counted) == (["station-not-in-register"], False)
    assert flags(statement(form="C-HASIL-PPWP")) == ["form-not-in-register"]


def test_a_device_revoked_later() -> None:
    assert flags(statement(), revoked=frozenset({ISLAND})) == ["device-revoked"]


@given(st.permutations(range(5)), st.lists(st.integers(0, 4), min_size=5, max_size=5))
def test_the_order_of_asking_does_not_matter(order: list[int], targets: list[int]) -> None:
    logged = [
        statement(entry, supersedes=name(target) if target < entry else None) for entry, target in enumerate(targets)
    ]
    result = judge([logged[place] for place in order], STATION, FORMS)
    assert result == judge(logged, STATION, FORMS)
    assert [one.entry for one, _ in result.statements] == [0, 1, 2, 3, 4]
    assert result.standing


def test_published_statements_are_read_back() -> None:
    file = LoggedFile("1.jpg", "image/jpeg", 7, ObjectId(sha256(b"1")))
    for one in (statement(), statement(3, None, files=(file,), supersedes=name(1), arrived=None, sealed=True)):
        assert Logged.from_map(one.to_map()) == one


def test_an_object_that_a_statement_names_often_is_shown_once() -> None:
    election = make_election()
    entry = make_file(b"photograph", "halaman-1.jpg")
    files = (entry, make_file(b"another", "halaman-2.jpg"), *(replace(entry, name=f"{at}.jpg") for at in range(20)))
    raw = make_statement(election, make_node(election, "island"), *files).raw
    logged = Logged.of(read_statement(raw), "island", ISLAND, 0, None)
    assert [(one.name, one.names) for one in logged.files] == [("halaman-1.jpg", 21), ("halaman-2.jpg", 1)]
    assert Logged.from_map(logged.to_map()) == logged
