"""Chunks on their way in: checked and staged as they arrive, committed a few times a second while more come, and when
they make an object whole.

Both sides of a visit take chunks in by this: the visitor what it fetches, the visited node what is brought to it.
Guards promises 2 and 3: the store takes what it wants, and what has the hash that a statement says; and promise 5:
only `finish` says that all that was taken is durable.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from relay.errors import Malformed
from relay.limits import COMMIT_SECONDS, MAX_WRONG_CHUNKS, WHOLE_SECONDS
from relay.records.identifiers import ObjectId
from relay.sync.claims import Claims, Way
from relay.sync.custody import Custody
from relay.together import note_end

logger = logging.getLogger(__name__)


class Arrival:
    """What comes on one way. `taken` counts the chunks that were wanted, `rung` the news they made."""

    def __init__(self, custody: Custody, claims: Claims, who: Way, clock: Callable[[], float]) -> None:
        self.taken = 0
        self.rung = 0
        self._custody = custody
        self._claims = claims
        self._who = who
        self._clock = clock
        self.wrong: set[ObjectId] = set()
        """Objects of which a chunk was wrong: this way has other chunks of them than this node was told of."""
        self._wrong = 0
        self._staged = 0
        """The number of the commit that takes the first chunk that came since the last one of ours; 0 if none did."""
        self._begun = clock()
        self._whole = False
        """Whether an object has all its chunks since the last commit."""
        self._commit: asyncio.Task[None] | None = None

    async def take(self, object_id: ObjectId, index: int, data: bytes) -> None:
        """Keep a chunk if it is wanted. A wrong one proves nothing against the peer: a hostile statement may name an
        honest object with false chunk hashes. Many wrong ones do: raises `Malformed`. Raises `StoreError`, also of an
        earlier chunk that could not be committed."""
        try:
            taken = await self._custody.store.stage_chunk(object_id, index, data)
        except Malformed as error:
            self._wrong += 1
            self.wrong.add(object_id)
            logger.info("a chunk of %s was not taken: %s", object_id.hex(), error.what)
            if self._wrong > MAX_WRONG_CHUNKS:
                raise
            return
        if taken:
            self.taken += 1
            self._staged = self._staged or taken
            self._custody.content += 1
            self._claims.claim(object_id, self._who, self._clock())
            self._whole |= not await self._custody.store.missing(object_id)
            self._keep_up()

    async def finish(self) -> None:
        """Make durable all that was taken until now. Raises `StoreError` where some of it could not be."""
        under_way = self._commit
        if under_way is not None:
            await asyncio.wait((under_way,))
        begun = self._commit  # by what came meanwhile; it has taken what was to be committed here
        await self._commit_staged()
        for commit in (under_way, begun):
            if commit is not None:
                await asyncio.wait((commit,))
                commit.result()

    @property
    def committing(self) -> bool:
        """Whether some of it is being committed now."""
        return self._commit is not None and not self._commit.done()

    def _keep_up(self) -> None:
        """Commit beside the transfer: the link does not wait for the disk."""
        now = self._clock()
        if now - self._begun < (WHOLE_SECONDS if self._whole else COMMIT_SECONDS) or self.committing:
            return
        if self._commit is not None:
            self._commit.result()
        self._begun = now
        self._commit = asyncio.create_task(self._commit_staged())
        self._commit.add_done_callback(note_end)  # its failure is told by the next one, or by `finish`

    async def _commit_staged(self) -> None:
        since, self._staged, self._whole = self._staged, 0, False
        if await self._custody.store.commit_chunks(since):
            self.rung += 1
            self._custody.news.ring()
