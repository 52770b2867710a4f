"""Pictures of drafts: they arrive part by part, each durable before it is acknowledged, and are checked when whole."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from relay.errors import BadInput, StoreError
from relay.limits import MAX_PICTURE, MAX_PICTURES
from relay.node.drafts.draft import (
    DamagedPicture,
    Draft,
    OffsetConflict,
    Picture,
    PictureRemoved,
    UnusablePicture,
    is_id,
)
from relay.node.drafts.table import Table
from relay.records.pictures import HEAD, picture_kind
from relay.records.statement import Package
from relay.sync.custody import Custody


class Pictures:
    """Takes pictures in."""

    def __init__(self, table: Table, custody: Custody) -> None:
        self._table = table
        self._shelf = table.shelf
        self._custody = custody

    async def announce(self, draft_id: str, pictures: Sequence[tuple[str, int]]) -> dict[str, BadInput]:
        """Note ids and sizes of pictures that a phone holds, in their order, before any byte of them is here.

        So a draft is known to lack them, whatever becomes of the phone. Those it has already stay as they are. One that
        can be none keeps no other from being noted: returns what is wrong with each such, by its id.
        """
        refused: dict[str, BadInput] = {}
        async with self._table.changing:
            before = draft = self._table.open(draft_id)
            for picture_id, size in pictures:
                if picture_id in draft.removed or draft.find(picture_id) is not None:
                    continue
                try:
                    draft = _adding(draft, picture_id, size)
                except BadInput as error:
                    refused[picture_id] = error
            if draft is not before:
                await self._table.keep(draft)
        return refused

    async def append(self, draft_id: str, picture_id: str, size: int, offset: int, data: bytes) -> Picture:
        """Add a part to a picture of `size` bytes in all, durably. The first part makes one that was not announced.

        Raises `OffsetConflict` when the part does not begin where the last one ended, `BadInput` for what is too large
        or one too many, `PictureRemoved`, and `DiskFull` where a picture more would leave no room for signing: what is
        acknowledged can be signed.
        """
        async with self._table.changing:
            draft = self._table.open(draft_id)
            if draft.find(picture_id) is None:
                draft = await self._table.keep(_adding(draft, picture_id, size))
            picture = draft.get(picture_id)
            if picture.size != size or picture.whole or offset != picture.received:
                raise OffsetConflict(picture.received)
            if offset + len(data) > size:
                raise BadInput("More arrived than the picture has", "Take the picture again.")
            arrived = replace(picture, received=offset + len(data))
            await asyncio.to_thread(self._shelf.check_room, size - offset, self._signing_takes(draft.putting(arrived)))
            await asyncio.to_thread(self._shelf.append, draft, picture, offset, data)
            self._table.note(draft.putting(arrived))  # the length of the file says it, too
            return arrived

    async def finish(self, draft_id: str, picture_id: str, digest: bytes | None = None) -> Picture:
        """Declare a picture whole; with `digest`, its SHA-256 is checked.

        What arrived damaged is awaited anew: raises `DamagedPicture`. What is none is dropped: raises
        `UnusablePicture`.
        """
        async with self._table.changing:
            draft = self._table.open(draft_id)
            picture = draft.get(picture_id)
            if picture.whole:
                return picture
            if picture.received != picture.size:
                raise OffsetConflict(picture.received)
            kind, cut_off, found = await asyncio.to_thread(self._shelf.examine, draft, picture)
            if digest is not None and digest != found:
                self._shelf.drop(draft, picture)
                self._table.note(draft.putting(replace(picture, received=0)))
                raise DamagedPicture("The picture was damaged on its way", "It is sent again by itself.")
            if not kind or cut_off:
                await self._drop(draft.dropping(picture), picture)
                what = "This picture does not open: its end is missing" if kind else "What arrived is no picture"
                raise UnusablePicture(what, "Take the picture again.")
            picture = replace(picture, kind=kind)
            await asyncio.to_thread(self._shelf.complete, draft, picture)
            await self._table.keep(draft.putting(picture))
            return picture

    async def remove(self, draft_id: str, picture_id: str) -> None:
        """Take a picture out of a draft."""
        async with self._table.changing:
            draft = self._table.open(draft_id)
            if picture := draft.find(picture_id):
                await self._drop(draft.removing(picture_id), picture)

    async def bring(self, draft: Draft, package: Package) -> Draft:
        """Copy the pictures of an earlier package that are still held, and for which there is room. Signing does not
        copy them: the store has them."""
        for entry in package.files[:MAX_PICTURES]:
            path = await self._custody.store.object_path(entry.sha256)
            head = (await self._custody.store.read_chunk(entry.sha256, 0) or b"")[:HEAD]
            if path is None or not picture_kind(head) or entry.size > MAX_PICTURE:
                continue
            async with self._table.changing:
                number = len(draft.pictures) + 1
                picture = Picture(secrets.token_hex(8), entry.size, number, picture_kind(head), entry.size)
                with suppress(StoreError):  # freed just now, or the disk is full
                    await asyncio.to_thread(self._shelf.check_room, entry.size)
                    await asyncio.to_thread(self._shelf.copy, path, draft, picture)
                    draft = await self._table.keep(draft.adding(picture))
        return draft

    def _signing_takes(self, draft: Draft) -> int:
        """Bytes that signing this draft or any other takes: each is signed by itself, and then its pictures go."""
        others = (one for one in self._table.under_way() if one.id != draft.id)
        sealed = self._custody.admission.sealed
        return max(one.signing_takes(sealed=sealed) for one in (draft, *others))

    async def _drop(self, without: Draft, picture: Picture) -> None:
        await self._table.keep(without)
        self._shelf.drop(without, picture)


def _adding(draft: Draft, picture_id: str, size: int) -> Draft:
    if picture_id in draft.removed:
        raise PictureRemoved
    if not is_id(picture_id):
        raise BadInput("A picture's id is 16 hexadecimal digits", "Reload the page.")
    if not size:
        raise UnusablePicture("This picture is empty", "Take the picture again.")
    if not 0 < size <= MAX_PICTURE:
        raise UnusablePicture(f"A picture has at most {MAX_PICTURE >> 20} MiB", "Take it with a smaller resolution.")
    if len(draft.pictures) >= MAX_PICTURES:
        raise BadInput(f"A form has at most {MAX_PICTURES} pictures", "Remove one first.")
    number = max((one.number for one in draft.pictures), default=0) + 1
    return draft.adding(Picture(picture_id, size, number))
