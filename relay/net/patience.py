"""Patience with slow links: what is being sent goes on while its bytes move, and ends when none does.

Between a program that writes and a link that takes lie the buffers of TLS, of the loop and of the kernel: some hundred
kilobytes, which a link of a hundred kilobit needs half a minute for. How fast something can be written therefore says
nothing of whether anything arrives; what the other side acknowledges does (Linux tells, in TCP_INFO). Elsewhere what is
written has to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

from relay.net.sockets import bytes_taken

_LOOKS = 5
"""Looks at what moved within the patience: so much of it may pass unseen."""


@asynccontextmanager
async def while_moving(moved: Callable[[], Hashable], patience: float, beginning: float = 0.0) -> AsyncIterator[None]:
    """Within it, `TimeoutError` is raised once what `moved` says has been the same for `patience` seconds, and a fifth
    of that at the most; `beginning` is what the first move may take longer."""
    loop = asyncio.get_running_loop()
    seen = moved()
    looking: asyncio.TimerHandle

    def look() -> None:
        nonlocal seen, looking
        now = moved()
        if now != seen and not deadline.expired():
            seen = now
            deadline.reschedule(loop.time() + patience)
        looking = loop.call_later(patience / _LOOKS, look)

    async with asyncio.timeout(beginning + patience) as deadline:
        looking = loop.call_later(patience / _LOOKS, look)
        try:
            yield
        finally:
            looking.cancel()


def acknowledged(transport: asyncio.BaseTransport | None) -> int:
    """Bytes of a connection that the other side's system has acknowledged; 0 where this system does not tell."""
    connection = transport.get_extra_info("socket") if transport is not None else None
    return bytes_taken(connection) if connection is not None else 0
