"""A daemon on a store with many bundles: how long until it is ready, its memory, and what `relay status` takes.

`python -m tests.bench.laden [--bundles 100000] [--runs 5]`. The bundles are laid straight into the catalogue
(`tests.bench.store`), since signing them would take longer than all that is measured. Memory is looked at twice: while
nobody is there; and at its most, once an empty neighbour was there and somebody looked at the board. That neighbour
asks for all statements and refuses them, so that it goes on asking. A `relay status` is a whole process, beside the
running daemon; where its time goes is asked of one that profiles itself.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.bench.contestants import REGISTER
from tests.bench.cost import most_resident, resident
from tests.bench.store import fill_apart
from tests.boxes import RELAY, Election, NodeBox, free_port

READY_SECONDS, MEMORY, STATUS_SECONDS = 3.0, 150e6, 0.2
SETTLING_SECONDS = 5.0
"""Until the daemon has done what it does after it is ready."""
BOARD_SECONDS = 5.0
"""The page asks for itself again."""
VISITED_SECONDS = 30.0
"""How long the neighbour is there: it has asked for all of a hundred thousand statements then."""
LINES = 16

STAGES = """
import asyncio, sys, time
from pathlib import Path
begun = time.perf_counter()
def stage(what):
    global begun
    now = time.perf_counter()
    print(f"{what}: {(now - begun) * 1000:.0f} ms")
    begun = now
from relay.cli import status
from relay.node.home import Home
stage("importing what the command needs")
async def main():
    home = Home(Path(sys.argv[1]))
    async with home.custody(looking=True) as custody:
        stage("opening the store and its records")
        await status.describe_node(home, home.member(), custody)
        stage("asking for all that is shown")
    stage("closing")
asyncio.run(main())
"""

PROFILED = """
import cProfile, pstats, sys
from relay.cli import run
profile = cProfile.Profile()
profile.runcall(run, ["status", "--home", sys.argv[1]])
pstats.Stats(profile, stream=sys.stdout).sort_stats("cumulative").print_stats("relay/|connect|execute|fetch", 40)
"""


def timed(box: NodeBox, runs: int) -> tuple[float, float]:
    """Median and mean of `relay status`: seconds, and seconds of CPU."""
    times: list[float] = []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(runs):
        begun = time.perf_counter()
        command = [*RELAY, "status", "--json", "--home", str(box.home)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
        times.append(time.perf_counter() - begun)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return statistics.median(times), cpu / runs


def visited(box: NodeBox, neighbour: NodeBox, console: int) -> tuple[int, int]:
    """The most memory that the daemon of `box` took once a neighbour was there, and the bytes that this one got."""
    assert box.daemon is not None
    with neighbour:
        neighbour.start()
        until = time.monotonic() + VISITED_SECONDS
        while time.monotonic() < until:
            urllib.request.urlopen(f"http://127.0.0.1:{console}/board").read()
            time.sleep(BOARD_SECONDS)
        (seen,) = neighbour.status()["peers"]
    return most_resident(box.daemon.pid), int(seen["bytes_in"])


def main() -> int:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="laden-") as name:
        folder = Path(name)
        office = Election(folder / "office", REGISTER)
        box, neighbour = (office.admit(NodeBox(folder / name), "carrier") for name in ("boat", "empty"))
        sync, console = free_port(), free_port()
        box.config(discovery=False, listen=f"127.0.0.1:{sync}", console=f"127.0.0.1:{console}")
        neighbour.config(
            discovery=False,
            listen=f"127.0.0.1:{free_port()}",
            console=f"127.0.0.1:{free_port()}",
            peers=[f"127.0.0.1:{sync}"],
        )
        box.relay("status")  # makes the store
        empty, _ = timed(box, options.runs)
        fill_apart(box.home / "store" / "catalogue.db", options.bundles, options.bundles)
        starts: list[float] = []
        with box:
            for _ in range(options.runs):
                begun = time.perf_counter()
                daemon = box.start(within=60.0)
                starts.append(time.perf_counter() - begun)
                if len(starts) < options.runs:
                    box.stop()
            time.sleep(SETTLING_SECONDS)
            memory = resident(daemon.pid)
            laden, cpu = timed(box, options.runs)
            stages = box.host.run([sys.executable, "-c", STAGES, box.home]).text
            profile = box.host.run([sys.executable, "-c", PROFILED, box.home]).text
            most, taken = visited(box, neighbour, console)
        ready = statistics.median(starts)
        print(f"| {options.bundles} bundles | | limit | |\n|---|---|---|---|")
        print(f"| ready after | {ready:.2f} s | {READY_SECONDS} s | {_hit(ready, READY_SECONDS)} |")
        print(f"| memory | {memory / 1e6:.0f} MB | {MEMORY / 1e6:.0f} MB | {_hit(memory, MEMORY)} |")
        print(f"| at the most, visited | {most / 1e6:.0f} MB | {MEMORY / 1e6:.0f} MB | {_hit(most, MEMORY)} |")
        limit = f"{STATUS_SECONDS * 1000:.0f} ms"
        took = f"{laden * 1000:.0f} ms ({cpu * 1000:.0f} of CPU)"
        print(f"| `relay status` | {took} | {limit} | {_hit(laden, STATUS_SECONDS)} |")
        print(f"| `relay status` of an empty store | {empty * 1000:.0f} ms | | |")
        print(f"\nThe neighbour got {taken / 1e6:.0f} MB.")
        print(f"\nWhere the time of `relay status` goes:\n{stages}\n\nThe same profiled (which costs time itself):")
        lines = [line for line in profile.splitlines() if re.match(r" *\d+(/\d+)? +\d", line)]
        print("\n".join(line.replace(str(folder), "") for line in lines[:LINES]))
    return 0


def _hit(value: float, limit: float) -> str:
    return "hit" if value <= limit else "MISS"


if __name__ == "__main__":
    sys.exit(main())
