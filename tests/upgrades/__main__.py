"""`python -m tests.upgrades`: keep the folder of a node as this version of relay leaves it, for tests of later ones.

To be run once for each schema of the store, before the next one is begun. The node has joined an election, handed one
package in and has its receipt, signed another one that nobody took, and begun a correction with a picture; a phone is
paired with it. Its key is good for nothing else.
"""

from __future__ import annotations

import asyncio
import tarfile
import tempfile
from pathlib import Path

from relay.node.drafts import Drafts
from relay.node.home import Home
from relay.node.pairing import Pairing
from relay.store.schema import VERSION
from tests.e2e.world import World, holds
from tests.upgrades import DELIVERED, TPS, VOTERS, WAITING, WHOLE_PICTURE, kept

_LEFT_OUT = ("config.toml", "/ballast", ".lock", "-wal", "-shm")


def main() -> None:
    """Make it, and tell where it is."""
    with tempfile.TemporaryDirectory(prefix="relay-upgrades-") as folder, World(Path(folder), "upgrades-2024") as world:
        home = _live(world)
        with tarfile.open(kept(VERSION), "w:gz") as archive:
            archive.add(home, arcname=".", filter=_plain)
    print(kept(VERSION))


def _live(world: World) -> Path:
    receiver = world.box("receiver", "receiver")
    island = world.box("pulau-long", "operator", tps=[TPS], receivers=[receiver])
    receiver.start()
    island.start()
    first = island.submit(world.photo(3_000), tps=TPS, form=DELIVERED, tally={"voters": 100})
    holds(island, ("delivered", 0))
    receiver.stop()
    island.stop()
    island.submit(world.photo(2_000, "other.jpg"), tps=TPS, form=WAITING)
    pairing = Pairing(island.home)
    assert pairing.redeem(pairing.offer().link, "Android Redmi Note 8", 1_732_700_000)
    asyncio.run(_begin(Home(island.home), first))
    return island.home


async def _begin(home: Home, statement: str) -> None:
    async with home.custody() as custody:
        drafts = Drafts(home, home.member(), custody)
        await drafts.load()
        draft = await drafts.correct(statement)
        await drafts.save(draft.id, {"voters": VOTERS})
        await drafts.append(draft.id, "00112233aabbccdd", len(WHOLE_PICTURE), 0, WHOLE_PICTURE)
        await drafts.finish(draft.id, "00112233aabbccdd")


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if entry.name.endswith(_LEFT_OUT) or "/public" in entry.name:
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


if __name__ == "__main__":
    main()
