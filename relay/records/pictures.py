"""What photographs may be, by their first bytes: what a file is called is only what its device says; and whether one
has its end. Pure."""

from __future__ import annotations

from collections.abc import Callable

Read = Callable[[int, int], bytes]
"""Bytes of a file, from an offset on, so many."""

HEAD = 16
"""First bytes that tell what a file is."""
MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "heic": "image/heic"}
"""The kinds of pictures that a package may hold, by the endings of their files' names."""
_END_OF_JPEG = b"\xff\xd9"
_END_OF_PNG = b"IEND\xaeB`\x82"
_BLOCK = 1 << 20
_MOST_SEGMENTS = 4_096
"""Before a JPEG's image; more than any camera writes."""
_HEIC = (b"heic", b"heix", b"mif1", b"msf1", b"heim", b"heis")


def picture_kind(head: bytes) -> str:
    """What a picture is that begins so: a key of `MEDIA_TYPES`; empty for anything else."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return "heic"
    return ""


def media_type(head: bytes) -> str:
    """The media type of content that begins so; that of any bytes for what is no picture."""
    return MEDIA_TYPES.get(picture_kind(head), "application/octet-stream")


def is_cut_off(read: Read, size: int) -> bool:
    """Whether a picture of `size` bytes lacks its end: a card that was pulled out, or an upload that was.

    Cameras write behind a picture's end whatever they like, even a film: the end is looked for, not expected last. What
    HEIC holds is not looked at.
    """
    kind = picture_kind(read(0, HEAD))
    if kind == "jpg":
        # Within the image 0xff is followed by 0x00: an end found there is one. Before it there may be small pictures,
        # each with an end of its own.
        return not _holds(read, size, _image_of_jpeg(read), _END_OF_JPEG)
    if kind == "png":
        return not _holds(read, size, HEAD, _END_OF_PNG)
    if kind == "webp":
        return size < 8 + int.from_bytes(read(4, 4), "little")
    return False


def _image_of_jpeg(read: Read) -> int:
    """Where a JPEG's image begins, after all that is said about it."""
    offset = 2
    for _ in range(_MOST_SEGMENTS):
        segment = read(offset, 4)
        length = int.from_bytes(segment[2:], "big")
        if len(segment) < 4 or segment[0] != 0xFF or segment[1] == 0xDA or length < 2:
            break
        offset += 1 if segment[1] == 0xFF else 2 + length  # markers may be padded
    return offset


def _holds(read: Read, size: int, offset: int, mark: bytes) -> bool:
    """Whether a file has these bytes, at `offset` or after it."""
    while offset < size:
        block = read(offset, _BLOCK + len(mark) - 1)
        if mark in block:
            return True
        offset += _BLOCK
    return False
