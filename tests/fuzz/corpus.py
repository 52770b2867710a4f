"""The inputs that are kept, small altogether.

    corpus/<target>/kept            one input a line, in base64
    corpus/<target>/found/<hash>    an input that found a fault, as it is

An input is kept when it reaches lines, in an order, that no kept one reached. Fewer and shorter inputs are better: they
are tried from the shortest on.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.fuzz.targets import Target

FOLDER = Path(__file__).parent / "corpus"
MOST_BYTES = 20_000
"""Bytes kept of one target; what found a fault is kept besides."""
_RELAY = str(Path(__file__).parents[2] / "relay")

Edge = tuple[CodeType, int, int]


def kept(target: Target) -> list[bytes]:
    """The inputs of a target, in a fixed order: those that found a fault first."""
    folder = FOLDER / target.name
    found = [file.read_bytes() for file in sorted((folder / "found").glob("*"))]
    lines = (folder / "kept").read_bytes().splitlines() if (folder / "kept").exists() else []
    return found + [base64.b64decode(line) for line in lines]


def keep(target: Target, candidates: Iterable[bytes]) -> int:
    """Choose anew what is kept, out of what is and of these; how many inputs are kept then."""
    inputs = {*candidates, *kept(target)}
    reached: set[Edge] = set()
    chosen: list[bytes] = []
    size = 0
    for data in sorted(inputs, key=lambda one: (len(one), one)):
        if size + len(data) > MOST_BYTES:
            continue
        edges = _edges(target, data)
        if not edges <= reached:
            reached |= edges
            chosen.append(data)
            size += len(data)
    file = FOLDER / target.name / "kept"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(base64.b64encode(data) + b"\n" for data in chosen))
    return len(chosen)


def keep_found(target: Target, data: bytes) -> Path:
    """Keep for good an input that found a fault."""
    file = FOLDER / target.name / "found" / hashlib.sha256(data).hexdigest()[:16]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def _edges(target: Target, data: bytes) -> set[Edge]:
    """From which line to which the input leads, within the package under test."""
    edges: set[Edge] = set()

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(_RELAY):
            return None
        last = 0

        def line(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            edges.add((code, last, frame.f_lineno))
            last = frame.f_lineno
            return line

        return line(frame, event, None)

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        target.run(data)
    finally:
        sys.settrace(before)
    return edges
