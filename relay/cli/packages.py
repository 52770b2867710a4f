"""`relay submit`, `relay list`, `relay cat`: packages into a node, and what is on it."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import click

from relay.cli.language import told
from relay.cli.options import IdType, home_option, json_option, message, named_by, print_json
from relay.cli.terminal import moving, paint
from relay.errors import BadInput, DiskFull, NotHeld
from relay.limits import MAX_TALLY
from relay.node.capture import Captured, Progress, Submission, capture
from relay.node.home import Home
from relay.node.report import describe_bundle
from relay.records.identifiers import HASH_SIZE, SHOWN_DIGITS, ObjectId, StatementId
from relay.records.tally import Mismatch, Tally, mismatches, parse_tally
from relay.store.interface import Bundle, State, Store
from relay.sync.custody import Custody

_PATH = click.Path(path_type=Path)
_COLOURS = {State.PARTIAL: "yellow", State.WAITING: "cyan", State.DELIVERED: "green"}


@click.command()
@home_option
@click.option("--tps", required=True, metavar="CODE", help="The polling station.")
@click.option("--form", required=True, help="The form, for example C-HASIL-KWK-BUPATI.")
@click.option("--tally", "tally_file", type=_PATH, help="The form's numbers (JSON).")
@click.option("--supersedes", type=IdType(), metavar="ID", help="The statement that this one corrects.")
@click.option("--reason", default="", help="Why a correction is made.")
@click.option(
    "--anyway",
    is_flag=True,
    help="Sign a second package for this form, which all will see as a conflict, and pictures that are cut off.",
)
@click.argument("files", nargs=-1, type=_PATH)
def submit(
    home: Home,
    tps: str,
    form: str,
    tally_file: Path | None,
    supersedes: str | None,
    reason: str,
    anyway: bool,
    files: tuple[Path, ...],
) -> None:
    """Sign a result package and store it durably; prints the statement's id.

    FILES are the photographs of the form: JPEG, PNG, WebP or HEIC. What does not add up in the tally is a warning and
    a flag in the record. A form that was handed in already is corrected with --supersedes and --reason.
    """
    tally = _read_tally(tally_file) if tally_file is not None else None
    submission = Submission(tps, form, files, tally, int(time.time()), None, reason, anyway)
    with moving(_bytes_of(files)) as progress:
        try:
            captured, wrong = asyncio.run(_submit(home, submission, supersedes, progress))
        except DiskFull as error:
            raise DiskFull(
                error.what, "Nothing of this package was kept: free some space, then submit again."
            ) from error
    for one in wrong:
        message(f"warning: {told(_in_words(one))} ({one.flag})")
    if wrong:
        message("It is recorded as it is, and flagged. If it was typed wrongly, correct it: --supersedes and --reason.")
    click.echo(captured.id.hex())


async def _submit(
    home: Home, submission: Submission, supersedes: str | None, progress: Progress
) -> tuple[Captured, tuple[Mismatch, ...]]:
    async with home.custody() as custody:
        if supersedes is not None:
            submission = replace(submission, supersedes=await _statement(custody.store, supersedes))
        captured = await capture(home, home.member(), custody, submission, progress)
        return captured, _mismatches(custody, submission)


async def _statement(store: Store, digits: str) -> StatementId:
    """The statement whose id begins so. Raises `NotHeld` or `BadInput`."""
    return named_by(digits, [bundle.id for bundle in await store.bundles()])


def _mismatches(custody: Custody, submission: Submission) -> tuple[Mismatch, ...]:
    if submission.tally is None:
        return ()
    station = custody.admission.stations.get(submission.tps)
    return mismatches(submission.tally, station.registered_voters if station else None)


def _in_words(one: Mismatch) -> str:
    found, expected = one.found, one.expected
    match one.flag:
        case "valid-is-not-sum-of-votes":
            return f"valid votes are {found}, and the pairs' votes together {expected}"
        case "used-is-not-valid-plus-invalid":
            return f"ballots used are {found}, and valid and invalid votes together {expected}"
        case "received-is-not-used-spoiled-unused":
            return f"ballots received are {found}, and those used, spoiled and unused together {expected}"
        case "received-is-not-registered-plus-reserve":
            return f"ballots received are {found}, and registered voters with 2.5 % more are {expected}"
        case "voters-is-not-ballots-used":
            return f"voters are {found}, and ballots used {expected}"
        case "registered-differs-from-register":
            return f"registered voters are {found}, and {expected} in the register"
        case "more-voters-than-ballots":
            return f"voters are {found}, more than the {expected} ballots"
        case "negative-number":
            return "a number is below zero"
        case _:
            return "not every number was given"


def _bytes_of(files: tuple[Path, ...]) -> int:
    """What there is to read, and then to write, for the progress shown."""
    return 2 * sum(file.stat().st_size for file in files if file.is_file())


def _read_tally(file: Path) -> Tally:
    try:
        with file.open("rb") as content:
            return parse_tally(content.read(MAX_TALLY + 1))
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror})", "Check the name and its permissions.") from error
    except BadInput as error:
        raise BadInput(f"{file}: {error.what}", error.advice) from error


@click.command(name="list")
@home_option
@click.option("--files", "with_files", is_flag=True, help="Show the files of each, and the ids for `relay cat`.")
@json_option
def list_bundles(home: Home, with_files: bool, as_json: bool) -> None:
    """List the bundles on this node, and how far each is."""
    bundles = asyncio.run(_bundles(home))
    if as_json:
        print_json([describe_bundle(bundle) for bundle in bundles])
        return
    for bundle in bundles:
        entry = told(f"entry {bundle.entry}") if bundle.entry is not None else ""
        share = f"{bundle.held * 100 // bundle.size}%" if bundle.size else "100%"
        if bundle.size and not bundle.held and bundle.state is State.DELIVERED:
            share = ""  # its content was freed against its receipt
        corrects = f"  {told(f'corrects {bundle.supersedes.hex()[:SHOWN_DIGITS]}')}" if bundle.supersedes else ""
        click.echo(
            f"{bundle.id.hex()[:SHOWN_DIGITS]}  {bundle.tps:16} {bundle.form:24} {bundle.device:20} "
            f"{paint(f'{told(bundle.state):10}', _COLOURS[bundle.state])} {share:>4}  {entry}{corrects}"
        )
        for file in bundle.files if with_files else ():
            click.echo(f"    {file.sha256.hex()}  {file.size:>9}  {file.name}")
    if not bundles:
        message("Nothing on board.")


async def _bundles(home: Home) -> list[Bundle]:
    async with home.custody(looking=True) as custody:
        return await custody.store.bundles()


@click.command()
@home_option
@click.argument("sha256", type=IdType())
def cat(home: Home, sha256: str) -> None:
    """Write the object SHA256 to standard output, once it is complete here. Its first digits are enough."""
    path = asyncio.run(_object_path(home, sha256))
    with path.open("rb") as content:
        shutil.copyfileobj(content, sys.stdout.buffer)
    sys.stdout.buffer.flush()


async def _object_path(home: Home, digits: str) -> Path:
    async with home.custody(looking=True) as custody:
        if len(digits) < 2 * HASH_SIZE:
            objects = {file.sha256: None for bundle in await custody.store.bundles() for file in bundle.files}
            digits = named_by(digits, objects, "See the ids of files with `relay list --files`.").hex()
        path = await custody.store.object_path(ObjectId(bytes.fromhex(digits)))
    if path is None:
        raise NotHeld(f"Object {digits} is not complete on this node", "See `relay list` for what is held.")
    return path
