"""A receiver with the example election's register, its site in a folder, and devices that sign what a test wants."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from relay.cli.demo.election import FORMS, example_stations, example_tally, load_example_map
from relay.receiver.publishing import Publisher
from relay.records.identifiers import Kind, ObjectId, StatementId, sha256
from relay.records.notice import Register, Revocation, Revocations, Station
from relay.records.statement import Package, sign_statement
from relay.records.tally import read_tally
from relay.store.shelf import FolderShelf, GuardedShelf
from relay.trust.admission import Admitted
from relay.trust.roles import Role
from relay.trust.witness import log_key
from relay.web.site.builder import Site
from relay.web.site.chart import Place, read_places
from relay.web.site.pages import Look
from relay.web.site.service import SiteKeeper, _take_turn, _Upkeep
from tests.factory import ELECTION, Node, make_file, make_node
from tests.fleet import Fleet, Ship

GUBERNUR, BUPATI = FORMS
LONG, BATUN, KETAPANG = "1906022011006", "1906032008004", "1906072004004"
"""Three polling stations on islands."""
EVENING = 1_732_708_800
"""27 November 2024, 19.00 in western Indonesia."""


class PublicElection:
    """Everything lies below `folder`; the site in `public`."""

    def __init__(self, folder: Path, stations: Sequence[Station] | None = None, *, seed: int = 7) -> None:
        self.public = folder / "receiver" / "public"
        self.stations = {one.tps: one for one in stations or example_stations()}
        self.fleet = Fleet(folder, seed)
        self.shelf = FolderShelf(self.public)
        self.receiver: Ship
        self.site: Site
        self.keeper: SiteKeeper
        self.elsewhere = False
        """Whether the shelf is taken for one that other receivers write to as well."""
        self.leading = True
        self._devices: dict[str, Node] = {}

    async def open(self, *, islands: bool = True) -> None:
        """Start the receiver's log and its site."""
        self.receiver = await self.fleet.receiver()
        self.fleet.clock.now = float(EVENING)
        register = self.fleet.publish(Register(FORMS, tuple(self.stations.values())))
        await self.receiver.take(register)
        await self.reopen(islands=islands)

    async def reopen(self, *, islands: bool = True, anew: bool = False) -> None:
        """Open the site again, as a receiver that starts does."""
        places = island_places() if islands else ()
        identity = self.receiver.node.identity
        shelf = GuardedShelf(self.shelf, self.leads, 8)
        shelf.is_elsewhere = self.elsewhere
        self.site = Site(shelf, Look(ELECTION, self.fleet.election.root, identity.certificate, places))
        self.keeper = SiteKeeper(
            self.site, shelf, self.receiver.store, self.receiver.custody.admission, self.fleet.clock
        )
        await self.keeper.open(anew=anew)

    async def leads(self) -> bool:
        """Whether this receiver leads."""
        return self.leading

    def device(self, tps: str, name: str | None = None) -> Node:
        """The device of a polling station, enrolled when it is first asked for."""
        name = name or f"tps-{tps}"
        if name not in self._devices:
            self._devices[name] = make_node(self.fleet.election, name, Role.OPERATOR, [tps])
        return self._devices[name]

    async def submit(
        self,
        tps: str = LONG,
        form: str = BUPATI,
        tally: Mapping[str, Any] | None = None,
        *,
        photographs: Sequence[bytes] = (),
        **package: Any,
    ) -> StatementId:
        """Sign a package as `sign` does, and hand it to the receiver whole."""
        return await self.hand_in(self.sign(tps, form, tally, photographs=photographs, **package), *photographs)

    async def hand_in(self, statement: Admitted, *photographs: bytes) -> StatementId:
        """Let a statement and its photographs arrive."""
        await self.receiver.take(statement)
        for one in photographs:
            await self.receiver.adopt(one)
        return StatementId(statement.id)

    def sign(
        self,
        tps: str = LONG,
        form: str = BUPATI,
        tally: Mapping[str, Any] | None = None,
        *,
        photographs: Sequence[bytes] = (),
        device: str | None = None,
        supersedes: StatementId | None = None,
        reason: str = "",
        seq: int | None = None,
        previous: StatementId | None = None,
        plain: bool = False,
    ) -> Admitted:
        """The next statement of a station's device, or of another `device`; with the example's tally unless told."""
        node = self.device(tps, device)
        numbers = tally or example_tally(
            tps, form, self.stations[tps].registered_voters if tps in self.stations else 99
        )
        package = Package(
            election=ELECTION,
            tps=tps,
            form=form,
            seq=seq or len(node.chain) + 1,
            previous=previous if seq else (node.chain[-1] if node.chain else None),
            captured_at=EVENING - 3_600,
            files=tuple(make_file(one, f"halaman-{place}.jpg") for place, one in enumerate(photographs, 1)),
            tally=None if plain else read_tally(numbers),
            supersedes=supersedes,
            reason=reason,
        )
        raw = sign_statement(package, node.identity.uri, node.identity.certificate, node.key)
        statement = self.fleet.election.admission.admit(Kind.STATEMENT, raw)
        node.chain.append(StatementId(statement.id))
        return statement

    async def publish_notices(self) -> None:
        """Publish the office's notices, as the receiver does: pages ask them which receiver counts."""
        publisher = Publisher(self.shelf, log_key(self.receiver.member.identity))
        await publisher.publish_notices(await self.receiver.store.load(Kind.NOTICE))

    async def publish(self) -> int:
        """Log what is complete and bring the site up to it; how many entries the site shows then."""
        assert self.receiver.log is not None
        while await self.receiver.log.sequencer.sequence():
            pass
        await self.receiver.log.sequencer.publish()
        while await self.keeper.follow():
            pass
        return self.site.entries

    async def revoke(self, version: int, *nodes: Node) -> None:
        """Let the election office revoke these devices, and no others."""
        revoked = tuple(Revocation(one.identity.node, one.identity.name, "lost") for one in nodes)
        await self.receiver.take(self.fleet.publish(Revocations(revoked), version))

    def text(self, path: str) -> str:
        """A published page."""
        return (self.public / path).read_text(encoding="utf-8")

    def document(self, path: str) -> dict[str, Any]:
        """A published document."""
        found: dict[str, Any] = json.loads((self.public / path).read_bytes())
        return found

    def result(self, tps: str = LONG, form: str = BUPATI) -> dict[str, Any]:
        """What is published of one station and form."""
        return self.document(f"tps/{tps}/{form}.json")

    def flags(self, tps: str = LONG, form: str = BUPATI) -> list[str]:
        """The flags of one station and form."""
        return [flag["flag"] for flag in self.result(tps, form)["flags"]]

    async def close(self) -> None:
        """Close the stores."""
        await self.fleet.close()


async def turn(election: PublicElection) -> float | None:
    """Have the site's keeper take one turn, as it does while its receiver runs; seconds that it rests then."""
    upkeep = _Upkeep(election.site, election.keeper, election.fleet.clock)
    return await _take_turn(
        election.receiver.store, election.keeper, upkeep, election.site.pace, election.receiver.custody.news
    )


def island_places() -> tuple[Place, ...]:
    """The example's map."""
    return read_places(load_example_map())


def picture(label: str, seed: int = 0) -> bytes:
    """A small JPEG that looks a little like a form."""
    image = Image.new("RGB", (300, 400), (246, 243, 234))
    draw = ImageDraw.Draw(image)
    draw.rectangle((12, 12, 288, 388), outline=(60, 60, 60))
    draw.text((24, 24), label, fill=(20, 20, 20))
    for line in range(60, 370, 18):
        draw.line((24, line, 276 - (line * 7 + seed * 13) % 60, line), fill=(120, 130, 150))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()


def tally_of(tps: str, form: str, stations: Mapping[str, Station], **changes: Any) -> dict[str, Any]:
    """The example's tally with some numbers changed."""
    return {**example_tally(tps, form, stations[tps].registered_voters), **changes}


def object_name(content: bytes) -> str:
    """The name of an object with this content."""
    return ObjectId(sha256(content)).hex()
