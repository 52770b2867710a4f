"""Independent witnesses: the receiver has them cosign its checkpoints (C2SP `tlog-witness`), besides the boats.

Any institution can run a witness; the election office publishes its key (`relay authority witness`), the receiver's
administrator gives its address (`witnesses` in config.toml). What a witness answers passes the same admission as a
checkpoint that a boat brings: cosignatures by other keys are dropped. A witness that is away delays nothing.

The newest checkpoint that anybody cosigned, a boat or a witness, is published beside the newest one, which has often
grown on by then. It is proved to be the beginning of the log before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import aiohttp

from relay.errors import Malformed, NotYet, Refused, RelayError, StoreError
from relay.limits import CONNECT_SECONDS, WITNESS_PAUSE_SECONDS
from relay.log.merkle import verify_consistency
from relay.net.witness import Behind, add_checkpoint
from relay.records.identifiers import Kind
from relay.store.shelf import FRESH
from relay.sync.custody import Custody
from relay.sync.host import LogReader
from relay.trust.witness import SignedCheckpoint

logger = logging.getLogger(__name__)

COSIGNED = "checkpoint.cosigned"
"""Where the newest cosigned checkpoint is published."""


class Witnessing:
    """Asks the witnesses at `urls` about the log `origin` of this receiver."""

    def __init__(self, custody: Custody, log: LogReader, origin: str, urls: Sequence[str]) -> None:
        self._custody = custody
        self._log = log
        self._origin = origin
        self._seen = dict.fromkeys(urls, 0)
        """How many entries each witness saw when it was asked last."""
        self._troubles: dict[str, str] = {}
        self._shown = b""
        """The cosigned checkpoint that was published last."""

    async def run(self) -> None:
        """Have every new checkpoint cosigned, and publish what was, for ever; not more often than every few seconds."""
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS)
        headers = {"User-Agent": "relay", "Content-Type": "text/plain; charset=utf-8"}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            while True:
                heard = self._custody.news.count
                with suppress(StoreError, NotYet):  # who needs the store says so
                    if await self._custody.store.leads():
                        await self.ask(session)
                        await self.publish()
                await asyncio.sleep(WITNESS_PAUSE_SECONDS)
                await self._custody.news.wait(heard, 10 * WITNESS_PAUSE_SECONDS)

    async def ask(self, session: aiohttp.ClientSession) -> None:
        """Ask every witness that has not seen the newest checkpoint yet, all at once."""
        signed = self._custody.admission.checkpoints.get(self._origin)
        if signed is not None and signed.checkpoint.size:
            due = [url for url, size in self._seen.items() if size != signed.checkpoint.size]
            await asyncio.gather(*(self._ask_one(session, url, signed) for url in due))

    async def publish(self) -> None:
        """Publish the newest cosigned checkpoint, if it is another one than before, or something else lies in its
        place. Raises `StoreError` and `NotYet`."""
        signed, shelf = self._custody.admission.cosigned.get(self._origin), self._custody.store.shelf
        if signed is None:
            return
        if signed.raw == self._shown:
            if await shelf.read(COSIGNED) == signed.raw:
                return
            logger.error("somebody else wrote to the published files: the cosigned checkpoint there is not the newest")
        old, new = signed.checkpoint, self._custody.admission.checkpoints[self._origin].checkpoint
        try:
            verify_consistency(old.size, old.root, new.size, new.root, await self._log.consistency(old.size, new.size))
        except (Malformed, Refused) as error:
            logger.error("a cosigned checkpoint is not published: %s", error)
            return
        content_type = "text/plain; charset=utf-8"
        await shelf.write(COSIGNED, signed.raw, content_type, FRESH, durable=True)
        self._shown = signed.raw

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
