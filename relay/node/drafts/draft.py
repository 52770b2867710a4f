"""What a draft is: pictures in order, numbers as they were typed, and how far it is. Pure.

Numbers stay the texts that were typed until they are signed: what is no number is kept, too, and shown as what it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from relay.errors import BadInput, NotHeld, RelayError
from relay.limits import MAX_DRAFT, MAX_PAIRS_TYPED, MAX_REASON, MAX_REMOVED, MAX_TALLY_VALUE
from relay.records.identifiers import RecordId, StatementId
from relay.records.tally import COUNTS, Tally

OPEN, SENDING, SENT = "open", "sending", "sent"
PAIRS = 2
"""Pairs of candidates on a form of which nobody said otherwise."""
_ID = re.compile(r"[0-9a-f]{16}")
_TYPED = 12
"""Characters of a number as it is typed."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a draft: its id, what it is called when it is signed, its size, and bytes that are on the disk."""

    id: str
    size: int
    number: int
    kind: str = ""
    """What its first bytes are (`jpg`), once it is whole."""
    received: int = 0

    @property
    def whole(self) -> bool:
        """Whether all of it is here."""
        return bool(self.kind)


@dataclass(frozen=True, slots=True)
class Draft:
    """What was photographed and typed so far. `counts` and `votes` are texts as typed, by the tally's names."""

    id: str
    tps: str
    form: str
    counts: Mapping[str, str] = field(default_factory=dict)
    votes: Mapping[str, str] = field(default_factory=dict)
    pairs: int = PAIRS
    pictures: tuple[Picture, ...] = ()
    supersedes: str = ""
    reason: str = ""
    state: str = OPEN
    captured_at: int = 0
    statement: str = ""
    removed: tuple[str, ...] = ()
    """Ids of pictures that somebody took out, lately: a phone that still holds one does not bring it back."""

    @property
    def wrong(self) -> tuple[str, ...]:
        """Names of what was typed and is no number, in the order of the form."""
        typed = [*self.counts.items(), *((f"pair-{pair}", text) for pair, text in self.votes.items())]
        return tuple(name for name, text in typed if text and _number(text) is None)

    @property
    def tally(self) -> Tally | None:
        """The numbers that were typed; None where there are none."""
        counts = {name: number for name in COUNTS if (number := _number(self.counts.get(name, ""))) is not None}
        votes = {
            str(pair): number
            for pair in range(1, self.pairs + 1)
            if (number := _number(self.votes.get(str(pair), ""))) is not None
        }
        return Tally(counts, votes) if counts or votes else None

    def signing_takes(self, *, sealed: bool) -> int:
        """Bytes of the disk that signing it takes for its pictures, once those that have begun to arrive are whole:
        the store copies each; before that one is sealed at a time."""
        sizes = [one.size for one in self.pictures if one.received]
        return sum(sizes) + (max(sizes, default=0) if sealed else 0)

    @property
    def statement_id(self) -> StatementId:
        """The statement that a sent draft has become."""
        return StatementId(RecordId(bytes.fromhex(self.statement)))

    def find(self, picture_id: str) -> Picture | None:
        """One of its pictures."""
        return next((one for one in self.pictures if one.id == picture_id), None)

    def get(self, picture_id: str) -> Picture:
        """One of its pictures. Raises `NotHeld`."""
        if (picture := self.find(picture_id)) is None:
            raise NotHeld("There is no such picture", "Take it again.")
        return picture

    def file_name(self, picture: Picture) -> str:
        """What a picture is called in the package."""
        return f"{self.form}-{picture.number}.{picture.kind}"

    def adding(self, picture: Picture) -> Self:
        """This draft with one picture more."""
        return replace(self, pictures=(*self.pictures, picture))

    def putting(self, picture: Picture) -> Self:
        """This draft with a picture as it is now."""
        return replace(self, pictures=tuple(picture if one.id == picture.id else one for one in self.pictures))

    def dropping(self, picture: Picture) -> Self:
        """This draft without a picture."""
        return replace(self, pictures=tuple(one for one in self.pictures if one.id != picture.id))

    def removing(self, picture_id: str) -> Self:
        """This draft without a picture that somebody does not want in it."""
        removed = (*self.removed, picture_id)[-MAX_REMOVED:]
        return replace(self, pictures=tuple(one for one in self.pictures if one.id != picture_id), removed=removed)

    def typing(self, changes: Mapping[str, str]) -> Self:
        """This draft with what was typed: names of counts, `pair-1`…, `pairs`, `reason`. Others are passed over."""
        counts, votes = dict(self.counts), dict(self.votes)
        counts.update({name: changes[name].strip()[:_TYPED] for name in COUNTS if name in changes})
        for pair in range(1, MAX_PAIRS_TYPED + 1):
            if (text := changes.get(f"pair-{pair}")) is not None:
                votes[str(pair)] = text.strip()[:_TYPED]
        pairs = min(_number(changes.get("pairs", "")) or self.pairs, MAX_PAIRS_TYPED)
        reason = changes.get("reason", self.reason).strip()[:MAX_REASON]
        return replace(self, counts=counts, votes=votes, pairs=pairs, reason=reason)


class OffsetConflict(RelayError):
    """A part of a picture does not begin where the node's part ends; `offset` says where that is."""

    kind = "offset-conflict"
    status = 409

    def __init__(self, offset: int) -> None:
        super().__init__("The picture goes on at another place", "Send what follows the offset.")
        self.offset = offset


class UnusablePicture(BadInput):
    """What a phone holds can be no picture of a draft, however often it is sent."""

    kind = "unusable-picture"


class DamagedPicture(BadInput):
    """A picture arrived otherwise than it was sent: it can be sent again."""

    kind = "damaged-picture"


class PictureRemoved(RelayError):
    """Somebody took this picture out of the draft."""

    kind = "picture-removed"
    status = 410

    def __init__(self) -> None:
        super().__init__("This picture was removed from the draft", "Take it again if it is needed.")


class AlreadySent(RelayError):
    """The draft was signed already, or somebody else returned this form; `statement` is its id in hex."""

    kind = "already-sent"
    status = 409

    def __init__(self, statement: str) -> None:
        super().__init__("This form was sent already", "Make a correction of it.")
        self.statement = statement


def is_id(text: str) -> bool:
    """Whether this can be the id of a draft or a picture: 16 hexadecimal digits."""
    return bool(_ID.fullmatch(text))


def as_typed(tally: Tally | None) -> tuple[dict[str, str], dict[str, str]]:
    """A tally's counts and votes as texts, as somebody would type them."""
    if tally is None:
        return {}, {}
    votes = {pair: str(votes) for pair, votes in tally.votes.items() if pair.isdecimal() and len(pair) <= 2}
    return {name: str(count) for name, count in tally.counts.items()}, votes


def to_json(draft: Draft) -> bytes:
    """A draft as it is kept. Raises `BadInput` when it is too long."""
    text = json.dumps(asdict(draft), ensure_ascii=False).encode()
    if len(text) > MAX_DRAFT:
        raise BadInput("The draft is too long", "Shorten the reason.")
    return text


def from_json(text: bytes) -> Draft:
    """A draft that was kept. Raises `ValueError`, `KeyError` or `TypeError` for what is none."""
    document: dict[str, Any] = json.loads(text)
    pictures = tuple(Picture(**one) for one in document.pop("pictures"))
    draft = Draft(**{**document, "pictures": pictures, "removed": tuple(document.get("removed", ()))})
    if not is_id(draft.id) or draft.state not in (OPEN, SENDING, SENT):
        raise ValueError(draft.id)
    return draft


def _number(text: str) -> int | None:
    plain = text.strip()
    if not plain.isascii() or not plain.isdecimal() or int(plain) > MAX_TALLY_VALUE:
        return None
    return int(plain)
