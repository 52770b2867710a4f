"""What kind of file content is, by its first bytes: what a statement calls a file is only what its device says."""

from __future__ import annotations


def picture_type(head: bytes) -> str:
    """The media type of a picture whose content begins so; that of any bytes for all else."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "application/octet-stream"
