"""How many readers may wait for what is slow: so many that places stay for who asks something else at the same door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

_AGAIN_SECONDS: Final = 5
"""After so long, who was sent away comes again: by then those who waited were answered, or sent away as well."""


class Crowded(web.HTTPServiceUnavailable):
    """Too many wait already, or one waited for too long. It is nothing that is wrong with what he asks for."""

    def __init__(self) -> None:
        again = str(_AGAIN_SECONDS)
        super().__init__(
            text="Too many read at the moment.", headers={"Retry-After": again, "Cache-Control": "no-store"}
        )


class Crowd:
    """At most `most` at once, each for `patience` seconds."""

    def __init__(self, most: int, patience: float) -> None:
        self._most = most
        self._patience = patience
        self._inside = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place among them. Raises `Crowded` where there is none, and when it was had for too long."""
        if self._inside >= self._most:
            raise Crowded
        self._inside += 1
        try:
            async with asyncio.timeout(self._patience):
                yield
        except TimeoutError as error:
            raise Crowded from error
        finally:
            self._inside -= 1
