"""relay's command line, driven as its users drive it: a node's box, and the election office's folder.

Daemons, and the commands that are tested, are processes of their own: `python -m relay`. What makes an election and
its packages, and what looks on (`relay list`, `relay status`, which tests ask over and over while they wait), is the
same command line called within this process: most of a short command is Python's start, and tests would spend half of
their time on it.
A `NodeBox` sits on a `Place`: this machine (loopback), or a host of `tests.netns.harness`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from relay import cli
from tests.processes import Failed, Outcome, Place, Process, eventually

RELAY = (sys.executable, "-m", "relay")
PASSPHRASE = "correct horse battery staple"
FIRST_PORT = 20_000
SHARES = 16
"""Workers of the suite, each with its own share of the ports."""
FAKETIME = "faketime/libfaketimeMT.so.1"  # the build for processes with threads

Setting = str | int | bool | Sequence[str]
"""A value of config.toml."""


class NodeBox:
    """One node: its folder, its daemon, its commands.

    `home` is the node's folder and need not exist; `host` is where it runs. `clock` is what the box believes the date
    to be whenever a process of it starts, as a box without a battery-backed clock does: `"1970-01-02"`.
    """

    def __init__(self, home: Path, host: Place | None = None, *, relay: Sequence[str] = RELAY) -> None:
        self.home = home
        self.host = host or Place(home.name, home.with_name(f"{home.name}.output"))
        self.clock: str | None = None
        self.daemon: Process | None = None
        self._relay = tuple(relay)
        self._own_place = host is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the daemon if it still runs."""
        self.kill()
        if self._own_place:
            self.host.close()

    def relay(self, *arguments: str | Path, within: float = 30.0, check: bool = True) -> Outcome:
        """Run any command on this node: `relay ARGUMENTS --home H`. Raises `Failed` unless it exits 0 (`check`)."""
        command, *rest = arguments
        argv = [*self._relay, command, "--home", self.home, *rest]
        return self.host.run(argv, env=self._environment(), within=within, check=check)

    def init(self, name: str | None = None, below: NodeBox | None = None) -> Path:
        """Make the node, by default named after its folder; the path of its request. Of two neighbours the one with the
        lower id visits: where that is to be this one, it is made until its id is `below` another's."""
        while True:
            request = Path(self.aside("init", "--name", name or self.home.name).text)
            if below is None or self.node < below.node:
                return request
            shutil.rmtree(self.home)

    @property
    def node(self) -> bytes:
        """Its id: the hash of its public key."""
        key = load_pem_private_key((self.home / "key.pem").read_bytes(), password=None).public_key()
        return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()

    def join(self, file: Path) -> None:
        """Install an enrolment."""
        self.aside("join", file)

    def config(self, **keys: Setting) -> None:
        """Write config.toml anew with these keys."""
        self.home.mkdir(parents=True, exist_ok=True)
        # JSON's texts, numbers, booleans and lists of texts are TOML's too.
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in keys.items()]
        (self.home / "config.toml").write_text("".join(lines), encoding="utf-8")

    def start(self, *, clock: str | None = None, within: float = 20.0) -> Process:
        """Start the daemon and wait until it says that it is ready, as systemd would.

        `clock` sets the box's clock from here on. Skips the test when a clock is asked for and libfaketime is missing.
        """
        if self.daemon is not None and self.daemon.poll() is None:
            raise Failed(f"{self.daemon.name} runs already")
        self.clock = clock or self.clock
        with ReadySocket() as ready:
            environment = {**self._environment(), "NOTIFY_SOCKET": str(ready.path)}
            argv: tuple[str | Path, ...] = (*self._relay, "run", "--home", self.home)
            self.daemon = self.host.popen(argv, env=environment, name=f"{self.home.name}-daemon")
            eventually(ready, within, f"{self.daemon.name} is ready", while_running=[self.daemon])
        return self.daemon

    def stop(self, within: float = 10.0) -> int:
        """SIGTERM; the daemon's exit status. Raises `Failed` when it does not end in time."""
        if self.daemon is None:
            raise Failed(f"{self.home.name} was never started")
        return self.daemon.stop(within)

    def kill(self) -> None:
        """End the daemon as a power cut would."""
        if self.daemon is not None:
            self.daemon.kill()

    @property
    def log(self) -> str:
        """What the daemon said, since it was started last."""
        return "" if self.daemon is None else self.daemon.output

    def list(self) -> list[dict[str, Any]]:
        """`relay list --json`: the bundles on this node."""
        bundles: list[dict[str, Any]] = self.aside("list", "--json").json()
        return bundles

    def status(self) -> dict[str, Any]:
        """`relay status --json`."""
        status: dict[str, Any] = self.aside("status", "--json").json()
        return status

    def submit(
        self,
        *files: Path,
        tps: str,
        form: str,
        tally: Mapping[str, Any] | Path | None = None,
        supersedes: str | None = None,
    ) -> str:
        """Submit a package; its statement's id. A `tally` that is no file is written to one.

        Without `supersedes` it is one more of its form, whatever is there: most tests care for packages, not for forms.
        """
        options: list[str | Path] = ["--tps", tps, "--form", form]
        if isinstance(tally, Mapping):
            path = self.host.folder / f"tally-{tps}-{form}.json"
            path.write_text(json.dumps(tally))
            tally = path
        if tally is not None:
            options += ["--tally", tally]
        if supersedes is not None:
            options += ["--supersedes", supersedes, "--reason", "retyped"]
        else:
            options += ["--anyway"]
        return self.aside("submit", *options, *files).text

    def cat(self, sha256: str) -> bytes:
        """An object's bytes."""
        return self.relay("cat", sha256).stdout

    def export(self, folder: Path) -> None:
        """Write what the node holds to a stick."""
        self.relay("export", folder)

    def import_(self, path: Path) -> None:
        """Take in a stick, or a file of notices such as a revocation."""
        self.relay("import", path)

    def aside(self, *arguments: str | Path) -> Outcome:
        """Run a command that is not what is tested, within this process where that can be. Raises `Failed`."""
        if self.clock or not _is_own(self._relay):
            return self.relay(*arguments)
        command, *rest = arguments
        return inside([command, "--home", self.home, *rest])

    def _environment(self) -> dict[str, str]:
        return {**_importable(), **(faked_clock(self.clock) if self.clock else {})}


class Election:
    """The election office: a folder that holds an election, and the commands on it."""

    def __init__(
        self, folder: Path, register: Path, *, election: str = "test-2024", relay: Sequence[str] = RELAY
    ) -> None:
        """Make the election. `folder` must not exist yet; `register` is a CSV of polling stations."""
        self.folder = folder
        self.output = folder.with_name(f"{folder.name}.output")
        self._place = Place(folder.name, self.output)
        self._relay = tuple(relay)
        self.aside("init", folder, "--election", election, "--register", register)

    @property
    def root(self) -> Path:
        """The election's root certificate, public."""
        return self.folder / "root.pem"

    def authority(self, *arguments: str | Path, check: bool = True) -> Outcome:
        """Run any command of the office: `relay authority ARGUMENTS`, with its passphrase."""
        environment = {**_importable(), "RELAY_PASSPHRASE": PASSPHRASE}
        return self._place.run([*self._relay, "authority", *arguments], env=environment, check=check)

    def enrol(self, request: Path, role: str, *, tps: Sequence[str] = (), url: str | None = None) -> Path:
        """Enrol a node from its request; the enrolment's path. A receiver without `url` is found by configuration."""
        if role == "receiver":
            url = url or "https://127.0.0.1:1"
        options = [option for code in tps for option in ("--tps", code)] + (["--url", url] if url else [])
        return self._written("enrolment", "enrol", self.folder, request, "--role", role, *options)

    def revoke(self, name: str, reason: str = "lost at sea") -> Path:
        """Revoke a node; the path of the revocation."""
        return self._written("revocation", "revoke", self.folder, name, "--reason", reason)

    def admit(
        self,
        box: NodeBox,
        role: str,
        *,
        name: str | None = None,
        tps: Sequence[str] = (),
        url: str | None = None,
        below: NodeBox | None = None,
    ) -> NodeBox:
        """Make a node of this election in one go: init, enrol, join. Returns the box."""
        box.join(self.enrol(box.init(name, below), role, tps=tps, url=url))
        return box

    def _written(self, kind: str, *arguments: str | Path) -> Path:
        file = self.output / f"{kind}-{len(list(self.output.glob(f'{kind}-*'))) + 1}.pem"
        self.aside(*arguments, "-o", file)
        return file

    def aside(self, *arguments: str | Path) -> Outcome:
        """Run a command of the office that is not what is tested. Raises `Failed`."""
        if not _is_own(self._relay):
            return self.authority(*arguments)
        return inside(["authority", *arguments], {"RELAY_PASSPHRASE": PASSPHRASE})


def inside(arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Outcome:
    """`relay ARGUMENTS` within this process. Raises `Failed` unless it exits 0."""
    words = tuple(str(part) for part in arguments)
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
    before = dict(os.environ)
    os.environ.update(environment or {})
    try:
        with redirect_stdout(out), redirect_stderr(err), ThreadPoolExecutor(1) as aside:  # here, a loop may be running
            status = aside.submit(cli.run, list(words)).result()
    finally:
        os.environ.clear()
        os.environ.update(before)
    outcome = Outcome(("relay", *words), status, out.buffer.getvalue(), err.getvalue())
    if status:
        raise Failed(f"relay {' '.join(words)}: exit {status}\n{outcome.stderr}")
    return outcome


def _is_own(relay: Sequence[str]) -> bool:
    """Whether this command is the relay of this process, traced perhaps."""
    return tuple(relay[:2]) == RELAY[:2]


class ReadySocket:
    """The other end of sd_notify(3): calling it tells whether READY=1 has come. For the length of a `with`."""

    def __init__(self) -> None:
        # A path, since abstract names end at the network namespace; a short one, since a socket's holds 107 bytes.
        self._folder = tempfile.TemporaryDirectory(prefix="ready-", dir="/tmp")
        self.path = Path(self._folder.name, "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._ready = False

    def __enter__(self) -> Self:
        self._socket.bind(str(self.path))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()
        self._folder.cleanup()

    def __call__(self) -> bool:
        with suppress(BlockingIOError):
            while not self._ready:
                self._ready = b"READY=1" in self._socket.recv(4096).split(b"\n")
        return self._ready


def free_port() -> int:
    """A TCP port that nobody has on loopback, IPv4 and IPv6, and that stays free while nobody listens there.

    The kernel hands none of these to outgoing connections, and each worker of the suite has a share of its own, used in
    turn: a daemon that is stopped and started again finds its port as it left it.
    """
    return next(port for port in _ports() if _is_free(port))


@cache
def _ports() -> Iterator[int]:
    """This process's share of the ports below the ephemeral range, round and round from somewhere in it."""
    setting = Path("/proc/sys/net/ipv4/ip_local_port_range")
    ephemeral = int(setting.read_text().split()[0]) if setting.exists() else 32768
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = range(FIRST_PORT + worker % SHARES, ephemeral, SHARES)
    begin = random.randrange(len(share))
    return cycle([*share[begin:], *share[:begin]])


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True):
            return True
    except OSError:
        return False


def faked_clock(clock: str) -> dict[str, str]:
    """Environment of a process whose wall clock starts at `clock`: `YYYY-MM-DD[ hh:mm:ss]`, UTC.

    Only what a wrong clock changes is faked: neither the monotonic clock, which timeouts live on, nor file times.
    Skips the test where libfaketime is not installed.
    """
    library = _faketime()
    if library is None:
        pytest.skip("a wrong clock needs libfaketime: apt-get install libfaketime")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"@{clock}" if " " in clock else f"@{clock} 00:00:00",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "TZ": "UTC",
    }


def _faketime() -> Path | None:
    return next((file for folder in ("/usr/lib", "/usr/lib64") for file in _libraries(Path(folder))), None)


def _libraries(folder: Path) -> list[Path]:
    return [file for file in (folder / FAKETIME, *sorted(folder.glob(f"*/{FAKETIME}"))) if file.exists()]


def _importable() -> dict[str, str]:
    """Environment in which `relay` can be imported wherever the process runs, installed or not."""
    root = str(Path(__file__).parents[1])
    return {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
