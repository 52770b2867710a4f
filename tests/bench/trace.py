"""relay with a notebook: `python -m tests.bench.trace run --home H …` is `relay run` that also writes H/trace.jsonl.

Noted are the calls of its visits (begin, end, whether they failed), each chunk that came and how many bytes the streams
of chunks had, finished or cut; with RELAY_SAMPLES set, every 10 ms of CPU time where the main thread is. All times are
the machine's monotonic clock, the same in all network namespaces. Other commands are relay's, unchanged.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from relay.sync.messages import FRAME_HEAD

TRACED = (sys.executable, "-m", "tests.bench.trace")
"""The command of a `tests.boxes.NodeBox` that is to be traced."""
FILE = "trace.jsonl"
SAMPLES = "RELAY_SAMPLES"
SAMPLE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a visit."""

    name: str
    begin: float
    end: float
    failed: bool


@dataclass(slots=True)
class Trace:
    """What one node noted since its folder was made."""

    calls: list[Call] = field(default_factory=list)
    chunks: list[tuple[float, str, int, int]] = field(default_factory=list)
    """Chunks that came whole: when, object, index, bytes."""
    streamed: int = 0
    """Bytes of streams of chunks that came, with the chunks' heads and with what was cut."""
    samples: list[tuple[float, str]] = field(default_factory=list)

    @property
    def twice(self) -> int:
        """Chunks that came again."""
        return len(self.chunks) - len(self._unique())

    @property
    def again(self) -> int:
        """Bytes of content that came in vain: chunks that came again, and parts of chunks that were cut."""
        return self.streamed - FRAME_HEAD.size * len(self.chunks) - sum(self._unique().values())

    def lost(self, after: float) -> float | None:
        """When the first call failed since then: the node knew that the contact was over."""
        return min((one.end for one in self.calls if one.failed and one.end >= after), default=None)

    def _unique(self) -> dict[tuple[str, int], int]:
        return {(name, index): size for _, name, index, size in self.chunks}


def read_trace(home: Path) -> Trace:
    """What the node in this folder noted until now."""
    trace = Trace()
    for kind, *rest in _lines(home / FILE):
        match kind:
            case "call":
                trace.calls.append(Call(*rest))
            case "chunk":
                trace.chunks.append(tuple(rest))
            case "stream":
                trace.streamed += rest[0]
            case "samples":
                trace.samples += [(when, where) for when, where in rest[0]]
    return trace


def _lines(file: Path) -> Iterator[list[Any]]:
    text = file.read_text() if file.exists() else ""
    for line in text[: text.rfind("\n") + 1].splitlines():
        yield json.loads(line)


class _Counted:
    """A stream that counts what is read of it."""

    def __init__(self, content: Any) -> None:
        self._content = content
        self.size = 0

    def __getattr__(self, name: str) -> Any:
        read = getattr(self._content, name)
        if not inspect.iscoroutinefunction(read):
            return read

        async def counted(*arguments: Any) -> Any:
            part = await read(*arguments)
            self.size += len(part)
            return part

        return counted


def _note_frames(note: Callable[..., None], read_frames: Callable[..., AsyncIterator[Any]]) -> Callable[..., Any]:
    async def noted(content: Any, *rest: Any, **options: Any) -> AsyncIterator[Any]:
        counted = _Counted(content)
        try:
            async for object_id, index, data in read_frames(counted, *rest, **options):
                note("chunk", time.monotonic(), object_id.hex(), index, len(data))
                yield object_id, index, data
        finally:
            note("stream", counted.size)

    return noted


def _note_call(note: Callable[..., None], name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    @functools.wraps(call)
    async def noted(*arguments: Any, **options: Any) -> Any:
        begin, failed = time.monotonic(), False
        try:
            return await call(*arguments, **options)
        except Exception:
            failed = True  # what is broken off here has not failed
            raise
        finally:
            note("call", name, begin, time.monotonic(), failed)

    return noted


def _note_stream(note: Callable[..., None], name: str, call: Callable[..., AsyncIterator[Any]]) -> Callable[..., Any]:
    @functools.wraps(call)
    async def noted(*arguments: Any) -> AsyncIterator[Any]:
        begin, failed = time.monotonic(), False
        try:
            async for one in call(*arguments):
                yield one
        except Exception:
            failed = True
            raise
        finally:
            note("call", name, begin, time.monotonic(), failed)

    return noted


def _trace(file: TextIO) -> None:
    """Have this process note its calls and chunks."""
    from relay.net import frames
    from relay.sync.peer import Peer

    def note(*what: object) -> None:
        file.write(json.dumps(what) + "\n")

    frames.read_frames = _note_frames(note, frames.read_frames)
    from relay.net.client import HttpPeer  # after that: it takes the function by its name

    for name in (name for name in vars(Peer) if not name.startswith("_")):
        method = getattr(HttpPeer, name)
        if name == "prepare":  # which calls nobody
            continue
        wrap = _note_stream if inspect.isasyncgenfunction(method) else _note_call
        setattr(HttpPeer, name, wrap(note, name, method))
    if SAMPLES in os.environ:
        samples: list[tuple[float, str]] = []
        signal.signal(signal.SIGPROF, lambda _number, frame: samples.append((time.monotonic(), _where(frame))))
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)
        atexit.register(lambda: note("samples", samples))


def _where(frame: FrameType | None) -> str:
    """Which part of the program runs: the innermost module of relay or of a package, or else of Python's."""
    inner = ""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        head, *rest = module.split(".")
        if head == "relay" and rest and rest[0] != "cli":  # below which everything is
            return f"relay.{rest[0]}{' (' + inner + ')' if inner else ''}"
        if not inner and head not in ("tests", "__main__", "relay"):
            inner = head
        frame = frame.f_back
    return inner or "python"


def top(samples: list[tuple[float, str]], most: int) -> list[tuple[str, float]]:
    """The parts with the largest shares of these samples."""
    counted = Counter(where for _, where in samples)
    return [(where, count / max(1, len(samples))) for where, count in counted.most_common(most)]


def main() -> None:
    """relay's command line; with a notebook where it is the daemon."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"]:
        home = Path(arguments[arguments.index("--home") + 1])
        _trace((home / FILE).open("a", buffering=1))
    from relay.cli import main as relay

    relay(arguments)


if __name__ == "__main__":
    main()
