"""What the register does not know: it has no region, and is not hidden.

It is listed page by page, in the order of arrival; the document of each form says on which page it is.
"""

from __future__ import annotations

from relay.limits import SITE_NOTE_FLAGS, SITE_NOTES
from relay.web.site.documents import Documents
from relay.web.site.paths import STRAYS, strays_path
from relay.web.site.regions import Document
from relay.web.site.shortened import shorten


class Strays:
    """The pages of them; the first was loaded."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.changed: dict[int, None] = {}
        """Pages that are to be written."""

    async def keep(self, document: Document) -> None:
        """List a form of a station that the register does not know."""
        page = document["strays_page"] = document["strays_page"] or await self._last()
        first = self._documents.needed(STRAYS, "strays")
        first["pages"] = max(first["pages"], page)
        rows = (await self._page(page))["strays"]
        rows[f"{document['tps']}/{document['form']}"] = stray_row(document)
        self.changed[page] = None

    async def drop(self, document: Document) -> None:
        """List it no longer: a station that the register did not know and knows now has its region."""
        page, document["strays_page"] = document["strays_page"], None
        if page:
            await self._documents.load([strays_path(page)])
            listed = self._documents.at(strays_path(page)).get("strays", {})
            listed.pop(f"{document['tps']}/{document['form']}", None)
            self.changed[page] = None

    async def _last(self) -> int:
        """The page that has room for one more."""
        pages: int = self._documents.needed(STRAYS, "strays")["pages"]
        path = strays_path(pages)
        await self._documents.load([path])
        is_full = len(self._documents.at(path).get("strays", {})) >= SITE_NOTES
        return pages + 1 if is_full else pages

    async def _page(self, page: int) -> Document:
        path = strays_path(page)
        await self._documents.load([path])
        if not self._documents.at(path):
            self._documents.put(path, {"page": page, "strays": {}})
        return self._documents.at(path)


def stray_row(document: Document) -> Document:
    """What is listed of a form."""
    flags, more = shorten(document["flags"], document["more_flags"], SITE_NOTE_FLAGS)
    place = {"tps": document["tps"], "form": document["form"], "number": 0, "village": ""}
    return {**place, "flags": flags, "more_flags": more}
