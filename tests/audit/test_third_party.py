"""A third party's log client takes the log as it is: Go's packages for signed notes and transparency logs.

Needs Debian's `golang-go` and `golang-golang-x-mod-dev`; skipped without them.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from relay.log.tiles import TileId
from relay.trust.witness import log_key
from tests.audit.published import Published, flipped

_SOURCE = Path(__file__).parent / "thirdparty" / "main.go"
_GOPATH = Path("/usr/share/gocode")


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, built."""
    go = shutil.which("go")
    if go is None or not (_GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("Go and its x/mod packages are not installed (Debian: golang-go, golang-golang-x-mod-dev)")
    folder = tmp_path_factory.mktemp("client")
    environment = {"GO111MODULE": "off", "GOPATH": str(_GOPATH), "GOCACHE": str(folder / "cache"), "GOFLAGS": "-p=1"}
    command: list[str | Path] = [go, "build", "-o", folder / "client", _SOURCE]
    subprocess.run(command, check=True, env={**os.environ, **environment})
    return folder / "client"


def says(client: Path, log: Published, *older: str) -> tuple[int, str]:
    """Its exit status, and what it printed."""
    command: list[str | Path] = [client, log_key(log.receiver.identity).vkey, log.folder, *older]
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
