"""The drill, end to end on the example election: real daemons, a practice election beside a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.boxes import PASSPHRASE, RELAY, Election, NodeBox, inside
from tests.e2e.world import FORM, OTHER_FORM, REGISTER, TPS, World
from tests.processes import Outcome, eventually


class Drill(Election):
    """The office of a practice election."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, REGISTER, election="e2e-2024")

    def aside(self, *arguments: str | Path) -> Outcome:
        """`relay drill new` in the place of `relay authority init`."""
        if arguments[0] != "init":
            return super().aside(*arguments)
        return inside(["drill", "new", *arguments[1:]], {"RELAY_PASSPHRASE": PASSPHRASE})


def test_everyone_is_taken_through_and_the_receiver_tells_how_it_went(tmp_path: Path) -> None:
    with World(tmp_path, election="e2e-2024") as world:
        drill = Drill(tmp_path / "drill")
        receiver = world.box("receiver", "receiver", election=drill)
        island = world.box("island", "operator", tps=[TPS], receivers=[receiver], election=drill)
        receiver.start()
        island.start()
        assert island.status()["election"] == "drill-e2e-2024"
        assert "DRILL" in island.relay("status").text

        refused = drill_command(receiver, "walk", check=False)
        assert refused.status == 1 and "hands in no forms" in refused.stderr
        impatient = drill_command(island, "walk", "--patience", "1", check=False)
        assert impatient.status == 1, "nobody paired a phone"
        said = drill_command(island, "walk", "--samples").text
        assert f"{FORM} of {TPS} is delivered." in said
        assert "The drill is done here." in said
        eventually(lambda: report(receiver)["done"] == 1, 30, "the record is at the receiver")

        told = report(receiver)
        (one,) = told["reports"]
        assert (one["tps"], one["device"], one["place"]) == (TPS, "island", "Pulau Long")
        assert sorted(one["forms"]) == sorted([FORM, OTHER_FORM])
        assert [step["step"].split()[0] for step in one["steps"]] == [*["package", "receipt"] * 2, "login"]
        assert one["seconds"] > 0
        assert one["troubles"] == ["login: After 1 s no phone was paired"]
        assert len(told["missing"]) == told["stations"] - 1 == 191


def test_a_drill_and_a_real_election_cannot_be_mistaken_for_each_other(tmp_path: Path) -> None:
    with World(tmp_path, election="e2e-2024") as world:
        drill = Drill(tmp_path / "drill")
        real = world.box("real", "operator", tps=[TPS])
        practice = world.box("practice", "operator", tps=[TPS], election=drill)
        refused = drill_command(real, "walk", "--samples", check=False)
        assert refused.status == 1
        assert "which is no drill" in refused.stderr
        assert real.list() == []
        practice.submit(world.photo(1_000), tps=TPS, form=FORM)
        practice.export(tmp_path / "stick")
        taken = real.relay("import", tmp_path / "stick", check=False)
        assert taken.status == 1
        assert real.list() == [], "a real node takes nothing of a drill"
        made = world.election.authority(
            "init", tmp_path / "wrong", "--election", "drill-2024", "--register", REGISTER, check=False
        )
        assert made.status == 1
        assert not (tmp_path / "wrong").exists()


def drill_command(box: NodeBox, command: str, *options: str, check: bool = True) -> Outcome:
    """Run `relay drill COMMAND` on a box."""
    return box.host.run([*RELAY, "drill", command, "--home", box.home, *options], within=90, check=check)


def report(box: NodeBox) -> dict[str, Any]:
    """The report at a receiver."""
    document: dict[str, Any] = drill_command(box, "report", "--json").json()
    return document
