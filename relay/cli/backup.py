"""`relay backup` and `relay restore`; `relay receiver backup` and `restore` are the same for a receiver."""

from __future__ import annotations

import asyncio
import shlex
import time
from pathlib import Path

import click

from relay.cli.language import told
from relay.cli.options import home_option, message
from relay.cli.status import FAILING_DISK_ADVICE
from relay.cli.terminal import shares
from relay.errors import BadInput
from relay.net.source import open_source
from relay.node.backup import Backup, back_up, read_backup
from relay.node.home import Home
from relay.node.restoring import RESTORED, check_newest, take_mark_off
from relay.node.restoring import restore as restore_to
from relay.receiver.restoring import compare_with_published, go_on
from relay.trust.roles import Role

_FOLDER = click.Path(path_type=Path, file_okay=False)
_RECEIVERS = "Use `relay receiver restore`: it compares the log with what is published."


@click.command()
@home_option
@click.argument("folder", type=_FOLDER, metavar="DIR")
@click.option("--check", is_flag=True, help="Read again all that lies in DIR already, not only some of it.")
def backup(home: Home, folder: Path, check: bool) -> int:
    """Copy this node to DIR, also while the daemon runs: key, packages, drafts, log. Run it again to renew the copy.

    Whoever has the copy has the node's key, and can sign as this node: keep it locked away.
    """
    damaged: list[str] = []
    with shares() as progress:
        made = back_up(home, folder, int(time.time()), progress, check=check, mended=damaged.append)
    if damaged:
        message(f"{len(damaged)} objects were damaged in {folder} and were copied again: do not trust that disk.")
    said = f"{made.node}: {made.objects} objects, {made.bytes} bytes, and {len(made.files)} files"
    click.echo(f"{folder}: {told(said)}")
    message("It holds the node's key: keep it locked away, and never run it beside this node.")
    for name in made.left_out:
        message(f"left out: object {name}: this disk does not give it as it was")
    if made.left_out:
        message(FAILING_DISK_ADVICE)
    return 1 if made.left_out else 0


@click.command()
@home_option
@click.argument("folder", type=_FOLDER, metavar="[DIR]", required=False)
@click.option("--newest", is_flag=True, help="Nothing was signed after the backup: the node may sign again.")
def restore(home: Home, folder: Path | None, newest: bool) -> None:
    """Make the node of the backup in DIR, in a new folder (--home). It carries, and signs nothing before --newest.

    The device may have signed packages that the backup does not know: numbering them again would show as two histories.
    """
    if folder is not None:
        if read_backup(folder).role == Role.RECEIVER:
            raise BadInput("This is the backup of a receiver", _RECEIVERS)
        _bring(home, folder)
    elif not newest:
        raise click.UsageError(told("Name the backup, or say --newest of a node that was restored."))
    if newest:
        asyncio.run(_newest(home))
        message("The node signs again. If the old one is found, do not start it: it has the same key.")
    else:
        message(f"It signs nothing yet. If nothing was signed after the backup: relay restore {_home(home)} --newest")


@click.command(name="restore")
@home_option
@click.argument("folder", type=_FOLDER, metavar="[DIR]", required=False)
@click.option("--published", "urls", multiple=True, metavar="URL", help="Where the log is published; repeatable.")
@click.option("--newest", is_flag=True, help="Nobody can have seen more of the log than the backup has.")
def restore_receiver(home: Home, folder: Path | None, urls: tuple[str, ...], newest: bool) -> None:
    """Make the receiver of the backup in DIR, in a new folder (--home), and compare it with the published log.

    It does not start before it was compared, or before you say --newest: with an old backup it would sign a second log.
    """
    if folder is not None:
        if read_backup(folder).role != Role.RECEIVER:
            raise BadInput("This is no backup of a receiver", "Use `relay restore`.")
        _bring(home, folder)
    elif not (urls or newest):
        raise click.UsageError(told("Name the backup, or say --published or --newest of a receiver that was restored."))
    if urls or newest:
        size = asyncio.run(_go_on(home, urls))
        message(f"The log goes on after {size} entries. Never start the old receiver again: it has the same key.")
    else:
        message(f"It does not start yet. Compare it: relay receiver restore {_home(home)} --published URL")


def _home(home: Home) -> str:
    """The option that names this node, to be copied into a command."""
    return f"--home {shlex.quote(str(home.path))}"


def _bring(home: Home, folder: Path) -> Backup:
    with shares() as progress:
        brought = restore_to(folder, home, int(time.time()), progress)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(brought.made_at))
    said = f"{brought.node}, {brought.objects} objects, as it was at {when} by its own clock"
    click.echo(f"{home.path}: {told(said)}")
    return brought


async def _newest(home: Home) -> None:
    if home.member().identity.role is Role.RECEIVER:
        raise BadInput("This is a receiver", _RECEIVERS)
    async with home.custody() as custody:
        if not (await custody.store.notes()).get(RESTORED):
            raise BadInput("This node was not restored from a backup", "It signs as it is.")
        await check_newest(custody.store, home.member().identity.node)
        await take_mark_off(custody.store)


async def _go_on(home: Home, urls: tuple[str, ...]) -> int:
    member = home.member()
    if member.identity.role is not Role.RECEIVER:
        raise BadInput(f"{member.identity.name} is no receiver", "Use `relay restore`.")
    async with home.custody() as custody:
        for url in urls:
            async with open_source(url) as source:
                size = await compare_with_published(custody, member, source)
            message(f"{url} shows {size} entries, and this receiver has them all.")
        return await go_on(custody, member)
