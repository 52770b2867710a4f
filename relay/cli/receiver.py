"""`relay receiver`: what only the receiver's administrator does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from relay.cli.options import HashType, home_option, message
from relay.errors import BadInput, NotHeld
from relay.limits import MAX_REQUEST
from relay.node.home import Home
from relay.records.encoding import decode
from relay.records.identifiers import RecordId, StatementId
from relay.records.statement import read_statement
from relay.store.durable import write_durably
from relay.trust.enrolment import pem_block, read_pem_block
from relay.trust.sealing import make_sealing_key, open_sealed, public_sealing_key

_PATH = click.Path(path_type=Path)
_PRIVATE, _PUBLIC = "RELAY SEALING KEY", "RELAY SEALING PUBLIC KEY"


@click.group()
def receiver() -> None:
    """The receiver's administration."""


@receiver.command(name="sealing-key")
@home_option
def sealing_key(home: Home) -> None:
    """Make the key to which packages are sealed; prints the public file for `relay authority seal`."""
    private_file = home.path / "sealing-key.pem"
    public_file = home.path / "sealing-public.pem"
    home.key()
    if private_file.exists():
        raise BadInput(f"{private_file} exists already", "What was sealed to it can be opened with it alone: keep it.")
    private = make_sealing_key()
    write_durably(private_file, pem_block(_PRIVATE, private).encode(), mode=0o600)
    write_durably(public_file, pem_block(_PUBLIC, public_sealing_key(private)).encode())
    message("Keep a backup of the private key offline: without it no sealed package can be read.")
    click.echo(str(public_file))


@receiver.command(name="open")
@home_option
@click.argument("statement", type=HashType())
@click.argument("folder", type=_PATH, metavar="DIR")
def open_package(home: Home, statement: bytes, folder: Path) -> None:
    """Open a sealed package into DIR: its files, and tally.json."""
    private = read_pem_block((home.path / "sealing-key.pem").read_bytes()[:MAX_REQUEST], _PRIVATE)
    asyncio.run(_open(home, StatementId(RecordId(statement)), folder, private))


async def _open(home: Home, statement: StatementId, folder: Path, private: bytes) -> None:
    async with home.custody() as custody:
        records = await custody.store.read([statement], 1)
        if not records:
            raise NotHeld(f"Statement {statement.hex()} is not on this node", "See `relay list`.")
        package = read_statement(records[0][2]).package
        if not package.sealed:
            raise BadInput("The package is not sealed", "Read its objects with `relay cat`.")
        folder.mkdir(parents=True, exist_ok=True)
        for entry in package.files:
            path = await custody.store.object_path(entry.sha256)
            if path is None:
                raise NotHeld(f"{entry.name} is not complete on this node", "Try again when it is.")
            write_durably(folder / entry.name, open_sealed(path.read_bytes(), private, package.subject))
            click.echo(str(folder / entry.name))
        if package.sealed_tally is not None:
            opened = open_sealed(package.sealed_tally, private, package.subject)
            tally = decode(opened, len(opened))
            write_durably(folder / "tally.json", json.dumps(tally, indent=1).encode())
            click.echo(str(folder / "tally.json"))
