"""`relay run` and `relay status`: the daemon, and a look at it."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import Any

import click

from relay.cli.options import home_option, json_option, print_json
from relay.node.home import Home
from relay.node.report import describe_node
from relay.trust.roles import Role


@click.command()
@home_option
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
def run(home: Home, verbose: bool) -> None:
    """Run the daemon in the foreground; SIGTERM or Ctrl-C stops it cleanly."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(levelname)s %(name)s: %(message)s" if _under_systemd() else "%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("asyncio", "zeroconf", "aiosqlite", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    asyncio.run(_run(home))


async def _run(home: Home) -> None:
    from relay.node.daemon import run_daemon

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if home.member().identity.role is Role.RECEIVER:
        from relay.receiver.service import receiver_service
        from relay.web.console import console_service
        from relay.web.public import public_service

        await run_daemon(home, stop, [receiver_service, public_service, console_service])
    else:
        from relay.web.console import console_service

        await run_daemon(home, stop, [console_service])


def _under_systemd() -> bool:
    import os

    return "JOURNAL_STREAM" in os.environ


@click.command()
@home_option
@json_option
def status(home: Home, as_json: bool) -> None:
    """Show what this node holds, whom it sees, and its uplink."""
    report = asyncio.run(_describe(home))
    if as_json:
        print_json(report)
        return
    counts = report["counts"]
    click.echo(f"{report['node']} ({report['role']}) of {report['election']}")
    click.echo(f"  daemon     {'running' if report['running'] else 'not running: start it with `relay run`'}")
    click.echo(
        f"  bundles    {counts['waiting']} waiting, {counts['partial']} partial, {counts['delivered']} delivered"
    )
    click.echo(f"  free       {report['bytes_free'] // (1 << 20)} MiB, {report['bytes_held'] // (1 << 20)} MiB in use")
    uplink = report["uplink"]
    where = f"{uplink['url']} {'reached' if uplink['reachable'] else 'out of reach'}" if uplink else "none yet"
    click.echo(f"  uplink     {where}")
    for peer in report["peers"]:
        state = "in contact" if peer["connected"] else "seen"
        where = f" at {peer['address']}" if peer["address"] else ""
        click.echo(f"  neighbour  {peer['node']} ({peer['role']}) {state}{where}")


async def _describe(home: Home) -> dict[str, Any]:
    async with home.custody() as custody:
        return await describe_node(home, home.member(), custody)
