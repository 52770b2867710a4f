"""The Debian package, on a clean Debian: installed, used, upgraded, removed and purged.

What is held on the way: an upgrade loses no byte, whatever schema the store had; removal keeps every folder; a purge
deletes what was delivered and nothing else (promise 4), and then leaves no file and no user behind.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from relay.store import schema
from tests.boxes import PASSPHRASE, free_port
from tests.debian.root import Refused, Root, why_not
from tests.processes import eventually
from tests.upgrades import DELIVERED, WAITING, check_left, unpack

SOURCE = Path(__file__).parents[2]
REGISTER = SOURCE / "relay" / "cli" / "demo" / "data" / "register.csv"
TPS, FORM = "1906022011006", "C-HASIL-KWK-BUPATI"
LATER = "CREATE TABLE later (id BLOB PRIMARY KEY);\nINSERT INTO later SELECT id FROM records;\n"
ISLAND, RECEIVER = "/var/lib/relay", "/var/lib/relay-receiver"
PHOTO = b"\xff\xd8\xff\xda" + bytes(range(256)) * 4_000 + b"\xff\xd9"

pytestmark = [pytest.mark.slow, pytest.mark.ci, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, as the one command builds it."""
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("package")
    done = subprocess.run(
        [SOURCE / "systemd" / "build-deb", folder], stdout=subprocess.PIPE, text=True, check=False, timeout=600
    )
    assert done.returncode == 0
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def older(package: Path) -> Path:
    """The same package under a lower version."""
    return altered(package, "older", "0.0.1")


@pytest.fixture(scope="module")
def newer(package: Path) -> Path:
    """The package under a higher version, whose store has a schema of its own."""
    return altered(package, "newer", r"\1+next", later_schema)


def altered(package: Path, name: str, version: str, change: Callable[[Path], None] = lambda _tree: None) -> Path:
    """The package under another version, with a change to what is in it."""
    tree = package.parent / name
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^(?:Version: )(.*)$", f"Version: {version}", control.read_text()))
    change(tree)
    target = package.with_name(f"{name}.deb")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, target], check=True, capture_output=True)
    shutil.rmtree(tree)
    return target


def later_schema(tree: Path) -> None:
    """A migration after the last one, compiled as the package's modules are."""
    (module,) = tree.glob("usr/lib/relay/lib/python*/site-packages/relay/store/schema.py")
    known = "VERSION = len(MIGRATIONS)"
    text = module.read_text()
    assert known in text
    module.write_text(text.replace(known, f"MIGRATIONS = (*MIGRATIONS, {LATER!r})\n{known}"))
    compiling = ["/usr/bin/python3", "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*compiling, "-s", tree, "-p", "/", module], check=True)


@pytest.fixture(scope="module")
def root(package: Path, older: Path, newer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """A clean Debian that holds the three files, and nothing of relay."""
    root = Root(tmp_path_factory.mktemp("debian") / "root")
    try:
        try:
            root.make()
        except Refused as error:
            if "Failed getting release file" in str(error):
                pytest.skip("no Debian mirror answers; with one: python -m pytest tests/debian")
            raise
        shutil.copy(package, root.path("/tmp/relay.deb"))
        shutil.copy(older, root.path("/tmp/older.deb"))
        shutil.copy(newer, root.path("/tmp/newer.deb"))
        shutil.copy(REGISTER, root.path("/tmp/register.csv"))
        yield root
    finally:
        root.remove()


def test_installed_used_upgraded_removed_and_purged(root: Root) -> None:
    clean = root.files()
    said = root.run("dpkg", "-i", "/tmp/older.deb")
    assert "warning" not in said.lower(), said
    check_installed(root)
    make_election(root)
    submit(root)
    held = content(root)
    assert "waiting" in root.relay("list", ISLAND)

    said = root.run("dpkg", "-i", "/tmp/relay.deb")
    assert "warning" not in said.lower(), said
    assert root.run("dpkg-query", "-W", "-f", "${Version}", "relay-daemon") != "0.0.1"
    assert content(root) == held, "an upgrade loses and changes nothing"

    root.run("dpkg", "--remove", "relay-daemon")
    assert content(root) == held, "removal keeps everything"
    assert not root.path("/usr/bin/relay").is_symlink()
    assert not root.path("/usr/lib/relay").exists()

    said = root.run("dpkg", "--purge", "relay-daemon")
    assert f"{ISLAND} is kept" in said
    assert f"{RECEIVER} is kept" in said
    assert content(root) == held, "a purge destroys nothing that was not delivered"

    root.run("dpkg", "-i", "/tmp/relay.deb")
    deliver(root)
    said = root.run("dpkg", "--purge", "relay-daemon")
    assert f"{RECEIVER} is kept" in said, "a receiver's log is nowhere else"
    assert not root.path(ISLAND).exists(), "what was delivered may go"
    assert "relay" in root.users(), "somebody has to own what is kept"

    shutil.rmtree(root.path(RECEIVER))
    root.run("dpkg", "-i", "/tmp/relay.deb")
    root.run("dpkg", "--purge", "relay-daemon")
    assert root.files() - clean <= {"etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock"}
    assert "relay" not in root.users()


def test_an_upgrade_brings_a_store_of_the_oldest_schema_along(root: Root, tmp_path: Path) -> None:
    """Of a device as the first version left it: packages, receipt, key, draft, phone; and the daemon answers. From each
    later schema a store goes on in `tests/unit/test_upgrades.py`."""
    root.run("dpkg", "-i", "/tmp/older.deb")
    assert root.run("dpkg-query", "-W", "-f", "${Version}", "relay-daemon") == "0.0.1"
    unpack(1, root.path(ISLAND))
    port = free_port()
    settings = f'listen = "127.0.0.1:{free_port()}"\nconsole = "127.0.0.1:{port}"\ndiscovery = false\n'
    root.path(f"{ISLAND}/config.toml").write_text(settings)
    root.run("chown", "-R", "relay:relay", ISLAND)
    held = content(root)
    objects = {path for path in held if "/objects/" in path}

    said = root.run("dpkg", "-i", "/tmp/newer.deb")
    assert "warning" not in said.lower(), said
    assert content(root) == held
    daemon = root.popen("relay", "run", "--home", ISLAND)
    try:
        url = f"http://127.0.0.1:{port}/status.json"
        status = eventually(lambda: answer(url), 60, "the daemon answers")
        assert status is not None
        assert status["counts"] == {"partial": 0, "waiting": 1, "delivered": 1}
        assert (status["node"], status["running"]) == ("pulau-long", True)
    finally:
        daemon.kill()
        daemon.wait()
    database = sqlite3.connect(root.path(f"{ISLAND}/store/catalogue.db"))
    assert database.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION + 1, "it was brought along"
    database.close()
    kept = content(root)
    assert {path: kept.get(path) for path in objects} == {path: held[path] for path in objects}
    asyncio.run(check_left(copied(root, tmp_path / "home")))

    packages = {one["form"]: one for one in json.loads(root.relay("list", ISLAND, "--json"))}
    assert packages[DELIVERED]["entry"] == 0
    again = root.relay("export", ISLAND, "/tmp/way-out")
    assert "2" in again
    root.path("/tmp/form.jpg").write_bytes(PHOTO)
    root.relay("submit", ISLAND, "--tps", TPS, "--form", WAITING, "--anyway", "/tmp/form.jpg")
    chain = sorted(one["seq"] for one in json.loads(root.relay("list", ISLAND, "--json")))
    assert chain == [1, 2, 3], "its chain goes on"
    root.run("dpkg", "--purge", "relay-daemon")
    shutil.rmtree(root.path(ISLAND))


def copied(root: Root, target: Path) -> Path:
    """A copy of the island's folder, with its store taken back to the schema of this source."""
    shutil.copytree(root.path(ISLAND), target)
    database = sqlite3.connect(target / "store" / "catalogue.db")
    database.executescript(f"DROP TABLE later; PRAGMA user_version = {schema.VERSION}")
    database.close()
    return target


def answer(url: str) -> dict[str, Any] | None:
    """What a daemon says of itself; None while it does not answer."""
    try:
        with urlopen(url, timeout=5) as response:
            said: dict[str, Any] = json.load(response)
            return said
    except OSError:
        return None


def check_installed(root: Root) -> None:
    """The command, the user, the units, the folders, the completion."""
    assert root.run("relay", "--version").startswith("relay, version ")
    assert root.run("getent", "passwd", "relay").split(":")[5:] == [ISLAND, "/usr/sbin/nologin\n"]
    for unit in ("relay.service", "relay-receiver.service"):
        assert root.path(f"/usr/lib/systemd/system/{unit}").is_file()
        assert root.path(f"/etc/systemd/system/multi-user.target.wants/{unit}").is_symlink(), "it starts with the box"
    for folder in (ISLAND, RECEIVER):
        assert root.run("stat", "-c", "%U:%G %a", folder) == "relay:relay 700\n"
    complete = "source /usr/share/bash-completion/completions/relay; COMP_WORDS=(relay sub); COMP_CWORD=1;"
    shown = root.run("bash", "-c", f"{complete} _relay_completion relay; echo ${{COMPREPLY[@]}}")
    assert shown == "submit\n"
    assert root.run("find", "/usr/lib/relay", "-perm", "/022", "-type", "f") == ""
    assert root.run("dpkg", "--verify", "relay-daemon") == ""


def make_election(root: Root) -> None:
    """An island and a receiver of a new election, in the services' own folders."""
    secret = {"RELAY_PASSPHRASE": PASSPHRASE}
    office = ("/tmp/office", "--election", "debian-2024", "--register", "/tmp/register.csv")
    root.run("relay", "authority", "init", *office, env=secret)
    roles = {RECEIVER: ("receiver", "--url", "https://127.0.0.1:8470"), ISLAND: ("operator", "--tps", TPS)}
    for number, (home, role) in enumerate(roles.items()):
        root.relay("init", home, "--name", role[0])
        enrolment = f"/tmp/enrolment-{number}.pem"
        request = f"{home}/request.pem"
        root.run("relay", "authority", "enrol", "/tmp/office", request, "--role", *role, "-o", enrolment, env=secret)
        root.run("chmod", "644", enrolment)
        root.relay("join", home, enrolment)


def submit(root: Root) -> None:
    """One package onto the island's node, and its way to the receiver on a stick."""
    root.path("/tmp/form.jpg").write_bytes(PHOTO)
    root.relay("submit", ISLAND, "--tps", TPS, "--form", FORM, "/tmp/form.jpg")
    root.run("install", "-d", "-o", "relay", "/tmp/stick")
    root.relay("export", ISLAND, "/tmp/stick")
    root.relay("import", RECEIVER, "/tmp/stick")


def deliver(root: Root) -> None:
    """The receiver logs the package; its receipt comes back to the island on the stick."""
    ports = {"listen": free_port(), "console": free_port(), "public": free_port()}
    lines = "".join(f'{key} = "127.0.0.1:{port}"\n' for key, port in ports.items())
    root.path(f"{RECEIVER}/config.toml").write_text(f"{lines}discovery = false\n")
    daemon = root.popen("relay", "run", "--home", RECEIVER)
    try:
        eventually(lambda: state(root, RECEIVER) == "delivered", 60, "the receiver logged the package")
    finally:
        daemon.kill()
        daemon.wait()
    root.relay("export", RECEIVER, "/tmp/stick")
    root.relay("import", ISLAND, "/tmp/stick")
    assert state(root, ISLAND) == "delivered"


def state(root: Root, home: str) -> str:
    """The state of the one package on a node."""
    (bundle,) = json.loads(root.relay("list", home, "--json"))
    return str(bundle["state"])


def content(root: Root) -> dict[str, str]:
    """The hash of every file of both nodes, but for the database's helpers and the package's own note."""
    found: dict[str, str] = {}
    for home in (ISLAND, RECEIVER):
        for file in sorted(root.path(home).rglob("*")):
            if file.is_file() and not file.name.endswith(("-wal", "-shm", ".lock")) and file.name != ".may-be-purged":
                found[str(file.relative_to(root.folder))] = sha256(file.read_bytes()).hexdigest()
    assert any("objects" in name for name in found)
    return found
