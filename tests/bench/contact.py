"""One contact between two hosts: what useful bytes change hands, beside other programs and raw TCP on the same link.

    python -m tests.bench.contact [--rows lossy,fast] [--contestants tcp,relay,rsync] [--runs 3] [--json FILE]

Needs root, for network namespaces, and Debian's rsync, syncthing and nncp for those. The air between the hosts is a
process (`tests.netns.air`): rate, one-way delay, loss. All programs are loaded and run before the link comes up; the
window begins with it, and nobody looks at them until it is over. The yardstick is what TCP moves in the same window,
with several numbers of connections, CUBIC or BBR, each in every run: the limit is the best one's median. The other
programs use the machine's own congestion control.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import brief, raw, results
from tests.bench.contestant import TALLY, Contestant, End, Held, Package
from tests.bench.contestants import ALL, Relay, Syncthing
from tests.bench.cost import busy_seconds, cpu_seconds
from tests.bench.results import Result
from tests.netns.harness import Lab, Radio, why_not
from tests.processes import eventually

PHOTO = 1_500_000
TALLY_BYTES = 2_000
"""Bytes of the file of a tally, filled up with blanks."""
APART_SECONDS = 6.0
"""Between two contacts: both ends have noticed by then that the link is dead, and kept what they had."""
ENDS = "island", "ferry"


@dataclass(frozen=True, slots=True)
class Row:
    """A link and what happens on it. Rate in Mbit/s, one-way delay in ms, loss in percent, times in seconds."""

    name: str
    rate: float
    delay: float
    loss: float
    seconds: float
    packages: int = 24
    contacts: int = 1
    both: bool = False
    """Both ends have packages; the medium is shared, as on Wi-Fi."""
    introduced: bool = False
    """relay's nodes know each other from an earlier contact."""
    streams: tuple[int, ...] = ()
    """Numbers of raw TCP connections to try, each way."""
    news: bool = False
    """The ferry has receipts and a notice for the island; what counts is which records cross."""


ROWS = (
    Row("plain", 20, 10, 0, 10, contacts=2, streams=(1, 4)),
    Row("lossy", 20, 10, 1, 10, streams=(1, 2, 4, 8)),
    Row("fast", 100, 10, 0, 30, packages=130, streams=(1, 4)),
    Row("both", 20, 10, 0, 10, both=True, streams=(1, 2, 4)),
    Row("known", 20, 10, 0, 4, packages=4, introduced=True),
    Row("strange", 20, 10, 0, 5, packages=4),
    Row("brief", 20, 10, 0, 1, news=True),
)


class Course:
    """Two hosts and the link of one row; the second one comes and goes. `cost` is of the last contact: what the air
    took of one core, and everything of all cores."""

    def __init__(self, lab: Lab, row: Row) -> None:
        self.row = row
        self.cost = 0.0, 0.0
        self.island, self.ferry = (lab.host(name) for name in ENDS)
        self.link: Radio = lab.radio(
            self.island,
            self.ferry,
            rate_mbit=row.rate,
            delay_ms=row.delay,
            loss_percent=row.loss,
            shared=row.both,
            dad=False,
        )
        self.link.ready()
        self._addresses = [
            self.link.address(one, seen_from=other)
            for one, other in ((self.island, self.ferry), (self.ferry, self.island))
        ]
        self.link.down(self.ferry)

    def ends(self, folder: Path, packages: Sequence[Package]) -> tuple[End, End]:
        """Both ends; the island hands its packages over and, in a row of both directions, so does the ferry."""
        half = len(packages) // 2 if self.row.both else len(packages)
        island, ferry = self._addresses
        giver = End(self.island, ferry, folder / "island", tuple(packages[:half]))
        return giver, End(self.ferry, island, folder / "ferry", tuple(packages[half:]))

    def contact(self, meanwhile: Callable[[float], None] = time.sleep) -> float:
        """One contact, at which nobody looks; when the link came up, in seconds since 1970."""
        self.link.up(self.ferry)
        begun = time.time()
        before = cpu_seconds(self.link.pid), busy_seconds()
        meanwhile(self.row.seconds)
        after = cpu_seconds(self.link.pid), busy_seconds()
        self.link.down(self.ferry)
        air, busy = (late - early for late, early in zip(after, before, strict=True))
        self.cost = air / self.row.seconds, busy / self.row.seconds / (os.cpu_count() or 1)
        return begun


def make_packages(folder: Path, count: int) -> list[Package]:
    """Packages of a tally of 2 KB and two photographs that cannot be compressed; sorted by folder."""
    for number in range(count):
        package = folder / f"{folder.name}{number:03}"  # both ends may put theirs into one folder
        package.mkdir(parents=True)
        for photo in range(2):
            (package / f"{photo}.jpg").write_bytes(b"\xff\xd8\xff" + os.urandom(PHOTO - 3))
        (package / TALLY).write_text(json.dumps(_tally(), indent=8).ljust(TALLY_BYTES))
    return [Package(one) for one in sorted(folder.iterdir())]


def _tally() -> dict[str, object]:
    return {"registered_voters": 300, "votes": {str(pair): 2 for pair in range(1, 21)}}


def compete(kind: type[Contestant], row: Row, folder: Path, order: str | None = None) -> Result:
    """One run of one contestant."""
    result = Result(row.name, kind.name, order or "")
    with Lab(folder / "lab") as lab:
        course = Course(lab, row)
        halves = [make_packages(folder / "packages" / side, row.packages) for side in "ab"[: 1 + row.both]]
        ends = course.ends(folder, [package for half in halves for package in half])
        if kind is Relay:
            contestant: Contestant = _prepared(Relay(ends, ends[ENDS.index(order)] if order else None), course, lab)
        else:
            contestant = kind(ends, small_first=row.news)
            contestant.start()
        if isinstance(contestant, Syncthing):
            eventually(contestant.ready, 60, "syncthing has scanned")
        taker = ends[1]
        before = Held(0, 0)
        for number in range(row.contacts):
            begun = course.contact()
            time.sleep(APART_SECONDS)
            held = contestant.held(taker)
            result.useful.append(held.bytes - before.bytes)
            before = held
            if number == 0:
                result.whole = held.whole
                result.first_whole = None if held.first is None else held.first - begun
                result.air, result.busy = course.cost
        if row.both:
            result.each_way = [contestant.held(end).bytes for end in ends]
            result.useful = [sum(result.each_way)]
        if row.news and isinstance(contestant, Relay):
            result.crossed = brief.crossed(contestant, row.packages, ends[0])
        elif row.news:
            result.crossed = {"tallies": [held.small, row.packages]}
    return result


def _prepared(relay: Relay, course: Course, lab: Lab) -> Relay:
    """relay's nodes, loaded and running; introduced to each other, or with news, where the row says so."""
    if course.row.news:
        brief.bring_news(relay, lab.host("harbour"), relay.ends[0].folder.parent)
    if course.row.introduced:
        relay.start()
        introduce(relay, course)
    relay.load()
    if not course.row.introduced:
        relay.start()
    return relay


def introduce(relay: Relay, course: Course) -> None:
    """Let relay's nodes meet once, and part."""
    course.link.up(course.ferry)
    for box in relay.boxes.values():
        eventually(lambda box=box: box.status()["peers"], 20, f"{box.home.name} has met the other")  # type: ignore[misc]
    course.link.down(course.ferry)
    time.sleep(APART_SECONDS)


def yardstick(row: Row, folder: Path) -> list[Result]:
    """What TCP moves in the row's window, by each number of connections and congestion control."""
    found: list[Result] = []
    for choice in raw.choices(row.streams):
        with Lab(folder / choice.name.replace(" ", "-")) as lab:
            course = Course(lab, row)
            moved = raw.measure(course.link, course.island, course.ferry, choice, course.contact, row.both)
            result = Result(row.name, choice.name, useful=[sum(moved)], each_way=moved if row.both else [])
            result.air, result.busy = course.cost
            found.append(result)
    return found


def run_once(row: Row, names: Sequence[str]) -> list[Result]:
    """One run of each contestant in one row, after the yardstick's."""
    found: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="contact-") as folder:
        if raw.PREFIX in names:
            found += yardstick(row, Path(folder))
    for kind in (kind for kind in ALL if kind.name in names):
        # Which end has relay's lower node id, and so visits: only the ferry's link comes and goes.
        for order in ENDS if kind is Relay else (None,):
            with tempfile.TemporaryDirectory(prefix="contact-") as folder:
                found.append(compete(kind, row, Path(folder), order))
    for one in found:
        print(json.dumps(asdict(one)), file=sys.stderr, flush=True)
    return found


def main() -> int:
    """Run, keep, and print a table for each row."""
    names = [raw.PREFIX, *(kind.name for kind in ALL)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS))
    parser.add_argument("--contestants", default=",".join(names))
    parser.add_argument("--runs", type=int, default=3, help="0 prints the tables of what --json holds")
    parser.add_argument("--json", type=Path, help="where to keep the results, beside those of other rows")
    options = parser.parse_args()
    chosen = options.contestants.split(",")
    if options.runs and (reason := why_not()) is not None:
        print(reason, file=sys.stderr)
        return 1
    for kind in ALL if options.runs else ():
        if kind.name in chosen and not all(map(shutil.which, kind.needs)):
            print(f"{kind.name} is missing: apt-get install {kind.package}", file=sys.stderr)
            return 1
    kept = results.load(options.json) if options.json else []
    for row in [row for row in ROWS if row.name in options.rows.split(",")]:
        kept = results.merged(kept, [one for _ in range(options.runs) for one in run_once(row, chosen)])
        if options.json:
            results.save(options.json, kept)
        where = f"{row.rate:g} Mbit/s, {row.delay:g} ms, {row.loss:g} % loss, {row.seconds:g} s"
        measured = results.Row(row.name, row.rate, row.seconds, kept)
        print(f"\n{row.name}: {where}{', both ways' * row.both}\n\n{results.table(measured)}", flush=True)
        print(f"\n{results.verdict(measured)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
