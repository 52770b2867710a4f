"""The wrappers of the command line call it as its contract says, and tell the truth about the daemon they hold.

A stand-in for the program says how it was called: what is tested here is the wrappers alone.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.boxes import PASSPHRASE, Election, NodeBox, free_port
from tests.processes import Failed, Place, eventually

STAND_IN = """
import asyncio, json, os, pathlib, signal, socket, sys, threading, time

command = sys.argv[1]
if command == "run":
    home = pathlib.Path(sys.argv[3])
    if (home / "broken").exists():
        sys.exit("relay: this node is broken")

    async def serve():
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        begin = time.monotonic()
        await asyncio.sleep(0.1)
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.1)
        except TimeoutError:
            pass
        await asyncio.to_thread(threading.Event().wait, 0.1)
        print(json.dumps({"clock": time.time(), "waited": time.monotonic() - begin}), flush=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.sendto(b"STATUS=up\\nREADY=1", os.environ["NOTIFY_SOCKET"])
        await stop.wait()

    asyncio.run(serve())
elif command == "refuse":
    print("relay: no.", file=sys.stderr)
    sys.exit(1)
elif command == "cat":
    sys.stdout.buffer.write(bytes(range(256)))
elif "--json" in sys.argv:
    print(json.dumps([{"argv": sys.argv[1:]}] if command == "list" else {"argv": sys.argv[1:]}))
else:
    if "-o" in sys.argv:
        output = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
        output.write_text(json.dumps([sys.argv[1:], os.environ["RELAY_PASSPHRASE"]]))
    print(json.dumps(sys.argv[1:]))
"""


@pytest.fixture
def relay(tmp_path: Path) -> tuple[str, str]:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return (sys.executable, str(script))


@pytest.fixture
def box(tmp_path: Path, relay: tuple[str, str]) -> Iterator[NodeBox]:
    with NodeBox(tmp_path / "pulau-long", relay=relay) as box:
        yield box


def said(box: NodeBox) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(box.log.splitlines()[0])
    return decoded


def test_commands_are_called_as_the_contract_says(box: NodeBox, tmp_path: Path) -> None:
    home = str(box.home)
    photo = tmp_path / "form.jpg"

    assert json.loads(str(box.init())) == ["init", "--home", home, "--name", "pulau-long"]
    assert box.list() == [{"argv": ["list", "--home", home, "--json"]}]
    assert box.status() == {"argv": ["status", "--home", home, "--json"]}
    assert box.cat("00" * 32) == bytes(range(256))
    called = json.loads(box.submit(photo, tps="1906", form="F", tally={"valid": 1}, supersedes="ab"))
    tally = called[called.index("--tally") + 1]
    assert json.loads(Path(tally).read_text()) == {"valid": 1}
    options = ["--tps", "1906", "--form", "F", "--tally", tally, "--supersedes", "ab", "--reason", "retyped"]
    assert called == ["submit", "--home", home, *options, str(photo)]


def test_a_refused_command_fails_with_its_message_unless_that_is_what_is_looked_at(box: NodeBox) -> None:
    with pytest.raises(Failed, match=r"exit 1\nrelay: no\."):
        box.relay("refuse")
    outcome = box.relay("refuse", check=False)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (1, b"", "relay: no.\n")


def test_the_office_gives_its_passphrase_and_its_files(tmp_path: Path, relay: tuple[str, str]) -> None:
    office = Election(tmp_path / "office", tmp_path / "register.csv", relay=relay)
    request = tmp_path / "request.pem"

    enrolment = office.enrol(request, "operator", tps=["1", "2"])
    revocation = office.revoke("pulau-long")

    argv, passphrase = json.loads(enrolment.read_text())
    expected = [
        "authority",
        "enrol",
        str(office.folder),
        str(request),
        "--role",
        "operator",
        "--tps",
        "1",
        "--tps",
        "2",
    ]
    assert argv == [*expected, "-o", str(enrolment)]
    assert passphrase == PASSPHRASE
    argv, _ = json.loads(revocation.read_text())
    assert argv[:4] == ["authority", "revoke", str(office.folder), "pulau-long"]
    assert office.enrol(request, "carrier") != enrolment


def test_settings_are_written_as_toml(box: NodeBox) -> None:
    import tomllib

    keys = {"listen": "[::1]:8470", "discovery": False, "peers": ['a"b:1', "ö:2"], "retention": 60}
    box.config(**keys)  # type: ignore[arg-type]
    assert tomllib.loads((box.home / "config.toml").read_text()) == keys


def test_a_daemon_is_ready_after_start_and_stops_cleanly(box: NodeBox) -> None:
    daemon = box.start()
    assert said(box)
    with pytest.raises(Failed, match="runs already"):
        box.start()
    assert box.stop() == 0
    assert box.start().pid != daemon.pid
    box.kill()
    assert box.daemon is not None
    assert box.daemon.poll() == -signal.SIGKILL


def test_a_daemon_that_does_not_start_fails_at_once_with_what_it_said(box: NodeBox) -> None:
    box.home.mkdir()
    (box.home / "broken").touch()
    with pytest.raises(Failed, match="this node is broken"):
        box.start(within=60)


def test_leaving_a_box_ends_its_daemon(tmp_path: Path, relay: tuple[str, str]) -> None:
    with NodeBox(tmp_path / "ferry", relay=relay) as box:
        daemon = box.start()
    assert daemon.poll() == -signal.SIGKILL


@pytest.mark.parametrize("clock", ["1970-01-02", "2038-06-01 12:00:00"])
def test_a_wrong_clock_is_wrong_and_waits_take_as_long_as_ever(box: NodeBox, clock: str) -> None:
    box.start(clock=clock)

    shown = datetime.fromtimestamp(said(box)["clock"], UTC) - datetime.fromisoformat(clock).replace(tzinfo=UTC)
    assert timedelta(0) <= shown < timedelta(minutes=1)
    assert 0.3 <= said(box)["waited"] < 10
    assert box.stop() == 0


def test_waiting_names_what_did_not_come_and_stops_when_it_cannot(tmp_path: Path) -> None:
    with Place("here", tmp_path) as here:
        ended = here.popen([sys.executable, "-c", "print('good bye')"])
        with pytest.raises(Failed, match=r"a ship comes: not within 0\.1 s"):
            eventually(lambda: False, 0.1, "a ship comes")
        with pytest.raises(Failed, match="good bye"):
            eventually(lambda: False, 60, "a ship comes", while_running=[ended])
        assert eventually(lambda: "seen", 0, "a ship comes") == "seen"


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    with Place("here", tmp_path) as here, pytest.raises(Failed, match="still runs"):
        here.run([sys.executable, "-c", "import signal; signal.pause()"], within=0.1)


def test_a_free_port_is_none_that_outgoing_connections_are_given() -> None:
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [free_port() for _ in range(100)]
    assert max(ports) < ephemeral
    assert len(set(ports)) == len(ports)


def test_a_free_port_can_be_taken_on_both_loopbacks() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), socket.create_server(("::1", port), family=socket.AF_INET6):
        pass
