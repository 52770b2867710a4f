"""The air between hosts, in user space: delay, loss and a shared medium, where the kernel has no `netem`.

`python -m tests.netns.air --delay 10 --loss 1 [--rate 20 [--shared]] [--seed 1]` (milliseconds, percent, Mbit/s). Every
host has a TAP device whose far end is this process: what one sends, the others hear, `delay` later. Commands come as
lines, each is answered by a line when it is done:

    join port0    make a TAP device of that name       up port0    into reach
    down port0    out of reach: frames are lost        heard port0    bytes of frames that it has received

With a `rate`, what is sent waits its turn for at most 100 ms and is dropped beyond; `shared` has all take turns on one
medium, as on Wi-Fi, else each has a rate of its own. Loss is drawn per frame from a seeded source of chance.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
QUEUE_SECONDS = 0.1
QUEUE_BYTES = 32 * 1024
"""A host's queue holds so many seconds of the link, and where it is slow so many bytes: some twenty frames."""
FRAME = 2048
AT_ONCE = 64
"""Frames read from one host before the others are looked at."""


@dataclass(slots=True)
class Port:
    """One host's end. `free_at` is when what it sent before has left it; `medium` is whose turn counts."""

    tap: int
    up: bool = False
    heard: int = 0
    free_at: float = 0.0
    sent: deque[tuple[float, bytes]] = field(default_factory=deque)
    """Frames on their way from this host, with the time at which the others hear them."""


class Air:
    """All ports, and what is on its way between them."""

    def __init__(self, delay: float, loss: float, rate: float | None, shared: bool, chance: random.Random) -> None:
        """`delay` in seconds, `loss` a share, `rate` in bytes a second."""
        self._delay = delay
        self._loss = loss
        self._seconds_per_byte = 1 / rate if rate else 0.0
        self._queue = max(QUEUE_SECONDS, QUEUE_BYTES * self._seconds_per_byte)
        self._shared = shared
        self._chance = chance
        self._ports: dict[str, Port] = {}
        self._medium_free_at = 0.0

    def obey(self, line: str) -> str:
        """Carry out one command; its answer."""
        verb, name = line.split()
        if verb == "join":
            self._ports[name] = Port(open_tap(name))
            return "ok"
        port = self._ports[name]
        if verb == "heard":
            return str(port.heard)
        port.up = verb == "up"
        return "ok"

    def taps(self) -> dict[int, Port]:
        """Ports by file descriptor."""
        return {port.tap: port for port in self._ports.values()}

    def take(self, port: Port, now: float) -> None:
        """Take what a host sends."""
        for _ in range(AT_ONCE):
            try:
                frame = os.read(port.tap, FRAME)
            except (BlockingIOError, OSError):
                return
            if not port.up or (self._loss and self._chance.random() < self._loss):
                continue
            free_at = self._medium_free_at if self._shared else port.free_at
            if free_at - now > self._queue:
                continue
            free_at = max(free_at, now) + len(frame) * self._seconds_per_byte
            if self._shared:
                self._medium_free_at = free_at
            else:
                port.free_at = free_at
            port.sent.append((free_at + self._delay, frame))

    def deliver(self, now: float) -> float | None:
        """Hand on what is due; when the next frame is, None while none is on its way."""
        due = None
        for port in self._ports.values():
            while port.sent and port.sent[0][0] <= now:
                _, frame = port.sent.popleft()
                for other in self._ports.values():
                    if other is not port and other.up and port.up:
                        with suppress(OSError):  # its interface is down
                            os.write(other.tap, frame)
                            other.heard += len(frame)
            if port.sent:
                due = min(due or port.sent[0][0], port.sent[0][0])
        return due


def open_tap(name: str) -> int:
    """Make a TAP device in this network namespace; it may be moved to another and keeps its end here."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return tap


def main() -> int:
    """Carry frames until the standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.0, help="one way, milliseconds")
    parser.add_argument("--loss", type=float, default=0.0, help="percent of frames")
    parser.add_argument("--rate", type=float, help="Mbit/s")
    parser.add_argument("--shared", action="store_true", help="one medium for all")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rate = options.rate * 1e6 / 8 if options.rate else None
    air = Air(options.delay / 1000, options.loss / 100, rate, options.shared, random.Random(options.seed))
    commands = sys.stdin.fileno()
    waiting = select.epoll()
    waiting.register(commands, select.EPOLLIN)
    taps: dict[int, Port] = {}
    due: float | None = None
    while True:
        timeout = -1 if due is None else max(0.0, due - time.monotonic())
        for descriptor, _ in waiting.poll(timeout):
            if descriptor == commands:
                line = sys.stdin.readline()
                if not line:
                    return 0
                print(air.obey(line), flush=True)
                for tap in air.taps().keys() - taps.keys():
                    waiting.register(tap, select.EPOLLIN)
                taps = air.taps()
            else:
                air.take(taps[descriptor], time.monotonic())
        due = air.deliver(time.monotonic())


if __name__ == "__main__":
    sys.exit(main())
