"""What is handed in from outside a visit: a witness's answer, a stick, the forms and uploads of the operator's page."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import aiohttp
from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request

from relay.errors import RelayError
from relay.limits import MAX_PICTURE, MAX_RECORD
from relay.log.note import parse_note
from relay.net.witness import Behind, add_checkpoint
from relay.node.byhand import FOLDERS, OBJECTS, import_from
from relay.node.drafts import Drafts, Picture
from relay.node.drafts.draft import Draft, from_json, to_json
from relay.records.identifiers import Kind, sha256
from relay.sync.custody import Custody
from relay.web.operator.answers import TOKEN
from relay.web.operator.guard import page_token, read_form
from relay.web.operator.uploads import take_form
from tests.fuzz import inputs

# -- a witness

_STATUSES = (200, 409, 403, 404, 422, 500, 301, 409)
_KINDS = ("text/plain", "text/x.tlog.size", "", "text/html", "text/plain", "text/plain", "text/plain", "text/plain")


class _Answer:
    """An answer to a POST, as `aiohttp` gives it."""

    def __init__(self, data: bytes) -> None:
        which = data[0] % 8 if data else 0
        self.status, self.content_type = _STATUSES[which], _KINDS[which]
        self.content = inputs.Stream(data[1:])

    async def __aenter__(self) -> _Answer:
        return self

    async def __aexit__(self, *_: object) -> None:
        return


class _Session:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def post(self, *_: object, **__: object) -> _Answer:
        return _Answer(self._data)


async def witness(data: bytes) -> None:
    """Ask a witness that answers this, and judge its cosignatures as a receiver does."""
    world = inputs.world()
    signed = inputs.checkpoints()[0]
    session = cast(aiohttp.ClientSession, _Session(data))
    try:
        lines = await add_checkpoint(session, "https://witness.example", 0, (), signed)
    except Behind as behind:
        assert behind.size >= 0
        return
    admitted = world.election.admission.admit(Kind.CHECKPOINT, signed + lines)
    assert parse_note(admitted.raw).text == parse_note(signed).text, "nobody but the log says what its head is"


def witness_answers() -> Sequence[bytes]:
    """A cosignature, none, one that does not match, a size."""
    plain, cosigned = inputs.checkpoints()
    lines = cosigned.removeprefix(plain)
    return [b"\0" + lines, b"\0", b"\0" + lines[:-8] + b"AAAAAA=\n", b"\x0112\n", b"\x02no"]


# -- a stick

_PLACES = (*(name for name, _ in FOLDERS.values()), OBJECTS, "", "..")
_SUFFIXES = (*(suffix for _, suffix in FOLDERS.values()), "", ".part", ".cose", ".txt")


async def stick(data: bytes, custody: Custody, folder: Path) -> None:
    """Import a folder with files, links, pipes and folders where records and objects should be."""
    outside = folder.parent / "outside"
    outside.write_bytes(b"not on the stick")
    _lay_out(data, folder, outside)
    try:
        moved = await import_from(custody, folder)
        assert moved.records + moved.objects <= len(data)
    finally:
        shutil.rmtree(folder)
        assert outside.read_bytes() == b"not on the stick"


def _lay_out(data: bytes, folder: Path, outside: Path) -> None:
    """Entries: place, kind, length of the name, name, length of the content (two bytes), content."""
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(8):
        if len(data) < 3:
            return
        place, kind, length = data[0] % (len(_PLACES) - 1), data[1], data[2] & 0x7F
        name, rest = data[3 : 3 + length], data[3 + length :]
        size = int.from_bytes(rest[:2])
        content, data = rest[2 : 2 + size], rest[2 + size :]
        if place == len(_PLACES) - 3:
            name = sha256(content).hex().encode() if kind & 8 else name
        suffix = _SUFFIXES[place if kind & 16 else kind >> 5].encode()
        where = folder / _PLACES[place] / os.fsdecode((name.replace(b"/", b"_").replace(b"\0", b"_") or b"x") + suffix)
        with suppress(OSError):  # the name is too long
            if os.path.lexists(where):
                continue
            where.parent.mkdir(parents=True, exist_ok=True)
            match kind % 5:
                case 1:
                    where.symlink_to(outside)
                case 2:
                    where.mkdir()
                case 3:
                    os.mkfifo(where)
                case _:
                    where.write_bytes(content)


def sticks() -> Sequence[bytes]:
    """Sticks with the records of an election and with an object; one of links, pipes and folders."""

    def entry(place: int, kind: int, name: bytes, content: bytes) -> bytes:
        return bytes([place, kind, len(name)]) + name + len(content).to_bytes(2) + content

    pools = (inputs.notices(), inputs.checkpoints(), inputs.receipts(), inputs.statements())
    records = [entry(place, 16, b"one", pool[0]) for place, pool in enumerate(pools)]
    odd = [entry(place, kind, b"odd", b"") for place, kind in ((0, 17), (3, 19), (2, 18), (4, 9), (4, 10))]
    return [
        b"".join(records),
        records[3] + entry(4, 8, b"", b"two"),
        b"".join(odd),
        entry(3, 16, b"long", bytes(MAX_RECORD)),
    ]


# -- the operator's page


def _request(kind: str, data: bytes) -> web.Request:
    stream = StreamReader(cast(Any, _Protocol()), 1 << 20, loop=inputs.loop())
    stream.feed_data(data)
    stream.feed_eof()
    request = make_mocked_request(
        "POST",
        "/operator/drafts/0123456789abcdef/pictures",
        {"Content-Type": kind},
        match_info={"draft": "0123456789abcdef"},
        payload=stream,
        loop=inputs.loop(),
    )
    request[TOKEN] = page_token("phone")
    return request


class _Protocol(asyncio.Protocol):
    """The connection that a request came by."""

    _reading_paused = False

    def pause_reading(self) -> None:
        """Nobody reads."""

    def resume_reading(self, **_: object) -> None:
        """Nobody reads."""


async def form(data: bytes) -> None:
    """A form of the operator's page, typed into a draft, kept and read again."""
    try:
        fields = await read_form(_request("application/x-www-form-urlencoded", data))
    except web.HTTPException:
        return
    draft = Draft("0123456789abcdef", "tps-1", "form-1").typing(fields)
    assert from_json(to_json(draft)) == draft
    tally = draft.tally
    assert tally is None or all(count >= 0 for count in (*tally.counts.values(), *tally.votes.values()))
    assert len(draft.wrong) <= len(draft.counts) + len(draft.votes)


class _Desk:
    """Takes pictures, and keeps count."""

    def __init__(self) -> None:
        self.taken: dict[str, bytes] = {}

    async def append(self, _draft: str, picture: str, size: int, offset: int, data: bytes) -> Picture:
        content = self.taken.get(picture, b"")
        assert offset == len(content)
        assert offset + len(data) <= size <= MAX_PICTURE
        self.taken[picture] = content + data
        return Picture(picture, size, 1)

    async def finish(self, _draft: str, picture: str) -> Picture:
        return Picture(picture, len(self.taken[picture]), 1, "jpg")


async def upload(data: bytes) -> None:
    """A form with files, as a browser without JavaScript posts it. The first byte chooses what it says it is."""
    kinds = ("multipart/form-data; boundary=b", "multipart/form-data", "multipart/mixed; boundary=b", "text/plain")
    desk = _Desk()
    try:
        taken = await take_form(cast(Drafts, desk), _request(kinds[data[0] % 4 if data else 0], data[1:]))
    except (RelayError, web.HTTPException):
        return
    assert taken == len(desk.taken)


def forms() -> Sequence[bytes]:
    """What is typed: numbers, nonsense, a reason."""
    return [
        b"voters=300&valid=290&pair-1=120&pair-2=170&pairs=2&reason=retyped",
        b"voters=%F0%9F%98%80&pair-1=",
        b"a=1&a=2",
    ]


def uploads() -> Sequence[bytes]:
    """Forms with the token and one picture; nested ones; one that ends in the middle."""
    token = b'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n' + page_token("phone").encode() + b"\r\n"
    head = b'--b\r\nContent-Disposition: form-data; name="pictures"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n'
    nested = b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n"
    encoded = head + b"Content-Transfer-Encoding: base64\r\n\r\n/9j/\r\n"
    return [
        b"\0" + token + head + b"\r\n\xff\xd8\xff\r\n--b--\r\n",
        b"\0" + token + nested + b"--b--\r\n",
        b"\0" + token + encoded + b"--b--\r\n",
        b"\0" + token + head + b"Content-Length: 9\r\n\r\nab",
        b"\x01" + token,
    ]
