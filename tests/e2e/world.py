"""An election on this machine: an office, boxes with ports of their own, and ways between them that can be cut."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.boxes import Election, NodeBox, Setting, free_port
from tests.processes import eventually

JPEG, END = b"\xff\xd8\xff\xda", b"\xff\xd9"
REGISTER = Path(__file__).parents[2] / "relay" / "cli" / "demo" / "data" / "register.csv"
TPS = "1906022011006"
OTHER_TPS = "1906012001001"
FORM = "C-HASIL-KWK-BUPATI"
OTHER_FORM = "C-HASIL-KWK-GUBERNUR"


class World:
    """Boxes of one election; those with `peers` visit them. Everything ends with the `with`."""

    def __init__(self, folder: Path, election: str = "e2e-2024") -> None:
        self.folder = folder
        self.election = Election(folder / "office", REGISTER, election=election)
        self.ports: dict[str, int] = {}
        self.public: dict[str, int] = {}
        self._boxes: list[NodeBox] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for box in self._boxes:
            box.close()

    def box(
        self,
        name: str,
        role: str,
        *,
        tps: Sequence[str] = (),
        peers: Sequence[int] = (),
        receivers: Sequence[NodeBox] = (),
        election: Election | None = None,
    ) -> NodeBox:
        """A node that has joined, not started; `peers` are ports on this machine."""
        box = NodeBox(self.folder / name)
        self._boxes.append(box)
        (election or self.election).admit(box, role, tps=tps)
        self.ports[name], self.public[name] = free_port(), free_port()
        box.config(**self.settings(box, peers=peers, receivers=receivers))
        return box

    def ends(self, box: NodeBox) -> NodeBox:
        """A box that was made elsewhere ends with the others."""
        self._boxes.append(box)
        return box

    def settings(
        self, box: NodeBox, *, peers: Sequence[int] = (), receivers: Sequence[NodeBox] = ()
    ) -> dict[str, Setting]:
        """What config.toml of a box says; `peers` are ports on this machine."""
        name = box.home.name
        return {
            "listen": f"127.0.0.1:{self.ports[name]}",
            "console": f"127.0.0.1:{free_port()}",
            "public": f"127.0.0.1:{self.public[name]}",
            "discovery": False,
            "peers": [f"127.0.0.1:{port}" for port in peers],
            "receivers": [f"https://127.0.0.1:{self.ports[one.home.name]}" for one in receivers],
        }

    def photo(self, size: int, name: str = "form.jpg") -> Path:
        """A file of random content that begins and ends as a photograph does."""
        path = self.folder / name
        path.write_bytes(JPEG + os.urandom(max(0, size - len(JPEG + END))) + END)
        return path


def holds(box: NodeBox, *expected: tuple[str, int | None]) -> None:
    """Wait until a box's bundles are in these states, with these log entries."""

    def as_expected() -> bool:
        return sorted((one["state"], one["entry"]) for one in box.list()) == sorted(expected)

    eventually(as_expected, 30, f"{box.home.name} holds {expected}")


class Cable:
    """A way to a port of this machine that passes on so many bytes from there, in all, and is silent from then on."""

    def __init__(self, target: int, most: int) -> None:
        self._target = target
        self._most = most
        self.passed = 0
        self.cut = threading.Event()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._coming: list[threading.Thread] = []
        self._reset = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End it, with a word to both ends."""
        self.cut.set()
        with self._lock:
            for one in (self._listening, *self._open):
                one.close()

    def was_reset(self) -> bool:
        """Whether who came here took back what had not come; waits for its end."""
        for pump in self._coming:
            pump.join(10)
        with self._lock:
            return self._reset.is_set() or all(_is_reset(one) for one in self._open[::2])

    def _accept(self) -> None:
        while not self.cut.is_set():
            try:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            with self._lock:
                self._open += [near, far]
            self._coming.append(threading.Thread(target=self._pump, args=(near, far, False), daemon=True))
            self._coming[-1].start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(16_384):
                if counted:
                    self.passed += len(data)
                    if self.passed > self._most:
                        self.cut.set()
                if self.cut.is_set():
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except ConnectionResetError:
            self._reset.set()
        except OSError:
            return


def _is_reset(connection: socket.socket) -> bool:
    connection.settimeout(10)
    try:
        while connection.recv(65_536):
            pass
    except ConnectionResetError:
        return True
    return False
