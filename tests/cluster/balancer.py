"""A plain TCP balancer before several receivers: haproxy, in front of them for as long as a test runs.

It sees no content: TLS ends in the receivers. A receiver counts as up while its port takes connections.
"""

from __future__ import annotations

import csv
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.boxes import free_port
from tests.processes import Failed, Place, Process, eventually

PACKAGES = ("haproxy",)
COMMAND = Path("/usr/sbin/haproxy")
"""Where Debian has it, which is not on every user's path."""

START_SECONDS = 10.0
STOP_SECONDS = 10.0
ASK_SECONDS = 5.0

CONFIG = """
global
    maxconn 8192
    stats socket ipv4@127.0.0.1:{asked} level user

defaults
    mode tcp
    timeout connect 2s
    timeout client 5m
    timeout server 5m
    # A receiver that died since its last check: the connection goes to another one.
    retries 3
    option redispatch 1

frontend gateways
    bind 127.0.0.1:{port}
    default_backend receivers

backend receivers
    balance leastconn
    # Whoever is connected to a receiver that is found dead connects anew, elsewhere.
    default-server check inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions
"""


def why_not() -> str | None:
    """Why this machine can run no balancer, and what to do about it; None where it can."""
    if not COMMAND.exists():
        return f"no haproxy: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
    return None


class Balancer:
    """haproxy on loopback, keeping its port over stop and start. Make it with `balancer()`."""

    def __init__(self, folder: Path, receivers: Sequence[int]) -> None:
        reason = why_not()
        if reason is not None:
            raise Failed(reason)
        self.port = free_port()
        """Where gateways connect."""
        self._asked = free_port()
        self._place = Place("balancer", folder)
        self._config = folder / "haproxy.cfg"
        servers = "".join(f"    server {port} 127.0.0.1:{port}\n" for port in receivers)
        self._config.write_text(CONFIG.format(port=self.port, asked=self._asked) + servers)
        self._process: Process | None = None

    def start(self) -> None:
        """Start it; it takes connections on return. A receiver counts as up until a check failed."""
        if self._process is not None:
            raise Failed("haproxy runs already")
        process = self._place.popen([COMMAND, "-db", "-f", self._config])
        self._process = process
        eventually(self._answers, START_SECONDS, "haproxy answers", while_running=[process])

    def stop(self) -> None:
        """End it with every connection through it."""
        if self._process is not None:
            self._process.stop(STOP_SECONDS)
            self._process = None

    def up(self) -> set[int]:
        """Ports of the receivers that it sends connections to at the moment."""
        rows = csv.DictReader(self._ask("show stat").removeprefix("# ").splitlines())
        return {
            int(row["svname"])
            for row in rows
            if row["pxname"] == "receivers" and row["svname"].isdigit() and row["status"].startswith(("UP", "no check"))
        }

    def close(self) -> None:
        """End it, whatever state it is in."""
        self._place.close()

    def report(self) -> list[tuple[str, str]]:
        """Title and end of its output, for a failure report."""
        return self._place.report()

    def _answers(self) -> bool:
        try:
            return bool(self._ask("show info"))
        except OSError:
            return False

    def _ask(self, command: str) -> str:
        with socket.create_connection(("127.0.0.1", self._asked), timeout=ASK_SECONDS) as connection:
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()


@contextmanager
def balancer(folder: Path, receivers: Sequence[int]) -> Iterator[Balancer]:
    """A running balancer before the receivers on these loopback ports; gone on leaving."""
    running = Balancer(folder, receivers)
    try:
        running.start()
        yield running
    finally:
        running.close()
