"""Independent witnesses: the receiver has them cosign its checkpoints (C2SP `tlog-witness`), besides the boats.

Any institution can run a witness; the election office publishes its key (`relay authority witness`), the receiver's
administrator gives its address (`witnesses` in config.toml). What a witness answers passes the same admission as a
checkpoint that a boat brings: cosignatures by other keys are dropped. A witness that is away delays nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import aiohttp

from relay.errors import Malformed, RelayError, StoreError
from relay.limits import CONNECT_SECONDS, WITNESS_PAUSE_SECONDS
from relay.net.witness import Behind, add_checkpoint
from relay.records.identifiers import Kind
from relay.sync.custody import Custody
from relay.sync.host import LogReader
from relay.trust.witness import SignedCheckpoint

logger = logging.getLogger(__name__)


class Witnessing:
    """Asks the witnesses at `urls` about the log `origin` of this receiver."""

    def __init__(self, custody: Custody, log: LogReader, origin: str, urls: Sequence[str]) -> None:
        self._custody = custody
        self._log = log
        self._origin = origin
        self._seen = dict.fromkeys(urls, 0)
        """How many entries each witness saw when it was asked last."""
        self._troubles: dict[str, str] = {}

    async def run(self) -> None:
        """Have every new checkpoint cosigned, for ever; not more often than every few seconds."""
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS)
        headers = {"User-Agent": "relay", "Content-Type": "text/plain; charset=utf-8"}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            while self._seen:
                heard = self._custody.news.count
                with suppress(StoreError):  # who needs the store says so
                    if await self._custody.store.leads():
                        await self.ask(session)
                await asyncio.sleep(WITNESS_PAUSE_SECONDS)
                await self._custody.news.wait(heard, 10 * WITNESS_PAUSE_SECONDS)

    async def ask(self, session: aiohttp.ClientSession) -> None:
        """Ask every witness that has not seen the newest checkpoint yet, all at once."""
        signed = self._custody.admission.checkpoints.get(self._origin)
        if signed is not None and signed.checkpoint.size:
            due = [url for url, size in self._seen.items() if size != signed.checkpoint.size]
            await asyncio.gather(*(self._ask_one(session, url, signed) for url in due))

    async def _ask_one(self, session: aiohttp.ClientSession, url: str, signed: SignedCheckpoint) -> None:
        try:
            lines = await self._cosignatures(session, url, signed)
            (verdict,) = await self._custody.take([(Kind.CHECKPOINT, signed.raw + lines)])
            if verdict.refusal is not None:
                raise verdict.refusal
        except RelayError as error:
            if self._troubles.get(url) != error.what:
                logger.warning("%s", error)
            self._troubles[url] = error.what
        else:
            self._seen[url] = signed.checkpoint.size
            self._troubles.pop(url, None)

    async def _cosignatures(self, session: aiohttp.ClientSession, url: str, signed: SignedCheckpoint) -> bytes:
        size = signed.checkpoint.size
        for _ in range(2):
            old = self._seen[url]
            proof = await self._log.consistency(old, size)
            try:
                return await add_checkpoint(session, url, old, proof, signed.raw)
            except Behind as behind:
                if behind.size > size:
                    raise Malformed(f"The witness {url} says that it saw {behind.size} entries of {size}") from behind
                self._seen[url] = behind.size
        raise Malformed(f"The witness {url} does not agree with itself about what it saw")
