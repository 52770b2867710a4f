"""What a visit achieved."""

from __future__ import annotations

from dataclasses import dataclass

from relay.store.recordset import END
from relay.sync.messages import Hello


@dataclass(slots=True)
class VisitReport:
    """What a visit to `peer` brought and took, in records and bytes.

    `more`: it ended for its time or for its size, with something left to exchange. `left`: some was left to the peer's
    own visit here, which may stop short of it. `rung`: how often it rang for news, which the peer need not be told.
    `compared`: the bound in the order of records below which nothing is left; the end, mostly.
    """

    peer: Hello
    records_in: int = 0
    records_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    more: bool = False
    left: bool = False
    rung: int = 0
    compared: bytes = END

    @property
    def moved(self) -> bool:
        """Whether anything changed hands."""
        return bool(self.records_in or self.records_out or self.bytes_in or self.bytes_out)
