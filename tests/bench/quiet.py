"""What a visit costs that has little or nothing to carry: bytes above TLS, round trips, CPU of either side.

`python -m tests.bench.quiet [--records 10000 1000000] [--visits 5]`. A daemon on one side and `relay.sync.visit` on the
other, over loopback with HTTP and TLS, as between two boats. Both hold the same records, laid straight into their
catalogues, which nobody asks for since both have them. First the visitor has ten statements more, then nothing is new.
Bytes are those that TLS is given and gives back, both ways, HTTP's heads included.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from relay.net.client import HttpPeer
from relay.net.tls import client_context
from relay.node.daemon import Daemon
from relay.node.home import Home
from relay.sync.claims import Claims
from relay.sync.peer import Peer
from relay.sync.visit import Visit
from tests.bench.contestants import FORM, REGISTER, TPS
from tests.bench.cost import cpu_seconds
from tests.boxes import Election, NodeBox, free_port

NEW = 10
FEW = 100_000
"""Up to so many records the lower of the two limits for new ones holds."""
NOTHING_BYTES, NOTHING_CPU = 4096, 0.050
NEW_BYTES = 12 * 1024, 25 * 1024
NEW_TRIPS = 4
COMPARING = "hello", "reconcile"
"""The calls in which what is held is compared; a greeting may begin with it."""


@dataclass(slots=True)
class Cost:
    """What one visit cost. `compared` are the bytes of comparing what is held, greetings included."""

    bytes: int = 0
    calls: list[str] = field(default_factory=list)
    compared: int = 0
    records: int = 0
    """Bytes of what was carried: records and content."""
    asking: float = 0.0
    answering: float = 0.0

    @property
    def trips(self) -> int:
        """Round trips of comparing."""
        return sum(call in COMPARING for call in self.calls)


def fill(home: Path, count: int) -> None:
    """Have a node hold this many records more, as far as anybody compares: three statements to each receipt."""
    with sqlite3.connect(home / "store" / "catalogue.db") as database:
        database.executemany(
            "INSERT INTO journal (kind, id, present) VALUES (?, ?, 1)",
            ((4 if number % 4 else 3, sha256(b"relay bench %d" % number).digest()) for number in range(count)),
        )
    database.close()


def count_bytes(context: ssl.SSLContext, note: Callable[[int], None]) -> None:
    """Tell `note` how many bytes this context's connections carry, above TLS."""

    class Counted(context.sslobject_class):  # type: ignore[name-defined,misc]
        def read(self, *arguments: Any) -> Any:
            got = super().read(*arguments)
            note(got if isinstance(got, int) else len(got))
            return got

        def write(self, data: bytes) -> int:
            written: int = super().write(data)
            note(written)
            return written

    context.sslobject_class = Counted


class Visitor:
    """The visiting node, in this process."""

    def __init__(self, daemon: Daemon, url: str, server: int) -> None:
        self._daemon = daemon
        self._url = url
        self._server = server
        self._carried = 0
        home = daemon.home
        identify = daemon.custody.admission.identify
        self._context = client_context(home.certificate_file, home.key_file, daemon.member.root, identify)
        count_bytes(self._context, self._note)

    def peer(self) -> HttpPeer:
        """A connection to come."""
        return HttpPeer(self._url, self._context)

    async def visit(self, peer: HttpPeer) -> Cost:
        """One visit over this connection."""
        cost = Cost()
        for name in (name for name in vars(Peer) if not name.startswith("_") and name != "get_chunks"):
            setattr(peer, name, self._counted(cost, name, getattr(HttpPeer, name).__get__(peer)))
        begun = self._carried, time.process_time(), cpu_seconds(self._server)
        daemon = self._daemon
        visit = Visit(daemon.custody, peer, daemon.greeting(), Claims(), time.monotonic, daemon.watch)
        report = await visit.run()
        cost.records = report.bytes_in + report.bytes_out
        carried, asking, answering = begun
        cost.bytes = self._carried - carried
        cost.asking, cost.answering = time.process_time() - asking, cpu_seconds(self._server) - answering
        return cost

    def _note(self, size: int) -> None:
        self._carried += size

    def _counted(self, cost: Cost, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(*arguments: Any) -> Any:
            before = self._carried
            try:
                return await call(*arguments)
            finally:
                cost.calls.append(name)
                if name in COMPARING:
                    cost.compared += self._carried - before

        return counted


async def measure(home: Home, url: str, server: int, visits: int) -> tuple[Cost, list[Cost], list[Cost]]:
    """A visit with something new; visits without, each on a new connection; and others on one that was there."""
    async with home.custody() as custody:
        visitor = Visitor(Daemon(home, home.config(), home.member(), custody), url, server)
        async with visitor.peer() as peer:
            new = await visitor.visit(peer)
            kept = [await visitor.visit(peer) for _ in range(visits)]
        fresh: list[Cost] = []
        for _ in range(visits):
            async with visitor.peer() as peer:
                fresh.append(await visitor.visit(peer))
        return new, fresh, kept


def run(folder: Path, count: int, visits: int) -> None:
    """Make two nodes, fill them, and print what visits cost."""
    election = Election(folder / "office", REGISTER)
    boat = election.admit(NodeBox(folder / "boat"), "carrier")
    island = election.admit(NodeBox(folder / "island"), "operator", tps=[TPS[0]])
    photo = folder / "photo.jpg"
    for _ in range(NEW):
        photo.write_bytes(b"\xff\xd8\xff" + os.urandom(1000))
        island.submit(photo, tps=TPS[0], form=FORM)
    for box in (boat, island):
        fill(box.home, count)
    port = free_port()
    boat.config(listen=f"127.0.0.1:{port}", discovery=False)
    with boat:
        server = boat.start(within=120.0)
        new, fresh, kept = asyncio.run(measure(Home(island.home), f"https://127.0.0.1:{port}", server.pid, visits))
    show(f"{count} | {NEW} new", [new], NEW_BYTES[count > FEW], compared=True)
    show(f"{count} | nothing new, new connection", fresh, NOTHING_BYTES, compared=False)
    show(f"{count} | nothing new, connection kept", kept, NOTHING_BYTES, compared=False)


def show(what: str, costs: list[Cost], limit: int, *, compared: bool) -> None:
    """One line: the medians, and whether they are within the limits."""

    def median(of: Callable[[Cost], float]) -> float:
        return statistics.median(of(cost) for cost in costs)

    asking, answering = median(lambda cost: cost.asking), median(lambda cost: cost.answering)
    one, trips = costs[-1], max(cost.trips for cost in costs)
    if compared:
        hit = median(lambda cost: cost.compared) <= limit and trips <= NEW_TRIPS
    else:
        hit = median(lambda cost: cost.bytes) <= limit and max(asking, answering) <= NOTHING_CPU
    cells = [what, f"{median(lambda cost: cost.compared):.0f}", str(trips), f"{median(lambda cost: cost.bytes):.0f}"]
    cells += [f"{median(lambda cost: cost.records):.0f}", f"{len(one.calls)}: {', '.join(dict.fromkeys(one.calls))}"]
    cells += [f"{asking * 1000:.0f} / {answering * 1000:.0f}", "hit" if hit else "MISS"]
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> int:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--visits", type=int, default=5)
    options = parser.parse_args()
    print(
        f"{NEW} new: comparing takes at most {NEW_BYTES[0]} bytes ({NEW_BYTES[1]} among more than {FEW}) and", end=" "
    )
    print(
        f"{NEW_TRIPS} round trips; nothing new: at most {NOTHING_BYTES} bytes in all and {NOTHING_CPU * 1000:.0f} ms\n"
    )
    print("| records | visit | bytes to compare | round trips | bytes in all | of them carried | calls | CPU ms | |")
    print("|---|---|---|---|---|---|---|---|---|")
    for count in options.records:
        with tempfile.TemporaryDirectory(prefix="quiet-") as folder:
            run(Path(folder), count, options.visits)
    return 0


if __name__ == "__main__":
    sys.exit(main())
