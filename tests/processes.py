"""Processes under test: where they run, what they said, and waiting for what they do.

A `Place` runs processes and keeps all their output in files, for a look after a failure; leaving it ends whatever is
still running. A place of its own is this machine; `tests.netns.harness.Host` is a place in a network namespace.
Waiting is `eventually`: by condition, with a deadline. Nothing else in the tests sleeps.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.05
LONGEST_POLL_SECONDS = 0.5
TAIL_BYTES = 4096
"""How much of an output a failure report shows: its end."""


class Failed(AssertionError):
    """A process, or what was waited for, did not do what the test says it does."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished command left."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output without the final line end."""
        return self.stdout.decode().rstrip("\n")

    def json(self) -> Any:
        """Standard output, decoded."""
        return json.loads(self.stdout)


class Process:
    """A running process. It leads a process group of its own, so that its children end with it."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], output: Path) -> None:
        self.name = name
        self.output_file = output
        """Standard output and standard error, as they came."""
        self._popen = popen

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def output(self) -> str:
        """What it said until now."""
        return self.output_file.read_text(errors="replace")

    def poll(self) -> int | None:
        """Its exit status (negative: the signal that ended it), None while it runs."""
        return self._popen.poll()

    def wait(self, within: float) -> int:
        """Its exit status. Raises `Failed` when it still runs after `within` seconds."""
        try:
            return self._popen.wait(within)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} still runs after {within:g} s\n{tail(self.output_file)}") from None

    def stop(self, within: float = 10.0) -> int:
        """SIGTERM; its exit status. Raises `Failed` when that did not end it, and ends it all the same."""
        if self.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
        try:
            return self.wait(within)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as a power cut would: it and its children are gone on return."""
        # While the leader is not reaped its group id is nobody else's; afterwards the id may be reused, so look first.
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait()


class Place:
    """Where processes run: by default this machine, as it is.

    `folder` receives their outputs. `prefix` goes before each command: it is how a place makes them run inside.
    """

    def __init__(self, name: str, folder: Path, prefix: Sequence[str] = ()) -> None:
        self.name = name
        self.folder = folder
        self._prefix = tuple(prefix)
        self._processes: list[Process] = []
        self._numbers = itertools.count(1)
        folder.mkdir(parents=True, exist_ok=True)

    def popen(
        self, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, name: str | None = None
    ) -> Process:
        """Start a process; `env` is added to this environment. It has no standard input."""
        command = [str(part) for part in argv]
        name = name or Path(command[0]).name
        output = self.folder / f"{next(self._numbers):03}-{name}.log"
        with output.open("wb") as sink:
            popen = subprocess.Popen(
                [*self._prefix, *command],
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(f"{self.name}/{name}", popen, output)
        self._processes.append(process)
        return process

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        within: float = 30.0,
        check: bool = True,
    ) -> Outcome:
        """Run a command to its end. Raises `Failed` when it takes too long or, with `check`, when it fails."""
        command = tuple(str(part) for part in argv)
        stem = self.folder / f"{next(self._numbers):03}-{Path(command[0]).name}"
        out, err = stem.with_suffix(".out"), stem.with_suffix(".err")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            popen = subprocess.Popen(
                [*self._prefix, *command],
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        process = Process(f"{self.name}$ {' '.join(command)}", popen, err)
        try:
            status = process.wait(within)
        finally:
            process.kill()
        outcome = Outcome(command, status, out.read_bytes(), err.read_text(errors="replace"))
        if check and status != 0:
            raise Failed(f"{process.name}: exit {status}\n{tail(out)}{tail(err)}")
        return outcome

    def close(self) -> None:
        """End what still runs here."""
        for process in reversed(self._processes):
            process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def report(self) -> list[tuple[str, str]]:
        """Title and end of the output of everything that was started with `popen`, for a failure report."""
        return [
            (f"{process.name} (pid {process.pid}, {_state(process)})", tail(process.output_file))
            for process in self._processes
        ]


def eventually(predicate: Callable[[], T], within: float, what: str, *, while_running: Iterable[Process] = ()) -> T:
    """Wait until `predicate` gives something true, and return it.

    Raises `Failed`, naming `what` was expected, after `within` seconds, or as soon as one of `while_running` ended.
    """
    processes = tuple(while_running)
    deadline = time.monotonic() + within
    while True:
        asked = time.monotonic()
        value = predicate()
        if value:
            return value
        took = time.monotonic() - asked
        for process in processes:
            if process.poll() is not None:
                raise Failed(f"{what}: {process.name} ended ({_state(process)})\n{tail(process.output_file)}")
        if time.monotonic() >= deadline:
            raise Failed(f"{what}: not within {within:g} s (last seen: {value!r})")
        time.sleep(max(POLL_SECONDS, min(2 * took, LONGEST_POLL_SECONDS)))  # what is waited for needs the time itself


def tail(file: Path) -> str:
    """The end of an output."""
    with file.open("rb") as output:
        output.seek(max(0, file.stat().st_size - TAIL_BYTES))
        return output.read(TAIL_BYTES).decode(errors="replace")


def _state(process: Process) -> str:
    status = process.poll()
    if status is None:
        return "running"
    return signal.Signals(-status).name if status < 0 else f"exit {status}"
