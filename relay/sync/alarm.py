"""Alarms: what no honest receiver does, told loudly and kept with its evidence.

An alarm stays in the store for `relay status` and the pages: the evidence is signed by the receiver itself, and anybody
can check it with the tools that check its log.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from relay.limits import MAX_ALARMS
from relay.records.identifiers import Kind
from relay.store.interface import Store

logger = logging.getLogger(__name__)

_NOTE = "alarm"


async def raise_alarm(store: Store, log: str, what: str, evidence: Sequence[tuple[Kind, bytes]]) -> None:
    """Tell it in the log, and keep it, once. `log` is the origin of the log that it is about, `evidence` are the signed
    records that show it. Of one log a few are enough: whoever has its key can sign more of them without end."""
    alarms = read_alarms(await store.notes())
    known = [one["what"] for one in alarms if one.get("log") == log]
    if what in known or len(known) >= MAX_ALARMS:
        return
    logger.critical("%s. Tell the election office and the public; `relay status --json` has the evidence.", what)
    records = [{"kind": kind.name.lower(), "base64": base64.b64encode(raw).decode()} for kind, raw in evidence]
    alarms.append({"log": log, "what": what, "evidence": records})
    await store.set_note(_NOTE, json.dumps(alarms))


def read_alarms(notes: Mapping[str, str]) -> list[dict[str, Any]]:
    """The alarms among a store's notes, oldest first: `log`, `what`, and `evidence` as `[{kind, base64}]`."""
    alarms: list[dict[str, Any]] = json.loads(notes.get(_NOTE, "[]"))
    return alarms
