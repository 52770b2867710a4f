"""The chain of one device, also where it is longer than one page can carry.

    device/<node>.json      who it is, and what its chain says of what has not arrived; its links while they are few
    device/<node>/<n>.json  else the links, as they came, a page full of them

One key may sign thousands of statements, and each may be numbered so that something is missing before it. Every link
says what shows at it: none is hidden, where the device's own page tells the first ones only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from relay.limits import SITE_FLAG_STATEMENTS, SITE_FLAGS, SITE_LINKS
from relay.receiver.chains import Finding, Gap, Link, findings
from relay.receiver.results import Logged
from relay.receiver.showing import Showing
from relay.records.identifiers import NodeId, RecordId, StatementId
from relay.web.site.documents import Documents
from relay.web.site.paths import chain_path, device_path
from relay.web.site.regions import Document

Form = tuple[str, str]
"""A polling station and a form."""


class Chain:
    """A device's chain: `open`, then what else is asked of it."""

    def __init__(self, documents: Documents, node: NodeId) -> None:
        self.changed: dict[str, None] = {}
        """Documents of its pages that are to be written."""
        self._documents = documents
        self._node = node
        self._pages = 0
        """None of them, while the links are on the device's own."""
        self._with_room = 1
        """No page before this one has room."""
        self._rows: dict[str, Document] = {}
        self._links: dict[str, Link] = {}
        self._listed: dict[str, str] = {}
        """By a statement's id: the path of the document that lists it."""

    @property
    def forms(self) -> list[Form]:
        """What the device signed for."""
        return [(row["tps"], row["form"]) for row in self._rows.values()]

    async def open(self) -> None:
        """Take in what was published of it."""
        path = device_path(self._node)
        await self._documents.load([path])
        head = self._documents.at(path)
        self._take(path, head.get("links", ()))
        self._pages = head.get("pages") or 0
        await self._documents.load(chain_path(self._node, page) for page in range(1, self._pages + 1))
        for page in range(1, self._pages + 1):
            if not await self._turn_to(page):
                self._documents.lost(chain_path(self._node, page))

    async def add(self, new: Iterable[Logged]) -> None:
        """Put in what is not there."""
        rows = [_row(one) for one in new if one.id.hex() not in self._rows]
        if not self._pages and len(self._rows) + len(rows) > SITE_LINKS:
            rows += self._rows.values()
            self._rows.clear()
            await self._turn_to(1)
        rows.sort(key=_entry)
        if not self._pages:
            self._take(device_path(self._node), rows)
            return
        for row in rows:
            await self._enter(row)

    def findings(self) -> list[Finding]:
        """What it says."""
        return findings(self._links.values())

    def note(self, showing: Showing) -> list[Form]:
        """Note at each link what shows there; the forms where that is something else than before."""
        forms: list[Form] = []
        for key, row in self._rows.items():
            found = [_said(one) for one in showing.at(self._links[key])]
            if row["found"] != found:
                row["found"] = found
                forms.append((row["tps"], row["form"]))
                if self._pages:
                    self.changed[self._listed[key]] = None
        return forms

    def tell(self, device: str, found: Sequence[Finding], *, is_revoked: bool) -> None:
        """Take in the device's own document, with what the chain says."""
        told, more = _first(found) if self._pages else ([_whole(one) for one in found], 0)
        self._documents.put(
            device_path(self._node),
            {
                "node": self._node.hex(),
                "device": device,
                "revoked": is_revoked,
                "signed": len(self._rows),
                "pages": self._pages or None,
                "links": [] if self._pages else sorted(self._rows.values(), key=_entry),
                "findings": told,
                "more_findings": more,
            },
        )

    # -- pages

    def _take(self, path: str, rows: Iterable[Document]) -> None:
        """Take in what a document lists."""
        for row in rows:
            key = row["id"]
            row.setdefault("found", [])
            self._rows[key], self._listed[key] = row, path
            if key not in self._links:
                self._links[key] = _link(self._node, row)

    async def _turn_to(self, page: int) -> bool:
        """Take in a page, blank where there is none; whether there was one."""
        path = chain_path(self._node, page)
        self._pages = max(self._pages, page)
        await self._documents.load([path])
        was_there = bool(self._documents.at(path))
        if not was_there:
            self._documents.put(path, {"node": self._node.hex(), "page": page, "links": []})
        self._take(path, self._documents.at(path)["links"])
        return was_there

    async def _enter(self, row: Document) -> None:
        """Put a link on the first page that has room: the last one, unless one was damaged."""
        path = chain_path(self._node, self._with_room)
        while len(self._documents.at(path)["links"]) >= SITE_LINKS:
            self._with_room += 1
            path = chain_path(self._node, self._with_room)
            await self._turn_to(self._with_room)
        if row["id"] in self._rows:
            return  # a page that a power cut left behind lists it
        self._documents.at(path)["links"].append(row)
        self._take(path, [row])
        self.changed[path] = None


def _row(one: Logged) -> Document:
    return {
        "id": one.id.hex(),
        "seq": one.seq,
        "previous": one.previous.hex() if one.previous else None,
        "tps": one.tps,
        "form": one.form,
        "entry": one.entry,
        "found": [],
    }


def _entry(row: Document) -> int:
    return int(row["entry"])


def _link(node: NodeId, row: Document) -> Link:
    return Link(node, int(row["seq"]), _id(row["id"]), _id(row["previous"]) if row["previous"] else None)


def _id(text: str) -> StatementId:
    return StatementId(RecordId(bytes.fromhex(text)))


def _said(found: Finding) -> Document:
    """What is said of a finding where it shows."""
    if isinstance(found, Gap):
        return {"finding": "gap", "first": found.first, "last": found.last}
    return {"finding": "fork", "seq": found.seq}


def _first(found: Sequence[Finding]) -> tuple[list[Document], int]:
    """What a page tells that has not room for all, and how much more there is: one of each kind comes first."""
    kinds = {type(one): at for at, one in reversed(list(enumerate(found)))}
    rest = (at for at in range(len(found)) if at not in kinds.values())
    told = sorted([*kinds.values(), *islice(rest, SITE_FLAGS - len(kinds))])
    return [_few(found[at]) for at in told], len(found) - len(told)


def _whole(found: Finding) -> Document:
    """A finding with all statements that it is about."""
    whole = _said(found)
    if not isinstance(found, Gap):
        whole["held"] = _hex(found.held)
    return {**whole, "named": _hex(found.named)}


def _few(found: Finding) -> Document:
    """A finding that names a few of its statements, and says how many there are."""
    whole = _whole(found)
    ids: Document = {key: whole[key] for key in ("held", "named") if key in whole}
    short: Document = {key: one[:SITE_FLAG_STATEMENTS] for key, one in ids.items()}
    return {**whole, **short, "of": sum(map(len, ids.values()))} if short != ids else whole


def _hex(ids: Sequence[StatementId]) -> list[str]:
    return [one.hex() for one in ids]
