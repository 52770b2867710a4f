"""One operator's way through the drill: pair a phone, hand in each form, see each receipt, hand in the record.

The walk looks at the node's store and pairing while the operator works on the page (or, with samples, does the work
itself), and says what comes next. What was done before stays done: it goes on after an interruption.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from relay.cli.drill.record import FILE, FORM, Step, read_record, write_record
from relay.errors import BadInput, RelayError, Unreachable
from relay.limits import MAX_DRILL_RECORD, MAX_TEXT
from relay.node.capture import Submission, capture
from relay.node.home import Home, Member
from relay.node.pairing import Pairing
from relay.records.identifiers import is_drill
from relay.records.tally import read_tally
from relay.store.durable import write_durably
from relay.store.interface import Bundle, Seen, State
from relay.sync.custody import Custody

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


@dataclass(slots=True)
class Walk:
    """The walk of one device. `patience` is how many seconds it waits for one step; `samples`: make pictures up."""

    home: Home
    member: Member
    custody: Custody
    say: Say
    patience: float
    samples: bool
    steps: list[Step] = field(default_factory=list)

    async def run(self) -> None:
        """Go through every step that is not done yet. Raises `Unreachable` where one does not come to pass."""
        self._recall()
        todo = [(tps, form) for tps in sorted(self.member.identity.tps) for form in self._forms()]
        if not self.samples:
            with self._step("login") as new:
                if new:
                    self.say("Pair your phone: open this node's page and type the code that `relay pair` shows.")
                    await self._until(self._paired, "no phone was paired")
        for tps, form in todo:
            with self._step(f"package {form} {tps}") as new:
                if new:
                    self.say(f"Photograph {form} of polling station {tps}, type its numbers, and send it.")
                    await self._hand_in(tps, form)
        for tps, form in todo:
            with self._step(f"receipt {form} {tps}") as new:
                if new:
                    self.say(f"Wait until {form} of {tps} is delivered: a boat or the uplink takes it on.")
                    await self._until(lambda tps=tps, form=form: self._delivered(tps, form), "no receipt came back")  # type: ignore[misc]
        await self._hand_in_record()
        self.say("The drill is done here. Thank you.")

    def _forms(self) -> list[str]:
        return [form for form in self.custody.admission.forms if form != FORM]

    @contextmanager
    def _step(self, name: str) -> Iterator[bool]:
        """Time one step and note it; yields whether it is still to be done."""
        new = not any(step.name == name and not step.trouble for step in self.steps)
        began = time.monotonic()
        try:
            yield new
        except RelayError as error:
            self._note(Step(name, time.monotonic() - began, error.what[:MAX_TEXT]))
            raise
        if new:
            self._note(Step(name, time.monotonic() - began))

    def _note(self, step: Step) -> None:
        self.steps.append(step)
        write_durably(self.home.path / FILE, write_record(tuple(self.steps)))

    def _recall(self) -> None:
        file = self.home.path / FILE
        if file.is_file():
            with file.open("rb") as content:
                self.steps = list(read_record(content.read(MAX_DRILL_RECORD + 1)))

    async def _paired(self) -> bool:
        return bool(Pairing(self.home.path).phones())

    async def _own(self, tps: str, form: str) -> list[Bundle]:
        bundles = await self.custody.store.bundles()
        return [one for one in bundles if one.own and (one.tps, one.form) == (tps, form)]

    async def _handed_in(self, tps: str, form: str) -> bool:
        return bool(await self._own(tps, form))

    async def _delivered(self, tps: str, form: str) -> bool:
        return any(one.state is State.DELIVERED for one in await self._own(tps, form))

    async def _hand_in(self, tps: str, form: str) -> None:
        if self.samples and not await self._own(tps, form):
            await self._submit(tps, form, await asyncio.to_thread(self._sample, tps, form), samples=True)
        await self._until(lambda: self._handed_in(tps, form), "nothing was sent")

    async def _hand_in_record(self) -> None:
        for tps in sorted(self.member.identity.tps)[:1]:
            if not await self._own(tps, FORM):
                await self._submit(tps, FORM, (self.home.path / FILE,), samples=False)

    async def _submit(self, tps: str, form: str, files: tuple[Path, ...], *, samples: bool) -> None:
        from relay.cli.demo.election import example_tally

        station = self.custody.admission.stations[tps]
        tally = read_tally(example_tally(tps, form, station.registered_voters)) if samples else None
        await capture(self.home, self.member, self.custody, Submission(tps, form, files, tally, int(time.time())))

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

    async def _until(self, done: Callable[[], object], otherwise: str) -> None:
        """Look again and again until it is so. Raises `Unreachable` when patience ends."""
        try:
            async with asyncio.timeout(self.patience):
                while not await done():  # type: ignore[misc]
                    await asyncio.sleep(_EVERY)
                    if await self.custody.store.refresh() is not Seen.NOTHING:
                        await self.custody.load()
        except TimeoutError:
            raise Unreachable(
                f"After {self.patience:.0f} s {otherwise}", "Run `relay drill walk` again to go on from here."
            ) from None
