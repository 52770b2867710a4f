"""Drafts: what an operator has photographed and typed, kept on the node until it is signed.

    drafts/<draft>/draft.json        what was typed, the pictures in order, how far it is
    drafts/<draft>/<picture>.part    a picture that is arriving
    drafts/<draft>/<picture>         a picture that is whole
    drafts/<draft>/send/<name>       links by which pictures get their names when the draft is signed

There is one draft under way for each station and form, so that a second phone, or the same one after a reload, goes on
with it. Whatever is acknowledged has been synced (promise 5). A draft becomes one statement at most: that it is being
signed is written down before, and after a power cut the store tells whether it was (promise 6). Does not live here:
pages, languages, and who may come in.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from relay.errors import BadInput, NotHeld, RelayError, StoreError
from relay.limits import (
    DISK_RESERVE,
    MAX_DRAFT,
    MAX_DRAFTS,
    MAX_PAIRS_TYPED,
    MAX_PICTURE,
    MAX_PICTURES,
    MAX_REASON,
    MAX_SENT_DRAFTS,
    MAX_TALLY_VALUE,
)
from relay.node.capture import Submission, capture
from relay.node.home import Home, Member
from relay.records.identifiers import RecordId, StatementId, parse_hash, sha256
from relay.records.statement import Package, read_statement
from relay.records.tally import COUNTS, Tally
from relay.store.durable import bytes_free, copy_durably, explained, sync_folder, write_all, write_durably
from relay.store.interface import Bundle
from relay.sync.custody import Custody

OPEN, SENDING, SENT = "open", "sending", "sent"
PAIRS = 2
"""Pairs of candidates on a form of which nobody said otherwise."""
_ID = re.compile(r"[0-9a-f]{16}")
_TYPED = 12
"""Characters of a number as it is typed; what is no number is kept, too, and shown as what it is."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a draft: its id, what it is called when it is signed, its size, and bytes that are on the disk."""

    id: str
    size: int
    number: int
    kind: str = ""
    """What its first bytes are (`jpg`), once it is whole."""
    received: int = 0

    @property
    def whole(self) -> bool:
        """Whether all of it is here."""
        return bool(self.kind)


@dataclass(frozen=True, slots=True)
class Draft:
    """What was photographed and typed so far. `counts` and `votes` are texts as typed, by the tally's names."""

    id: str
    tps: str
    form: str
    counts: Mapping[str, str] = field(default_factory=dict)
    votes: Mapping[str, str] = field(default_factory=dict)
    pairs: int = PAIRS
    pictures: tuple[Picture, ...] = ()
    supersedes: str = ""
    reason: str = ""
    state: str = OPEN
    captured_at: int = 0
    statement: str = ""

    @property
    def wrong(self) -> tuple[str, ...]:
        """Names of what was typed and is no number, in the order of the form."""
        typed = [*self.counts.items(), *((f"pair-{pair}", text) for pair, text in self.votes.items())]
        return tuple(name for name, text in typed if text and _number(text) is None)

    @property
    def tally(self) -> Tally | None:
        """The numbers that were typed; None where there are none."""
        counts = {name: number for name in COUNTS if (number := _number(self.counts.get(name, ""))) is not None}
        votes = {
            str(pair): number
            for pair in range(1, self.pairs + 1)
            if (number := _number(self.votes.get(str(pair), ""))) is not None
        }
        return Tally(counts, votes) if counts or votes else None


class OffsetConflict(RelayError):
    """A part of a picture does not begin where the node's part ends; `offset` says where that is."""

    kind = "offset-conflict"
    status = 409

    def __init__(self, offset: int) -> None:
        super().__init__("The picture goes on at another place", "Send what follows the offset.")
        self.offset = offset


class AlreadySent(RelayError):
    """The draft was signed already, or somebody else returned this form; `statement` is its id in hex."""

    kind = "already-sent"
    status = 409

    def __init__(self, statement: str) -> None:
        super().__init__("This form was sent already", "Make a correction of it.")
        self.statement = statement


class Drafts:
    """The drafts of a node. One daemon uses them; every method is safe to be called by several phones at once."""

    def __init__(self, home: Home, member: Member, custody: Custody) -> None:
        self._home = home
        self._folder = home.path / "drafts"
        self._member = member
        self._custody = custody
        self._drafts: dict[str, Draft] = {}
        self._changing = asyncio.Lock()
        self._signing = asyncio.Lock()

    async def load(self) -> None:
        """Take up what was there before a restart. What was being signed has become a statement, or is open again."""
        self._drafts = await asyncio.to_thread(self._read_all)
        for draft in [one for one in self._drafts.values() if one.state == SENDING]:
            await self._settle(draft)

    def under_way(self) -> list[Draft]:
        """Drafts that are not sent, by station and form."""
        return sorted((one for one in self._drafts.values() if one.state != SENT), key=lambda one: (one.tps, one.form))

    def get(self, draft_id: str) -> Draft:
        """One draft. Raises `NotHeld`."""
        if draft_id not in self._drafts:
            raise NotHeld("There is no such draft", "Begin at the list of forms.")
        return self._drafts[draft_id]

    async def begin(self, tps: str, form: str) -> Draft:
        """The draft under way for a form of a station, a new one where there is none. Raises `BadInput`, `AlreadySent`.

        Tapped twice, it is the same draft.
        """
        self._check_own(tps, form)
        if earlier := _newest(await self._custody.store.bundles(), tps, form):
            raise AlreadySent(earlier.id.hex())
        return await self._begin(Draft(secrets.token_hex(8), tps, form, pairs=self._pairs(form)))

    async def correct(self, statement: str) -> Draft:
        """The draft that corrects a statement: it begins with that one's numbers and pictures, where they are here.

        Raises `BadInput`, `NotHeld`, and `AlreadySent` naming the newest statement when that is another one.
        """
        earlier_id = StatementId(RecordId(parse_hash(statement, "statement id")))
        bundle = await self._custody.store.bundle(earlier_id)
        if bundle is None:
            raise NotHeld("There is no such package here", "Begin at the list of forms.")
        self._check_own(bundle.tps, bundle.form)
        newest = _newest(await self._custody.store.bundles(), bundle.tps, bundle.form)
        if newest is not None and newest.id != bundle.id:
            raise AlreadySent(newest.id.hex())
        records = await self._custody.store.read([earlier_id], 1)
        package = read_statement(records[0][2]).package if records else None
        counts, votes = _typed(package.tally) if package else ({}, {})
        pairs = max([PAIRS, *(int(one) for one in votes)])
        blank = Draft(secrets.token_hex(8), bundle.tps, bundle.form, counts, votes, pairs, supersedes=statement)
        draft = await self._begin(blank)
        if draft.id == blank.id and package is not None and not package.sealed:
            draft = await self._bring_pictures(draft, package)
        return draft

    async def save(self, draft_id: str, changes: Mapping[str, str]) -> Draft:
        """Keep what was typed, durably: names of counts, `pair-1`…, `pairs`, `reason`. Others are passed over.

        What is left out stays as it was, so that two phones can type different parts. Raises `AlreadySent`, `NotHeld`.
        """
        async with self._changing:
            draft = self._open(draft_id)
            counts, votes = dict(draft.counts), dict(draft.votes)
            counts.update({name: changes[name].strip()[:_TYPED] for name in COUNTS if name in changes})
            for pair in range(1, MAX_PAIRS_TYPED + 1):
                if (text := changes.get(f"pair-{pair}")) is not None:
                    votes[str(pair)] = text.strip()[:_TYPED]
            pairs = _number(changes.get("pairs", "")) or draft.pairs
            reason = changes.get("reason", draft.reason).strip()[:MAX_REASON]
            pairs = min(pairs, MAX_PAIRS_TYPED)
            return await self._keep(replace(draft, counts=counts, votes=votes, pairs=pairs, reason=reason))

    async def discard(self, draft_id: str) -> None:
        """Throw a draft away with its pictures."""
        async with self._changing:
            self._open(draft_id)
            del self._drafts[draft_id]
            await asyncio.to_thread(shutil.rmtree, self._folder / draft_id, ignore_errors=True)

    # -- pictures

    async def append(self, draft_id: str, picture_id: str, size: int, offset: int, data: bytes) -> Picture:
        """Add a part to a picture of `size` bytes in all, durably. The first part makes it; the last one ends it.

        Raises `OffsetConflict` when the part does not begin where the last one ended, and `BadInput` for what is no
        picture, too large or one too many.
        """
        async with self._changing:
            draft = self._open(draft_id)
            picture = _find(draft, picture_id)
            if picture is None:
                picture, draft = await self._new_picture(draft, picture_id, size)
            if picture.size != size or picture.whole or offset != picture.received:
                raise OffsetConflict(picture.received)
            if offset + len(data) > size:
                raise BadInput("More arrived than the picture has", "Take the picture again.")
            part = self._path(draft, picture).with_suffix(".part")
            if bytes_free(self._folder) - len(data) < DISK_RESERVE:
                raise StoreError("The disk of this node is full", "Free some space; what was sent is safe.")
            await asyncio.to_thread(_append, part, offset, data)
            picture = replace(picture, received=offset + len(data))
            self._drafts[draft.id] = _with(draft, picture)  # the length of the file says it, too
            return picture

    async def finish(self, draft_id: str, picture_id: str, digest: bytes | None = None) -> Picture:
        """Declare a picture whole; with `digest`, its SHA-256 is checked. A wrong one is dropped: raises `BadInput`."""
        async with self._changing:
            draft = self._open(draft_id)
            picture = _find(draft, picture_id)
            if picture is None:
                raise NotHeld("There is no such picture", "Take it again.")
            if picture.whole:
                return picture
            if picture.received != picture.size:
                raise OffsetConflict(picture.received)
            target = self._path(draft, picture)
            part = target.with_suffix(".part")
            head, found = await asyncio.to_thread(_head_and_hash, part)
            kind = picture_kind(head)
            if not kind or (digest is not None and digest != found):
                await self._drop(draft, picture)
                raise BadInput(
                    "What arrived is no picture" if not kind else "The picture was damaged on its way",
                    "Take the picture again.",
                )
            picture = replace(picture, kind=kind)
            with explained(part):
                part.replace(target)
                await asyncio.to_thread(sync_folder, target.parent)
            await self._keep(_with(draft, picture))
            return picture

    async def remove(self, draft_id: str, picture_id: str) -> None:
        """Take a picture out of a draft."""
        async with self._changing:
            draft = self._open(draft_id)
            if picture := _find(draft, picture_id):
                await self._drop(draft, picture)

    def picture(self, draft_id: str, picture_id: str) -> tuple[Picture, Path]:
        """A picture and where it lies. Raises `NotHeld`."""
        draft = self.get(draft_id)
        picture = _find(draft, picture_id)
        if picture is None:
            raise NotHeld("There is no such picture", "Take it again.")
        return picture, self._path(draft, picture)

    # -- signing

    async def send(self, draft_id: str, now: int) -> StatementId:
        """Sign a draft and store it; tapped twice, or repeated after a lost answer, it is the same statement.

        `now` is the device's clock, seconds since 1970. Raises `BadInput`, `AlreadySent` (naming somebody else's
        statement for this form), `StoreError`; then the draft is as it was.
        """
        async with self._signing:
            draft = self.get(draft_id)
            if draft.state == SENT:
                return _statement(draft)
            await self._check_complete(draft)
            async with self._changing:
                draft = await self._keep(replace(self._open(draft_id), state=SENDING, captured_at=now))
            try:
                return await self._sign(draft)
            except RelayError:
                settled = await self._settle(draft)
                if settled.state == SENT:  # the statement was kept before the trouble came
                    return _statement(settled)
                raise

    async def _sign(self, draft: Draft) -> StatementId:
        files = await asyncio.to_thread(self._named_files, draft)
        submission = Submission(
            draft.tps,
            draft.form,
            tuple(files),
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
        newest = _newest(await self._custody.store.bundles(), draft.tps, draft.form)
        if (newest.id.hex() if newest else "") != draft.supersedes:
            raise AlreadySent(newest.id.hex() if newest else draft.supersedes)

    async def _settle(self, draft: Draft) -> Draft:
        """Find out whether a draft that was being signed has become a statement."""
        names = [_name(draft, picture) for picture in draft.pictures]
        for bundle in await self._custody.store.bundles():
            same = (bundle.tps, bundle.form, bundle.captured_at) == (draft.tps, draft.form, draft.captured_at)
            superseded = bundle.supersedes.hex() if bundle.supersedes else ""
            named = [file.name for file in bundle.files] == names
            if bundle.own and same and superseded == draft.supersedes and named:
                return await self._mark_sent(draft, bundle.id)
        async with self._changing:
            return await self._keep(replace(draft, state=OPEN))

    async def _mark_sent(self, draft: Draft, statement: StatementId) -> Draft:
        async with self._changing:
            sent = await self._keep(replace(draft, state=SENT, statement=statement.hex()))
            await asyncio.to_thread(self._clear_pictures, draft)
            done = sorted((one for one in self._drafts.values() if one.state == SENT), key=lambda one: one.captured_at)
            for one in done[:-MAX_SENT_DRAFTS]:
                del self._drafts[one.id]
                await asyncio.to_thread(shutil.rmtree, self._folder / one.id, ignore_errors=True)
        return sent

    # -- within the lock

    async def _begin(self, draft: Draft) -> Draft:
        async with self._changing:
            for one in self.under_way():
                if (one.tps, one.form, one.supersedes) == (draft.tps, draft.form, draft.supersedes):
                    return one
            if len(self.under_way()) >= MAX_DRAFTS:
                raise BadInput(f"{MAX_DRAFTS} drafts are under way", "Send or discard one of them.")
            return await self._keep(draft)

    def _open(self, draft_id: str) -> Draft:
        draft = self.get(draft_id)
        if draft.state != OPEN:
            raise AlreadySent(draft.statement)
        return draft

    async def _keep(self, draft: Draft) -> Draft:
        text = json.dumps(asdict(draft), ensure_ascii=False).encode()
        if len(text) > MAX_DRAFT:
            raise BadInput("The draft is too long", "Shorten the reason.")
        await asyncio.to_thread(self._write, draft.id, text)
        self._drafts[draft.id] = draft
        return draft

    async def _new_picture(self, draft: Draft, picture_id: str, size: int) -> tuple[Picture, Draft]:
        if not _ID.fullmatch(picture_id):
            raise BadInput("A picture's id is 16 hexadecimal digits", "Reload the page.")
        if not 0 < size <= MAX_PICTURE:
            raise BadInput(f"A picture has at most {MAX_PICTURE >> 20} MiB", "Take it with a smaller resolution.")
        if len(draft.pictures) >= MAX_PICTURES:
            raise BadInput(f"A form has at most {MAX_PICTURES} pictures", "Remove one first.")
        number = max((one.number for one in draft.pictures), default=0) + 1
        picture = Picture(picture_id, size, number)
        return picture, await self._keep(replace(draft, pictures=(*draft.pictures, picture)))

    async def _bring_pictures(self, draft: Draft, package: Package) -> Draft:
        """Copy the pictures of an earlier package that are still held."""
        for entry in package.files[:MAX_PICTURES]:
            path = await self._custody.store.object_path(entry.sha256)
            head = (await self._custody.store.read_chunk(entry.sha256, 0) or b"")[:16]
            if path is None or not picture_kind(head) or entry.size > MAX_PICTURE:
                continue
            async with self._changing:
                number = len(draft.pictures) + 1
                picture = Picture(secrets.token_hex(8), entry.size, number, picture_kind(head), entry.size)
                with suppress(StoreError):  # freed just now
                    await asyncio.to_thread(copy_durably, path, self._path(draft, picture))
                    draft = await self._keep(replace(draft, pictures=(*draft.pictures, picture)))
        return draft

    async def _drop(self, draft: Draft, picture: Picture) -> None:
        await self._keep(replace(draft, pictures=tuple(one for one in draft.pictures if one.id != picture.id)))
        for path in (self._path(draft, picture), self._path(draft, picture).with_suffix(".part")):
            path.unlink(missing_ok=True)

    def _check_own(self, tps: str, form: str) -> None:
        if tps not in self._member.identity.tps:
            raise BadInput("This polling station is not one of this device's", "Choose one of the list.")
        forms = self._custody.admission.forms
        if forms and form not in forms:
            raise BadInput("This form is not of this election", "Choose one of the list.")

    def _pairs(self, form: str) -> int:
        """As many pairs as somebody said last that this form has."""
        said = [one.pairs for one in self._drafts.values() if one.form == form]
        return said[-1] if said else PAIRS

    # -- the disk; these block

    def _path(self, draft: Draft, picture: Picture) -> Path:
        return self._folder / draft.id / picture.id

    def _write(self, draft_id: str, text: bytes) -> None:
        folder = self._folder / draft_id
        if not folder.exists():
            with explained(folder):
                folder.mkdir(parents=True, mode=0o700)
                for one in (folder.parent, self._folder.parent):
                    sync_folder(one)
        write_durably(folder / "draft.json", text, mode=0o600)

    def _named_files(self, draft: Draft) -> list[Path]:
        """Links to the pictures, named as they are to be signed."""
        folder = self._folder / draft.id / "send"
        with explained(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for picture in draft.pictures:
                (folder / _name(draft, picture)).symlink_to(Path("..") / picture.id)
        return [folder / _name(draft, picture) for picture in draft.pictures]

    def _clear_pictures(self, draft: Draft) -> None:
        shutil.rmtree(self._folder / draft.id / "send", ignore_errors=True)
        for picture in draft.pictures:
            with suppress(OSError):
                self._path(draft, picture).unlink(missing_ok=True)

    def _read_all(self) -> dict[str, Draft]:
        drafts: dict[str, Draft] = {}
        for folder in sorted(self._folder.glob("*")) if self._folder.exists() else ():
            file = folder / "draft.json"
            if not file.exists():  # made, and cut off before anything was typed
                shutil.rmtree(folder, ignore_errors=True)
                continue
            with explained(file):
                text = file.read_bytes()
            try:
                drafts[folder.name] = self._with_parts(_from_json(text))
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"{file} is damaged", "Move that folder away and start again.") from error
        return drafts

    def _with_parts(self, draft: Draft) -> Draft:
        """What has arrived of each picture is what is on the disk."""
        pictures: list[Picture] = []
        for picture in draft.pictures:
            path = self._path(draft, picture)
            part = path.with_suffix(".part")
            if draft.state != SENT and picture.whole and not path.exists():
                continue
            if not picture.whole and path.exists():  # whole, and cut off before that was written down
                with path.open("rb") as file:
                    kind = picture_kind(file.read(16))
                pictures.append(replace(picture, kind=kind, received=picture.size))
            elif picture.whole:
                pictures.append(replace(picture, received=picture.size))
            else:
                pictures.append(replace(picture, received=part.stat().st_size if part.exists() else 0))
        return replace(draft, pictures=tuple(pictures))


def picture_kind(head: bytes) -> str:
    """What a picture is by its first 16 bytes: `jpg`, `png`, `webp`, `heic`; empty for anything else."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"heim", b"heis"):
        return "heic"
    return ""


def _newest(bundles: Iterable[Bundle], tps: str, form: str) -> Bundle | None:
    """The package of a form that no other one supersedes; of several the last one of the list."""
    own = [one for one in bundles if (one.tps, one.form) == (tps, form)]
    superseded = {one.supersedes for one in own}
    heads = [one for one in own if one.id not in superseded]
    return heads[-1] if heads else None


def _name(draft: Draft, picture: Picture) -> str:
    return f"{draft.form}-{picture.number}.{picture.kind}"


def _statement(draft: Draft) -> StatementId:
    return StatementId(RecordId(bytes.fromhex(draft.statement)))


def _find(draft: Draft, picture_id: str) -> Picture | None:
    return next((one for one in draft.pictures if one.id == picture_id), None)


def _with(draft: Draft, picture: Picture) -> Draft:
    return replace(draft, pictures=tuple(picture if one.id == picture.id else one for one in draft.pictures))


def _number(text: str) -> int | None:
    plain = text.strip()
    if not plain.isascii() or not plain.isdecimal() or int(plain) > MAX_TALLY_VALUE:
        return None
    return int(plain)


def _typed(tally: Tally | None) -> tuple[dict[str, str], dict[str, str]]:
    if tally is None:
        return {}, {}
    votes = {pair: str(votes) for pair, votes in tally.votes.items() if pair.isdecimal() and len(pair) <= 2}
    return {name: str(count) for name, count in tally.counts.items()}, votes


def _from_json(text: bytes) -> Draft:
    document: dict[str, Any] = json.loads(text)
    pictures = tuple(Picture(**one) for one in document.pop("pictures"))
    draft = Draft(**document, pictures=pictures)
    if not _ID.fullmatch(draft.id) or draft.state not in (OPEN, SENDING, SENT):
        raise ValueError(draft.id)
    return draft


def _append(path: Path, offset: int, data: bytes) -> None:
    with explained(path):
        made = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, offset)  # what a failed write left behind
            write_all(descriptor, data, offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if made:
            sync_folder(path.parent)


def _head_and_hash(path: Path) -> tuple[bytes, bytes]:
    with explained(path):
        content = path.read_bytes()
    return content[:16], sha256(content)
