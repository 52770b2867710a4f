"""Set reconciliation: two nodes find out which records each lacks, at a cost that grows with the difference.

Lives here: `Initiator`, the side that asks and learns the result, and `respond`, the side that answers and keeps
nothing. Does not live here: the bytes of a message (`ranges`), the set (`recordset`), what is then pulled or pushed.
Guards promises 2 and 10: nothing counts that was not asked about, and no peer can make either side work for ever.
Compatible with any implementation of the Negentropy Protocol V1 (github.com/hoytech/negentropy).

The method: compare fingerprints of ranges; cut a range that differs into smaller ones; where few records are left,
list them. Cuts are wide while few ranges differ and narrower when many do, so that two or three round trips do.
A list covers one kind only, because ids in a list come without their kind.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise

from relay.errors import Malformed
from relay.limits import (
    MAX_KIND,
    MAX_RECONCILE_DRY_ROUNDS,
    MAX_RECONCILE_FOUND,
    MAX_RECONCILE_MESSAGE,
    MAX_RECONCILE_OPEN,
    MAX_RECONCILE_ROUNDS,
    MIN_RECONCILE_MESSAGE,
)
from relay.records.identifiers import Kind
from relay.store.recordset import END, FIRST, Item, RecordSet, item_of, key_of, kind_end, one_kind
from relay.sync.ranges import VERSION, MessageWriter, Mode, Range, decode, version_of

WIDEST_CUT = 64
NARROWEST_CUT = 16
CUTS_PER_MESSAGE = 160
"""What the ranges that differ share among them, within the two limits above."""
LISTED = 16
"""A responder lists what it holds in a range that differs when it is no more than this."""
LISTED_ALONE = 96
"""The same where only one range differs: 3 KB cost less than another round trip of a short contact."""
BUCKET = 4
"""An initiator cuts down to about this many keys: the fingerprints it sends cost what the lists it gets back cost."""
ASKED_AT_ONCE = 8_192
"""Ranges in one request, so that the responder has room to answer most of them."""
RECEIPTS, STATEMENTS = bytes([Kind.RECEIPT]), bytes([Kind.STATEMENT])
"""The bounds below the first receipt, and above the last one: what comes before the statements rules or frees space."""


def respond(records: RecordSet, message: bytes, limit: int = MAX_RECONCILE_MESSAGE) -> bytes:
    """The answer of a node that holds `records` to an initiator's message, in at most `limit` bytes.

    Stateless. Ranges that agree are skipped; where the answer is full, one fingerprint of all the rest tells the
    initiator to ask again. A message in another version of the protocol is answered by the version byte of ours.
    Raises `Malformed`.
    """
    if version_of(message) != VERSION:
        return bytes([VERSION])
    unsettled = [said for said in decode(message) if not _agrees(records, said)]
    cuts = _cuts(len(unsettled))
    listed = LISTED if len(unsettled) > 1 else LISTED_ALONE
    writer = MessageWriter(_checked(limit))
    for said in unsettled:
        if not _answer(records, said, cuts, listed, writer):
            writer.finish(max(said.lower, writer.end), records.fingerprint(max(said.lower, writer.end), END))
            break
    return bytes(writer)


def unlisted(records: RecordSet, message: bytes) -> Iterator[Item]:
    """What an initiator lacks of `records`, in order, as far as its message lists what it holds: nothing by one in
    another version of the protocol. Raises `Malformed`."""
    if version_of(message) != VERSION:
        return
    for said in decode(message):
        if said.mode is not Mode.ID_LIST or not one_kind(said.lower, said.upper):
            return
        theirs = set(said.ids)
        yield from (item_of(key) for key in records.keys(said.lower, said.upper) if key[1:] not in theirs)


def finds_nothing(answer: bytes) -> bool:
    """Whether an answer of `respond` says that what was asked about is the same on both sides."""
    return answer == bytes([VERSION])


def _answer(records: RecordSet, said: Range, cuts: int, listed: int, writer: MessageWriter) -> bool:
    """Answer one range with lists or with fingerprints; False when the message is full before the range's end."""
    count = records.count(said.lower, said.upper)
    if said.mode is Mode.ID_LIST or count <= listed:
        return all(_list(records, lower, upper, writer) for lower, upper in _by_held_kind(records, said))
    parts = min(cuts, max(2, count // (LISTED // 2)))
    return all(
        writer.add_fingerprint(lower, upper, records.fingerprint(lower, upper))
        for lower, upper in records.split(said.lower, said.upper, parts)
    )


def _list(records: RecordSet, lower: bytes, upper: bytes, writer: MessageWriter) -> bool:
    """List what is held in a range of one kind, or as much of its beginning as fits."""
    fit = writer.ids_that_fit()
    if fit < 0:
        return False
    keys = list(islice(records.keys(lower, upper), fit + 1))
    if len(keys) > fit:
        cut = keys.pop()
        if keys:
            writer.add_ids(lower, cut, [key[1:] for key in keys])
        return False
    return writer.add_ids(lower, upper, [key[1:] for key in keys])


def _by_held_kind(records: RecordSet, said: Range) -> Iterator[tuple[bytes, bytes]]:
    """The range cut so that each part holds keys of one kind or none, and one that holds any spans one kind only."""
    lower = said.lower
    while key := next(records.keys(lower, said.upper), None):
        if not one_kind(lower, kind_end(key[0])):
            yield lower, key[:1]
            lower = key[:1]
        end = min(kind_end(key[0]), said.upper)
        yield lower, end
        lower = end
    if lower < said.upper:
        yield lower, said.upper


@dataclass(frozen=True, slots=True)
class _Open:
    """A range not settled yet. `differs`: compared and found different, so it is to be cut, or listed if small."""

    lower: bytes
    upper: bytes
    differs: bool


class Initiator:
    """The asking side of one reconciliation, without any I/O.

        initiator = Initiator(records)
        message = initiator.start()
        while message is not None:
            message = initiator.step(await peer.reconcile(message))
        pull(initiator.need); push(initiator.have)

    `have`: items that we hold and the peer lacks; `need`: items that the peer holds and we lack; both grow from round
    to round, and no item enters twice. Of more than `most` differences the first ones are found, in the order of keys:
    of statements, and of what comes before them, either half of it, and what the others leave of theirs. So nothing
    that stays different, as receipts do for which there is no room, keeps statements from being compared.

    `reached` says at the end up to which bound every range was settled: `END`, or less where one of the limits was met
    (`most`, ranges, round trips without a result). What was found is good, the rest is for the next time, which goes on
    at `since`: first through the receipts, each time with the first statements, then through the statements, each time
    with the first receipts. Notices and checkpoints are compared each time. `below` leaves out that kind and those
    above. Who holds no more than `listed` records lists them in the first message, so that the peer knows what it lacks
    (`unlisted`). `records` may change between rounds; what changed may be missed until then.
    """

    def __init__(
        self,
        records: RecordSet,
        limit: int = MAX_RECONCILE_MESSAGE,
        most: int = MAX_RECONCILE_FOUND,
        below: int | None = None,
        since: bytes = FIRST,
        listed: int = 0,
    ) -> None:
        self.have: list[Item] = []
        self.need: list[Item] = []
        self.rounds = 0
        self._records = records
        self._limit = _checked(limit)
        self._most = most
        self._dry = 0
        self._listed = listed
        self._since = since[:1] + since[1:].rstrip(b"\0")  # as a message spells it
        self._open = _to_compare(END if below is None else bytes([below]), self._since)
        self._asked: list[_Open] = []
        self._cut = STATEMENTS
        """What rules or frees space from here on is for the next time."""
        self._statements_cut = END
        """The same of statements."""
        self._unheard = False
        """Whether the peer's last answer was full before it came to the statements."""

    @property
    def complete(self) -> bool:
        """Whether every range was settled."""
        return self.reached == END

    @property
    def reached(self) -> bytes:
        """The bound below which every range was settled, at this time or an earlier one."""
        if self._since < STATEMENTS and self._settled < STATEMENTS:
            return self._settled
        bounds = (part.lower for part in (*self._asked, *self._open) if part.lower >= STATEMENTS)
        return min(bounds, default=self._statements_cut)

    @property
    def knows_receipts(self) -> bool:
        """Whether every receipt was compared."""
        return self._settled == STATEMENTS and not RECEIPTS < self._since < STATEMENTS

    @property
    def _settled(self) -> bytes:
        """Up to where what rules or frees space was settled."""
        bounds = (part.lower for part in (*self._asked, *self._open) if part.lower < STATEMENTS)
        return min(bounds, default=self._cut)

    def start(self) -> bytes:
        """The first message."""
        return self._ask()

    def step(self, reply: bytes) -> bytes | None:
        """Take in the peer's reply; the next message, or None when there is nothing left to ask. Raises `Malformed`."""
        before = self._found()
        self.rounds += 1
        asked, self._asked = self._asked, []
        unsettled: list[_Open] = []
        answer = decode(reply)
        for said, about in _pair(answer, asked):
            unsettled += self._compare(said, about)
            if self._found() > 2 * self._most:
                self._keep_the_first()
        self._dry = self._dry + 1 if self._found() == before else 0
        told = [said for said in answer if said.mode is not Mode.FINGERPRINT or said.upper != END]
        self._unheard = bool(told) and told[-1].upper <= STATEMENTS
        self._open = sorted((*unsettled, *self._open), key=lambda part: part.lower)
        self._stay_within()
        if not self._open or self._dry > MAX_RECONCILE_DRY_ROUNDS or self.rounds >= MAX_RECONCILE_ROUNDS:
            return None
        return self._ask()

    def _found(self) -> int:
        return len(self.have) + len(self.need)

    def _stay_within(self) -> None:
        """Leave what is too much for the next time, from the end: differences, and ranges to ask about."""
        self._keep_the_first()
        self._open = [kept for part in self._open for kept in self._not_left(part)]
        if len(self._open) > MAX_RECONCILE_OPEN:
            self._leave([part.lower for part in self._open], MAX_RECONCILE_OPEN)
            self._open = [kept for part in self._open for kept in self._not_left(part)]

    def _keep_the_first(self) -> None:
        if self._found() > self._most:
            self._leave(sorted(key_of(*item) for item in (*self.have, *self.need)), self._most)
            self.have = [item for item in self.have if not self._is_left(key_of(*item))]
            self.need = [item for item in self.need if not self._is_left(key_of(*item))]

    def _leave(self, keys: list[bytes], most: int) -> None:
        """Leave for the next time all but `most` of these, which are in order: of statements, and of what comes before
        them, half of it is kept at least."""
        before = bisect_left(keys, STATEMENTS)
        kept = min(before, max(most - most // 2, most - (len(keys) - before)))
        for key in (*keys[kept:before][:1], *keys[before + most - kept :][:1]):
            self._leave_from(key)

    def _leave_from(self, key: bytes) -> None:
        if key < STATEMENTS:
            self._cut = min(self._cut, key)
        else:
            self._statements_cut = min(self._statements_cut, key)

    def _is_left(self, key: bytes) -> bool:
        return key >= (self._cut if key < STATEMENTS else self._statements_cut)

    def _not_left(self, part: _Open) -> Iterator[_Open]:
        """What of a range is not left for the next time."""
        if self._cut < STATEMENTS and part.lower < STATEMENTS:
            if part.lower < self._cut:
                yield replace(part, upper=min(part.upper, self._cut))
            part = replace(part, lower=STATEMENTS)
        if part.lower < (upper := min(part.upper, self._statements_cut)):
            yield replace(part, upper=upper)

    def _compare(self, said: Range, asked: list[_Open]) -> list[_Open]:
        """Act on one statement of the peer about (parts of) the ranges `asked`; returns what stays open of them."""
        if said.mode is Mode.ID_LIST:
            if not (len(asked) == 1 and asked[0].lower <= said.lower and said.upper <= asked[0].upper):
                raise Malformed("The peer lists records that it was not asked about")
            return self._compare_list(said)
        within = len(asked) == 1 and asked[0].lower <= said.lower and said.upper <= asked[0].upper
        agrees = _agrees(self._records, said)
        # The last fingerprint of a full answer reaches to infinity, over what found no room. It settles nothing, even
        # where it is the same as ours: some implementations leave a range out of it.
        if agrees and said.upper != END:
            return []
        differs = within and not agrees
        return [_Open(max(said.lower, part.lower), min(said.upper, part.upper), differs) for part in asked]

    def _compare_list(self, said: Range) -> list[_Open]:
        """Note the differences between the peer's list and ours; ask again by kind where a kind cannot be known."""
        theirs = set(said.ids)
        if one_kind(said.lower, said.upper):
            kind = said.lower[:1]
            if not all(said.lower <= kind + record < said.upper for record in theirs):
                raise Malformed("The peer lists an id outside of the range it is listed for")
        elif theirs.difference(key[1:] for key in self._records.keys(said.lower, said.upper)):
            return [_Open(lower, upper, differs=False) for lower, upper in _by_kind(said.lower, said.upper)]
        for lower, upper in ((said.lower, min(said.upper, self._cut)), (max(said.lower, STATEMENTS), said.upper)):
            self._note_ours(lower, min(upper, self._statements_cut), theirs)
        if one_kind(said.lower, said.upper):  # of several kinds nothing is listed that we do not hold
            keys = sorted(said.lower[:1] + record for record in theirs)
            self.need += [item_of(key) for key in keys if not self._is_left(key)]
        return []

    def _note_ours(self, lower: bytes, upper: bytes, theirs: set[bytes]) -> None:
        """Note what we hold in a range and the peer does not list; what both hold is taken out of its list."""
        mine = 0
        for key in self._records.keys(lower, upper):
            if key[1:] in theirs:
                theirs.remove(key[1:])
            elif mine < self._most:
                self.have.append(item_of(key))
                mine += 1
            else:  # no list makes us hold more at once, however many we hold ourselves
                self._leave_from(key)
                break

    def _ask(self) -> bytes:
        """Ask about as many open ranges as fit, from the front: they are in order, and so are a message's ranges."""
        writer = MessageWriter(self._limit)
        statements = bisect_left(self._open, STATEMENTS, key=lambda part: part.lower)
        # A full message, or a full answer, ends before the statements: then it is their turn.
        passed = statements if self._unheard and statements < len(self._open) else 0
        waiting = deque(self._open[passed:])
        cuts = _cuts(sum(part.differs for part in waiting))
        self._asked = []
        while waiting and len(self._asked) < ASKED_AT_ONCE:
            part = waiting.popleft()
            count = self._records.count(part.lower, part.upper)
            smaller = self._divide(part, count, cuts)
            if smaller:
                waiting.extendleft(reversed(smaller))
            elif self._write(part, count, writer):
                self._asked.append(part)
            else:
                waiting.appendleft(part)
                break
        self._open = [*self._open[:passed], *waiting]
        return bytes(writer)

    def _divide(self, part: _Open, count: int, cuts: int) -> list[_Open]:
        """The parts that are asked about in place of `part`; none if it is asked about as it is."""
        if part.differs and count > 1:
            bounds = self._records.split(part.lower, part.upper, min(cuts, max(2, count // BUCKET)))
            return [_Open(lower, upper, differs=False) for lower, upper in bounds]
        if self._lists(part, count) and not one_kind(part.lower, part.upper):
            return [_Open(lower, upper, part.differs) for lower, upper in _by_kind(part.lower, part.upper)]
        return []

    def _write(self, part: _Open, count: int, writer: MessageWriter) -> bool:
        if self._lists(part, count):
            ids = [key[1:] for key in self._records.keys(part.lower, part.upper)]
            return writer.add_ids(part.lower, part.upper, ids)
        fingerprint = self._records.fingerprint(part.lower, part.upper)
        return writer.add_fingerprint(part.lower, part.upper, fingerprint)

    def _lists(self, part: _Open, count: int) -> bool:
        """Whether its ids are listed: then the peer lists its own, so it is worth it for none or one only, or for all
        that there is."""
        return count == 0 or (part.differs and count == 1) or (not self.rounds and count <= self._listed)


def _to_compare(end: bytes, since: bytes) -> list[_Open]:
    """The ranges that a reconciliation begins with: what lies from `since` on, and of what rules, and of receipts once
    those were gone through, all."""
    before = STATEMENTS if since >= STATEMENTS else RECEIPTS
    if not before < since < end:
        return [_Open(FIRST, end, differs=False)]
    return [_Open(FIRST, before, differs=False), _Open(since, end, differs=False)]


def _agrees(records: RecordSet, said: Range) -> bool:
    """Whether nothing is left to do about a range, by what the peer says of it."""
    match said.mode:
        case Mode.SKIP:
            return True
        case Mode.FINGERPRINT:
            return said.lower >= said.upper or records.fingerprint(said.lower, said.upper) == said.fingerprint
        case Mode.ID_LIST:
            return False


def _pair(reply: list[Range], asked: list[_Open]) -> Iterator[tuple[Range, list[_Open]]]:
    """Each statement of the reply that is no Skip, with the asked ranges that it overlaps; both are in order."""
    start = 0
    for said in reply:
        while start < len(asked) and asked[start].upper <= said.lower:
            start += 1
        end = start
        while end < len(asked) and asked[end].lower < said.upper:
            end += 1
        if said.mode is not Mode.SKIP:
            yield said, asked[start:end]


def _by_kind(lower: bytes, upper: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The range cut at every bound between two kinds."""
    cuts = [lower, *(kind_end(kind) for kind in range(lower[0], MAX_KIND) if kind_end(kind) < upper), upper]
    return pairwise(cuts)


def _cuts(differing: int) -> int:
    """Into how many parts each range is cut when so many differ."""
    return max(NARROWEST_CUT, min(WIDEST_CUT, CUTS_PER_MESSAGE // max(differing, 1)))


def _checked(limit: int) -> int:
    """A message limit within what both sides can work with."""
    return max(MIN_RECONCILE_MESSAGE, min(limit, MAX_RECONCILE_MESSAGE))
