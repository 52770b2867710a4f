"""Pictures on their way from a phone: parts with offsets, so that a broken upload goes on where it ended.

After the IETF's resumable uploads for HTTP (draft-ietf-httpbis-resumable-upload), for one picture whose id the phone
chose:

    POST  …/announce        pictures=<id>:<size> …, in their order, before any byte of them: the draft then knows that
                            it lacks them, and is not signed without them; 204, or 200 with `refused`, the ids of
                            those that were not noted
    HEAD  …/pictures/<id>   204 with Upload-Offset and Upload-Complete, or 404: nothing of it is here
    PATCH …/pictures/<id>   Upload-Offset: where this part begins, Upload-Length: of the whole, Upload-Complete: ?1 with
                            the last one, which may bring Repr-Digest: sha-256=:…: (RFC 9530)
                            204 with the new Upload-Offset, once that is on the disk; 409 with the right one;
                            410 once somebody removed it

A part that comes twice is a conflict that tells where to go on: nothing is written twice. A browser without JavaScript
posts an ordinary form instead.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import secrets

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.multipart import MultipartReader

from relay.errors import BadInput
from relay.limits import MAX_PICTURE, MAX_PICTURES, MAX_UPLOAD_BLOCK, MIB, UPLOAD_STALL_SECONDS
from relay.node.drafts import Drafts, OffsetConflict, Picture
from relay.web.operator.guard import FORM, TooLarge, check_given_token

__all__ = ["announce", "take_form", "take_part", "tell_offset"]

_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


async def announce(drafts: Drafts, request: web.Request) -> web.StreamResponse:
    """POST: which pictures a phone holds."""
    pictures = []
    for one in request[FORM].get("pictures", "").split():
        picture_id, _, size = one.partition(":")
        pictures.append((picture_id, _whole(size, "A picture's size")))
    refused = await drafts.announce(request.match_info["draft"], pictures)
    if refused:
        return web.json_response({"refused": list(refused)}, headers={"Cache-Control": "no-store"})
    return web.Response(status=204, headers={"Cache-Control": "no-store"})


async def tell_offset(drafts: Drafts, request: web.Request) -> web.StreamResponse:
    """HEAD: how much of a picture is here."""
    picture, _ = drafts.picture(request.match_info["draft"], request.match_info["picture"])
    return web.Response(status=204, headers=_progress(picture))


async def take_part(drafts: Drafts, request: web.Request) -> web.StreamResponse:
    """PATCH: one part of a picture."""
    draft, picture_id = request.match_info["draft"], request.match_info["picture"]
    offset, length = _number(request, "Upload-Offset"), _number(request, "Upload-Length")
    ends = request.headers.get("Upload-Complete", "?0") == "?1"
    data = await _body(request)
    try:
        picture = await _append(drafts, draft, picture_id, length, offset, data)
        if ends or picture.received == picture.size:
            picture = await drafts.finish(draft, picture_id, _digest(request))
    except OffsetConflict as conflict:
        return web.Response(status=409, headers={"Upload-Offset": str(conflict.offset)})
    return web.Response(status=204, headers=_progress(picture))


async def take_form(drafts: Drafts, request: web.Request) -> int:
    """A form with files, from a browser without JavaScript; how many pictures came. Its first part is the token."""
    try:
        return await _take_parts(drafts, request)
    except (ValueError, RuntimeError, AssertionError, HttpProcessingError) as error:  # as aiohttp tells of bad parts
        raise BadInput("What arrived is no form", "Reload the page.") from error


async def _take_parts(drafts: Drafts, request: web.Request) -> int:
    draft = request.match_info["draft"]
    reader = await request.multipart()
    first = await reader.next()
    given = await first.read(decode=False) if isinstance(first, BodyPartReader) and first.name == "token" else b""
    check_given_token(request, bytes(given[:256]).decode("utf-8", "replace"))
    taken = 0
    while (part := await reader.next()) is not None:
        if isinstance(part, MultipartReader) or part.name != "pictures" or not part.filename:
            continue
        taken += await _take_file(drafts, draft, part)
        if taken > MAX_PICTURES:
            break
    return taken


async def _take_file(drafts: Drafts, draft: str, part: BodyPartReader) -> bool:
    """One file of a form. Its length is not known before: it is taken as a whole, within its bound."""
    content = bytearray()
    while block := await asyncio.wait_for(part.read_chunk(64 * 1024), UPLOAD_STALL_SECONDS):
        content += block
        if len(content) > MAX_PICTURE:
            raise BadInput(f"A picture has at most {MAX_PICTURE >> 20} MiB", "Take it with a smaller resolution.")
    if not content:
        return False
    picture_id = secrets.token_hex(8)
    for offset in range(0, len(content), MIB):
        block = bytes(content[offset : offset + MIB])
        await drafts.append(draft, picture_id, len(content), offset, block)
    await drafts.finish(draft, picture_id)
    return True


async def _append(drafts: Drafts, draft: str, picture: str, length: int, offset: int, data: bytes) -> Picture:
    if data or not length:  # which says what is wrong with an empty one
        return await drafts.append(draft, picture, length, offset, data)
    return drafts.picture(draft, picture)[0]


async def _body(request: web.Request) -> bytes:
    body = bytearray()
    async with asyncio.timeout(UPLOAD_STALL_SECONDS):
        async for part in request.content.iter_chunked(64 * 1024):
            body += part
            if len(body) > MAX_UPLOAD_BLOCK:
                raise TooLarge("That is too long for one part of a picture", "Reload the page.")
    return bytes(body)


def _progress(picture: Picture) -> dict[str, str]:
    return {
        "Upload-Offset": str(picture.received),
        "Upload-Length": str(picture.size),
        "Upload-Complete": "?1" if picture.whole else "?0",
        "Cache-Control": "no-store",
    }


def _number(request: web.Request, name: str) -> int:
    return _whole(request.headers.get(name, ""), name)


def _whole(text: str, name: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise BadInput(f"{name} is no whole number", "Reload the page.")
    return int(text)


def _digest(request: web.Request) -> bytes | None:
    match = _DIGEST.search(request.headers.get("Repr-Digest", "")[:200])
    if match is None:
        return None
    try:
        return base64.b64decode(match[1], validate=True)
    except binascii.Error:
        return None
