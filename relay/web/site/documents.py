"""The published JSON documents: read, kept at hand, written back. The site has no database but what it publishes.

Each document carries the generation of the site it belongs to. When the site is written from nothing the old ones are
not deleted: they are taken for absent. So is a damaged one, as a power cut leaves what was new: the log has to be
brought again then.

Each begins with a sum of its own bytes. What comes back otherwise than it was written, in a digit or a name, is
damaged: nothing is added up, or looked for, in a document that only looks like ours.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from relay.errors import StoreError
from relay.limits import KIB, MAX_SITE_DOCUMENT, SITE_DOCUMENTS, SITE_DOCUMENTS_BYTES
from relay.store.shelf import Shelf
from relay.web.site.paths import region_path
from relay.web.site.regions import Document

logger = logging.getLogger(__name__)

GENERATION = "generation"
_SUM = "sum"
_SUM_DIGITS = 32
_HEAD = len('{"sum":"') + _SUM_DIGITS + len('"')
_SAYS_GENERATION = re.compile(rb'\{(?:"sum":"[0-9a-f]*",)?"generation":"([0-9a-f]+)"')
_LONG = 64 * KIB
"""Bytes that take so long to read that others get their turn meanwhile."""


class DamagedSite(StoreError):
    """What was published cannot be read back: the site is to be written anew from the log."""

    def __init__(self, path: str) -> None:
        super().__init__(f"The published {path} is damaged", "Write the site again: relay receiver site --anew")


class TooLarge(StoreError):
    """A document that could not be read back. What it is made of is bounded long before: this is the last resort."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"A document of the site would have {size} bytes, which is more than it reads back",
            "The site stays as it is. Report it with the log: the intake goes on.",
        )


class Documents:
    """The documents of one site on a shelf. Changes are made in place, by one task at a time."""

    def __init__(self, shelf: Shelf) -> None:
        self.generation = ""
        self._damaged: set[str] = set()
        self._known: set[str] = set()
        self._shelf = shelf
        self._held: OrderedDict[str, Document] = OrderedDict()
        self._sizes: dict[str, int] = {}

    def open(self, generation: str) -> None:
        """Ask the shelf again, for documents of this generation."""
        self.generation = generation
        self.drop()
        self._damaged.clear()
        self._known.clear()

    def drop(self) -> None:
        """Let go of all that is at hand: what the shelf has counts."""
        self._held.clear()
        self._sizes.clear()

    async def load(self, paths: Iterable[str]) -> None:
        """Bring these to hand."""
        missing = [path for path in dict.fromkeys(paths) if path not in self._held]
        for path, content in zip(missing, await asyncio.gather(*map(self._shelf.read, missing)), strict=True):
            if content is not None and len(content) > _LONG:
                document = await asyncio.to_thread(self._read, path, content)
            else:
                document = self._read(path, content) if content is not None else {}
            if document and document.get(GENERATION) != self.generation:
                document = {}
            self._held[path] = document
            self._sizes[path] = len(content or b"")

    def found_damage(self) -> bool:
        """Whether a damaged document was taken for absent since this was asked last; each is told once."""
        new = self._damaged - self._known
        self._known |= new
        return bool(new)

    def lost(self, path: str) -> None:
        """Say that something is not in a document that was there: the log has to be brought again."""
        if path not in self._damaged:
            logger.warning("the published %s lacks what was there: it is written again from the log", path)
            self._damaged.add(path)

    def at(self, path: str) -> Document:
        """A document that was loaded or put; empty where there is none."""
        self._held.move_to_end(path)
        return self._held[path]

    def needed(self, path: str, having: str) -> Document:
        """A loaded document that a site has from its beginning. Raises `DamagedSite` where it is not there, or not with
        what it must have."""
        document = self.at(path)
        if having not in document:
            raise DamagedSite(path)
        return document

    def region(self, key: str) -> Document:
        """The loaded document of a region. Raises `DamagedSite`."""
        return self.needed(region_path(key), "children")

    def put(self, path: str, document: Document) -> None:
        """Take in a new state."""
        self._held[path] = {GENERATION: self.generation, **document}
        self._held.move_to_end(path)

    def content(self, path: str) -> bytes:
        """The bytes of a document that was loaded or put, to be written. Raises `TooLarge`."""
        content = encode(self.at(path))
        self._sizes[path] = len(content)
        return content

    def release(self, paths: Iterable[str]) -> None:
        """Let go of these. Everything put there must be on the shelf by now."""
        for path in paths:
            self._held.pop(path, None)
            self._sizes.pop(path, None)

    def trim(self) -> None:
        """Let go of what was not used lately, of regions last: each arrival needs its own. Everything put must be on
        the shelf by now."""
        count, size = len(self._held), sum(self._sizes.values())
        for path in sorted(self._held, key=lambda one: one.startswith("region/")):  # stable: oldest first
            if count <= SITE_DOCUMENTS and size <= SITE_DOCUMENTS_BYTES:
                break
            count, size = count - 1, size - self._sizes.get(path, 0)
            self.release([path])

    def _read(self, path: str, content: bytes) -> Document:
        try:
            return unseal(path, content)
        except DamagedSite:
            if _is_of_another(content, self.generation):
                return {}
            logger.warning("the published %s is damaged: it is written again from the log", path)
            self._damaged.add(path)
            return {}


def _is_of_another(content: bytes, generation: str) -> bool:
    """Whether a document, damaged or of an older form, says that it is of another generation."""
    found = _SAYS_GENERATION.match(content)
    return found is not None and found[1] != generation.encode()


def parse(path: str, content: bytes) -> Document:
    """A document from its bytes. Raises `DamagedSite`."""
    try:
        document = json.loads(content) if len(content) <= MAX_SITE_DOCUMENT else None
    except (ValueError, RecursionError) as error:
        raise DamagedSite(path) from error
    if not isinstance(document, dict):
        raise DamagedSite(path)
    return document


def encode(document: Mapping[str, object]) -> bytes:
    """A document's bytes, with their sum. Raises `TooLarge`."""
    rest = json.dumps(
        {key: one for key, one in document.items() if key != _SUM}, ensure_ascii=False, separators=(",", ":")
    )
    body = (rest[1:] if rest == "{}" else f",{rest[1:]}").encode()
    content = b'{"sum":"%s"%s' % (_sum_of(body), body)
    if len(content) > MAX_SITE_DOCUMENT:
        raise TooLarge(len(content))
    return content


def unseal(path: str, content: bytes) -> Document:
    """A document as `encode` wrote it. Raises `DamagedSite` for anything else."""
    document = parse(path, content)
    if content[:_HEAD] != b'{"sum":"%s"' % _sum_of(content[_HEAD:]):
        raise DamagedSite(path)
    del document[_SUM]
    return document


def _sum_of(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:_SUM_DIGITS].encode()
