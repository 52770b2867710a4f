"""All statements of one station and form, also where they are more than one page can carry.

    tps/<tps>/<form>.json               the result and its flags; its statements while they are few, else what stands,
                                        of each device first, as far as it fits
    tps/<tps>/<form>/history-<n>.json   a line for each: where it stands, all its flags, on which page it is shown
    tps/<tps>/<form>/<n>.json           the statements themselves, as they came

One key may sign a thousand statements for one form, each as heavy as a record can be. None is hidden, and none makes a
document that a phone cannot load, or that could not be read back: they make more pages. A line of the history has what
judging needs and no more, so that an arrival does not read again whatever came before.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence

from relay.limits import SITE_FLAGS, SITE_HISTORY, SITE_STATEMENTS, SITE_STATEMENTS_BYTES
from relay.receiver.results import Logged, Result, Standing
from relay.web.site.documents import Documents
from relay.web.site.found import by_statement
from relay.web.site.paths import form_path
from relay.web.site.regions import Document
from relay.web.site.shortened import shorten

_LEFT_OUT = ("reason", "files", "standing")
"""What a line of the history lacks of a statement."""


class History:
    """The statements of a station and form, whose own document was loaded."""

    def __init__(self, documents: Documents, tps: str, form: str) -> None:
        self._documents = documents
        self._head: Document = documents.at(form_path(tps, form))
        self._place = {"tps": tps, "form": form}
        self._folder = f"tps/{tps}/{form}"
        self._pages: dict[str, int] | None = self._head.get("pages")
        self._rows: dict[str, Document] = {}
        self._listed: dict[str, str] = {}
        """By a statement's id: the path of the page of the history that lists it."""
        self._changed: dict[str, None] = {}
        self._used: dict[str, None] = {}

    @property
    def has_pages(self) -> bool:
        """Whether the statements do not fit the form's own page."""
        return self._pages is not None

    @property
    def changed(self) -> tuple[str, ...]:
        """The documents of its pages that are to be written."""
        return tuple(self._changed)

    @property
    def used(self) -> tuple[str, ...]:
        """The documents of its pages that were loaded or put."""
        return tuple(self._used)

    async def take(self, new: Sequence[Logged]) -> list[Logged]:
        """All statements, those that were published and new ones, as far as judging needs them."""
        held = {item["id"]: _bare(item) for item in self._head.get("statements", [])} if not self._pages else {}
        held |= {one.id.hex(): one.to_map() for one in new}
        weights = await asyncio.to_thread(lambda: {key: _weight(item) for key, item in held.items()})
        if not self._pages and len(held) <= SITE_STATEMENTS and sum(weights.values()) <= SITE_STATEMENTS_BYTES:
            return [Logged.from_map(item) for item in held.values()]
        self._pages = dict(self._pages or {"statements": 1, "history": 1})
        for number in range(1, self._pages["history"] + 1):
            await self._list(number)
        for key, item in sorted(held.items(), key=lambda each: int(each[1]["entry"])):
            await self._lay(item, weights[key])
        return await asyncio.to_thread(lambda: [_read_row(row) for row in self._rows.values()])

    async def tell(self, result: Result, document: Document) -> Document:
        """What is published of the result, and on the pages, from a document that has room for everything."""
        document["standing"] = len(result.standing)
        document["pages"], document["where"], document["more_flags"] = self._pages, {}, 0
        if self._pages is None:
            return document
        await asyncio.to_thread(self._judge_rows, result)
        document["statements"] = await self._standing(result)
        document["flags"], document["more_flags"] = shorten(document["flags"], 0, SITE_FLAGS)
        document["where"] = self._where(document["statements"], document["flags"])
        return document

    # -- pages

    async def _lay(self, item: Document, weight: int) -> None:
        """Put a statement on a page, and list it, unless both were done before."""
        assert self._pages is not None
        row = self._rows.get(item["id"])
        page = row["page"] if row else self._pages["statements"]
        while not await self._put(page, item, weight):
            page += 1
        self._pages["statements"] = max(self._pages["statements"], page)
        if row is None:
            await self._enter({key: one for key, one in item.items() if key not in _LEFT_OUT} | {"page": page})
        else:
            row["page"] = page
            self._changed[self._listed[item["id"]]] = None

    async def _put(self, page: int, item: Document, weight: int) -> bool:
        """Put a statement on this page, unless it is full. Whether it is there."""
        path = await self._load(str(page), {"page": page, "bytes": 0, "statements": [], "where": {}})
        document = self._documents.at(path)
        held: list[Document] = document["statements"]
        if all(one["id"] != item["id"] for one in held):
            if held and (len(held) >= SITE_STATEMENTS or document["bytes"] + weight > SITE_STATEMENTS_BYTES):
                return False
            held.append(item)
            document["bytes"] += weight
            corrected = self._rows.get(item["supersedes"] or "")
            if corrected:
                document["where"][item["supersedes"]] = corrected["page"]
        self._changed[path] = None
        return True

    async def _enter(self, row: Document) -> None:
        """List a statement on the last page of the history."""
        assert self._pages is not None
        path = self._history(self._pages["history"])
        if (
            len(self._documents.at(path)["rows"]) >= SITE_HISTORY
            or self._documents.at(path)["bytes"] >= SITE_STATEMENTS_BYTES
        ):
            self._pages["history"] += 1
            path = await self._list(self._pages["history"])
        if row["id"] in self._rows:
            return  # a page that a power cut left behind lists it
        document = self._documents.at(path)
        document["rows"][row["id"]] = self._rows[row["id"]] = row
        document["bytes"] += _weight(row)
        self._listed[row["id"]] = path
        self._changed[path] = None

    async def _list(self, number: int) -> str:
        """Take in a page of the history; its path."""
        path = await self._load(f"history-{number}", {"page": number, "bytes": 0, "rows": {}})
        for key, row in self._documents.at(path)["rows"].items():
            self._rows[key] = row
            self._listed[key] = path
        return path

    async def _load(self, name: str, blank: Document) -> str:
        path = f"{self._folder}/{name}.json"
        self._used[path] = None
        await self._documents.load([path])
        if not self._documents.at(path):
            self._documents.put(path, {**self._place, **blank})
        return path

    def _history(self, number: int) -> str:
        return f"{self._folder}/history-{number}.json"

    # -- the result

    def _judge_rows(self, result: Result) -> None:
        """Note at each line where its statement stands, and its flags."""
        told = by_statement(flag.to_map() for flag in result.flags)
        for statement, standing in result.statements:
            key = statement.id.hex()
            stands = standing is not Standing.SUPERSEDED
            judged = {"stands": stands, "found": told.get(key, [])}
            row = self._rows[key]
            if any(row.get(name) != value for name, value in judged.items()):
                row.update(judged)
                self._changed[self._listed[key]] = None

    async def _standing(self, result: Result) -> list[Document]:
        """The statements that stand, as many as fit: the newest of each device before others, so that no device with
        many of them takes the place of another's only one."""
        standings = {one.id.hex(): str(standing) for one, standing in result.statements}
        firsts: dict[str, Logged] = {}
        for one in reversed(result.standing):
            firsts.setdefault(one.node.hex(), one)
        first = {one.id for one in firsts.values()}
        chosen = [*firsts.values(), *(one for one in reversed(result.standing) if one.id not in first)]
        shown: list[Document] = []
        room = SITE_STATEMENTS_BYTES
        for one in chosen[:SITE_STATEMENTS]:
            item = await self._item(one.id.hex())
            if item is None:
                continue
            room -= _weight(item)
            if shown and room < 0:
                break
            shown.append({**item, "standing": standings[item["id"]]})
        return sorted(shown, key=lambda item: int(item["entry"]))

    async def _item(self, key: str) -> Document | None:
        """A statement from its page; None where that was damaged, until the log is brought again."""
        path = f"{self._folder}/{self._rows[key]['page']}.json"
        await self._documents.load([path])
        self._used[path] = None
        for item in self._documents.at(path).get("statements", []):
            if item["id"] == key:
                return dict(item)
        self._documents.lost(path)
        return None

    def _where(self, shown: Iterable[Document], flags: Iterable[Mapping[str, Sequence[str]]]) -> dict[str, int]:
        """On which page those are that this one names."""
        named = [one["supersedes"] for one in shown if one["supersedes"]]
        named += [one for flag in flags for one in flag["statements"]]
        return {key: self._rows[key]["page"] for key in named if key in self._rows}


def _bare(item: Document) -> Document:
    return {key: one for key, one in item.items() if key != "standing"}


def _read_row(row: Document) -> Logged:
    return Logged.from_map({**row, "reason": "", "files": []})


def _weight(item: Document) -> int:
    return len(json.dumps(item, ensure_ascii=False).encode())
