"""The site that is audited, as it is served now: how far it says it is, its documents, and the head of its log.

It may be written while it is read: what is not right is read again before it is told.
"""

from __future__ import annotations

import re

from relay.errors import BadInput, NotHeld, Unreachable
from relay.limits import MAX_SITE_DOCUMENT
from relay.net.source import Source
from relay.receiver.attachments import wrong
from relay.receiver.auditing import STATE, read_checkpoint
from relay.trust.admission import Admission
from relay.web.site.audit.compared import refused
from relay.web.site.audit.difference import Difference
from relay.web.site.documents import DamagedSite, parse
from relay.web.site.paths import region_path
from relay.web.site.regions import Document

TRIES = 3
"""A document that is not right may have been read while others of it were written, or the site began again."""
DIGITS = 18
"""Of an entry's number. What has more is none: Python neither reads nor tells numbers of thousands of them."""
_KEY = re.compile(r"[a-z0-9-]{1,200}")


class AuditedSite:
    """The site in `source`, of whose log the first `size` entries were audited."""

    def __init__(self, source: Source, admission: Admission, size: int) -> None:
        self.source = source
        self.newest = size
        """Entries that the log has by now, as far as was asked."""
        self.entries = 0
        """How far the site says it is."""
        self.again = range(0)
        """Which entries it says it brings again."""
        self.looked_at = STATE
        """The document that is compared, to be named where it is none at all."""
        self._admission = admission

    async def read_state(self) -> None:
        """Ask the site how far it is. Raises `BadInput` where there is none, and as `reach` does."""
        try:
            document = await self.document(STATE)
        except NotHeld as error:
            raise BadInput(
                "No site is published there, so there are no results to be compared",
                "Give the receiver's public address; an exported log is audited without --results.",
            ) from error
        match document:
            case {"entries": int(entries), "again": None, "election": self._admission.election}:
                first = end = 0
            case {"entries": int(entries), "again": [int(first), int(end)], "election": self._admission.election}:
                pass
            case _:
                raise refused(STATE, Difference((), document, None))
        if not all(0 <= one < 10**DIGITS for one in (entries, first, end)):
            raise refused(STATE, Difference((), document, None))
        self.entries, self.again = entries, range(first, end)
        await self.reach(self.entries)

    async def document(self, path: str) -> Document:
        """A document. Raises `NotHeld`; `Refused` where it is none."""
        self.looked_at = path
        content = await self.source.read(path, MAX_SITE_DOCUMENT)
        try:
            return parse(path, content)
        except DamagedSite as error:
            raise refused(path, Difference((), None, None)) from error

    async def region(self, key: str) -> Document:
        """A region's document. Raises `Refused` where there is none."""
        if _KEY.fullmatch(key) is None:
            raise refused("region/…", Difference((), key, None))
        path = region_path(key)
        try:
            return await self.document(path)
        except NotHeld as error:
            raise wrong("wrong-result", f"{path} is missing, which the site has from its beginning") from error

    async def reach(self, entries: int) -> None:
        """See that the log has so many entries by now, as something is shown of them. Raises `Unreachable`."""
        if entries > self.newest:
            await self.ask_log()
        if entries > self.newest:
            shown = str(entries) if entries < 10**DIGITS else f"10^{DIGITS}+"
            raise Unreachable(
                f"The site shows {shown} entries of a log that has {self.newest}",
                "A cache may have an old copy of the log's head: ask again in a few minutes. If it stays so, tell the "
                "election office and the public.",
            )

    async def ask_log(self) -> None:
        """See how many entries the log has by now."""
        signed = await read_checkpoint(self.source, self._admission)
        self.newest = max(self.newest, signed.checkpoint.size)
