"""One contact between two hosts: what useful bytes change hands, beside other programs and raw TCP on the same link.

    python -m tests.bench.contact [--rows lossy,fast] [--contestants relay,rsync] [--runs 3] [--json FILE]

Needs root, for network namespaces, and Debian's rsync, syncthing and nncp for those. The air between the hosts is a
process (`tests.netns.air`): rate, one-way delay, loss. All programs are loaded and run before the link comes up; the
window begins with it. The yardstick is what TCP moves in the same window, started before the link as well: with loss,
the best of one to eight connections, CUBIC or BBR. The other programs use the machine's own congestion control.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench import raw
from tests.bench.contestants import ALL, Contestant, End, Held, Package, Relay, Syncthing
from tests.netns.harness import Lab, Radio, why_not
from tests.processes import eventually

PHOTO = 1_500_000
APART_SECONDS = 6.0
"""Between two contacts: both ends have noticed by then that the link is dead, and kept what they had."""


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
    streams: tuple[int, ...] = (1,)
    """Numbers of raw TCP connections to try."""


ROWS = (
    Row("plain", 20, 10, 0, 10, contacts=2),
    Row("lossy", 20, 10, 1, 10, streams=(1, 2, 4, 8)),
    Row("fast", 100, 10, 0, 30, packages=130),
    Row("both", 20, 10, 0, 10, both=True),
    Row("known", 20, 10, 0, 3, packages=4, introduced=True),
    Row("strange", 20, 10, 0, 4, packages=4),
)


@dataclass(slots=True)
class Result:
    """What one run gave: useful bytes per contact, whole packages and the time to the first, and TCP's share."""

    row: str
    contestant: str
    useful: list[int] = field(default_factory=list)
    whole: int = 0
    first_whole: float | None = None
    raw: int = 0
    """Bytes that TCP moves in the window."""
    raw_package: float = 0.0
    """Seconds in which TCP moves one package."""
    each_way: list[int] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Useful bytes of the first contact over TCP's."""
        return self.useful[0] / self.raw


class Course:
    """Two hosts and the link of one row; the second one comes and goes."""

    def __init__(self, lab: Lab, row: Row) -> None:
        self.row = row
        self.island, self.ferry = lab.host("island"), lab.host("ferry")
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

    def contact(self, watch: Callable[[], bool]) -> float | None:
        """One contact; the seconds after which `watch` was true first."""
        self.link.up(self.ferry)
        begun = time.monotonic()
        first = None
        while (passed := time.monotonic() - begun) < self.row.seconds:
            if first is None and watch():
                first = passed
            time.sleep(0.02 if first is None else min(0.2, self.row.seconds - passed))
        self.link.down(self.ferry)
        return first


def make_packages(folder: Path, count: int) -> list[Package]:
    """Packages of a tally of 2 KB and two photographs that cannot be compressed; sorted by folder."""
    for number in range(count):
        package = folder / f"{number:03}"
        package.mkdir(parents=True)
        for photo in range(2):
            (package / f"{photo}.jpg").write_bytes(os.urandom(PHOTO))
        (package / "tally.json").write_text(json.dumps(_tally(), indent=8))
    return [Package(one) for one in sorted(folder.iterdir())]


def _tally() -> dict[str, object]:
    return {"registered_voters": 300, "votes": {str(pair): 2 for pair in range(1, 100)}}


def compete(kind: type[Contestant], row: Row, folder: Path) -> Result:
    """One run of one contestant."""
    result = Result(row.name, kind.name)
    with Lab(folder / "lab") as lab:
        course = Course(lab, row)
        halves = [make_packages(folder / "packages" / side, row.packages) for side in "ab"[: 1 + row.both]]
        contestant = kind(course.ends(folder, [package for half in halves for package in half]))
        taker = contestant.ends[1]
        if isinstance(contestant, Relay):
            if row.introduced:
                introduce(contestant, course)
            contestant.load()
        if not row.introduced or not isinstance(contestant, Relay):
            contestant.start()
        if isinstance(contestant, Syncthing):
            eventually(contestant.ready, 60, "syncthing has scanned")
        before = Held(0, 0)
        for number in range(row.contacts):
            first = course.contact(lambda: contestant.held(taker).whole > 0)
            time.sleep(APART_SECONDS)
            held = contestant.held(taker)
            result.useful.append(held.bytes - before.bytes)
            before = held
            if number == 0:
                result.first_whole, result.whole = first, held.whole
        if row.both:
            result.each_way = [contestant.held(end).bytes for end in contestant.ends]
            result.useful = [sum(result.each_way)]
    return result


def introduce(contestant: Relay, course: Course) -> None:
    """Let relay's nodes meet once, and part."""
    contestant.start()
    course.link.up(course.ferry)
    for box in contestant.boxes.values():
        eventually(lambda box=box: box.status()["peers"], 20, f"{box.home.name} has met the other")  # type: ignore[misc]
    course.link.down(course.ferry)
    time.sleep(APART_SECONDS)


def yardstick(row: Row, folder: Path, chosen: raw.Choice | None) -> tuple[raw.Choice, raw.Moved]:
    """What TCP moves in the row's window: the best of the numbers of connections and of congestion controls."""
    best: tuple[raw.Choice, raw.Moved] | None = None
    choices = [chosen] if chosen else [raw.Choice(n, control) for n in row.streams for control in raw.CONTROLS]
    for choice in choices:
        with Lab(folder / f"raw-{choice.streams}-{choice.control}") as lab:
            course = Course(lab, row)
            moved = raw.measure(course.link, course.island, course.ferry, choice, row.seconds, course.contact, row.both)
        if best is None or moved.bytes > best[1].bytes:
            best = choice, moved
    assert best is not None
    return best


def main() -> int:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS))
    parser.add_argument("--contestants", default=",".join(kind.name for kind in ALL))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to keep the results, for tests.bench.plot")
    options = parser.parse_args()
    if (reason := why_not()) is not None:
        print(reason, file=sys.stderr)
        return 1
    kinds = [kind for kind in ALL if kind.name in options.contestants.split(",")]
    for kind in kinds:
        if shutil.which(kind.needs) is None:
            print(f"{kind.name} is missing: apt-get install {kind.package}", file=sys.stderr)
            return 1
    results: list[Result] = []
    for row in [row for row in ROWS if row.name in options.rows.split(",")]:
        results += run_row(row, kinds, options.runs)
        if options.json:
            options.json.write_text(json.dumps([asdict(one) for one in results], indent=1))
    return 0


def run_row(row: Row, kinds: Sequence[type[Contestant]], runs: int) -> list[Result]:
    """All runs of one row, and its table."""
    results: list[Result] = []
    choice: raw.Choice | None = None
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="contact-") as folder:
            choice, moved = yardstick(row, Path(folder), choice)
        for kind in kinds:
            if row.introduced and kind is not Relay:
                continue
            with tempfile.TemporaryDirectory(prefix="contact-") as folder:
                result = compete(kind, row, Path(folder))
            result.raw, result.raw_package = moved.bytes, moved.package_seconds
            results.append(result)
            print(json.dumps(asdict(result)), file=sys.stderr, flush=True)
    assert choice is not None
    print_table(row, choice, results)
    return results


def print_table(row: Row, choice: raw.Choice, results: Sequence[Result]) -> None:
    """The medians of a row."""
    where = f"{row.rate:g} Mbit/s, {row.delay:g} ms, {row.loss:g} % loss, {row.seconds:g} s"
    tcp = f"{choice.streams} TCP connection{'s' * (choice.streams > 1)} ({choice.control})"
    print(f"\n{row.name}: {where}{', both ways' * row.both}; beside {tcp}\n")
    print(
        "| | useful bytes over TCP's | second contact over first | whole packages | first whole beyond bare transfer |"
    )
    print("|---|---|---|---|---|")
    for name in dict.fromkeys(one.contestant for one in results):
        mine = [one for one in results if one.contestant == name]
        ratio = statistics.median(one.ratio for one in mine)
        again = [one.useful[1] / one.useful[0] for one in mine if len(one.useful) > 1 and one.useful[0]]
        second = f"{statistics.median(again):.2f}" if again else ""
        late = [one.first_whole - one.raw_package for one in mine if one.first_whole is not None]
        first = f"{statistics.median(late):.2f} s" if len(late) * 2 > len(mine) else "none"
        print(f"| {name} | {ratio:.3f} | {second} | {statistics.median(one.whole for one in mine):g} | {first} |")
        if row.both:
            print(f"\neach way: {[one.each_way for one in mine]}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
