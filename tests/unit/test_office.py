"""The election office of a large election: what it hands to whom, lists in parts, its ledger, a corrected register."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.cli.office import make_office, open_office
from relay.errors import BadInput, StoreError
from relay.limits import MAX_RECORD, MIB
from relay.log.note import NoteKey
from relay.records.identifiers import Kind, NodeId
from relay.records.notice import (
    Register,
    Revocation,
    Revocations,
    Station,
    Topic,
    Witnesses,
    fits,
    parse_register,
    read_notice,
    sign_notice,
    write_register,
)
from relay.trust.admission import Admission
from relay.trust.authority import (
    Enrolled,
    Ledger,
    Office,
    add_witness,
    correct_register,
    enrol,
    found,
    revoke,
)
from relay.trust.certificates import make_request
from relay.trust.enrolment import Enrolment
from relay.trust.roles import Role
from tests.factory import ELECTION, ISSUED_AT

DICE = random.Random(17)
ROOT_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
VKEY = NoteKey("example.org/w1", bytes(32)).vkey


VILLAGE = "Lalang Jaya" + 14 * " di tepi laut"


def station(number: int, village: str = VILLAGE) -> Station:
    """A station of a register of few stations that takes several parts all the same."""
    return Station(f"19060120{number:05}", number % 9 + 1, village, "Manggar", "", 300, signal=True)


STATIONS = tuple(station(number) for number in range(800))
LARGE = found(ELECTION, ("form-1", "form-2"), STATIONS, ROOT_KEY, 7, ISSUED_AT)
SMALL = found(ELECTION, ("form-1",), STATIONS[:3], ROOT_KEY, 7, ISSUED_AT)


def admit(
    office: Office, name: str, role: Role, tps: Sequence[str] = (), urls: Sequence[str] = ()
) -> tuple[Office, Enrolment]:
    """Enrol a new node."""
    request = make_request(name, Ed25519PrivateKey.from_private_bytes(DICE.randbytes(32)))
    return enrol(office, request, role, tps, urls, ROOT_KEY, 8, ISSUED_AT)


def believing(office: Office, *notices: bytes) -> Admission:
    """A node of this election that has these notices, or else all."""
    admission = Admission(office.root)
    admission.load((Kind.NOTICE, raw) for raw in notices or office.notices.values())
    return admission


def topics(enrolment: Enrolment) -> list[Topic]:
    """What the notices of an enrolment are about."""
    return [read_notice(raw).topic for raw in enrolment.notices]


# -- the register goes to those who need it


def test_an_operator_is_handed_the_parts_of_the_register_that_list_its_stations() -> None:
    own = [STATIONS[1].tps, STATIONS[-1].tps]
    office, enrolment = admit(LARGE, "pulau-long", Role.OPERATOR, own)
    assert topics(enrolment).count(Topic.REGISTER) == 2 < len(office.register())
    admission = believing(office, *enrolment.notices)
    assert set(own) <= admission.stations.keys()
    assert admission.forms == ("form-1", "form-2")


def test_a_carrier_is_handed_no_register_and_a_receiver_all_of_it() -> None:
    office, for_carrier = admit(LARGE, "km-bahari", Role.CARRIER)
    office, for_receiver = admit(office, "receiver", Role.RECEIVER, urls=["https://r.example:8470"])
    assert set(topics(for_carrier)) == {Topic.RECEIVERS, Topic.REVOCATIONS, Topic.WITNESSES}
    assert len(believing(office, *for_receiver.notices).stations) == len(STATIONS)


def test_what_is_spread_after_a_revocation_holds_what_rules_and_no_register() -> None:
    office, _ = admit(LARGE, "km-bahari", Role.CARRIER)
    office, revocation = revoke(office, "km-bahari", "lost", ROOT_KEY)
    assert set(topics(revocation)) == {Topic.RECEIVERS, Topic.REVOCATIONS, Topic.WITNESSES}
    assert topics(add_witness(office, VKEY, ROOT_KEY)[1]).count(Topic.REGISTER) == 0


def test_a_station_that_only_looks_like_one_of_the_register_is_not_in_it() -> None:
    """A part is searched for a code before it is read: a village may be called like a station."""
    office = found(ELECTION, ("form-1",), [station(1, village="tps-9")], ROOT_KEY, 7, ISSUED_AT)
    with pytest.raises(BadInput, match="not in the register"):
        admit(office, "pulau-long", Role.OPERATOR, ["tps-9"])


# -- lists in parts


def with_full(office: Office, body: Witnesses | Revocations) -> Office:
    """An office whose first part of this list is full of what `body` begins with."""
    topic = Topic.WITNESSES if isinstance(body, Witnesses) else Topic.REVOCATIONS
    raw = sign_notice(ELECTION, 0, 2, body, office.root, ROOT_KEY)
    return replace(office, notices=office.notices.with_notice(f"{topic}/0", raw))


def test_more_carriers_than_fit_one_notice_are_known_by_several() -> None:
    body = Witnesses(tuple((f"boat-{number:05}", DICE.randbytes(32)) for number in range(1_200)))
    while fits(more := Witnesses((*body.keys, (f"boat-{len(body.keys):05}", DICE.randbytes(32))))):
        body = more
    office = with_full(SMALL, body)
    for number in range(3):
        office, enrolment = admit(office, f"km-{number}", Role.CARRIER)
    admission = believing(office, *enrolment.notices)
    assert [part for part, _ in office.notices.parts(Topic.WITNESSES)] == [0, 1]
    assert admission.version(Topic.WITNESSES, 0) == 2, "a part that is full is not signed again"
    assert len(admission._witnesses) == len(body.keys) + 3


def test_a_carrier_that_is_replaced_stands_in_the_part_that_it_was_in() -> None:
    office, _ = admit(SMALL, "km-bahari", Role.CARRIER)
    office = replace(office, notices=office.notices.with_notice("witnesses/1", _empty_part(office)))
    office, _ = revoke(office, "km-bahari", "sunk", ROOT_KEY)
    office, _ = admit(office, "km-bahari", Role.CARRIER)
    bodies = [read_notice(office.notices[slot]).body for _, slot in office.notices.parts(Topic.WITNESSES)]
    assert [[name for name, _ in body.keys] for body in bodies if isinstance(body, Witnesses)] == [["km-bahari"], []]


def _empty_part(office: Office) -> bytes:
    return sign_notice(ELECTION, 1, 1, Witnesses(()), office.root, ROOT_KEY)


def test_more_revocations_than_fit_one_notice_are_believed_by_several() -> None:
    body = Revocations(())
    while fits(more := Revocations((*body.revoked, Revocation(NodeId(DICE.randbytes(32)), "a", "x" * 900)))):
        body = more
    office = with_full(SMALL, body)
    for name in ("b", "c"):
        office, _ = admit(office, name, Role.OPERATOR, [STATIONS[0].tps])
        office, revocation = revoke(office, name, "x" * 900, ROOT_KEY)
    admission = believing(office, *revocation.notices)
    assert len(admission.revoked) == len(body.revoked) + 2
    assert admission.version(Topic.REVOCATIONS, 0) == 2


# -- a corrected register


def test_a_correction_signs_the_part_that_changed_and_no_other() -> None:
    stations = [replace(one, village="Lalang") if one == STATIONS[400] else one for one in STATIONS]
    office, correction = correct_register(LARGE, stations, ROOT_KEY)
    assert (correction.added, correction.corrected, correction.removed) == (0, 1, 0)
    assert [read_notice(raw).version for raw in correction.notices] == [2]
    before = believing(LARGE)
    assert before.stations[STATIONS[400].tps].village == VILLAGE
    for raw in correction.notices:
        assert before.install(before.admit(Kind.NOTICE, raw))
    assert before.stations == {one.tps: one for one in stations} == believing(office).stations


def test_a_station_is_added_at_the_end_and_can_be_enrolled_for() -> None:
    new = station(99_000)
    office, correction = correct_register(LARGE, (new, *STATIONS), ROOT_KEY)
    assert (correction.added, len(correction.notices)) == (1, 1)
    _, enrolment = admit(office, "pulau-baru", Role.OPERATOR, [new.tps])
    assert believing(office, *enrolment.notices).stations[new.tps] == new


def test_stations_are_removed_only_where_that_is_meant() -> None:
    with pytest.raises(BadInput, match="lacks 2 polling stations") as refused:
        correct_register(LARGE, STATIONS[2:], ROOT_KEY)
    assert "--remove" in refused.value.advice
    office, correction = correct_register(LARGE, STATIONS[2:], ROOT_KEY, remove=True)
    assert correction.removed == 2
    assert believing(office).stations.keys() == {one.tps for one in STATIONS[2:]}


def test_promise_10_a_register_that_changes_nothing_is_told() -> None:
    with pytest.raises(BadInput, match="says the same"):
        correct_register(LARGE, STATIONS, ROOT_KEY)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 700), st.integers(0, 300), st.integers(0, 200), st.integers(0, 300))
def test_any_corrected_register_is_what_nodes_then_believe(first: int, longer: int, width: int, added: int) -> None:
    village, longest = "\u00e9" * width, range(first, first + longer)
    stations = [replace(one, village=village) if at in longest else one for at, one in enumerate(STATIONS)]
    stations += [station(50_000 + number) for number in range(added)]
    admission = believing(LARGE)
    try:
        office, correction = correct_register(LARGE, stations, ROOT_KEY)
    except BadInput:
        assert not added and not longer
        return
    assert all(len(raw) <= MAX_RECORD for raw in correction.notices)
    admission.load((Kind.NOTICE, raw) for raw in correction.notices)
    assert admission.stations == {one.tps: one for one in stations}
    listed = [one.tps for body in office.register().values() for one in body.stations]
    assert len(listed) == len(set(listed)), "no station is in two parts"


def test_the_register_is_written_as_it_is_read() -> None:
    named = [replace(one, province="Bangka Belitung", regency='Belitung "Timur"') for one in STATIONS[:9]]
    for stations in (STATIONS[:9], named, [named[0], *STATIONS[1:9]]):
        assert parse_register(write_register(stations).encode()) == tuple(stations)


# -- the ledger


class Unread:
    """A ledger of many lines, in which one may look up and not read on."""

    def __iter__(self) -> Iterator[Enrolled]:
        raise AssertionError("the whole ledger was read")

    def named(self, name: str) -> Sequence[Enrolled]:
        """Whom it has under a name."""
        return [Enrolled("old", "00" * 32, "operator", (STATIONS[0].tps,))] if name == "old" else []

    def of(self, node: str) -> Enrolled | None:
        """Nobody who is enrolled here."""
        return None


def test_no_act_reads_the_whole_ledger() -> None:
    office = replace(SMALL, ledger=Ledger(Unread()))
    office, _ = admit(office, "new", Role.OPERATOR, [STATIONS[0].tps])
    office, _ = admit(office, "km-bahari", Role.CARRIER)
    office, _ = revoke(office, "old", "lost", ROOT_KEY)
    office, _ = add_witness(office, VKEY, ROOT_KEY)
    with pytest.raises(BadInput, match="Another device"):
        admit(office, "new", Role.OPERATOR, [STATIONS[0].tps])
    assert sorted(office.ledger.decided) == sorted(one.node for one in office.ledger.decided.values())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A new office's folder."""
    path = tmp_path / "office"
    make_office(path, SMALL, b"key")
    return path


def test_what_was_decided_is_kept(folder: Path) -> None:
    with open_office(folder) as kept:
        office, _ = admit(kept.office, "island", Role.OPERATOR, [STATIONS[0].tps, STATIONS[1].tps])
        kept.keep(office)
    with open_office(folder) as kept:
        office, _ = admit(kept.office, "km-bahari", Role.CARRIER)
        office, _ = revoke(office, "island", "lost", ROOT_KEY)
        kept.keep(office)
    with open_office(folder, reading=True) as kept:
        assert [(one.name, one.revoked) for one in kept.office.ledger] == [("island", "lost"), ("km-bahari", None)]
        (line,) = kept.office.ledger.named("island")
        assert line.tps == (STATIONS[0].tps, STATIONS[1].tps)
        assert dict(kept.office.notices) == dict(office.notices)


def test_a_power_cut_before_the_ledger_is_repaired_by_deciding_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_office(folder) as kept:
        office, _ = admit(kept.office, "km-bahari", Role.CARRIER)
        kept.keep(office)
    with monkeypatch.context() as cut:
        cut.setattr("relay.cli.office._KeptLedger.keep", _cut)
        with pytest.raises(KeyboardInterrupt), open_office(folder) as kept:
            kept.keep(revoke(kept.office, "km-bahari", "lost", ROOT_KEY)[0])
    with open_office(folder) as kept:
        office, revocation = revoke(kept.office, "km-bahari", "lost", ROOT_KEY)
        kept.keep(office)
    bodies = [read_notice(raw).body for raw in revocation.notices]
    assert [len(body.revoked) for body in bodies if isinstance(body, Revocations)] == [1], "once"
    with open_office(folder, reading=True) as kept:
        assert [one.revoked for one in kept.office.ledger] == ["lost"]


def _cut(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_failed_leaves_the_ledger_as_it_was(folder: Path) -> None:
    before = (folder / "nodes.db").read_bytes()
    with pytest.raises(BadInput), open_office(folder) as kept:
        admit(kept.office, "island", Role.OPERATOR, ["tps-99"])
    assert (folder / "nodes.db").read_bytes() == before


def test_two_commands_do_not_decide_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.cli.office.BUSY_SECONDS", 0.01)
    with open_office(folder), pytest.raises(StoreError, match="Another command is at work"), open_office(folder):
        pass
    with open_office(folder), open_office(folder, reading=True) as kept:
        assert list(kept.office.ledger) == []


@pytest.fixture
def first(folder: Path) -> Path:
    """The folder of an office whose ledger is the text that an older relay kept; too long for that one by now."""
    (folder / "nodes.db").unlink()
    line: dict[str, object] = {"role": "operator", "tps": [STATIONS[0].tps], "revoked": "x" * 1_000}
    lines: list[dict[str, object]] = [{"name": f"box-{n}", "node": f"{n:064x}", **line} for n in range(15_000)]
    lines[7]["revoked"] = None
    (folder / "nodes.json").write_text(json.dumps(lines, indent=1))
    assert (folder / "nodes.json").stat().st_size > 16 * MIB
    return folder


def test_the_ledger_of_an_older_relay_is_taken_over(first: Path) -> None:
    text = (first / "nodes.json").read_bytes()
    with open_office(first, reading=True) as kept:
        assert sum(1 for _ in kept.office.ledger) == 15_000
    assert sorted(one.name for one in first.iterdir() if "nodes" in one.name) == ["nodes.json"], "who reads only reads"
    with open_office(first) as kept:
        office, _ = admit(kept.office, "island", Role.OPERATOR, [STATIONS[0].tps])
        kept.keep(office)
    assert (first / "nodes.json.old").read_bytes() == text and not (first / "nodes.json").exists()
    with open_office(first, reading=True) as kept:
        names = [one.name for one in kept.office.ledger]
        assert (len(names), names[0], names[-1]) == (15_001, "box-0", "island")
        assert [one.name for one in kept.office.ledger if not one.revoked] == ["box-7", "island"]


def test_a_power_cut_after_the_ledger_was_taken_over_loses_nothing(first: Path) -> None:
    (first / ".nodes.db.tmp").write_bytes(b"half of a database")
    text = (first / "nodes.json").read_bytes()
    with open_office(first) as kept:
        office, _ = admit(kept.office, "island", Role.OPERATOR, [STATIONS[0].tps])
        kept.keep(office)
    (first / "nodes.json").write_bytes(text)  # as if the cut had come before it was put aside
    with open_office(first) as kept:
        assert kept.office.ledger.named("island"), "what was decided since counts"
    assert not (first / "nodes.json").exists()


@pytest.mark.parametrize("damage", [b"", b"rubbish" * 1_000])
def test_promise_10_a_damaged_ledger_is_told_and_stays_as_it_is(folder: Path, damage: bytes) -> None:
    (folder / "nodes.db").write_bytes(damage)
    for reading in (False, True):
        with pytest.raises(StoreError, match="damaged") as told, open_office(folder, reading=reading) as kept:
            list(kept.office.ledger)
        assert "backup" in told.value.advice
    assert (folder / "nodes.db").read_bytes() == damage


def test_the_parts_of_the_register_are_found_in_their_order(tmp_path: Path) -> None:
    stations = [station(number, village="\u00e9" * 200) for number in range(1_500)]
    office = found(ELECTION, ("form-1",), stations, ROOT_KEY, 7, ISSUED_AT)
    make_office(tmp_path / "o", office, b"key")
    with open_office(tmp_path / "o", reading=True) as kept:
        register = kept.office.register()
        assert list(register) == list(range(len(register))) and len(register) > 10
        assert [one for body in register.values() for one in body.stations] == stations
        assert all(isinstance(body, Register) for body in register.values())
