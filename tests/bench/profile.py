"""Where the time of one contact goes: bytes as they come, calls one by one, and what the two daemons compute.

`python -m tests.bench.profile [--seconds 10] [--rate 20] [--loss 0] [--known] [--both] [--packages 24] [--calls 30]`;
root. Both nodes keep a notebook (`tests.bench.trace`), which costs them a little. Times count from the link.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.contact import Course, Row, introduce, make_packages
from tests.bench.contestants import Relay
from tests.bench.cost import cpu_seconds, main_thread_seconds
from tests.bench.trace import SAMPLES, TRACED, Trace, read_trace, top
from tests.netns.harness import Lab, why_not

FINE_SECONDS = 0.05
PARTS = 12
Heard = tuple[float, float, int]
"""From when to when (seconds after the link), and bytes of frames that the taker heard."""


class Recorder:
    """Notes what the takers hear, every 50 ms in the first second and every second afterwards."""

    def __init__(self, course: Course, pids: Sequence[int]) -> None:
        self.heard: list[Heard] = []
        self.begun = 0.0
        self.computed: list[tuple[float, float]] = []
        """For each daemon the CPU time of the contact: of its first thread, and of the others."""
        self._course = course
        self._pids = pids

    def __call__(self, seconds: float) -> None:
        self.begun = time.monotonic()
        before = [(main_thread_seconds(pid), cpu_seconds(pid)) for pid in self._pids]
        at, bytes_before = 0.0, self._heard()
        while at < seconds:
            until = min(seconds, at + (FINE_SECONDS if at < 1 - FINE_SECONDS / 2 else 1.0))
            time.sleep(max(0.0, self.begun + until - time.monotonic()))
            heard = self._heard()
            self.heard.append((at, until, heard - bytes_before))
            at, bytes_before = until, heard
        for pid, (main, every) in zip(self._pids, before, strict=True):
            first = main_thread_seconds(pid) - main
            self.computed.append((first, max(0.0, cpu_seconds(pid) - every - first)))

    def _heard(self) -> int:
        takers = (self._course.ferry, self._course.island)[: 1 + self._course.row.both]
        return sum(self._course.link.heard(taker) for taker in takers)


def main() -> int:
    """Run one contact, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--loss", type=float, default=0)
    parser.add_argument("--packages", type=int, default=24)
    parser.add_argument("--calls", type=int, default=30, help="how many of the first calls to list")
    parser.add_argument("--known", action="store_true", help="the nodes met before")
    parser.add_argument("--both", action="store_true", help="both have packages, and share one medium")
    options = parser.parse_args()
    if (reason := why_not()) is not None:
        print(reason, file=sys.stderr)
        return 1
    row = Row("profile", options.rate, 10, options.loss, options.seconds, options.packages, both=options.both)
    with tempfile.TemporaryDirectory(prefix="profile-") as name, Lab(Path(name) / "lab") as lab:
        course = Course(lab, row)
        halves = [make_packages(Path(name) / "packages" / side, row.packages) for side in "ab"[: 1 + row.both]]
        ends = course.ends(Path(name), [package for half in halves for package in half])
        relay = Relay(ends, command=("env", f"{SAMPLES}=1", *TRACED))
        if options.known:
            relay.start()
            introduce(relay, course)
        relay.load()
        if not options.known:
            relay.start()
        daemons = [box.daemon.pid for box in relay.boxes.values() if box.daemon is not None]
        recorder = Recorder(course, daemons)
        course.contact(recorder)
        for box in relay.boxes.values():
            box.stop()
        traces = {end.host.name: read_trace(relay.boxes[end].home) for end in ends}
    report(recorder, traces, row, options.calls)
    return 0


def report(recorder: Recorder, traces: dict[str, Trace], row: Row, listed: int) -> None:
    """Print everything."""
    begun, end = recorder.begun, recorder.begun + row.seconds
    print("\n| seconds after the link | KB heard | of the link |\n|---|---|---|")
    for at, until, heard in recorder.heard:
        print(f"| {at:.2f} to {until:.2f} | {heard / 1000:.0f} | {heard * 8 / row.rate / 1e6 / (until - at):.2f} |")
    chunks = [one for trace in traces.values() for one in trace.chunks if begun <= one[0] <= end]
    if chunks:
        last = max(one[0] for one in chunks) - begun
        print(f"\nfirst chunk whole after {min(chunks)[0] - begun:.3f} s, the last one after {last:.3f} s", end=" ")
        print(f"of {row.seconds:g} s; {sum(one[3] for one in chunks) / 1e6:.2f} MB of content")
    calls = [(name, call) for name, trace in traces.items() for call in trace.calls if begun <= call.end <= end + 1]
    print(f"\n| of | call ({min(listed, len(calls))} of {len(calls)}) | begin, s | took, ms | |\n|---|---|---|---|---|")
    for who, call in sorted(calls, key=lambda one: one[1].begin)[:listed]:
        took = (call.end - call.begin) * 1000
        print(f"| {who} | {call.name} | {call.begin - begun:.3f} | {took:.0f} | {'failed' * call.failed} |")
    print("\n| call | times | median, ms | in all, s |\n|---|---|---|---|")
    by_name = sorted((call for _, call in calls), key=lambda call: call.name)
    for name, group in itertools.groupby(by_name, key=lambda call: call.name):
        print(_summed(name, [call.end - call.begin for call in group]))
    for (who, trace), (first, others) in zip(traces.items(), recorder.computed, strict=True):
        print(f"\n{who}: CPU {first:.2f} s in the loop and {others:.2f} s in threads, of {row.seconds:g} s\n")
        print("| CPU while the loop was in | share |\n|---|---|")
        for where, share in top([one for one in trace.samples if begun <= one[0] <= end], PARTS):
            print(f"| {where} | {share:.0%} |")


def _summed(name: str, took: list[float]) -> str:
    return f"| {name} | {len(took)} | {statistics.median(took) * 1000:.0f} | {sum(took):.2f} |"


if __name__ == "__main__":
    sys.exit(main())
