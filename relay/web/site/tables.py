"""Tables that gather many stations: one for the election, or one for each district of a large one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from relay.web.site.documents import Documents
from relay.web.site.downloads import table
from relay.web.site.paths import region_path
from relay.web.site.press import Press
from relay.web.site.regions import ALL, Document, Region
from relay.web.site.register import Register


def table_of(register: Register, path: Sequence[Region]) -> Region:
    """The region whose table a station stands in, from the regions that it lies in."""
    return next(one for one in path if one.level == "district") if register.is_large else ALL


def tables_of(register: Register, paths: Iterable[Sequence[Region]]) -> list[Region]:
    """The regions that have a table, from those that each station lies in."""
    return list(dict.fromkeys(table_of(register, path) for path in paths)) or [ALL]


async def write_table(press: Press, register: Register, region: Region) -> None:
    """Write the table of a region. It costs what the region is large."""
    villages = await _villages(press.documents, region.key)
    rows = await asyncio.to_thread(lambda: [row for one in villages for row in rows_of(register, one)])
    name = "results" if region == ALL else f"region/{region.key}-results"
    await press.write(await asyncio.to_thread(table, name, rows))


async def _villages(documents: Documents, key: str) -> list[Document]:
    """The documents of the villages of a region."""
    await documents.load([region_path(key)])
    document = documents.region(key)
    if document["level"] == "village":
        return [document]
    await documents.load(map(region_path, document["children"]))
    return [village for below in document["children"] for village in await _villages(documents, below)]


def rows_of(register: Register, village: Document) -> Iterator[Document]:
    """One row for each station and form of a village, arrived or not."""
    district = village["path"][-1]["name"]
    for tps, station in sorted(village["children"].items()):
        place = {"tps": tps, "village": village["name"], "district": district, **station}
        for form in dict.fromkeys((*register.forms, *station["forms"])):
            yield {**place, "form": form, **station["forms"].get(form, {})}
