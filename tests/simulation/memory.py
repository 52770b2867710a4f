"""What twenty nodes ask twenty times is worked out once: pure functions of relay, remembered between runs.

They are the same functions with the same answers; only bytes that were judged once are not judged again, and messages
that were read or written once are not again. Without this a run takes nearly twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import FunctionType
from typing import Any, cast
from unittest.mock import patch

from relay.limits import MAX_CBOR_DEPTH, MAX_RECONCILE_MESSAGE
from relay.log.checkpoint import merge, open_checkpoint, parse_checkpoint
from relay.log.note import check, parse_note
from relay.records import encoding
from relay.records.cose import Sign1
from relay.records.notice import read_notice
from relay.records.receipt import read_receipt
from relay.records.statement import files_of, read_statement
from relay.store.recordset import RecordSet
from relay.sync import messages
from relay.sync.messages import Greeting
from relay.sync.ranges import decode as decode_ranges
from relay.sync.reconcile import respond
from relay.trust.certificates import Identity, check_issued, read_certificate
from relay.trust.verifying import Issuer, QuickKey
from tests.simulation.store import Members

_MOST = 1 << 14


class Memory:
    """Remembers while it is `kept`."""

    def __init__(self) -> None:
        readers: dict[str, Callable[..., object]] = {
            "relay.trust.admission.read_statement": read_statement,
            "relay.trust.admission.read_receipt": read_receipt,
            "relay.trust.admission.read_notice": read_notice,
            "relay.trust.admission.read_certificate": read_certificate,
            "relay.sync.host.files_of": files_of,
            "relay.trust.witness.open_checkpoint": open_checkpoint,
            "relay.trust.witness.merge": merge,
            "relay.trust.heads.parse_checkpoint": parse_checkpoint,
            **{f"relay.trust.{module}.parse_note": parse_note for module in ("admission", "heads", "witness")},
            "relay.sync.messages.encode_number": messages.encode_number,
            "relay.sync.messages.decode_number": messages.decode_number,
            "relay.sync.messages.encode_pair": messages.encode_pair,
            "relay.sync.messages.decode_pair": messages.decode_pair,
            "relay.sync.messages.Greeting.encode": Greeting.encode,
        }
        listing: dict[str, Callable[[bytes], list[Any]]] = {
            "relay.sync.reconcile.decode": decode_ranges,
            "relay.sync.messages.decode_ids": messages.decode_ids,
            "relay.sync.messages.decode_wants": messages.decode_wants,
            "relay.sync.messages.decode_holdings": messages.decode_holdings,
        }
        self._patches: dict[str, Callable[..., object]] = {
            name: lru_cache(_MOST)(function) for name, function in readers.items()
        }
        writers: dict[str, Callable[[tuple[Any, ...]], bytes]] = {
            "relay.sync.messages.encode_ids": messages.encode_ids,
            "relay.sync.messages.encode_wants": messages.encode_wants,
            "relay.sync.messages.encode_holdings": messages.encode_holdings,
        }
        self._patches |= {name: _written_once(function) for name, function in writers.items()}
        self._patches |= {name: _listed_once(function) for name, function in listing.items()}
        self._patches["relay.sync.messages.Greeting.decode"] = staticmethod(lru_cache(_MOST)(Greeting.decode))
        self._patches["relay.sync.host.respond"] = _respond
        self._patches["relay.records.encoding._check"] = _walk_once()
        self._verified: dict[tuple[object, ...], None] = {}
        """Signatures that hold."""
        self._verify: Callable[[Sign1, QuickKey, bytes | None], None] = Sign1.verify

    def believe_all(self) -> None:
        """Have every signature of a record hold: for showing that somebody notices."""
        self._verify = lambda *_: None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within it, relay asks the memory first."""
        memory = self

        def verify(envelope: Sign1, key: QuickKey, detached: bytes | None = None) -> None:
            asked = (envelope.protected, envelope.payload, envelope.signature, key.public_bytes_raw(), detached)
            memory._recall(asked, lambda: memory._verify(envelope, key, detached))

        def check_note(public: bytes, signature: bytes, data: bytes) -> None:
            memory._recall((public, signature, data), lambda: check(public, signature, data))

        def check_certificate(der: bytes, root: Identity) -> None:
            memory._recall((der, root.certificate), lambda: check_issued(der, root))

        with ExitStack() as stack:
            for name, function in self._patches.items():
                stack.enter_context(patch(name, function))
            stack.enter_context(patch.object(Sign1, "verify", verify))
            stack.enter_context(patch("relay.trust.admission.check_issued", check_certificate))
            stack.enter_context(patch.object(Issuer, "has_issued", lambda *_: False))  # which has that asked
            stack.enter_context(patch("relay.log.note.check", check_note))
            stack.enter_context(patch("relay.log.checkpoint.check", check_note))
            yield

    def _recall(self, asked: tuple[object, ...], judge: Callable[[], None]) -> None:
        if asked in self._verified:
            return
        judge()
        if len(self._verified) >= _MOST:
            self._verified.clear()
        self._verified[asked] = None


def _listed_once(function: Callable[[bytes], list[Any]]) -> Callable[[bytes], list[Any]]:
    """A function that lists values which cannot change: whoever asks gets a list of his own."""
    known = lru_cache(_MOST)(lambda data: tuple(function(data)))
    return lambda data: list(known(data))


def _written_once(function: Callable[[tuple[Any, ...]], bytes]) -> Callable[[Sequence[Any]], bytes]:
    """A function that writes values which cannot change."""
    known = lru_cache(_MOST)(function)
    return lambda values: known(tuple(values))


def _respond(records: RecordSet, message: bytes, limit: int = MAX_RECONCILE_MESSAGE) -> bytes:
    """What a set that did not change was asked before it answers as before."""
    return records.answer(message, limit) if isinstance(records, Members) else respond(records, message, limit)


def _walk_once() -> Callable[[bytes, int, int], int]:
    """The walk through a CBOR document, which greetings, calls and records take again and again: of each document
    once. What it says within itself is not asked of the memory: it walks in a namespace of its own."""
    apart = dict(vars(encoding))
    for name in ("_check", "_check_map"):
        apart[name] = FunctionType(apart[name].__code__, apart, name)
    walk = cast(Callable[[bytes, int, int], int], apart["_check"])
    end_of = lru_cache(_MOST)(lambda data: walk(data, 0, MAX_CBOR_DEPTH))

    def check(data: bytes, at: int, depth: int) -> int:
        return end_of(data) if at == 0 and depth == MAX_CBOR_DEPTH else walk(data, at, depth)

    return check
