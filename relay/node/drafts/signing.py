"""A draft becomes a statement, once: that it is being signed is written down before; the store tells whether it was.

So a double tap, a lost answer and a power cut all end in the same statement (promise 6).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from relay.errors import BadInput, RelayError
from relay.node.capture import Submission, capture
from relay.node.drafts.draft import OPEN, SENDING, SENT, AlreadySent, Draft
from relay.node.drafts.table import Table, newest
from relay.node.home import Home, Member
from relay.records.identifiers import RecordId, StatementId
from relay.sync.custody import Custody


class Signing:
    """Signs drafts, one at a time."""

    def __init__(self, table: Table, home: Home, member: Member, custody: Custody) -> None:
        self._table = table
        self._home = home
        self._member = member
        self._custody = custody
        self._one_at_a_time = asyncio.Lock()

    async def send(self, draft_id: str, now: int) -> StatementId:
        """Sign a draft and store it; tapped twice, or repeated after a lost answer, it is the same statement.

        `now` is the device's clock, seconds since 1970. Raises `BadInput`, `AlreadySent` (naming somebody else's
        statement for this form), `StoreError`; then the draft is as it was.
        """
        async with self._one_at_a_time:
            draft = self._table.get(draft_id)
            if draft.state == SENT:
                return draft.statement_id
            await self._check_complete(draft)
            async with self._table.changing:
                draft = await self._table.keep(replace(self._table.open(draft_id), state=SENDING, captured_at=now))
            try:
                return await self._sign(draft)
            except RelayError:
                settled = await self.settle(draft)
                if settled.state == SENT:  # the statement was kept before the trouble came
                    return settled.statement_id
                raise

    async def settle(self, draft: Draft) -> Draft:
        """Find out whether a draft that was being signed has become a statement; otherwise it is open again."""
        names = [draft.file_name(picture) for picture in draft.pictures]
        for bundle in await self._custody.store.bundles():
            same = (bundle.tps, bundle.form, bundle.captured_at) == (draft.tps, draft.form, draft.captured_at)
            superseded = bundle.supersedes.hex() if bundle.supersedes else ""
            named = [file.name for file in bundle.files] == names
            if bundle.own and same and superseded == draft.supersedes and named:
                return await self._mark_sent(draft, bundle.id)
        async with self._table.changing:
            return await self._table.keep(replace(draft, state=OPEN))

    async def _sign(self, draft: Draft) -> StatementId:
        files = await asyncio.to_thread(self._table.shelf.name, draft)
        submission = Submission(
            draft.tps,
            draft.form,
            files,
            draft.tally,
            draft.captured_at,
            StatementId(RecordId(bytes.fromhex(draft.supersedes))) if draft.supersedes else None,
            draft.reason if draft.supersedes else "",
        )
        captured = await capture(self._home, self._member, self._custody, submission)
        await self._mark_sent(draft, captured.id)
        return captured.id

    async def _check_complete(self, draft: Draft) -> None:
        if not all(picture.whole for picture in draft.pictures):
            raise BadInput("A picture has not arrived in full", "Wait for it, or remove it.")
        if draft.wrong:
            raise BadInput("Something that was typed is no number", "Correct it.")
        if draft.supersedes and not draft.reason:
            raise BadInput("A correction needs a reason", "Write what was wrong.")
        latest = newest(await self._custody.store.bundles(), draft.tps, draft.form)
        if (latest.id.hex() if latest else "") != draft.supersedes:
            raise AlreadySent(latest.id.hex() if latest else draft.supersedes)

    async def _mark_sent(self, draft: Draft, statement: StatementId) -> Draft:
        async with self._table.changing:
            sent = await self._table.keep(replace(draft, state=SENT, statement=statement.hex()))
            await asyncio.to_thread(self._table.shelf.clear, draft)
            await self._table.tidy()
        return sent
