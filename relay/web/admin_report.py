"""What the administrator's page shows, in the order of what needs attention. Pure, but for asking the receiver."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from relay.limits import ADMIN_REPORT_SECONDS, MAX_ADMIN_REPORT
from relay.node.daemon import Daemon
from relay.receiver.reporting import Reporter, describe_receiver

Document = dict[str, Any]
_HERE = ("arrived", "corrected")


class AdminReport:
    """What `relay receiver status` and `report` tell, asked of a running receiver.

    The full report reads the whole log. So it is made anew after some seconds only, and not at all of a log that would
    keep the receiver from its work: then the page says to use the command, which is a process of its own.
    """

    def __init__(self, daemon: Daemon, clock: Callable[[], float] = time.monotonic) -> None:
        self._daemon = daemon
        self._clock = clock
        self._made: tuple[float, Document] | None = None

    async def __call__(self) -> Document:
        """The report as it is shown."""
        now = self._clock()
        if self._made is None or now - self._made[0] > ADMIN_REPORT_SECONDS:
            self._made = now, await self._make()
        return self._made[1]

    async def _make(self) -> Document:
        daemon = self._daemon
        status = await describe_receiver(daemon.home, daemon.member, daemon.custody)
        if status["log"]["size"] > MAX_ADMIN_REPORT:
            return arrange(status)
        return arrange(await Reporter(daemon.home, daemon.member, daemon.custody).report())


def arrange(report: Mapping[str, Any]) -> Document:
    """A status, or a whole report, as sections: what is wrong first, the long list of what is missing last."""
    shown: Document = {"alarms": report["alarms"]}
    if "forms" in report:
        shown["summary"] = report["summary"]
        shown["conflicts"] = [{"tps": one["tps"], "form": one["form"]} for one in report["conflicts"]]
        shown["chains"] = [
            {"device": one["device"], "kind": one["kind"], "numbers": _numbers(one)} for one in report["chains"]
        ]
        shown["nodes"] = [
            {key: one[key] for key in ("node", "role", "statements", "newest_entry", "last_visit", "bytes_brought")}
            for one in report["nodes"]
        ]
        shown["revocations"] = [{"node": one["node"], "reason": one["reason"]} for one in report["revocations"]]
    else:
        shown["revocations"] = [{"node": name} for name in report["revoked"]]
    for key in ("log", "storage", "under_way", "stations_in_register", "named_by_notice"):
        shown[key] = report[key]
    if "forms" in report:
        shown["missing"] = _missing(report["forms"])
    return shown


def _missing(rows: Iterable[Mapping[str, Any]]) -> list[Document]:
    """Stations that have not returned all their forms: which ones nobody saw yet, and which are under way."""
    stations: dict[str, Document] = {}
    for row in rows:
        if row["state"] in _HERE or row["state"] == "conflict":
            continue
        place = {key: row[key] for key in ("tps", "village", "district", "island")}
        station = stations.setdefault(row["tps"], {**place, "forms_missing": [], "forms_under_way": []})
        station["forms_missing" if row["state"] == "missing" else "forms_under_way"].append(row["form"])
    return list(stations.values())


def _numbers(finding: Mapping[str, Any]) -> str:
    if finding["kind"] == "fork":
        return str(finding["seq"])
    first, last = finding["first"], finding["last"]
    return str(first) if first == last else f"{first}–{last}"
