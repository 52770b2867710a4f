"""Where audits remember, and what is told of it: a file for each log, and one for each election."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from relay.cli.options import message
from relay.receiver.memory import Older
from relay.records.identifiers import sha256
from relay.store.durable import explained, make_folder


class Places:
    """The files of one election's audits: `given` for all, or some of their own below the user's folder for state."""

    def __init__(self, given: Path | None, root: bytes) -> None:
        self._given = given
        self._root = root

    def ledger(self, origin: str) -> Path:
        """Where the audit of a log remembers what was checked; tells so."""
        state = self.known(origin)
        if self._given is None:
            message(f"What is checked is remembered in {state}" if not state.exists() else f"It goes on from {state}")
        return state

    def known(self, origin: str) -> Path:
        """Where the audit of a log remembers: the file is there where it was checked before."""
        return self._file(origin, self._root + origin.encode(), "state")

    def memory(self, election: str) -> Path:
        """Where all audits of the election remember its notices and which log was shown where."""
        return self._file(election, self._root, "memory")

    def _file(self, name: str, key: bytes, suffix: str) -> Path:
        if self._given is not None:
            return self._given
        place = os.environ.get("XDG_STATE_HOME", "")
        home = Path(place) if place.startswith("/") else Path.home() / ".local" / "state"
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:80]
        file = home / "relay" / f"audit-{name}-{sha256(key).hex()[:12]}.{suffix}"
        with explained(file):
            make_folder(file.parent)
        return file


def tell_older(older: Sequence[Older]) -> None:
    """Tell of notices that are served in older versions than were seen before; at once, since what comes may fail."""
    for one in older:
        message(
            f"The notice {one.topic}/{one.part} is served in version {one.served}, and was seen in version {one.seen}: "
            "the newer one counts. A cache may have an old copy; if it stays so, tell the election office."
            if one.served
            else f"The notice {one.topic}/{one.part} is not served any more, and was seen in version {one.seen}: that "
            "one counts. A cache may have an old copy; if it stays so, tell the election office."
        )


def lines_of_before(before: Sequence[str], missing: int | None) -> Iterator[str]:
    """What is told of the logs that were shown at this log's address before it."""
    for origin in before:
        yield f"before it, the log {origin} was shown there, whose receiver the election office replaced"
    if missing:
        yield f"{missing} statements that were checked in the log before it are not in this one"
