"""What a visit achieved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from relay.errors import RelayError, StoreError, Unkept
from relay.store.recordset import END
from relay.sync.messages import Hello


@dataclass(slots=True)
class VisitReport:
    """What a visit to `peer` brought and took, in records and bytes.

    `more`: it ended for its time or for its size, with something left to exchange. `left`: some was left to the peer's
    own visit here, which may stop short of it, or what was asked about it found no answer. `rung`: how often it rang
    for news, which the peer need not be told. `kept`: how many records and chunks were new where they came to; what
    nobody keeps moves again and again.
    `compared`: the bound in the order of records below which nothing is left; the end, mostly. `unkept_here`,
    `unkept_there`: why something could not be kept, by this node or by the peer.
    """

    peer: Hello
    records_in: int = 0
    records_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    more: bool = False
    left: bool = False
    rung: int = 0
    kept: int = 0
    compared: bytes = END
    unkept_here: RelayError | None = None
    unkept_there: RelayError | None = None

    @property
    def moved(self) -> bool:
        """Whether anything changed hands."""
        return bool(self.records_in or self.records_out or self.bytes_in or self.bytes_out)

    @contextmanager
    def keeping(self, *, here: bool) -> Iterator[None]:
        """Within it something is to be kept, here or by the peer. Where that cannot be done it is noted, and no more:
        the rest of the visit needs no room."""
        try:
            yield
        except (StoreError, Unkept) as error:
            if here:
                self.unkept_here = self.unkept_here or error
            else:
                self.unkept_there = self.unkept_there or error
