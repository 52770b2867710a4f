"""Records that are false, altered, old, too many or too large, brought by an enrolled node: nothing of it is kept."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from relay.limits import MAX_IDS
from relay.log.checkpoint import Checkpoint, sign_checkpoint
from relay.log.merkle import leaf_hash
from relay.node.home import Home, Member
from relay.records.encoding import encode
from relay.records.identifiers import Kind, ObjectId, StatementId, sha256, statement_id
from relay.records.receipt import Inclusion, sign_receipt
from relay.records.statement import FileEntry, Package, describe_file, sign_statement
from relay.store.recordset import varint
from relay.sync.messages import FRAME_HEAD, RECORD_HEAD, Greeting
from relay.sync.ranges import VERSION
from relay.trust.enrolment import read_enrolment
from relay.trust.witness import log_key
from tests.boxes import RELAY, Election, NodeBox
from tests.e2e.world import FORM, OTHER_TPS, REGISTER, TPS, holds
from tests.hostile.waters import Waters, ask, call_on
from tests.processes import Outcome, eventually

FILE = describe_file("form.jpg", "image/jpeg", [b"photograph"], 10)


def statement(
    signer: Member, seq: int = 1, *, tps: str = TPS, file: FileEntry = FILE, previous: bytes = bytes(32)
) -> bytes:
    """A statement that this node signs, whatever it may."""
    before = None if seq == 1 else statement_id(previous)
    package = Package(signer.identity.election, tps, FORM, seq, before, 0, (file,))
    return sign_statement(package, signer.identity.uri, signer.identity.certificate, signer.key)


def receipt(signer: Member, of: StatementId, leaf: bytes) -> bytes:
    """A receipt of a log that has this entry alone."""
    who = signer.identity
    proof = Inclusion(1, 0, ())
    return sign_receipt(who.election, of, leaf, proof, leaf, who.uri, who.certificate, signer.key).raw


def checkpoint(signer: Member, size: int, root: bytes = bytes(32), name: str = "") -> bytes:
    """A checkpoint of this node's log, or of another's."""
    key = replace(log_key(signer.identity), name=f"{signer.identity.election}/{name or signer.identity.name}")
    return sign_checkpoint(Checkpoint(key.name, size, root), key, signer.key)


def bring(visitor: NodeBox, port: int, *records: tuple[Kind, bytes]) -> list[str]:
    """Hand records to a node; what it says to each."""

    async def put() -> list[str]:
        peer, greeting = call_on(visitor, port)
        async with peer:
            await peer.hello(Greeting(greeting))
            return (await peer.put_records(records)).outcomes

    return asyncio.run(put())


def test_a_copy_of_a_nodes_key_is_no_visitor_of_that_node(waters: Waters) -> None:
    """What it signed would count as made there."""
    island = waters.box("island", "operator", tps=[TPS])
    island.start()
    status, said = ask(island, waters.ports["island"], "/hello", b"")
    assert (status, b'"reason": "myself"' in said) == (403, True), said
    assert "its key was copied: tell the election office" in island.log


def member(box: NodeBox) -> Member:
    """Who a box is, with its key."""
    return Home(box.home).member()


def test_forged_and_altered_records_are_refused_one_by_one(waters: Waters) -> None:
    island = waters.box("island", "operator", tps=[TPS])
    pirate = waters.box("pirate", "operator", tps=[OTHER_TPS])
    receiver = waters.box("receiver", "receiver")
    target = waters.box("target", "carrier")
    target.start()
    honest = statement(member(island))
    proof = receipt(member(receiver), statement_id(honest), leaf_hash(honest))
    (notice, *_) = read_enrolment(waters.election.revoke("pirate").read_bytes()).notices
    dice = random.Random(5)
    altered: list[tuple[Kind, bytes]] = []
    for kind, raw in ((Kind.STATEMENT, honest), (Kind.RECEIPT, proof), (Kind.NOTICE, notice)):
        for _ in range(150):
            data = bytearray(raw)
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            altered.append((kind, bytes(data)))
        altered += [(other, raw) for other in Kind if other is not kind]
    said = bring(pirate, waters.ports["target"], *altered)
    assert not {"new", "known", "stale"} & set(said), said
    assert target.list() == []
    assert target.status()["revoked"] == []
    assert bring(island, waters.ports["target"], (Kind.STATEMENT, honest)) == ["new"], "the same, as it was"


def test_what_somebody_else_may_sign_is_refused_by_its_role(waters: Waters) -> None:
    island = waters.box("island", "operator", tps=[TPS])
    boat = waters.box("boat", "carrier")
    receiver = waters.box("receiver", "receiver")
    target = waters.box("target", "carrier")
    target.start()
    honest = statement(member(island))
    records = [
        (Kind.STATEMENT, statement(member(boat))),
        (Kind.STATEMENT, statement(member(receiver))),
        (Kind.RECEIPT, receipt(member(island), statement_id(honest), leaf_hash(honest))),
        (Kind.RECEIPT, receipt(member(boat), statement_id(honest), leaf_hash(honest))),
        (Kind.CHECKPOINT, checkpoint(member(boat), 3)),
        (Kind.CHECKPOINT, checkpoint(member(boat), 3, name="receiver")),
    ]
    said = bring(boat, waters.ports["target"], *records)
    assert said == ["wrong-role"] * 4 + ["unknown-log", "unsigned-note"]


def test_what_a_revoked_node_signed_is_refused_whoever_brings_it(waters: Waters) -> None:
    island = waters.box("island", "operator", tps=[TPS])
    thief = waters.box("thief", "operator", tps=[OTHER_TPS])
    boat = waters.box("boat", "carrier")
    target = waters.box("target", "carrier")
    target.import_(waters.election.revoke("thief", "stolen"))
    target.start()
    stolen = statement(member(thief), tps=OTHER_TPS)
    honest = statement(member(island))
    said = bring(boat, waters.ports["target"], (Kind.STATEMENT, stolen), (Kind.STATEMENT, honest))
    assert said == ["revoked", "new"]
    assert {one["tps"] for one in target.list()} == {TPS}


def test_records_of_an_election_that_looks_alike_are_refused(waters: Waters) -> None:
    """Another office calls its election, its receiver and its devices by the same names."""
    receiver = waters.box("receiver", "receiver")
    pirate = waters.box("pirate", "carrier")
    target = waters.box("target", "carrier")
    target.start()
    office = Election(waters.folder / "other" / "office", REGISTER, election="hostile-2024")
    false: dict[str, Member] = {}
    for name, role, tps in (("island", "operator", [TPS]), ("receiver", "receiver", [])):
        box = NodeBox(waters.folder / "other" / name)
        office.admit(box, role, tps=tps)
        false[name] = member(box)
    (notice, *_) = read_enrolment(office.revoke("island").read_bytes()).notices
    lie = statement(false["island"])
    records = [
        (Kind.STATEMENT, lie),
        (Kind.RECEIPT, receipt(false["receiver"], statement_id(lie), leaf_hash(lie))),
        (Kind.CHECKPOINT, checkpoint(false["receiver"], 3)),
        (Kind.NOTICE, notice),
    ]
    said = bring(pirate, waters.ports["target"], *records)
    assert not {"new", "known", "stale"} & set(said), said
    assert said[0] == said[1] == "foreign-certificate"
    assert bring(pirate, waters.ports["target"], (Kind.CHECKPOINT, checkpoint(member(receiver), 3))) == ["new"]


def test_records_under_a_certificate_that_was_copied_are_refused(waters: Waters) -> None:
    """Certificates are public: they are in every record. Whose is shown has to have the key."""
    island, receiver = waters.box("island", "operator", tps=[TPS]), waters.box("receiver", "receiver")
    pirate = waters.box("pirate", "operator", tps=[OTHER_TPS])
    target = waters.box("target", "carrier")
    target.start()
    key = member(pirate).key
    as_island, as_receiver = replace(member(island), key=key), replace(member(receiver), key=key)
    lie = statement(as_island)
    records = [
        (Kind.STATEMENT, lie),
        (Kind.RECEIPT, receipt(as_receiver, statement_id(lie), leaf_hash(lie))),
        (Kind.CHECKPOINT, checkpoint(as_receiver, 3)),
    ]
    said = bring(pirate, waters.ports["target"], *records)
    assert said == ["bad-signature"] * 3
    assert target.list() == []


def test_what_a_revoked_receiver_signed_is_refused(waters: Waters) -> None:
    receiver = waters.box("receiver", "receiver")
    island = waters.box("island", "operator", tps=[TPS])
    boat = waters.box("boat", "carrier")
    name = StatementId(bytes.fromhex(island.submit(waters.photo(1_000), tps=TPS, form=FORM)))  # type: ignore[arg-type]
    island.import_(waters.election.revoke("receiver", "stolen"))
    island.start()
    thief = member(receiver)
    records = [
        (Kind.RECEIPT, receipt(thief, name, leaf_hash(b"it does not matter which"))),
        (Kind.CHECKPOINT, checkpoint(thief, 3)),
    ]
    said = bring(boat, waters.ports["island"], *records)
    assert said[0] == "revoked"
    assert said[1] in ("revoked", "unknown-log")
    holds(island, ("waiting", None))


def test_an_old_notice_that_is_replayed_changes_nothing(waters: Waters) -> None:
    """A thief brings the revocations as they were before his own."""
    waters.box("first", "operator", tps=[OTHER_TPS])
    thief = waters.box("thief", "operator", tps=[TPS])
    boat = waters.box("boat", "carrier")
    target = waters.box("target", "carrier")
    before = read_enrolment(waters.election.revoke("first").read_bytes()).notices
    target.import_(waters.election.revoke("thief", "stolen"))
    target.start()
    said = bring(boat, waters.ports["target"], *((Kind.NOTICE, raw) for raw in before))
    assert "new" not in said
    assert "stale" in said
    assert sorted(target.status()["revoked"]) == ["first", "thief"]
    assert bring(boat, waters.ports["target"], (Kind.STATEMENT, statement(member(thief)))) == ["revoked"]


def test_a_receipt_for_a_statement_that_is_not_in_the_log_is_told(waters: Waters) -> None:
    """The receiver proves it with a tree of its own making; the log that all see has another one of that size."""
    receiver = waters.box("receiver", "receiver")
    island = waters.box("island", "operator", tps=[TPS], receivers=[receiver])
    boat = waters.box("boat", "carrier")
    island.submit(waters.photo(1_000), tps=TPS, form=FORM)
    for box in (receiver, island):
        box.start()
    holds(island, ("delivered", 0))
    unlogged = statement(member(island), 9, previous=bytes(32))
    lie = receipt(member(receiver), statement_id(unlogged), leaf_hash(unlogged))
    bring(boat, waters.ports["island"], (Kind.RECEIPT, lie))
    eventually(lambda: island.status()["alarms"], 20, "the island tells of it")
    (alarm,) = island.status()["alarms"]
    assert "two different logs" in alarm["what"]
    assert "receipt" in [one["kind"] for one in alarm["evidence"]]


def test_replays_change_nothing(waters: Waters) -> None:
    receiver = waters.box("receiver", "receiver")
    island = waters.box("island", "operator", tps=[TPS], receivers=[receiver])
    pirate = waters.box("pirate", "carrier")
    island.submit(waters.photo(1_000), tps=TPS, form=FORM)
    for box in (receiver, island):
        box.start()
    holds(island, ("delivered", 0))

    async def everything() -> Sequence[tuple[Kind, bytes]]:
        async with Home(island.home).custody() as custody:
            ids = [record for _, record in custody.store.members]
            ids += [one.id for one in await custody.store.bundles()]
            return [(kind, raw) for kind, _, raw in await custody.store.read(ids, 1 << 20)]

    records = asyncio.run(everything())
    assert {kind for kind, _ in records} >= {Kind.STATEMENT, Kind.RECEIPT, Kind.CHECKPOINT}
    for _ in range(20):
        said = bring(pirate, waters.ports["receiver"], *records)
        assert set(said) <= {"known", "stale"}
    holds(receiver, ("delivered", 0))
    assert receiver.status()["alarms"] == []


def test_a_receipt_that_proves_another_entry_frees_nothing_and_is_told(waters: Waters) -> None:
    receiver = waters.box("receiver", "receiver")
    island = waters.box("island", "operator", tps=[TPS])
    boat = waters.box("boat", "carrier")
    honest = waters.photo(1_000)
    name = StatementId(bytes.fromhex(island.submit(honest, tps=TPS, form=FORM)))  # type: ignore[arg-type]
    island.start()
    liar = member(receiver)
    lie = receipt(liar, name, leaf_hash(b"what was never counted"))
    assert bring(boat, waters.ports["island"], (Kind.RECEIPT, lie)) == ["wrong-leaf"]
    holds(island, ("waiting", None))
    assert "CRITICAL" in island.log
    (alarm,) = island.status()["alarms"]
    assert [one["kind"] for one in alarm["evidence"]] == ["receipt"]


def test_a_flood_of_statements_is_held_to_the_quota_and_others_get_through(waters: Waters) -> None:
    flooder = waters.box("flooder", "operator", tps=[OTHER_TPS])
    island = waters.box("island", "operator", tps=[TPS])
    target = waters.box("target", "carrier")
    settings = waters.settings(target)
    target.config(**settings, quota_statements=50, quota_bytes=15_000_000)
    target.start()
    signer = member(flooder)
    chain: list[bytes] = []
    for seq in range(1, 400):
        chain.append(statement(signer, seq, tps=OTHER_TPS, previous=chain[-1] if chain else b""))
    port = waters.ports["target"]
    said = bring(flooder, port, *((Kind.STATEMENT, raw) for raw in chain))
    assert said == ["new"] * 50 + ["over-quota"] * 349
    big = FileEntry("big.jpg", "image/jpeg", 9_999_000, ObjectId(sha256(b"?")), tuple([bytes(32)] * 153))
    assert bring(island, port, (Kind.STATEMENT, statement(member(island), file=big))) == ["new"]
    more = statement(member(island), 2, file=big, previous=chain[0])
    assert bring(island, port, (Kind.STATEMENT, more)) == ["over-quota"], "by bytes, though it brought none"
    assert len(target.list()) == 51


MUCH = (1 << 63) - 1
COUNTS = {
    "an array of 2**63 ids": ("/records/get", b"\x9b" + MUCH.to_bytes(8)),
    "a string of 2**63 bytes": ("/records/get", b"\x5b" + MUCH.to_bytes(8)),
    "one id too many": ("/records/get", encode(bytes(32 * (MAX_IDS + 1)))),
    "a map of 2**63 pairs": ("/hello", b"\xbb" + MUCH.to_bytes(8)),
    "arrays in arrays": ("/inquire", b"\x81" * 200_000),
    "an array of 200 000 nothings": ("/holdings", b"\x9a" + (200_000).to_bytes(4) + b"\xf6" * 200_000),
    "half a span": ("/chunks/get", bytes(35)),
    "5 000 objects that are not wanted": ("/wants", encode(bytes(32 * 5_000))),
    "a wait of 2**63": ("/inquire", encode({"statements": b"", "wait": MUCH})),
    "a record of 2**32 bytes": ("/records/put", RECORD_HEAD.pack(4, 0xFFFF_FFFF) + bytes(9)),
    "a record too large": ("/records/put", RECORD_HEAD.pack(4, 60_001) + bytes(60_001)),
    "5 000 records": ("/records/put", (RECORD_HEAD.pack(4, 1) + b"x") * 5_000),
    "a chunk of 2**32 bytes": ("/chunks/put", FRAME_HEAD.pack(bytes(32), 0, 0, 0xFFFF_FFFF) + bytes(9)),
    "2**63 ids in a range": ("/reconcile", bytes([VERSION]) + b"\0\0" + varint(2) + varint(MUCH)),
    "a kind of 2**63": ("/reconcile", bytes([VERSION]) + varint(MUCH) + b"\0\0"),
    "100 000 ranges": ("/reconcile", bytes([VERSION]) + b"\1\0\0" * 80_000),
    "a tree of 2**63 leaves": ("/consistency", encode([1, MUCH])),
    "a tree that shrinks": ("/consistency", encode([5, 1])),
}


def test_huge_counts_and_sizes_are_refused_in_every_message(waters: Waters) -> None:
    receiver, pirate = waters.box("receiver", "receiver"), waters.box("pirate", "carrier")
    receiver.start()
    for what, (path, body) in COUNTS.items():
        status, said = ask(pirate, waters.ports["receiver"], path, body)
        assert (status, b"relay:problem/malformed" in said) == (400, True), (what, status, said[:300])


PATHS = ["../../etc/passwd", "/etc/passwd", "..", ".profile", "a\\b", "C:x"]
UNPRINTABLE = ["a\x00b", "\x1b[2J", "a\u202egpj.exe", " a", "", "x" * 256]
NAMES = PATHS + UNPRINTABLE


def test_a_reason_that_commands_a_terminal_is_refused(waters: Waters) -> None:
    island = waters.box("island", "operator", tps=[TPS])
    target = waters.box("target", "carrier")
    target.start()
    signer = member(island)
    who = signer.identity
    for place, reason in enumerate(("\x1b]0;owned\x07", "a\r\nERROR b", "a\u202eb")):
        earlier = statement_id(b"%d" % place)
        package = Package(who.election, TPS, FORM, 2, earlier, 0, (FILE,), supersedes=earlier, reason=reason)
        raw = sign_statement(package, who.uri, who.certificate, signer.key)
        assert bring(island, waters.ports["target"], (Kind.STATEMENT, raw)) == ["malformed"]
    assert "\x1b" not in target.log


def test_names_that_lead_elsewhere_or_cannot_be_printed_are_refused_on_every_way_in(waters: Waters) -> None:
    island = waters.box("island", "operator", tps=[TPS])
    target = waters.box("target", "carrier")
    stick = waters.folder / "stick"
    (stick / "statements").mkdir(parents=True)
    statements = [statement(member(island), file=replace(FILE, name=name)) for name in NAMES]
    for number, raw in enumerate(statements):
        (stick / "statements" / f"{number}.cose").write_bytes(raw)
    done = target.relay("import", stick, check=False)
    assert done.status == 1
    assert done.stderr.count("unsafe name") == len(NAMES)
    assert "\x1b" not in done.stderr
    target.start()
    said = bring(island, waters.ports["target"], *((Kind.STATEMENT, raw) for raw in statements))
    assert said == ["malformed"] * len(NAMES)
    assert target.list() == []
    assert "\x1b" not in target.log


def test_an_object_on_a_stick_cannot_name_a_file_elsewhere(waters: Waters, tmp_path: Path) -> None:
    island = waters.box("island", "operator", tps=[TPS])
    secret = tmp_path / "secret"
    secret.write_bytes(b"photograph")
    stick = waters.folder / "stick"
    for name in ("statements", "objects"):
        (stick / name).mkdir(parents=True)
    raw = statement(member(island))
    (stick / "statements" / "1.cose").write_bytes(raw)
    (stick / "objects" / sha256(b"photograph").hex()).symlink_to(secret)
    target = waters.box("target", "carrier")
    target.relay("import", stick, check=False)
    (bundle,) = target.list()
    assert bundle["bytes_held"] == 0
    assert target.relay("cat", "../../etc/passwd", check=False).status == 2
    target.export(tmp_path / "out")
    assert {file.parent.name for file in (tmp_path / "out").rglob("*") if file.is_file()} <= {"notices", "statements"}


def administer(box: NodeBox, *arguments: str | Path, check: bool = True) -> Outcome:
    """Run `relay receiver ARGUMENTS` on a box."""
    command, *rest = arguments
    argv = [*RELAY, "receiver", command, "--home", box.home, *rest]
    return box.host.run(argv, env={"PYTHONPATH": str(Path(__file__).parents[2])}, check=check)


def test_a_sealed_package_overwrites_nothing_where_it_is_opened(waters: Waters, tmp_path: Path) -> None:
    receiver = waters.box("receiver", "receiver")
    island = waters.box("island", "operator", tps=[TPS])
    public = administer(receiver, "sealing-key").text
    notices = tmp_path / "sealed.pem"
    waters.election.authority("seal", waters.election.folder, "receiver", public, "-o", notices)
    for box in (receiver, island):
        box.import_(notices)
    name = island.submit(waters.photo(1_000, "tally.json"), tps=TPS, form=FORM, tally={"voters": 7})
    island.export(tmp_path / "stick")
    receiver.import_(tmp_path / "stick")
    done = administer(receiver, "open", name, tmp_path / "opened", check=False)
    assert (done.status, "exists already" in done.stderr) == (1, True), done.stderr
    assert (tmp_path / "opened" / "tally.json").read_bytes() == (waters.folder / "tally.json").read_bytes()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "tally.json").write_text("mine")
    assert administer(receiver, "open", name, tmp_path / "home", check=False).status == 1
    assert (tmp_path / "home" / "tally.json").read_text() == "mine"
