"""Two real daemons, one or both of which lose their power in the middle of a visit, again and again.

What a device told its operator is safe is there after every cut; so is each chunk that a boat said it holds, with its
content. In the end the boat has everything. The boat's home may lie on the disk that loses what was not synced.

The daemons are processes that the command starts. What they hold is read from their stores by this process, as `relay
list` reads them: a command for each look would take longer than the visit that is to be cut.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from relay.node.capture import Submission, capture
from relay.node.home import Home
from relay.records.identifiers import ObjectId, StatementId, sha256
from relay.records.statement import chunk_size_for
from relay.store.interface import Holding, State
from tests.boxes import RELAY, Election, NodeBox, free_port
from tests.powercuts.cuts import Tally
from tests.powercuts.losing_fs import Disk
from tests.powercuts.work import FORM, Violation, check_chunks, check_database, check_statements, sync_tree
from tests.processes import Place, eventually

SIZE = 15_000_000
"""Bytes of a photograph: a visit that brings one takes some tenths of a second."""
LONGEST = 1.0
"""Seconds until the cut, at most: the island's daemon notices a package, begins to bring it, and may have done so."""
UNDER_WAY = 0.3
"""The same of the cuts that wait until the boat has the package's statement; three of four do."""
MEETING_SECONDS = 60.0
TPS = "1906022011006"

Chunk = tuple[ObjectId, int]


@dataclass(slots=True)
class Sea:
    """An island and a boat that see each other, and what each has said is durable."""

    island: NodeBox
    boat: NodeBox
    disk: Disk | None
    """Where the boat's home lies, if it is the disk that loses what was not synced."""
    dice: random.Random
    safe: list[StatementId] = field(default_factory=list)
    """The packages that the island took."""
    brought: set[Chunk] = field(default_factory=set)
    """The chunks that the boat said it holds."""

    async def submit(self, photo: Path) -> None:
        """One more package, of a new photograph, made on the island while its daemon runs."""
        photo.write_bytes(b"\xff\xd8\xff" + self.dice.randbytes(SIZE))
        home = Home(self.island.home)
        submission = Submission(TPS, FORM, (photo,), None, 1_700_000_000, anyway=True)
        async with home.custody() as custody:
            self.safe.append((await capture(home, home.member(), custody, submission)).id)

    def strike(self) -> bool:
        """Cut the power of one of them, or of both, and look at what is left; whether a package was half-way then."""
        afloat, ashore = (self.boat,), (self.island,)
        choices = (afloat, ashore + afloat) if self.disk is not None else (ashore, afloat, ashore + afloat)
        struck = self.dice.choice(choices)
        for box in struck:
            box.kill()
        if self.disk is not None:
            self.disk.cut(self.dice.getrandbits(32))
        for box in struck:
            check_database(box.home / "store" / "catalogue.db")
        asyncio.run(self._check_island())
        half_way = asyncio.run(self.check_boat())
        for box in struck:
            box.start()
        return half_way

    def await_cut(self) -> None:
        """Let some time pass, in which the island begins to bring the newest package."""
        if self.dice.random() < 0.25:
            time.sleep(self.dice.uniform(0, LONGEST))
            return
        eventually(self._is_met, MEETING_SECONDS, "the boat has the package's statement")
        time.sleep(self.dice.uniform(0, UNDER_WAY))

    def is_done(self) -> bool:
        """Whether the boat has every package, whole."""
        states = asyncio.run(_states(self.boat))
        return all(states.get(one) is State.WAITING for one in self.safe)

    async def listen(self) -> None:
        """Note what the boat says that it holds."""
        async with Home(self.boat.home).custody(looking=True) as custody:
            objects = [file.sha256 for bundle in await custody.store.bundles() for file in bundle.files]
            self.brought |= {one for holding in await custody.store.holdings(objects) for one in _chunks(holding)}

    async def check_boat(self) -> bool:
        """All that the boat said, or says now, that it holds is there; whether it lacks something of a package."""
        async with Home(self.boat.home).custody() as custody:
            bundles = await custody.store.bundles()
            files = await check_statements(custody.store, [bundle.id for bundle in bundles])
            holdings = await custody.store.holdings(list(files))
            self.brought |= {one for holding in holdings for one in _chunks(holding)}
            if unknown := {object_id for object_id, _ in self.brought} - files.keys():
                raise Violation(f"the boat lost the statements of {[one.hex() for one in unknown]}")
            await check_chunks(custody.store, files, sorted(self.brought))
        return any(bundle.state is State.PARTIAL for bundle in bundles)

    def _is_met(self) -> bool:
        return self.safe[-1] in asyncio.run(_states(self.boat))

    async def _check_island(self) -> None:
        async with Home(self.island.home).custody() as custody:
            await check_statements(custody.store, self.safe)
            bundles = await custody.store.bundles()
            for bundle in bundles:
                path = await custody.store.object_path(bundle.files[0].sha256)
                if bundle.state is not State.WAITING or path is None or _hash(path) != bundle.files[0].sha256:
                    raise Violation(f"the island lost content of {bundle.id.hex()}")
            chain = sorted(bundle.seq for bundle in bundles)
            if chain != list(range(1, len(chain) + 1)):
                raise Violation(f"the island's chain has gaps or forks: {chain}")


def cut_visits(
    election: Election,
    folder: Path,
    cuts: int,
    dice: random.Random,
    tally: Tally,
    *,
    losing: bool = False,
    afloat: Sequence[str] = RELAY,
) -> None:
    """So many cuts of an island's and a boat's daemon. Raises `Violation`.

    With `losing`, the boat's home lies on the disk that loses what was not synced, and each cut is the boat's, too.
    `afloat` is the command `relay` on the boat.
    """
    with ExitStack() as stack:
        disk = stack.enter_context(Disk(folder)) if losing else None
        place = stack.enter_context(Place("boat", folder / "boat.output"))
        boat = stack.enter_context(NodeBox((disk.mount if disk is not None else folder) / "boat", place, relay=afloat))
        island = stack.enter_context(NodeBox(folder / "island"))
        _join(election, folder.name, island, boat)
        if disk is not None:
            sync_tree(disk.mount)
        sea = Sea(island, boat, disk, dice)
        for box in (boat, island):
            box.start()
        for turn in range(cuts):
            try:
                asyncio.run(sea.submit(folder / "photo.jpg"))
                sea.await_cut()
                asyncio.run(sea.listen())
                half_way = sea.strike()
            except Exception as error:
                raise Violation(f"visit, cut {turn}: {error}") from error
            name = f"{'half-way through a package' if half_way else 'between two'}{', losing disk' if losing else ''}"
            tally.cuts += 1
            tally.by_work[name] = tally.by_work.get(name, 0) + 1
        eventually(sea.is_done, MEETING_SECONDS, "the boat has every package")
        asyncio.run(sea.check_boat())
        tally.told += len(sea.safe) + len(sea.brought)


def _join(election: Election, name: str, island: NodeBox, boat: NodeBox) -> None:
    """Both join, and the island knows where the boat is."""
    election.admit(island, "operator", name=f"island-{name}", tps=[TPS])
    election.admit(boat, "carrier", name=f"boat-{name}")
    address = f"127.0.0.1:{free_port()}"
    boat.config(listen=address, console=f"127.0.0.1:{free_port()}", discovery=False)
    console, listen = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    island.config(listen=listen, console=console, peers=[address], discovery=False)


async def _states(box: NodeBox) -> dict[StatementId, State]:
    """How far each package is on a node."""
    async with Home(box.home).custody(looking=True) as custody:
        return {bundle.id: bundle.state for bundle in await custody.store.bundles()}


def _chunks(holding: Holding) -> list[Chunk]:
    count = -(-holding.size // chunk_size_for(holding.size))
    return [(holding.object, index) for index in range(count) if holding.complete or holding.chunks >> index & 1]


def _hash(path: Path) -> bytes:
    return sha256(path.read_bytes())
