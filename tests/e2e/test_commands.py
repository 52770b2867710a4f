"""The command line keeps its contract: shapes of `--json`, exit statuses, submitting with and without the daemon."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest

from tests.boxes import RELAY, NodeBox
from tests.e2e.world import FORM, OTHER_FORM, TPS, World, holds
from tests.processes import Outcome, Process, eventually

BUNDLE = {
    "id": str,
    "tps": str,
    "form": str,
    "device": str,
    "seq": int,
    "state": str,
    "bytes": int,
    "bytes_held": int,
    "entry": int | None,
    "objects": list,
}
OBJECT = {"name": str, "sha256": str, "size": int}
STATUS = {
    "node": str,
    "role": str,
    "election": str,
    "peers": list,
    "uplink": dict | None,
    "counts": dict,
    "bytes_free": int,
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def has_shape(document: dict[str, Any], shape: dict[str, Any]) -> bool:
    """Whether a document has these keys with values of these types; it may have more."""
    return all(key in document and isinstance(document[key], kind) for key, kind in shape.items())


def packages(box: NodeBox) -> dict[str, dict[str, Any]]:
    """What the statements on a box say, by their ids, read from an export with nothing but a CBOR library."""
    folder = box.home.with_name("packages")
    box.export(folder)
    raws = [file.read_bytes() for file in (folder / "statements").iterdir()]
    shutil.rmtree(folder)
    return {hashlib.sha256(raw).hexdigest(): cbor2.loads(cbor2.loads(raw).value[2]) for raw in raws}


def test_submit_list_status_and_cat_speak_as_agreed(world: World) -> None:
    receiver = world.box("receiver", "receiver")
    island = world.box("pulau-long", "operator", tps=[TPS], receivers=[receiver])
    photo = world.photo(120_000, "halaman 1.jpg")
    (tally := world.folder / "tally.json").write_text('{"voters": 340}')
    statement = island.relay("submit", "--tps", TPS, "--form", FORM, "--tally", tally, photo).text
    digest = hashlib.sha256(photo.read_bytes()).hexdigest()

    (bundle,) = island.relay("list", "--json").json()
    assert has_shape(bundle, BUNDLE)
    assert has_shape(bundle["objects"][0], OBJECT)
    expected = {"id": statement, "tps": TPS, "form": FORM, "device": "pulau-long", "seq": 1, "state": "waiting"}
    assert bundle.items() >= {**expected, "bytes": 120_000, "bytes_held": 120_000, "entry": None}.items()
    assert bundle["objects"][0].items() >= {"name": "halaman 1.jpg", "sha256": digest, "size": 120_000}.items()
    assert island.cat(digest) == photo.read_bytes()

    status = island.relay("status", "--json").json()
    assert has_shape(status, STATUS)
    assert (status["node"], status["role"], status["election"]) == ("pulau-long", "operator", "e2e-2024")
    assert (status["counts"], status["uplink"]) == ({"partial": 0, "waiting": 1, "delivered": 0}, None)

    receiver.start()
    island.start()
    holds(island, ("delivered", 0))
    status = island.status()
    assert status["counts"] == {"partial": 0, "waiting": 0, "delivered": 1}
    assert (
        status["uplink"].items() >= {"url": f"https://127.0.0.1:{world.ports['receiver']}", "reachable": True}.items()
    )
    assert [(peer["node"], peer["role"], peer["connected"]) for peer in status["peers"]] == [
        ("receiver", "receiver", True)
    ]
    environment = {**island._environment(), "RELAY_HOME": str(island.home)}
    assert island.host.run([*RELAY, "list", "--json"], env=environment).json() == island.list()


def test_submits_at_once_and_beside_the_daemon_make_one_chain(world: World) -> None:
    island = world.box("island", "operator", tps=[TPS])
    boat = world.box("boat", "carrier", peers=[world.ports["island"]])

    def submitting(number: int) -> Process:
        photo = world.photo(60_000 + number, f"{number}.jpg")
        command: list[str | Path] = [
            *RELAY,
            "submit",
            "--home",
            island.home,
            "--tps",
            TPS,
            "--form",
            FORM,
            "--anyway",
            photo,
        ]
        return island.host.popen(command, env=island._environment(), name=f"submit-{number}")

    processes = [submitting(number) for number in range(3)]
    island.start()
    boat.start()
    processes += [submitting(number) for number in range(3, 5)]
    assert [process.wait(30) for process in processes] == [0] * 5
    printed = {process.output.strip() for process in processes}
    holds(boat, *[("waiting", None)] * 5)

    for box in (island, boat):
        assert sorted((one["seq"], one["id"] in printed) for one in box.list()) == [(n, True) for n in range(1, 6)]
    chain = sorted(packages(island).items(), key=lambda item: item[1]["seq"])
    assert [package.get("previous") for _, package in chain] == [None, *[bytes.fromhex(name) for name, _ in chain[:-1]]]


def test_a_correction_is_a_new_package_beside_the_old_one(world: World) -> None:
    island = world.box("island", "operator", tps=[TPS])
    first = island.submit(world.photo(50_000), tps=TPS, form=FORM)
    second = island.submit(world.photo(50_000, "better.jpg"), tps=TPS, form=FORM, supersedes=first)
    assert {(one["id"], one["supersedes"]) for one in island.list()} == {(first, None), (second, first)}
    other = island.relay(
        *("submit", "--tps", TPS, "--form", OTHER_FORM, "--supersedes", second, "--reason", "x", world.photo(9, "x")),
        check=False,
    )
    assert (other.status, len(island.list())) == (1, 2)


def test_a_daemon_that_is_told_to_stop_in_the_middle_of_a_visit_stops_cleanly(world: World) -> None:
    island = world.box("island", "operator", tps=[TPS])
    for number in range(8):
        island.submit(world.photo(8_000_000, f"{number}.jpg"), tps=TPS, form=FORM)
    island.start()
    boat = world.box("boat", "carrier", peers=[world.ports["island"]])
    boat.start()
    objects = boat.home / "store"
    eventually(lambda: sum(file.stat().st_size for file in objects.rglob("*") if file.is_file()) > 1 << 20, 30, "some")
    assert boat.stop() == 0
    assert island.stop() == 0
    assert "Traceback" not in boat.log + island.log
    assert boat.status()["running"] is False


Alter = Callable[[Path], None]


def flip(file: Path) -> None:
    """Change the last byte of a file."""
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))


def truncate(file: Path) -> None:
    """Cut a file in half."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Path]]:
    """An export with a delivered package, by a device of the world."""
    with World(tmp_path_factory.mktemp("verify")) as world:
        receiver = world.box("receiver", "receiver")
        receiver.start()
        island = world.box("island", "operator", tps=[TPS], receivers=[receiver])
        island.submit(world.photo(200_000), tps=TPS, form=FORM, tally={"voters": 340})
        island.start()
        holds(island, ("delivered", 0))
        island.export(world.folder / "stick")
        yield world, world.folder / "stick"


def verified(world: World, path: Path) -> Outcome:
    """`relay verify --json`."""
    box = NodeBox(world.folder / "nobody")
    return box.host.run([*RELAY, "verify", "--json", "--root", world.election.root, path], check=False)


def test_verify_says_what_an_export_proves(exported: tuple[World, Path]) -> None:
    world, stick = exported
    done = verified(world, stick)
    assert (done.status, done.json()["wrong"], done.json()["missing"]) == (0, [], [])
    proved = " ".join(done.json()["proved"])
    for words in (TPS, FORM, "signed by island", "200000 bytes", "entry 0 of the public log"):
        assert words in proved
    for file in [file for file in stick.rglob("*") if file.is_file() and "checkpoints" not in file.parts]:
        assert verified(world, file).status == 0, file


@pytest.mark.parametrize("alter", [flip, truncate])
@pytest.mark.parametrize("folder", ["statements", "receipts", "objects", "notices"])
def test_verify_finds_what_was_altered(exported: tuple[World, Path], tmp_path: Path, folder: str, alter: Alter) -> None:
    world, stick = exported
    copy = shutil.copytree(stick, tmp_path / "stick")
    file = next(iter(sorted((copy / folder).iterdir())))
    alter(file)
    for path in (copy, file):
        done = verified(world, path)
        assert done.status == 1
        assert file.name in " ".join(done.json()["wrong"])
        assert done.stderr == ""


def test_verify_shows_names_on_a_stick_as_a_terminal_takes_them(exported: tuple[World, Path], tmp_path: Path) -> None:
    """A name may be no UTF-8, or move the cursor over what was said before."""
    world, stick = exported
    copy = shutil.copytree(stick, tmp_path / "stick")
    for name in (b"\xff.cose", b"\x1b[2J\x1b[1;1Hok.cose"):
        Path(os.fsdecode(os.fsencode(copy / "statements") + b"/" + name)).write_bytes(b"nothing")
    done = NodeBox(world.folder / "nobody").host.run(
        [*RELAY, "verify", "--root", world.election.root, copy], check=False
    )
    assert (done.status, done.stderr) == (1, "")
    assert b"2 wrong" in done.stdout
    assert b"\x1b" not in done.stdout


def test_an_exports_objects_are_named_by_their_hashes(exported: tuple[World, Path]) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum: apt-get install coreutils")
    files = sorted((exported[1] / "objects").iterdir())
    said = subprocess.run(["sha256sum", *files], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in said.splitlines()] == [file.name for file in files]
    assert files
