"""What a node costs that has nothing to do: CPU and memory of daemons that see each other and have no news.

`python -m tests.bench.idle [--neighbours 5] [--minutes 10]`; needs root, for network namespaces.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.contestants import REGISTER
from tests.bench.cost import cpu_seconds, resident
from tests.boxes import Election, NodeBox
from tests.netns.harness import Lab, why_not
from tests.processes import eventually

LIMIT = 0.005
"""Of one core."""


def main() -> int:
    """Run, and print a line for each node."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neighbours", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    if (reason := why_not()) is not None:
        print(reason, file=sys.stderr)
        return 1
    count = options.neighbours + 1
    with tempfile.TemporaryDirectory(prefix="idle-") as name, Lab(Path(name) / "lab") as lab:
        folder = Path(name)
        hosts = [lab.host(f"boat{number}") for number in range(count)]
        link = lab.link(*hosts)
        link.ready()
        election = Election(folder / "office", REGISTER)
        boxes = [election.admit(NodeBox(folder / host.name, host), "carrier") for host in hosts]
        daemons = [box.start() for box in boxes]
        for box in boxes:
            eventually(lambda box=box: len(box.status()["peers"]) == count - 1, 60, f"{box.home.name} sees all others")  # type: ignore[misc]
        before = [cpu_seconds(daemon.pid) for daemon in daemons]
        begun = time.monotonic()
        time.sleep(options.minutes * 60)
        passed = time.monotonic() - begun
        print(f"| node with {options.neighbours} neighbours | of one core | memory | at most {LIMIT:.1%} |")
        print("|---|---|---|---|")
        for box, daemon, used in zip(boxes, daemons, before, strict=True):
            share = (cpu_seconds(daemon.pid) - used) / passed
            hit = "hit" if share <= LIMIT else "MISS"
            print(f"| {box.home.name} | {share:.2%} | {resident(daemon.pid) / 1e6:.0f} MB | {hit} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
