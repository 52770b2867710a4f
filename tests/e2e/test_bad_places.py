"""Folders, disks and files that are not as they should be: each a named error, nothing changed, the daemon unharmed."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boxes import RELAY, Election, NodeBox
from tests.e2e.world import FORM, REGISTER, TPS, World
from tests.processes import Outcome, Place, Process, eventually

needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nsenter") is None, reason="mounting a small disk needs root: run as root"
)
ON_SMALL_DISK = 'mount -t tmpfs -o size="$1" none "$2" && cp -a "$3"/. "$2" && shift 3 && exec "$@"'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("bad-places")) as world:
        yield world


@pytest.fixture(scope="module")
def island(world: World) -> NodeBox:
    """An operator's box with a package of 3 MB."""
    box = world.box("island", "operator", tps=[TPS])
    box.submit(world.photo(3_000_000), tps=TPS, form=FORM)
    return box


def refused(outcome: Outcome, *words: str) -> None:
    """Assert that a command failed in words."""
    assert (outcome.status, outcome.stdout) == (1, b""), outcome.stderr
    assert "Traceback" not in outcome.stderr
    for word in words:
        assert word in outcome.stderr, outcome.stderr


def files_of(folder: Path) -> dict[str, bytes]:
    """What a folder holds, but for locks and the database's own scratch files."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.endswith((".lock", "-wal", "-shm"))
    }


# -- a node's folder


def emptied(file: Path) -> None:
    """Nothing is left of a file."""
    file.write_bytes(b"")


def garbled(file: Path) -> None:
    """Another byte in the middle of the Base64."""
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] = ord("A") if raw[len(raw) // 2] != ord("A") else ord("B")
    file.write_bytes(bytes(raw))


def a_folder(file: Path) -> None:
    """A folder where a file should be."""
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [emptied, garbled, a_folder])
@pytest.mark.parametrize("name", ["key.pem", "certificate.pem", "root.pem"])
def test_a_damaged_file_of_the_node_is_named(
    world: World, tmp_path: Path, island: NodeBox, name: str, damage: Callable[[Path], None]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for file in ("key.pem", "certificate.pem", "root.pem"):
        shutil.copy(island.home / file, home)
    damage(home / name)
    with NodeBox(home) as box:
        advice = "relay join" if name != "key.pem" and damage is not a_folder else ""
        refused(box.relay("list", check=False), "relay: ", advice)
        assert not (home / "store").exists()


def test_a_node_that_has_not_joined_says_what_to_do(tmp_path: Path) -> None:
    with NodeBox(tmp_path / "nobody") as nobody:
        for command in ("list", "run", "status"):
            refused(nobody.relay(command, check=False), "There is no node", "relay init")
        assert not nobody.home.exists()
        nobody.init("nobody")
        for command in ("list", "run", "status"):
            refused(nobody.relay(command, check=False), "has not joined", "relay join")
        before = files_of(nobody.home)
        refused(nobody.relay("init", "--name", "again", check=False), "is a node already")
        assert files_of(nobody.home) == before


def test_a_home_that_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "home"
    file.write_bytes(b"")
    with NodeBox(file) as box:
        refused(box.relay("init", "--name", "n", check=False), str(file))
        refused(box.relay("list", check=False), str(file))


# -- a store that was lost


def emptied_catalogue(home: Path) -> None:
    """What a power cut leaves of a file on some cards."""
    emptied(home / "store" / "catalogue.db")


def lost_store(home: Path) -> None:
    """Somebody made room."""
    shutil.rmtree(home / "store")


def lost_log(home: Path) -> None:
    """The catalogue was copied without what was still beside it: an empty database, well-formed."""
    emptied_catalogue(home)
    with sqlite3.connect(home / "store" / "catalogue.db") as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE x (y)")
        database.execute("DROP TABLE x")
    database.close()


def lost_catalogue_and_mark(home: Path) -> None:
    """The objects tell that there was one."""
    (home / "store" / "catalogue.db").unlink()
    (home / "store-made").unlink()


@pytest.mark.parametrize("lose", [emptied_catalogue, lost_store, lost_log, lost_catalogue_and_mark])
def test_a_store_that_is_lost_is_not_begun_anew_under_the_same_key(
    world: World, island: NodeBox, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    home = shutil.copytree(island.home, tmp_path / "home")
    lose(home)
    before = files_of(home)
    photo = world.photo(1_000, "again.jpg")
    with NodeBox(home) as box:
        for command in (["submit", "--tps", TPS, "--form", FORM, "--anyway", photo], ["list"], ["run"], ["status"]):
            refused(box.relay(*command, check=False), "catalogue", "enrol under a new name")
    assert files_of(home) == before


def test_a_node_is_marked_before_it_signs_and_a_receiver_by_what_it_published(world: World, tmp_path: Path) -> None:
    box = world.box("marked", "operator", tps=[TPS])
    assert (box.home / "store-made").exists(), "joining made the store"
    receiver = world.box("forgetful", "receiver")
    (receiver.home / "public").mkdir(exist_ok=True)
    (receiver.home / "public" / "checkpoint").write_bytes(b"signed")
    (receiver.home / "store-made").unlink()
    shutil.rmtree(receiver.home / "store")
    refused(receiver.relay("run", check=False), "catalogue")


# -- a disk that can only be read

READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


def on_read_only_disk(box: NodeBox, *command: str | Path) -> Outcome:
    """Run a command of relay on a box whose disk can only be read, as a card that fails becomes."""
    name, *rest = command
    prefix: list[str | Path] = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", box.home]
    return box.host.run([*prefix, *RELAY, name, "--home", box.home, *rest], env=box._environment(), check=False)


@needs_mounts
@pytest.mark.parametrize("cut", [False, True])
def test_what_is_on_a_disk_that_can_only_be_read_can_be_brought_away(world: World, tmp_path: Path, cut: bool) -> None:
    box = world.box(f"failing-{cut}", "operator", tps=[TPS])
    photo = world.photo(30_000)
    name = box.submit(photo, tps=TPS, form=FORM)
    if cut:  # the power went while the daemon had the catalogue open
        box.start()
        box.submit(world.photo(20_000, "second.jpg"), tps=TPS, form=FORM)
        box.kill()
    before = files_of(box.home)
    listed = on_read_only_disk(box, "list", "--json")
    names = [one["id"] for one in listed.json()]
    assert name in names and len(names) == 1 + cut
    digest = hashlib.sha256(photo.read_bytes()).hexdigest()
    assert on_read_only_disk(box, "cat", digest[:8]).stdout == photo.read_bytes()
    assert on_read_only_disk(box, "status", "--json").json()["counts"]["waiting"] == 1 + cut
    assert on_read_only_disk(box, "export", tmp_path / "stick").status == 0
    assert (tmp_path / "stick" / "objects" / digest).read_bytes() == photo.read_bytes()
    checked = on_read_only_disk(box, "doctor", "--json").json()
    assert any(one["level"] == "wrong" and "read-only" in one["what"] for one in checked)
    for command in (["submit", "--tps", TPS, "--form", FORM, "--anyway", photo], ["run"]):
        refused(on_read_only_disk(box, *command), "read-only", "relay export")
    assert files_of(box.home) == before


# -- the office


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--role", "operator", "--tps", "999"], "999"),
        (["--role", "operator"], "--tps"),
        (["--role", "carrier", "--tps", TPS], "polling stations do not fit"),
        (["--role", "receiver", "--url", "http://receiver.example"], "https"),
    ],
)
def test_an_enrolment_that_makes_no_sense_changes_nothing(
    world: World, tmp_path: Path, options: list[str], words: str
) -> None:
    with NodeBox(tmp_path / "fresh") as box:
        request = box.init(f"fresh-{len(options)}-{options[1]}")
    before = files_of(world.election.folder)
    done = world.election.authority(
        "enrol", world.election.folder, request, *options, "-o", tmp_path / "out", check=False
    )
    refused(done, words)
    assert files_of(world.election.folder) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["nowhere/x.pem", "", "file/x.pem"])
def test_nothing_is_decided_that_cannot_be_told(world: World, tmp_path: Path, place: str) -> None:
    """An office that enrols or revokes without writing the file would have to be asked what it did."""
    (tmp_path / "file").write_bytes(b"")
    with NodeBox(tmp_path / "fresh") as box:
        request = box.init("fresh")
    office, out = world.election.folder, tmp_path / place
    before = files_of(office)
    for command in (("enrol", office, request, "--role", "carrier"), ("revoke", office, "island", "--reason", "x")):
        refused(world.election.authority(*command, "-o", out, check=False), "Nothing was changed", "-o")
    assert files_of(office) == before


def test_a_revocation_can_be_written_again_and_a_folder_of_a_node_is_no_office(
    world: World, island: NodeBox, tmp_path: Path
) -> None:
    box = world.box("revoked-twice", "carrier")
    world.election.revoke("revoked-twice")
    again = ("revoke", world.election.folder, "revoked-twice", "--reason", "x", "-o", tmp_path / "x")
    refused(world.election.authority(*again, check=False), "revoked already", "relay authority notices")
    wrong = ("enrol", island.home, box.home / "request.pem", "--role", "carrier", "-o", tmp_path / "x")
    refused(world.election.authority(*wrong, check=False), "is a node", "office")


def test_the_passphrase_is_asked_for_on_a_terminal_only(world: World, tmp_path: Path) -> None:
    command: list[str | Path] = [*RELAY, "authority", "revoke", world.election.folder, "island", "--reason", "x", "-o"]
    place = Place("office-pipe", tmp_path / "pipe")
    refused(place.run([*command, tmp_path / "r"], check=False), "RELAY_PASSPHRASE")


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 500, b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_a_damaged_request_is_named(world: World, tmp_path: Path, content: bytes) -> None:
    request = tmp_path / "request.pem"
    request.write_bytes(content)
    before = files_of(world.election.folder)
    options = ("--role", "carrier", "-o", tmp_path / "out")
    refused(world.election.authority("enrol", world.election.folder, request, *options, check=False), "request")
    assert files_of(world.election.folder) == before


def test_an_office_is_not_made_twice_and_revokes_nobody_unknown(world: World, tmp_path: Path) -> None:
    before = files_of(world.election.folder)
    again = ("init", world.election.folder, "--election", "again", "--register", REGISTER)
    refused(world.election.authority(*again, check=False), "an election already")
    unknown = ("revoke", world.election.folder, "nobody", "--reason", "x", "-o", tmp_path / "out")
    refused(world.election.authority(*unknown, check=False), "nobody")
    assert files_of(world.election.folder) == before


@pytest.mark.parametrize("command", ["register", "request", "enrolment", "tally", "config", "import", "verify"])
def test_a_file_of_ten_gigabytes_is_refused_at_once(
    world: World, island: NodeBox, tmp_path: Path, command: str
) -> None:
    huge = tmp_path / "huge"
    huge.touch()
    os.truncate(huge, 10 << 30)
    office, out = world.election.folder, tmp_path / "out"
    match command:
        case "register":
            done = world.election.authority("init", out, "--election", "x", "--register", huge, check=False)
        case "request":
            done = world.election.authority("enrol", office, huge, "--role", "carrier", "-o", out, check=False)
        case "enrolment":
            done = island.relay("join", huge, check=False)
        case "tally":
            done = island.relay("submit", "--tps", TPS, "--form", FORM, "--tally", huge, check=False)
        case "config":
            box = world.box("wordy", "carrier")
            (box.home / "config.toml").unlink()
            (box.home / "config.toml").symlink_to(huge)
            done = box.relay("run", check=False)
        case "import":
            done = island.relay("import", huge, check=False)
        case _:
            done = island.host.run([*RELAY, "verify", "--root", huge, island.home / "root.pem"], check=False)
    refused(done, "relay: ")
    assert not out.exists()


# -- notices by hand


def test_a_revocation_of_another_election_or_damaged_changes_nothing(
    world: World, island: NodeBox, tmp_path: Path
) -> None:
    other = Election(tmp_path / "office", REGISTER, election="other-2024")
    with NodeBox(tmp_path / "their-boat") as theirs:
        other.admit(theirs, "carrier", name="island")
    good = world.box("to-revoke", "carrier")
    notice = world.election.revoke(good.home.name).read_bytes()
    cut = tmp_path / "cut.pem"
    cut.write_bytes(notice[: -len(notice) // 8])
    for file in (other.revoke("island"), cut):
        for command in ("import", "join"):
            done = island.relay(command, file, check=False)
            assert done.status == 1, (command, file)
            assert "Traceback" not in done.stderr
    assert island.status()["revoked"] == []


# -- disks


def on_small_disk(box: NodeBox, size: str, place: Path, copied: Path, *command: str | Path) -> Process:
    """Start a command that finds, at `place`, a copy of a folder on a disk of this size: only it sees that disk."""
    place.mkdir()
    (copied / "store" / "ballast").unlink(missing_ok=True)  # which there is no room for
    prefix: list[str | Path] = ["unshare", "--mount", "sh", "-c", ON_SMALL_DISK, "sh", size, place, copied]
    return box.host.popen([*prefix, *command], env=box._environment(), name="on-small-disk")


@needs_mounts
def test_a_stick_that_is_full_holds_nothing_half_and_goes_on_when_there_is_room(
    world: World, island: NodeBox, tmp_path: Path
) -> None:
    empty, stick, copy = tmp_path / "empty", tmp_path / "stick", tmp_path / "copy"
    empty.mkdir()
    script = 'shift; "$@" --home "$HOME_FOLDER" "$STICK"; echo "status $?"; cp -a "$STICK" "$COPY"'
    settings = [f"HOME_FOLDER={island.home}", f"STICK={stick}", f"COPY={copy}"]
    export = on_small_disk(
        island, "1m", stick, empty, "env", *settings, "sh", "-c", script, "sh", "-", *RELAY, "export"
    )
    assert export.wait(30) == 0
    assert "status 1" in export.output
    assert "full" in export.output
    assert "Traceback" not in export.output
    assert [file.name for file in (copy / "objects").iterdir() if not _is_what_it_says(file)] == []
    island.export(copy)
    assert len(list((copy / "objects").iterdir())) == 1
    assert all(_is_what_it_says(file) for file in (copy / "objects").iterdir())
    with NodeBox(tmp_path / "taker") as taker:
        world.election.admit(taker, "carrier")
        taker.import_(copy)
        assert [one["state"] for one in taker.list()] == ["waiting"]


@needs_mounts
@pytest.mark.parametrize("size", ["400k", "8m"])
def test_a_daemon_whose_disk_is_full_goes_on(world: World, island: NodeBox, tmp_path: Path, size: str) -> None:
    island.start()
    try:
        boat = world.box(f"boat-{size}", "carrier", peers=[world.ports["island"]])
        boat.relay("list")
        disk = tmp_path / "disk"
        daemon = on_small_disk(boat, size, disk, boat.home, *RELAY, "run", "--home", disk)

        def listed() -> list[dict[str, object]] | None:
            inside: list[str | Path] = [
                "nsenter",
                "-t",
                str(daemon.pid),
                "-m",
                *RELAY,
                "list",
                "--json",
                "--home",
                disk,
            ]
            done = boat.host.run(inside, env=boat._environment(), check=False)
            assert "Traceback" not in done.stderr
            return done.json() if done.status == 0 else None

        def tried() -> bool:
            return (island.home.exists() and "island" in daemon.output) or bool(listed())

        eventually(tried, 30, "the boat met the island", while_running=[daemon])
        bundles = listed()
        assert all(one["bytes_held"] == 0 for one in bundles or ())
        assert daemon.poll() is None
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.output
    finally:
        island.stop()


def _is_what_it_says(file: Path) -> bool:
    return hashlib.sha256(file.read_bytes()).hexdigest() == file.name
