"""The harness keeps its word: hosts reach each other, lose each other silently, are slow when told so, and vanish."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.boxes import NodeBox
from tests.netns.harness import Host, Lab, Link, eventually
from tests.processes import Failed, Process

ECHO = """
import socket, sys
server = socket.create_server(("::", 7), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    with connection:
        while data := connection.recv(65536):
            print("heard", data.decode(), flush=True)
            connection.sendall(data)
    print("closed", flush=True)
"""

ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], 7), timeout=float((*sys.argv, 5)[2])) as connection:
    connection.sendall(b"ahoy")
    print(connection.recv(100).decode())
"""

HOLD = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 7), timeout=5) as connection:
    for number in range(10_000):
        connection.sendall(b"%d" % number)
        print("answer", connection.recv(100).decode(), flush=True)
        time.sleep(0.02)
"""

SINK = """
import socket, time
server = socket.create_server(("::", 9), family=socket.AF_INET6)
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    with connection:
        begin, size = time.monotonic(), 0
        while data := connection.recv(65536):
            size += len(data)
        print("rate", 8 * size / 1e6 / (time.monotonic() - begin), flush=True)
"""

SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 9), timeout=20) as connection:
    connection.sendall(bytes(500_000))
"""

GREET_ALL = """
import socket, sys
sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sender.sendto(b"all hands", ("ff02::fb", 5354, 0, socket.if_nametoindex(sys.argv[1])))
"""

HEAR_ALL = """
import socket, struct, sys
receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
receiver.bind(("::", 5354))
group = socket.inet_pton(socket.AF_INET6, "ff02::fb") + struct.pack("@I", socket.if_nametoindex(sys.argv[1]))
receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
print("listening", flush=True)
print("heard", receiver.recv(100).decode(), flush=True)
"""


def python(host: Host, code: str, *arguments: str) -> Process:
    return host.popen([sys.executable, "-c", code, *arguments])


def listening(process: Process) -> Process:
    eventually(lambda: "listening" in process.output, 10, f"{process.name} listens", while_running=[process])
    return process


def ask(link: Link, asker: Host, asked: Host) -> str:
    return asker.run([sys.executable, "-c", ASK, link.address(asked, seen_from=asker)]).text


def test_hosts_reach_each_other_by_link_local_address_alone(lab: Lab) -> None:
    island, ferry = lab.host("island"), lab.host("ferry")
    wifi = lab.link(island, ferry)
    wifi.ready()
    listening(python(island, ECHO))

    assert wifi.address(island).startswith("fe80::")
    assert wifi.address(island, seen_from=ferry).endswith("%wlan0")
    assert ask(wifi, ferry, island) == "ahoy"
    assert "inet " not in ferry.run(["ip", "address", "show", "dev", "wlan0"]).text


def test_a_link_may_have_ipv4(lab: Lab) -> None:
    island, ferry = lab.host("island"), lab.host("ferry")
    wifi = lab.link(island, ferry, ipv4="10.7.0.0/24")
    listening(python(island, ECHO))

    assert [wifi.ipv4(island), wifi.ipv4(ferry)] == ["10.7.0.1", "10.7.0.2"]
    assert ferry.run([sys.executable, "-c", ASK, wifi.ipv4(island)]).text == "ahoy"


def test_without_duplicate_address_detection_an_address_is_usable_at_once(lab: Lab) -> None:
    careful, hasty = lab.host("careful"), lab.host("hasty")
    slow, fast = lab.link(careful), lab.link(hasty, dad=False)

    fast.ready(within=0.3)
    with pytest.raises(Failed, match="no usable link-local address yet"):
        slow.address(careful)
    slow.ready()


def test_multicast_reaches_every_host_of_a_link(lab: Lab) -> None:
    ferry, *others = (lab.host(name) for name in ("ferry", "island", "harbour"))
    wifi = lab.link(ferry, *others)
    wifi.ready()
    hearers = [listening(python(host, HEAR_ALL, wifi.interface(host))) for host in others]

    ferry.run([sys.executable, "-c", GREET_ALL, wifi.interface(ferry)])

    for hearer in hearers:
        eventually(lambda hearer=hearer: "heard all hands" in hearer.output, 5, "multicast is heard")  # type: ignore[misc]


def test_hosts_of_different_links_do_not_reach_each_other(lab: Lab) -> None:
    island, ferry, harbour = (lab.host(name) for name in ("island", "ferry", "harbour"))
    lagoon, quay = lab.link(island, ferry), lab.link(ferry, harbour)
    lagoon.ready()
    quay.ready()
    listening(python(harbour, ECHO))

    assert quay.interface(ferry) == "wlan1"
    assert ask(quay, ferry, harbour) == "ahoy"
    astray = f"{quay.address(harbour)}%{lagoon.interface(island)}"
    assert island.run([sys.executable, "-c", ASK, astray, "2"], check=False).status != 0


@pytest.mark.parametrize("carrier", [False, True])
def test_a_loss_is_silent_and_the_contact_goes_on_afterwards(lab: Lab, carrier: bool) -> None:
    island, ferry = lab.host("island"), lab.host("ferry")
    wifi = lab.link(island, ferry)
    wifi.ready()
    server = listening(python(island, ECHO))
    visitor = python(ferry, HOLD, wifi.address(island, seen_from=ferry))
    eventually(lambda: "answer 3" in visitor.output, 10, "answers come", while_running=[visitor])

    wifi.down(ferry, carrier=carrier)
    flags = ferry.run(["ip", "link", "show", "dev", "wlan0"]).text
    assert ("NO-CARRIER" in flags) is not carrier
    assert "NO-CARRIER" not in island.run(["ip", "link", "show", "dev", "wlan0"]).text
    assert visitor.poll() is None  # no error came of it
    visitor.kill()  # its FIN goes nowhere
    with pytest.raises(Failed, match="not within"):
        eventually(lambda: "closed" in server.output, 1.0, "the island notices")

    wifi.up(ferry)
    eventually(lambda: "closed" in server.output, 20, "the kernel's FIN gets through again", while_running=[server])
    assert ask(wifi, ferry, island) == "ahoy"


def test_a_host_may_leave_a_link_and_join_again(lab: Lab) -> None:
    island, ferry = lab.host("island"), lab.host("ferry")
    wifi = lab.link(island, ferry)
    wifi.leave(ferry)
    assert "wlan0" not in ferry.run(["ip", "-brief", "link"]).text

    assert wifi.join(ferry) == "wlan1"
    wifi.ready()
    listening(python(island, ECHO))
    assert ask(wifi, ferry, island) == "ahoy"


def test_a_limited_link_is_as_slow_as_it_says(lab: Lab) -> None:
    rates = []
    for megabits in (4, 16):
        island, ferry = lab.host(f"island{megabits}"), lab.host(f"ferry{megabits}")
        wifi = lab.link(island, ferry, rate_mbit=megabits)
        wifi.ready()
        sink = listening(python(island, SINK))
        ferry.run([sys.executable, "-c", SEND, wifi.address(island, seen_from=ferry)])
        eventually(lambda sink=sink: "rate" in sink.output, 10, "the sink has all")  # type: ignore[misc]
        rates.append(float(sink.output.split()[-1]))

    assert rates[0] < 6
    assert 2 < rates[1] / rates[0] < 8


def test_nothing_is_left_of_a_lab_in_which_a_test_failed(lab: Lab, tmp_path: Path) -> None:
    processes: list[Process] = []
    namespaces: list[Callable[[], list[str]]] = []

    def fail() -> None:
        with Lab(tmp_path / "inner") as inner:
            namespaces.append(inner.namespaces)
            island = inner.host("island")
            inner.link(island, inner.host("ferry"))
            assert len(inner.namespaces()) == 3
            processes.append(listening(python(island, ECHO)))
            # A child that leaves its parent's process group is found by its namespace.
            island.run(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert processes[0].poll() == -signal.SIGKILL
    assert namespaces[0]() == []


def test_a_script_that_ends_without_closing_its_lab_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    code = """
import pathlib, sys
from tests.netns.harness import Lab
lab = Lab(pathlib.Path(sys.argv[1]))
lab.link(lab.host("island"), lab.host("ferry"))
print(*lab.namespaces())
sys.exit(3)
"""
    script = [sys.executable, "-c", code, str(tmp_path / "script")]
    done = subprocess.run(script, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)

    assert done.returncode == 3, done.stderr
    made = done.stdout.split()
    assert len(made) == 3
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert not [name for name in made if name in left]


def test_a_failure_report_shows_what_processes_said(lab: Lab) -> None:
    island = lab.host("island")
    listening(python(island, ECHO))

    [(title, text)] = lab.report()
    assert title.startswith("island/python")
    assert "running" in title
    assert text == "listening\n"


READY = """
import os, signal, socket, sys, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
    ready.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
print(*sorted(name for _, name in socket.if_nameindex()), flush=True)
signal.pause()
"""


def test_a_box_runs_in_its_host(lab: Lab, tmp_path: Path) -> None:
    island = lab.host("island")
    lab.link(island)
    (tmp_path / "ready.py").write_text(READY)

    with NodeBox(tmp_path / "home", island, relay=(sys.executable, str(tmp_path / "ready.py"))) as box:
        daemon = box.start()
        eventually(lambda: box.log, 5, "the daemon names its interfaces")
        assert box.log.split() == ["lo", "wlan0"]
    assert daemon.poll() == -signal.SIGKILL
