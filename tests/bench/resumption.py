"""Content that crosses a link again because a contact was cut: packages in many short contacts.

`python -m tests.bench.resumption [--packages 8] [--seconds 1.5] [--runs 3]`; root. 20 Mbit/s, 10 ms, no loss. The
taking node notes every chunk that comes and every byte of the streams that bring them (`tests.bench.trace`): what came
more than once, and what was cut in the middle. Beside it stands what the air brought in all, with all headers,
greetings and comparing, which each contact pays anew. Every run is made twice: who has the lower node id visits, and so
content is fetched once and brought once.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from relay.limits import STREAMS
from relay.records.statement import chunk_size_for
from tests.bench.contact import APART_SECONDS, PHOTO, Course, Row, make_packages
from tests.bench.contestants import Relay
from tests.bench.trace import TRACED, Trace, read_trace
from tests.netns.harness import Lab, why_not

WAYS = ("brought", "fetched")
"""Who visits: the end that gives, or the one that takes."""


def transfer(folder: Path, packages: int, seconds: float, way: str) -> tuple[Trace, int, int]:
    """What the taker noted, bytes of frames that it heard, and the number of contacts, until it had everything."""
    with Lab(folder / "lab") as lab:
        course = Course(lab, Row("cut", 20, 10, 0, seconds))
        ends = course.ends(folder, make_packages(folder / "packages", packages))
        contestant = Relay(ends, lower=ends[WAYS.index(way)], command=TRACED)
        contestant.load()
        contestant.start()
        taker = contestant.ends[1]
        contacts = 0
        while contestant.held(taker).whole < packages:
            course.contact()
            contacts += 1
            time.sleep(APART_SECONDS)
        return read_trace(contestant.boxes[taker].home), course.link.heard(course.ferry), contacts


def main() -> int:
    """Run, and print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if (reason := why_not()) is not None:
        print(reason, file=sys.stderr)
        return 1
    allowed = STREAMS * chunk_size_for(PHOTO)
    content = 2 * PHOTO * options.packages
    again: list[float] = []
    print("| | contacts | chunks that came twice | in vain per cut | of one chunk a connection | air over content |")
    print("|---|---|---|---|---|---|")
    for way in WAYS * options.runs:
        with tempfile.TemporaryDirectory(prefix="cut-") as folder:
            trace, heard, contacts = transfer(Path(folder), options.packages, options.seconds, way)
        again.append(trace.again / max(1, contacts - 1))
        share = again[-1] / allowed
        print(
            f"| {way} | {contacts} | {trace.twice} | {again[-1]:.0f} | {share:.2f} | {heard / content:.3f} |",
            flush=True,
        )
    worst = max(again)
    print(f"\nmedian {statistics.median(again):.0f} bytes per cut, at most {worst:.0f};", end=" ")
    print(f"{STREAMS} chunks, which is allowed, are {allowed}: {'hit' if worst <= allowed else 'MISS'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
