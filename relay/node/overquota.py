"""Packages that were not taken since their signer's quota is full here: noted, so that people are told, not only a log.

`Custody.verdicts` counts them. Whoever was refused is asked anew once receipts or notices made room: until then the
note stands, also after a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from relay.errors import StoreError
from relay.limits import HANDOVER_SECONDS
from relay.store.interface import Outcome
from relay.store.quota import Quota
from relay.sync.custody import Custody

NOTE = "over-quota"
"""The store's note of it: the quota that was full; empty where none is."""
logger = logging.getLogger(__name__)


def is_over_quota(notes: Mapping[str, str]) -> bool:
    """Whether packages were not taken, and no room was made since."""
    return bool(notes.get(NOTE))


async def keep_over_quota(custody: Custody, quota: Quota) -> None:
    """Note whether packages are not taken for `quota`, for ever. Writes only what is new."""
    text = f"{quota.bytes} {quota.statements}"
    turned_away = room_made = 0
    noted: str | None = None
    while True:
        turned, made = _turned_away(custody), _room_made(custody)
        try:
            if noted is None:
                noted = (await custody.store.notes()).get(NOTE, "")
            # What was noted under another quota is not known to be so under this one.
            wanted = text if turned != turned_away else "" if made != room_made or noted != text else noted
            if wanted != noted:
                await custody.store.set_note(NOTE, wanted)
                noted = wanted
            turned_away, room_made = turned, made
        except StoreError as error:
            logger.error("%s", error)  # noted as soon as the disk takes it
        await asyncio.sleep(HANDOVER_SECONDS)


def _turned_away(custody: Custody) -> int:
    return custody.verdicts["statement", Outcome.OVER_QUOTA]


def _room_made(custody: Custody) -> int:
    return custody.verdicts["receipt", Outcome.NEW] + custody.verdicts["notice", Outcome.NEW]
