"""The published JSON documents: read, kept at hand, written back. The site has no database but what it publishes.

Each document carries the generation of the site it belongs to. When the site is begun anew (another register, other
pages) the old ones are not deleted: they are taken for absent, but for what only they remember (`before`).
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Iterable

from relay.errors import StoreError
from relay.limits import MAX_SITE_DOCUMENT, SITE_DOCUMENTS
from relay.web.site.regions import Document
from relay.web.site.shelf import Shelf

GENERATION = "generation"


class Documents:
    """The documents of one site on a shelf. Changes are made in place, by one task at a time."""

    def __init__(self, shelf: Shelf) -> None:
        self.generation = 0
        self._shelf = shelf
        self._held: OrderedDict[str, Document] = OrderedDict()
        self._before: dict[str, Document] = {}

    async def load(self, paths: Iterable[str]) -> None:
        """Bring these to hand. Raises `StoreError` for one that is damaged: the site must be built anew."""
        missing = [path for path in dict.fromkeys(paths) if path not in self._held]
        for path, content in zip(missing, await asyncio.gather(*map(self._shelf.read, missing)), strict=True):
            document = parse(path, content) if content is not None else {}
            if document and document.get(GENERATION) != self.generation:
                self._before[path] = document
                document = {}
            self._held[path] = document

    def at(self, path: str) -> Document:
        """A document that was loaded or put; empty where there is none."""
        self._held.move_to_end(path)
        return self._held[path]

    def before(self, path: str) -> Document:
        """What stood there when the site was begun anew; empty where nothing did."""
        return self._before.get(path, {})

    def put(self, path: str, document: Document) -> bytes:
        """Take in a new state; its bytes, to be written."""
        self._held[path] = {GENERATION: self.generation, **document}
        self._held.move_to_end(path)
        return encode(self._held[path])

    def trim(self) -> None:
        """Let go of what was not used lately. Everything put must be on the shelf by now."""
        self._before.clear()
        while len(self._held) > SITE_DOCUMENTS:
            self._held.popitem(last=False)

    def forget(self) -> None:
        """Let go of everything: the shelf is asked again."""
        self._held.clear()
        self._before.clear()


def parse(path: str, content: bytes, *, forgiving: bool = False) -> Document:
    """A document from its bytes. Raises `StoreError` for what is none; `forgiving` takes it for empty."""
    try:
        return _parse(path, content)
    except StoreError:
        if forgiving:
            return {}
        raise


def _parse(path: str, content: bytes) -> Document:
    advice = "Write the site again: relay receiver site --anew"
    if len(content) > MAX_SITE_DOCUMENT:
        raise StoreError(f"The published {path} is too large", advice)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"The published {path} is damaged", advice) from error
    if not isinstance(document, dict):
        raise StoreError(f"The published {path} is damaged", advice)
    return document


def encode(document: Document) -> bytes:
    """A document's bytes."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
