"""`relay simulate`: the command."""

from __future__ import annotations

from pathlib import Path

import click

from relay.cli.language import number, told
from relay.cli.options import json_option, print_json
from relay.cli.simulate.flow import NEVER
from relay.cli.simulate.forecast import Forecast, StationForecast, describe, forecast, moment_of
from relay.cli.simulate.picture import draw
from relay.cli.simulate.plan import parse_plan
from relay.cli.terminal import counting, paint
from relay.errors import BadInput
from relay.limits import MAX_DRAWS, MAX_PLAN
from relay.store.durable import write_durably

_RISKY = 0.05
_HOURS = 10_800
"""A plan that is longer than this is told in minutes."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="PLAN.toml")
@click.option("--draws", default=2_000, show_default=True, type=click.IntRange(10, MAX_DRAWS), help="Nights to play.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="The same seed, the same nights.")
@click.option("--svg", "picture", type=click.Path(path_type=Path), help="Write a picture of the flow to this file.")
@json_option
def simulate(file: Path, draws: int, seed: int, picture: Path | None, as_json: bool) -> None:
    """Tell whether a timetable brings everything in by the deadline: when each station arrives, and its risk.

    docs/reference/plan.md tells what PLAN.toml holds and what the model leaves out.
    """
    plan = parse_plan(_read(file))
    with counting(told("nights"), draws) as step:
        result = forecast(plan, draws, seed, step)
    if picture is not None:
        write_durably(picture, draw(result, told, number).encode())
    if as_json:
        print_json(describe(result))
    else:
        _show(result)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as content:
            return content.read(MAX_PLAN + 1)
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror})", "Check the name and its permissions.") from error


def _show(result: Forecast) -> None:
    plan = result.plan
    day = f", {plan.day.isoformat()}" if plan.day else ""
    whole = 60 if plan.deadline - min(place.counted.low for _, place in plan.stations) > _HOURS else 1
    said = told(f"deadline {moment_of(plan.deadline)}; {result.draws} nights, seed {result.seed}")
    click.echo(f"{plan.title}{day}: {said}")
    heads = [told(head) for head in ("station", "place", "median", "90 % by", "receipt", "late")]
    tps = max(8, *(len(one.tps) for one in result.stations))
    place = max(10, *(len(one.place) for one in result.stations))
    click.echo(f"{heads[0]:{tps}}  {heads[1]:{place}}  {'  '.join(f'{head:>11}' for head in heads[2:5])}  {heads[5]}")
    shown: list[str] = []
    for one in result.stations:
        times = (one.arrival.median, one.arrival.ninetieth, one.receipt.median)
        shown.append("  ".join(f"{_rounded(moment, whole):>11}" for moment in times))
        click.echo(f"{one.tps:{tps}}  {one.place:{place}}  {shown[-1]}  {_late(one)}")
    if any("  1 " in line for line in shown):
        click.echo(told("(1 09:30 is 09:30 on the day after)"))
    for call in result.calls:
        if call.cut >= _RISKY:
            which = f"{call.call.boat} {told('at')} {call.call.place}, {moment_of(call.call.start)}"
            click.echo(paint(f"{told(f'too short in {call.cut:.0%} of the nights')}: {which}", "yellow"))
    low, high = result.risk_range
    risk, low_risk, high_risk = (number(f"{one:.1%}") for one in (result.risk, low, high))
    click.echo(told(f"any station late: {risk} of the nights ({low_risk} to {high_risk})"))


def _rounded(moment: float, whole: int) -> str:
    return told("never") if moment == NEVER else moment_of(-(-moment // whole) * whole) or ""


def _late(station: StationForecast) -> str:
    low, high = station.risk_range
    risk, low_risk, high_risk = (number(f"{one:.1%}") for one in (station.risk, low, high))
    text = f"{risk} ({low_risk} {told('to')} {high_risk})"
    return paint(text, "red") if station.risk >= _RISKY else text
