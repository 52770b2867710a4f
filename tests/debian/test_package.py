"""The Debian package, on a clean Debian: installed, used, upgraded, removed and purged.

What is held on the way: an upgrade loses no byte; removal keeps every folder; a purge deletes what was delivered and
nothing else (promise 4), and then leaves no file and no user behind.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.boxes import PASSPHRASE, free_port
from tests.debian.root import Refused, Root, why_not
from tests.processes import eventually

SOURCE = Path(__file__).parents[2]
REGISTER = SOURCE / "relay" / "cli" / "demo" / "data" / "register.csv"
TPS, FORM = "1906022011006", "C-HASIL-KWK-BUPATI"
ISLAND, RECEIVER = "/var/lib/relay", "/var/lib/relay-receiver"
PHOTO = b"\xff\xd8\xff" + bytes(range(256)) * 4_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


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
def newer(package: Path) -> Path:
    """The same package under a higher version."""
    tree = package.parent / "newer"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^(Version: .*)$", r"\1+next", control.read_text()))
    target = package.with_name("newer.deb")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-b", tree, target], check=True, capture_output=True)
    shutil.rmtree(tree)
    return target


@pytest.fixture(scope="module")
def root(package: Path, newer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """A clean Debian that holds both files, and nothing of relay."""
    root = Root(tmp_path_factory.mktemp("debian") / "root")
    try:
        try:
            root.make()
        except Refused as error:
            if "Failed getting release file" in str(error):
                pytest.skip("no Debian mirror answers; with one: python -m pytest tests/debian")
            raise
        shutil.copy(package, root.path("/tmp/relay.deb"))
        shutil.copy(newer, root.path("/tmp/newer.deb"))
        shutil.copy(REGISTER, root.path("/tmp/register.csv"))
        yield root
    finally:
        root.remove()


def test_installed_used_upgraded_removed_and_purged(root: Root) -> None:
    clean = root.files()
    said = root.run("dpkg", "-i", "/tmp/relay.deb")
    assert "warning" not in said.lower(), said
    check_installed(root)
    make_election(root)
    submit(root)
    held = content(root)
    assert "waiting" in root.relay("list", ISLAND)

    said = root.run("dpkg", "-i", "/tmp/newer.deb")
    assert "warning" not in said.lower(), said
    assert "+next" in root.run("dpkg-query", "-W", "relay-daemon")
    assert content(root) == held, "an upgrade loses and changes nothing"
    root.relay("list", ISLAND)  # and the newer version opens what the older one wrote

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
