"""What TCP alone moves over a link: the yardstick of a contact.

Senders send zeros; takers count. The end whose link comes and goes makes all connections, whichever way the bytes go,
and tries until the link lets it. Bytes count that the taker's program has read when the contact is over.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from tests.netns.harness import Host, Radio
from tests.processes import Process, eventually

CONTROLS = ("cubic", "bbr")
PREFIX = "tcp"
"""How the names of these results begin."""
SETTLING_SECONDS = 0.5
"""More than a taker takes to say what it has."""

CODE = """
import socket, sys, threading, time
opens, sends, address, port, streams, control = sys.argv[1:]
taken = [0] * int(streams)
def tune(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
    return sock
def connect():
    family, _, _, _, where = socket.getaddrinfo(address, int(port))[0]
    while True:
        sock = tune(socket.socket(family, socket.SOCK_STREAM))
        sock.settimeout(0.1)
        try:
            sock.connect(where)
            sock.settimeout(None)
            return sock
        except OSError:
            sock.close()
            time.sleep(0.01)
def carry(place, sock):
    block = bytearray(1 << 16)
    while sends == "yes":
        sock.sendall(block)
    while size := sock.recv_into(block):
        taken[place] += size
if opens == "yes":
    run = lambda place: carry(place, connect())
else:
    server = tune(socket.create_server(("::", int(port)), family=socket.AF_INET6))
    run = lambda place: carry(place, server.accept()[0])
for place in range(int(streams)):
    threading.Thread(target=run, args=(place,), daemon=True).start()
print("ready", flush=True)
while True:
    time.sleep(0.2)
    print(sum(taken), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """How TCP is used: the number of connections each way, and their congestion control."""

    streams: int
    control: str

    @property
    def name(self) -> str:
        """What its results are called."""
        return f"{PREFIX} {self.streams} {self.control}"


def choices(streams: tuple[int, ...]) -> list[Choice]:
    """All ways to use TCP with these numbers of connections."""
    return [Choice(count, control) for count, control in product(streams, CONTROLS)]


def measure(
    link: Radio, island: Host, ferry: Host, choice: Choice, contact: Callable[[], object], both: bool
) -> list[int]:
    """Run `contact` with TCP alone, from the island to the ferry and, with `both`, back as well: bytes each way."""
    link.up(ferry)  # for a moment: addresses are asked of hosts that are up
    address = link.address(island, seen_from=ferry)
    link.down(ferry)
    takers: list[Process] = []
    processes: list[Process] = []
    for port, (giver, taker) in enumerate([(island, ferry), (ferry, island)][: 1 + both], start=9):
        for host in (island, ferry):
            words = [("no", "yes")[host is ferry], ("no", "yes")[host is giver], address, str(port)]
            argv = [sys.executable, "-c", CODE, *words, str(choice.streams), choice.control]
            processes.append(host.popen(argv, name="raw"))
            if host is taker:
                takers.append(processes[-1])
    eventually(lambda: all("ready" in one.output for one in processes), 10, "senders and takers run")
    contact()
    time.sleep(SETTLING_SECONDS)
    return [int(taker.output.split()[-1]) for taker in takers]
