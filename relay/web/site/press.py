"""From documents to files: what is published of each, rendered aside and put on the shelf a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice

from relay.store.shelf import FRESH, Page, Shelf
from relay.web.site.documents import Documents
from relay.web.site.pages import JSON, Look
from relay.web.site.paths import GATHERED, region_path
from relay.web.site.regions import WHOLE, Document

_AT_ONCE = 64
"""Pages that are rendered, then written, at a time."""


class Press:
    """Makes files of documents that are at hand."""

    def __init__(self, documents: Documents, look: Look, shelf: Shelf) -> None:
        self.documents = documents
        self.look = look
        self._shelf = shelf

    def pages(self, path: str, render: Callable[[Document], Iterable[Page]]) -> Iterable[Page]:
        """A document, and the pages that show it."""
        document = self.documents.at(path)
        yield Page(path, self.documents.content(path), JSON)
        yield from render(document)

    def whole(self, changed: Iterable[str]) -> Iterable[Page]:
        """The whole election, with those of the documents that gather it that were `changed`."""
        gathered = [self.documents.at(path) for path in GATHERED]
        for path in changed:
            yield Page(path, self.documents.content(path), JSON)
        yield from self.pages(region_path(WHOLE), lambda whole: self.look.whole_pages(whole, *gathered))

    async def write(self, pages: Iterable[Page]) -> None:
        """Render these, and put them on the shelf."""
        left = iter(pages)
        while part := await asyncio.to_thread(lambda: list(islice(left, _AT_ONCE))):
            await asyncio.gather(*(self._shelf.write(one.path, one.content, one.content_type, FRESH) for one in part))
