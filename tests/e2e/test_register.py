"""A register that is corrected after the election was made: nodes that run take it over, and hand it on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boxes import Election, NodeBox
from tests.e2e.world import FORM, REGISTER, World, holds
from tests.processes import eventually

NEW = "1906022011999"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def corrected(world: World) -> Path:
    """The register in force as the office prints it, with an island's name corrected and a station more."""
    text = world.election.authority("register", world.election.folder).stdout.decode()
    assert text.splitlines() == REGISTER.read_text().splitlines()
    file = world.folder / "corrected.csv"
    file.write_text(text.replace("Pulau Long,", "Pulau Panjang,") + f"{NEW},9,Desa Baru,Gantung,,120,no\n")
    return file


def test_a_running_receiver_takes_a_corrected_register_from_a_visitor(world: World) -> None:
    receiver = world.box("receiver", "receiver")
    boat = world.box("boat", "carrier", receivers=[receiver])
    receiver.start()
    boat.start()
    file = world.folder / "correction.pem"
    told = world.election.authority("register", world.election.folder, corrected(world), "-o", file)
    assert "1 added, 1 corrected, 0 removed" in told.stderr
    boat.import_(file)
    eventually(lambda: registered(receiver) == 193, 60, "the receiver has the station that was added")
    # The new station can be enrolled for, and what it sends is logged.
    island = world.box("baru", "operator", tps=[NEW], receivers=[receiver])
    island.start()
    island.submit(world.photo(5_000), tps=NEW, form=FORM)
    holds(receiver, ("delivered", 0))


def registered(receiver: NodeBox) -> int:
    """How many polling stations its register has."""
    report = receiver.host.run([*receiver._relay, "receiver", "status", "--home", receiver.home, "--json"])
    return int(json.loads(report.stdout)["stations_in_register"])


def test_an_office_does_not_remove_stations_that_a_file_leaves_out(world: World, tmp_path: Path) -> None:
    lines = REGISTER.read_text().splitlines(keepends=True)
    short, file = tmp_path / "short.csv", tmp_path / "correction.pem"
    short.write_text("".join(lines[:-1]))
    command: list[str | Path] = ["register", world.election.folder, short, "-o", file]
    refused = world.election.authority(*command, check=False)
    assert refused.status != 0 and "lacks 1 polling stations" in refused.stderr and "--remove" in refused.stderr
    assert not file.exists()
    world.election.authority(*command, "--remove")
    assert file.exists()


def test_an_election_of_many_parts_is_enrolled_and_joined(tmp_path: Path) -> None:
    """Each node with what it needs of the register: what it does not need does not make its enrolment long."""
    rows = [f"1906{n:09},1,Desa {n // 9},Manggar,,300,yes\n" for n in range(9_000)]
    (tmp_path / "large.csv").write_text(REGISTER.read_text().partition("\n")[0] + "\n" + "".join(rows))
    office = Election(tmp_path / "office", tmp_path / "large.csv")
    boxes = {role: NodeBox(tmp_path / role) for role in ("receiver", "operator", "carrier")}
    sizes = {}
    for role, box in boxes.items():
        tps = [f"1906{8_999:09}"] if role == "operator" else []
        file = office.enrol(box.init(role), role, tps=tps)
        sizes[role] = file.stat().st_size
        box.join(file)
        box.close()
    assert sizes["carrier"] < 8_000 < sizes["operator"] < 100_000 < sizes["receiver"]
    assert registered(boxes["receiver"]) == 9_000
