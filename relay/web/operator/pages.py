"""The pages of a paired phone: the list of forms, a draft in three steps, a package and its way.

Every change is a POST that ends in a redirect, and can be repeated: back, reload and a second tap do no harm. All of
it works without JavaScript; the script adds resumed uploads, sums while typing, and pages that follow the node.
"""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from relay.errors import NotHeld
from relay.limits import MAX_PAIRS_TYPED
from relay.node.daemon import Daemon
from relay.node.drafts import Draft, Drafts, standing
from relay.node.handover import holders
from relay.node.report import all_delivered, describe_node, in_contact, own_revocation
from relay.node.uplink import read_uplink
from relay.records.identifiers import DRILL_FORM, RecordId, StatementId, parse_hash
from relay.records.pictures import HEAD, MEDIA_TYPES, media_type
from relay.records.statement import Package, read_statement
from relay.records.tally import reserve
from relay.store.interface import Bundle
from relay.trust.roles import Role
from relay.web.amounts import way
from relay.web.operator import uploads, view
from relay.web.operator.answers import PAGE_HEADERS, PREFIX, TOKEN, see_other
from relay.web.operator.guard import FORM, PHONE
from relay.web.pages import language, render, texts
from relay.web.sending import Part


class OperatorPages:
    """What a paired phone sees of the node that `daemon` runs."""

    def __init__(self, daemon: Daemon, drafts: Drafts) -> None:
        self._daemon = daemon
        self._drafts = drafts
        self._admission = daemon.custody.admission
        self._store = daemon.custody.store

    def routes(self) -> list[web.RouteDef]:
        """Their paths."""
        draft, package = f"{PREFIX}/drafts/{{draft}}", f"{PREFIX}/packages/{{statement}}"
        return [
            web.get(PREFIX, self.home),
            web.get(f"{PREFIX}/", self.home),
            web.post(f"{PREFIX}/begin", self.begin),
            web.post(f"{draft}/announce", self.announce),
            web.get(f"{draft}/pictures", self.pictures),
            web.post(f"{draft}/pictures", self.upload_form),
            web.get(f"{draft}/pictures/{{picture}}", self.picture, allow_head=False),
            web.head(f"{draft}/pictures/{{picture}}", self.offset),
            web.patch(f"{draft}/pictures/{{picture}}", self.upload_part),
            web.post(f"{draft}/pictures/{{picture}}/remove", self.remove_picture),
            web.get(f"{draft}/numbers", self.numbers),
            web.post(f"{draft}/numbers", self.save_numbers),
            web.get(f"{draft}/review", self.review),
            web.post(f"{draft}/review", self.send),
            web.post(f"{draft}/discard", self.discard),
            web.get(package, self.package),
            web.post(f"{package}/correct", self.correct),
            web.get(f"{package}/files/{{place}}", self.package_file),
        ]

    # -- the list

    async def home(self, request: web.Request) -> web.StreamResponse:
        """One's own stations and forms, and how far each is."""
        cards = view.station_cards(
            self._daemon.member.identity.tps,
            self._admission.stations,
            [form for form in self._admission.forms if form != DRILL_FORM],
            self._drafts.under_way(),
            await self._store.bundles(),
        )
        node = await describe_node(self._daemon.home, self._daemon.member, self._daemon.custody)
        node["running"] = True
        peers = in_contact(await self._store.peers(), int(time.time()))
        near = [one for one in peers if one.role != Role.RECEIVER]
        uplink = read_uplink(await self._store.notes())
        now, lang, words = int(time.time()), language(request), texts("operator/texts.json")[language(request)]
        settled = all_delivered(node["counts"])
        return self._page(
            request,
            "home",
            cards=cards,
            node=node,
            near=near,
            uplink=uplink,
            now=now,
            settled=settled,
            way=lambda one: way(one, now, lang, words, all_delivered=settled),
        )

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Begin a form, or go on with its draft."""
        form = request[FORM]
        draft = await self._drafts.begin(form.get("tps", ""), form.get("form", ""))
        return see_other(f"{PREFIX}/drafts/{draft.id}/pictures")

    # -- pictures

    async def pictures(self, request: web.Request) -> web.StreamResponse:
        """Step 1."""
        return self._step(request, "pictures")

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """One picture of a draft."""
        picture, path = self._drafts.picture(request.match_info["draft"], request.match_info["picture"])
        if not picture.whole:
            raise NotHeld("The picture has not arrived in full", "Wait for it.")
        return _file(path, MEDIA_TYPES[picture.kind])

    async def announce(self, request: web.Request) -> web.StreamResponse:
        """See `uploads`."""
        return await uploads.announce(self._drafts, request)

    async def offset(self, request: web.Request) -> web.StreamResponse:
        """See `uploads`."""
        return await uploads.tell_offset(self._drafts, request)

    async def upload_part(self, request: web.Request) -> web.StreamResponse:
        """See `uploads`."""
        return await uploads.take_part(self._drafts, request)

    async def upload_form(self, request: web.Request) -> web.StreamResponse:
        """Pictures from a browser without JavaScript."""
        await uploads.take_form(self._drafts, request)
        return see_other(f"{PREFIX}/drafts/{request.match_info['draft']}/pictures")

    async def remove_picture(self, request: web.Request) -> web.StreamResponse:
        """Take a picture out."""
        await self._drafts.remove(request.match_info["draft"], request.match_info["picture"])
        return see_other(f"{PREFIX}/drafts/{request.match_info['draft']}/pictures")

    # -- numbers

    async def numbers(self, request: web.Request) -> web.StreamResponse:
        """Step 2."""
        return self._step(request, "numbers")

    async def save_numbers(self, request: web.Request) -> web.StreamResponse:
        """Keep what was typed since the page was shown: what another phone typed meanwhile stays.

        The script saves while one types and needs no page for it.
        """
        typed = request[FORM]
        draft = await self._drafts.save(request.match_info["draft"], view.changed(typed))
        if request.headers.get("Accept") == "application/json":
            return web.Response(status=204, headers={"Cache-Control": "no-store"})
        stay = draft.wrong or "apply" in typed
        return see_other(f"{PREFIX}/drafts/{draft.id}/{'numbers' if stay else 'review'}")

    # -- signing

    async def review(self, request: web.Request) -> web.StreamResponse:
        """Step 3."""
        return self._step(request, "review")

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Sign and send; a second tap leads to the same package."""
        draft = self._drafts.get(request.match_info["draft"])
        if draft.supersedes and draft.state == "open" and "reason" in request[FORM]:
            draft = await self._drafts.save(draft.id, {"reason": request[FORM]["reason"]})
        if not draft.statement and (trouble := _hindrance(draft)):
            return self._step(request, "review", trouble=trouble, status=400)
        statement = await self._drafts.send(draft.id, int(time.time()))
        return see_other(f"{PREFIX}/packages/{statement.hex()}")

    async def discard(self, request: web.Request) -> web.StreamResponse:
        """Throw a draft away."""
        await self._drafts.discard(request.match_info["draft"])
        return see_other(PREFIX)

    # -- packages

    async def package(self, request: web.Request) -> web.StreamResponse:
        """A package, its numbers and pictures, and its way."""
        bundle, package = await self._own_package(request)
        bundles = await self._store.bundles()
        later = [one for one in bundles if one.supersedes == bundle.id]
        stand = standing(bundles, bundle.tps, bundle.form)
        station = self._admission.stations.get(bundle.tps)
        held = [await self._store.object_path(file.sha256) is not None for file in bundle.files]
        return self._page(
            request,
            "package",
            bundle=bundle,
            station=station,
            place=view.place_of(station),
            tally=view.tally_lines(package.tally),
            sealed=package.sealed,
            reason=package.reason,
            later=later[-1].id.hex() if later else "",
            rivals=[one for one in stand if one.id != bundle.id] if bundle.id in {one.id for one in stand} else [],
            mine=bundle.tps in self._daemon.member.identity.tps,
            holders=holders(await self._store.notes(), bundle.id),
            when=view.moment(bundle.captured_at),
            delivered=view.is_delivered(bundle),
            files=list(zip(bundle.files, held, strict=True)),
        )

    async def package_file(self, request: web.Request) -> web.StreamResponse:
        """A picture of a package."""
        bundle, _ = await self._own_package(request)
        place = request.match_info["place"]
        if not place.isascii() or not place.isdecimal() or int(place[:4]) >= len(bundle.files):
            raise NotHeld("There is no such picture", "Go back to the package.")
        path = await self._store.object_path(bundle.files[int(place[:4])].sha256)
        if path is None:
            raise NotHeld("The picture is no longer kept here", "It is in the log.")
        with path.open("rb") as file:
            return _file(path, media_type(file.read(HEAD)))

    async def correct(self, request: web.Request) -> web.StreamResponse:
        """Begin a correction."""
        draft = await self._drafts.correct(request.match_info["statement"])
        return see_other(f"{PREFIX}/drafts/{draft.id}/pictures")

    async def _own_package(self, request: web.Request) -> tuple[Bundle, Package]:
        statement = StatementId(RecordId(parse_hash(request.match_info["statement"], "statement id")))
        bundle = await self._store.bundle(statement)
        records = await self._store.read([statement], 1)
        if bundle is None or not records or not (bundle.own or bundle.tps in self._daemon.member.identity.tps):
            raise NotHeld("There is no such package of this device", "Begin at the list of forms.")
        return bundle, read_statement(records[0][2]).package

    # -- showing

    def _step(self, request: web.Request, step: str, *, trouble: str = "", status: int = 200) -> web.StreamResponse:
        draft = self._drafts.get(request.match_info["draft"])
        if draft.statement:
            return see_other(f"{PREFIX}/packages/{draft.statement}")
        station = self._admission.stations.get(draft.tps)
        registered = station.registered_voters if station else None
        return self._page(
            request,
            step,
            status=status,
            step=step,
            draft=draft,
            station=station,
            place=view.place_of(station),
            registered=registered,
            reserve=reserve(registered) if registered is not None else None,
            flags=view.draft_flags(draft, station),
            summed=view.is_summed(draft, station),
            section_of=view.SECTION_OF,
            groups={"voters": view.VOTERS, "ballots": view.BALLOTS, "totals": view.TOTALS},
            tally=view.tally_lines(draft.tally),
            wrong=draft.wrong,
            hindrance=_hindrance(draft),
            trouble=trouble,
            most_pairs=MAX_PAIRS_TYPED,
        )

    def _page(self, request: web.Request, name: str, *, status: int = 200, **values: Any) -> web.Response:
        return render(
            request,
            f"operator/{name}.html",
            words="operator/texts.json",
            allowed=PAGE_HEADERS,
            status=status,
            token=request[TOKEN],
            phone=request[PHONE],
            device=self._daemon.member.identity.name,
            election=self._daemon.member.identity.election,
            revocation=own_revocation(self._daemon.member, self._daemon.custody),
            **values,
        )


def _hindrance(draft: Draft) -> str:
    """Why a draft cannot be sent yet, as the key of a text; empty when it can."""
    if not all(picture.whole for picture in draft.pictures):
        return "unfinished_pictures"
    if draft.wrong:
        return "wrong_numbers"
    if not draft.pictures and draft.tally is None:
        return "nothing_to_send"
    if draft.supersedes and not draft.reason:
        return "reason_missing"
    return ""


def _file(path: Any, media_type: str) -> web.StreamResponse:
    headers = {**PAGE_HEADERS, "Cache-Control": "private, max-age=86400, immutable", "Content-Type": media_type}
    return Part(path, headers=headers)
