"""Notices and the register: what the office signs is what is read, row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import BadInput, Malformed, Refused
from relay.limits import MAX_FORMS, MAX_REASON, MAX_RECEIVERS, MAX_RECORD, MAX_TEXT
from relay.records.cose import header, sign1
from relay.records.encoding import decode, encode
from relay.records.identifiers import Kind, NodeId, authority_uri, sha256
from relay.records.notice import (
    NOTICE_TYPE,
    Body,
    Receiver,
    Receivers,
    Register,
    Revocation,
    Revocations,
    Station,
    Topic,
    Witnesses,
    is_receiver_url,
    parse_register,
    read_notice,
    sign_notice,
    split_register,
)
from tests.factory import ELECTION, make_election

OFFICE = make_election()

CODES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=("C", "Z")), max_size=40)
FIELDS = (CODES, st.integers(0, 999), TEXTS, TEXTS, TEXTS, st.integers(0, 600), st.booleans())
STATIONS = st.builds(Station, *FIELDS)
NAMED = st.builds(Station, *FIELDS, st.sampled_from(["", "Jawa"]), st.sampled_from(["", "Kota Bogor", "Bogor"]))
URLS = st.sampled_from(["https://receiver.example", "https://receiver.example:8470", "https://[2001:db8::1]:8470"])
RECEIVERS = st.builds(
    Receiver, CODES, st.lists(URLS, max_size=3).map(tuple), st.binary(max_size=50), st.none() | st.binary(max_size=50)
)
NODES = st.binary(min_size=32, max_size=32)
BODIES: st.SearchStrategy[Body] = st.one_of(
    st.builds(Register, st.lists(CODES, max_size=3).map(tuple), st.lists(STATIONS, max_size=4).map(tuple)),
    st.builds(Register, st.just(("form-1",)), st.lists(NAMED, max_size=6).map(tuple)),
    st.builds(Receivers, st.lists(RECEIVERS, max_size=3).map(tuple), st.booleans()),
    st.lists(st.builds(Revocation, NODES.map(NodeId), CODES, st.text(max_size=50)), max_size=3).map(
        lambda rows: Revocations(tuple(rows))
    ),
    st.lists(st.tuples(CODES, NODES), max_size=3).map(lambda rows: Witnesses(tuple(rows))),
)


def sign(body: Body, part: int = 0, version: int = 1) -> bytes:
    """A notice of the office."""
    return sign_notice(ELECTION, part, version, body, OFFICE.root, OFFICE.root_key)


def forge(**changes: Any) -> bytes:
    """A notice of revocations, signed as it should be, with a changed payload."""
    document = {"election": ELECTION, "topic": "revocations", "part": 0, "version": 1, "revoked": []} | changes
    document = {key: value for key, value in document.items() if value is not None}
    subject = "/".join(str(document.get(key)) for key in ("election", "topic", "part"))
    parameters = header(NOTICE_TYPE, authority_uri(str(document.get("election"))), subject, OFFICE.root)
    return sign1(parameters, encode(document), OFFICE.root_key)


@given(BODIES, st.integers(0, 4_095), st.integers(1, (1 << 62) - 1))
def test_what_is_signed_is_what_is_read(body: Body, part: int, version: int) -> None:
    raw = sign(body, part, version)
    notice = read_notice(raw)
    assert (notice.body, notice.part, notice.version, notice.election) == (body, part, version, ELECTION)
    assert notice.id == sha256(raw)
    assert notice.slot == (notice.topic, part)
    OFFICE.admission.admit(Kind.NOTICE, raw)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=200)
@given(st.data())
def test_promise_1_any_flipped_bit_is_refused_by_admission(data: st.DataObject) -> None:
    raw = sign(Revocations((Revocation(NodeId(bytes(32)), "km-bahari", "lost at sea"),)))
    at, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    with pytest.raises((Refused, Malformed)):
        OFFICE.admission.admit(Kind.NOTICE, raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :])


ROW = ["t", 1, "v", "d", "", 1, True]


def test_the_forge_makes_good_notices() -> None:
    assert read_notice(forge()).topic is Topic.REVOCATIONS
    regions = {"topic": "register", "revoked": None, "forms": [], "stations": [[*ROW, 0]], "regions": [["P", "R"]]}
    assert read_notice(forge(**regions)).body == Register((), (Station("t", 1, "v", "d", "", 1, True, "P", "R"),))


def test_a_register_that_names_no_regions_is_as_it_always_was() -> None:
    """Nodes of an older relay read it."""
    payload = read_notice(sign(Register(("form-1",), (station(1),)))).envelope.payload
    assert payload is not None
    assert decode(payload, MAX_RECORD).keys() == {"election", "topic", "part", "version", "forms", "stations"}
    named = replace(station(1), province="Jawa Barat")
    payload = read_notice(sign(Register(("form-1",), (named, station(2))))).envelope.payload
    assert payload is not None
    assert decode(payload, MAX_RECORD)["regions"] == [["Jawa Barat", ""], ["", ""]]


def test_a_register_keeps_the_name_of_a_village_once() -> None:
    body = read_notice(sign(Register(("form-1",), (station(1), station(2))))).body
    assert isinstance(body, Register)
    assert body.stations[0].village is body.stations[1].village


@pytest.mark.parametrize(
    "changes",
    [
        {"election": "a b"},
        {"election": 1},
        {"topic": "rumours"},
        {"part": -1},
        {"part": 4_096},
        {"part": True},
        {"part": None},
        {"version": 0},
        {"version": True},
        {"version": 1 << 62},
        {"revoked": None},
        {"revoked": {}},
        {"extra": 1},
        {"revoked": [[bytes(31), "a", ""]]},
        {"revoked": [[bytes(32), "a b", ""]]},
        {"revoked": [[bytes(32), "a", "x" * (MAX_REASON + 1)]]},
        {"revoked": [[bytes(32), "a"]]},
        {"topic": "witnesses", "revoked": None, "keys": [["a", bytes(31)]]},
        {"topic": "witnesses", "revoked": None, "keys": [["a/b", bytes(32)]]},
        {"topic": "receivers", "revoked": None, "receivers": [], "sealed": 1},
        {"topic": "receivers", "revoked": None, "receivers": [["r", ["http://x"], b"", None]], "sealed": False},
        {"topic": "receivers", "revoked": None, "receivers": [["r", [1], b"", None]], "sealed": False},
        {"topic": "receivers", "revoked": None, "receivers": [["r", [], b"x" * 9_000, None]], "sealed": False},
        {"topic": "receivers", "revoked": None, "receivers": [["r", [], b"", b"x" * 3_000]], "sealed": False},
        {
            "topic": "receivers",
            "revoked": None,
            "receivers": [["r", [], b"", None]] * (MAX_RECEIVERS + 1),
            "sealed": False,
        },
        {"topic": "register", "revoked": None, "forms": ["f"] * (MAX_FORMS + 1), "stations": []},
        {"topic": "register", "revoked": None, "forms": ["f/g"], "stations": []},
        {"topic": "register", "revoked": None, "forms": [], "stations": [["t", 1, "v", "d", "", 1]]},
        {"topic": "register", "revoked": None, "forms": [], "stations": [["t/", 1, "v", "d", "", 1, True]]},
        {"topic": "register", "revoked": None, "forms": [], "stations": [["t", True, "v", "d", "", 1, True]]},
        {"topic": "register", "revoked": None, "forms": [], "stations": [["t", 1, "v", "d", "", -1, True]]},
        {"topic": "register", "revoked": None, "forms": [], "stations": [["t", 1, "\x1b[0m", "d", "", 1, True]]},
        *(
            {"topic": "register", "revoked": None, "forms": [], "stations": [[*ROW, *more]], "regions": regions}
            for more, regions in (
                ([], [["P", "R"]]),
                ([1], [["P", "R"]]),
                ([-1], [["P", "R"]]),
                ([False], [["P", "R"]]),
                (["P"], [["P", "R"]]),
                ([0], []),
                ([0], [["P"]]),
                ([0], [["P", "\x1b[0m"]]),
                ([0], [["P", "x" * (MAX_TEXT + 1)]]),
                ([0], {}),
            )
        ),
        {"topic": "register", "revoked": None, "forms": [], "stations": [[*ROW, 0]]},
        {
            "topic": "register",
            "revoked": None,
            "forms": [],
            "stations": [["t", 1, "x" * (MAX_TEXT + 1), "d", "", 1, True]],
        },
    ],
)
def test_promise_10_a_well_signed_lie_about_the_format_is_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read_notice(forge(**changes))


def test_a_list_that_is_too_long_for_a_record_is_bad_input() -> None:
    with pytest.raises(BadInput, match="limit"):
        sign(Revocations(tuple(Revocation(NodeId(bytes(32)), "a", "x" * MAX_REASON) for _ in range(60))))


def station(number: int, village: str = "Desa") -> Station:
    """A station."""
    return Station(f"19.06.01.2001.{number:04}", number, village, "Manggar", "", 500, True)


@given(st.integers(0, 1_500), st.integers(0, MAX_TEXT))
@settings(max_examples=20)
def test_a_register_is_split_into_parts_that_fit(count: int, width: int) -> None:
    stations = [station(number, "\u00e9" * width) for number in range(count)]
    if width % 2:  # each in a region of its own
        stations = [replace(one, province="P" * width, regency=f"R{one.number}") for one in stations]
    parts = list(split_register(("form-1",), stations))
    assert [one for part in parts for one in part.stations] == stations
    assert all(part.forms == ("form-1",) for part in parts)
    assert all(len(sign(part, place)) <= MAX_RECORD for place, part in enumerate(parts))


HEADER = b"tps,number,village,district,island,registered_voters,signal\n"


def test_a_register_as_offices_write_it() -> None:
    text = b"\xef\xbb\xbf" + HEADER + b'19.06.1,1,"Mentawak, Timur",Manggar,Pulau Batun,412,no\r\n'
    assert parse_register(text) == (
        Station("19.06.1", 1, "Mentawak, Timur", "Manggar", "Pulau Batun", 412, signal=False),
    )


def test_a_register_may_name_provinces_and_regencies() -> None:
    header = HEADER.strip() + b",regency,province\n"
    text = header + b"a,1,v,d,,10,yes,Belitung Timur,Bangka Belitung\nb,1,v,d,,10,yes,,\n"
    assert [(one.province, one.regency) for one in parse_register(text)] == [
        ("Bangka Belitung", "Belitung Timur"),
        ("", ""),
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (HEADER.strip() + b",province\na,1,v,d,,10,yes\n", "Line 2"),
        (HEADER.strip() + b",province\na,1,v,d,,10,yes," + b"x" * (MAX_TEXT + 1) + b"\n", "Line 2"),
        (b"", "lacks the columns"),
        (HEADER, "no polling station"),
        (b"tps,number\n1,1\n", "village"),
        (HEADER + b"a,1,v,d,,10,yes\na,2,v,d,,10,yes\n", "Line 3 of the register repeats"),
        (HEADER + b"a,one,v,d,,10,yes\n", "Line 2"),
        (HEADER + b"a,1,v,d,,10\n", "Line 2"),
        (HEADER + b"a,1,v,d,,10,yes,more\n", "Line 2"),
        (HEADER + b"a,1,v,d,,10,ja\n", "ja"),
        (HEADER + b"../a,1,v,d,,10,yes\n", "Line 2"),
        (HEADER + b"a,1,v,d,,-3,yes\n", "Line 2"),
        (HEADER + b'a,1,"v\x00",d,,10,yes\n', ""),
        (HEADER + b'a,1,"v,d,,10,yes\n', ""),
        (b"\xff\xfe", "byte 0"),
        (HEADER + b'a,"1"x,v,d,,10,yes\n', "CSV"),
        (HEADER + b"a," + b"9" * 5_000 + b",v,d,,10,yes\n", "Line 2"),
        (HEADER + b"a,1," + b"v" * 200_000 + b",d,,10,yes\n", ""),
    ],
)
def test_promise_10_a_wrong_line_is_named(text: bytes, named: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_register(text)
    assert named in caught.value.what


@given(st.binary(max_size=100).map(lambda more: HEADER + more) | st.binary(max_size=100))
def test_promise_10_any_bytes_are_a_register_or_bad_input(text: bytes) -> None:
    try:
        parse_register(text)
    except BadInput:
        return


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://receiver.example:8470", True),
        ("https://[2001:db8::1]:8470/", True),
        ("https://", False),
        ("http://receiver.example", False),
        ("https://receiver.example/path", False),
        ("https://user@receiver.example", False),
        ("https://receiver.example?x", False),
        ("https://receiver.example#x", False),
        ("https://receiver .example", False),
        ("https://receiver.example\n", False),
        ("https://\u0435xample", False),
        ("https://" + "a" * 600, False),
        (None, False),
    ],
)
def test_urls_of_receivers(url: object, good: bool) -> None:
    assert is_receiver_url(url) is good


def test_the_payload_is_plain_cbor() -> None:
    payload = read_notice(sign(Witnesses((("km-bahari", bytes(32)),)), 0, 3)).envelope.payload
    assert payload is not None
    assert decode(payload, MAX_RECORD) == {
        "election": ELECTION,
        "topic": "witnesses",
        "part": 0,
        "version": 3,
        "keys": [["km-bahari", bytes(32)]],
    }
