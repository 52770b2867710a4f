"""The devices that signed what arrived: each has one document with its chain, and what the chain says of what has not
arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from relay.receiver.chains import Finding, Gap, Link, findings
from relay.receiver.results import Logged
from relay.receiver.showing import Showing, shown_otherwise
from relay.records.identifiers import NodeId, RecordId, StatementId
from relay.web.site.documents import Documents
from relay.web.site.paths import device_path
from relay.web.site.regions import Document

Form = tuple[str, str]
"""A polling station and a form."""


class Devices:
    """The documents of devices, for one batch; signers in `revoked` are no longer believed."""

    def __init__(self, documents: Documents, revoked: AbstractSet[NodeId]) -> None:
        self._documents = documents
        self._revoked = revoked
        self._shown: dict[NodeId, Showing] = {}
        self.changed: dict[NodeId, None] = {}
        """Devices whose pages are to be written."""

    async def follow(self, arrivals: Iterable[Logged]) -> list[Form]:
        """Put each arrival into its device's chain; the forms at which something else shows now."""
        by_node: dict[NodeId, list[Logged]] = {}
        for one in arrivals:
            by_node.setdefault(one.node, []).append(one)
        await self._documents.load(map(device_path, by_node))
        self.changed |= dict.fromkeys(by_node)
        return [form for node, new in by_node.items() for form in await asyncio.to_thread(self._follow, node, new)]

    async def doubt(self, nodes: AbstractSet[NodeId]) -> list[Form]:
        """Note of these whether they are believed; the forms that they signed."""
        await self._documents.load(map(device_path, nodes))
        forms: list[Form] = []
        for node in nodes:
            document = self._documents.at(device_path(node))
            if document:
                document["revoked"] = node in self._revoked
                self.changed[node] = None
                forms += [(link["tps"], link["form"]) for link in document["links"]]
        return forms

    async def findings_about(self, statements: Sequence[Logged]) -> list[Finding]:
        """What the chains of those who signed these say, and shows at one of them."""
        links: dict[NodeId, list[Link]] = {}
        for one in statements:
            links.setdefault(one.node, []).append(one.link)
        new = links.keys() - self._shown.keys()
        await self._documents.load(map(device_path, new))
        self._shown |= {node: await asyncio.to_thread(self._showing, node) for node in new}
        return await asyncio.to_thread(
            lambda: [found for node, those in links.items() for found in self._shown[node].among(those)]
        )

    def _follow(self, node: NodeId, new: Sequence[Logged]) -> list[Form]:
        """Put a device's arrivals into its chain; the forms at which something else shows now."""
        path = device_path(node)
        before = self._documents.at(path).get("links", [])
        known = {link["id"]: link for link in before} | {one.id.hex(): _link_map(one) for one in new}
        chain = sorted(known.values(), key=lambda link: int(link["entry"]))
        links = _links(node, chain)
        found = findings(links)
        self._documents.put(
            path,
            {
                "node": node.hex(),
                "device": new[-1].device,
                "revoked": node in self._revoked,
                "links": chain,
                "findings": [_finding_map(one) for one in found],
            },
        )
        forms = {link.id: (one["tps"], one["form"]) for link, one in zip(links, chain, strict=True)}
        return [forms[link.id] for link in shown_otherwise(links, findings(_links(node, before)), found)]

    def _showing(self, node: NodeId) -> Showing:
        document = self._documents.at(device_path(node))
        return Showing(findings(_links(node, document["links"])) if document.get("findings") else ())


def _link_map(one: Logged) -> Document:
    return {
        "id": one.id.hex(),
        "seq": one.seq,
        "previous": one.previous.hex() if one.previous else None,
        "tps": one.tps,
        "form": one.form,
        "entry": one.entry,
    }


def _links(node: NodeId, links: Iterable[Mapping[str, object]]) -> list[Link]:
    return [
        Link(node, int(str(one["seq"])), _id(one["id"]), _id(one["previous"]) if one["previous"] else None)
        for one in links
    ]


def _id(text: object) -> StatementId:
    return StatementId(RecordId(bytes.fromhex(str(text))))


def _finding_map(found: Finding) -> Document:
    named = [one.hex() for one in found.named]
    if isinstance(found, Gap):
        return {"finding": "gap", "first": found.first, "last": found.last, "named": named}
    return {"finding": "fork", "seq": found.seq, "held": [one.hex() for one in found.held], "named": named}
