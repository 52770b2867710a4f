"""What TCP alone moves over a link: the yardstick of a contact.

Senders send zeros to whoever connects; takers connect as soon as the link lets them and note, with the time, how much
has come. The clock is the machine's monotonic one, which is the same in all network namespaces.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.netns.harness import Host, Radio
from tests.processes import eventually

CONTROLS = ("cubic", "bbr")
PACKAGE = 3_002_000

SEND = """
import socket, sys, threading
server = socket.create_server(("::", 9), family=socket.AF_INET6)
server.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, sys.argv[1].encode())
def serve(peer):
    block = bytes(1 << 16)
    try:
        while True:
            peer.sendall(block)
    except OSError:
        pass
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()
"""

TAKE = """
import socket, sys, threading, time
total = 0
def take():
    global total
    where = socket.getaddrinfo(sys.argv[1], 9)[0]
    while True:
        try:
            peer = socket.socket(where[0])
            peer.settimeout(0.5)
            peer.connect(where[4])
            break
        except OSError:
            time.sleep(0.01)
    peer.settimeout(None)
    while block := peer.recv(1 << 16):
        total += len(block)
for _ in range(int(sys.argv[2])):
    threading.Thread(target=take, daemon=True).start()
before = -1
print("ready", flush=True)
while True:
    time.sleep(0.01)
    if total != before:
        before = total
        print(time.monotonic(), total, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """How TCP is used: the number of connections, and their congestion control."""

    streams: int
    control: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes in the window, in both directions where both were used, and seconds until one package's worth was there."""

    bytes: int
    package_seconds: float


def measure(
    link: Radio,
    giver: Host,
    taker: Host,
    choice: Choice,
    seconds: float,
    contact: Callable[[Callable[[], bool]], float | None],
    both: bool,
) -> Moved:
    """Run `contact` with TCP alone, from `giver` to `taker` and, with `both`, back as well."""
    link.up(taker)  # for a moment: addresses are asked of hosts that are up
    pairs = [(giver, taker)] + ([(taker, giver)] if both else [])
    addresses = [link.address(one, seen_from=other) for one, other in pairs]
    link.down(taker)
    processes = []
    for (one, other), address in zip(pairs, addresses, strict=True):
        processes.append(one.popen([sys.executable, "-c", SEND, choice.control], name="send"))
        processes.append(other.popen([sys.executable, "-c", TAKE, address, str(choice.streams)], name="take"))
    eventually(lambda: all("ready" in one.output for one in processes), 10, "senders and takers run")
    begun: list[float] = []

    def note() -> bool:
        begun.append(time.monotonic())
        return True

    contact(note)
    total, package = 0, float("nan")
    for process in processes[1::2]:
        lines = [line.split() for line in process.output.splitlines()[1:]]
        samples = [(float(when) - begun[0], int(moved)) for when, moved in (line for line in lines if len(line) == 2)]
        total += max((moved for when, moved in samples if when <= seconds), default=0)
        package = min((when for when, moved in samples if moved >= PACKAGE), default=package)
    return Moved(total, package)
