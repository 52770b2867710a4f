"""`relay init` and `relay join`: a device becomes a node of an election."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from relay.cli.options import home_option, message
from relay.errors import BadInput
from relay.limits import MAX_ENROLMENT
from relay.node.byhand import import_notices
from relay.node.home import Home


@click.command()
@home_option
@click.option("--name", required=True, help="The node's name, for example pulau-long or km-bahari.")
def init(home: Home, name: str) -> None:
    """Make a new node: its key and its request, whose path is printed."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    request = home.create(name, Ed25519PrivateKey.generate())
    message("Take the request to the election office; the key stays on this device.")
    click.echo(str(request))


@click.command()
@home_option
@click.argument("file", type=click.Path(path_type=Path))
def join(home: Home, file: Path) -> int:
    """Install an enrolment FILE from the election office (also a newer one, or a revocation)."""
    return asyncio.run(_join(home, file))


async def _join(home: Home, file: Path) -> int:
    running = home.daemon_runs()
    enrolment = home.install(_read(file))
    async with home.custody() as custody:
        moved = await import_notices(custody, enrolment.notices)
        identity = home.member().identity
        message(f"{identity.name} is {identity.role} in {identity.election}; {moved.records} notices are new.")
        for refusal in moved.refused:
            message(f"refused: {refusal}")
    if running and enrolment.certificate is not None:
        message("The daemon runs on the certificate it started with: restart it.")
    return 1 if moved.refused else 0


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as content:
            return content.read(MAX_ENROLMENT + 1)
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror})", "Check the name and its permissions.") from error
