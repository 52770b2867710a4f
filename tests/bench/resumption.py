"""Bytes that cross a link again because a contact was cut: the same packages in one contact, and in many.

`python -m tests.bench.resumption [--packages 8] [--seconds 1.5] [--runs 3]`; root. 20 Mbit/s, 10 ms, no loss. Counted
are the frames that the taking end hears until it has everything, by the air between the two (`tests.netns.air`); what
is beyond the content of one contact is headers, greetings and comparing, which each contact pays anew, and chunks that
were under way.
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
from tests.netns.harness import Lab, why_not


def transfer(folder: Path, packages: int, seconds: float) -> tuple[int, int]:
    """Bytes of frames that the taker heard, and the number of contacts, until it had everything."""
    with Lab(folder / "lab") as lab:
        course = Course(lab, Row("cut", 20, 10, 0, seconds))
        contestant = Relay(course.ends(folder, make_packages(folder / "packages", packages)))
        contestant.load()
        contestant.start()
        taker = contestant.ends[1]
        contacts = 0
        while contestant.held(taker).whole < packages:
            course.contact(lambda: False)
            contacts += 1
            time.sleep(APART_SECONDS)
        return course.link.heard(course.ferry), contacts


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
    chunk = chunk_size_for(PHOTO)
    allowed = 2 * STREAMS * chunk
    again: list[float] = []
    print("| one contact | cut | contacts | more bytes per cut | of one chunk for each connection |")
    print("|---|---|---|---|---|")
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory(prefix="cut-") as folder:
            whole, _ = transfer(Path(folder), options.packages, options.packages * 2.0)
        with tempfile.TemporaryDirectory(prefix="cut-") as folder:
            cut, contacts = transfer(Path(folder), options.packages, options.seconds)
        again.append((cut - whole) / (contacts - 1))
        print(f"| {whole} | {cut} | {contacts} | {again[-1]:.0f} | {again[-1] / allowed:.2f} |", flush=True)
    print(f"\nmedian {statistics.median(again):.0f} bytes per cut; {2 * STREAMS} chunks are {allowed} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
