"""What each role may do: the one table.

Guards promise 1. A certificate names its holder's role; the election's root is the authority itself.
"""

from __future__ import annotations

from enum import StrEnum

from relay.records.identifiers import Kind


class Role(StrEnum):
    """The role of a signer. Every node with a certificate may carry; carrying is no signature."""

    AUTHORITY = "authority"
    OPERATOR = "operator"
    CARRIER = "carrier"
    RECEIVER = "receiver"


NODE_ROLES = (Role.OPERATOR, Role.CARRIER, Role.RECEIVER)

MAY_SIGN: dict[Role, frozenset[Kind]] = {
    Role.AUTHORITY: frozenset({Kind.NOTICE}),
    Role.OPERATOR: frozenset({Kind.STATEMENT}),  # for the polling stations in its certificate only
    Role.CARRIER: frozenset(),  # cosigns checkpoints that a receiver signed
    Role.RECEIVER: frozenset({Kind.RECEIPT, Kind.CHECKPOINT}),
}
"""Which kinds of record the signature of a role can make."""
