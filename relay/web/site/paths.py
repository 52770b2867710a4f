"""Where each document of the site lies, from its top. Pages for people lie beside it, and English ones below `en/`."""

from __future__ import annotations

from relay.records.identifiers import NodeId

NEWEST = "newest.json"
"""The arrivals of the feed."""
STRAYS = "strays.json"
"""The first page of what the register does not know."""
ISLANDS = "islands.json"
"""The states of the map's islands."""
GATHERED = (NEWEST, STRAYS, ISLANDS)
"""What is gathered of the whole election, beside its region."""


def form_path(tps: str, form: str) -> str:
    """The document of a station and form."""
    return f"tps/{tps}/{form}.json"


def device_path(node: NodeId) -> str:
    """The document of a device."""
    return f"device/{node.hex()}.json"


def chain_path(node: NodeId, page: int) -> str:
    """One page of a device's chain, where it has more than one."""
    return f"device/{node.hex()}/{page}.json"


def region_path(key: str) -> str:
    """The document of a region."""
    return f"region/{key}.json"


def strays_path(page: int) -> str:
    """One page of what the register does not know."""
    return STRAYS if page == 1 else f"strays-{page}.json"
