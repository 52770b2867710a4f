"""The errors of relay: one base class, few kinds.

Every error says what happened to which input (`what`) and what the user can do next (`advice`). The core only
raises; the command line and the HTTP shells translate (exit status 1, an RFC 9457 problem). Nothing here knows how
an error is shown.
"""

from __future__ import annotations

REVOKED = "revoked"
"""The reason of a refusal because the office revoked the signer's, or the visitor's, key."""
MYSELF = "myself"
"""The reason of a refusal because the other side shows this node's own certificate."""


class RelayError(Exception):
    """Base of every error a user may meet.

    `what` is one sentence without a final full stop; `advice` is one sentence telling what to do next.
    """

    kind = "error"
    status = 500

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.what = on_one_line(what)
        self.advice = on_one_line(advice)

    def __str__(self) -> str:
        return f"{self.what}. {self.advice}"


def on_one_line(text: str) -> str:
    """A text without line ends and control characters: it may quote a stranger, and goes to logs and terminals."""
    return text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)


class BadInput(RelayError):
    """Something handed in by a user is unusable: a file, a register row, a tally, a configuration key."""

    kind = "bad-input"
    status = 400


class Malformed(RelayError):
    """Bytes that do not follow their format: a record, a certificate, a message of a peer."""

    kind = "malformed"
    status = 400

    def __init__(
        self, what: str, advice: str = "Fetch it again; if it stays so, its sender is damaged or hostile."
    ) -> None:
        super().__init__(what, advice)


class Refused(RelayError):
    """Well-formed, yet not admitted: wrong election, wrong role, revoked, over quota.

    `reason` is a short stable slug (`revoked`, `foreign-tps`, …) for logs, metrics and peers.
    """

    kind = "refused"
    status = 403

    def __init__(
        self,
        reason: str,
        what: str,
        advice: str = "Nothing was changed; tell the election office if this is unexpected.",
        evidence: bytes = b"",
    ) -> None:
        """`evidence`: a record that proves it to whoever is refused, such as the notice of a revocation."""
        super().__init__(what, advice)
        self.reason = reason
        self.evidence = evidence

    @property
    def foreign(self) -> bool:
        """Whether it is another election's."""
        return self.reason in ("foreign-election", "foreign-certificate")


class NotHeld(RelayError):
    """A record or an object that this node does not hold."""

    kind = "not-held"
    status = 404


class StoreError(RelayError):
    """The store cannot do its work: disk full, locked by another daemon, of another schema version."""

    kind = "store"
    status = 507


class DiskFull(StoreError):
    """There is no room for what was to be written; nothing of it was kept."""


class Unreadable(StoreError):
    """The disk does not give one file's content: trouble of that file alone, as far as anybody can tell."""


class Outgrown(StoreError):
    """A newer version of the program has the store: this one does nothing with it any more."""


class Unreachable(RelayError):
    """A peer, a port or an interface cannot be used: nobody there, port taken, link lost."""

    kind = "unreachable"
    status = 503


class Unkept(Unreachable):
    """A peer answers, and cannot keep what it is brought: its disk is full, or takes no writes."""

    kind = "unkept"


class NotYet(Unreachable):
    """A peer answers, and has not got ready yet what it was asked for: it is asked another time."""

    kind = "not-yet"
