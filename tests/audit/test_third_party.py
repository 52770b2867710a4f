"""A third party takes the log as it is: Go's packages for signed notes, transparency logs and certificates, and
another project's for CBOR, over HTTP and from a folder. (Another COSE library: tests/e2e/test_interop.py.)

Needs Debian's `golang-go`, `golang-golang-x-mod-dev` and `golang-github-fxamacker-cbor-dev`; skipped without them.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from relay.log.merkle import leaf_hash, root_from_inclusion
from relay.log.tiles import TileId
from relay.records.receipt import Inclusion
from relay.trust.enrolment import pem_block
from relay.trust.witness import log_key
from relay.web.public import PublicSite
from tests import naive_tree
from tests.audit.published import Published, flipped
from tests.fleet import Fleet, Ship

_SOURCE = Path(__file__).parent / "thirdparty" / "main.go"
_GOPATH = Path("/usr/share/gocode")
_NEEDED = ("golang.org/x/mod/sumdb/tlog", "github.com/fxamacker/cbor")


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, built."""
    go = shutil.which("go")
    if go is None or not all((_GOPATH / "src" / one).is_dir() for one in _NEEDED):
        pytest.skip(
            "Go or what the client needs is missing: "
            "apt-get install golang-go golang-golang-x-mod-dev golang-github-fxamacker-cbor-dev"
        )
    folder = tmp_path_factory.mktemp("client")
    environment = {"GO111MODULE": "off", "GOPATH": str(_GOPATH), "GOCACHE": str(folder / "cache"), "GOFLAGS": "-p=1"}
    command: list[str | Path] = [go, "build", "-o", folder / "client", _SOURCE]
    subprocess.run(command, check=True, env={**os.environ, **environment})
    return folder / "client"


def says(client: Path, log: Published, *older: str, root: str | Path = "-") -> tuple[int, str]:
    """Its exit status, and what it printed."""
    command: list[str | Path] = [client, log_key(log.receiver.identity).vkey, log.folder, root, *older]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_it_takes_the_log_and_its_growth(client: Path, log: Published) -> None:
    size, root = str(len(log.raws)), base64.b64encode(log.root).decode()
    assert says(client, log) == (0, "530 entries\n")
    log.publish([log.say().raw for _ in range(300)])
    assert says(client, log, size, root) == (0, "830 entries\n")
    assert says(client, log, size, base64.b64encode(bytes(32)).decode())[0] == 1


def test_it_refuses_what_the_audit_refuses(client: Path, log: Published) -> None:
    log.alter_bundle(1, lambda raws: [flipped(raws[0]), *raws[1:]])
    assert says(client, log) == (1, "entry 256 is not what the tree says\n")
    log.alter(TileId(0, 0).path, flipped)
    assert says(client, log)[0] == 1
    log.alter("checkpoint", lambda raw: raw.replace(b"\n530\n", b"\n529\n"))
    assert says(client, log)[0] == 1


def test_it_takes_statements_receipts_and_objects(client: Path, log: Published) -> None:
    assert says(client, log, root=log.root_file) == (0, "530 entries\n")
    name = log.device.chain[5].hex()
    whole = (log.folder / f"receipt/{name}").read_bytes()
    log.put(f"receipt/{name}", flipped(whole))
    assert says(client, log, root=log.root_file) == (1, "entry 5: a signature does not hold\n")
    leaves = [leaf_hash(one) for one in log.raws]
    path = (bytes(32), *naive_tree.inclusion(5, leaves)[1:])
    log.put_receipt(log.raws[5], leaves[5], Inclusion(530, 5, path), root_from_inclusion(leaves[5], 5, 530, path))
    assert says(client, log, root=log.root_file)[1].startswith("entry 5: ")  # rightly signed, of another log
    log.put(f"receipt/{name}", (log.folder / f"receipt/{log.device.chain[6].hex()}").read_bytes())
    assert says(client, log, root=log.root_file) == (1, "entry 5: its receipt is another entry's\n")
    log.put(f"receipt/{name}", whole)
    photograph = next(iter(sorted((log.folder / "object").iterdir())))
    log.alter(f"object/{photograph.name}", flipped)
    assert "an object is not what was signed" in says(client, log, root=log.root_file)[1]


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[tuple[Ship, str, Fleet]]:
    """A receiver that logged packages, and the address of its public port."""
    fleet = Fleet(tmp_path)
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    for place in range(5):
        await island.submit(fleet.content(1_000), fleet.content(70_000), form=f"form-{place}")
    await island.visit(receiver)
    app = web.Application()
    app.add_routes(PublicSite(receiver.store, tmp_path / "served").routes())
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield receiver, f"http://127.0.0.1:{runner.addresses[0][1]}", fleet
    finally:
        await runner.cleanup()
        await fleet.close()


async def test_it_takes_all_of_it_from_the_public_port(
    client: Path, receiver: tuple[Ship, str, Fleet], tmp_path: Path
) -> None:
    ship, url, fleet = receiver
    (tmp_path / "root.pem").write_text(pem_block("CERTIFICATE", fleet.election.root))

    async def ask(key: str) -> tuple[int | None, bytes]:
        process = await asyncio.create_subprocess_exec(
            client, key, url, tmp_path / "root.pem", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await process.communicate()
        return process.returncode, said

    assert await ask(log_key(ship.node.identity).vkey) == (0, b"5 entries\n")
    other = fleet.ships[-1]
    assert (await ask(log_key(other.node.identity).vkey))[0] == 1
