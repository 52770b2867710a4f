"""The demo's stage: an election office, a receiver, a harbour, a ferry and three islands, as real daemons.

Everything is on this machine's loopback interface and in one temporary folder. The sea is made of gangways: a ferry
and an island reach each other through a port that is open only while the ferry lies there.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.cli.demo.election import FORMS, load_example_register
from relay.errors import Unreachable
from relay.node.byhand import import_notices
from relay.node.home import Home
from relay.records.notice import parse_register
from relay.trust import authority
from relay.trust.authority import Office
from relay.trust.enrolment import pem_block, write_enrolment
from relay.trust.roles import Role

ELECTION = "belitung-timur-demo"


class Gangway:
    """A way between two nodes that is open for a while: a forwarded port. `moved` counts bytes, both ways."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.moved = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Let both sides reach each other."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Cast off: whatever is under way is cut."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            return
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                self.moved += len(data)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


NOWHERE = "https://127.0.0.1:1"
"""What notices say of the receiver's address: only the harbour has a way there, which its settings name."""


@dataclass(slots=True)
class Box:
    """One node of the demo and its daemon."""

    name: str
    role: Role
    home: Home
    port: int
    console: int
    tps: tuple[str, ...] = ()
    process: asyncio.subprocess.Process | None = None

    @property
    def page(self) -> str:
        """The address of its page."""
        return f"http://127.0.0.1:{self.console}/"


@dataclass(slots=True)
class Stage:
    """The office and the boxes, below `folder`."""

    folder: Path
    office: Office
    key: Ed25519PrivateKey
    boxes: list[Box] = field(default_factory=list)

    @staticmethod
    def build(folder: Path) -> Stage:
        """Found the example election."""
        key = Ed25519PrivateKey.generate()
        stations = parse_register(load_example_register())
        office = authority.found(ELECTION, FORMS, stations, key, x509.random_serial_number(), datetime.now(UTC))
        (folder / "root.pem").write_text(pem_block("CERTIFICATE", office.root))
        return Stage(folder, office, key)

    def box(self, name: str, role: Role, tps: Sequence[str] = ()) -> Box:
        """A new node, enrolled but not joined yet."""
        box = Box(name, role, Home(self.folder / name), free_port(), free_port(), tuple(tps))
        request = box.home.create(name, Ed25519PrivateKey.generate())
        self.office, enrolment = authority.enrol(
            self.office,
            request.read_bytes(),
            role,
            tps,
            (NOWHERE,) if role is Role.RECEIVER else (),
            self.key,
            x509.random_serial_number(),
            datetime.now(UTC),
        )
        (box.home.path / "enrolment.pem").write_bytes(write_enrolment(enrolment))
        self.boxes.append(box)
        return box

    async def join(self, box: Box, **settings: object) -> None:
        """Install its enrolment and settings, with the newest notices."""
        lines = {"listen": f"127.0.0.1:{box.port}", "console": f"127.0.0.1:{box.console}", "discovery": False}
        text = "".join(f"{key} = {_toml(value)}\n" for key, value in {**lines, **settings}.items())
        box.home.config_file.write_text(text)
        box.home.install((box.home.path / "enrolment.pem").read_bytes())
        async with box.home.custody() as custody:
            await import_notices(custody, tuple(self.office.notices.values()))

    async def start(self, box: Box) -> None:
        """Start its daemon and wait until it answers. Raises `Unreachable` if it ends instead."""
        with (box.home.path / "daemon.log").open("wb") as log:
            box.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "relay", "run", "--home", str(box.home.path), stdout=log, stderr=log
            )
        while not await _answers(box.port):
            if box.process.returncode is not None:
                said = (box.home.path / "daemon.log").read_text(errors="replace").strip().splitlines()
                raise Unreachable(f"The daemon of {box.name} did not start", " ".join(said[-2:]))
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Stop every daemon."""
        running = [box.process for box in self.boxes if box.process is not None and box.process.returncode is None]
        for process in running:
            with suppress(ProcessLookupError):
                process.terminate()
        for process in running:
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list() | tuple():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case int():
            return str(value)
        case _:
            return f'"{value}"'
