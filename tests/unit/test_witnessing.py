"""Independent witnesses: asked as C2SP `tlog-witness` says, believed by their keys alone."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.errors import BadInput, Malformed
from relay.log.checkpoint import Checkpoint, cosign, open_checkpoint, sign_checkpoint
from relay.log.merkle import EMPTY_ROOT, verify_consistency
from relay.log.note import COSIGNATURE, ED25519, NoteKey, parse_note
from relay.node.config import read_config
from relay.receiver.witnessing import COSIGNED, Witnessing
from relay.records.identifiers import Kind
from relay.records.notice import Witnesses, read_notice
from relay.trust.admission import Admission
from relay.trust.authority import Enrolled, Ledger, add_witness, found
from relay.trust.witness import log_key, public_bytes, witness_key
from tests.factory import ELECTION, ISSUED_AT
from tests.fleet import Fleet, Ship

ORIGIN = f"{ELECTION}/receiver"


@dataclass
class University:
    """A witness, as the specification has it: it remembers one head, and cosigns what extends it."""

    log: NoteKey
    name: str = f"{ELECTION}/universitas"
    size: int = 0
    root: bytes = EMPTY_ROOT
    answers: list[int] = field(default_factory=list)
    key: Ed25519PrivateKey = field(default_factory=lambda: Ed25519PrivateKey.from_private_bytes(bytes(32)))

    @property
    def note_key(self) -> NoteKey:
        return witness_key(ELECTION, self.name.partition("/")[2], public_bytes(self.key.public_key()))

    async def add_checkpoint(self, request: web.Request) -> web.Response:
        head, _, raw = (await request.read()).partition(b"\n\n")
        said, *lines = head.decode().split("\n")
        checkpoint = open_checkpoint(raw, self.log)
        if said != f"old {self.size}":
            return self.answer(409, f"{self.size}\n".encode(), "text/x.tlog.size")
        proof = [base64.b64decode(line, validate=True) for line in lines]
        verify_consistency(self.size, self.root, checkpoint.size, checkpoint.root, proof)
        self.size, self.root = checkpoint.size, checkpoint.root
        note = cosign(parse_note(raw), self.note_key, self.key, 1_700_000_000)
        line = next(one.line for one in note.signatures if one.name == self.name)
        return self.answer(200, line.encode(), "text/plain")

    def answer(self, status: int, body: bytes, kind: str) -> web.Response:
        self.answers.append(status)
        return web.Response(status=status, body=body, content_type=kind)


@asynccontextmanager
async def served(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """A witness's submission prefix."""
    app = web.Application()
    app.router.add_post("/w1/add-checkpoint", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/w1"
    finally:
        await runner.cleanup()


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    await fleet.close()


async def grow(fleet: Fleet, receiver: Ship, count: int) -> None:
    island = await fleet.launch(f"island-{len(fleet.ships)}")
    for place in range(count):
        await island.submit(form=f"form-{place}")
    await island.visit(receiver)


async def ask(receiver: Ship, *urls: str) -> list[str]:
    """Have the witnesses asked once; who signed the newest checkpoint then."""
    assert receiver.log is not None
    async with aiohttp.ClientSession() as session:
        await Witnessing(receiver.custody, receiver.log, ORIGIN, urls).ask(session)
    return [one.name for one in receiver.custody.admission.checkpoints[ORIGIN].note.signatures]


async def known(fleet: Fleet, receiver: Ship) -> University:
    """A witness whose key a notice names."""
    witness = University(log_key(receiver.node.identity))
    await receiver.take(fleet.publish(Witnesses((("universitas", public_bytes(witness.key.public_key())),))))
    return witness


async def test_a_witness_cosigns_what_grows_and_the_published_checkpoint_shows_it(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    witness = await known(fleet, receiver)
    async with served(witness.add_checkpoint) as url:
        for size in (2, 5):
            await grow(fleet, receiver, size)
            assert await ask(receiver, url) == [ORIGIN, witness.name]
    assert (witness.size, witness.answers) == (7, [200, 409, 200])
    assert receiver.log is not None
    published = receiver.folder / "public" / "checkpoint"
    assert witness.name.encode() not in published.read_bytes()
    await receiver.log.sequencer.tend()
    assert published.read_bytes() == receiver.custody.admission.checkpoints[ORIGIN].raw
    await grow(fleet, receiver, 1)
    await receiver.log.sequencer.tend()
    assert parse_note(published.read_bytes()).text.split("\n")[1] == "8"


async def test_cosignatures_by_keys_that_no_notice_names_are_dropped(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    witness = University(log_key(receiver.node.identity))
    await grow(fleet, receiver, 1)
    async with served(witness.add_checkpoint) as url:
        assert await ask(receiver, url) == [ORIGIN]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"", "text/plain"),
        (200, b"\xe2\x80\x94 x AAAA\n", "text/plain"),
        (200, b"x" * 100_000, "text/plain"),
        (404, b"who?", "text/plain"),
        (422, b"", "text/plain"),
        (409, b"99\n", "text/x.tlog.size"),
        (409, b"0\n", "text/x.tlog.size"),
        (409, b"9" * 5_000, "text/x.tlog.size"),
        (302, b"", "text/plain"),
    ],
)
async def test_a_witness_that_answers_badly_changes_nothing(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, status: int, body: bytes, kind: str
) -> None:
    receiver = await fleet.receiver()
    witness = await known(fleet, receiver)
    await grow(fleet, receiver, 1)
    before = receiver.custody.admission.checkpoints[ORIGIN].raw

    async def badly(_request: web.Request) -> web.Response:
        return witness.answer(status, body, kind)

    async with served(badly) as url:
        await ask(receiver, url)
        caplog.clear()
    assert await ask(receiver, url) == [ORIGIN]
    assert "out of reach" in caplog.text
    assert receiver.custody.admission.checkpoints[ORIGIN].raw == before


async def test_one_witness_away_does_not_keep_another_from_cosigning(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    witness = await known(fleet, receiver)
    await grow(fleet, receiver, 1)
    async with served(witness.add_checkpoint) as url:
        assert await ask(receiver, "http://127.0.0.1:1", url) == [ORIGIN, witness.name]


def test_the_election_office_makes_a_witness_known() -> None:
    root_key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    office = found(ELECTION, ["form-1"], [], root_key, 1, ISSUED_AT)
    public = public_bytes(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32).public_key())
    office, enrolment = add_witness(office, witness_key(ELECTION, "universitas", public).vkey, root_key)
    admission = Admission(office.root)
    bodies = [read_notice(raw).body for raw in enrolment.notices if admission.admit(Kind.NOTICE, raw)]
    assert Witnesses((), (witness_key(ELECTION, "universitas", public).vkey,)) in bodies
    keys = [NoteKey("sigsum.example/w1", public, kind).vkey for kind in (ED25519, COSIGNATURE)]
    for vkey in keys:  # the second one takes the place of the first: one key to each name
        office, enrolment = add_witness(office, vkey, root_key)
    (body,) = [one for one in (read_notice(raw).body for raw in enrolment.notices) if isinstance(one, Witnesses)]
    assert body.others[1:] == (keys[1],)
    assert add_witness(office, keys[1], root_key)[0] == office
    for bad in ("universitas", keys[0].replace("w1", "w2"), NoteKey("sigsum.example/w3", bytes(1312), 6).vkey):
        with pytest.raises(Malformed):
            add_witness(office, bad, root_key)
    with pytest.raises(Malformed, match="of type 6;"):
        add_witness(office, NoteKey("sigsum.example/w3", bytes(1312), 6).vkey, root_key)


def test_a_witness_cannot_have_the_name_of_a_node() -> None:
    root_key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    office = found(ELECTION, ["form-1"], [], root_key, 1, ISSUED_AT)
    office = replace(office, ledger=Ledger().with_line(Enrolled("receiver", "00" * 32, "receiver", ())))
    with pytest.raises(BadInput, match="enrolled as a node"):
        add_witness(office, NoteKey(ORIGIN, bytes(32)).vkey, root_key)


async def test_a_cosignature_on_what_grew_since_is_published_beside(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    witness = await known(fleet, receiver)
    await grow(fleet, receiver, 2)
    signed = receiver.custody.admission.checkpoints[ORIGIN]
    await grow(fleet, receiver, 3)
    assert receiver.log is not None
    witnessing = Witnessing(receiver.custody, receiver.log, ORIGIN, ())
    await witnessing.publish()
    file = receiver.folder / "public" / COSIGNED
    assert not file.exists()
    note = cosign(signed.note, witness.note_key, witness.key, 1_700_000_000)
    await receiver.custody.take([(Kind.CHECKPOINT, note.to_bytes())])
    assert receiver.custody.admission.checkpoints[ORIGIN].checkpoint.size == 5
    await witnessing.publish()
    assert file.read_bytes() == note.to_bytes()
    written = file.stat().st_ino
    await witnessing.publish()
    assert file.stat().st_ino == written, "nothing is written twice"
    file.write_bytes(signed.raw)
    await witnessing.publish()
    assert file.read_bytes() == note.to_bytes(), "what somebody put in its place does not stay"
    file.unlink()
    await witnessing.publish()
    assert file.read_bytes() == note.to_bytes()
    kept = Admission(fleet.election.root)
    for kind in (Kind.NOTICE, Kind.CHECKPOINT):
        kept.load((kind, raw) for raw in await receiver.store.load(kind))
    assert kept.cosigned[ORIGIN].raw == note.to_bytes()


async def test_a_cosigned_checkpoint_of_another_log_is_not_published(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    witness = await known(fleet, receiver)
    await grow(fleet, receiver, 5)
    tree = Checkpoint(ORIGIN, 3, bytes(32))
    other = parse_note(sign_checkpoint(tree, log_key(receiver.node.identity), receiver.node.key))
    await receiver.custody.take([(Kind.CHECKPOINT, cosign(other, witness.note_key, witness.key, 7).to_bytes())])
    assert receiver.log is not None
    await Witnessing(receiver.custody, receiver.log, ORIGIN, ()).publish()
    assert not (receiver.folder / "public" / COSIGNED).exists()


def test_addresses_of_witnesses() -> None:
    config = read_config({"witnesses": ["https://witness.example/w1/", "http://127.0.0.1:8000"]})
    assert config.witnesses == ("https://witness.example/w1", "http://127.0.0.1:8000")
    for bad in ("witness.example", "ftp://x", "https://a b", "https://u@x", "https://x/?q", 7):
        with pytest.raises(BadInput):
            read_config({"witnesses": [bad]})
