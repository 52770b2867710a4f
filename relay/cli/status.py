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
from relay.node.report import all_delivered, describe_node
from relay.node.uplink import Uplink
from relay.records.identifiers import is_drill
from relay.trust.roles import Role

_EVERY = 1.0
"""Seconds between two looks."""
_MIB = 1 << 20
OVER_QUOTA = "packages of a signer were not taken: over quota_bytes or quota_statements"
OVER_QUOTA_ADVICE = (
    "Deliver what waits here, or raise them in config.toml and start the daemon again; a stolen device may be flooding."
)
FAILING_DISK_ADVICE = (
    "Bring everything else away (a contact, or `relay export`), then replace the card or disk. Delete nothing: these "
    "packages go on from any other node that took them."
)
REVOKED_CARRIER_ADVICE = (
    "Nobody takes anything from it any more. Delete nothing, and ask the election office for another node."
)
REVOKED_ADVICE = (
    "Nobody takes what it signed any more. Keep its folder, make a new node in another one (relay init), have that "
    "enrolled, and hand the forms in again there."
)


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


async def _look(home: Home, show: Callable[[dict[str, Any]], None], *, again: bool, always: bool = False) -> None:
    """Show a node's report; `again`, whenever it has changed, or at every look: how long ago something was changes."""
    async with home.custody(looking=True) as custody:
        shown: dict[str, Any] = {}
        while True:
            await custody.take_in()
            report = await describe_node(home, home.member(), custody)
            if report != shown or always:
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

        asyncio.run(_look(home, show, again=True, always=True))


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
    if report["revocation"] is not None:
        lines.append(_line("REVOKED", told(f"This node is revoked ({report['revocation']})"), "red"))
        lines.append(_line("", told(revoked_advice(report["role"])), "red"))
        if left := report["counts"]["waiting"] + report["counts"]["partial"]:
            lines += [_line("", told(text), "red") for text in (still_here(left), bring_on(report["home"]))]
    if report["restored"]:
        lines.append(_line("restored", told("This node was restored from a backup, and signs nothing yet"), "yellow"))
    if report["over_quota"]:
        lines += [_line("quota", told(OVER_QUOTA), "yellow"), _line("", told(OVER_QUOTA_ADVICE), "yellow")]
    if report["unreadable"]:
        lines.append(_line("disk", told(cannot_be_read(report["unreadable"])), "red"))
        lines.append(_line("", told(FAILING_DISK_ADVICE), "red"))
    counts = report["counts"]
    running = ("running", "green") if report["running"] else ("not running: start it with `relay run`", "red")
    bundles = f"{counts['waiting']} waiting, {counts['partial']} partial, {counts['delivered']} delivered"
    lines += [
        _line("daemon", told(running[0]), running[1]),
        _line("bundles", told(bundles)),
        _line("free", told(f"{report['bytes_free'] // _MIB} MiB, {report['bytes_held'] // _MIB} MiB in use")),
    ]
    if report["role"] != "receiver":
        uplink = Uplink(**report["uplink"]) if report["uplink"] else None
        lines.append(_line("uplink", *uplink_line(uplink, int(time.time()), all_delivered=all_delivered(counts))))
    return lines + [_line("neighbour", *_neighbour(peer)) for peer in report["peers"]]


def revoked_advice(role: str) -> str:
    """What to do with a revoked node: only who signs hands forms in again."""
    return REVOKED_CARRIER_ADVICE if role == Role.CARRIER else REVOKED_ADVICE


def still_here(left: int) -> str:
    """That a revoked node still has what others signed: nobody fetches it there."""
    return f"{left} packages of others are still here, and nobody fetches them from a revoked node"


def cannot_be_read(objects: int) -> str:
    """That a disk is dying: what is on it is there no more, as far as it goes."""
    return f"{objects} objects cannot be read: the card or disk of this node is failing"


def bring_on(home: object) -> str:
    """How they get on."""
    return f"Take them on by hand: relay export --home {home} STICK, then relay import STICK at another node."


def _line(label: str, text: str, colour: str = "") -> str:
    return f"  {told(label):10} {paint(text, colour) if colour else text}"


def uplink_line(uplink: Uplink | None, now: int, *, all_delivered: bool = False) -> tuple[str, str]:
    """How the way to the receiver is, and the colour of that; `all_delivered` where others brought everything."""
    if all_delivered and (uplink is None or (not uplink.works(now) and uplink.reached_at is None)):
        return told("not reached from here; boats or other nodes have delivered everything"), "green"
    if uplink is None:
        return told("none yet"), ""
    reached = told(span(now - uplink.reached_at)) if uplink.reached_at is not None else ""
    if uplink.works(now):
        return f"{uplink.url} {told(f'reached {reached} ago')}", "green"
    last = told(f"last reached {reached} ago") if reached else told("never reached")
    if uplink.failing_since is None:
        return f"{uplink.url} {last}", "yellow"
    return f"{uplink.url} {told(f'out of reach for {told(span(now - uplink.failing_since))}')}, {last}", "yellow"


def span(seconds: int) -> str:
    """A time that passed, as people say it."""
    seconds = max(0, seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3_600:
        return f"{seconds // 60} min"
    return f"{seconds // 3_600} h {seconds % 3_600 // 60} min"


def _neighbour(peer: dict[str, Any]) -> tuple[str, str]:
    state, colour = ("in contact", "green") if peer["connected"] else ("seen", "")
    where = f" {told('at')} {peer['address']}" if peer["address"] else ""
    since = "" if peer["connected"] else f", {time.strftime('%Y-%m-%d %H:%M', time.localtime(peer['last_seen']))}"
    return f"{peer['node']} ({told(peer['role'])}) {told(state)}{where}{since}", colour
