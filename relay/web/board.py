"""The carrier's board: a page for the wheelhouse. What is on board, how old, what was handed over, what space is left.

Readable across a room, nothing to press, no script: the page asks for itself again after some seconds (the `Refresh`
header, which every browser knows since there are browsers).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from relay.limits import DISK_RESERVE, DRAFTS_RESERVE, PACKAGE_BYTES
from relay.node.daemon import Daemon
from relay.node.handover import Handover, read_handovers
from relay.node.health import bytes_free
from relay.node.overquota import is_over_quota
from relay.node.report import in_contact, own_revocation
from relay.node.unreadable import count_unreadable
from relay.sync.alarm import read_alarms
from relay.trust.roles import Role
from relay.web.amounts import size
from relay.web.pages import render, static

REFRESH = 5
_SAME_CONTACT = 600
"""Handovers to one neighbour within so many seconds were one contact."""
_OLDEST = 60 * 86_400
"""A claim of a device's clock that is further away was never set."""


@dataclass(frozen=True, slots=True)
class LastContact:
    """The last neighbour that took something: its name and role, how many packages, when."""

    name: str
    role: str
    packages: int
    at: int


class Board:
    """`GET /board`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def routes(self) -> list[web.RouteDef]:
        """Its paths."""
        return [web.get("/board", self.show), web.get("/board.css", static("board.css", "text/css"))]

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The board."""
        store = self._daemon.custody.store
        now = int(time.time())
        notes = await store.notes()
        peers = await store.peers()
        counts = await store.counts()
        response = render(
            request,
            "board.html",
            words="board.json",
            node=self._daemon.member.identity.name,
            cargo=await store.cargo(now - _OLDEST + 1, now),
            delivered=counts.delivered,
            near=[one for one in in_contact(peers, now) if one.role != Role.RECEIVER],
            reached=any(one.role == Role.RECEIVER for one in in_contact(peers, now)),
            last=last_contact(read_handovers(notes)),
            alarms=read_alarms(notes),
            over_quota=is_over_quota(notes),
            unreadable=count_unreadable(store, notes),
            revocation=own_revocation(self._daemon.member, self._daemon.custody),
            role=self._daemon.member.identity.role,
            home=self._daemon.home.path,
            free=bytes_free(self._daemon.home.path),
            room=self._room(bytes_free(self._daemon.home.path), counts.bytes_held),
            size=size,
            now=now,
        )
        response.headers["Refresh"] = str(REFRESH)
        return response

    def _room(self, free: int, held: int) -> int:
        if self._daemon.member.identity.role is Role.OPERATOR:
            return own_room(free)
        return room(free, held, self._daemon.config.storage_limit)


def room(free: int, held: int, limit: int | None) -> int:
    """For how many packages of others there is room: on the disk, and within `storage_limit`."""
    left = free - DISK_RESERVE if limit is None else min(free - DISK_RESERVE, limit - held)
    return max(0, left) // PACKAGE_BYTES


def own_room(free: int) -> int:
    """For how many packages that are made on this device there is room: others leave some of the disk to them."""
    return max(0, free - DRAFTS_RESERVE) // PACKAGE_BYTES


def last_contact(handovers: Iterable[Handover]) -> LastContact | None:
    """The last contact at which something was handed over."""
    known = sorted(handovers, key=lambda one: one.at)
    if not known:
        return None
    last = known[-1]
    same = [one for one in known if one.node == last.node and last.at - one.at < _SAME_CONTACT]
    return LastContact(last.name, last.role, len(same), last.at)
