"""How the site looks: documents in, files out. Two trees of pages, Indonesian at the top and English below `en/`.

Every link is relative, so that the site works under any address and from any folder. Pages need no script to be read;
`static/check.js` only adds the check, and the policy in each page lets nothing else run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from relay.limits import SITE_ISLANDS
from relay.receiver.results import Logged, Result, Standing, is_settled
from relay.records.identifiers import is_drill, sha256
from relay.records.notice import Station
from relay.records.tally import COUNTS, is_pair
from relay.store.shelf import Page
from relay.trust.enrolment import pem_block
from relay.web.names import form_name
from relay.web.site.chart import Place, draw
from relay.web.site.downloads import feed
from relay.web.site.found import by_statement
from relay.web.site.islands import Marks, marks_of, state_of
from relay.web.site.regions import Document, Region

LANGUAGES = ("id", "en")
HTML = "text/html; charset=utf-8"
JSON = "application/json"
_STATIC = {
    "site.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "check.js": "text/javascript",
    "notices.js": "text/javascript",
    "verify.js": "text/javascript",
}
_WIB = timezone(timedelta(hours=7), "WIB")
"""Western Indonesian time: what the whole country's results are told in."""
_PEM = "application/x-pem-file"


class Look:
    """Renders the pages of one election. `root` and `receiver` are certificates (DER), `places` the map, if any."""

    def __init__(self, election: str, root: bytes, receiver: bytes, places: Sequence[Place] = ()) -> None:
        self.election = election
        self._root = root
        self._receiver = receiver
        self._places = places
        self._environment = _environment()
        whole = hashlib.sha256(repr((election, root)).encode())
        for name, content in _ours():
            whole.update(repr((name, content)).encode())
        self.fingerprint = whole.hexdigest()[:16]
        """Another one means other pages."""
        self.dress = hashlib.sha256(repr((receiver, places)).encode()).hexdigest()[:16]
        """What is this receiver's own, and shows on the front page and in files only."""

    # -- documents

    def result_document(self, result: Result, station: Station | None, path: Sequence[Region]) -> Document:
        """What is published of one station and form."""
        first = result.standing[0]
        return {
            "election": self.election,
            "tps": result.tps,
            "form": result.form,
            "station": _station_map(station) if station else None,
            "path": [one.to_map() for one in path],
            "state": _state(result),
            "entry": first.entry,
            "arrived": first.arrived,
            "counted": result.counted,
            "corrected": result.corrected,
            "tally": result.tally.to_map() if result.tally else None,
            "flags": [flag.to_map() for flag in result.flags],
            "statements": [{**one.to_map(), "standing": str(standing)} for one, standing in result.statements],
        }

    def newest_item(self, one: Logged, station: Station | None) -> Document:
        """What the feed says of an arrival."""
        return {
            "id": one.id.hex(),
            "entry": one.entry,
            "arrived": one.arrived,
            "tps": one.tps,
            "form": one.form,
            "correction": one.supersedes is not None,
            **self.place_of(station),
        }

    def place_of(self, station: Station | None) -> Document:
        """What the feed says of where something arrived from."""
        place = _station_map(station) if station else {"number": 0, "village": "", "district": "", "island": ""}
        return {key: place[key] for key in ("number", "village", "district", "island")}

    # -- pages

    def form_pages(self, document: Document) -> Iterable[Page]:
        """The page of one station and form."""
        statements = list(reversed(document["statements"]))
        standing = [one for one in statements if one["standing"] != Standing.SUPERSEDED]
        earlier = [one for one in statements if one["standing"] == Standing.SUPERSEDED]
        path = f"tps/{document['tps']}/{document['form']}"
        found = by_statement(document["flags"]) if len(statements) > 1 and not document["pages"] else {}
        return self._pages(path, "form.html", document=document, standing=standing, earlier=earlier, found=found)

    def history_pages(self, document: Document, head: Document) -> Iterable[Page]:
        """A page of the history of a station and form whose own document is `head`: of statements, or of lines."""
        name, template = ("history-", "history.html") if "rows" in document else ("", "statements.html")
        path = f"tps/{head['tps']}/{head['form']}/{name}{document['page']}"
        return self._pages(path, template, document=document, head=head)

    def device_pages(self, document: Document) -> Iterable[Page]:
        """The page of one device: everything that it signed, or where that is listed."""
        return self._pages(f"device/{document['node']}", "device.html", document=document)

    def chain_pages(self, document: Document, head: Document) -> Iterable[Page]:
        """A page of the chain of a device whose own document is `head`."""
        path = f"device/{document['node']}/{document['page']}"
        return self._pages(path, "chain.html", document=document, head=head)

    def region_pages(self, document: Document) -> Iterable[Page]:
        """The page of a region: of a village with its stations, of a larger one with its parts."""
        groups = _groups(document["sums"]["islands"] or {})
        return self._pages(f"region/{document['key']}", "region.html", document=document, groups=groups)

    def whole_pages(self, document: Document, newest: Document, strays: Document, islands: Document) -> Iterable[Page]:
        """The front page with its map, the flags and the feed."""
        items = newest["newest"]
        listed = document["sums"]["islands"]
        marks = marks_of(islands) or listed or {}
        states = {key: _state_of(row["sums"]) for key, row in document["children"].items()}
        states |= {row["name"]: states[key] for key, row in document["children"].items()}
        chart = draw(self._places, states | {name: state_of(one) for name, one in marks.items()})
        yield from self._pages(
            "index",
            "index.html",
            document=document,
            newest=items[:8],
            chart=chart,
            islands=islands["stations"],
            groups={} if islands["stations"] else _groups(listed or {}),
            lacks_states=not marks and listed is None,
        )
        yield from self._pages("flags", "flags.html", document=document, strays=strays)
        words = texts("id")
        atom = feed(self.election, items, words["title"], words["station_number"])
        yield Page("feed.xml", atom, "application/atom+xml")

    def stray_pages(self, document: Document) -> Iterable[Page]:
        """What the register does not know, beyond what `flags.html` lists itself."""
        return self._pages(f"strays-{document['page']}", "strays.html", strays=document)

    def files(self, *, by_district: bool) -> Iterable[Page]:
        """What does not change with arrivals: style, scripts, certificates, and the pages that explain. Tables of
        results are offered whole, or `by_district`."""
        for name, kind in _STATIC.items():
            yield Page(f"static/{name}", _read(f"static/{name}"), kind)
        yield Page("root.pem", pem_block("CERTIFICATE", self._root).encode(), _PEM)
        yield Page("receiver.pem", pem_block("CERTIFICATE", self._receiver).encode(), _PEM)
        yield from self._pages("check", "check.html", fingerprint=_spaced(sha256(self._root).hex()))
        yield from self._pages("downloads", "downloads.html", by_district=by_district)

    def _pages(self, path: str, template: str, **values: Any) -> Iterable[Page]:
        depth = path.count("/")
        for language in LANGUAGES:
            own = "" if language == "id" else "en/"
            up = "../" * (depth + bool(own))
            other = LANGUAGES[1 - LANGUAGES.index(language)]
            content = self._environment.get_template(template).render(
                lang=language,
                t=texts(language),
                election=self.election,
                drill=is_drill(self.election),
                up=up,  # to the site's own top, where files are
                home="../" * depth,  # to the top of the pages in this language
                path=path,
                other=f"{up}{'en/' if other == 'en' else ''}{path}.html",
                other_lang=other,
                counts=COUNTS,
                most_islands=SITE_ISLANDS,
                words=_script_words(language),
                **values,
            )
            yield Page(f"{own}{path}.html", content.encode(), HTML)


def _station_map(station: Station) -> Document:
    keys = ("number", "village", "district", "island", "registered_voters")
    return {key: getattr(station, key) for key in keys}


def _state(result: Result) -> str:
    """In a word: `result`, `conflict`, or what there is instead of numbers: `sealed`, `photographs`."""
    if any(standing is Standing.CONFLICT for _, standing in result.statements):
        return "conflict"
    if result.tally is None:
        return "sealed" if result.standing[0].sealed else "photographs"
    return "result"


@cache
def texts(language: str) -> dict[str, Any]:
    """What the pages say."""
    found: dict[str, Any] = json.loads(_read(f"templates/texts.{language}.json"))
    return found


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(lambda name: _read(f"templates/{name}").decode()),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "form_name": form_name,
        "number": _number,
        "percent": _percent,
        "moment": _moment,
        "iso": _iso,
        "size": _size,
        "spaced": _spaced,
        "script_safe": _script_safe,
        "by_pair": _by_pair,
    }
    environment.globals |= {"runs": _runs, "reason": reason, "shapes": _SHAPES}
    return environment


def _by_pair(votes: Mapping[str, int]) -> list[tuple[str, int]]:
    """Votes in the order of the pairs' numbers; what is no pair's comes last."""
    return sorted(votes.items(), key=lambda one: (0, int(one[0]), "") if is_pair(one[0]) else (1, 0, one[0]))


def _number(value: int, language: str) -> str:
    text = f"{value:,}"
    return text.replace(",", ".") if language == "id" else text


def _percent(part: int, whole: int, language: str) -> str:
    """A share; never rounded up to everything, nor down to nothing."""
    share = 100 * part / whole if whole else 0.0
    share = min(share, 99.9) if part < whole else share
    share = max(share, 0.1) if part else share
    text = f"{share:.1f}".removesuffix(".0")
    return f"{text.replace('.', ',') if language == 'id' else text}%"


def _moment(seconds: int | None, language: str) -> str:
    """A time as people say it; a device may claim any number, and one that is no date is shown as it is."""
    if seconds is None:
        return "—"
    try:
        moment = datetime.fromtimestamp(seconds, _WIB)
    except (ValueError, OverflowError, OSError):
        return str(seconds)
    month = texts(language)["months"][moment.month - 1]
    clock = f"{moment:%H.%M.%S}" if language == "id" else f"{moment:%H:%M:%S}"
    return f"{moment.day} {month} {moment.year}, {clock} WIB"


def _iso(seconds: int | None) -> str:
    try:
        return datetime.fromtimestamp(seconds or 0, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return ""


def _size(count: int, language: str) -> str:
    text = f"{count / 1_000_000:.1f} MB" if count >= 1_000_000 else f"{max(count // 1000, 1)} kB"
    return text.replace(".", ",") if language == "id" else text


def _spaced(digits: str) -> str:
    """Hexadecimal digits in groups that can be read aloud."""
    return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


_SHAPES = {"0": "h8v8h-8z", "1": "v8h8z", "2": "h8v8h-8z", "!": "m4 -1l5 5l-5 5l-5 -5z"}
"""The marks: a square, empty or full; half of one; a diamond. Whoever sees no colours can tell them apart."""


def _runs(marks: str, columns: int = 24) -> dict[str, str]:
    """Station marks as SVG paths in a grid of 10 units, one path for each kind of mark."""
    paths: dict[str, list[str]] = {}
    for place, mark in enumerate(marks):
        row, column = divmod(place, columns)
        paths.setdefault(mark, []).append(f"M{column * 10 + 1} {row * 10 + 1}{_SHAPES[mark]}")
    return {mark: "".join(parts) for mark, parts in sorted(paths.items())}


def _state_of(sums: Mapping[str, int]) -> str:
    """The mark of a region."""
    if sums["flagged"]:
        return "!"
    return "2" if sums["complete"] == sums["stations"] else "1" if sums["begun"] else "0"


def _groups(islands: Marks) -> dict[str, dict[str, str | int]]:
    """The islands that have stations: how many, how many of them are complete, and their state together."""
    return {
        name: {"stations": sum(marks.values()), "complete": marks.get("2", 0), "state": state_of(marks)}
        for name, marks in islands.items()
    }


class _Known(dict[str, str]):
    """What a sentence quotes; what is not known is left open, not an error: a device may raise any flag."""

    def __missing__(self, key: str) -> str:
        return "…"


def reason(flag: Mapping[str, Any], language: str) -> str:
    """Why a flag is there, in a sentence."""
    reasons = texts(language)["reasons"]
    values = {
        key: _number(value, language) if isinstance(value, int) else value
        for key, value in flag.get("values", {}).items()
    }
    sentence: str = reasons.get(flag["flag"], reasons["other"])
    sentence = sentence.format_map(_Known(values, slug=flag["flag"]))
    return f"{texts(language)['before_correction']} {sentence}" if is_settled(flag) else sentence


def _script_safe(document: str) -> Markup:
    """JSON as it may stand within a script element: nothing in it can end the element."""
    escaped = document.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(escaped)  # noqa: S704  escaped above, and our own text


@cache
def _script_words(language: str) -> str:
    """What the check says, and the labels that it expects beside numbers."""
    found = texts(language)
    labels = {name: found[name] for name in ("tally", "pair", "counts")}
    return json.dumps({**found["check"], **labels}, ensure_ascii=False)


def _ours() -> Iterable[tuple[str, bytes]]:
    """Our own files, all of them: when one changes, the pages do."""
    for folder in ("templates", "static"):
        for file in sorted((_here() / folder).iterdir(), key=lambda one: one.name):
            yield file.name, file.read_bytes()


def _here() -> Traversable:
    return resources.files(__package__ or "relay.web.site")


def _read(name: str) -> bytes:
    return (_here() / name).read_bytes()
