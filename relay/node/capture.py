"""Capture: files and a tally become a signed, durable bundle. The first step of the journey.

Lives here: checking what an operator hands over, and the device's chain. What is returned has been synced to the disk
(promise 5). A correction is a new statement that names what it supersedes (promise 7).
"""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO

from relay.errors import BadInput, RelayError, StoreError
from relay.limits import MAX_FILE, MAX_FILES, MAX_NAME, MAX_REASON, MIB, SEALING_OVERHEAD
from relay.node.home import Home, Member
from relay.node.restoring import check_may_sign
from relay.records.encoding import encode
from relay.records.identifiers import SHOWN_DIGITS, Kind, ObjectId, StatementId, is_file_name, sha256
from relay.records.pictures import HEAD, MEDIA_TYPES, is_cut_off, media_type
from relay.records.statement import FileEntry, Package, check_size, describe_file, sign_statement
from relay.records.tally import Tally, check_tally
from relay.store.durable import explained
from relay.store.interface import Outcome
from relay.sync.custody import Custody
from relay.trust.sealing import seal

_BLOCK = 1 * MIB


@dataclass(frozen=True, slots=True)
class Submission:
    """What an operator hands over. `captured_at` is the device's clock, seconds since 1970: a claim."""

    tps: str
    form: str
    files: tuple[Path, ...]
    tally: Tally | None
    captured_at: int
    supersedes: StatementId | None = None
    reason: str = ""
    anyway: bool = False
    """Sign it although a package for this form exists, which all the world will see as a conflict; and although a
    photograph is cut off."""
    pictures_only: bool = True
    """Refuse files that are no photographs."""


@dataclass(frozen=True, slots=True)
class Captured:
    """The statement that was made, and the flags of its tally."""

    id: StatementId
    flags: tuple[str, ...]


Progress = Callable[[str, int], None]
"""Told what was done with a file (`read`, then `kept`) and its bytes."""


async def capture(
    home: Home,
    member: Member,
    custody: Custody,
    submission: Submission,
    progress: Progress = lambda _what, _size: None,
) -> Captured:
    """Sign a submission and store it durably. Raises `BadInput` or `StoreError`: nothing was kept, unless it names the
    statement that is."""
    submission = replace(submission, reason=" ".join(submission.reason.split()))
    await check_may_sign(custody.store)
    check_station(member, custody, submission)
    await _check_correction(custody, submission)
    if not submission.files and submission.tally is None:
        raise BadInput("There is nothing to submit", "Name photographs, or a tally with --tally.")
    if len(submission.files) > MAX_FILES:
        raise BadInput(f"{len(submission.files)} files are too many", f"A package holds at most {MAX_FILES}.")
    flags = _flags(custody, submission)
    sealing_key = custody.admission.sealing_key
    if custody.admission.sealed and sealing_key is None:
        raise BadInput("Packages are to be sealed, and no notice has the key", "Ask the election office for it.")
    most = MAX_FILE if sealing_key is None else MAX_FILE - SEALING_OVERHEAD
    whole = submission.pictures_only and not submission.anyway
    entries = await _describe_all(submission.files, most, progress, whole=whole)
    if submission.pictures_only:
        _check_pictures(submission.files, entries)
    check_size(entries)
    copied: list[ObjectId] = []
    try:
        if sealing_key is None:
            await _copy_files(custody, submission, entries, progress, copied)
        else:
            entries = await _seal_files(home, custody, submission, entries, sealing_key, progress, copied)
        statement = await _sign(home, member, custody, submission, entries, flags, sealing_key)
    except RelayError:
        await _let_go(custody, copied)
        raise
    if sealing_key is None:
        await _bring_again(custody, statement, entries, submission.files)
    return Captured(statement, flags)


async def _copy_files(
    custody: Custody, submission: Submission, entries: Sequence[FileEntry], progress: Progress, copied: list[ObjectId]
) -> None:
    """Take the files in; those that were not held come to `copied`."""
    for entry, path in zip(entries, submission.files, strict=True):
        if await custody.store.adopt(entry.sha256, path):
            copied.append(entry.sha256)
        progress("kept", entry.size)


async def _sign(
    home: Home,
    member: Member,
    custody: Custody,
    submission: Submission,
    entries: tuple[FileEntry, ...],
    flags: tuple[str, ...],
    sealing_key: bytes | None,
) -> StatementId:
    """Make a statement over files that are in the store, and keep it."""
    sealed_tally = await asyncio.to_thread(_seal_tally, submission, member, sealing_key)
    async with home.chain_turn():
        await _check_alone(custody, submission)
        head = await custody.store.chain_head(member.identity.node, made_here=True)
        package = Package(
            election=member.identity.election,
            tps=submission.tps,
            form=submission.form,
            seq=head[0] + 1 if head else 1,
            previous=head[1] if head else None,
            captured_at=submission.captured_at,
            files=entries,
            tally=submission.tally if sealing_key is None else None,
            sealed_tally=sealed_tally,
            sealed=sealing_key is not None,
            flags=flags if sealing_key is None else (),
            supersedes=submission.supersedes,
            reason=submission.reason,
        )
        raw = sign_statement(package, member.identity.uri, member.identity.certificate, member.key)
        (verdict,) = await custody.take([(Kind.STATEMENT, raw)], made_here=True)
    if verdict.refusal is not None:
        raise verdict.refusal
    if verdict.outcome is not Outcome.NEW or verdict.id is None:
        raise BadInput("The package was not kept", "Free space on this device and submit again.")
    return StatementId(verdict.id)


async def _let_go(custody: Custody, copied: Sequence[ObjectId]) -> None:
    """Delete what a submission copied that came to nothing, but for what a package has: it may be the room that the
    next one needs. What does not go now goes at the next start."""
    with suppress(StoreError):
        named = {file.sha256 for bundle in await custody.store.bundles() for file in bundle.files} if copied else set()
        for object_id in copied:
            if object_id not in named:
                await custody.store.free([object_id])


async def _bring_again(
    custody: Custody, statement: StatementId, entries: Sequence[FileEntry], paths: Sequence[Path]
) -> None:
    """Content that was held already may have been freed before the statement named it: bring it once more."""
    try:
        for entry, path in zip(entries, paths, strict=True):
            await custody.store.adopt(entry.sha256, path)
    except RelayError as error:
        raise StoreError(
            f"Package {statement.hex()} is signed and kept, and not all of its content is ({error.what})",
            "Mend that, then submit the same files with --supersedes and this id.",
        ) from error


async def _seal_files(
    home: Home,
    custody: Custody,
    submission: Submission,
    entries: Sequence[FileEntry],
    sealing_key: bytes,
    progress: Progress,
    copied: list[ObjectId],
) -> tuple[FileEntry, ...]:
    """Seal each file and take the sealed bytes in, which come to `copied`; their entries."""
    subject = f"{custody.admission.election}/{submission.tps}/{submission.form}"
    sealed_entries: list[FileEntry] = []
    for entry, path in zip(entries, submission.files, strict=True):
        with explained(home.path), tempfile.NamedTemporaryFile(dir=home.path, prefix=".sealed-") as file:
            sealed_entries.append(await asyncio.to_thread(_seal_one, entry, path, sealing_key, subject, file))
            if await custody.store.adopt(sealed_entries[-1].sha256, Path(file.name)):
                copied.append(sealed_entries[-1].sha256)
        progress("kept", entry.size)
    check_size(sealed_entries)
    return tuple(sealed_entries)


def _seal_one(entry: FileEntry, path: Path, sealing_key: bytes, subject: str, target: IO[bytes]) -> FileEntry:
    """Seal one file, as it was described, into `target`; the entry of what lies there. In a thread."""
    with explained(path), path.open("rb") as file:
        content = file.read(entry.size + 1)
    if len(content) != entry.size or sha256(content) != entry.sha256:
        raise _changed(path)
    sealed = seal(content, sealing_key, subject)
    target.write(sealed)
    target.flush()
    return describe_file(entry.name, entry.media_type, [sealed], len(sealed))


def _seal_tally(submission: Submission, member: Member, sealing_key: bytes | None) -> bytes | None:
    if sealing_key is None or submission.tally is None:
        return None
    subject = f"{member.identity.election}/{submission.tps}/{submission.form}"
    return seal(encode(submission.tally.to_map()), sealing_key, subject)


def check_station(member: Member, custody: Custody, submission: Submission) -> None:
    """Check that the station and the form exist and are this device's. Raises `BadInput`."""
    admission = custody.admission
    if admission.stations and submission.tps not in admission.stations:
        raise BadInput(
            f"Polling station {submission.tps[:80]!r} is not in the register",
            f"This device signs for {_listed(member.identity.tps)}.",
        )
    if submission.tps not in member.identity.tps:
        raise BadInput(
            f"Polling station {submission.tps[:80]!r} is not one of this device's",
            f"It signs for {_listed(member.identity.tps)}; the election office can enrol it for more.",
        )
    if admission.forms and submission.form not in admission.forms:
        raise BadInput(f"Form {submission.form[:80]!r} is not of this election", f"Use {', '.join(admission.forms)}.")
    _check_reason(submission)


def _check_reason(submission: Submission) -> None:
    if len(submission.reason) > MAX_REASON:
        raise BadInput("The reason is too long", f"Use at most {MAX_REASON} characters.")
    if not submission.reason.isprintable():
        raise BadInput("The reason has characters that cannot be printed", "Type it again, in letters and digits.")
    if submission.reason and submission.supersedes is None:
        raise BadInput("A reason is for a correction", "Say with --supersedes what it corrects, or leave --reason out.")


def _listed(codes: frozenset[str]) -> str:
    return ", ".join(sorted(codes)) or "no polling station"


async def _check_correction(custody: Custody, submission: Submission) -> None:
    """Check that a correction says of what, and why, before any file is read."""
    if submission.supersedes is None:
        await _check_alone(custody, submission)
        return
    if not submission.reason:
        raise BadInput("A correction needs a reason", "Write what was wrong: --reason TEXT.")
    earlier = await custody.store.bundle(submission.supersedes)
    if earlier is None:
        raise BadInput("The statement to supersede is not on this device", "See its id with `relay list`.")
    if (earlier.tps, earlier.form) != (submission.tps, submission.form):
        raise BadInput(
            f"The statement to supersede is for {earlier.tps}, {earlier.form}",
            "A correction is for the same polling station and form.",
        )
    await _check_alone(custody, submission)


async def _check_alone(custody: Custody, submission: Submission) -> None:
    """Check that a package is the only one of its form, or corrects the newest: others are seen as a conflict."""
    if submission.anyway:
        return
    same = [one for one in await custody.store.bundles() if (one.tps, one.form) == (submission.tps, submission.form)]
    corrected_by = {one.supersedes: one.id for one in same if one.supersedes is not None}
    newest = submission.supersedes
    while newest in corrected_by:
        newest = corrected_by[newest]
    if newest is not None and newest != submission.supersedes:
        shown = newest.hex()[:SHOWN_DIGITS]
        raise BadInput("That statement was corrected already", f"Correct the newest: --supersedes {shown}")
    standing = [one.id for one in same if one.id not in corrected_by]
    if standing and submission.supersedes is None:
        raise BadInput(
            f"A package for this form exists: {standing[-1].hex()[:SHOWN_DIGITS]}",
            "To correct it use --supersedes with that id, and --reason; a second one beside it (--anyway) is shown to "
            "all as a conflict.",
        )


def _check_pictures(paths: Sequence[Path], entries: Sequence[FileEntry]) -> None:
    for path, entry in zip(paths, entries, strict=True):
        if entry.media_type not in MEDIA_TYPES.values():
            raise BadInput(f"{str(path)[:200]} is no photograph", "Give JPEG, PNG, WebP or HEIC; a PDF as pictures.")


def _flags(custody: Custody, submission: Submission) -> tuple[str, ...]:
    if submission.tally is None:
        return ()
    station = custody.admission.stations.get(submission.tps)
    return check_tally(submission.tally, station.registered_voters if station else None)


async def _describe_all(paths: Sequence[Path], most: int, progress: Progress, *, whole: bool) -> tuple[FileEntry, ...]:
    names: set[str] = set()
    entries: list[FileEntry] = []
    for path in paths:
        name = _free_name(_plain_name(path.name), names)
        names.add(name)
        entries.append(await asyncio.to_thread(_describe, path, name, most, whole=whole))
        progress("read", entries[-1].size)
    return tuple(entries)


def _describe(path: Path, name: str, most: int, *, whole: bool) -> FileEntry:
    """Read a file of at most `most` bytes; with `whole`, a photograph has its end. In a thread."""
    shown = str(path)[:200]
    try:
        # A named pipe must not hold us up.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise BadInput(f"{shown} is not a file", "Name the photographs one by one.")
            size = facts.st_size
            if size == 0:
                raise BadInput(f"{shown} is empty", "Take the photograph again.")
            if size > most:
                raise BadInput(f"{shown} is too large ({size} bytes)", f"A file has at most {most // MIB} MiB.")
            if whole and is_cut_off(partial(_read_at, file.fileno()), size):
                raise BadInput(
                    f"{shown} is cut off: its end is missing",
                    "Copy it from the camera again, or take it again; --anyway signs what there is of it.",
                )
            kind = media_type(os.pread(file.fileno(), HEAD, 0))
            entry = describe_file(name, kind, _blocks(file, size), size)
    except IsADirectoryError as error:
        raise BadInput(f"{shown} is not a file", "Name the photographs one by one.") from error
    except OSError as error:
        raise BadInput(f"{shown} cannot be read ({error.strerror})", "Check the name and its permissions.") from error
    if sum(1 for _ in entry.chunks) != -(-size // entry.chunk_size):
        raise _changed(path)
    return entry


def _read_at(descriptor: int, offset: int, size: int) -> bytes:
    return os.pread(descriptor, size, offset)


def _changed(path: Path) -> BadInput:
    return BadInput(f"{str(path)[:200]} changed while it was read", "Submit it again when it is complete.")


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first `size` bytes: a file that grows meanwhile must not be read for ever."""
    left = size
    while left and (block := file.read(min(left, _BLOCK))):
        left -= len(block)
        yield block


def _plain_name(name: str) -> str:
    """A name that may travel: unprintable and path characters replaced, shortened from the front of its stem."""
    readable = name.encode("utf-8", "replace").decode("utf-8")
    plain = "".join(c if c.isprintable() and c not in "/\\:" else "_" for c in readable).strip(" .") or "file"
    while len(plain.encode()) > MAX_NAME - 8:
        plain = plain[1:]
    return plain if is_file_name(plain) else "file"


def _free_name(name: str, taken: set[str]) -> str:
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    number = 2
    while name in taken:
        name = f"{stem}-{number}{dot}{suffix}"
        number += 1
    return name
