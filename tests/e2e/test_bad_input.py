"""Bad input gets a named error and changes nothing (promise 10): exit status 1, a sentence, advice, no traceback."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boxes import RELAY, Election, NodeBox, free_port
from tests.e2e.world import FORM, OTHER_TPS, REGISTER, TPS, World
from tests.processes import Outcome, Place

GOOD_TALLY = '{"voters": 340, "votes": {"1": 180, "2": 150}, "valid": 330, "invalid": 10}'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("bad-input")) as world:
        yield world


@pytest.fixture(scope="module")
def island(world: World) -> NodeBox:
    return world.box("island", "operator", tps=[TPS])


@pytest.fixture(scope="module")
def photo(world: World) -> Path:
    return world.photo(20_000)


def refused(outcome: Outcome, *words: str, status: int = 1) -> None:
    """Assert that a command failed in words."""
    assert outcome.status == status, outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stdout == b""
    for word in words:
        assert word in outcome.stderr, outcome.stderr


def submit(box: NodeBox, *arguments: str | Path, tps: str = TPS, form: str = FORM) -> Outcome:
    """Try to submit."""
    return box.relay("submit", "--tps", tps, "--form", form, *arguments, check=False)


@pytest.mark.parametrize(
    ("tps", "form", "words"),
    [
        ("999", FORM, "not in the register"),
        (OTHER_TPS, FORM, "not one of this device's"),
        (TPS, "C-HASIL-PRESIDEN", "not of this election"),
    ],
)
def test_an_unknown_station_or_form(island: NodeBox, photo: Path, tps: str, form: str, words: str) -> None:
    refused(submit(island, photo, tps=tps, form=form), words)
    assert island.list() == []


@pytest.mark.parametrize("kind", ["absent", "folder", "empty", "huge", "pipe", "dangling"])
def test_an_unusable_file(island: NodeBox, world: World, kind: str) -> None:
    path = world.folder / f"{kind}.jpg"
    match kind:
        case "folder":
            path.mkdir()
        case "empty":
            path.touch()
        case "huge":
            path.touch()
            os.truncate(path, 10 << 30)
        case "pipe":
            os.mkfifo(path)
        case "dangling":
            path.symlink_to(world.folder / "nowhere")
    refused(submit(island, path), path.name)
    assert island.list() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("three hundred", "not JSON"),
        ("[1, 2]", "not a map"),
        ('{"valid": 1.5}', "valid"),
        ('{"valid": true}', "valid"),
        ('{"valid": 1, "valid": 2}', "twice"),
        ('{"valdi": 1}', "valdi"),
        ('{"votes": {"1": "many"}}', "votes of pair 1"),
        ('{"valid": 1e99}', "valid"),
        ("[" * 30_000, "not JSON"),
        ("{}", "tally.json"),
    ],
)
def test_a_tally_that_is_none(island: NodeBox, world: World, photo: Path, text: str, words: str) -> None:
    tally = world.folder / "tally.json"
    tally.write_text(text)
    refused(submit(island, "--tally", tally, photo), words)
    assert island.list() == []


def test_a_tally_that_does_not_add_up_is_a_warning_and_no_refusal(world: World, photo: Path) -> None:
    box = world.box("warned", "operator", tps=[TPS])
    tally = world.folder / "wrong.json"
    tally.write_text(GOOD_TALLY.replace("330", "331"))
    done = submit(box, "--tally", tally, photo)
    assert done.status == 0
    assert "valid-is-not-sum-of-votes" in done.stderr
    assert "valid-is-not-sum-of-votes" in box.list()[0]["flags"]


def duplicated(text: str) -> str:
    """A register with one row twice."""
    return text + text.splitlines()[-1] + "\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (duplicated, "Line 194"),
        (lambda text: text.replace(",yes", ",maybe", 1), "Line 2"),
        (lambda text: text.replace(",346,", ",many,", 1), "Line 2"),
        (lambda text: text.replace("village", "town", 1), "village"),
        (lambda text: text.splitlines()[0] + "\n", "no polling station"),
        (lambda text: text + "1,2,3\n", "Line 194"),
        (lambda text: text + "," * 50_000 + "\n", "Line 194"),
        (lambda text: text.replace("1906", "19/6", 1), "Line 2"),
        (lambda text: "", "lacks the columns"),
    ],
)
def test_a_bad_register_makes_no_election(
    world: World, tmp_path: Path, change: Callable[[str], str], words: str
) -> None:
    register = tmp_path / "register.csv"
    register.write_text(change(REGISTER.read_text()))
    office = tmp_path / "office"
    done = world.election.authority("init", office, "--election", "bad", "--register", register, check=False)
    refused(done, words)
    assert not office.exists()


def test_a_register_that_is_not_text(world: World, tmp_path: Path) -> None:
    register = tmp_path / "register.csv"
    register.write_bytes(b"\xff\xfe\x00" * 100)
    done = world.election.authority("init", tmp_path / "o", "--election", "bad", "--register", register, check=False)
    refused(done, "UTF-8")


def test_a_wrong_passphrase_changes_nothing(world: World, island: NodeBox, tmp_path: Path) -> None:
    before = (world.folder / "office" / "nodes.db").read_bytes()
    place = Place("office-guess", tmp_path / "guess")
    command: list[str | Path] = [
        *RELAY,
        "authority",
        "revoke",
        world.folder / "office",
        "island",
        "--reason",
        "x",
        "-o",
        tmp_path / "r",
    ]
    refused(place.run(command, env={"RELAY_PASSPHRASE": "wrong"}, check=False), "passphrase")
    assert (world.folder / "office" / "nodes.db").read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "twice", "empty", "binary"])
def test_a_damaged_enrolment_installs_nothing(world: World, tmp_path: Path, damage: str) -> None:
    box = NodeBox(tmp_path / "node")
    good = world.election.enrol(box.init(f"damaged-{damage}"), "carrier").read_bytes()
    middle = len(good) // 3
    text = {
        "cut": good[:middle],
        "flipped": good[:middle] + (b"A" if good[middle : middle + 1] != b"A" else b"B") + good[middle + 1 :],
        "twice": good + good,
        "empty": b"",
        "binary": os.urandom(2_000),
    }[damage]
    file = tmp_path / "enrolment.pem"
    file.write_bytes(text)
    refused(box.relay("join", file, check=False), "relay: ")
    assert not (box.home / "certificate.pem").exists()
    box.join(_written(tmp_path / "good.pem", good))
    box.close()


def test_an_enrolment_of_another_device_or_election(world: World, island: NodeBox, tmp_path: Path) -> None:
    before = (island.home / "certificate.pem").read_bytes()
    other = NodeBox(tmp_path / "other")
    enrolment = world.election.enrol(other.init("other-device"), "carrier")
    refused(island.relay("join", enrolment, check=False), "another device")
    foreign = Election(tmp_path / "foreign", REGISTER, election="foreign-2024")
    refused(
        island.relay("join", foreign.enrol(island.home / "request.pem", "carrier"), check=False), "another election"
    )
    assert (island.home / "certificate.pem").read_bytes() == before
    other.close()


def test_a_second_daemon_on_the_same_folder(world: World) -> None:
    box = world.box("doubled", "carrier")
    box.start()
    refused(box.relay("run", check=False), "Another daemon runs")
    assert box.stop() == 0


def test_a_port_that_is_taken(world: World) -> None:
    box = world.box("crowded", "carrier")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        box.config(listen=f"127.0.0.1:{port}", console=f"127.0.0.1:{free_port()}", discovery=False)
        done = box.relay("run", check=False)
        refused(done, f"listen = 127.0.0.1:{port} is taken")
        assert "never awaited" not in done.stderr
        box.config(listen=f"127.0.0.1:{free_port()}", console=f"127.0.0.1:{port}", discovery=False)
        refused(box.relay("run", check=False), f"console = 127.0.0.1:{port} is taken")


def test_a_phone_is_paired_while_the_daemon_runs(island: NodeBox) -> None:
    refused(island.relay("pair", check=False), "The daemon does not run", "Start it")
    island.start()
    try:
        for address in ("a b/c", "https://island", "", "::1]"):
            refused(island.relay("pair", "--address", address, check=False), "is no address")
        for address in ("island.local", "192.0.2.1", "fe80::1"):
            assert island.relay("pair", "--json", "--address", address).json()["links"]
    finally:
        island.stop()


def test_an_id_is_named_by_its_first_digits(world: World, photo: Path) -> None:
    box = world.box("prefixed", "operator", tps=[TPS])
    name = box.submit(photo, tps=TPS, form=FORM)
    second = submit(box, "--supersedes", name[:8], "--reason", "retyped", photo)
    assert second.status == 0
    refused(submit(box, "--supersedes", "0000000", "--reason", "x", photo), "begins with 0000000", "relay list")
    assert submit(box, "--supersedes", "xyz", photo).status == 2
    assert box.relay("cat", box.list()[0]["objects"][0]["sha256"][:6]).stdout == photo.read_bytes()


def test_an_address_of_a_log_that_is_none(world: World) -> None:
    place = Place("auditor", world.folder / "auditor")
    command: list[str | Path] = [*RELAY, "audit", "http://[::1/", "--root", world.election.root]
    done = place.run(command, check=False)
    assert done.status == 2, "the command is wrong, and no log"
    refused(done, "no place of a log", status=2)


def test_an_export_of_another_election_is_told_in_one_line(world: World, island: NodeBox, tmp_path: Path) -> None:
    other = Election(tmp_path / "other", REGISTER, election="other-2024")
    with NodeBox(tmp_path / "theirs") as theirs:
        other.admit(theirs, "carrier")
        theirs.export(tmp_path / "stick")
    place = Place("stranger", tmp_path / "stranger")
    done = place.run([*RELAY, "verify", "--root", world.election.root, tmp_path / "stick"], check=False)
    refused(done, "another election than", "root.pem of its own")
    done = island.relay("import", tmp_path / "stick", check=False)
    assert done.status == 1
    assert "All of this is of another election" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lisen = 1", "lisen"),
        ('listen = "nowhere"', "listen"),
        ('listen = "[::]:99999"', "listen"),
        ('discovery = "yes"', "discovery"),
        ("peers = [1]", "peers"),
        ('receivers = ["http://plain"]', "receivers"),
        ('storage_limit = "lots"', "storage_limit"),
        ("retention = -1", "retention"),
        ("= = =", "not TOML"),
    ],
)
def test_a_wrong_setting_is_named(world: World, text: str, words: str) -> None:
    box = NodeBox(world.folder / "island")
    config = box.home / "config.toml"
    before = config.read_bytes() if config.exists() else b""
    config.write_text(text)
    try:
        refused(box.relay("run", check=False), words)
    finally:
        config.write_bytes(before)


def test_a_store_of_a_newer_version_is_refused_and_not_touched(world: World) -> None:
    box = world.box("newer", "carrier")
    catalogue = box.home / "store" / "catalogue.db"
    with sqlite3.connect(catalogue) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = catalogue.read_bytes()
    refused(box.relay("list", check=False), "newer")
    assert catalogue.read_bytes() == before


def test_a_damaged_catalogue_is_named(world: World) -> None:
    box = world.box("broken", "carrier")
    (box.home / "store" / "catalogue.db").write_bytes(os.urandom(20_000))
    refused(box.relay("list", check=False), "damaged")


def test_a_full_disk_keeps_nothing_half(world: World, photo: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("mounting a small disk needs root: run the tests as root")
    box = world.box("small-disk", "operator", tps=[TPS])
    big = world.photo(6_000_000, "big.jpg")
    (box.home / "store" / "ballast").unlink()
    script = 'mount -t tmpfs -o size=4m none "$1" && cp -a "$2"/. "$1" && shift 2 && exec "$@"'
    disk = world.folder / "disk"
    disk.mkdir()
    command: list[str | Path] = ["unshare", "--mount", "sh", "-c", script, "sh", disk, box.home]
    submitting: list[str | Path] = [*RELAY, "submit", "--home", disk, "--tps", TPS, "--form", FORM, big]
    refused(box.host.run([*command, *submitting], env=box._environment(), check=False), "disk is full")
    both = f"{' '.join(map(str, submitting))} 2>/dev/null; {' '.join(map(str, RELAY))} list --json --home {disk}"
    done = box.host.run([*command, "sh", "-c", both], env=box._environment())
    assert done.json() == []


def test_rubbish_on_a_stick_is_named_and_the_rest_is_taken(world: World, photo: Path, tmp_path: Path) -> None:
    giver = world.box("giver", "operator", tps=[TPS])
    giver.relay("submit", "--tps", TPS, "--form", FORM, photo)
    stick = tmp_path / "stick"
    giver.export(stick)
    (statement,) = (stick / "statements").iterdir()
    (content,) = (stick / "objects").iterdir()
    raw = bytearray(statement.read_bytes())
    raw[-1] ^= 1
    (stick / "statements" / f"{'0' * 64}.cose").write_bytes(bytes(raw))
    (stick / "statements" / "note.cose").write_bytes(b"")
    (stick / "statements" / "long.cose").write_bytes(bytes(200_000))
    (stick / "statements" / "link.cose").symlink_to("/etc/hostname")
    os.mkfifo(stick / "statements" / "pipe.cose")
    content.write_bytes(content.read_bytes()[:-1] + b"!")
    (stick / "statements" / "folder.cose").mkdir()
    (stick / "receipts").mkdir(exist_ok=True)
    (stick / "receipts" / statement.name).write_bytes(statement.read_bytes())
    (stick / "objects" / "passwd").symlink_to("/etc/passwd")
    (stick / "objects" / ("ab" * 32)).write_bytes(bytes(100_000))
    os.mkfifo(stick / "objects" / ("cd" * 32))
    taker = world.box("taker", "carrier")
    done = taker.relay("import", stick, check=False)
    assert done.status == 1
    assert "Traceback" not in done.stderr
    names = ("0000", "note.cose", "long.cose", "link.cose", "pipe.cose", "folder.cose", f"receipts/{statement.name}")
    for name in (*names, f"objects/{content.name}"):
        assert name in done.stderr
    (bundle,) = taker.list()
    assert (bundle["state"], bundle["bytes_held"]) == ("partial", 0)
    kept = [file for file in (taker.home / "store").rglob("*") if file.is_file() and file.name != "ballast"]
    kept = [file for file in kept if "catalogue" not in file.name]
    assert sum(file.stat().st_size for file in kept) < 100_000, "nothing that no statement names was kept"
    verified = taker.host.run([*RELAY, "verify", "--root", world.election.root, stick], check=False)
    assert verified.status == 1
    assert "WRONG" in verified.text


def test_objects_on_a_stick_that_are_no_plain_files_are_not_taken(world: World, tmp_path: Path) -> None:
    giver, taker = world.box("careless", "operator", tps=[TPS]), world.box("careful", "carrier")
    photos = [world.photo(20_000, f"{number}.jpg") for number in range(3)]
    giver.relay("submit", "--tps", TPS, "--form", FORM, *photos)
    giver.export(tmp_path / "stick")
    pipe, folder, link = (tmp_path / "stick" / "objects").iterdir()
    for file in (pipe, folder):
        file.unlink()
    os.mkfifo(pipe)
    folder.mkdir()
    link.symlink_to(link.rename(tmp_path / "elsewhere"))
    taker.relay("import", tmp_path / "stick", check=False)
    assert [(one["state"], one["bytes_held"]) for one in taker.list()] == [("partial", 0)]


def test_a_folder_that_is_no_export(island: NodeBox, tmp_path: Path) -> None:
    refused(island.relay("import", tmp_path, check=False), "no export")
    island.export(tmp_path / "usb" / "pulau")
    refused(island.relay("import", tmp_path / "usb", check=False), f"in {tmp_path}/usb/pulau: give that folder")
    (tmp_path / "list.txt").write_text("TPS 1\n")
    for file in (tmp_path / "list.txt", next((tmp_path / "usb" / "pulau" / "notices").iterdir())):
        refused(island.relay("import", file, check=False), "no stick folder, no enrolment and no notice")


def test_an_object_that_is_not_here(island: NodeBox) -> None:
    refused(island.relay("cat", "ab" * 32, check=False), "not complete on this node")


def test_usage_errors_exit_with_2(island: NodeBox) -> None:
    assert island.relay("cat", "zz", check=False).status == 2
    assert island.relay("submit", check=False).status == 2
    assert island.relay("frobnicate", check=False).status == 2


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
