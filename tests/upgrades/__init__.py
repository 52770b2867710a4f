"""Nodes' folders as earlier versions of relay left them, one for each schema of the store: what an upgrade meets."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

FOLDER = Path(__file__).parent
TPS = "1906022011006"
DELIVERED, WAITING = "C-HASIL-KWK-BUPATI", "C-HASIL-KWK-GUBERNUR"
"""Forms of the two packages that each folder holds; a correction of the first one was begun, and has a picture."""
VOTERS = "101"
"""What was typed into the draft."""
PICTURE = b"\xff\xd8\xff" + bytes(range(256)) * 8


def kept(schema: int) -> Path:
    """Where the folder of a node lies whose store has this schema."""
    return FOLDER / f"schema-{schema}.tar.gz"


def unpack(schema: int, target: Path) -> None:
    """Make the folder of a node as it was left: `target` is new, or empty."""
    with tarfile.open(fileobj=io.BytesIO(kept(schema).read_bytes())) as archive:
        archive.extractall(target, filter="data")
