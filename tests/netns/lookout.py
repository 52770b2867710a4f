"""A process that runs discovery alone and says what it is told, one JSON object per line.

    python lookout.py NODE ELECTION-TAG PORT

`at` is the monotonic clock, which all processes of a machine share, whatever their namespace.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import suppress

from relay.net.discovery import Discovery
from relay.net.interfaces import watch_interfaces


def say(**event: object) -> None:
    print(json.dumps({"at": time.monotonic(), **event}), flush=True)


async def look_out(node: str, election_tag: str, port: int) -> None:
    discovery = Discovery(
        node,
        election_tag,
        port,
        lambda sighting: say(found=sighting.node, addresses=sighting.addresses, port=sighting.port),
        lambda lost: say(lost=lost),
    )
    async for interfaces in watch_interfaces():
        say(usable=[address for one in interfaces for address in one.addresses])
        await discovery.update(interfaces)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(look_out(sys.argv[1], sys.argv[2], int(sys.argv[3])))
