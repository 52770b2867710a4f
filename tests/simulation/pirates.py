"""Nodes that mean harm: enrolled, with a certificate that everybody believes, and below every rule of the protocol.

A pirate runs the same daemon, so that it is visited and visits; what it answers and what it brings is bent as chance
has it. A rogue is a pirate with an operator's certificate: what it signs is valid, and a lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from random import Random

from relay.errors import Refused, RelayError, StoreError
from relay.limits import MAX_FILE
from relay.log.merkle import leaf_hash
from relay.node.home import Member
from relay.records.encoding import encode
from relay.records.identifiers import Kind, ObjectId, RecordId, StatementId
from relay.records.notice import Revocation, Revocations, sign_notice
from relay.records.receipt import Inclusion, sign_receipt
from relay.records.statement import FileEntry, Package, describe_file, read_statement, sign_statement
from relay.records.tally import Tally
from relay.store.interface import Holding, Want
from relay.store.recordset import RecordSet
from relay.sync import messages
from relay.sync.host import Host
from relay.sync.messages import Given, Greeting, Inquiry, Taken
from relay.sync.peer import Frame, Span
from relay.sync.reconcile import respond
from relay.trust.roles import Role
from tests.factory import ELECTION
from tests.fleet import each
from tests.simulation.air import ANSWERS, AirPeer, Answer
from tests.simulation.sea import Sea
from tests.simulation.ship import Answers, Ship, Traits

FLOOD = 30
"""Statements in one flood."""


class Pirate(Ship):
    """A node that means harm."""

    honest = False

    def __init__(self, sea: Sea, member: Member, traits: Traits) -> None:
        super().__init__(sea, member, traits)
        self.answers = Bent(self, sea.chance.choice((0.3, 0.6, 0.9)))
        self.loot = Loot(sea, member)

    def sees(self, other: Ship) -> None:
        """It visits as others do, and raids besides."""
        super().sees(other)
        if self.up and not self.is_receiver:
            self.spawn(self._raid(other))

    async def _raid(self, other: Ship) -> None:
        chance = self.sea.chance
        peer = AirPeer(other.url, self)
        for _ in range(chance.randint(1, 4)):
            await asyncio.sleep(chance.uniform(0, 3))
            try:
                await chance.choice((self._bring, self._bring, self._push, self._babble, self._ask))(peer)
            except RelayError:
                continue

    async def _bring(self, peer: AirPeer) -> None:
        await peer.put_records(self.loot.records())

    async def _push(self, peer: AirPeer) -> None:
        """Chunks: altered ones of what is wanted, ones that nobody asked for."""
        chance = self.sea.chance
        wanted = [(one.object, index) for one in await peer.wants([]) for index in range(4) if one.missing >> index & 1]
        spans = [
            *wanted[:8],
            (ObjectId(chance.randbytes(32)), 0),
            *((one, chance.randrange(9)) for one, _ in wanted[:2]),
        ]
        frames = [(one, index, chance.randbytes(chance.choice((0, 1, 900, 65_536)))) for one, index in spans]
        await peer.put_chunks(each(frames))

    async def _babble(self, peer: AirPeer) -> None:
        chance = self.sea.chance
        name = chance.choice([*ANSWERS])
        if name in ("consistency", "wants", "news"):
            await peer.call(name, encode([chance.randint(-3, 1 << 40), 7] if name != "wants" else bytes(32 * 2_000)))
        else:
            await peer.call(name, chance.randbytes(chance.choice((0, 1, 33, 5_000))))

    async def _ask(self, peer: AirPeer) -> None:
        chance = self.sea.chance
        ids = [chance.randbytes(32) for _ in range(chance.choice((1, 100)))]
        await peer.get_records([RecordId(one) for one in ids])
        async for _ in peer.get_chunks(each([(ObjectId(one), chance.randrange(5)) for one in ids])):
            pass
        await peer.inquire(Inquiry(tuple(StatementId(RecordId(one)) for one in ids), 4.0))


class Bent(Answers):
    """Answers of which a part are honest."""

    def __init__(self, pirate: Pirate, honesty: float) -> None:
        self._pirate = pirate
        self._honesty = honesty
        self._chance: Random = pirate.sea.chance
        self._earlier: dict[str, bytes] = {}
        self._lies: dict[str, Callable[[Host, bytes], bytes]] = {
            "holdings": self._has_all,
            "wants": self._wants_all,
            "get_records": lambda _host, _body: Given(pirate.loot.records()).encode(),
            "put_records": self._took_all,
            "news": lambda _host, _body: encode(self._chance.choice((1 << 40, 0, -1))),
            "reconcile": self._knows_all,
            "hello": lambda _host, _body: Greeting(replace(pirate.greeting(), role=Role.RECEIVER)).encode(),
        }

    async def answer(self, name: str, answer: Answer, host: Host, body: bytes) -> bytes:
        """One call."""
        chance = self._chance
        if chance.random() < self._honesty:
            said = self._earlier[name] = await answer(host, body)
            return said
        match chance.randrange(8):
            case 0:
                return chance.randbytes(chance.choice((0, 1, 40, 3_000)))
            case 1:
                return self._flipped(await answer(host, body))
            case 2:
                return bytes(ANSWERS[name][2] + 1) if chance.random() < 0.2 else b"\xff" * 70_000
            case 3:
                await asyncio.sleep(chance.uniform(1, 60))
                return await answer(host, body)
            case 4:
                raise Refused("piracy", "No\x1b[2J", "Go away")
            case 5:
                raise StoreError("Alas", "Alas")
            case 6 if name in self._earlier:
                return self._earlier[name]
            case _ if name in self._lies:
                return self._lies[name](host, body)
            case _:
                return await answer(host, body)

    async def frames(self, host: Host, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        """A stream of chunks: altered, unasked, missing, or never beginning."""
        chance = self._chance
        trick = chance.choice(("none", "none", "altered", "unasked", "twice", "nothing", "late", "empty"))
        if trick == "nothing":
            return
        if trick == "late":
            await asyncio.sleep(20)
        asked: list[Span] = []
        async for object_id, index, data in host.get_chunks(spans):
            asked.append((object_id, index))
            match trick:
                case "altered" if chance.random() < 0.5:
                    yield object_id, index, self._flipped(data)
                case "unasked" if chance.random() < 0.3:
                    yield object_id, index + 1, data
                case "empty" if chance.random() < 0.3:
                    yield object_id, index, b""
                case "twice":
                    yield object_id, index, data
                    yield object_id, index, data
                case _:
                    yield object_id, index, data
        if trick == "altered":
            for object_id, index in asked:
                yield object_id, index, chance.randbytes(900)

    def _flipped(self, data: bytes) -> bytes:
        if not data:
            return b"\x00"
        at = self._chance.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self._chance.randrange(8)]) + data[at + 1 :]

    def _has_all(self, _host: Host, body: bytes) -> bytes:
        sizes = self._pirate.sea.company.files
        asked = [ObjectId(one) for one in messages.decode_ids(body)]
        return messages.encode_holdings(
            [Holding(one, sizes[one].size if one in sizes else MAX_FILE, 0, complete=True) for one in asked]
        )

    def _wants_all(self, _host: Host, _body: bytes) -> bytes:
        chance = self._chance
        known = self._chance.sample([*self._pirate.sea.company.files.values()], 20)
        wants = [Want(one.sha256, chance.choice((one.size, MAX_FILE, 1)), 0xFFFF, one.size) for one in known]
        return messages.encode_wants([*wants, Want(ObjectId(chance.randbytes(32)), MAX_FILE, 0xFFFF, MAX_FILE)])

    def _took_all(self, _host: Host, body: bytes) -> bytes:
        return Taken(["new"] * len(messages.decode_records(body))).encode()

    def _knows_all(self, host: Host, body: bytes) -> bytes:
        chance = self._chance
        more = [(chance.randint(1, 5), chance.randbytes(32)) for _ in range(chance.choice((1, 40)))]
        return respond(RecordSet([*self._pirate.custody.store.members, *more]), body)


class Loot:
    """Records that a pirate brings: stolen, bent, forged; a rogue's own ones are valid lies."""

    def __init__(self, sea: Sea, member: Member) -> None:
        self._sea = sea
        self._member = member
        self._chance: Random = sea.chance
        self._seq = 0
        self._last: StatementId | None = None

    def records(self) -> list[tuple[Kind, bytes]]:
        """Some of them."""
        chance = self._chance
        makers: list[Callable[[], list[tuple[Kind, bytes]]]] = [
            self._replayed, self._bent, self._strange, self._presumed, self._usurped, self._rubbish
        ]  # fmt: skip
        if self._member.identity.role is Role.OPERATOR:
            makers += [self._flood, self._liar, self._liar, self._fork]
        return [one for maker in chance.sample(makers, 2) for one in maker()]

    def _stolen(self) -> list[tuple[Kind, bytes]]:
        """Everything that anybody holds: a pirate hears it all."""
        ship = self._chance.choice(self._sea.ships)
        return [(one.kind, one.raw) for one in ship.disk.catalogue.records.values()]

    def _replayed(self) -> list[tuple[Kind, bytes]]:
        stolen = self._stolen()
        return self._chance.sample(stolen, min(len(stolen), 20))

    def _bent(self) -> list[tuple[Kind, bytes]]:
        chance = self._chance
        found = []
        for kind, raw in self._replayed():
            at = chance.randrange(len(raw))
            bent = raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :]
            found.append((kind, chance.choice((bent, raw[:at] or raw, raw + b"\x00"))))
            found.append((chance.choice([*Kind]), raw))
        return found

    def _strange(self) -> list[tuple[Kind, bytes]]:
        """Of another election, under the names of this one."""
        return [(Kind.STATEMENT, self._signed(self._chance.choice(self._sea.company.strangers), ()))]

    def _presumed(self) -> list[tuple[Kind, bytes]]:
        """What this node may not sign: for another one's station; a carrier, for any."""
        return [(Kind.STATEMENT, self._signed(self._member, (), tps="tps-23"))]

    def _usurped(self) -> list[tuple[Kind, bytes]]:
        """A notice and a receipt by who is neither office nor receiver."""
        company, member = self._sea.company, self._member
        receiver = company.receiver.identity
        body = Revocations((Revocation(receiver.node, receiver.name, "piracy"),))
        notice = sign_notice(ELECTION, 0, 99, body, member.identity.certificate, member.key)
        found = [(Kind.NOTICE, notice)]
        for statement, raw in list(self._sea.ledger.captures.items())[:2]:
            leaf = leaf_hash(raw)
            for who in (member, company.strangers[0]):
                receipt = sign_receipt(
                    ELECTION, statement, leaf, Inclusion(1, 0, ()), leaf,
                    receiver.uri, who.identity.certificate, who.key,
                ).raw  # fmt: skip
                found.append((Kind.RECEIPT, receipt))
        return found

    def _rubbish(self) -> list[tuple[Kind, bytes]]:
        chance = self._chance
        return [(chance.choice([*Kind]), chance.randbytes(chance.choice((1, 90, 59_000)))) for _ in range(4)]

    # -- a rogue's

    def _flood(self) -> list[tuple[Kind, bytes]]:
        return [self._own(()) for _ in range(FLOOD)]

    def _liar(self) -> list[tuple[Kind, bytes]]:
        """Objects of others with false chunk hashes, or a false size; objects that are nowhere."""
        chance, files = self._chance, [*self._sea.company.files.values()]
        forged = describe_file("x.jpg", "image/jpeg", [chance.randbytes(size := chance.choice((9, 70_000)))], size)
        if chance.random() < 0.9:
            forged = replace(forged, sha256=chance.choice(files).sha256)
        return [self._own((forged,))]

    def _fork(self) -> list[tuple[Kind, bytes]]:
        """One place in the chain given twice."""
        first = self._own(())
        self._seq -= 1
        return [first, self._own(())]

    def _own(self, files: tuple[FileEntry, ...]) -> tuple[Kind, bytes]:
        self._seq += 1
        raw = self._signed(self._member, files)
        self._last = read_statement(raw).id
        return Kind.STATEMENT, raw

    def _signed(self, member: Member, files: tuple[FileEntry, ...], tps: str = "") -> bytes:
        identity = member.identity
        package = Package(
            election=ELECTION,
            tps=tps or next(iter(sorted(identity.tps)), "tps-01"),
            form="form-1",
            seq=max(1, self._seq),
            previous=self._last if self._seq > 1 else None,
            captured_at=self._chance.randint(0, 1 << 31),
            files=files,
            tally=None if files else Tally({"voters": self._chance.randint(0, 99)}),
        )
        return sign_statement(package, identity.uri, identity.certificate, member.key)
