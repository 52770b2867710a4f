"""The audit: a published log checked from its first entry to its last, with no trust in who serves it (promise 8).

The other side of `publishing`. In this order, and the first thing that is wrong ends it (`Refused` or `Malformed`):

1. The checkpoint is signed by a receiver that a notice of the election office names.
2. It extends the checkpoint that the audit before this one saw: a consistency proof, made from the log's tiles.
3. Each entry was to be admitted (`relay.trust.auditing`); none stands twice in the log; their hashes are those in the
   published tiles, and lead to the checkpoint's root.
4. Each entry's receipt is signed, and proves this entry in this log.
5. Each object that an entry names is there, with its hash.

The site is written after the log, and may lag behind it: `site.json` says how far it is. A receipt or an object of an
entry beyond is not missing but not published yet, which is told, and is checked by the next audit. But that is the
server's own word, and would excuse one that never shows a photograph: the ledger keeps when the auditor first saw how
many entries, and what is still not published so long after (`Scope.patience`) is a fault. A checkpoint that is older
than the one seen before, and its beginning, is an old copy: caches have them, and that is no fault either.

What may be true of an honest log is no fault, and is told beside: gaps and forks in device chains, entries of signers
revoked since, objects of which a signer gave a false size, sealed packages whose content nobody here can read. `Source`
reads, `Ledger` remembers.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any

from relay.errors import BadInput, Malformed, NotHeld, Refused, StoreError, Unreachable
from relay.limits import (
    AUDIT_AHEAD,
    AUDIT_COMMIT,
    AUDIT_PATIENCE_SECONDS,
    AUDIT_REMARKS,
    AUDIT_ROOM,
    MAX_CHECKPOINT,
    MAX_PUBLISHED_NOTICES,
    MAX_SITE_DOCUMENT,
)
from relay.log.checkpoint import Checkpoint, parse_checkpoint
from relay.log.merkle import HASH_SIZE, verify_consistency
from relay.log.note import parse_note
from relay.log.tiles import ENTRIES, WIDTH, TileId, tile_reader
from relay.log.tree import consistency_proof
from relay.net.source import Source
from relay.receiver.attachments import Attachments, Progress, wrong
from relay.receiver.bundles import Group, ReadAhead, fetch_tile
from relay.receiver.chains import Finding
from relay.receiver.ledger import Ledger
from relay.receiver.memory import Older
from relay.receiver.publishing import CHECKPOINT, NOTICES
from relay.receiver.witnessing import COSIGNED
from relay.records.identifiers import Kind
from relay.together import in_order
from relay.trust.admission import Admission
from relay.trust.auditing import Fault, Judged, Judgement, judge_bundles, judge_receipts
from relay.trust.enrolment import read_enrolment
from relay.trust.witness import SignedCheckpoint

STATE = "site.json"
"""How far the public site is."""
OLD_COPY = "old-copy"
"""The reason of a refusal because what is served is older than what was seen before, and no fault."""

_WORTH_PROCESSES = 16 * WIDTH
"""Entries from which on it pays to start processes."""

_STRETCH = 16
"""Bundles that are given to a process together. The longer, the fewer certificates are read in more than one."""

AtWork = Callable[..., asyncio.Future[Any]]
"""Calls a function elsewhere, with these arguments."""
Taken = tuple[int, int, Judgement, bytes]
"""First entry, width, judgement and published tile of a bundle."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What an audit checks besides the log itself, and on how many processors."""

    signatures: bool = True
    receipts: bool = True
    objects: bool = True
    jobs: int = 1
    patience: float = AUDIT_PATIENCE_SECONDS
    """Seconds from when an entry was first seen until what belongs to it must be published."""


@dataclass(slots=True)
class Report:
    """What an audit proved. `growth_from` is the size of the log that the audit before saw, 0 for the first."""

    election: str
    origin: str
    size: int
    root: bytes
    growth_from: int
    cosigned_by: list[str] = field(default_factory=list)
    cosigned: int = 0
    """How many entries the witnesses cosigned: the log may have grown on since."""
    entries: int = 0
    receipts: int = 0
    objects: int = 0
    object_bytes: int = 0
    missized: int = 0
    """Objects of which their signer gave another size."""
    unpublished: int | None = None
    """The first entry whose receipt or objects the site does not show yet; None where it shows all that was asked."""
    unpublished_for: float = 0.0
    """Seconds since that entry was first seen."""
    revoked: dict[str, int] = field(default_factory=dict)
    """Entries of signers revoked since, by name."""
    older: list[Older] = field(default_factory=list)
    """Notices that are served in older versions than were seen before."""
    before: list[str] = field(default_factory=list)
    """The logs that were shown in this one's place before, of receivers that were replaced; oldest first."""
    missing: int | None = None
    """How many statements that were checked in the last of them are not in this one; None where that is not known."""
    findings: list[Finding] = field(default_factory=list)
    findings_total: int = 0


async def read_notices(source: Source) -> tuple[bytes, ...]:
    """The notices that a log publishes. Raises `NotHeld` where there is no log, and what `Source.read` does."""
    try:
        text = await source.read(NOTICES, MAX_PUBLISHED_NOTICES)
    except NotHeld as error:
        raise NotHeld(
            f"No log is published there: {error.what}",
            "Give the receiver's public address: that of its first page, without `en/` and a page's name. If it is "
            "that, ask the receiver's administrator.",
        ) from error
    _check_no_page(NOTICES, text)
    try:
        return read_enrolment(text).notices
    except BadInput as error:
        raise Malformed(f"The notices that are published there are damaged ({NOTICES})") from error


def admit_notices(admission: Admission, notices: Sequence[bytes]) -> None:
    """Put the notices of a log in force. Raises `Refused` or `Malformed`; its words are for an auditor."""
    for raw in notices:
        try:
            admission.install(admission.admit(Kind.NOTICE, raw))
        except Refused as error:
            if not error.foreign:
                raise
            raise Refused(
                error.reason,
                f"What is published there is not of the election of this root.pem, {admission.election}: {error.what}",
                "Compare root.pem with the fingerprint that the election office made public, and give the right one. "
                "If it is that, another election's log is shown in its place: tell the election office and the public.",
            ) from error


async def read_checkpoint(source: Source, admission: Admission, path: str = CHECKPOINT) -> SignedCheckpoint:
    """A published checkpoint, signed by a receiver that a notice in force names. Raises `Refused` or `Malformed`."""
    text = await source.read(path, MAX_CHECKPOINT)
    _check_no_page(path, text)
    body = admission.admit(Kind.CHECKPOINT, text).body
    assert isinstance(body, SignedCheckpoint)
    return body


def _check_no_page(path: str, text: bytes) -> None:
    """A network that wants a sign-in answers everything with a page of its own. Raises `Unreachable`."""
    if text.lstrip().startswith(b"<"):
        raise Unreachable(
            f"A web page came in place of the log's file {path}",
            "Open the address in a browser: where the network asks you to sign in, do so and try again. Else give the "
            "receiver's public address.",
        )


async def read_shown(source: Source) -> int | None:
    """How many entries of the log its site shows; None where there is no site, and files of every entry are due."""
    try:
        state = json.loads(await source.read(STATE, MAX_SITE_DOCUMENT))
    except (NotHeld, ValueError, RecursionError):
        return None
    entries = state.get("entries") if isinstance(state, dict) else None
    return entries if isinstance(entries, int) else None


class Audit:
    """One audit of the log in `source`, whose `signed` checkpoint was read and admitted."""

    def __init__(
        self,
        source: Source,
        admission: Admission,
        signed: SignedCheckpoint,
        ledger: Ledger,
        scope: Scope,
        progress: Progress,
        clock: Callable[[], float],
    ) -> None:
        """`clock`: the auditor's, in seconds; nothing but how long something is not published yet is told by it."""
        self._source = source
        self._admission = admission
        self._signed = signed
        self._ledger = ledger
        self._scope = scope
        self._progress = progress
        self._clock = clock

    async def run(self) -> Report:
        """Check everything that was not checked before. Raises what is wrong first."""
        head = self._signed.checkpoint
        report = Report(self._admission.election, head.origin, head.size, head.root, 0)
        report.growth_from = await self._check_growth(head)
        async with _workers(self._scope, head.size - self._unchecked()) as at_work:
            try:
                await self._check_contents(report, head, at_work)
            except BrokenExecutor as error:
                raise _ended() from error
        return report

    async def _check_contents(self, report: Report, head: Checkpoint, at_work: AtWork) -> None:
        report.entries = await self._check_entries(head, at_work)
        cosigned = await self._cosigned(head)
        if cosigned is not None:
            report.cosigned_by, report.cosigned = list(cosigned.cosigned_by), cosigned.checkpoint.size
        if self._scope.signatures:
            shown = await read_shown(self._source)
            attachments = Attachments(self._source, self._admission, self._ledger, shown, self._progress)
            if self._scope.receipts:
                judge = partial(at_work, judge_receipts, self._admission.root.certificate)
                ahead = max(AUDIT_AHEAD, self._scope.jobs + 2)
                report.receipts = await attachments.check_receipts(head, judge, ahead)
            if self._scope.objects:
                report.objects, report.object_bytes = await attachments.check_objects()
                report.missized = attachments.missized
            self._check_patience(report, attachments)
            self._remark(report)

    def _check_patience(self, report: Report, attachments: Attachments) -> None:
        """Tell what is not published yet; what was to be since long is a fault."""
        now, first = self._clock(), attachments.unpublished
        if self._scope.receipts and self._scope.objects:
            with self._ledger.step():
                self._ledger.forget_sightings(report.size if first is None else first)
        if first is None:
            return
        report.unpublished = first
        report.unpublished_for = now - self._ledger.seen_since(first, now)
        if report.unpublished_for >= self._scope.patience:
            hours = int(report.unpublished_for // 3_600)
            said = f"Entry {first} is not published whole: {attachments.lack}"
            late = (
                f"Entry {first} is in the log for {hours} hours at least, and not published whole: {attachments.lack}"
            )
            raise Refused(
                "not-published",
                late if hours else said,
                "Ask the receiver's administrator why; if it stays so, tell the election office and the public.",
            )

    # -- growth
    async def _check_growth(self, head: Checkpoint) -> int:
        """Prove that the log extends the one seen before; its size then."""
        raw = self._ledger.checkpoint
        seen = parse_checkpoint(parse_note(raw)) if raw else None
        if seen is not None:
            if seen.size > head.size:
                await self._check_old_copy(head, seen)
                raise Refused(
                    OLD_COPY,
                    f"An old copy is served: {head.size} entries, the beginning of the {seen.size} seen before",
                    "Nothing is wrong with it: ask again in a few minutes, or past the cache that serves it.",
                )
            proof = await self._consistency(seen.size, head.size) if seen.size < head.size else ()
            verify_consistency(seen.size, seen.root, head.size, head.root, proof)
        with self._ledger.step():
            self._ledger.note_checkpoint(self._signed.raw)
            self._ledger.note_sighting(head.size, self._clock())
        return seen.size if seen else 0

    async def _check_old_copy(self, head: Checkpoint, seen: Checkpoint) -> None:
        """Prove that the log seen before begins with the smaller one that is served now."""
        if head.size <= self._ledger.tip.size:
            if self._ledger.root_of(head.size) != head.root:
                raise wrong("split-view", f"The log of {head.size} entries is not the beginning of the one seen before")
            return
        try:
            proof = await self._consistency(head.size, seen.size)
        except NotHeld as error:
            raise Refused(
                "shrunken-log",
                f"The log shows {head.size} entries, and showed {seen.size} before",
                "An old copy is served, or entries were taken away: keep the state file as evidence.",
            ) from error
        verify_consistency(head.size, head.root, seen.size, seen.root, proof)

    async def _consistency(self, old: int, new: int) -> Sequence[bytes]:
        held: dict[TileId, bytes] = {}
        while True:
            try:
                return consistency_proof(old, new, tile_reader(new, held.__getitem__))
            except KeyError as missing:
                tile: TileId = missing.args[0]
                held[tile] = await self._fetch(tile)

    async def _cosigned(self, head: Checkpoint) -> SignedCheckpoint | None:
        """The newest checkpoint that a known witness cosigned, if it is of this log as it was hashed here."""
        if self._signed.cosigned_by:
            return self._signed
        try:
            signed = await read_checkpoint(self._source, self._admission, COSIGNED)
        except NotHeld:
            return None
        tree = signed.checkpoint
        if tree.origin != head.origin or tree.size > head.size or not signed.cosigned_by:
            return None  # it came after the checkpoint that was read, or by keys that are not known here
        if self._ledger.root_of(tree.size) != tree.root:
            raise wrong(
                "split-view", f"Witnesses cosigned another log of {tree.size} entries than the one that is shown"
            )
        return signed

    # -- entries
    def _start(self) -> int:
        """The first entry that is not checked yet."""
        hashed = self._ledger.edge.size
        return min(hashed, self._ledger.judged) if self._scope.signatures else hashed

    def _unchecked(self) -> int:
        """The first entry of which something is not checked yet that signatures belong to."""
        asked = self._scope.signatures and self._scope.receipts
        return min(self._start(), self._ledger.cursor("receipts") + 1) if asked else self._start()

    async def _check_entries(self, head: Checkpoint, at_work: AtWork) -> int:
        ledger, start = self._ledger, self._start()
        with ledger.step():
            if self._scope.signatures:
                ledger.forget_from(ledger.judged)
        async with (
            aclosing(self._stretches(start, head.size, at_work)) as stretches,
            aclosing(_one_by_one(stretches)) as bundles,
        ):
            await self._take_bundles(bundles, start, head)
        if ledger.tip.root() != head.root:
            raise Refused(
                "wrong-root",
                f"The {head.size} entries do not lead to the root that the checkpoint signs",
                "Audit it anew with another --state file; if that ends here too, the receiver signed another log than "
                "it shows: tell the election office and the public.",
            )
        for tile, content in ledger.tip.partial():
            await self._compare(tile, content)
        return head.size - start

    async def _take_bundles(self, bundles: AsyncIterator[Taken], start: int, head: Checkpoint) -> None:
        """Hold bundles against the tiles and note them, a few in one commit; the last one may not be full."""
        more = True
        while more:
            more = False
            with self._ledger.step():
                taken = 0
                async for first, width, judgement, published in bundles:
                    await self._take_bundle(first, width, judgement, published)
                    self._progress("entries", first + width - start, head.size - start)
                    taken += 1
                    if taken == AUDIT_COMMIT:
                        more = True
                        break

    async def _take_bundle(self, first: int, width: int, judgement: Judgement, published: bytes) -> None:
        ledger = self._ledger
        if isinstance(judgement, Fault):
            raise wrong("wrong-entry", f"Entry {judgement.index} is not right: {judgement.why}")
        known = first < ledger.edge.size
        edge, full = (ledger.edge, []) if known else ledger.edge.extend(judgement.leaves)
        expected = ledger.tile(TileId(0, first // WIDTH)) if known else judgement.leaves
        if judgement.leaves != expected:
            raise wrong("altered-entry", f"{_bundle(first, width).path} is not what it was when it was hashed before")
        if published != judgement.leaves:
            tile = TileId(0, first // WIDTH, width)
            place = next((at for at in range(width) if not _same_hash(published, judgement.leaves, at)), None)
            if place is None:
                raise wrong("wrong-tile", f"{tile.path} has more hashes than entries")
            raise wrong("wrong-tile", f"Entry {first + place} has another hash than {tile.path} says")
        for upper, content in full:
            if upper.level:
                await self._compare(upper, content)
        if width == WIDTH:
            if not known:
                ledger.note_bundle(edge, full)
        else:
            ledger.tip = edge
        self._note_entries(first, width, judgement)

    def _note_entries(self, first: int, width: int, judgement: Judged) -> None:
        if not judgement.entries:
            return
        judged = first + width if width == WIDTH else first
        repeated = self._ledger.note_entries(first, judgement.entries, judged)
        if repeated is not None:
            raise wrong("twice-in-log", "Entries {} and {} of the log are the same statement".format(*sorted(repeated)))

    async def _stretches(
        self, start: int, size: int, at_work: AtWork
    ) -> AsyncGenerator[tuple[list[Taken], BaseException | None]]:
        """The bundles in order, some at a time, and why the one after those could not be read; a few stretches are
        under way at once, which together hold no more than `AUDIT_ROOM`."""
        root, jobs = self._admission.root.certificate, self._scope.jobs
        ahead = ReadAhead(self._read, AUDIT_ROOM, _stretch(size - start, jobs))

        async def judge(group: Group) -> tuple[list[Taken], BaseException | None]:
            try:
                bundles = [(at, raw, width) for (at, width), (raw, _) in zip(group.spans, group.contents, strict=True)]
                judged = await at_work(judge_bundles, root, bundles, self._scope.signatures)
            finally:
                ahead.let_go(group)
            taken = zip(group.spans, judged, group.contents, strict=False)  # up to the first that is not right
            return [(at, width, judgement, tile) for (at, width), judgement, (_, tile) in taken], group.absent

        spans = ((at, min(WIDTH, size - at)) for at in range(start, size, WIDTH))
        async with aclosing(ahead.groups(spans)) as groups:
            judging = in_order((judge(group) async for group in groups), jobs + 2)
            async with aclosing(judging):
                async for stretch in judging:
                    yield stretch

    async def _read(self, first: int, width: int, limit: int) -> tuple[bytes, bytes]:
        """A bundle of at most `limit` bytes, and the tile of its hashes."""
        bundle, tile = _bundle(first, width), TileId(0, first // WIDTH, width)
        return await asyncio.gather(self._fetch(bundle, limit), self._fetch(tile))

    async def _compare(self, tile: TileId, content: bytes) -> None:
        if await self._fetch(tile) != content:
            raise wrong("wrong-tile", f"{tile.path} is not made of the tiles below it")

    async def _fetch(self, tile: TileId, limit: int = WIDTH * HASH_SIZE) -> bytes:
        return await fetch_tile(self._source, tile, limit)

    # -- remarks
    def _remark(self, report: Report) -> None:
        revoked = self._admission.revoked
        for node, count in self._ledger.entries_by(revoked).items():
            report.revoked[revoked[node].name] = count
        for finding in self._ledger.chain_findings():
            report.findings_total += 1
            if len(report.findings) < AUDIT_REMARKS:
                report.findings.append(finding)


def _bundle(first: int, width: int) -> TileId:
    return TileId(ENTRIES, first // WIDTH, width)


def _stretch(entries: int, jobs: int) -> int:
    """How many bundles each process gets at a time: fewer, where there are not enough for all to be busy to the end."""
    return min(_STRETCH, max(1, entries // (4 * jobs * WIDTH)))


def _same_hash(left: bytes, right: bytes, place: int) -> bool:
    span = slice(place * HASH_SIZE, (place + 1) * HASH_SIZE)
    return left[span] == right[span]


def _ended() -> StoreError:
    return StoreError("A process that checked signatures was ended", "There may be too little memory: try --jobs 1.")


async def _one_by_one(stretches: AsyncIterator[tuple[list[Taken], BaseException | None]]) -> AsyncGenerator[Taken]:
    async for taken, absent in stretches:
        for one in taken:
            yield one
        if absent is not None:
            raise absent


@asynccontextmanager
async def _workers(scope: Scope, entries: int) -> AsyncIterator[AtWork]:
    """What calls functions elsewhere: in other processes, where there is enough to do for them; else in a thread."""
    loop = asyncio.get_running_loop()
    if scope.jobs < 2 or not scope.signatures or entries < _WORTH_PROCESSES:
        yield partial(loop.run_in_executor, None)
        return
    # Fresh processes, not forks: this one has threads. Ctrl-C is this one's to handle.
    pool = ProcessPoolExecutor(
        scope.jobs, mp_context=get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield partial(loop.run_in_executor, pool)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
