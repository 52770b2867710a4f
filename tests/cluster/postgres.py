"""A PostgreSQL of its own: a real server, started by hand in a folder, with nothing of the system's cluster.

It keeps what it promises (`fsync=on`), since tests kill it and look for what was committed. Roles are trusted on
loopback. The server refuses to run as root: there it runs as Debian's `postgres`, with the one capability that lets
it walk down to a folder that only root may enter.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.boxes import free_port
from tests.processes import Failed, Place, Process, eventually

PACKAGES = ("postgresql",)
"""What Debian must have installed. Its system cluster may run or not: nothing here meets it."""

SERVER_USER = "postgres"
ROLE = "relay"
START_SECONDS = 30.0
STOP_SECONDS = 30.0
CUT_OFF_MS = 5000
ACCEPTS = "database system is ready to accept connections"
SETTINGS = {
    "fsync": "on",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "lc_messages": "C",  # readiness is read from what it says
    "recovery_init_sync_method": "syncfs",  # one call instead of thousands: a killed server is back in a second
}


def binaries() -> Path | None:
    """The folder of the newest server installed, None where there is none."""
    versions = [server.parent for server in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(versions, key=lambda folder: float(folder.parent.name), default=None)


def why_not() -> str | None:
    """Why this machine can run no server, and what to do about it; None where it can."""
    if binaries() is None:
        return f"no PostgreSQL server: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL does not run as root, and there is no setpriv: apt-get install util-linux"
    return None


class Postgres:
    """A server on loopback that keeps its port over restarts. Make it with `postgres()`."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        found = binaries()
        if found is None:
            raise Failed(str(why_not()))
        self.port = free_port()
        self._bin = found
        self._data = folder / "data"
        self._place = Place("postgres", folder / "output", _unprivileged())
        self._client = Place("psql", folder / "client")
        self._numbers = itertools.count(1)
        self._process: Process | None = None
        self._initialise(settings)

    @property
    def url(self) -> str:
        """The database that every server has. `emptied_database()` gives it as new to one test after the other."""
        return self._url("relay")

    @property
    def process(self) -> Process:
        """The postmaster. Raises `Failed` while the server is stopped."""
        if self._process is None:
            raise Failed("PostgreSQL is stopped")
        return self._process

    def start(self) -> None:
        """Start it, recovery included; it accepts connections on return."""
        if self._process is not None:
            raise Failed("PostgreSQL runs already")
        process = self._place.popen([self._bin / "postgres", "-D", self._data, "-p", str(self.port)])
        self._process = process
        eventually(lambda: ACCEPTS in process.output, START_SECONDS, "PostgreSQL accepts", while_running=[process])

    def stop(self) -> None:
        """An administrator's fast shutdown: clients are cut off, what was committed is written."""
        os.kill(self.process.pid, signal.SIGINT)
        self.process.wait(STOP_SECONDS)
        self._process = None

    def restart(self) -> None:
        """`stop()` and `start()`: what a minor upgrade does to its clients."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL for the postmaster and its children: all gone at once, nothing written any more."""
        children = _children(self.process.pid)
        try:
            self.process.kill()
            for child in children:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(child, signal.SIGKILL)
        finally:
            for child in children:
                os.close(child)
        self._process = None

    def emptied_database(self) -> str:
        """The URL of the one database, with nothing left in it and nobody connected: 10 ms."""
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        self.execute(f"SELECT pg_terminate_backend(pid, {CUT_OFF_MS}) FROM pg_stat_activity WHERE {others}")
        self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.url

    def fresh_database(self) -> str:
        """The URL of a new, empty database beside the others: 100 ms, and a second of syncing at the next checkpoint.

        For tests that need several at once. They go with the server.
        """
        name = f"relay_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self._url(name)

    def execute(self, sql: str, url: str | None = None) -> list[str]:
        """Run commands through psql, in one transaction; the lines they give, columns parted by `|`."""
        psql = self._bin / "psql"
        return self._client.run([psql, "-XAtq", "-d", url or self.url, "-c", sql]).text.splitlines()

    def close(self) -> None:
        """End it, whatever state it is in. Nobody reads its data afterwards, so it need not write any more."""
        if self._process is not None:
            self.kill()
        self._place.close()
        self._client.close()

    def report(self) -> list[tuple[str, str]]:
        """Title and end of its output, for a failure report."""
        return self._place.report()

    def _url(self, database: str) -> str:
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{database}"

    def _initialise(self, settings: Mapping[str, str]) -> None:
        self._data.mkdir(mode=0o700, parents=True)
        if os.geteuid() == 0:
            shutil.chown(self._data, SERVER_USER, SERVER_USER)
        # Unsynced: the machine stays up. What the server writes from here on is synced.
        options = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", f"--username={ROLE}"]
        self._place.run([self._bin / "initdb", *options, "-D", self._data], within=START_SECONDS)
        with (self._data / "postgresql.auto.conf").open("a") as config:
            config.writelines(f"{name} = '{value}'\n" for name, value in {**SETTINGS, **settings}.items())


@contextmanager
def postgres(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """A running server with its data below `folder` and `settings` of postgresql.conf; gone on leaving."""
    server = Postgres(folder, settings or {})
    try:
        server.start()
        server.execute("CREATE DATABASE relay", server._url("postgres"))
        yield server
    finally:
        server.close()


def _unprivileged() -> list[str]:
    """What makes a command run as `postgres`, for root only. The folders of tests are closed to everyone else."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(SERVER_USER)
    walk = "+dac_read_search"
    identity = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups"]
    return ["setpriv", *identity, f"--inh-caps={walk}", f"--ambient-caps={walk}"]


def _children(pid: int) -> list[int]:
    """A handle (pidfd) of each child: a handle still means that child after it ended and its number was reused."""
    handles = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(ProcessLookupError):
            handles.append(os.pidfd_open(int(child)))
    return handles
