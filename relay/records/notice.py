"""Notices: what the election office tells every node. Register, receivers, revocations, witnesses.

Lives here: their format. A notice fills a slot `(topic, part)`; each slot has a version, and the newest version is in
force. A long list is spread over parts, so that every notice stays within one record. Does not live here: which
version is in force (`relay.trust.admission`) and what the office decides (`relay.trust.authority`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias, cast

from relay.errors import BadInput, Malformed
from relay.limits import (
    MAX_CERTIFICATE,
    MAX_FORMS,
    MAX_REASON,
    MAX_RECEIVERS,
    MAX_RECORD,
    MAX_REGISTER,
    MAX_REGISTER_PARTS,
    MAX_SEALING_KEY,
    MAX_TALLY_VALUE,
    MAX_TEXT,
    MAX_URL,
    MAX_VERIFIER_KEY,
)
from relay.records.cose import CONTENT_TYPE, Sign1, Signer, header, read_sign1, sign1
from relay.records.encoding import decode, encode
from relay.records.identifiers import HASH_SIZE, NodeId, RecordId, authority_uri, is_code, sha256

_VERIFIER_KEY = re.compile(r"[^\s+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+=*")
NOTICE_TYPE = "application/vnd.relay.notice+cbor"
FULL_PART = MAX_RECORD - 2_000
"""Bytes that the lists of one part may take: what is left beside envelope and certificate."""
PARTS_LIMIT = FULL_PART - 2_000
"""The same of a new part of the register: names in it may be corrected by longer ones."""


class Topic(StrEnum):
    """What a notice is about."""

    REGISTER = "register"
    RECEIVERS = "receivers"
    REVOCATIONS = "revocations"
    WITNESSES = "witnesses"


@dataclass(frozen=True, slots=True)
class Station:
    """A polling station of the register. `island` is empty on the mainland; `signal` says whether it has a network.

    `province` and `regency` are empty where the register does not name them.
    """

    tps: str
    number: int
    village: str
    district: str
    island: str
    registered_voters: int
    signal: bool
    province: str = ""
    regency: str = ""


@dataclass(frozen=True, slots=True)
class Register:
    """Some stations of the register, and the forms that each must return."""

    forms: tuple[str, ...]
    stations: tuple[Station, ...]


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver: its node name, the URLs of its intake, its certificate (DER) and its sealing key, if it has one."""

    name: str
    urls: tuple[str, ...]
    certificate: bytes
    sealing_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Receivers:
    """The receivers of the election; `sealed` says that packages are sealed to them."""

    receivers: tuple[Receiver, ...]
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Revocation:
    """A node whose key is no longer believed, and why."""

    node: NodeId
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Revocations:
    """Every node revoked so far (of this part)."""

    revoked: tuple[Revocation, ...]


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Who cosigns checkpoints: nodes, each with its name and public key (32 bytes), and others by their verifier keys
    (C2SP `signed-note`), under names of their own."""

    keys: tuple[tuple[str, bytes], ...]
    others: tuple[str, ...] = ()


Body: TypeAlias = Register | Receivers | Revocations | Witnesses


@dataclass(frozen=True, slots=True)
class Notice:
    """A parsed notice. Its slot is `(topic, part)`; versions count from 1."""

    id: RecordId
    raw: bytes
    envelope: Sign1
    election: str
    topic: Topic
    part: int
    version: int
    body: Body

    @property
    def slot(self) -> tuple[Topic, int]:
        """What a newer version of this notice replaces."""
        return self.topic, self.part


def sign_notice(election: str, part: int, version: int, body: Body, root: bytes, signer: Signer) -> bytes:
    """The bytes of a notice, signed by the authority whose DER root certificate is `root`."""
    topic, items = _body_map(body)
    subject = f"{election}/{topic}/{part}"
    document = {"election": election, "topic": str(topic), "part": part, "version": version, **items}
    raw = sign1(header(NOTICE_TYPE, authority_uri(election), subject, root), encode(document), signer)
    if len(raw) > MAX_RECORD:
        raise BadInput(f"A {topic} notice would take {len(raw)} bytes; {MAX_RECORD} are the limit", "Shorten its list.")
    return raw


def read_notice(raw: bytes) -> Notice:
    """Parse a notice; its signature is not checked here. Raises `Malformed`."""
    envelope = read_sign1(raw)
    if envelope.header.get(CONTENT_TYPE) != NOTICE_TYPE or len(envelope.header) != 4:
        raise Malformed("A record is not a notice: its header differs")
    if envelope.unprotected or envelope.payload is None:
        raise Malformed("A notice has unprotected parameters or no payload")
    match decode(envelope.payload, MAX_RECORD):
        case {
            "election": str(election),
            "topic": str(topic),
            "part": int(part),
            "version": int(version),
            **items,
        }:
            pass
        case _:
            raise Malformed("A notice lacks a key: election, topic, part, version")
    if not is_code(election) or topic not in list(Topic):
        raise Malformed("A notice is of no known topic")
    if isinstance(part, bool) or isinstance(version, bool):
        raise Malformed("A notice's part or version is no number")
    if not 0 <= part < MAX_REGISTER_PARTS or not 1 <= version < 1 << 62:
        raise Malformed("A notice's part or version is out of range")
    if envelope.subject != f"{election}/{topic}/{part}" or envelope.issuer != authority_uri(election):
        raise Malformed("A notice's claims are not those of its content")
    body = _READERS[Topic(topic)](cast(Mapping[str, Any], items))
    return Notice(RecordId(sha256(raw)), raw, envelope, election, Topic(topic), part, version, body)


def fits(body: Body) -> bool:
    """Whether this is short enough to be one part of its list."""
    _, items = _body_map(body)
    return len(encode(items)) <= FULL_PART


def parse_register(text: bytes) -> tuple[Station, ...]:
    """Read a register (CSV, UTF-8, with a header). Raises `BadInput` naming the line that is wrong."""
    advice = "Correct the register and try again; nothing was written."
    if len(text) > MAX_REGISTER:
        raise BadInput(f"The register is over {MAX_REGISTER} bytes", advice)
    try:
        rows = csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline=""), strict=True)
        stations: dict[str, Station] = {}
        if missing := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
            raise BadInput(f"The register lacks the columns {', '.join(missing)}", advice)
        for row in rows:
            station = _parse_row(row, rows.line_num, advice)
            if station.tps in stations:
                raise BadInput(f"Line {rows.line_num} of the register repeats polling station {station.tps}", advice)
            stations[station.tps] = station
    except UnicodeDecodeError as error:
        raise BadInput(f"The register is not UTF-8 (byte {error.start})", advice) from error
    except csv.Error as error:
        raise BadInput(f"The register is not CSV ({error})", advice) from error
    if not stations:
        raise BadInput("The register lists no polling station", advice)
    return tuple(stations.values())


def split_register(forms: tuple[str, ...], stations: Iterable[Station]) -> Iterator[Register]:
    """The register in parts that each fit one notice, in the given order."""
    part: list[Station] = []
    regions: set[tuple[str, str]] = set()
    size = empty = len(encode(forms))
    for station in stations:
        region = station.province, station.regency
        length = len(encode(_station_row(station))) + _INDEX_SIZE
        length += 0 if region in regions else len(encode(region))
        if part and size + length > PARTS_LIMIT:
            yield Register(forms, tuple(part))
            part, regions, size = [], set(), empty
        part.append(station)
        regions.add(region)
        size += length
    yield Register(forms, tuple(part))


def write_register(stations: Sequence[Station]) -> str:
    """The register as CSV, as `parse_register` reads it; with the columns of names that are in use."""
    named = [name for name in _NAMES if any(getattr(one, name) for one in stations)]
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow((*_COLUMNS, *named))
    for one in stations:
        values = [*_station_row(one)[:-1], "yes" if one.signal else "no"]
        rows.writerow((*values, *(getattr(one, name) for name in named)))
    return text.getvalue()


_COLUMNS = ("tps", "number", "village", "district", "island", "registered_voters", "signal")
_NAMES = ("province", "regency")
"""Columns that a register may have besides."""
_INDEX_SIZE = 3
"""Bytes of a station's place in the list of its part's regions, at most: a part has fewer than 65 536."""


def _parse_row(row: Mapping[str | None, Any], line: int, advice: str) -> Station:
    names = [row.get(name, "") for name in _NAMES]
    if None in row or None in names or any(row[name] is None for name in _COLUMNS):
        raise BadInput(f"Line {line} of the register does not have one value for each column", advice)
    if row["signal"] not in ("yes", "no"):
        raise BadInput(f"Line {line} of the register has signal {str(row['signal'])[:20]!r}, not yes or no", advice)
    try:
        fields = [row["tps"], int(row["number"]), row["village"], row["district"], row["island"]]
        fields += [int(row["registered_voters"]), row["signal"] == "yes"]
        return _read_station(fields, _read_region(names), {})
    except (ValueError, Malformed) as error:
        raise BadInput(f"Line {line} of the register is malformed ({error})", advice) from error


def _station_row(station: Station) -> list[Any]:
    return [
        station.tps,
        station.number,
        station.village,
        station.district,
        station.island,
        station.registered_voters,
        station.signal,
    ]


def _read_station(row: object, region: tuple[str, str], names: dict[str, str]) -> Station:
    """A station from the row of a register. `names` are those of the other rows: few are kept more than once."""
    match row:
        case [str(tps), int(number), str(village), str(district), str(island), int(voters), bool(signal)]:
            texts = (village, district, island)
        case _:
            raise Malformed("A register's row does not have its values")
    if not is_code(tps) or isinstance(number, bool) or isinstance(voters, bool):
        raise Malformed(f"{tps[:80]!r} is no code of a polling station")
    if not 0 <= number <= MAX_TALLY_VALUE or not 0 <= voters <= MAX_TALLY_VALUE:
        raise Malformed(f"Polling station {tps} has a number out of range")
    for text in texts:
        if text not in names and not _is_name(text):
            raise Malformed(f"Polling station {tps} has a name that is too long or not printable")
    village, district, island = (names.setdefault(text, text) for text in texts)
    return Station(tps, number, village, district, island, voters, signal, *region)


def _read_region(row: object) -> tuple[str, str]:
    match row:
        case [str(province), str(regency)] if _is_name(province) and _is_name(regency):
            return province, regency
        case _:
            raise Malformed("A register's region does not have two names, or one that is too long or not printable")


def _is_name(text: str) -> bool:
    return len(text) <= MAX_TEXT and text.isprintable()


def _body_map(body: Body) -> tuple[Topic, dict[str, Any]]:
    match body:
        case Register(forms, stations):
            return Topic.REGISTER, {"forms": list(forms), **_stations_map(stations)}
        case Receivers(receivers, sealed):
            return Topic.RECEIVERS, {
                "sealed": sealed,
                "receivers": [[one.name, list(one.urls), one.certificate, one.sealing_key] for one in receivers],
            }
        case Revocations(revoked):
            return Topic.REVOCATIONS, {"revoked": [[one.node, one.name, one.reason] for one in revoked]}
        case Witnesses(keys, others):
            said: dict[str, Any] = {"keys": [[name, key] for name, key in keys]}
            return Topic.WITNESSES, {**said, "others": list(others)} if others else said


def _stations_map(stations: Sequence[Station]) -> dict[str, Any]:
    """Stations, each with the place of its region in a list of their own where regions have names."""
    regions = list(dict.fromkeys((one.province, one.regency) for one in stations))
    if not any(name for region in regions for name in region):
        return {"stations": [_station_row(one) for one in stations]}
    places = {region: place for place, region in enumerate(regions)}
    rows = [[*_station_row(one), places[one.province, one.regency]] for one in stations]
    return {"stations": rows, "regions": [list(region) for region in regions]}


def _read_register(items: Mapping[str, Any]) -> Register:
    match items:
        case {"forms": list(forms), "stations": list(rows), **unknown} if not unknown:
            places = iter([(row, _NO_REGION) for row in rows])
        case {"forms": list(forms), "stations": list(rows), "regions": [_, *_] as regions, **unknown} if not unknown:
            places = _places(rows, [_read_region(region) for region in regions])
        case _:
            raise Malformed("A register notice does not have forms and stations")
    if len(forms) > MAX_FORMS or not all(is_code(form) for form in forms):
        raise Malformed(f"A register's forms are not at most {MAX_FORMS} codes")
    names: dict[str, str] = {}
    return Register(tuple(forms), tuple(_read_station(row, region, names) for row, region in places))


_NO_REGION = ("", "")


def _places(rows: Iterable[object], regions: Sequence[tuple[str, str]]) -> Iterator[tuple[object, tuple[str, str]]]:
    """Rows without their last value, each with the region that it stands for."""
    for row in rows:
        match row:
            case [*values, int(place)] if not isinstance(place, bool) and 0 <= place < len(regions):
                yield values, regions[place]
            case _:
                raise Malformed("A register's row does not name one of its regions")


def _read_receivers(items: Mapping[str, Any]) -> Receivers:
    match items:
        case {"receivers": list(rows), "sealed": bool(sealed), **unknown} if not unknown:
            pass
        case _:
            raise Malformed("A receivers notice does not have its list")
    if len(rows) > MAX_RECEIVERS:
        raise Malformed(f"A receivers notice lists more than {MAX_RECEIVERS}")
    return Receivers(tuple(_read_receiver(row) for row in rows), sealed)


def _read_receiver(row: object) -> Receiver:
    match row:
        case [str(name), list(urls), bytes(certificate), (bytes() | None) as sealing_key]:
            pass
        case _:
            raise Malformed("A receiver's entry does not have its four values")
    good_urls = all(is_receiver_url(url) for url in urls) and len(urls) <= MAX_RECEIVERS
    good_key = sealing_key is None or len(sealing_key) <= MAX_SEALING_KEY
    if not is_code(name) or not good_urls or not good_key or len(certificate) > MAX_CERTIFICATE:
        raise Malformed("A receiver's entry has a bad name, URL or certificate")
    return Receiver(name, tuple(urls), certificate, sealing_key)


def is_receiver_url(url: object) -> bool:
    """Whether `url` can name a receiver's intake: `https://host[:port]`, at most `MAX_URL` characters."""
    if not isinstance(url, str) or len(url) > MAX_URL or not url.startswith("https://"):
        return False
    rest = url.removeprefix("https://").rstrip("/")
    return bool(rest) and rest.isascii() and rest.isprintable() and not set(rest) & set(" /?#@\\\"'<>")


def _read_revocations(items: Mapping[str, Any]) -> Revocations:
    match items:
        case {"revoked": list(rows), **unknown} if not unknown:
            return Revocations(tuple(_read_revocation(row) for row in rows))
        case _:
            raise Malformed("A revocations notice does not have its list")


def _read_revocation(row: object) -> Revocation:
    match row:
        case [bytes(node), str(name), str(reason)] if len(node) == HASH_SIZE and is_code(name):
            if len(reason) > MAX_REASON:
                raise Malformed(f"A revocation's reason is longer than {MAX_REASON} characters")
            return Revocation(NodeId(node), name, reason)
        case _:
            raise Malformed("A revocation does not name a node")


def _read_witnesses(items: Mapping[str, Any]) -> Witnesses:
    match items:
        case {"keys": list(rows), **rest} if not rest:
            return Witnesses(tuple(_read_witness(row) for row in rows))
        case {"keys": list(rows), "others": [_, *_] as others, **rest} if not rest:
            return Witnesses(
                tuple(_read_witness(row) for row in rows), tuple(_read_verifier_key(one) for one in others)
            )
        case _:
            raise Malformed("A witnesses notice does not have its list")


def _read_witness(row: object) -> tuple[str, bytes]:
    match row:
        case [str(name), bytes(key)] if is_code(name) and len(key) == 32:
            return name, key
        case _:
            raise Malformed("A witness's entry is not a name and a key")


def _read_verifier_key(item: object) -> str:
    """A verifier key by its shape; `relay.log.note` reads what it says."""
    if not isinstance(item, str) or len(item) > MAX_VERIFIER_KEY or _VERIFIER_KEY.fullmatch(item) is None:
        raise Malformed("A witness's verifier key is not name+id+key")
    return item


_READERS: Mapping[Topic, Callable[[Mapping[str, Any]], Body]] = {
    Topic.REGISTER: _read_register,
    Topic.RECEIVERS: _read_receivers,
    Topic.REVOCATIONS: _read_revocations,
    Topic.WITNESSES: _read_witnesses,
}
