"""A campaign of cuts over all kinds of work, each on fresh folders now and then."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

from tests.bench.contestants import FORM, REGISTER
from tests.boxes import Election, NodeBox
from tests.powercuts.cuts import Tally, kill_at_random
from tests.powercuts.losing_fs import Disk
from tests.powercuts.visits import cut_visits
from tests.powercuts.work import Export, FirstStart, Free, Import, Intake, Migrate, Publish, Submit, Work, sync_tree

TPS = "1906022011006"
SERIES = 10
"""Cuts on one folder, one upon the other."""


class Campaign:
    """Prepares what the works begin with, through relay's own commands, and cuts them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.election = election = Election(folder / "office", REGISTER)
        with (
            NodeBox(folder / "empty") as empty,
            NodeBox(folder / "full") as full,
            NodeBox(folder / "carrier") as carrier,
            NodeBox(folder / "fresh") as fresh,
        ):
            election.admit(empty, "operator", name="empty", tps=[TPS])
            election.admit(full, "operator", name="full", tps=[TPS])
            election.admit(carrier, "carrier", name="carrier")
            enrolment = election.enrol(fresh.init("fresh"), "operator", tps=[TPS])
            for number in range(3):
                photo = folder / f"{number}.jpg"
                photo.write_bytes(b"\xff\xd8\xff" + os.urandom(299_997))
                full.submit(photo, tps=TPS, form=FORM)
            full.export(folder / "stick")
        self.works: tuple[Work, ...] = (
            Intake(),
            Submit(empty.home, TPS),
            Export(full.home),
            Import(carrier.home, folder / "stick"),
            Migrate(full.home),
            FirstStart(fresh.home, enrolment, TPS),
            Publish(),
            Free(),
        )

    def run(self, cuts: int, seed: int, tally: Tally, *, losing: bool = False) -> None:
        """So many cuts, in series that take turns. With `losing`, on a disk that loses what was not synced."""
        dice = random.Random(seed)
        while tally.cuts < cuts:
            for work in self.works:
                count = min(SERIES, cuts - tally.cuts)
                if count <= 0:
                    return
                with tempfile.TemporaryDirectory(dir=self._folder) as name:
                    self._series(work, Path(name), count, dice, tally, losing=losing)

    def run_visits(self, cuts: int, seed: int, tally: Tally) -> None:
        """So many cuts of daemons that visit each other; every other series with a boat whose disk loses."""
        dice = random.Random(seed)
        series = max(1, min(SERIES, cuts // 2))
        for number, first in enumerate(range(0, cuts, series)):
            with tempfile.TemporaryDirectory(dir=self._folder) as name:
                count = min(series, cuts - first)
                cut_visits(self.election, Path(name), count, dice, tally, losing=number % 2 == 1)

    def _series(self, work: Work, folder: Path, cuts: int, dice: random.Random, tally: Tally, *, losing: bool) -> None:
        if not losing:
            work.prepare(folder)
            kill_at_random(work, folder, cuts, dice, tally)
            return
        with Disk(folder) as disk:
            work.prepare(disk.mount)
            sync_tree(disk.mount)
            kill_at_random(work, disk.mount, cuts, dice, tally, lose=lambda: disk.cut(dice.getrandbits(32)))
