"""Answers and questions made of records, in fewer bytes: HTTP's content coding `deflate` (RFC 9110 §8.4.1.2).

Records of one election repeat each other: certificates, names, places. Of registers and tallies a quarter is left, of
statements with the hashes of photographs two thirds: on a slow link that is the time until the first of them is there.
Only the calls that carry records are deflated, and nothing is inflated beyond its limit.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

from relay.errors import Malformed
from relay.limits import DEFLATED_AT_ONCE, DEFLATED_FROM
from relay.net import routes

CODING = "deflate"
HEADER = "Content-Encoding"
ASKED = "Accept-Encoding"
ROUTES = frozenset({routes.HELLO, routes.INQUIRE, routes.GET_RECORDS, routes.PUT_RECORDS})
"""Calls of which one side or the other carries records."""
_QUICKLY = 1
"""Of zlib's levels the first: the others take longer for one part in fifty less."""


async def deflated(body: bytes) -> tuple[bytes, dict[str, str]]:
    """A body in fewer bytes, where that is so, and the header that says it. Others get their turn meanwhile."""
    if len(body) < DEFLATED_FROM:
        return body, {}
    deflater = zlib.compressobj(_QUICKLY)
    parts = [deflater.compress(body[:DEFLATED_AT_ONCE])]
    for start in range(DEFLATED_AT_ONCE, len(body), DEFLATED_AT_ONCE):
        await asyncio.sleep(0)
        parts.append(deflater.compress(body[start : start + DEFLATED_AT_ONCE]))
    short = b"".join([*parts, deflater.flush()])
    return (short, {HEADER: CODING}) if len(short) < len(body) else (body, {})


def inflated(body: bytes, headers: Mapping[str, str], limit: int) -> bytes:
    """The body that came with these headers, of at most `limit` bytes. Raises `Malformed`."""
    coding = headers.get(HEADER)
    if coding is None:
        return body
    if coding != CODING:
        raise Malformed(f"A message comes in the coding {coding[:20]!r}, which nobody asked for")
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise Malformed("A message is not deflated as it says") from error
    if len(content) > limit:
        raise Malformed(f"A message is over its limit of {limit} bytes when it is inflated")
    if not inflater.eof or inflater.unused_data:
        raise Malformed("A deflated message is cut short, or something follows it")
    return content
