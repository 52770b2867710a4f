"""An operator's console answers the device itself and nobody else, whatever it listens on: two hosts on one Wi-Fi."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boxes import Election, NodeBox
from tests.e2e.world import REGISTER, TPS
from tests.netns.harness import Host, Lab, why_not

pytestmark = pytest.mark.netns
PATHS = (
    "/",
    "/board",
    "/status.json",
    "/metrics",
    "/style.css",
    "/operator",
    "/operator/pair",
    "/operator/operator.js",
)
PORT = 8471
ASK = """
import http.client, sys
host, port, *paths = sys.argv[1:]
for path in paths:
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", path, headers={"Accept": "text/html"})
    answer = connection.getresponse()
    print(answer.status, "pulau-long" in answer.read().decode())
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """An empty world of hosts and links."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with Lab(tmp_path / "lab") as lab:
        yield lab


def ask(host: Host, address: str) -> list[tuple[int, bool]]:
    """Status of each path, and whether the answer names the box."""
    outcome = host.run([sys.executable, "-c", ASK, address, str(PORT), *PATHS])
    return [(int(line.split()[0]), line.endswith("True")) for line in outcome.text.splitlines()]


def test_another_host_on_the_wifi_gets_nothing_of_the_console(lab: Lab, tmp_path: Path) -> None:
    """Not a page, no JSON, no metrics, over IPv4 and IPv6; the device itself gets all of it."""
    island, stranger = lab.host("island"), lab.host("stranger")
    wifi = lab.link(island, stranger, ipv4="10.55.0.0/24")
    wifi.ready()
    election = Election(tmp_path / "office", REGISTER)
    with NodeBox(tmp_path / "pulau-long", island) as box:
        election.admit(box, "operator", tps=(TPS,))
        box.config(console=f"[::]:{PORT}", discovery=False)
        box.start()
        for address in (wifi.ipv4(island), wifi.address(island, seen_from=stranger)):
            assert ask(stranger, address) == [(403, False)] * len(PATHS), address
        for address in ("127.0.0.1", "::1"):
            answers = ask(island, address)
            assert {status for status, _ in answers} <= {200, 303}, address
            assert answers[:3] == [(200, True)] * 3, address
