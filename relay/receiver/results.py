"""Results: what the log says about each polling station and form, and every reason to doubt it. Pure.

Lives here: which of several statements stands, the history of corrections, the flags, and what may be added up. Does
not live here: admitting statements, device chains themselves (`relay.receiver.chains`), and how results are shown.
Guards promise 7: a correction is a new statement, two statements that conflict are both kept, and both shown.

A statement stands when no other statement in the log for the same station and form supersedes it. One that stands
alone is the result. Several that stand are the result if they agree in every number, and in conflict otherwise: then
there is no result until one of the devices, or the election office, settles it with a correction. Of those without any
numbers, sealed ones for example, neither is said.

No flag is hidden and none is a judgement: each is a slug, the statements it is about, and the numbers behind it. What
did not add up before a correction is told as well, as what it is: it keeps nothing from being added up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from relay.receiver.chains import Finding, Gap, Link
from relay.receiver.showing import Showing
from relay.records.identifiers import NodeId, ObjectId, RecordId, StatementId
from relay.records.notice import Station
from relay.records.statement import FileEntry, Statement
from relay.records.tally import IMPOSSIBLE, Tally, is_pair, judge_tally, people, reserve, votes_cast

_QUOTED = 16
"""Characters of what a signer made up that are quoted beside a flag."""


class Standing(StrEnum):
    """Where a statement stands among those for the same station and form."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class LoggedFile:
    """One object of a logged statement, by the first of the `names` that the statement gives it. How often a statement
    names an object is its signer's choice; it is shown once."""

    name: str
    media_type: str
    size: int
    sha256: ObjectId
    names: int = 1


@dataclass(frozen=True, slots=True)
class Logged:
    """An admitted statement as it stands in the log.

    `entry` is its log index, `arrived` when it was logged by the receiver's clock (seconds since 1970, None when that
    is no longer known), `captured_at` the device's own claim. `node` and `device` are who signed it.
    """

    id: StatementId
    entry: int
    arrived: int | None
    tps: str
    form: str
    device: str
    node: NodeId
    seq: int
    previous: StatementId | None
    supersedes: StatementId | None
    reason: str
    captured_at: int
    sealed: bool
    tally: Tally | None
    flags: tuple[str, ...]
    files: tuple[LoggedFile, ...]

    @staticmethod
    def of(statement: Statement, device: str, node: NodeId, entry: int, arrived: int | None) -> Logged:
        """A statement with its place in the log."""
        package = statement.package
        return Logged(
            id=statement.id,
            entry=entry,
            arrived=arrived,
            tps=package.tps,
            form=package.form,
            device=device,
            node=node,
            seq=package.seq,
            previous=package.previous,
            supersedes=package.supersedes,
            reason=package.reason,
            captured_at=package.captured_at,
            sealed=package.sealed,
            tally=package.tally,
            flags=package.flags,
            files=tuple(_objects(package.files)),
        )

    @property
    def link(self) -> Link:
        """Its place in the chain of its device."""
        return Link(self.node, self.seq, self.id, self.previous)

    def to_map(self) -> dict[str, Any]:
        """As it is published in JSON: ids in hexadecimal, times in seconds since 1970."""
        return {
            "id": self.id.hex(),
            "entry": self.entry,
            "arrived": self.arrived,
            "tps": self.tps,
            "form": self.form,
            "device": self.device,
            "node": self.node.hex(),
            "seq": self.seq,
            "previous": self.previous.hex() if self.previous else None,
            "supersedes": self.supersedes.hex() if self.supersedes else None,
            "reason": self.reason,
            "captured_at": self.captured_at,
            "sealed": self.sealed,
            "tally": self.tally.to_map() if self.tally else None,
            "flags": list(self.flags),
            "files": [
                {
                    "name": one.name,
                    "media_type": one.media_type,
                    "size": one.size,
                    "sha256": one.sha256.hex(),
                    "names": one.names,
                }
                for one in self.files
            ],
        }

    @staticmethod
    def from_map(item: Mapping[str, Any]) -> Logged:
        """Read back what `to_map` gave. For our own files only: nothing is checked."""
        tally = item["tally"]
        return Logged(
            id=_statement(item["id"]),
            entry=item["entry"],
            arrived=item["arrived"],
            tps=item["tps"],
            form=item["form"],
            device=item["device"],
            node=NodeId(bytes.fromhex(item["node"])),
            seq=item["seq"],
            previous=_statement(item["previous"]) if item["previous"] else None,
            supersedes=_statement(item["supersedes"]) if item["supersedes"] else None,
            reason=item["reason"],
            captured_at=item["captured_at"],
            sealed=item["sealed"],
            tally=None if tally is None else Tally({k: v for k, v in tally.items() if k != "votes"}, tally["votes"]),
            flags=tuple(item["flags"]),
            files=tuple(
                LoggedFile(
                    one["name"], one["media_type"], one["size"], ObjectId(bytes.fromhex(one["sha256"])), one["names"]
                )
                for one in item["files"]
            ),
        )


@dataclass(frozen=True, slots=True)
class Flag:
    """One reason to look twice: a slug, the statements it is about, and what its explanation quotes.

    `superseded`: it is about what a statement says that was corrected since.
    """

    name: str
    statements: tuple[StatementId, ...]
    values: Mapping[str, int | str]
    superseded: bool = False

    @property
    def label(self) -> str:
        """What names it where there is room for a word only."""
        return label_of(self.to_map())

    def to_map(self) -> dict[str, Any]:
        """As it is published in JSON."""
        told = {"flag": self.name, "statements": [one.hex() for one in self.statements], "values": dict(self.values)}
        return {**told, "superseded": True} if self.superseded else told


@dataclass(frozen=True, slots=True)
class Result:
    """What the log says about one station and form. `statements` are in the order of the log, with where each stands.

    `tally` is the result where there is one: from the statement that stands, or that all that stand agree in. It may
    be added up only if it is `counted`: something stands, is readable, and is not impossible.
    """

    tps: str
    form: str
    statements: tuple[tuple[Logged, Standing], ...]
    tally: Tally | None
    counted: bool
    flags: tuple[Flag, ...]

    @property
    def standing(self) -> tuple[Logged, ...]:
        """The statements that nothing supersedes, in the order of the log."""
        return tuple(one for one, standing in self.statements if standing is not Standing.SUPERSEDED)

    @property
    def corrected(self) -> bool:
        """Whether anything was superseded."""
        return any(standing is Standing.SUPERSEDED for _, standing in self.statements)


def judge(
    logged: Iterable[Logged],
    station: Station | None,
    forms: AbstractSet[str],
    chains: Iterable[Finding] = (),
    revoked: AbstractSet[NodeId] = frozenset(),
) -> Result:
    """The result of one station and form from all its statements in the log; at least one.

    `station` is the register's entry (None where it has none), `forms` those that the register asks for, `chains` the
    findings about the devices that signed, `revoked` the signers whose keys are no longer believed.
    """
    statements = sorted(logged, key=lambda one: one.entry)
    by_id = {one.id: one for one in statements}
    superseded = {one.supersedes for one in statements if one.supersedes in by_id}
    standing = [one for one in statements if one.id not in superseded]
    tallies = [one.tally for one in standing]
    conflict = any(tally != tallies[0] for tally in tallies)
    agreed = None if conflict else tallies[0]
    registered = station.registered_voters if station else None
    own = [flag for one in standing for flag in _tally_flags(one, registered)]
    before = [flag for one in statements if one.id in superseded for flag in _tally_flags(one, registered)]
    flags = [
        *own,
        *_agreement_flags(standing, conflict),
        *_correction_flags(statements, by_id),
        *_chain_flags(statements, chains),
        *_register_flags(statements[0], station, forms),
        *(Flag("device-revoked", (one.id,), {"device": one.device}) for one in statements if one.node in revoked),
        *(replace(flag, superseded=True) for flag in before),
    ]
    head = Standing.CONFLICT if conflict else Standing.CURRENT
    impossible = any(flag.name in IMPOSSIBLE for flag in own)
    return Result(
        tps=statements[0].tps,
        form=statements[0].form,
        statements=tuple((one, Standing.SUPERSEDED if one.id in superseded else head) for one in statements),
        tally=agreed,
        counted=agreed is not None and bool(agreed.votes) and not impossible and station is not None,
        flags=tuple(flags),
    )


def is_settled(told: Mapping[str, Any]) -> bool:
    """Whether a flag, as it is published, is about what was corrected since."""
    return bool(told.get("superseded", False))


def label_of(told: Mapping[str, Any]) -> str:
    """The name of a flag, as it is published, where there is room for a word only. That of what was corrected since is
    told apart, by a character that no flag of a device's own has."""
    name: str = told["flag"]
    return f"superseded:{name}" if is_settled(told) else name


def _objects(files: Sequence[FileEntry]) -> Iterator[LoggedFile]:
    """The distinct objects of a statement, in its order."""
    named = Counter(one.sha256 for one in files)
    for one in files:
        if names := named.pop(one.sha256, 0):
            yield LoggedFile(one.name, one.media_type, one.size, one.sha256, names)


def _tally_flags(one: Logged, registered: int | None) -> list[Flag]:
    """What does not add up: computed here, and what the device said of its own besides."""
    if one.tally is None:
        return [Flag(name, (one.id,), {}) for name in sorted(one.flags)]
    found = judge_tally(one.tally, registered)
    numbers = _numbers(one.tally, registered)
    return [Flag(name, (one.id,), numbers.get(name, {})) for name in sorted(found | set(one.flags))]


def _numbers(tally: Tally, registered: int | None) -> dict[str, dict[str, int | str]]:
    """The numbers that flags of a tally are about: what the form says, and what it should then say."""
    count = tally.counts
    used, spoiled, unused = (count.get(f"ballots_{key}", 0) for key in ("used", "spoiled", "unused"))
    return {
        "valid-is-not-sum-of-votes": {"said": count.get("valid", 0), "sum": sum(tally.votes.values())},
        "used-is-not-valid-plus-invalid": {"said": used, "sum": count.get("valid", 0) + count.get("invalid", 0)},
        "received-is-not-used-spoiled-unused": {
            "said": count.get("ballots_received", 0),
            "sum": used + spoiled + unused,
        },
        "received-is-not-registered-plus-reserve": {
            "said": count.get("ballots_received", 0),
            "sum": count.get("registered_voters", 0) + reserve(count.get("registered_voters", 0)),
        },
        "voters-is-not-ballots-used": {"said": count.get("voters", 0), "sum": used},
        "registered-differs-from-register": {"said": count.get("registered_voters", 0), "sum": registered or 0},
        "more-voters-than-ballots": {
            "said": count.get("voters", 0),
            "sum": count.get("ballots_received", count.get("registered_voters", 0)),
        },
        "more-votes-than-voters": {"said": votes_cast(tally), "sum": count.get("voters", 0)},
        "more-votes-than-register": {"said": people(tally), "sum": registered or 0},
        "unknown-pair": {"pair": next((pair[:_QUOTED] for pair in tally.votes if not is_pair(pair)), "")},
    }


def _agreement_flags(standing: Sequence[Logged], conflict: bool) -> list[Flag]:
    if len(standing) < 2:
        return []
    name = "two-statements-in-conflict" if conflict else "two-statements-agree"
    if all(one.tally is None for one in standing):
        name = "two-statements-without-numbers"
    return [Flag(name, tuple(one.id for one in standing), {"count": len(standing)})]


def _correction_flags(statements: Sequence[Logged], by_id: Mapping[StatementId, Logged]) -> list[Flag]:
    flags: list[Flag] = []
    for one in statements:
        if one.supersedes is None:
            continue
        corrected = by_id.get(one.supersedes)
        if corrected is None:
            flags.append(Flag("corrects-what-is-not-here", (one.id,), {"statement": one.supersedes.hex()[:16]}))
        elif corrected.node != one.node:
            devices = {"device": one.device, "other": corrected.device}
            flags.append(Flag("corrected-by-another-device", (one.id, corrected.id), devices))
    return flags


def _chain_flags(statements: Sequence[Logged], chains: Iterable[Finding]) -> list[Flag]:
    flags: list[Flag] = []
    devices = {one.node: one.device for one in reversed(statements)}
    for found, links in Showing(chains).among(one.link for one in statements).items():
        ids, device = tuple(link.id for link in links), devices[found.node]
        if isinstance(found, Gap):
            flags.append(Flag("chain-gap", ids, {"device": device, "first": found.first, "last": found.last}))
        else:
            flags.append(Flag("chain-fork", ids, {"device": device, "seq": found.seq}))
    return flags


def _register_flags(one: Logged, station: Station | None, forms: AbstractSet[str]) -> list[Flag]:
    if station is None:
        return [Flag("station-not-in-register", (one.id,), {"tps": one.tps})]
    if forms and one.form not in forms:
        return [Flag("form-not-in-register", (one.id,), {"form": one.form})]
    return []


def _statement(text: str) -> StatementId:
    return StatementId(RecordId(bytes.fromhex(text)))
