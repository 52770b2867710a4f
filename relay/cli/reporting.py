"""`relay receiver status|report|export`: what the receiver's administrator looks at, and takes away.

They read the store beside the running daemon. With `--json` the first two print the same document, the one that the
administrator's page shows; without, `status` is the short of it, at little cost. `report --csv` has a line for each
form of each polling station.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import click

from relay.cli.language import told
from relay.cli.options import home_option, json_option, message, print_json
from relay.cli.status import FAILING_DISK_ADVICE
from relay.cli.terminal import paint, shares, working
from relay.errors import BadInput, on_one_line
from relay.node.home import Home, Member
from relay.receiver.exporting import Bagged, Exporter
from relay.receiver.reporting import Reporter, describe_receiver
from relay.receiver.results import is_settled, label_of
from relay.receiver.service import SEQUENCING
from relay.records.identifiers import SHOWN_DIGITS
from relay.trust.roles import Role
from relay.web.site.downloads import spreadsheet_cell

_SHOWN = 20
"""Lines of each part of a report on a terminal; --json and --csv have all."""
_READ_FOR_STATUS = 5_000
"""Entries of a log that is read for `status`, which is to be quick."""
_COLUMNS = ("tps", "village", "district", "island", "form", "state", "entry", "statement", "device", "flags")


@click.command()
@home_option
@json_option
def status(home: Home, as_json: bool) -> None:
    """Show the log, its witnesses, storage and alarms; with --json all that the administrator's page shows."""
    if as_json:
        print_json(asyncio.run(_report(home)))
    else:
        click.echo("\n".join(_status_lines(asyncio.run(_status(home)))))


@click.command()
@home_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print a line for each form of each polling station.")
def report(home: Home, as_json: bool, as_csv: bool) -> None:
    """Show what arrived and what is missing, corrections, conflicts, gaps, forks, flags, nodes and revocations."""
    if as_json and as_csv:
        raise click.UsageError("Ask for --json or --csv, not for both.")
    with working("The log is read …"):
        document = asyncio.run(_report(home))
    if as_json:
        print_json(document)
    elif as_csv:
        click.echo(_csv(document), nl=False)
    else:
        click.echo("\n".join([*_status_lines(document), *_report_lines(document)]))


@click.command()
@home_option
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@json_option
def export(home: Home, folder: Path, as_json: bool) -> int:
    """Write everything to DIR as a BagIt bag: log, receipts, photographs, notices. Run it again to go on."""
    bagged = asyncio.run(_export(home, folder))
    status = 1 if bagged.unreadable else 0
    if as_json:
        print_json({name: getattr(bagged, name) for name in Bagged.__slots__})
        return status
    said = f"{bagged.entries} entries, {bagged.files} files, {bagged.bytes} bytes, every one read back"
    click.echo(f"{folder}: {told(said)}")
    if bagged.incomplete:
        message(f"{bagged.incomplete} photographs are not complete here yet, and are not in the bag.")
    for name in bagged.unreadable:
        message(f"left out: object {name}: this disk does not give it as it was")
    if bagged.unreadable:
        message(FAILING_DISK_ADVICE)
    return status


async def _status(home: Home) -> dict[str, Any]:
    member = _receiver(home)
    async with home.custody(looking=True) as custody:
        document = await describe_receiver(home, member, custody)
        if document["log"]["size"] <= _READ_FOR_STATUS:
            document["chains"] = await Reporter(home, member, custody).forks()
        word = (await custody.store.notes()).get(SEQUENCING)
        return {**document, "sequencing": json.loads(word) if word else None}


async def _report(home: Home) -> dict[str, Any]:
    member = _receiver(home)
    async with home.custody(looking=True) as custody:
        return await Reporter(home, member, custody).report()


async def _export(home: Home, folder: Path) -> Bagged:
    member = _receiver(home)
    async with home.custody(reading=True) as custody:
        with shares() as progress:
            return await Exporter(custody, member, folder, progress).export()


def _receiver(home: Home) -> Member:
    member = home.member()
    if member.identity.role is not Role.RECEIVER:
        raise BadInput(f"{member.identity.name} is no receiver", "Use `relay status`, `relay list` and `relay export`.")
    return member


def _csv(document: dict[str, Any]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for row in document["forms"]:
        cells = {**row, "flags": " ".join(row["flags"])}
        table.writerow({key: spreadsheet_cell(value) for key, value in cells.items()})
    return text.getvalue()


def _status_lines(document: dict[str, Any]) -> list[str]:
    log, way, storage = document["log"], document["under_way"], document["storage"]
    head = f"{document['receiver']} ({told('receiver')}) {told('of')} {document['election']}"
    lines = [paint(head, "bright_white", bold=True)]
    lines += [_line("ALARM", told(what), "red") for what in document["alarms"]]
    if not document["named_by_notice"]:
        lines.append(_line("notice", told("no notice names this receiver: nodes do not know it"), "yellow"))
    lines += [_line("forks", told(what), "red") for what in _keys_used_twice(document)]
    running = ("running", "green") if document["running"] else ("not running: start it with `relay run`", "red")
    partial, whole = way["partial"], way["complete_not_logged"]
    return [
        *lines,
        _line("daemon", told(running[0]), running[1]),
        _line("log", told(_log(log))),
        *_sequencing(document["receiver"], document.get("sequencing")),
        _line("under way", told(f"{partial} partial, {whole} complete and not logged yet")),
        _line("storage", told(f"{storage['bytes_held'] >> 20} MiB in use, {storage['bytes_free'] >> 20} MiB free")),
        _line("revoked", ", ".join(document["revoked"]) or told("nobody")),
    ]


def _log(log: dict[str, Any]) -> str:
    if not log["cosigned_by"]:
        return f"{log['size']} entries, cosigned by no witness yet"
    return f"{log['size']} entries, {log['cosigned_entries']} of them cosigned by {', '.join(log['cosigned_by'])}"


def _keys_used_twice(document: dict[str, Any]) -> list[str]:
    """A line for each device that has a copy and is not revoked yet; or where to look, in a log too long to read."""
    if "chains" not in document:
        return ["see `relay receiver report`: so long a log is not read for status"]
    forked = {one["device"]: None for one in document["chains"] if one["kind"] == "fork"}
    return [
        f"the key of {name} was used twice: let the election office revoke it (relay authority revoke)"
        for name in forked
        if name not in document["revoked"]
    ]


def _sequencing(name: str, word: dict[str, Any] | None) -> list[str]:
    """Which receiver sequences, and how far it is: as it said last. Several processes of one name are told apart by
    where they are."""
    if word is None:
        return []
    said = f"{word['published']} entries published by {name} ({word['at']}), {word['site']} on the site"
    return [_line("published", told(said))]


def _line(label: str, text: str, colour: str = "") -> str:
    return f"  {told(label):10} {paint(text, colour) if colour else text}"


def _report_lines(document: dict[str, Any]) -> list[str]:
    sums = document["summary"]
    stations = (
        f"{sums['stations_complete']} of {sums['stations']} complete, {sums['stations_begun']} begun, "
        f"{sums['stations_missing']} missing"
    )
    forms = f"{sums['forms_arrived']} of {sums['forms']} arrived, {sums['flagged']} flagged"
    lines = [_line("stations", told(stations)), _line("forms", told(forms))]
    conflicts = [
        f"{one['tps']} {one['form']}: {len(one['statements'])} {told('statements')}" for one in document["conflicts"]
    ]
    lines += _part("conflicts", conflicts)
    lines += _part("chains", [told(_chain(one)) for one in document["chains"]])
    lines += _part("flags", [_flag(one) for one in sorted(document["flags"], key=is_settled)])
    lines += _part("missing", _missing(document))
    lines += _part("corrections", [f"{one['tps']} {one['form']}: {one['reason']}" for one in document["corrections"]])
    lines += _part("revocations", [_revocation(one) for one in document["revocations"]])
    return lines + _part("nodes", [_node(one) for one in document["nodes"]])


def _flag(one: dict[str, Any]) -> str:
    about = ", ".join(statement[:SHOWN_DIGITS] for statement in one["statements"])
    return f"{one['tps']} {one['form']}: {label_of(one)} ({about})"


def _missing(document: dict[str, Any]) -> list[str]:
    """A line for each station that lacks something: its place, and its forms that are not in the log."""
    stations: dict[str, list[dict[str, Any]]] = {}
    for row in document["forms"]:
        if row["entry"] is None:
            stations.setdefault(row["tps"], []).append(row)
    return [f"{tps} ({_place(rows[0])}): {_states(rows)}" for tps, rows in stations.items()]


def _states(rows: list[dict[str, Any]]) -> str:
    return ", ".join(f"{row['form']} {told(row['state'])}" for row in rows)


def _place(row: dict[str, Any]) -> str:
    return ", ".join(filter(None, (row["village"], row["district"], row["island"])))


def _chain(one: dict[str, Any]) -> str:
    if one["kind"] == "gap":
        if one["first"] == one["last"]:
            return f"{one['device']}: no. {one['first']} exists and has not arrived"
        return f"{one['device']}: no. {one['first']} to {one['last']} exist and have not arrived"
    return f"{one['device']}: more than one statement is no. {one['seq']}; its key was used twice"


def _revocation(one: dict[str, Any]) -> str:
    held = told(f"{one['withheld']} packages withheld")
    return f"{one['node']}: {one['reason']}{f', {held}' if one['withheld'] else ''}"


def _node(one: dict[str, Any]) -> str:
    told_of = [f"here {_when(one['last_visit'])}" if one["last_visit"] else "never here itself"]
    if one["statements"]:
        told_of.append(f"{one['statements']} statements, newest entry {one['newest_entry']}")
        told_of.append(f"the newest of {_when(one['newest_claim'])} by its own clock")
    return f"{one['node']} ({told(one['role'])}): {', '.join(told(part) for part in told_of)}"


def _when(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):  # a device's claim may be anything
        return str(seconds)


def _part(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    more = [f"    {told(f'… and {len(lines) - _SHOWN} more: --json has all')}"] if len(lines) > _SHOWN else []
    return [f"  {told(title)} ({len(lines)})", *(f"    {on_one_line(line)}" for line in lines[:_SHOWN]), *more]
