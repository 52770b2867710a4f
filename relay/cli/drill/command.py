"""`relay drill`: the commands. `new` for the election office, `walk` for operators, `report` at the receiver."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from relay.cli.authority import DEFAULT_FORMS, make_election
from relay.cli.drill.record import FORM
from relay.cli.help import Group
from relay.cli.language import told, told_in_parts, wanted_language
from relay.cli.options import home_option, json_option, message, print_json
from relay.cli.terminal import paint
from relay.errors import BadInput
from relay.node.home import Home
from relay.records.identifiers import DRILL_PREFIX, is_drill

_PATH = click.Path(path_type=Path)
_SHOWN = 20
"""Stations that a report names on a terminal of those that are missing."""


@click.group(cls=Group)
def drill() -> None:
    """Practise before election day. A drill has its own root: none of it can enter the real election."""


@drill.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.option("--election", required=True, help="The election that is practised for, for example kwk-2024.")
@click.option("--register", "register", required=True, type=_PATH, help="The polling stations that take part (CSV).")
@click.option("--form", "forms", multiple=True, default=DEFAULT_FORMS, show_default=True, help="Forms of each station.")
def new(folder: Path, election: str, register: Path, forms: tuple[str, ...]) -> None:
    """Make a practice election in DIR; then enrol its nodes there with `relay authority enrol`.

    Nodes practise in a folder of their own, beside the real one: `relay init --home`.
    """
    name = election if is_drill(election) else DRILL_PREFIX + election
    make_election(folder, name, register, (*forms, FORM))
    message("This is a drill. Its pages and commands say so, and no node of the real election takes anything of it.")


@drill.command()
@home_option
@click.option("--samples", is_flag=True, help="Send pictures made up for practice, without a phone.")
@click.option("--patience", default=1800, show_default=True, type=click.IntRange(1), help="Seconds to wait for a step.")
def walk(home: Home, samples: bool, patience: int) -> None:
    """Go through the drill on this node, while its daemon runs: phone, pictures, sending, receipt."""
    asyncio.run(_walk(home, samples, patience))


async def _walk(home: Home, samples: bool, patience: int) -> None:
    from relay.cli.drill.walk import Walk, check_drill, check_hands_in

    member = home.member()
    check_drill(member)
    check_hands_in(member)
    if not home.daemon_runs():
        raise BadInput("The daemon does not run: the drill would get nowhere", "Start it: relay run (or its service).")
    async with home.custody() as custody:
        await Walk(home, member, custody, _say, float(patience), samples).run()


def _say(text: str) -> None:
    click.echo(f"{paint(told('DRILL'), 'magenta', bold=True)}  {told(text)}")


@drill.command()
@home_option
@json_option
def report(home: Home, as_json: bool) -> None:
    """Tell, on the receiver, who has done what, how long it took and what went wrong."""
    document = asyncio.run(_report(home))
    if as_json:
        print_json(document)
        return
    sums = (
        f"{document['done']} done, {document['under_way']} under way, "
        f"{len(document['missing'])} missing of {document['stations']} polling stations"
    )
    click.echo(f"{document['election']}: {told(sums)}")
    if document["median_seconds"] is not None:
        click.echo(told(f"half of them took less than {_minutes(document['median_seconds'])}"))
    for one in document["reports"]:
        took = _minutes(one["seconds"]) if one["seconds"] is not None else ""
        colour = "green" if one["state"] == "done" and not one["troubles"] else "yellow"
        state = paint(f"{told(one['state']):10}", colour)
        click.echo(f"{one['tps']:16} {one['place']:24.24} {one['device']:20} {state} {took}")
        for person in one["people"]:
            did = ", ".join(
                f"{told(kind)} {_minutes(seconds)}" for kind, seconds in person["seconds"].items() if seconds
            )
            if did:
                click.echo(f"{'':17}{told(person['who'] or 'without a phone')}: {did}")
        for trouble in one["troubles"]:
            click.echo(f"{'':17}{_in_words(trouble)}")
    if document["missing"]:
        missing = document["missing"]
        more = f" {told(f'… and {len(missing) - _SHOWN} more: --json has all')}" if len(missing) > _SHOWN else ""
        click.echo(f"{told('missing')}: {' '.join(missing[:_SHOWN])}{more}")


def _in_words(trouble: str) -> str:
    """What went wrong, with what flags mean as operators read it, where the record names them."""
    from relay.web.pages import texts

    meanings = texts("operator/texts.json")[wanted_language(os.environ)]
    what, bracket, flags = told_in_parts(trouble).partition(" (")
    found = [meanings.get(f"flag_{flag}") for flag in flags.removesuffix(")").split(", ")]
    if not bracket or None in found:
        return told_in_parts(trouble)
    return f"{what}: {' '.join(filter(None, found))}"


async def _report(home: Home) -> dict[str, Any]:
    from relay.cli.drill.report import describe, gather
    from relay.cli.drill.walk import check_drill

    member = home.member()
    check_drill(member)
    async with home.custody() as custody:
        return describe(member.identity.election, await gather(custody))


def _minutes(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02} min"
