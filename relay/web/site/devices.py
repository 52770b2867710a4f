"""The devices that signed what arrived: each has its chain, which says what has not arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from relay.receiver.chains import Finding, Link
from relay.receiver.results import Logged
from relay.receiver.showing import Showing
from relay.records.identifiers import NodeId
from relay.web.site.chain import Chain, Form
from relay.web.site.documents import Documents
from relay.web.site.paths import device_path


class Devices:
    """The documents of devices, for one batch; signers in `revoked` are no longer believed."""

    def __init__(self, documents: Documents, revoked: AbstractSet[NodeId]) -> None:
        self._documents = documents
        self._revoked = revoked
        self._shown: dict[NodeId, Showing] = {}
        self.changed: dict[NodeId, tuple[str, ...]] = {}
        """Devices whose own pages are to be written, with the documents of further pages of theirs."""

    async def follow(self, arrivals: Iterable[Logged]) -> list[Form]:
        """Put each arrival into its device's chain; the forms at which something else shows now."""
        by_node: dict[NodeId, list[Logged]] = {}
        for one in arrivals:
            by_node.setdefault(one.node, []).append(one)
        await self._documents.load(map(device_path, by_node))
        return [form for node, new in by_node.items() for form in await self._follow(node, new)]

    async def doubt(self, nodes: AbstractSet[NodeId]) -> list[Form]:
        """Note of these whether they are believed; the forms that they signed."""
        await self._documents.load(map(device_path, nodes))
        known = [node for node in nodes if self._documents.at(device_path(node))]
        for node in known:
            self._documents.at(device_path(node))["revoked"] = node in self._revoked
            self.changed[node] = ()
        return [form for node in known for form in (await self._chain(node)).forms]

    async def findings_about(self, statements: Sequence[Logged]) -> list[Finding]:
        """What the chains of those who signed these say, and shows at one of them."""
        links: dict[NodeId, list[Link]] = {}
        for one in statements:
            links.setdefault(one.node, []).append(one.link)
        for node in links.keys() - self._shown.keys():
            self._shown[node] = await self._showing(node)
        return await asyncio.to_thread(
            lambda: [found for node, those in links.items() for found in self._shown[node].among(those)]
        )

    async def _follow(self, node: NodeId, new: Sequence[Logged]) -> list[Form]:
        chain = await self._chain(node)
        await chain.add(new)
        found = await asyncio.to_thread(chain.findings)
        self._shown[node] = Showing(found)
        forms = await asyncio.to_thread(chain.note, self._shown[node])
        chain.tell(new[-1].device, found, is_revoked=node in self._revoked)
        self.changed[node] = tuple(chain.changed)
        return forms

    async def _showing(self, node: NodeId) -> Showing:
        """What the chain of a device says that nothing arrived from now."""
        await self._documents.load([device_path(node)])
        if not self._documents.at(device_path(node)).get("findings"):
            return Showing(())
        chain = await self._chain(node)
        return Showing(await asyncio.to_thread(chain.findings))

    async def _chain(self, node: NodeId) -> Chain:
        chain = Chain(self._documents, node)
        await chain.open()
        return chain
