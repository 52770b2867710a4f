"""`relay export` and `relay import`: moving bundles by stick or card."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from relay.cli.language import told, told_in_parts
from relay.cli.options import home_option, json_option, message, print_json
from relay.cli.status import FAILING_DISK_ADVICE
from relay.cli.terminal import moving
from relay.errors import BadInput
from relay.limits import MAX_ENROLMENT
from relay.node.byhand import Moved, Progress, export_to, import_from, import_notices
from relay.node.home import Home
from relay.sync.custody import Custody
from relay.trust.enrolment import read_enrolment

_PATH = click.Path(path_type=Path)
_EACH = 20
"""Refusals of one reason that are listed one by one."""
_BEGINNING = 256
"""Bytes of a file that tell whether it is PEM."""


@click.command()
@home_option
@click.argument("folder", type=_PATH, metavar="DIR")
@json_option
def export(home: Home, folder: Path, as_json: bool) -> int:
    """Write bundles, receipts and notices to DIR. Run it again to go on after an interruption."""
    exporting = _with_custody(home, lambda custody, progress: export_to(custody, folder, progress), reading=True)
    moved = asyncio.run(exporting)
    _report(moved, as_json, f"wrote {moved.records} records and {moved.objects} objects, {moved.bytes} bytes")
    for left_out in together(moved.refused):
        message(f"left out: {told_in_parts(left_out)}")
    if moved.unreadable:
        message(f"{moved.unreadable} objects cannot be read here, and are not on the stick. {FAILING_DISK_ADVICE}")
    return 1 if moved.refused else 0


@click.command(name="import")
@home_option
@click.argument("path", type=_PATH, metavar="DIR")
@json_option
def import_(home: Home, path: Path, as_json: bool) -> int:
    """Take in what `relay export` wrote to DIR, or a file of notices such as a revocation."""
    if path.is_file():
        notices = _read_notices(path)
        moved = asyncio.run(_with_custody(home, lambda custody, _progress: import_notices(custody, notices)))
    elif path.is_dir():
        moved = asyncio.run(_with_custody(home, lambda custody, progress: import_from(custody, path, progress)))
    else:
        raise BadInput(f"{path} is neither a folder nor a file", "Give the folder that `relay export` wrote.")
    _report(moved, as_json, f"took {moved.records} records and {moved.objects} objects, {moved.bytes} bytes")
    for refusal in together(moved.refused):
        message(f"refused: {told_in_parts(refusal)}")
    if moved.refused and moved.foreign == len(moved.refused):
        message("All of this is of another election than this node's: take it to a node of its own.")
    if moved.unreadable:
        message(
            f"{moved.unreadable} files of the stick cannot be read; the rest is here. Export again, to another stick."
        )
    return 1 if moved.refused else 0


def _read_notices(file: Path) -> tuple[bytes, ...]:
    with file.open("rb") as content:
        text = content.read(MAX_ENROLMENT + 1)
    if not text[:_BEGINNING].lstrip().startswith(b"-----BEGIN "):
        raise BadInput(
            f"{file} is no stick folder, no enrolment and no notice",
            "Give the folder that `relay export` wrote, not a file in it, or the file from the election office.",
        )
    return read_enrolment(text).notices


def together(refusals: list[str]) -> list[str]:
    """Refusals as they are shown: of many with one reason the first, and how many there are."""
    names: dict[str, list[str]] = {}
    for refusal in refusals:
        name, _, what = refusal.partition(": ")
        names.setdefault(what, []).append(name)
    return [
        f"{name}: {what}"
        for what, found in names.items()
        for name in (found if len(found) <= _EACH else [found[0], f"{len(found) - 1} others"])
    ]


async def _with_custody(
    home: Home, act: Callable[[Custody, Progress], Awaitable[Moved]], *, reading: bool = False
) -> Moved:
    async with home.custody(reading=reading) as custody:
        with moving() as progress:
            return await act(custody, progress)


def _report(moved: Moved, as_json: bool, said: str) -> None:
    if as_json:
        print_json({"records": moved.records, "objects": moved.objects, "bytes": moved.bytes, "refused": moved.refused})
    else:
        click.echo(told(said))
