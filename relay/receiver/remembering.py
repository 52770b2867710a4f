"""What a receiver remembers of its log by itself, in a file of its own folder: the newest checkpoint that it knew of.

Whether a database is older than what was logged (it was restored, or is another one) shows at the published log. That
may be away, and the database itself cannot tell: a note in it is restored with it. So each receiver keeps one where
neither database nor bucket is. It goes on without the published log only on a database that has at least as much as it
remembers; one that remembers nothing waits. Guards promise 6.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from relay.errors import Malformed, Refused, StoreError
from relay.limits import MAX_CHECKPOINT
from relay.log.checkpoint import Checkpoint, open_checkpoint
from relay.log.note import NoteKey
from relay.store.durable import disk_error, write_durably
from relay.store.interface import LogState

logger = logging.getLogger(__name__)

NEWEST = "newest-checkpoint"
"""The file, in a receiver's folder."""


class LogMemory:
    """The newest checkpoint of the log that `key` signs; kept in `file`, or as long as the process lives."""

    def __init__(self, key: NoteKey, file: Path | None = None) -> None:
        self._key = key
        self._file = file
        self._raw = b""
        self._newest: Checkpoint | None = None
        self._writing = asyncio.Lock()
        if file is not None:
            self._recall(file)

    @property
    def has_any(self) -> bool:
        """Whether anything is remembered."""
        return self._newest is not None

    def check(self, state: LogState) -> None:
        """Raises `StoreError` for a store that has less than is remembered, or another log."""
        newest = self._newest
        if newest is None or not newest.size:
            return  # an empty log is the beginning of any, also on a store where it is not signed yet
        if newest.size > state.size:
            raise StoreError(
                f"This receiver knew a log of {newest.size} entries and the store has only {state.size}",
                "The store is older than what was logged: restore its newest copy before this receiver runs again.",
            )
        if newest.size == state.size and newest != self._own(state.checkpoint):
            raise StoreError(
                f"The store's log of {state.size} entries is not the one that this receiver knew",
                "Start no receiver on it: two logs with one key are never right. Keep both, and tell the office.",
            )

    async def note(self, raw: bytes) -> None:
        """Remember this checkpoint, which was committed, unless a larger one is known. Where the file cannot be written
        the log does not wait for it. Raises `StoreError` for one of another log."""
        async with self._writing:
            newest = self._own(raw)
            if newest is None:
                raise StoreError(
                    "The store's log is signed with another key than this receiver's",
                    "Correct `database` in config.toml: each receiver that is named has a database of its own.",
                )
            if raw == self._raw or (self._newest is not None and newest.size < self._newest.size):
                return
            self._newest, self._raw = newest, raw
            if self._file is None:
                return
            try:
                await asyncio.to_thread(write_durably, self._file, raw)
            except StoreError as error:
                logger.warning("how far the log is cannot be noted: %s", error)

    def _recall(self, file: Path) -> None:
        try:
            with file.open("rb") as opened:
                raw = opened.read(MAX_CHECKPOINT)
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("how far the log is was noted, and cannot be read: %s", disk_error(error, file))
            return
        self._newest, self._raw = self._own(raw), raw
        if self._newest is None:
            logger.warning("%s is not what this receiver wrote, and is not believed", file)

    def _own(self, raw: bytes) -> Checkpoint | None:
        try:
            return open_checkpoint(raw, self._key)
        except (Malformed, Refused):
            return None
