"""The desk at which operators work: begin a form or a correction, type, add pictures, sign.

There is one draft under way for each station and form, so that a second phone, or the same one after a reload, goes on
with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from relay.errors import BadInput, NotHeld
from relay.node.drafts.draft import PAIRS, AlreadySent, Draft, Picture, as_typed
from relay.node.drafts.pictures import Pictures
from relay.node.drafts.shelf import Shelf
from relay.node.drafts.signing import Signing
from relay.node.drafts.table import Table, newest
from relay.node.home import Home, Member
from relay.records.identifiers import RecordId, StatementId, parse_hash
from relay.records.statement import read_statement
from relay.sync.custody import Custody


class Drafts:
    """The drafts of a node. One daemon uses them; every method is safe to be called by several phones at once."""

    def __init__(self, home: Home, member: Member, custody: Custody) -> None:
        self._member = member
        self._custody = custody
        self._table = Table(Shelf(home.path / "drafts"))
        self._pictures = Pictures(self._table, custody)
        self._signing = Signing(self._table, home, member, custody)
        # What others do for the desk, under one name:
        self.under_way = self._table.under_way
        self.get = self._table.get
        self.announce = self._pictures.announce
        self.append = self._pictures.append
        self.finish = self._pictures.finish
        self.remove = self._pictures.remove
        self.send = self._signing.send

    async def load(self) -> None:
        """Take up what was there before a restart. What was being signed has become a statement, or is open again."""
        for draft in await self._table.load():
            await self._signing.settle(draft)

    async def begin(self, tps: str, form: str) -> Draft:
        """The draft under way for a form of a station, a new one where there is none. Raises `BadInput`, `AlreadySent`.

        Tapped twice, it is the same draft.
        """
        self._check_own(tps, form)
        if earlier := newest(await self._custody.store.bundles(), tps, form):
            raise AlreadySent(earlier.id.hex())
        return await self._table.begin(Draft(secrets.token_hex(8), tps, form, pairs=self._table.pairs(form)))

    async def correct(self, statement: str) -> Draft:
        """The draft that corrects a statement: it begins with that one's numbers and pictures, where they are here.

        Raises `BadInput`, `NotHeld`, and `AlreadySent` naming the newest statement when that is another one.
        """
        earlier_id = StatementId(RecordId(parse_hash(statement, "statement id")))
        bundle = await self._custody.store.bundle(earlier_id)
        if bundle is None:
            raise NotHeld("There is no such package here", "Begin at the list of forms.")
        self._check_own(bundle.tps, bundle.form)
        latest = newest(await self._custody.store.bundles(), bundle.tps, bundle.form)
        if latest is not None and latest.id != bundle.id:
            raise AlreadySent(latest.id.hex())
        records = await self._custody.store.read([earlier_id], 1)
        package = read_statement(records[0][2]).package if records else None
        counts, votes = as_typed(package.tally) if package else ({}, {})
        pairs = max([PAIRS, *(int(one) for one in votes)])
        blank = Draft(secrets.token_hex(8), bundle.tps, bundle.form, counts, votes, pairs, supersedes=statement)
        draft = await self._table.begin(blank)
        if draft.id == blank.id and package is not None and not package.sealed:
            draft = await self._pictures.bring(draft, package)
        return draft

    async def save(self, draft_id: str, changes: Mapping[str, str]) -> Draft:
        """Keep what was typed, durably: names of counts, `pair-1`…, `pairs`, `reason`. Others are passed over.

        What is left out stays as it was, so that two phones can type different parts. Raises `AlreadySent`, `NotHeld`.
        """
        async with self._table.changing:
            return await self._table.keep(self._table.open(draft_id).typing(changes))

    async def discard(self, draft_id: str) -> None:
        """Throw a draft away with its pictures."""
        async with self._table.changing:
            self._table.open(draft_id)
            await self._table.remove(draft_id)

    def picture(self, draft_id: str, picture_id: str) -> tuple[Picture, Path]:
        """A picture and where it lies. Raises `NotHeld`."""
        draft = self.get(draft_id)
        picture = draft.get(picture_id)
        return picture, self._table.shelf.path(draft, picture)

    def _check_own(self, tps: str, form: str) -> None:
        if tps not in self._member.identity.tps:
            raise BadInput("This polling station is not one of this device's", "Choose one of the list.")
        forms = self._custody.admission.forms
        if forms and form not in forms:
            raise BadInput("This form is not of this election", "Choose one of the list.")
