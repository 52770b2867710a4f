"""One node of a simulated election: relay's own daemon parts on a simulated disk, from start to crash to start.

What `relay.node.daemon` puts together is put together here without sockets and folders: custody, contacts, the visited
side, freeing what was delivered, and a receiver's sequencing. Its visits go through the air (`AirPeer`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, TypeVar, cast

from relay.errors import Malformed, Refused, RelayError, StoreError, Unreachable
from relay.limits import MAX_CHUNKS_CALL, REFRESH_SECONDS, STALL_SECONDS
from relay.node.capture import Captured, Submission, capture
from relay.node.config import Config
from relay.node.contacts import Contacts
from relay.node.daemon import Daemon
from relay.node.home import Home, Member
from relay.node.retention import Retention
from relay.node.witness import Witness
from relay.receiver.service import receiver_service
from relay.records.identifiers import Kind, ObjectId, RecordId, StatementId
from relay.sync.arrival import Arrival
from relay.sync.claims import Claims
from relay.sync.custody import Custody
from relay.sync.host import Host, LogReader
from relay.sync.messages import FRAME_HEAD, Hello, Taken
from relay.sync.peer import Frame, Span
from relay.trust.admission import Admission, Admitted
from relay.trust.certificates import issued_at
from relay.trust.roles import Role
from tests.simulation.air import Answer, Stream
from tests.simulation.catalogue import Rules
from tests.simulation.clockwork import Crew
from tests.simulation.company import url_of
from tests.simulation.disk import Dead, Disk, Temper
from tests.simulation.promises import Chunks
from tests.simulation.store import MemoryStore

if TYPE_CHECKING:
    from tests.simulation.sea import Sea

T = TypeVar("T")

EPOCH = 1_732_000_000
"""What a clock that is right shows at the beginning, in seconds since 1970."""


@dataclass
class Traits:
    """What one node is like."""

    temper: Temper = field(default_factory=Temper)
    skew: float = 0.0
    """Seconds by which its clock is wrong."""
    retention: int = 3_600
    storage_limit: int | None = None
    quota_bytes: int = 1 << 30
    quota_statements: int = 1_000


class Quarters:
    """A node's folder, as far as its parts look at it."""

    def __init__(self) -> None:
        self.path = Path("/nonexistent")

    @asynccontextmanager
    async def chain_turn(self) -> AsyncIterator[None]:
        """Nobody else captures on this device: see `Ship.capture`."""
        yield


class Answers:
    """How an honest node answers."""

    def answer(self, name: str, answer: Answer, host: Host, body: bytes) -> Awaitable[bytes]:
        """One call."""
        return answer(host, body)

    def frames(self, host: Host, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        """A stream of chunks."""
        return host.get_chunks(spans)


class WatchedArrival(Arrival):
    """Chunks on their way in; each that was taken is told to `note`."""

    def __init__(self, note: Callable[[ObjectId, int], None], *parts: Any) -> None:
        super().__init__(*parts)
        self._note = note

    async def take(self, object_id: ObjectId, index: int, data: bytes) -> None:
        """See `Arrival`."""
        before = self.taken
        await super().take(object_id, index, data)
        if self.taken > before:
            self._note(object_id, index)


class WatchedHost(Host):
    """The visited side; what it acknowledges is noted."""

    ship: Ship

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.taken: Chunks = {}
        """Chunks that were brought in a call that is not answered yet."""

    def arrival(self) -> Arrival:
        """See `Host`."""
        return WatchedArrival(self._note_taken, self._custody, self._claims, self._who, self._clock)

    def _note_taken(self, object_id: ObjectId, index: int) -> None:
        self.taken[object_id, index] = self.ship.sea.ledger.needed(self.ship, object_id)

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        """See `Host`."""
        taken = await super().put_records(records)
        self.ship.sea.ledger.acknowledged(self.ship, records, taken.outcomes)
        return taken


class Ship:
    """A node. It is `up` between the end of its start and the next crash, and `lost` when it never comes back."""

    honest = True

    def __init__(self, sea: Sea, member: Member, traits: Traits) -> None:
        self.sea = sea
        self.member = member
        self.name = member.identity.name
        self.key = member.identity.node.hex()
        self.address = f"{self.name}:8470"
        self.url = url_of(member) if self.is_receiver else f"https://{self.address}"
        self.traits = traits
        self._troubled = asyncio.Event()
        self.disk = Disk(sea.chance, traits.temper, self._stop, self._troubled.set)
        self.answers = Answers()
        self.up = False
        self.lost = False
        self._runs = False
        self.runs = 0
        """How often it was started."""
        self.skew_seen = 0.0
        """How wrong its clock was when it looked at it last, or when the machine started since."""
        self.seen_in = ""
        """In which start of the machine it looked at its clock last."""
        self.set_in = ""
        """In which start of the machine it saw last that its clock was set."""
        self.reckons_since = 0
        """The run since which what it dated came by one reckoning, as far as it knows: it did not see its clock set."""
        self.enrolled = issued_at(member.identity.certificate)
        self.log: LogReader | None = None
        self.work: list[Callable[[], Coroutine[None, None, None]]] = []
        self.watch = Witness(member, self.wall)
        self.config = Config()
        self._rules = Rules(
            member.identity.node, traits.quota_bytes, traits.quota_statements, keeps_all=self.is_receiver
        )
        self._crew = Crew()
        self._capturing = asyncio.Lock()
        self._within_reach: dict[str, None] = {}
        """The receivers that its network leads to now."""
        self.custody: Custody
        self._retention: Retention
        self.home: Quarters
        self.contacts: Contacts
        self._claims: Claims

    @property
    def is_receiver(self) -> bool:
        """Whether it is the receiver."""
        return self.member.identity.role is Role.RECEIVER

    @property
    def dead(self) -> bool:
        """Whether it is down, or going down."""
        return not self.up

    @property
    def boot(self) -> str:
        """Which start of the machine this is: every other time only the daemon starts again."""
        return str(self.runs // 2)

    def wall(self) -> float:
        """What its clock shows."""
        return max(0.0, EPOCH + self.sea.loop.time() + self.traits.skew)

    @property
    def skew(self) -> float:
        """By how much that is wrong."""
        return self.wall() - EPOCH - self.sea.loop.time()

    # -- life

    def start(self, notices: Sequence[Admitted] = ()) -> None:
        """Start it, if it does not run; at first with what the election office gave it."""
        if self._runs:
            return
        self._runs = True
        self._crew = Crew()
        self.spawn(self._live(notices))

    def crash(self) -> None:
        """Stop it between two steps."""
        self.disk.crash()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something in this node's name."""
        task: asyncio.Task[Any] = self.sea.loop.create_task(self._guarded(work), context=self._crew.context.copy())
        return task

    async def _live(self, notices: Sequence[Admitted]) -> None:
        while not await self._started(notices):  # noqa: ASYNC110
            await asyncio.sleep(5)  # systemd starts it again
        self.sea.note("up", self.name, "", len(self.custody.store.members))
        self.sea.ledger.look_at(self)
        self.spawn(self._try_again())
        if not self.is_receiver:
            self.up = True
            if len(self.sea.receivers) > 1:
                self.spawn(self._follow_notices())
            await self._free_space()
        while True:
            with suppress(StoreError):
                async with receiver_service(cast(Daemon, self)):
                    self.up = True
                    await asyncio.gather(*(begin() for begin in self.work))
            await asyncio.sleep(5)
            self._leave_work()

    async def _started(self, notices: Sequence[Admitted]) -> bool:
        self.runs += 1
        store = MemoryStore.open(self.disk, self._rules, self.traits.storage_limit, self.wall)
        store.truth = lambda: (self.sea.loop.time(), self.runs)
        if self.seen_in != self.boot:
            self.skew_seen = self.skew
            if self.set_in or self.seen_in != str((self.runs - 1) // 2):  # or it never got to note what it reckons by
                self.set_in, self.reckons_since = "", self.runs
        wall, steady = self.wall, self.sea.loop.time
        self._retention = Retention(store, self.traits.retention, self.enrolled, wall, steady, self.boot)
        log = self.member.identity.node if self.is_receiver else None
        self.custody = Custody(Admission(self.member.root), store, log=log)
        self.home = Quarters()
        self._leave_work()
        self._claims = Claims()
        self.contacts = Contacts(
            self.custody,
            cast(SSLContext, self),
            self.greeting,
            self._claims,
            self.sea.loop.time,
            self.watch,
            self.wall,
        )
        try:
            await self.custody.load()
            if notices:
                await self.custody.take([(one.kind, one.raw) for one in notices])
        except StoreError:
            return False
        return True

    def _leave_work(self) -> None:
        self.work.clear()

    def _stop(self) -> None:
        self.up = self._runs = False
        self._within_reach.clear()
        self._crew.dismiss()
        self.sea.went_down(self)

    async def _free_space(self) -> None:
        while True:
            heard = self.custody.news.count
            with suppress(StoreError), self.sea.ledger.looking_on(self):
                await self.custody.rule()
                await self._retention.free()
            await self.custody.news.wait(heard, 60)
            await asyncio.sleep(5)

    async def _try_again(self) -> None:
        """See what room there is, and do what a disk that refused something kept from being done, as soon as the daemon
        does, which looks for changes whether or not there was trouble; and say that what cannot be read is gone."""
        unreadable = self.custody.store.unreadable
        while True:
            await self._troubled.wait()
            self._troubled.clear()
            await asyncio.sleep(REFRESH_SECONDS)
            if self.custody.store.unreadable != unreadable:
                unreadable = self.custody.store.unreadable
                self.custody.content += 1
                self.custody.news.ring()
            with suppress(StoreError):
                await self.custody.store.refresh()
                await self.custody.rule()

    async def _guarded(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await work
        except Dead:
            return None
        except Exception as error:  # noqa: BLE001 - what no code had words for is what we look for
            self.sea.ledger.fault(f"{self.name}: {type(error).__name__}: {error}", error)
            return None

    # -- contacts

    def sees(self, other: Ship) -> None:
        """Another node came within reach."""
        if not self.up:
            return
        if other.is_receiver:
            self._within_reach[other.url] = None
            self._configure()
        elif not self.is_receiver:
            self._within(self.contacts.link_changed, (), ())
            self._within(self.contacts.seen, other.key, [other.address])

    def loses(self, other: Ship) -> None:
        """Another node is gone."""
        if not self.up:
            return
        if other.is_receiver:
            self._within_reach.pop(other.url, None)
            self._configure()
        else:
            self._within(self.contacts.lost, other.key)

    def _configure(self) -> None:
        """Visit the receivers that are within reach and in force, as the daemon looks which are."""
        named = {url for one in self.custody.admission.receivers for url in one.urls}
        if not self.is_receiver:
            self._within(self.contacts.configure, [url for url in self._within_reach if url in named])

    async def _follow_notices(self) -> None:
        while True:
            heard = self.custody.news.count
            self._configure()
            await self.custody.news.wait(heard)

    def _within(self, act: Callable[..., None], *arguments: object) -> None:
        self._crew.context.copy().run(act, *arguments)

    def greeting(self) -> Hello:
        """What it says of itself."""
        identity = self.member.identity
        news, content = self.custody.news.count, self.custody.content
        return Hello(identity.node, self.name, identity.role, identity.election, 1 << 30, news, content)

    def serve(
        self,
        visitor: Ship,
        work: Callable[[Host], Awaitable[T]],
        answered: Callable[[T], object],
        failed: Callable[[Exception], object],
        *,
        visiting: bool = True,
    ) -> None:
        """Answer a call, for news or in a visit, whether or not somebody waits for it to the end."""
        if self.up:
            self.spawn(self._answer(visitor, work, answered, failed, visiting=visiting))
        else:
            failed(Unreachable("Nobody answers (simulated)", "It is tried again."))

    async def _answer(
        self,
        visitor: Ship,
        work: Callable[[Host], Awaitable[T]],
        answered: Callable[[T], object],
        failed: Callable[[Exception], object],
        *,
        visiting: bool,
    ) -> None:
        """As `relay.net.server` does: who it is first, then the answer, while the visitor counts as present."""
        try:
            identity = self.custody.admission.identify(visitor.member.identity.certificate)
            with self.contacts.presence(identity, visiting):
                host = WatchedHost(
                    self.custody, self.greeting, identity.node.hex(), self._claims, self.sea.loop.time, self.log
                )
                host.ship = self
                answered(await work(host))
        except (Refused, Malformed) as error:
            failed(error.with_traceback(None))  # which would hold this frame, and with it the future
        except RelayError as error:
            failed(Unreachable(error.what, error.advice))
        except OSError as error:  # the visitor left, or is silent: it is not answered
            failed(Unreachable(str(error), "It is tried again."))

    async def give_frames(self, host: Host, spans: AsyncGenerator[Span], given: Stream[Frame]) -> None:
        """Send chunks one after the other while they are asked for."""
        left = MAX_CHUNKS_CALL
        answers = cast(AsyncGenerator[Frame], self.answers.frames(host, spans))
        async with aclosing(spans), aclosing(answers) as frames:
            async for frame in frames:
                size = FRAME_HEAD.size + len(frame[2])
                left -= size
                if left < 0:
                    raise Malformed("A visitor asks for more than a call may bring")
                await given.put(frame, size, STALL_SECONDS)

    async def take_frames(self, host: Host, frames: AsyncGenerator[Frame], visitor: str) -> int:
        """Take chunks as they arrive. What is taken is acknowledged by the answer, and by nothing else."""
        assert isinstance(host, WatchedHost)
        with self.sea.ledger.taking(self, host.taken):
            async with aclosing(frames):
                taken = await host.put_chunks(frames)
            self.sea.ledger.acknowledged_chunks(self, host.taken)
        self.sea.note("took", self.name, visitor, taken)
        return taken

    # -- its operator

    async def submit(self, submission: Submission) -> StatementId | None:
        """Capture; the statement's id once it is said to be safe."""
        async with self._capturing:
            try:
                captured: Captured = await capture(cast(Home, self.home), self.member, self.custody, submission)
            except RelayError:
                return None
        self.sea.ledger.captured(self, captured.id, submission)
        return captured.id

    async def take(self, *records: tuple[Kind, bytes]) -> None:
        """Take records in by hand."""
        try:
            await self.custody.take(records)
        except RelayError:
            return

    def holds(self, statement: RecordId) -> bool:
        """Whether a statement or its receipt is on its disk."""
        catalogue = self.disk.catalogue
        return statement in catalogue.rows or statement in catalogue.receipts
