"""Two real daemons, one or both of which lose their power in the middle of a visit, again and again.

What a device told its operator is safe is there after every cut; so is what a boat said that it holds. In the end the
boat has everything.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.boxes import Election, NodeBox, free_port
from tests.powercuts.cuts import Tally
from tests.powercuts.work import FORM, Violation, check_database
from tests.processes import eventually

NAME = "visit"
SIZE = 6_000_000
"""Bytes of a photograph: a visit that brings one takes longer than a cut is waited for."""
LONGEST = 0.8
TPS = "1906022011006"


def cut_visits(election: Election, folder: Path, cuts: int, dice: random.Random, tally: Tally) -> None:
    """So many cuts of an island's and a boat's daemon. Raises `Violation`."""
    with NodeBox(folder / "island") as island, NodeBox(folder / "boat") as boat:
        election.admit(island, "operator", name=f"island-{folder.name}", tps=[TPS])
        election.admit(boat, "carrier", name=f"boat-{folder.name}")
        address = f"127.0.0.1:{free_port()}"
        boat.config(listen=address, console=f"127.0.0.1:{free_port()}", discovery=False)
        console, listen = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        island.config(listen=listen, console=console, peers=[address], discovery=False)
        photo = folder / "photo.jpg"
        safe: list[str] = []
        for box in (boat, island):
            box.start()
        for turn in range(cuts):
            photo.write_bytes(b"\xff\xd8\xff" + dice.randbytes(SIZE))
            safe.append(island.submit(photo, tps=TPS, form=FORM))
            time.sleep(dice.uniform(0, LONGEST))
            said = _held(boat)
            struck = dice.choice(((island,), (boat,), (island, boat)))
            for box in struck:
                box.kill()
            for box in struck:
                check_database(box.home / "store" / "catalogue.db")
            _check(island, safe, boat, said, turn)
            for box in struck:
                box.start()
            tally.cuts += 1
            tally.by_work[NAME] = tally.by_work.get(NAME, 0) + 1
        tally.told += len(safe)
        eventually(lambda: _whole(boat) >= set(safe), 60, "the boat has every package")
        for bundle in boat.list():
            for file in bundle["objects"]:
                boat.cat(file["sha256"])  # which checks the hash


def _held(box: NodeBox) -> dict[str, int]:
    """Bytes of each package that a node says it holds."""
    return {bundle["id"]: int(bundle["bytes_held"]) for bundle in box.list()}


def _whole(box: NodeBox) -> set[str]:
    return {bundle["id"] for bundle in box.list() if bundle["bytes_held"] == bundle["bytes"]}


def _check(island: NodeBox, safe: list[str], boat: NodeBox, said: dict[str, int], turn: int) -> None:
    if lost := set(safe) - _whole(island):
        raise Violation(f"{NAME}, cut {turn}: the island lost {sorted(lost)}")
    held = _held(boat)
    for statement, size in said.items():
        if held.get(statement, -1) < size:
            raise Violation(f"{NAME}, cut {turn}: the boat held {size} bytes of {statement}, and holds {held}")
