"""What is fuzzed: each target takes bytes, and fails by any exception but the errors that relay names.

A target returns normally for what is well-formed and for what was refused; it asserts that what was understood spells
itself in one way: what decodes encodes to the same bytes, or, where a format is open for later keys, to the same value.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from relay.cli.simulate.plan import parse_plan
from relay.errors import RelayError
from relay.limits import MAX_RECONCILE_MESSAGE, MAX_RECORD
from relay.log.checkpoint import parse_checkpoint
from relay.log.merkle import verify_consistency
from relay.log.note import NoteKey, parse_note
from relay.log.tiles import decode_entries, encode_entries, parse_path
from relay.log.tree import Frontier
from relay.net.frames import read_frames
from relay.net.interfaces import Interface
from relay.net.sightings import read_sighting
from relay.net.sockets import parse_endpoint
from relay.node.config import parse_config
from relay.records.cose import read_sign1
from relay.records.encoding import decode, encode
from relay.records.identifiers import Kind, parse_uri
from relay.records.notice import is_receiver_url, parse_register, read_notice, sign_notice
from relay.records.receipt import read_receipt, sign_receipt
from relay.records.statement import read_statement, sign_statement
from relay.records.tally import check_tally, parse_tally, read_tally
from relay.store.recordset import FIRST
from relay.sync import messages
from relay.sync.messages import FRAME_HEAD, Given, Greeting, Inquiry, InquiryReply, Taken
from relay.sync.ranges import decode as decode_ranges
from relay.sync.reconcile import Initiator, respond
from relay.sync.torn import TornChunks
from relay.trust.certificates import read_certificate, read_request
from relay.trust.enrolment import read_enrolment, write_enrolment
from relay.trust.sealing import open_sealed
from relay.trust.witness import log_key, read_signed_checkpoint
from tests.fuzz import deeds, handed, inputs
from tests.fuzz.chains import live
from tests.fuzz.visits import Harbour

Run = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Target:
    """Something to fuzz. `seeds` are good inputs to begin with; `most` is the length of the longest worth trying."""

    name: str
    run: Run
    seeds: Callable[[], Sequence[bytes]]
    most: int = 4096


class _Replayed:
    """A signer that repeats a signature, so that a record can be put together again."""

    def __init__(self, signature: bytes) -> None:
        self._signature = signature

    def sign(self, data: bytes, /) -> bytes:
        """The signature that was there."""
        return self._signature


def refusing(run: Run) -> Run:
    """The same, where the errors that relay names are answers like others."""

    def guarded(data: bytes) -> None:
        with suppress(RelayError):
            run(data)

    return guarded


def exact(decoder: Callable[[bytes], Any], encoder: Callable[[Any], bytes]) -> Run:
    """What decodes encodes to the same bytes."""

    def run(data: bytes) -> None:
        assert encoder(decoder(data)) == data

    return refusing(run)


def stable(decoder: Callable[[bytes], Any], encoder: Callable[[Any], bytes]) -> Run:
    """What decodes encodes to something of the same value: a format that passes over what later versions add."""

    def run(data: bytes) -> None:
        value = decoder(data)
        assert decoder(encoder(value)) == value

    return refusing(run)


def only(judge: Callable[[bytes], Any]) -> Run:
    """Nothing but named errors."""
    return refusing(lambda data: (judge(data), None)[1])


def awaiting(work: Callable[[bytes], Coroutine[Any, Any, None]]) -> Run:
    """The same, where it is awaited."""
    return refusing(lambda data: inputs.loop().run_until_complete(work(data)))


# -- records


def _cose(data: bytes) -> None:
    one = read_sign1(data)
    assert b"\xd2" + encode([one.protected, one.unprotected, one.payload, one.signature]) == data


def _statement(data: bytes) -> None:
    one = read_statement(data)
    envelope = one.envelope
    again = sign_statement(one.package, envelope.issuer, envelope.certificate, _Replayed(envelope.signature))
    assert again == data
    assert one.size >= len(data)


def _notice(data: bytes) -> None:
    one = read_notice(data)
    signer = _Replayed(one.envelope.signature)
    assert sign_notice(one.election, one.part, one.version, one.body, one.envelope.certificate, signer) == data


def _receipt(data: bytes) -> None:
    one = read_receipt(data)
    signer, envelope = _Replayed(one.envelope.signature), one.envelope
    again = sign_receipt(
        one.election, one.statement, one.leaf, one.inclusion, b"", envelope.issuer, envelope.certificate, signer
    )
    assert again == one
    assert again.raw == data


def _admission(data: bytes) -> None:
    kind = Kind(data[0] % 4 + 1) if data else Kind.NOTICE
    admitted = inputs.world().election.admission.admit(kind, data[1:])
    assert admitted.kind is kind
    assert admitted.raw == data[1:] or kind is Kind.CHECKPOINT


def _identify(data: bytes) -> object:
    return inputs.world().election.admission.identify(data)


def _tally(data: bytes) -> None:
    tally = parse_tally(data) if data[:1] == b"{" else read_tally(decode(data, MAX_RECORD))
    assert read_tally(tally.to_map()) == tally
    check_tally(tally, None)
    check_tally(tally, 300)


# -- the log


def _checkpoint(data: bytes) -> None:
    note = parse_note(data)
    checkpoint = parse_checkpoint(note)
    assert checkpoint.text == note.text


def _signed_checkpoint(data: bytes) -> None:
    world = inputs.world()
    key, witnesses = log_key(world.receiver.identity), world.witnesses
    signed = read_signed_checkpoint(data, key, witnesses)
    assert read_signed_checkpoint(signed.raw, key, witnesses) == signed


def _tile_path(data: bytes) -> None:
    text = data.decode("latin-1")
    tile = parse_path(text)
    assert tile.path == text
    assert ".." not in text


# -- sync


def _frames(data: bytes) -> None:
    async def read() -> bytes:
        found = b""
        with TornChunks().mending("somebody") as mending:
            stream = inputs.Stream(data)
            async for object_id, index, content in read_frames(stream, 5.0, mending):  # type: ignore[arg-type]
                found += FRAME_HEAD.pack(object_id, index, 0, len(content)) + content
        return found

    assert inputs.loop().run_until_complete(read()) == _without_rests(data)


def _without_rests(data: bytes) -> bytes:
    """The frames but for those that go on with what is not here."""
    found, at = b"", 0
    while at < len(data):
        digest, index, begun, length = FRAME_HEAD.unpack_from(data, at)
        end = at + FRAME_HEAD.size + length
        if not (begun and length):
            found += FRAME_HEAD.pack(digest, index, 0, length) + data[at + FRAME_HEAD.size : end]
        at = end
    return found


def _ranges(data: bytes) -> None:
    lower = FIRST
    for one in decode_ranges(data):
        assert one.lower == lower <= one.upper
        lower = one.upper


def _respond(data: bytes) -> None:
    reply = respond(inputs.records(), data)
    assert len(reply) <= MAX_RECONCILE_MESSAGE
    if len(reply) > 1:
        decode_ranges(reply)


def _initiate(data: bytes) -> None:
    """The input is what a peer answers, again and again."""
    held = inputs.records()
    initiator = Initiator(held, most=64)
    message: bytes | None = initiator.start()
    for _ in range(4):
        if message is None:
            break
        decode_ranges(message)
        message = initiator.step(data)
    assert all(item in held for item in initiator.have)
    assert not any(item in held for item in initiator.need)
    assert len(initiator.have) + len(initiator.need) <= 64
    assert len(set(initiator.need)) == len(initiator.need)


# -- what people hand in, and what the link says


def _enrolment(data: bytes) -> None:
    enrolment = read_enrolment(data)
    assert read_enrolment(write_enrolment(enrolment)) == enrolment


def _address(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    is_receiver_url(text)
    with suppress(RelayError):
        parse_uri(text)
    where = parse_endpoint(text)
    assert 0 <= where.port < 65_536
    assert where.host
    assert not set(where.host) & set("/@ \n")


def _sighting(data: bytes) -> None:
    link = Interface("wlan0", 3, ("fe80::1%wlan0", "10.0.0.1"))
    name, _, rest = data.partition(b"\x00")
    pairs = [part.partition(b"=") for part in rest.split(b"\x00")]
    properties: dict[bytes, bytes | None] = {key: value for key, _, value in pairs}
    addresses = [value.decode("latin-1") for key, _, value in pairs if key == b"a"]
    one = read_sighting(name.decode("latin-1"), properties, addresses, len(data), "abcd", link)
    if one is not None:
        assert len(one.node) == 64
        assert 0 < len(one.addresses) <= 8


def _key(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert NoteKey.parse(text).vkey == text


_HARBOUR: list[Harbour] = []


def _harbour() -> Harbour:
    if not _HARBOUR:
        _HARBOUR.append(inputs.loop().run_until_complete(Harbour.open()))
    return _HARBOUR[0]


def close() -> None:
    """Close what the targets opened."""
    while _HARBOUR:
        inputs.loop().run_until_complete(_HARBOUR.pop().close())


def _visit(data: bytes) -> None:
    inputs.loop().run_until_complete(_harbour().call(data))


def _http(data: bytes) -> None:
    inputs.loop().run_until_complete(_harbour().say(data))


def _by_hand(data: bytes) -> None:
    inputs.loop().run_until_complete(_harbour().bring(data))


def _chain(data: bytes) -> None:
    inputs.loop().run_until_complete(live(data))


def _deeds(data: bytes) -> None:
    inputs.loop().run_until_complete(deeds.live(data))


def _stick(data: bytes) -> None:
    inputs.loop().run_until_complete(_harbour().plug_in(data))


def _consistency(data: bytes) -> None:
    match decode(data, MAX_RECORD):
        case [int(old), int(new), list(path)] if all(isinstance(one, bytes) for one in path):
            verify_consistency(old, bytes(32), new, bytes(32), path)


def _sealed(data: bytes) -> None:
    assert len(open_sealed(data, inputs.sealed()[0], "subject")) < len(data)


def _plain(value: object) -> bytes:
    return encode(value)


TARGETS: tuple[Target, ...] = (
    Target("cbor", exact(lambda data: decode(data, MAX_RECORD), encode), inputs.cbor),
    Target("cose", refusing(_cose), inputs.all_records),
    Target("statement", refusing(_statement), inputs.statements),
    Target("package", refusing(lambda data: _statement(inputs.as_statement(data))), inputs.packages),
    Target("notice", refusing(_notice), inputs.notices),
    Target("notice-body", refusing(lambda data: _notice(inputs.as_notice(data))), inputs.notice_bodies),
    Target("receipt", refusing(_receipt), inputs.receipts),
    Target("admission", refusing(_admission), inputs.records_with_kind),
    Target("tally", refusing(_tally), inputs.tallies),
    Target("note", exact(parse_note, lambda note: bytes(note.to_bytes())), inputs.checkpoints),
    Target("checkpoint", refusing(_checkpoint), inputs.checkpoints),
    Target("signed-checkpoint", refusing(_signed_checkpoint), inputs.checkpoints),
    Target("verifier-key", refusing(_key), inputs.verifier_keys, 256),
    Target("tile-path", refusing(_tile_path), inputs.tile_paths, 80),
    Target("entries", exact(decode_entries, encode_entries), inputs.entry_bundles),
    Target("greeting", stable(Greeting.decode, Greeting.encode), inputs.greetings),
    Target("inquiry", stable(Inquiry.decode, Inquiry.encode), inputs.inquiries),
    Target("inquiry-reply", stable(InquiryReply.decode, InquiryReply.encode), inputs.inquiry_replies),
    Target("ids", exact(messages.decode_ids, messages.encode_ids), inputs.ids),
    Target("records", exact(messages.decode_records, messages.encode_records), inputs.record_messages),
    Target("given", stable(Given.decode, Given.encode), inputs.givens),
    Target("taken", stable(Taken.decode, Taken.encode), inputs.takens),
    Target("holdings", stable(messages.decode_holdings, messages.encode_holdings), inputs.holdings),
    Target("wants", stable(messages.decode_wants, messages.encode_wants), inputs.wants),
    Target("missing", stable(messages.decode_missing, messages.encode_missing), inputs.missing),
    Target("number", exact(messages.decode_number, messages.encode_number), inputs.numbers),
    Target("pair", exact(messages.decode_pair, lambda pair: messages.encode_pair(*pair)), inputs.pairs),
    Target("path", exact(messages.decode_path, messages.encode_path), inputs.ids),
    Target("frames", refusing(_frames), inputs.frames),
    Target("ranges", refusing(_ranges), inputs.reconcile_messages),
    Target("respond", refusing(_respond), inputs.reconcile_messages),
    Target("initiate", refusing(_initiate), inputs.reconcile_replies),
    Target("enrolment", refusing(_enrolment), inputs.enrolments),
    Target("certificate", only(read_certificate), inputs.certificates),
    Target("identify", only(_identify), inputs.certificates),
    Target("request", only(read_request), inputs.requests),
    Target("config", only(parse_config), inputs.configs),
    Target("register", only(parse_register), inputs.registers),
    Target("address", refusing(_address), inputs.addresses, 300),
    Target("sighting", refusing(_sighting), inputs.sightings),
    Target("visit", refusing(_visit), inputs.calls),
    Target("http", refusing(_http), inputs.requests_over_http),
    Target("frontier", stable(Frontier.from_bytes, Frontier.to_bytes), inputs.frontiers),
    Target("consistency", refusing(_consistency), inputs.consistency_proofs),
    Target("sealed", refusing(_sealed), lambda: inputs.sealed()[1]),
    Target("chain", refusing(_chain), inputs.chains),
    Target("by-hand", refusing(_by_hand), inputs.records_with_kind),
    Target("stick", refusing(_stick), handed.sticks),
    Target("deeds", refusing(_deeds), deeds.seeds, 128),
    Target("witness-answer", awaiting(handed.witness), handed.witness_answers),
    Target("form", awaiting(handed.form), handed.forms),
    Target("upload", awaiting(handed.upload), handed.uploads),
    Target("plan", only(parse_plan), inputs.plans),
)
"""Every target. Some have a node with a store behind them, and are slow (`tests.fuzz.__main__.SLOW`)."""

BY_NAME = {target.name: target for target in TARGETS}

__all__ = ["BY_NAME", "TARGETS", "Target", "close"]
