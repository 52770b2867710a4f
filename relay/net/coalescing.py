"""Reading content in lots: what comes within some milliseconds is read at once.

Linux acknowledges every second frame of a stream that is read as it comes, and once for a lot of what waited. On a
medium that both ways share, as on Wi-Fi, those frames take the air of content; and a small box wakes up less often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from relay.limits import LOT_BYTES, LOT_FROM, LOT_READ_SECONDS, LOT_SECONDS, MAX_EMPTY_LOTS


class Lots:
    """The lots of one connection, which is TLS: it is read for a moment, and left to the kernel until the next one. By
    the clock, and not whenever something came: a record of TLS is longer than what a slow link brings in one lot."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._before = 0
        """Bytes that were read before lots began."""
        self._lot = 0
        self._since = 0.0
        self._empty = 0
        """Lots in a row that brought nothing."""
        self._next: asyncio.TimerHandle | None = None

    def came(self, size: int) -> None:
        """So many bytes more were read. While TCP finds out how fast the link is, all is read as it comes."""
        if self._before < LOT_FROM:
            self._before += size
            return
        self._lot += size
        if self._next is None:
            self._empty, self._since = 0, self._loop.time()
            self._read()

    def end(self) -> None:
        """Read what was gathered, and whatever comes."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
            self._leave_room(None)

    def _gather(self, due: float) -> None:
        """Leave what comes to the kernel for a while. Not where it comes quickly, or the loop has so much else to do
        that it reads in lots anyhow; and no longer once there is nothing to gather, or who takes it does not keep up:
        to go on with what is paused would have it read, and its end be seen before what came."""
        self._empty = 0 if self._lot else self._empty + 1
        if self._empty == MAX_EMPTY_LOTS or not self._is_read():
            self._next = None
            return
        now = self._loop.time()
        seconds = min(LOT_SECONDS, LOT_BYTES * (now - self._since) / max(self._lot, 1))
        self._lot, self._since = 0, now
        if seconds < LOT_READ_SECONDS or now - due > LOT_READ_SECONDS:
            self._read()
        else:
            self._leave_room(0)
            self._next = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._leave_room(None)
        self._read()

    def _read(self) -> None:
        due = self._loop.time() + LOT_READ_SECONDS
        self._next = self._loop.call_at(due, self._gather, due)

    def _is_read(self) -> bool:
        """Whether who takes what comes has not paused, since he has enough."""
        try:
            return self._transport.is_reading()
        except AttributeError:  # one that was closed knows nothing of itself
            return False

    def _leave_room(self, size: int | None) -> None:
        """Let the connection read while less than this waits to be taken from it: nothing at 0, also where nothing
        waits; None is what is usual. Of one that only pauses (`pause_reading`), TLS goes on to read, and the kernel to
        acknowledge."""
        with suppress(AttributeError):  # as above
            self._transport.set_read_buffer_limits(size)  # type: ignore[attr-defined]


@contextmanager
def in_lots(transport: asyncio.BaseTransport | None) -> Iterator[Callable[[int], None]]:
    """Within it, what comes on a connection is read in lots, if whoever reads tells the function given of each part's
    bytes. It makes no difference where the connection is over, or no TLS."""
    if not isinstance(transport, asyncio.Transport) or not hasattr(transport, "set_read_buffer_limits"):
        yield lambda _size: None
        return
    lots = Lots(transport)
    try:
        yield lots.came
    finally:
        lots.end()
