"""How much of one signer a store takes. Pure. Guards promise 2: a stolen key fills no disk, and no log."""

from __future__ import annotations

from dataclasses import dataclass

from relay.limits import QUOTA_BYTES, QUOTA_BYTES_AT_RECEIVER, QUOTA_STATEMENTS, QUOTA_STATEMENTS_AT_RECEIVER


@dataclass(frozen=True, slots=True)
class Quota:
    """Bytes of bundles, and statements: of those without receipt, at a receiver of all that it ever took."""

    bytes: int
    statements: int

    def holds(self, statements: int, size: int) -> bool:
        """Whether so many statements, and bytes of their bundles, are within it."""
        return statements <= self.statements and size <= self.bytes


QUOTA = Quota(QUOTA_BYTES, QUOTA_STATEMENTS)
QUOTA_AT_RECEIVER = Quota(QUOTA_BYTES_AT_RECEIVER, QUOTA_STATEMENTS_AT_RECEIVER)
