"""Where the site goes on when it is opened: `settled.json`, which says what certainly is on the disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from relay.records.identifiers import NodeId
from relay.store.shelf import FRESH, Shelf
from relay.web.site.documents import DamagedSite, encode, parse
from relay.web.site.pages import JSON

logger = logging.getLogger(__name__)

SETTLED = "settled.json"
_FORMAT = 2
"""Of the documents. A site of another format is written from nothing."""
JUDGING = 2
"""Of what documents say: what results are, every flag, what is added up. What another one said is judged again from the
log, and stays to be seen until then. It is raised when `tests/vectors/judged.json` would say something else."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a site goes on with."""

    generation: str = ""
    print: str = ""
    """Which register, pages and judging all of it fits."""
    dress: str = ""
    """Which certificate and map the front page shows."""
    entries: int = 0
    arrived: int | None = None
    """When the last entry was logged."""
    again: range = range(0)
    """Entries that are to be brought once more."""
    begun: tuple[str, ...] = ()
    """Which times of writing all regions those that are current come from: of more than one after a cut."""
    revoked: frozenset[NodeId] = frozenset()
    """Signers that were not believed."""
    lacking: tuple[int, ...] = ()
    """Entries of which an object could not be published."""
    laying: str = ""
    """What the regions fit that are being written, until all are."""
    laid: str = ""
    """The last one of these that is written; empty where none certainly is."""

    async def note(self, shelf: Shelf) -> None:
        """Note it durably."""
        document = {
            "format": _FORMAT,
            "generation": self.generation,
            "print": self.print,
            "dress": self.dress,
            "entries": self.entries,
            "arrived": self.arrived,
            "again": [self.again.start, self.again.stop],
            "begun": self.begun,
            "revoked": sorted(node.hex() for node in self.revoked),
            "lacking": self.lacking,
            "laying": self.laying,
            "laid": self.laid,
        }
        await shelf.write(SETTLED, encode(document), JSON, FRESH, durable=True)


async def read_settled(shelf: Shelf) -> Settled | None:
    """What the site goes on from; None where there is nothing to go on from."""
    content = await shelf.read(SETTLED)
    if content is None:
        return None
    try:
        found = parse(SETTLED, content)
    except DamagedSite as error:
        logger.warning("the site is written from nothing: %s", error)
        return None
    if found.get("format") != _FORMAT:
        return None
    try:
        return _read(found)
    except (KeyError, TypeError, ValueError):
        logger.warning("the site is written from nothing: what is in %s is not what belongs there", SETTLED)
        return None


def _read(found: dict[str, Any]) -> Settled:
    """Raises `KeyError`, `TypeError` or `ValueError` for what is not all that a site goes on with."""
    first, end = found["again"]
    arrived = found["arrived"]
    return Settled(
        generation=_word(found["generation"]),
        print=_word(found["print"]),
        dress=_word(found["dress"]),
        entries=_number(found["entries"]),
        arrived=None if arrived is None else _integer(arrived),
        again=range(_number(first), _number(end)),
        begun=tuple(map(_word, found["begun"])),
        revoked=frozenset(NodeId(bytes.fromhex(one)) for one in found["revoked"]),
        lacking=tuple(map(_number, found.get("lacking", ()))),
        laying=_word(found.get("laying", "")),
        laid=_word(found.get("laid", "")),
    )


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _number(value: object) -> int:
    if _integer(value) < 0:
        raise ValueError
    return _integer(value)
