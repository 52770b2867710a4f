"""The published JSON documents: read, kept at hand, written back. The site has no database but what it publishes.

Each document carries the generation of the site it belongs to. When the site is written from nothing the old ones are
not deleted: they are taken for absent. So is a damaged one, as a power cut leaves what was new: the log has to be
brought again then.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice

from relay.errors import StoreError
from relay.limits import MAX_SITE_DOCUMENT, SITE_DOCUMENTS
from relay.store.shelf import Shelf
from relay.web.site.regions import Document

logger = logging.getLogger(__name__)

GENERATION = "generation"


class DamagedSite(StoreError):
    """What was published cannot be read back: the site is to be written anew from the log."""

    def __init__(self, path: str) -> None:
        super().__init__(f"The published {path} is damaged", "Write the site again: relay receiver site --anew")


class Documents:
    """The documents of one site on a shelf. Changes are made in place, by one task at a time."""

    def __init__(self, shelf: Shelf) -> None:
        self.generation = ""
        self._damaged: set[str] = set()
        self._known: set[str] = set()
        self._shelf = shelf
        self._held: OrderedDict[str, Document] = OrderedDict()

    def open(self, generation: str) -> None:
        """Ask the shelf again, for documents of this generation."""
        self.generation = generation
        self._held.clear()
        self._damaged.clear()
        self._known.clear()

    async def load(self, paths: Iterable[str]) -> None:
        """Bring these to hand."""
        missing = [path for path in dict.fromkeys(paths) if path not in self._held]
        for path, content in zip(missing, await asyncio.gather(*map(self._shelf.read, missing)), strict=True):
            document = self._read(path, content) if content is not None else {}
            if document and document.get(GENERATION) != self.generation:
                document = {}
            self._held[path] = document

    def found_damage(self) -> bool:
        """Whether a damaged document was taken for absent since this was asked last; each is told once."""
        new = self._damaged - self._known
        self._known |= new
        return bool(new)

    def at(self, path: str) -> Document:
        """A document that was loaded or put; empty where there is none."""
        self._held.move_to_end(path)
        return self._held[path]

    def put(self, path: str, document: Document) -> bytes:
        """Take in a new state; its bytes, to be written."""
        self._held[path] = {GENERATION: self.generation, **document}
        self._held.move_to_end(path)
        return encode(self._held[path])

    def trim(self) -> None:
        """Let go of what was not used lately, of regions last: each arrival needs its own. Everything put must be on
        the shelf by now."""
        surplus = max(0, len(self._held) - SITE_DOCUMENTS)
        for path in list(islice((one for one in self._held if not one.startswith("region/")), surplus)):
            del self._held[path]
        while len(self._held) > SITE_DOCUMENTS:
            self._held.popitem(last=False)

    def _read(self, path: str, content: bytes) -> Document:
        try:
            return parse(path, content)
        except DamagedSite:
            logger.warning("the published %s is damaged: it is written again from the log", path)
            self._damaged.add(path)
            return {}


def parse(path: str, content: bytes) -> Document:
    """A document from its bytes. Raises `DamagedSite`."""
    try:
        document = json.loads(content) if len(content) <= MAX_SITE_DOCUMENT else None
    except (ValueError, RecursionError) as error:
        raise DamagedSite(path) from error
    if not isinstance(document, dict):
        raise DamagedSite(path)
    return document


def encode(document: Document) -> bytes:
    """A document's bytes."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
