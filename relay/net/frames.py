"""Chunks on a stream: frames read one by one, each bounded before it is read, each handed on as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import StreamReader

from relay.errors import Malformed
from relay.limits import MAX_CHUNK
from relay.records.identifiers import ObjectId
from relay.sync.messages import FRAME_HEAD


async def read_frames(content: StreamReader, patience: float) -> AsyncIterator[tuple[ObjectId, int, bytes]]:
    """Yield `(object, index, content)` until the stream ends. Raises `Malformed` for a frame that is too long or cut
    short, `TimeoutError` when `patience` seconds bring no byte."""
    while True:
        head = await _read(content, FRAME_HEAD.size, patience)
        if not head:
            return
        digest, index, length = FRAME_HEAD.unpack(head)
        if not 0 < length <= MAX_CHUNK:
            raise Malformed(f"A chunk of {length} bytes is over the limit of {MAX_CHUNK}")
        data = await _read(content, length, patience)
        if not data:
            raise Malformed("A stream of chunks ends in the middle of one")
        yield ObjectId(digest), index, data


async def _read(content: StreamReader, size: int, patience: float) -> bytes:
    """Exactly `size` bytes, or none at the end of the stream; each piece within `patience` seconds."""
    parts: list[bytes] = []
    left = size
    while left:
        async with asyncio.timeout(patience):
            part = await content.read(left)
        if not part:
            if parts:
                raise Malformed("A stream of chunks ends in the middle of one")
            return b""
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
