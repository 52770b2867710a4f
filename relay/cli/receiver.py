"""`relay receiver`: what only the receiver's administrator does."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import click

from relay.cli import backup, reporting
from relay.cli.help import Group
from relay.cli.options import HashType, home_option, message
from relay.errors import BadInput, NotHeld, StoreError
from relay.limits import MAX_RECORD, MAX_REQUEST
from relay.node.config import Config, read_config
from relay.node.home import Home
from relay.node.stores import open_cluster
from relay.records.encoding import decode
from relay.records.identifiers import RecordId, StatementId
from relay.records.statement import read_statement
from relay.records.tally import read_tally
from relay.store.durable import write_durably
from relay.trust.enrolment import pem_block, read_pem_block
from relay.trust.sealing import make_sealing_key, open_sealed, public_sealing_key

_PATH = click.Path(path_type=Path)
_NO_LIMIT = 1 << 53
_PRIVATE, _PUBLIC = "RELAY SEALING KEY", "RELAY SEALING PUBLIC KEY"


@click.group(cls=Group)
def receiver() -> None:
    """The receiver's administration."""


for _command in (reporting.status, reporting.report, reporting.export, backup.backup, backup.restore_receiver):
    receiver.add_command(_command)


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


@receiver.command(name="password")
@home_option
@click.option(
    "--password",
    envvar="RELAY_ADMIN_PASSWORD",
    prompt=True,
    hide_input=True,
    confirmation_prompt=True,
    help="The password (or set RELAY_ADMIN_PASSWORD).",
)
def password(home: Home, password: str) -> None:
    """Set the password of the administrator's page (/admin on the console)."""
    from relay.receiver.password import set_password

    home.key()
    set_password(home.path, password)
    port = home.config().console.rpartition(":")[2]
    here = f"127.0.0.1:{port}"
    message(
        f"Kept. Open http://{here}/admin on the receiver; from elsewhere the same, after ssh -L {port}:{here} RECEIVER"
    )


@receiver.command(name="site")
@home_option
@click.option("--anew", is_flag=True, help="Write every page again, from the log.")
def site(home: Home, anew: bool) -> None:
    """Bring the public site up to the log while the receiver is stopped."""
    asyncio.run(_site(home, anew))


async def _site(home: Home, anew: bool) -> None:
    from relay.web.site.service import site_of

    with home.daemon_lock():
        async with home.custody() as custody:
            if not await custody.store.leads():
                raise StoreError(
                    "Another receiver of this store keeps the site", "Stop all of them first, or leave it."
                )
            published, keeper = site_of(home, home.member(), custody)
            await keeper.open(anew=anew)
            while await keeper.follow():
                message(f"The site has {published.entries} entries.")
            await keeper.write_tables()
            await published.settle()
            if published.lacking:
                message(f"{len(published.lacking)} packages lack a photograph that cannot be read: see relay doctor.")
    click.echo(str(home.public_folder / "index.html"))


@receiver.command(name="move")
@home_option
@click.option("--database", required=True, metavar="URL", help="The PostgreSQL database: postgresql://USER@HOST/NAME")
@click.option("--bucket", required=True, metavar="NAME", help="The S3 bucket.")
@click.option("--bucket-endpoint", metavar="URL", help="The S3 service, where it is not Amazon's.")
@click.option("--bucket-region", metavar="REGION", help="The bucket's region.")
def move(home: Home, **place: str | None) -> None:
    """Move this receiver's store into PostgreSQL and S3, for several receivers to share.

    The receiver must be stopped. Its own store is left as it is. A move that was interrupted goes on where it was.
    """
    settings = {key: value for key, value in place.items() if value is not None}
    asyncio.run(_move(home, read_config(settings)))
    message("Moved. Put this into config.toml, then start the receiver:")
    click.echo("\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items()))


async def _move(home: Home, config: Config) -> None:
    from relay.cli.terminal import shares
    from relay.receiver.moving import Move

    with home.daemon_lock():
        async with home.custody() as custody:
            if home.config().database is not None:
                raise BadInput("This receiver's store is in PostgreSQL already", "There is nothing to move.")
            everything = replace(config, quota_bytes=_NO_LIMIT, quota_statements=_NO_LIMIT)  # what was taken stays
            target = await open_cluster(home.store_folder, everything, home.member().identity)
            try:
                with shares() as progress:
                    await Move(custody.store, target, custody.admission, _place_of(config), progress).run()
            finally:
                await target.close()


def _place_of(config: Config) -> str:
    """Where a shared store is, without the password that its URL may have."""
    url = urlsplit(config.database or "")
    return f"{url.hostname or 'localhost'}{url.path} {config.bucket}"


@receiver.command(name="open")
@home_option
@click.argument("statement", type=HashType())
@click.argument("folder", type=_PATH, metavar="DIR")
def open_package(home: Home, statement: bytes, folder: Path) -> None:
    """Open a sealed package into DIR: its files, and tally.json."""
    private = read_pem_block((home.path / "sealing-key.pem").read_bytes()[:MAX_REQUEST], _PRIVATE)
    asyncio.run(_open(home, StatementId(RecordId(statement)), folder, private))


async def _open(home: Home, statement: StatementId, folder: Path, private: bytes) -> None:
    async with home.custody(reading=True) as custody:
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
            _write_new(folder / entry.name, open_sealed(path.read_bytes(), private, package.subject))
        if package.sealed_tally is not None:
            opened = open_sealed(package.sealed_tally, private, package.subject)
            tally = read_tally(decode(opened, MAX_RECORD))
            _write_new(folder / "tally.json", json.dumps(tally.to_map(), indent=1).encode())


def _write_new(path: Path, content: bytes) -> None:
    """Write a file whose name a device chose: whatever has that name already stays."""
    if not path.is_file() or path.is_symlink() or path.read_bytes() != content:
        if path.exists() or path.is_symlink():
            raise BadInput(f"{path} exists already", "Open the package into an empty folder.")
        write_durably(path, content)
    click.echo(str(path))
