"""What README.md and the tutorial tell people to type works as it is typed there."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.cli.demo.election import example_stations
from relay.records.tally import mismatches, parse_tally
from tests.processes import Place, Process, eventually

ROOT = Path(__file__).parents[2]
STATION = "1906022011006"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A folder with what a checkout has beside the program, and `relay` in PATH."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("relay", "docs"):
        (checkout / name).symlink_to(ROOT / name)
    scripts = checkout / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "relay").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m relay "$@"\n')
    (scripts / "relay").chmod(0o755)
    with Place("reader", checkout) as place:
        yield place


def blocks(text: str) -> list[str]:
    """The shell commands of a page, block by block."""
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def typed(place: Place, script: str) -> Process:
    """Start what a reader types."""
    path = f"{place.folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "RELAY_PASSPHRASE": "choose a long one"}
    return place.popen(["bash", "-ec", f"cd {place.folder}\n{script}"], env=environment, name="typed")


def test_the_ten_commands_of_the_readme(place: Place) -> None:
    (script,) = [one for one in blocks((ROOT / "README.md").read_text()) if "authority init" in one]
    ports = re.findall(r"127\.0\.0\.1:(\d+)", script)
    assert len(set(ports)) == 5
    done = "until relay list --home island | grep 'delivered'; do :; done; kill %1 %2; wait"
    process = typed(place, f"{script}\n{done}")
    assert process.wait(90) == 0, process.output
    assert "warning" not in process.output, "the tally adds up"
    assert "entry 0" in process.output


def test_the_tutorial(place: Place) -> None:
    daemons: list[Process] = []
    for script in blocks((ROOT / "docs" / "tutorial.md").read_text())[:]:
        inside = f"if [ -d tutorial ]; then cd tutorial; fi\n{script}"
        if script.startswith("relay run"):
            daemons.append(typed(place, inside))
            eventually(lambda: "is ready on" in daemons[-1].output, 30, "the daemon is ready")
            continue
        process = typed(place, inside)
        assert process.wait(90) == 0, process.output
        if "sleep 5" in script:
            assert "entry 0" in process.output
    assert len(daemons) == 3
    assert " 0 wrong" in process.output


def test_the_example_of_the_tally_is_that_of_a_station() -> None:
    text = (ROOT / "docs" / "examples" / "tally.json").read_bytes()
    (station,) = [one for one in example_stations() if one.tps == STATION]
    assert mismatches(parse_tally(text), station.registered_voters) == ()
    (shown,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "reference" / "tally.md").read_text(), re.DOTALL)
    assert json.loads(shown) == json.loads(text)
