"""A device's way through the drill: its people pair their phones, send each form, see each receipt.

The walk looks at the node's store while they work on the page, each at a pace of one's own (or, with samples, does the
work itself), says what comes next, and hands in a record for each station that is through. What happened is in the
diary: a walk that was interrupted goes on from there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from relay.cli.drill.record import FORM, write_record
from relay.cli.drill.steps import steps_of
from relay.errors import BadInput, Unreachable
from relay.node.capture import Submission, capture
from relay.node.diary import Diary
from relay.node.home import Home, Member
from relay.node.pairing import Pairing
from relay.records.identifiers import is_drill
from relay.records.tally import read_tally
from relay.store.durable import write_durably
from relay.store.interface import Bundle, State
from relay.sync.custody import Custody
from relay.trust.roles import Role

_EVERY = 0.5
"""Seconds between two looks at the store."""

Say = Callable[[str], None]


def check_drill(member: Member) -> None:
    """Raise `BadInput` on a node of a real election: nobody practises there."""
    if not is_drill(member.identity.election):
        raise BadInput(
            f"{member.identity.name} belongs to the election {member.identity.election}, which is no drill",
            "Practise in a folder of its own: `relay init --home` and an enrolment of the drill.",
        )


def check_hands_in(member: Member) -> None:
    """Raise `BadInput` on a boat or a receiver: nothing is handed in there, and a walk would wait for ever."""
    if member.identity.role is not Role.OPERATOR:
        raise BadInput(
            f"{member.identity.name} hands in no forms: the walk is for the boxes of polling stations",
            "A boat and a receiver only have to run; `relay drill report` on the receiver tells how it went.",
        )


@dataclass(slots=True)
class Walk:
    """The walk of one device. `patience` is how many seconds without news it waits; `samples`: make pictures up."""

    home: Home
    member: Member
    custody: Custody
    say: Say
    patience: float
    samples: bool

    @property
    def diary(self) -> Diary:
        """What happened here so far."""
        return Diary(self.home.path)

    async def run(self) -> None:
        """Go on until every station of this device is through. Raises `Unreachable` where nothing happens any more."""
        self.diary.note("started")
        if self.samples:
            await self._hand_in_samples()
        elif not Pairing(self.home.path).phones():
            self.say("Pair your phone: open this node's page and type the code that `relay pair` shows.")
            await self._until(self._paired, "login: no phone was paired")
        seen: set[tuple[str, str, str]] = set()
        for tps, form in self._todo():
            if not await self._own(tps, form):
                self.say(f"Photograph {form} of polling station {tps}, type its numbers, and send it.")
        while await self._look(seen):
            await self._until(lambda: self._has_news(seen), await self._awaited())
        self.say("The drill is done here. Thank you.")

    def _todo(self) -> list[tuple[str, str]]:
        return [(tps, form) for tps in sorted(self.member.identity.tps) for form in self._forms()]

    def _forms(self) -> list[str]:
        return [form for form in self.custody.admission.forms if form != FORM]

    async def _happened(self) -> set[tuple[str, str, str]]:
        """What the store shows of the packages of this device: sent, delivered."""
        found: set[tuple[str, str, str]] = set()
        for one in await self.custody.store.bundles():
            if one.own and one.form != FORM:
                found.add(("package", one.tps, one.form))
                if one.state is State.DELIVERED:
                    found.add(("delivered", one.tps, one.form))
        return found

    async def _has_news(self, seen: set[tuple[str, str, str]]) -> bool:
        return not await self._happened() <= seen

    async def _look(self, seen: set[tuple[str, str, str]]) -> bool:
        """Write down and say what is new, hand in what is through; whether anything is still to be done."""
        written = {(one.what, one.tps, one.form) for one in self.diary.read()}
        for what, tps, form in sorted(await self._happened() - seen, reverse=True):
            seen.add((what, tps, form))
            if (what, tps, form) not in written:
                self.diary.note(what, tps=tps, form=form)
            if what == "package" and ("delivered", tps, form) not in await self._happened():
                self.say(f"Wait until {form} of {tps} is delivered: a boat or the uplink takes it on.")
            elif what == "delivered":
                self.say(f"{form} of {tps} is delivered.")
        left = False
        for tps in sorted(self.member.identity.tps):
            if all(("delivered", tps, form) in seen for form in self._forms()):
                await self._hand_in_record(tps)
            else:
                left = True
        return left

    async def _awaited(self) -> str:
        happened = await self._happened()
        unsent = next((f"{form} {tps}" for tps, form in self._todo() if ("package", tps, form) not in happened), "")
        return f"package {unsent}: nothing was sent" if unsent else "receipt: no receipt came back"

    async def _paired(self) -> bool:
        return bool(Pairing(self.home.path).phones())

    async def _own(self, tps: str, form: str) -> list[Bundle]:
        bundles = await self.custody.store.bundles()
        return [one for one in bundles if one.own and (one.tps, one.form) == (tps, form)]

    async def _hand_in_samples(self) -> None:
        for tps, form in self._todo():
            if not await self._own(tps, form):
                await self._submit(tps, form, await asyncio.to_thread(self._sample, tps, form), samples=True)

    async def _hand_in_record(self, tps: str) -> None:
        if await self._own(tps, FORM):
            return
        file = self.home.path / f"drill-{tps}.json"
        write_durably(file, write_record(steps_of(self.diary.read(), tps, self._forms())))
        await self._submit(tps, FORM, (file,), samples=False)

    async def _submit(self, tps: str, form: str, files: tuple[Path, ...], *, samples: bool) -> None:
        from relay.cli.demo.election import example_tally

        station = self.custody.admission.stations[tps]
        tally = read_tally(example_tally(tps, form, station.registered_voters)) if samples else None
        submission = Submission(tps, form, files, tally, int(time.time()), pictures_only=samples)
        await capture(self.home, self.member, self.custody, submission)

    def _sample(self, tps: str, form: str) -> tuple[Path, ...]:
        """Pictures made up for practice, with CONTOH printed on them, in the node's folder."""
        from relay.cli.demo.election import PROVINCE, REGENCY, example_tally
        from relay.cli.demo.pictures import PAGES, Heading, form_picture

        station = self.custody.admission.stations[tps]
        heading = Heading(station.number, station.village, station.district, REGENCY, PROVINCE)
        tally = example_tally(tps, form, station.registered_voters)
        files: list[Path] = []
        for page in range(1, PAGES + 1):
            files.append(self.home.path / f"drill-{form}-{page}.jpg")
            write_durably(files[-1], form_picture(tps, form, page, tally, heading, page))
        return tuple(files)

    async def _until(self, done: Callable[[], Awaitable[bool]], otherwise: str) -> None:
        """Look again and again until it is so. Raises `Unreachable` when patience ends; `otherwise` is `STEP: WHY`."""
        try:
            async with asyncio.timeout(self.patience):
                while not await done():
                    await asyncio.sleep(_EVERY)
                    await self.custody.take_in()
        except TimeoutError:
            step, _, why = otherwise.partition(": ")
            trouble = f"After {self.patience:.0f} s {why}"
            self.diary.note("gave-up", form=step, detail=trouble)
            raise Unreachable(trouble, "Run `relay drill walk` again to go on from here.") from None
