"""What photographs may be, by their first bytes: what a file is called is only what its device says. Pure."""

from __future__ import annotations

HEAD = 16
"""First bytes that tell what a file is."""
MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "heic": "image/heic"}
"""The kinds of pictures that a package may hold, by the endings of their files' names."""
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
