"""`relay status`: a look at a node, once or as it goes on."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from relay.cli.language import told
from relay.cli.options import home_option, json_option, print_json
from relay.cli.terminal import paint
from relay.node.home import Home
from relay.node.report import describe_node
from relay.records.identifiers import is_drill
from relay.store.interface import Seen

_EVERY = 1.0
"""Seconds between two looks."""
_MIB = 1 << 20


@click.command()
@home_option
@click.option("-w", "--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
@json_option
def status(home: Home, watch: bool, as_json: bool) -> None:
    """Show what this node holds, whom it sees, and its uplink."""
    if watch and not as_json and sys.stdout.isatty():
        _watch_on_terminal(home)
        return

    def show(report: dict[str, Any]) -> None:
        if as_json:
            print_json(report)
        else:
            click.echo("\n".join(lines_of(report)))

    asyncio.run(_look(home, show, again=watch))


async def _look(home: Home, show: Callable[[dict[str, Any]], None], *, again: bool) -> None:
    """Show a node's report; `again`, whenever it has changed."""
    async with home.custody(looking=True) as custody:
        shown: dict[str, Any] = {}
        while True:
            if await custody.store.refresh() is not Seen.NOTHING:
                await custody.load()
            report = await describe_node(home, home.member(), custody)
            if report != shown:
                show(report)
            shown = report
            if not again:
                return
            await asyncio.sleep(_EVERY)


def _watch_on_terminal(home: Home) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(), auto_refresh=False, screen=True) as live:

        def show(report: dict[str, Any]) -> None:
            hint = told("Ctrl-C ends this.")
            live.update(Text.from_ansi("\n".join([*lines_of(report), "", hint])), refresh=True)

        asyncio.run(_look(home, show, again=True))


def lines_of(report: dict[str, Any]) -> list[str]:
    """A node's report for a person, line by line."""
    head = f"{report['node']} ({told(report['role'])}) {told('of')} {report['election']}"
    lines = [paint(head, "bright_white", bold=True)]
    if is_drill(report["election"]):
        lines.append(paint(told("DRILL: for practice only. Nothing here is a result."), "magenta", bold=True))
    lines += [
        _line("ALARM", told(f"{alarm['what']}. Tell the election office; --json has the evidence."), "red")
        for alarm in report["alarms"]
    ]
    counts = report["counts"]
    running = ("running", "green") if report["running"] else ("not running: start it with `relay run`", "red")
    bundles = f"{counts['waiting']} waiting, {counts['partial']} partial, {counts['delivered']} delivered"
    lines += [
        _line("daemon", told(running[0]), running[1]),
        _line("bundles", told(bundles)),
        _line("free", told(f"{report['bytes_free'] // _MIB} MiB, {report['bytes_held'] // _MIB} MiB in use")),
    ]
    if report["role"] != "receiver":
        lines.append(_line("uplink", *_uplink(report["uplink"])))
    return lines + [_line("neighbour", *_neighbour(peer)) for peer in report["peers"]]


def _line(label: str, text: str, colour: str = "") -> str:
    return f"  {told(label):10} {paint(text, colour) if colour else text}"


def _uplink(uplink: dict[str, Any] | None) -> tuple[str, str]:
    if uplink is None:
        return told("none yet"), ""
    state, colour = ("reached", "green") if uplink["reachable"] else ("out of reach", "yellow")
    return f"{uplink['url']} {told(state)}", colour


def _neighbour(peer: dict[str, Any]) -> tuple[str, str]:
    state, colour = ("in contact", "green") if peer["connected"] else ("seen", "")
    where = f" {told('at')} {peer['address']}" if peer["address"] else ""
    since = "" if peer["connected"] else f", {time.strftime('%Y-%m-%d %H:%M', time.localtime(peer['last_seen']))}"
    return f"{peer['node']} ({told(peer['role'])}) {told(state)}{where}{since}", colour
