"""`relay demo`: the whole story on this machine, with real daemons, real TLS and real stores.

A ferry calls at three islands and then at the harbour; only the harbour has a way to the receiver. On its second round
the ferry brings the receipts back. The script of the story is `_play`; the stage is `stage`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from relay.cli.demo.election import FORMS, PROVINCE, REGENCY, example_stations, example_tally, load_example_map
from relay.cli.demo.pictures import PAGES, Heading, form_picture
from relay.cli.demo.stage import Box, Gangway, Stage, free_port
from relay.cli.language import told
from relay.cli.options import json_option, message, print_json
from relay.errors import Unreachable
from relay.node.capture import Submission, capture
from relay.records.identifiers import StatementId
from relay.records.notice import Station
from relay.records.tally import read_tally
from relay.store.interface import Bundle, State
from relay.sync.custody import Custody
from relay.sync.signal import Signal
from relay.trust.roles import Role
from relay.web.site.service import MAP_FILE

_PATIENCE = 45.0


@dataclass(slots=True)
class Story:
    """What has happened so far, for the table and for the end."""

    submitted: dict[StatementId, tuple[str, str]] = field(default_factory=dict)
    where: dict[str, dict[StatementId, Bundle]] = field(default_factory=dict)
    act: str = ""
    sheets: int = 0
    looked: Signal = field(default_factory=Signal)


@click.command()
@click.option("--once", is_flag=True, help="End when the story ends (also when the output is no terminal).")
@json_option
def demo(once: bool, as_json: bool) -> int:
    """Show the whole journey on this machine: three islands, a ferry, a harbour, a receiver, and the receipts back."""
    logging.getLogger("relay").setLevel(logging.ERROR)
    once = once or as_json or not sys.stdout.isatty()
    with tempfile.TemporaryDirectory(prefix="relay-demo-") as folder:
        try:
            return asyncio.run(_demo(Path(folder), once, as_json))
        except asyncio.CancelledError:
            raise click.Abort from None


async def _demo(folder: Path, once: bool, as_json: bool) -> int:
    started = time.monotonic()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)  # the daemons must not outlive the demo
    console = Console(stderr=True)
    story = Story()
    stage = Stage.build(folder)
    try:
        async with _shown(console, story, as_json):
            result = await _play(stage, story)
        result["seconds"] = round(time.monotonic() - started, 1)
        _end(result, as_json)
        if not once:
            console.print(told("The pages stay up for a look. Ctrl-C ends the demo; nothing stays behind."))
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
    finally:
        await stage.stop()
    return 0 if result["ok"] else 1


async def _play(stage: Stage, story: Story) -> dict[str, Any]:
    islands = [station for station in example_stations() if station.island]
    story.act = "The election office enrols a receiver, a harbour, a ferry and three islands"
    public = free_port()
    receiver = stage.box("penerima", Role.RECEIVER)
    harbour = stage.box("dermaga-manggar", Role.CARRIER)
    ferry = stage.box("km-bahari", Role.CARRIER)
    boxes = [stage.box(_box_name(station), Role.OPERATOR, [station.tps]) for station in islands]
    gangways = {box.name: Gangway(box.port) for box in (*boxes, harbour)}
    await stage.join(receiver, public=f"127.0.0.1:{public}")
    (receiver.home.path / MAP_FILE).write_bytes(load_example_map())
    await stage.join(harbour, receivers=[f"https://127.0.0.1:{receiver.port}"])
    await stage.join(ferry, peers=[f"127.0.0.1:{gangway.port}" for gangway in gangways.values()])
    for box in boxes:
        await stage.join(box)
    async with AsyncExitStack() as stack:
        way = (*boxes, ferry, harbour, receiver)
        custodies = {box.name: await stack.enter_async_context(box.home.custody()) for box in way}
        stack.push_async_callback(_cancel, asyncio.create_task(_look(custodies, story)))
        starting = [asyncio.create_task(stage.start(box)) for box in stage.boxes]
        story.act = "Each island photographs its two forms, signs and stores them"
        for box, station in zip(boxes, islands, strict=True):
            await _submit_forms(box, station, custodies[box.name], story)
        await asyncio.gather(*starting)
        await _first_round(story, boxes, harbour, gangways)
        await _second_round(story, boxes, gangways)
        story.act = "Every hash is checked"
        return await _check(stage, story, custodies, boxes, receiver, f"http://127.0.0.1:{public}/")


async def _submit_forms(box: Box, station: Station, custody: Custody, story: Story) -> None:
    heading = Heading(station.number, station.village, station.district, REGENCY, PROVINCE)
    for number, form in enumerate(FORMS):
        tally = example_tally(station.tps, form, station.registered_voters)
        files: list[Path] = []
        for page in range(1, PAGES + 1):
            picture = await asyncio.to_thread(form_picture, station.tps, form, page, tally, heading, number)
            files.append(box.home.path / f"{form}-{page}.jpg")
            files[-1].write_bytes(picture)
            story.sheets += 1
        submission = Submission(station.tps, form, tuple(files), read_tally(tally), int(time.time()))
        captured = await capture(box.home, box.home.member(), custody, submission)
        story.submitted[captured.id] = (station.island, form)


async def _first_round(story: Story, boxes: list[Box], harbour: Box, gangways: dict[str, Gangway]) -> None:
    for count, box in enumerate(boxes, 1):
        story.act = f"KM Bahari calls at {box.name}"
        async with _alongside(gangways[box.name]):
            await _until(story, "km-bahari", lambda bundle: bundle.state is not State.PARTIAL, 2 * count)
    story.act = "KM Bahari reaches the harbour of Manggar; from there it goes on to the receiver"
    async with _alongside(gangways[harbour.name]):
        await _until(story, "km-bahari", lambda bundle: bundle.state is State.DELIVERED, len(story.submitted))


async def _second_round(story: Story, boxes: list[Box], gangways: dict[str, Gangway]) -> None:
    for box in boxes:
        story.act = f"On its second round KM Bahari brings the receipts to {box.name}"
        async with _alongside(gangways[box.name]):
            await _until(story, box.name, lambda bundle: bundle.state is State.DELIVERED and bundle.own, 2)


@asynccontextmanager
async def _alongside(gangway: Gangway) -> AsyncIterator[None]:
    await gangway.open()
    try:
        yield
    finally:
        await gangway.close()


async def _until(story: Story, name: str, fits: Callable[[Bundle], bool], count: int) -> None:
    """Wait until so many bundles on a node are as they should be."""
    try:
        async with asyncio.timeout(_PATIENCE):
            while sum(fits(bundle) for bundle in story.where.get(name, {}).values()) < count:
                await story.looked.wait(story.looked.count)
    except TimeoutError:
        raise Unreachable(f"{story.act}: nothing moved for {_PATIENCE:.0f} s", "Is this machine very busy?") from None


async def _look(custodies: dict[str, Custody], story: Story) -> None:
    """Keep looking where every package is."""
    while True:
        for name, custody in custodies.items():
            story.where[name] = {bundle.id: bundle for bundle in await custody.store.bundles()}
        story.looked.ring()
        await asyncio.sleep(0.1)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _check(
    stage: Stage, story: Story, custodies: dict[str, Custody], boxes: list[Box], receiver: Box, site: str
) -> dict[str, Any]:
    """Read what was published, as anybody could, and hold it against what the islands signed."""
    logged = story.where[receiver.name]
    entries = sorted(bundle.entry for bundle in logged.values() if bundle.entry is not None)
    state = await custodies[receiver.name].store.log_state()
    hashes = 0
    async with aiohttp.ClientSession() as session:
        for bundle in logged.values():
            for entry in bundle.files:
                async with session.get(f"{site}object/{entry.sha256.hex()}") as response:
                    hashes += sha256(await response.read()).digest() == entry.sha256
    receipts = sum(
        bundle.entry is not None and bundle.own for box in boxes for bundle in story.where[box.name].values()
    )
    total = len(story.submitted)
    ok = (
        set(logged) == set(story.submitted)
        and entries == list(range(total)) == list(range(state.size))
        and receipts == total
        and hashes == story.sheets
    )
    return {
        "ok": ok,
        "packages": total,
        "delivered": len(entries),
        "log_size": state.size,
        "each_once": entries == list(range(total)) and state.size == total,
        "receipts_back": receipts,
        "objects": story.sheets,
        "hashes_checked": hashes,
        "pages": {"public": site, **{box.name: box.page for box in stage.boxes}},
    }


@asynccontextmanager
async def _shown(console: Console, story: Story, as_json: bool) -> AsyncIterator[None]:
    """A live table on a terminal; elsewhere a line whenever the story goes on."""
    if console.is_terminal and not as_json:
        with Live(get_renderable=lambda: _table(story), console=console, refresh_per_second=8):
            yield
        return
    task = asyncio.create_task(_tell(story))
    try:
        yield
    finally:
        await _cancel(task)


async def _tell(story: Story) -> None:
    act = ""
    while True:
        if story.act != act:
            act = story.act
            message(act)
        await asyncio.sleep(0.05)


def _table(story: Story) -> Table:
    names = list(story.where)
    caption = told("● whole   ◐ on its way   ✓ delivered, with receipt")
    table = Table(title=told(story.act), title_justify="left", caption=caption)
    table.add_column(told("package"))
    for name in names:
        table.add_column(name, justify="center")
    for statement, (island, form) in story.submitted.items():
        cells = [_mark(story.where[name].get(statement)) for name in names]
        table.add_row(f"{island} {form.rpartition('-')[2].title()}", *cells)
    return table


def _mark(bundle: Bundle | None) -> str:
    if bundle is None:
        return ""
    if bundle.state is State.DELIVERED:
        return f"[green]✓ {bundle.entry}[/green]"
    if bundle.state is State.WAITING:
        return "[cyan]●[/cyan]"
    return f"[yellow]◐ {bundle.held * 100 // max(bundle.size, 1)}%[/yellow]"


def _end(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    once = "each once" if result["each_once"] else "NOT each once"
    delivered, packages = result["delivered"], result["packages"]
    click.echo(told(f"{delivered} of {packages} delivered, {once}; log of {result['log_size']} entries"))
    click.echo(told(f"{result['receipts_back']} of {packages} receipts are back on the islands"))
    click.echo(told(f"{result['hashes_checked']} of {result['objects']} photographs have the hash that was signed"))
    for name, page in result["pages"].items():
        click.echo(f"  {name:24} {page}")
    well = "All is well" if result["ok"] else "Something is WRONG"
    click.echo(told(f"{well} after {result['seconds']} s."))


def _box_name(station: Station) -> str:
    return station.island.lower().replace(" ", "-")
