"""How receivers on one store hear of each other, and which of them leads: one connection to PostgreSQL beside the pool.

Commits that others should hear of send a notification (`tell`), which arrives after they are visible. The leader holds
an advisory lock of its session: PostgreSQL lets go of it when the session ends, be it that the process died, that its
host did (keepalives), or that it hung and said nothing for a while (`idle_session_timeout`). What the log relies on is
not the lock but the commit of each batch, which only succeeds on the log as its sequencer knew it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from relay.limits import DATABASE_SECONDS, LEAD_SECONDS, LEADER_SILENT_SECONDS
from relay.store.cluster.database import connect, explained
from relay.store.interface import Seen

_CHANNEL = "relay"
_LEADER = 0x524C4159_0002


class Watch:
    """One process's watch over the store of `url`. `clock` is seconds that only grow, also while the machine sleeps."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self.term = 0
        """How often it came to lead."""
        self._url = url
        self._clock = clock
        self._connection: Any = None
        self._connecting = asyncio.Lock()
        self._me = secrets.token_hex(6)
        self._heard = Seen.RULES
        self._bell = asyncio.Event()
        self._leads = False
        self._asked_at = float("-inf")
        self._alive_at = float("-inf")
        """When the last sign of life was given that the database has answered."""
        self._rests_until = float("-inf")
        """Who lost the lead leaves it to others for a moment: what it had under way notices, and ends."""

    async def tell(self, connection: Any, seen: Seen) -> None:
        """Tell the others, when this transaction commits."""
        await connection.execute("SELECT pg_notify($1, $2)", _CHANNEL, f"{seen.value} {self._me}")

    async def changed(self, seconds: float) -> None:
        """Return when something was heard, or after so many seconds. Raises `StoreError`."""
        await self._listen()
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            pass

    def note(self, seen: Seen) -> None:
        """Hear it once more: what was to follow from it did not come to its end."""
        self._heard = max(self._heard, seen, key=list(Seen).index)
        self._bell.set()

    def heard(self) -> Seen:
        """What was heard since this was asked; everything, where nobody listened."""
        if not self._listening:
            return Seen.RULES
        self._bell.clear()
        heard, self._heard = self._heard, Seen.NOTHING
        return heard

    async def leads(self) -> bool:
        """Whether this process leads; tries to. Raises `StoreError`."""
        now = self._clock()
        if self._listening and now - self._asked_at < LEAD_SECONDS / 2:
            return self._leads
        await self._listen()
        with explained():
            async with self._connecting:
                self._asked_at = now
                try:
                    async with asyncio.timeout(DATABASE_SECONDS):
                        await self._lead(now)
                except TimeoutError:
                    self._connection.terminate()  # to go on with it would be to wait for the answer all the same
                    raise
                self._alive_at = now
        return self._leads

    async def _lead(self, now: float) -> None:
        """Go on leading, or try to begin."""
        if self._leads:
            await self._connection.execute("SELECT 1")  # a sign of life, and the way to learn that we died
        elif now >= self._rests_until and await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", _LEADER):
            milliseconds = int(LEADER_SILENT_SECONDS * 1_000)
            await self._connection.execute(f"SET idle_session_timeout = {milliseconds}")
            self._leads = self._listening
            self.term += 1

    def may_publish(self) -> bool:
        """Whether nobody else can lead at this moment: the database waits `LEADER_SILENT_SECONDS` for a sign of life
        before it lets another one lead. Who hung is told so by his clock, before he can ask. True for whoever never
        led: it is for those who alone use a store."""
        return not self.term or (self._leads and self._clock() - self._alive_at < LEADER_SILENT_SECONDS)

    async def close(self) -> None:
        """Stop watching, and leading."""
        if self._connection is not None:
            self._connection.terminate()
        self._lost()

    @property
    def _listening(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    async def _listen(self) -> None:
        async with self._connecting:
            if self._listening:
                return
            with explained():
                connection = await connect(self._url)
                connection.add_termination_listener(self._lost)
                try:
                    await connection.add_listener(_CHANNEL, self._hear)
                except BaseException:
                    connection.terminate()  # nobody would close it
                    raise
            self._connection = connection
            self._lose()
            self.note(Seen.RULES)  # whatever happened while nobody listened

    def _hear(self, _connection: Any, _process: int, _channel: str, payload: object) -> None:
        seen, _, who = str(payload).partition(" ")
        if who != self._me:
            self.note(Seen(seen) if seen in set(Seen) else Seen.NEWS)

    def _lost(self, _connection: Any = None) -> None:
        self._lose()
        self._bell.set()

    def _lose(self) -> None:
        if self._leads:
            self._leads, self._rests_until = False, self._clock() + LEAD_SECONDS
