"""The bytes that calls hold, of all visitors together, and whose call is ended when it is too many.

An honest call holds little, and not for long. A hostile one is begun and never finished, or trickles, or is not read;
and it may be one of many, by a few visitors or by a crowd of them. So room is made by the bytes that have waited
longest, of the visitors that hold no less than half of what each holds on average: few who hold much cannot have a slow
one's chunks cut, nor many who hold little a quick one's records. Who holds nothing just then makes no room.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from aiohttp import web

from relay.net.sockets import abort


@dataclass(slots=True)
class _Call:
    """A call under way: who makes it, and over what it came."""

    visitor: bytes
    transport: asyncio.Transport | None


class Bodies:
    """What calls hold; `most` is what all may together. Of a call that holds too much alone, others bound the size."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: dict[int, _Call] = {}
        """Those under way, but for those that were ended here."""
        self._held: dict[int, int] = {}
        """Of calls that hold something how much, those first whose bytes have waited longest."""
        self._total = 0

    def begin(self, request: web.Request, visitor: bytes) -> None:
        """A visitor calls."""
        self._calls[id(request)] = _Call(visitor, request.transport)

    def add(self, request: web.Request, size: int) -> None:
        """A call holds so many bytes more, or fewer; others are ended where that is too much."""
        call = id(request)
        if call not in self._calls:
            return
        self._held[call] = self._held.get(call, 0) + size
        self._total += size
        if not self._held[call]:
            del self._held[call]
        while self._total > self._most and len(self._held) > 1:
            ended = self._to_end()
            transport = self._calls[ended].transport
            self._forget(ended)
            if transport is not None:
                abort(transport)

    def release(self, request: web.Request) -> None:
        """A call is over."""
        self._forget(id(request))

    def _to_end(self) -> int:
        shares: Counter[bytes] = Counter()
        for call, size in self._held.items():
            shares[self._calls[call].visitor] += size
        enough = self._total / len(shares) / 2
        return next(call for call in self._held if shares[self._calls[call].visitor] >= enough)

    def _forget(self, call: int) -> None:
        self._calls.pop(call, None)
        self._total -= self._held.pop(call, 0)
