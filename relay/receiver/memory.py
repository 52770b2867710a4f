"""What an auditor remembers of an election beside any one log: the newest notices, and which log was shown where.

Who serves a log also serves the notices by which its receiver is believed. An old copy of them would bring a receiver
back that the election office revoked: so the newest of each slot is kept as it is signed, and counts before whatever is
served. And who serves a log chooses which: the log of another receiver, of which nothing is remembered, would have no
past that binds it. So the memory has what stood at an address, and another log there is told of. It is a fault as long
as the office still names the receiver whose log is gone; where it named another in its place, that is how it should be.

`Admission` decides which notice is the newer one; this only keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from relay.errors import Malformed, Refused
from relay.receiver.statefile import StateFile
from relay.records.identifiers import Kind
from relay.records.notice import Notice, Topic, read_notice
from relay.trust.admission import Admission

_NOTICE = "notice "
_LOGS = "logs at "
_KEPT = (Topic.RECEIVERS, Topic.REVOCATIONS, Topic.WITNESSES)
"""What is published with a log. The register is not, and no check of an audit leans on it."""


@dataclass(frozen=True, slots=True)
class Older:
    """A notice that is served in an older version than was seen before; 0 where it is not served at all."""

    topic: str
    part: int
    served: int
    seen: int


class Memory(StateFile):
    """The memory of one election."""

    def recall(self, admission: Admission) -> None:
        """Put in force what was seen before. Comes before anything that is served."""
        for raw in self._notices():
            admission.install(admission.admit(Kind.NOTICE, raw))

    def keep(self, served: Sequence[bytes]) -> list[Older]:
        """Remember the newest of these notices, which were admitted; those of which newer ones were seen before."""
        newest: dict[str, Notice] = {}
        for notice in [read_notice(raw) for raw in served]:
            name = f"{notice.topic}/{notice.part}"
            if name not in newest or newest[name].version < notice.version:
                newest[name] = notice
        known = {f"{one.topic}/{one.part}": one for one in map(read_notice, self._notices())}
        with self.step():
            for name, notice in newest.items():
                if notice.topic in _KEPT and (name not in known or known[name].version < notice.version):
                    self._set(_NOTICE + name, notice.raw)
        older: list[Older] = []
        for name, seen in known.items():
            version = newest[name].version if name in newest else 0
            if version < seen.version:
                older.append(Older(seen.topic, seen.part, version, seen.version))
        return older

    def follow(self, admission: Admission, place: str, origin: str) -> list[str]:
        """Remember that the log `origin` is shown at this place; the logs that were shown there before, oldest first.

        Raises `Refused` where the last of them should be shown there still.
        """
        logs = self._fact(_LOGS + place).decode().split()
        before = [one for one in logs if one != origin]
        if logs and logs[-1] != origin and _stands(admission, logs[-1]):
            raise Refused(
                "another-log",
                f"Another log is shown there than before: {origin} in place of {logs[-1]}, whose receiver the election "
                "office still names",
                f"Ask the election office where the log {logs[-1]} is now. What was checked of it is remembered; to "
                "check this one all the same, give it a --state file of its own.",
            )
        with self.step():
            self._set(_LOGS + place, "\n".join([*before, origin]).encode())
        return before

    def _notices(self) -> list[bytes]:
        rows = self._all("SELECT value FROM facts WHERE key GLOB ? ORDER BY key", f"{_NOTICE}*")
        return [bytes(raw) for (raw,) in rows]


def _stands(admission: Admission, origin: str) -> bool:
    """Whether a notice in force names the receiver of this log."""
    for receiver in admission.receivers:
        if f"{admission.election}/{receiver.name}" == origin:
            with suppress(Malformed, Refused):
                admission.identify(receiver.certificate)
                return True
    return False
