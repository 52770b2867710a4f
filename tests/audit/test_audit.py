"""An honest log passes its audit; and each way of tampering with one is named (promise 8)."""

from __future__ import annotations

import json
import shutil
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from relay.cli.audit import audit
from relay.errors import BadInput, Malformed, NotHeld, Refused, Unreachable
from relay.limits import AUDIT_PATIENCE_SECONDS, AUDIT_RECEIPTS, AUDIT_SIGHTINGS, MAX_CHECKPOINT
from relay.log.checkpoint import Checkpoint, cosign, sign_checkpoint
from relay.log.merkle import leaf_hash, root_from_inclusion
from relay.log.note import parse_note
from relay.log.tiles import TileId
from relay.net.source import open_source
from relay.receiver.auditing import Audit, Report, Scope, admit_notices, read_checkpoint, read_notices
from relay.receiver.chains import Fork, Gap
from relay.receiver.ledger import Ledger
from relay.records.identifiers import ObjectId, StatementId
from relay.records.notice import Revocation, Revocations, Witnesses
from relay.records.receipt import Inclusion, read_receipt
from relay.records.statement import FileEntry, read_statement, sign_statement
from relay.trust.admission import Admission
from relay.trust.certificates import make_root
from relay.trust.enrolment import pem_block
from relay.trust.roles import Role
from relay.trust.witness import log_key, public_bytes, witness_key
from tests import naive_tree
from tests.audit.published import Published, flipped, web_server
from tests.factory import ELECTION, ISSUED_AT, make_election, make_node, make_statement

ALL = Scope()
HASHES = Scope(signatures=False)
ENTRIES = Scope(receipts=False, objects=False)


def nothing(_what: str, _done: int, _total: int) -> None:
    """Nobody watches."""


async def audited(
    log: Published,
    scope: Scope = ALL,
    state: Path | None = None,
    url: str = "",
    progress: Any = nothing,
    now: float = 0.0,
) -> Report:
    """Audit a log as the command does."""
    admission = Admission(log.election.root)
    async with open_source(url or log.url) as source:
        admit_notices(admission, await read_notices(source))
        signed = await read_checkpoint(source, admission)
        ledger = Ledger(state, log.election.root, signed.checkpoint.origin)
        try:
            return await Audit(source, admission, signed, ledger, scope, progress, lambda: now).run()
        finally:
            ledger.close()


async def wrong(log: Published, reason: str, scope: Scope = ALL, state: Path | None = None, now: float = 0.0) -> str:
    """What an audit says is wrong first, for the reason expected."""
    with pytest.raises(Refused) as refused:
        await audited(log, scope, state, now=now)
    assert refused.value.reason == reason, refused.value
    return refused.value.what


# -- an honest log


@pytest.mark.parametrize("scope", [Scope(), HASHES, ENTRIES, Scope(objects=False)])
async def test_an_honest_log_is_right(log: Published, scope: Scope) -> None:
    report = await audited(log, scope)
    assert (report.size, report.entries, report.root) == (530, 530, log.root)
    assert report.receipts == (530 if scope.signatures and scope.receipts else 0)
    assert report.objects == (6 if scope.signatures and scope.objects else 0)
    assert (report.findings_total, report.revoked, report.growth_from) == (0, {}, 0)


async def test_an_empty_log_is_right(tmp_path: Path) -> None:
    report = await audited(Published.make(tmp_path / "public"))
    assert (report.size, report.entries) == (0, 0)


async def test_it_is_the_same_over_http_and_in_processes(log: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.receiver.auditing._WORTH_PROCESSES", 0)
    async with web_server(log.folder) as url:
        report = await audited(log, Scope(jobs=2), url=url)
    assert (report.entries, report.receipts, report.objects) == (530, 530, 6)


async def test_a_partial_tile_that_was_replaced_by_a_full_one_is_no_fault(log: Published) -> None:
    checkpoint = (log.folder / "checkpoint").read_bytes()
    log.publish([log.say().raw for _ in range(300)])
    log.put("checkpoint", checkpoint)
    for folder in log.folder.rglob("*.p"):
        if (folder.parent / folder.name[:-2]).exists():
            shutil.rmtree(folder)
    assert (await audited(log)).size == 530


async def test_progress_is_told(log: Published) -> None:
    told: dict[str, tuple[int, int]] = {}
    await audited(log, progress=lambda what, done, total: told.__setitem__(what, (done, total)))
    assert told == {"entries": (530, 530), "receipts": (530, 530), "objects": (6, 6)}


# -- the checkpoint


async def test_a_checkpoint_altered(log: Published) -> None:
    log.alter("checkpoint", lambda raw: raw.replace(b"\n530\n", b"\n529\n"))
    assert "signature" in await wrong(log, "bad-signature")


async def test_a_checkpoint_of_a_receiver_that_no_notice_names(log: Published) -> None:
    log.sign(530, log.root, by=make_node(log.election, "receiver", Role.RECEIVER))
    await wrong(log, "unsigned-note")


async def test_a_receiver_that_was_revoked(log: Published) -> None:
    node = log.receiver.identity
    log.announce(Revocations((Revocation(node.node, node.name, "stolen"),)))
    await wrong(log, "revoked")


async def test_a_notice_altered_or_of_another_election(log: Published) -> None:
    other = make_election(99)
    log.notices.append(Published.make(log.folder.with_name("other"), 99).notices[0])
    log.announce(Witnesses(()))
    assert other.root != log.election.root
    await wrong(log, "foreign-certificate")


async def test_a_root_that_the_entries_do_not_lead_to(log: Published) -> None:
    log.sign(530, bytes(32))
    await wrong(log, "wrong-root")


# -- entries and tiles


@pytest.mark.parametrize("entry", [0, 255, 256, 529])
async def test_an_entry_altered(log: Published, entry: int) -> None:
    forge(log, entry)
    assert f"Entry {entry} " in await wrong(log, "wrong-entry")


@pytest.mark.parametrize("entry", [255, 511, 512, 529])
async def test_a_forged_signature_in_several_bundles_that_are_judged_together(
    log: Published, entry: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.receiver.auditing._stretch", lambda *_: 2)
    assert (await audited(log)).entries == 530
    for forged in {529, entry}:
        forge(log, forged)
    assert f"Entry {entry} " in await wrong(log, "wrong-entry")


async def test_what_is_wrong_before_a_bundle_that_is_missing_is_told_first(
    log: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.receiver.auditing._stretch", lambda *_: 3)
    (log.folder / "tile/entries/001").unlink()
    with pytest.raises(NotHeld, match="tile/entries/001"):
        await audited(log)
    forge(log, 255)
    assert "Entry 255 " in await wrong(log, "wrong-entry")


async def test_a_forged_signature_that_another_process_finds(log: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.receiver.auditing._WORTH_PROCESSES", 0)
    forge(log, 529)
    assert "Entry 529 " in await wrong(log, "wrong-entry", Scope(jobs=2))
    forge(log, 529)  # as it was
    receipt = f"receipt/{log.device.chain[511].hex()}"
    log.alter(receipt, flipped)
    assert "entry 511 " in await wrong(log, "wrong-receipt", Scope(jobs=2))


def forge(log: Published, entry: int) -> None:
    """Change one bit of an entry's signature."""
    log.alter_bundle(
        entry // 256, lambda raws: [flipped(raw) if at == entry % 256 else raw for at, raw in enumerate(raws)]
    )


async def test_two_entries_in_each_others_place(log: Published) -> None:
    log.alter_bundle(0, lambda raws: [*raws[:7], raws[8], raws[7], *raws[9:]])
    assert "Entry 7 " in await wrong(log, "wrong-tile")


async def test_an_entry_replaced_together_with_its_tile(log: Published) -> None:
    stranger = log.say().raw
    log.alter_bundle(2, lambda raws: [stranger, *raws[1:]])
    log.alter(TileId(0, 2, 18).path, lambda tile: leaf_hash(stranger) + tile[32:])
    await wrong(log, "wrong-root")


async def test_an_entry_taken_away(log: Published) -> None:
    log.alter_bundle(2, lambda raws: raws[:-1])
    assert "Entry 529 " in await wrong(log, "wrong-entry")


async def test_a_bundle_cut_short_and_one_without_end(log: Published) -> None:
    log.alter("tile/entries/001", lambda bundle: bundle[:-1])
    assert "Entry 256 " in await wrong(log, "wrong-entry")
    log.put("tile/entries/001", bytes(256 * 60_002 + 1))
    with pytest.raises(Malformed, match="tile/entries/001 is over the limit"):
        await audited(log)


@pytest.mark.parametrize("path", ["tile/entries/001", "tile/0/001", "tile/1/000.p/2"])
async def test_a_file_of_the_log_that_is_missing(log: Published, path: str) -> None:
    (log.folder / path).unlink()
    with pytest.raises(NotHeld, match=path.removesuffix(".p/2")):
        await audited(log)


@pytest.mark.parametrize("path", ["tile/0/000", "tile/0/002.p/18", "tile/1/000.p/2"])
async def test_a_tile_altered(log: Published, path: str) -> None:
    log.alter(path, flipped)
    await wrong(log, "wrong-tile")
    await wrong(log, "wrong-tile", HASHES)


async def test_a_tile_with_more_than_there_is(log: Published) -> None:
    log.alter("tile/0/002.p/18", lambda tile: tile + bytes(32))
    assert "tile/0/002.p/18 has more hashes" in await wrong(log, "wrong-tile")


async def test_a_statement_that_stands_in_the_log_twice(log: Published) -> None:
    log.publish([log.raws[3]])
    assert await wrong(log, "twice-in-log") == "Entries 3 and 530 of the log are the same statement"
    raw = log.say().raw
    log.rewrite([raw, raw])
    assert await wrong(log, "twice-in-log") == "Entries 0 and 1 of the log are the same statement"


def by_a_carrier(log: Published) -> bytes:
    carrier = make_node(log.election, "boat", Role.CARRIER)
    return signed_as(log, carrier.identity.uri, carrier.identity.certificate, carrier.key)


def in_another_name(log: Published) -> bytes:
    return signed_as(log, "relay://test-2024/node/other", log.device.identity.certificate, log.device.key)


def of_another_station(log: Published) -> bytes:
    identity = make_node(log.election, "elsewhere", tps=["tps-9"])
    return signed_as(log, identity.identity.uri, identity.identity.certificate, identity.key)


def under_another_root(_log: Published) -> bytes:
    other = make_election(99)
    return make_statement(other, make_node(other, "pulau")).raw


def no_statement(_log: Published) -> bytes:
    return b"\xd2\x84not a statement"


def signed_as(log: Published, issuer: str, certificate: bytes, key: Any) -> bytes:
    return sign_statement(read_statement(log.raws[0]).package, issuer, certificate, key)


@pytest.mark.parametrize("make", [by_a_carrier, in_another_name, of_another_station, under_another_root, no_statement])
async def test_an_entry_that_was_never_to_be_admitted(log: Published, make: Callable[[Published], bytes]) -> None:
    log.publish([log.say().raw, make(log)])
    assert "Entry 531 " in await wrong(log, "wrong-entry")
    assert (await audited(log, HASHES)).size == 532


# -- receipts and objects


async def test_a_receipt_that_is_missing_altered_or_of_another_entry(log: Published) -> None:
    receipts = [f"receipt/{name.hex()}" for name in log.device.chain[:3]]
    whole = (log.folder / receipts[1]).read_bytes()
    (log.folder / receipts[1]).unlink()
    assert "Entry 1 " in await wrong(log, "missing-receipt")
    log.put(receipts[1], flipped(whole, len(whole) // 2))
    assert "entry 1 " in await wrong(log, "wrong-receipt")
    log.put(receipts[1], (log.folder / receipts[2]).read_bytes())
    assert "another statement" in await wrong(log, "wrong-receipt")
    (log.folder / receipts[2]).unlink()
    assert "another statement" in await wrong(log, "wrong-receipt"), "the first fault is told, of whatever kind"
    assert (await audited(log, Scope(receipts=False))).size == 530


@pytest.mark.parametrize("entry", [0, 1, 511, 512, 529])
async def test_a_forged_signature_of_a_receipt(log: Published, entry: int) -> None:
    log.alter(f"receipt/{log.device.chain[529].hex()}", flipped)
    log.alter(f"receipt/{log.device.chain[entry].hex()}", lambda raw: flipped(raw, -40))
    told = await wrong(log, "wrong-receipt")
    assert f"entry {entry} " in told and "signature" in told


async def test_receipts_that_were_found_right_before_a_false_one_are_not_read_again(
    log: Published, tmp_path: Path
) -> None:
    state, receipt = tmp_path / "audit.state", f"receipt/{log.device.chain[520].hex()}"
    log.alter(receipt, flipped)
    assert "entry 520 " in await wrong(log, "wrong-receipt", state=state)
    log.alter(receipt, flipped)
    assert (await audited(log, state=state)).receipts == 530 - AUDIT_RECEIPTS
    assert (await audited(log, state=state)).receipts == 0


async def test_a_receipt_that_is_too_long_to_be_one(log: Published) -> None:
    log.put(f"receipt/{log.device.chain[7].hex()}", bytes(60_001))
    assert "entry 7 " in await wrong(log, "wrong-receipt")


async def test_a_receipt_by_somebody_else(log: Published) -> None:
    receipts, chain = log.receiver, log.device.chain
    for by, why in (
        (make_node(log.election, "boat", Role.CARRIER), "may not sign"),
        (make_node(make_election(99), "receiver", Role.RECEIVER), "election"),
        (type(receipts)(receipts.identity, make_node(log.election, "other").key), "signature"),
    ):
        whole = (log.folder / f"receipt/{chain[9].hex()}").read_bytes()
        log.receiver = by
        log.put_receipt(log.raws[9], leaf_hash(log.raws[9]), read_receipt(whole).inclusion, log.root)
        told = await wrong(log, "wrong-receipt")
        assert "entry 9 " in told and why in told
        log.put(f"receipt/{chain[9].hex()}", whole)
    assert (await audited(log)).receipts == 530


async def test_a_receipt_by_a_receiver_revoked_since(log: Published) -> None:
    old = make_node(log.election, "receiver-old", Role.RECEIVER)
    log.receiver, mine = old, log.receiver
    path = tuple(naive_tree.inclusion(9, [leaf_hash(one) for one in log.raws]))
    log.put_receipt(log.raws[9], leaf_hash(log.raws[9]), Inclusion(530, 9, path), log.root)
    assert (await audited(log)).receipts == 530
    log.receiver = mine
    log.announce(Revocations((Revocation(old.identity.node, old.identity.name, "stolen"),)))
    assert "entry 9 " in await wrong(log, "wrong-receipt")


async def test_a_receipt_of_another_log(log: Published) -> None:
    raw, leaf = log.raws[5], leaf_hash(log.raws[5])
    log.put_receipt(raw, leaf, Inclusion(1, 0, ()), leaf)
    assert "another entry" in await wrong(log, "wrong-receipt")
    leaves = [leaf_hash(one) for one in log.raws]
    path = tuple(naive_tree.inclusion(5, leaves))
    other = (bytes(32), *path[1:])
    log.put_receipt(raw, leaf, Inclusion(530, 5, other), root_from_inclusion(leaf, 5, 530, other))
    assert "entry 5 " in await wrong(log, "split-view")
    log.put_receipt(raw, leaf, Inclusion(600, 5, path), root_from_inclusion(leaf, 5, 600, path))
    await wrong(log, "wrong-receipt")


@pytest.mark.parametrize("change", [flipped, lambda raw: raw[:-1], lambda raw: raw + b"\0"])
async def test_an_object_altered(log: Published, change: Callable[[bytes], bytes]) -> None:
    path = next(iter(sorted((log.folder / "object").iterdir())))
    log.alter(f"object/{path.name}", change)
    assert path.name in await wrong(log, "wrong-object")


async def test_a_false_size_is_its_signers_fault_and_not_the_logs(log: Published) -> None:
    thief = make_node(log.election, "thief")
    path = next(iter(sorted((log.folder / "object").iterdir())))
    lie = FileEntry("x.jpg", "image/jpeg", 5, ObjectId(bytes.fromhex(path.name)), (bytes(32),))
    log.publish([make_statement(log.election, thief, lie).raw])
    assert (await audited(log)).missized == 1


async def test_an_object_that_is_missing(log: Published) -> None:
    path = next(iter(sorted((log.folder / "object").iterdir())))
    path.unlink()
    assert path.name in await wrong(log, "missing-object")
    assert (await audited(log, Scope(objects=False))).size == 530


# -- growth, and going on


async def test_growth_is_proved_and_only_what_is_new_is_checked(log: Published, tmp_path: Path) -> None:
    state = tmp_path / "audit.state"
    assert (await audited(log, state=state)).entries == 530
    assert (await audited(log, state=state)).entries == 530 % 256
    log.publish([log.say(b"new photograph").raw for _ in range(300)])
    report = await audited(log, state=state)
    assert (report.growth_from, report.size, report.entries) == (530, 830, 830 - 512)
    assert (report.receipts, report.objects) == (300, 300)


async def test_a_log_that_shrank(log: Published, tmp_path: Path) -> None:
    state = tmp_path / "audit.state"
    checkpoint = (log.folder / "checkpoint").read_bytes()
    log.publish([log.say().raw])
    await audited(log, state=state)
    log.put("checkpoint", checkpoint)
    (log.folder / TileId(0, 2, 19).path).unlink()
    assert "shows 530 entries, and showed 531 before" in await wrong(log, "shrunken-log", state=state)


@pytest.mark.parametrize(("more", "full"), [(1, False), (300, True)])
async def test_an_old_copy_is_no_fault(log: Published, tmp_path: Path, more: int, full: bool) -> None:
    state = tmp_path / "audit.state"
    checkpoint = (log.folder / "checkpoint").read_bytes()
    log.publish([log.say().raw for _ in range(more)])
    newest = (log.folder / "checkpoint").read_bytes()
    await audited(log, state=state)
    log.put("checkpoint", checkpoint)
    if full:  # what was hashed here is enough to prove it
        shutil.rmtree(log.folder / "tile")
    assert "530 entries, the beginning of the" in await wrong(log, "old-copy", state=state)
    log.sign(530, bytes(32))
    await wrong(log, "split-view" if full else "inconsistent-log", state=state)
    log.put("checkpoint", newest)
    if not full:
        assert (await audited(log, state=state)).growth_from == 531  # the old one is not what is remembered


# -- a site that is behind its log


async def test_what_the_site_does_not_show_yet_is_left_to_the_next_audit(log: Published, tmp_path: Path) -> None:
    state = tmp_path / "audit.state"
    away = [f"receipt/{name.hex()}" for name in log.device.chain[530 - 3 :]]
    objects = [f"object/{one.name}" for one in sorted((log.folder / "object").iterdir())]
    kept = {path: (log.folder / path).read_bytes() for path in (*away, *objects)}
    for path in kept:
        (log.folder / path).unlink()
    log.put("site.json", b'{"entries":0}')
    report = await audited(log, state=state)
    assert (report.receipts, report.objects, report.unpublished) == (527, 0, 0)
    for path in objects:
        log.put(path, kept[path])
    log.put("site.json", b'{"entries":527}')
    report = await audited(log, state=state)
    assert (report.receipts, report.objects, report.unpublished) == (0, 6, 527)
    log.put("site.json", b'{"entries":528}')
    assert "Entry 527 " in await wrong(log, "missing-receipt", state=state)
    for path in away:
        log.put(path, kept[path])
    report = await audited(log, state=state)
    assert (report.receipts, report.objects, report.unpublished) == (3, 0, None)


def hide(log: Published, shown: int = 0) -> None:
    """Show no receipt and no object, and say that the site is not as far."""
    for folder in ("receipt", "object"):
        shutil.rmtree(log.folder / folder, ignore_errors=True)
    log.put("site.json", b'{"entries":%d}' % shown)


async def test_what_is_never_published_is_a_fault_when_the_auditor_has_waited_long_enough(
    log: Published, tmp_path: Path
) -> None:
    state, kept = tmp_path / "audit.state", tmp_path / "kept"
    shutil.copytree(log.folder, kept)
    hide(log)
    for now in (0.0, 3_600.0, AUDIT_PATIENCE_SECONDS - 1.0):
        report = await audited(log, state=state, now=now)
        assert (report.unpublished, report.unpublished_for) == (0, now)
    late = await wrong(log, "not-published", state=state, now=AUDIT_PATIENCE_SECONDS)
    assert late.startswith("Entry 0 is in the log for 12 hours at least, and not published whole: receipt/")
    assert "Entry 0 " in await wrong(log, "not-published", state=state, now=1e9)
    quick = await wrong(log, "not-published", Scope(patience=3_600.0), state, 3_600.0)
    assert quick.startswith("Entry 0 is in the log for 1 hours at least")
    (log.folder / "site.json").unlink()
    assert "Entry 0 " in await wrong(log, "missing-receipt", state=state)
    shutil.copytree(kept, log.folder, dirs_exist_ok=True)
    assert (await audited(log, state=state, now=1e9)).unpublished is None, "it was late, and is there"


async def test_all_may_be_asked_for_at_once(log: Published) -> None:
    hide(log)
    assert (await audited(log)).unpublished == 0
    told = await wrong(log, "not-published", Scope(patience=0.0))
    assert told.startswith("Entry 0 is not published whole: receipt/")
    told = await wrong(log, "not-published", Scope(patience=0.0, receipts=False))
    assert told.startswith("Entry 0 is not published whole: object/")


async def test_a_site_that_moves_on_by_an_entry_a_day_is_late_all_the_same(log: Published, tmp_path: Path) -> None:
    state, day = tmp_path / "audit.state", 86_400.0
    kept = {f"receipt/{name.hex()}": (log.folder / f"receipt/{name.hex()}").read_bytes() for name in log.device.chain}
    hide(log)
    assert (await audited(log, Scope(objects=False), state)).unpublished == 0
    for number, (path, content) in enumerate(list(kept.items())[:3]):
        log.put(path, content)
        log.put("site.json", b'{"entries":%d}' % (number + 1))
        told = await wrong(log, "not-published", Scope(objects=False), state, day * (number + 1))
        assert told.startswith(f"Entry {number + 1} is in the log for {24 * (number + 1)} hours")


async def test_what_came_lately_has_its_own_time(log: Published, tmp_path: Path) -> None:
    state, hour = tmp_path / "audit.state", 3_600.0
    for now in range(0, 48, 6):  # the site is never as far as the log, and never more than six hours behind
        log.put("site.json", b'{"entries":%d}' % len(log.raws))
        log.publish([log.say().raw])
        newest = log.folder / f"receipt/{log.device.chain[-1].hex()}"
        content = newest.read_bytes()
        newest.unlink()
        report = await audited(log, state=state, now=now * hour)
        assert (report.unpublished, report.unpublished_for) == (len(log.raws) - 1, 0.0)
        newest.write_bytes(content)


async def test_an_audit_that_did_not_look_remembers_when_it_saw_the_log(log: Published, tmp_path: Path) -> None:
    state = tmp_path / "audit.state"
    hide(log)
    assert (await audited(log, HASHES, state, now=5.0)).unpublished is None
    assert "Entry 0 " in await wrong(log, "not-published", state=state, now=5.0 + AUDIT_PATIENCE_SECONDS)


async def test_a_clock_that_was_ahead_excuses_nobody(log: Published, tmp_path: Path) -> None:
    state = tmp_path / "audit.state"
    hide(log)
    assert (await audited(log, state=state, now=1e9)).unpublished == 0
    assert (await audited(log, state=state, now=100.0)).unpublished_for == 0.0
    await wrong(log, "not-published", state=state, now=100.0 + AUDIT_PATIENCE_SECONDS)


def test_the_times_that_are_remembered_are_few_and_the_oldest_stays(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "audit.state", b"root", "origin")
    count = 5 * AUDIT_SIGHTINGS
    for number in range(count):
        with ledger.step():
            ledger.note_sighting(10 * (number + 1), float(number))
        assert len(ledger._sightings()) <= AUDIT_SIGHTINGS
    assert ledger.seen_since(0, 1e9) == 0.0
    assert ledger.seen_since(10 * count - 1, 1e9) == count - 1
    for entry in range(0, 10 * count, 97):
        assert entry // 10 <= ledger.seen_since(entry, 1e9) < count, "never longer than it was seen"
    assert ledger.seen_since(10 * count, 1e9) == 1e9
    ledger.forget_sightings(10 * count)
    assert ledger._sightings() == []
    ledger.close()


@pytest.mark.parametrize("site", [b"{}", b"[]", b"{", b'{"entries":"0"}'])
async def test_a_site_that_does_not_say_how_far_it_is_excuses_nothing(log: Published, site: bytes) -> None:
    log.put("site.json", site)
    (log.folder / f"receipt/{log.device.chain[529].hex()}").unlink()
    await wrong(log, "missing-receipt")


@pytest.mark.parametrize("more", [0, 1, 300])
async def test_a_log_that_was_rewritten(log: Published, tmp_path: Path, more: int) -> None:
    state = tmp_path / "audit.state"
    await audited(log, state=state)
    log.rewrite([*log.raws[:200], log.say().raw, *log.raws[201:], *(log.say().raw for _ in range(more))])
    await wrong(log, "inconsistent-log", state=state)
    assert (await audited(log)).size == 530 + more  # nothing but the memory of the first shows it


async def test_an_audit_that_was_interrupted_goes_on(log: Published, tmp_path: Path) -> None:
    state = tmp_path / "audit.state"
    last = sorted((log.folder / "object").iterdir())[-1]
    content = last.read_bytes()
    last.unlink()
    await wrong(log, "missing-object", state=state)
    last.write_bytes(content)
    report = await audited(log, state=state)
    assert (report.entries, report.receipts, report.objects) == (530 % 256, 0, 6)
    assert (await audited(log, state=state)).objects == 0


async def test_what_was_left_out_is_checked_by_a_later_audit(log: Published, tmp_path: Path) -> None:
    state = tmp_path / "audit.state"
    await audited(log, HASHES, state)
    log.alter_bundle(0, lambda raws: [*raws[:7], raws[8], raws[7], *raws[9:]])
    await wrong(log, "altered-entry", state=state)
    log.alter_bundle(0, lambda raws: [*raws[:7], raws[8], raws[7], *raws[9:]])
    assert (await audited(log, ENTRIES, state)).entries == 530
    report = await audited(log, state=state)
    assert (report.receipts, report.objects) == (530, 6)


async def test_the_state_of_another_log_and_a_file_that_is_none(log: Published, tmp_path: Path) -> None:
    state = tmp_path / "audit.state"
    await audited(Published.make(tmp_path / "other", 99), state=state)
    with pytest.raises(BadInput, match="another log"):
        await audited(log, state=state)
    for content in (b"something else entirely" * 100, b"x"):
        state.write_bytes(content)
        with pytest.raises(BadInput, match="not the state of an audit"):
            await audited(log, state=state)
        assert state.read_bytes() == content


# -- what is told beside


async def test_a_signer_revoked_since_is_told_of(log: Published) -> None:
    node = log.device.identity
    log.announce(Revocations((Revocation(node.node, node.name, "lost at sea"),)))
    assert (await audited(log)).revoked == {"pulau": 530}


async def test_gaps_and_forks_of_devices_are_told_of(log: Published) -> None:
    device = make_node(log.election, "pulau-dua")
    said = [log.say(device=device) for _ in range(4)]
    del device.chain[2:]
    twin = log.say(b"another third", device=device)
    log.publish([said[0].raw, said[2].raw, twin.raw])
    findings = (await audited(log)).findings
    assert [type(one) for one in findings] == [Gap, Fork]
    assert findings[0] == Gap(device.identity.node, 2, 2, (StatementId(said[1].id),))
    assert isinstance(findings[1], Fork) and findings[1].seq == 3


async def test_witnesses_are_named(log: Published) -> None:
    boat = make_node(log.election, "km-bahari", Role.CARRIER)
    public = public_bytes(boat.identity.key)
    log.announce(Witnesses((("km-bahari", public),)))
    key = witness_key("test-2024", "km-bahari", public)
    log.alter("checkpoint", lambda raw: cosign(parse_note(raw), key, boat.key, 1_700_000_000).to_bytes())
    assert (await audited(log)).cosigned_by == ["test-2024/km-bahari"]
    stranger = make_node(log.election, "km-lain", Role.CARRIER)
    unknown = witness_key("test-2024", "km-lain", public_bytes(stranger.identity.key))
    log.alter("checkpoint", lambda raw: cosign(parse_note(raw), unknown, stranger.key, 1).to_bytes())
    assert (await audited(log)).cosigned_by == ["test-2024/km-bahari"]


async def test_what_was_cosigned_before_the_log_grew_on_is_told(log: Published) -> None:
    carrier = make_node(log.election, "km-bahari", Role.CARRIER)
    public = public_bytes(carrier.identity.key)
    log.announce(Witnesses((("km-bahari", public),)), 2)
    key = witness_key("test-2024", "km-bahari", public)
    note = cosign(parse_note((log.folder / "checkpoint").read_bytes()), key, carrier.key, 1_700_000_000)
    log.publish([log.say().raw for _ in range(7)])
    assert (await audited(log)).cosigned_by == []
    log.put("checkpoint.cosigned", note.to_bytes())
    report = await audited(log)
    assert (report.size, report.cosigned, report.cosigned_by) == (537, 530, ["test-2024/km-bahari"])
    tree = Checkpoint("test-2024/receiver", 529, bytes(32))
    other = parse_note(sign_checkpoint(tree, log_key(log.receiver.identity), log.receiver.key))
    log.put("checkpoint.cosigned", cosign(other, key, carrier.key, 1_700_000_000).to_bytes())
    await wrong(log, "split-view")


# -- the command


def test_the_command(log: Published, tmp_path: Path) -> None:
    options = ["--root", str(log.root_file), "--state", str(tmp_path / "state"), "--jobs", "1"]
    done = CliRunner().invoke(audit, [log.url, *options])
    assert (done.exit_code, done.exception) == (0, None)
    assert "530 entries" in done.stdout and "530 receipts, 6 objects" in done.stdout
    told = json.loads(CliRunner().invoke(audit, [log.url, *options, "--json"]).stdout)
    assert (told["ok"], told["size"], told["grown_from"]) == (True, 530, 530)
    log.alter("checkpoint", lambda raw: raw.replace(b"\n530\n", b"\n529\n"))
    refused = CliRunner().invoke(audit, [log.url, *options, "--json"], standalone_mode=False)
    assert refused.return_value == 1
    failed = json.loads(refused.stdout)
    assert (failed["reason"], failed["outcome"], failed["status"]) == ("bad-signature", "wrong", 1)


def ended(*arguments: str | Path) -> tuple[int, str, dict[str, Any]]:
    """How the command ended, what it said of it, and what it says with `--json`."""
    said = CliRunner().invoke(audit, [*map(str, arguments), "--jobs", "1"], standalone_mode=False)
    document = CliRunner().invoke(audit, [*map(str, arguments), "--jobs", "1", "--json"], standalone_mode=False)
    told = json.loads(document.stdout)
    assert document.return_value == said.return_value == told["status"]
    return told["status"], " ".join((said.stdout + said.stderr).split()), told


def test_how_the_command_ends_tells_what_it_found(
    log: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    state = tmp_path / "audit.state"
    command: list[str | Path] = [log.url, "--root", log.root_file, "--state", state]
    status, _, told = ended(*command)
    assert (status, told["ok"], told["outcome"]) == (0, True, "right")
    before = (log.folder / "checkpoint").read_bytes()
    log.publish([log.say().raw])
    assert ended(*command)[0] == 0
    log.put("checkpoint", before)
    status, said, told = ended(*command)
    assert (status, told["ok"], told["outcome"], told["reason"]) == (75, False, "not-checked", "old-copy")
    assert "An old copy is served" in said
    monkeypatch.setattr("relay.net.source.SOURCE_PATIENCE_SECONDS", 0.0)
    status, said, told = ended("http://127.0.0.1:9/", "--root", log.root_file, "--no-state")
    assert (status, told["outcome"], told["reason"]) == (75, "not-checked", "unreachable")
    state.write_bytes(b"something else")
    for url, root in ((log.url, tmp_path / "none.pem"), ("ftp://x", log.root_file), (log.url, log.root_file)):
        status, said, told = ended(url, "--root", root, "--state", state)
        assert (status, told["outcome"]) == (2, "unusable"), said
    assert ended(*command, "--no-state")[:1] == (2,)
    hide(log)
    fresh: list[str | Path] = [log.url, "--root", log.root_file, "--no-state"]
    status, said, told = ended(*fresh)
    assert (status, told["not_published_from"]) == (0, 0)
    assert told["not_published_seconds"] < told["patience_seconds"]
    assert "12 hours after it was first seen will be a fault" in said
    status, said, told = ended(*fresh, "--complete")
    assert (status, told["reason"]) == (1, "not-published")
    assert "Entry 0 is not published whole" in said


def test_the_limit_of_patience_is_told_and_can_be_set(log: Published, tmp_path: Path) -> None:
    hide(log)
    command: list[str | Path] = [log.url, "--root", log.root_file, "--no-state"]
    assert ended(*command, "--patience", "0")[0] == 1
    assert ended(*command, "--patience", "0.5")[2]["patience_seconds"] == 1_800
    assert ended(*command)[2]["patience_seconds"] == AUDIT_PATIENCE_SECONDS
    shown = CliRunner().invoke(audit, ["--help"]).stdout
    assert f"default: {AUDIT_PATIENCE_SECONDS // 3_600}" in shown


# -- what is told to whoever audits, where it is not the log that is wrong


@pytest.mark.parametrize(
    "page",
    [
        *(
            "/index.html",
            "/en/index.html",
            "/en/tps/1906/C-HASIL.html",
            "/region/1906.html?x=1#map",
            "/device/00ff.html",
        ),
        *("/strays-2.html", "/en/check.html", "/", ""),
    ],
)
async def test_the_address_of_a_page_leads_to_its_log(log: Published, page: str) -> None:
    async with web_server(log.folder) as url:
        assert (await audited(log, HASHES, url=url + page)).size == 530
    assert (await audited(log, HASHES, url=log.url + page)).size == 530


def test_an_address_without_a_log_says_which_to_give(log: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    status, said, _ = ended(f"{log.url}/en/", "--root", log.root_file)
    assert status == 1
    assert "No log is published there: notices.pem is not in" in said
    assert "Give the receiver's public address: that of its first page" in said


def test_the_wrong_root_is_told_as_what_it_is(log: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    other = make_election(99)
    elsewhere = make_root("elsewhere", other.root_key, 7, ISSUED_AT)
    for name, of, why in (
        ("elsewhere", elsewhere, f"A certificate of election {ELECTION}"),
        (ELECTION, other.root, "A certificate was not issued by"),
    ):
        root = tmp_path / f"{name}.pem"
        root.write_text(pem_block("CERTIFICATE", of))
        status, said, _ = ended(log.url, "--root", root)
        assert status == 1
        assert f"not of the election of this root.pem, {name}: {why}" in said
        assert "Compare root.pem with the fingerprint that the election office made public" in said
        assert "Enrol" not in said


@pytest.mark.parametrize("path", ["notices.pem", "checkpoint"])
def test_the_page_of_a_network_that_wants_a_sign_in(log: Published, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    log.put(path, b"\r\n<!DOCTYPE html><html><body>Welcome to Hotel Wi-Fi</body></html>")
    status, said, told = ended(log.url, "--root", log.root_file, "--no-state")
    assert (status, told["outcome"]) == (75, "not-checked")
    assert f"A web page came in place of the log's file {path}" in said
    assert "where the network asks you to sign in" in said and "enrolment" not in said


def test_a_page_in_place_of_a_file_further_on_hides_nothing(log: Published) -> None:
    """Who would have a photograph pass for what could not be checked."""
    path = sorted((log.folder / "object").iterdir())[0]
    path.write_bytes(b"<!DOCTYPE html><html></html>")
    assert ended(log.url, "--root", log.root_file, "--no-state")[2]["reason"] == "wrong-object"


def test_notices_that_are_damaged(log: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    log.alter("notices.pem", lambda text: text[:-30])
    status, said, _ = ended(log.url, "--root", log.root_file, "--no-state")
    assert status == 1
    assert "notices that are published there are damaged" in said and "enrolment" not in said


async def test_a_certificate_of_the_web_server_that_does_not_hold(log: Published, tmp_path: Path) -> None:
    async with web_server(log.folder, expired(tmp_path)) as url:
        with pytest.raises(Unreachable) as refused:
            await audited(log, url=url)
    assert "The certificate of the web server at https://127.0.0.1" in refused.value.what
    assert "this machine's date" in refused.value.advice and "web server" in refused.value.advice


def expired(folder: Path) -> ssl.SSLContext:
    """A web server's key and certificate, of a year that is over."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    began, over = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, began, over)
    pem = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


def test_the_command_remembers_by_itself(log: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    options = [log.url, "--root", str(log.root_file), "--jobs", "1"]
    first = CliRunner().invoke(audit, [*options, "--no-state"])
    assert first.exit_code == 0 and not (tmp_path / "state").exists()
    told = [json.loads(CliRunner().invoke(audit, [*options, "--json"]).stdout)["grown_from"] for _ in range(2)]
    assert told == [0, 530]
    (state,) = (tmp_path / "state" / "relay").glob("*.state")
    assert state.name.startswith("audit-test-2024-receiver-")
    assert str(state) in CliRunner().invoke(audit, options).stderr


@pytest.mark.parametrize("url", ["ftp://somewhere/log", "/a/folder", "https://", "file://host/folder"])
async def test_what_is_no_place_of_a_log(url: str) -> None:
    with pytest.raises(BadInput):
        async with open_source(url):
            pass


async def test_a_checkpoint_without_end(log: Published) -> None:
    log.put("checkpoint", b"x" * (MAX_CHECKPOINT + 1))
    async with web_server(log.folder) as url:
        for place in (log.url, url):
            with pytest.raises(Malformed, match="checkpoint is over the limit"):
                await audited(log, url=place)
