"""Of how large a log something shown is right. Pages are written after entries, and do not all say after which."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from relay.web.site.audit.difference import Difference
from relay.web.site.audit.truth import Span

_STEPS = 16
"""Sizes of the log for which something may have been written, that are tried."""

Tried = tuple[Difference | None, Span]
"""What differs for a size of the log, and for which others that is so."""


async def try_sizes(earliest: int, latest: int, compare: Callable[[int], Awaitable[Tried]]) -> Tried:
    """Compare with what a log of `latest` entries says, and where it is not that, with what shorter ones said, from the
    `earliest` on. The first difference, or none where it is right of one of them; and what was tried last."""
    first: Difference | None = None
    end = latest
    for _ in range(_STEPS):
        found, span = await compare(end)
        if found is None:
            return None, span
        first = first or found
        end = earliest if end == latest else span.until + 1
        if end >= latest:
            break
    return first, span
