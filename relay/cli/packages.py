"""`relay submit`, `relay list`, `relay cat`: packages into a node, and what is on it."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from pathlib import Path

import click

from relay.cli.language import told
from relay.cli.options import HashType, home_option, json_option, message, print_json
from relay.cli.terminal import moving, paint
from relay.errors import BadInput, NotHeld
from relay.limits import MAX_TALLY
from relay.node.capture import Captured, Progress, Submission, capture
from relay.node.home import Home
from relay.node.report import describe_bundle
from relay.records.identifiers import ObjectId, RecordId, StatementId
from relay.records.tally import Tally, parse_tally
from relay.store.interface import Bundle, State

_PATH = click.Path(path_type=Path)
_COLOURS = {State.PARTIAL: "yellow", State.WAITING: "cyan", State.DELIVERED: "green"}


@click.command()
@home_option
@click.option("--tps", required=True, metavar="CODE", help="The polling station.")
@click.option("--form", required=True, help="The form, for example C-HASIL-KWK-BUPATI.")
@click.option("--tally", "tally_file", type=_PATH, help="The form's numbers (JSON).")
@click.option("--supersedes", type=HashType(), metavar="ID", help="The statement that this one corrects.")
@click.option("--reason", default="", help="Why a correction is made.")
@click.argument("files", nargs=-1, type=_PATH)
def submit(
    home: Home,
    tps: str,
    form: str,
    tally_file: Path | None,
    supersedes: bytes | None,
    reason: str,
    files: tuple[Path, ...],
) -> None:
    """Sign a result package and store it durably; prints the statement's id.

    FILES are the photographs of the form. What does not add up in the tally is a warning and a flag in the record.
    """
    tally = _read_tally(tally_file) if tally_file is not None else None
    earlier = StatementId(RecordId(supersedes)) if supersedes is not None else None
    submission = Submission(tps, form, files, tally, int(time.time()), earlier, reason)
    with moving(_bytes_of(files)) as progress:
        captured = asyncio.run(_submit(home, submission, progress))
    for flag in captured.flags:
        message(f"warning: the tally does not add up ({flag}); it is recorded as it is, with this flag")
    click.echo(captured.id.hex())


async def _submit(home: Home, submission: Submission, progress: Progress) -> Captured:
    async with home.custody() as custody:
        return await capture(home, home.member(), custody, submission, progress)


def _bytes_of(files: tuple[Path, ...]) -> int:
    """What there is to read, and then to write, for the progress shown."""
    return 2 * sum(file.stat().st_size for file in files if file.is_file())


def _read_tally(file: Path) -> Tally:
    try:
        with file.open("rb") as content:
            return parse_tally(content.read(MAX_TALLY + 1))
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror})", "Check the name and its permissions.") from error


@click.command(name="list")
@home_option
@json_option
def list_bundles(home: Home, as_json: bool) -> None:
    """List the bundles on this node, and how far each is."""
    bundles = asyncio.run(_bundles(home))
    if as_json:
        print_json([describe_bundle(bundle) for bundle in bundles])
        return
    for bundle in bundles:
        entry = told(f"entry {bundle.entry}") if bundle.entry is not None else ""
        share = f"{bundle.held * 100 // bundle.size}%" if bundle.size else "100%"
        click.echo(
            f"{bundle.id.hex()[:16]}  {bundle.tps:16} {bundle.form:24} {bundle.device:20} "
            f"{paint(f'{told(bundle.state):10}', _COLOURS[bundle.state])} {share:>4}  {entry}"
        )
    if not bundles:
        message("Nothing on board.")


async def _bundles(home: Home) -> list[Bundle]:
    async with home.custody() as custody:
        return await custody.store.bundles()


@click.command()
@home_option
@click.argument("sha256", type=HashType())
def cat(home: Home, sha256: bytes) -> None:
    """Write the object SHA256 to standard output, once it is complete here."""
    path = asyncio.run(_object_path(home, ObjectId(sha256)))
    if path is None:
        raise NotHeld(f"Object {sha256.hex()} is not complete on this node", "See `relay list` for what is held.")
    with path.open("rb") as content:
        shutil.copyfileobj(content, sys.stdout.buffer)
    sys.stdout.buffer.flush()


async def _object_path(home: Home, object_id: ObjectId) -> Path | None:
    async with home.custody() as custody:
        return await custody.store.object_path(object_id)
