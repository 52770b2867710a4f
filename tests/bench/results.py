"""What contacts gave: kept in a file, put into tables, held against what has to be reached."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.raw import PREFIX

PACKAGE = 3_002_000
RELAY = "relay"
OTHERS = "rsync", "syncthing", "nncp"
_WORDS = {True: "hit", False: "MISS", None: "not measured"}


@dataclass(slots=True)
class Result:
    """What one run gave."""

    row: str
    contestant: str
    """A program, or `tcp` with a number of connections and a congestion control."""
    lower: str = ""
    """relay's end with the lower node id: both are tried, and the worse one counts."""
    useful: list[int] = field(default_factory=list)
    """Useful bytes of each contact."""
    whole: int = 0
    """Whole packages after the first contact."""
    first_whole: float | None = None
    """Seconds from the link to the first of them."""
    crossed: dict[str, list[int]] = field(default_factory=dict)
    """Kinds of records: how many crossed, and of how many."""
    each_way: list[int] = field(default_factory=list)
    air: float = 0.0
    """Of one core, what the air took in the first contact."""
    busy: float = 0.0
    """Of all cores, what everything took."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What has to be reached, and whether it was."""

    what: str
    required: str
    got: str
    hit: bool | None
    """None: it was not measured."""


def load(file: Path) -> list[Result]:
    """The results in a file; none where there is no file."""
    return [Result(**one) for one in json.loads(file.read_text())] if file.exists() else []


def merged(old: Iterable[Result], new: Sequence[Result]) -> list[Result]:
    """New results take the place of all old ones of their row and contestant."""
    anew = {(one.row, one.contestant) for one in new}
    return [one for one in old if (one.row, one.contestant) not in anew] + list(new)


def save(file: Path, results: Sequence[Result]) -> None:
    """Keep results."""
    file.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")


class Row:
    """The results of one row, a contact of so many seconds. `rate` in Mbit/s."""

    def __init__(self, name: str, rate: float, seconds: float, results: Iterable[Result]) -> None:
        self.name = name
        self._bytes = rate * 1e6 / 8 * seconds
        self._bare_seconds = PACKAGE * 8 / rate / 1e6
        mine = [one for one in results if one.row == name]
        self._runs = {key: [one for one in mine if one.contestant == key] for key in (one.contestant for one in mine)}
        self.programs = [name for name in self._runs if not name.startswith(PREFIX)]
        self.yardsticks = {name: self.useful(name) for name in self._runs if name.startswith(PREFIX)}

    @property
    def limit(self) -> float | None:
        """Bytes that TCP moves: the median of the best number of connections and congestion control."""
        return max(self.yardsticks.values(), default=None)

    @property
    def best(self) -> str:
        """The way to use TCP that moves most."""
        return max(self.yardsticks, key=lambda name: self.yardsticks[name])

    def runs(self, name: str) -> list[Result]:
        """All runs of one contestant."""
        return self._runs.get(name, [])

    def useful(self, name: str) -> float:
        """Median of the useful bytes of the first contact."""
        return min(statistics.median(one.useful[0] for one in runs) for runs in self._orders(name))

    def whole(self, name: str) -> float:
        """Median of the whole packages."""
        return min(statistics.median(one.whole for one in runs) for runs in self._orders(name))

    def ratio(self, name: str) -> float | None:
        """Median of the useful bytes over TCP's."""
        return None if self.limit is None else self.useful(name) / self.limit

    def of_link(self, name: str) -> float | None:
        """Median of the useful bytes over what the link's rate comes to, heads and all."""
        return self.useful(name) / self._bytes

    def above(self, name: str) -> int:
        """How many runs moved more than the limit, which is a median."""
        return sum(one.useful[0] > (self.limit or float("inf")) for one in self._runs[name])

    def second(self, name: str) -> float | None:
        """Median of the second contact's useful bytes over the first's."""
        return _least(
            [one.useful[1] / one.useful[0] for one in runs if len(one.useful) > 1] for runs in self._orders(name)
        )

    def first_of(self, one: Result) -> float | None:
        """Seconds to one run's first whole package, beyond its bare time at the link's rate."""
        return None if one.first_whole is None else one.first_whole - self._bare_seconds

    def first(self, name: str) -> float | None:
        """The same for all runs: the median. None where most runs had no whole package."""
        worst = float("-inf")
        for runs in self._orders(name):
            late = [self.first_of(one) for one in runs]
            worst = max(worst, statistics.median(float("inf") if one is None else one for one in late))
        return None if worst == float("inf") else worst

    def crossed(self, name: str) -> dict[str, tuple[int, int]]:
        """Of each kind of records how many crossed in the worst run, and of how many."""
        least: dict[str, tuple[int, int]] = {}
        for one in self._runs[name]:
            for kind, (count, of) in one.crossed.items():
                least[kind] = min(least.get(kind, (count, of)), (count, of))
        return least

    def starved(self, name: str) -> float | None:
        """Median of the lesser way's share of the greater one's bytes."""
        return _least(
            [min(one.each_way) / max(1, *one.each_way) for one in runs if one.each_way] for runs in self._orders(name)
        )

    def _orders(self, name: str) -> list[list[Result]]:
        """The runs of a contestant by the order of node ids: of what is said of it, the worse one's counts."""
        runs = self._runs[name]
        return [[one for one in runs if one.lower == lower] for lower in sorted({one.lower for one in runs})]


def table(row: Row) -> str:
    """The row as a table in Markdown, and what is to be known beside it."""
    if not row.programs and not row.yardsticks:
        return "Not measured."
    columns: list[tuple[str, Callable[[str], str]]] = [
        ("useful bytes over TCP's", lambda name: _number(row.ratio(name), "{:.3f}")),
        ("second contact over first", lambda name: _number(row.second(name), "{:.2f}")),
        ("whole packages", lambda name: f"{row.whole(name):g}"),
        ("first whole package, beyond its bare time", lambda name: _number(row.first(name), "{:.2f} s") or "none"),
        ("crossed", lambda name: ", ".join(f"{n} of {of} {kind}" for kind, (n, of) in row.crossed(name).items())),
        ("lesser way over greater", lambda name: _number(row.starved(name), "{:.2f}")),
    ]
    shown = [(head, cell) for head, cell in columns if any(cell(name) not in ("", "none") for name in row.programs)]
    lines = [" | ".join(["| " + row.name, *(head for head, _ in shown)]) + " |", "|---" * (len(shown) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(cell(name) for _, cell in shown) + " |" for name in row.programs]
    every = [one for name in (*row.programs, *row.yardsticks) for one in row.runs(name)]
    if row.limit is not None:
        lines += [
            "",
            f"The limit is {row.limit / 1e6:.2f} MB: {row.best}, median of {len(row.runs(row.best))}.",
        ]
        above = [f"{name} {row.above(name)} of {len(row.runs(name))}" for name in row.programs if row.above(name)]
        lines.append(f"Runs above it (it is a median): {', '.join(above) or 'none'}.")
    if every:
        lines.append(f"The air took up to {max(one.air for one in every):.0%} of one core. {_business(row)}")
    return "\n".join(lines)


def _business(row: Row) -> str:
    """How busy the machine was, beside each: contestants that had it to themselves are not those that shared it."""
    shares: dict[str, list[float]] = {}
    for name in (*row.programs, *row.yardsticks):
        shares.setdefault("TCP" if name in row.yardsticks else name, []).extend(one.busy for one in row.runs(name))
    told = [f"{name} {_range(min(busy), max(busy))}" for name, busy in shares.items()]
    return f"Of all cores, everything together took beside {', '.join(told)}."


def _range(least: float, most: float) -> str:
    low, high = f"{least:.0%}", f"{most:.0%}"
    return high if low == high else f"{low.removesuffix('%')} to {high}"


def demands(row: Row) -> list[Demand]:
    """What has to be reached in this row."""
    found: list[Demand] = []
    measured = RELAY in row.programs
    for what, of, required in (
        ("useful bytes over TCP's", row.ratio, {"plain": 0.93, "lossy": 0.90, "fast": 0.90, "both": 0.90}),
        ("useful bytes over the link's rate", row.of_link, {"both": 0.90}),
        ("second contact over first", row.second, {"plain": 1.0}),
        ("lesser way over greater", row.starved, {"both": 1 / 3}),
    ):
        if row.name in required:
            value, least = of(RELAY) if measured else None, required[row.name]
            hit = None if value is None else value >= least
            found.append(Demand(what, f"at least {least:.2f}", _number(value, "{:.3f}"), hit))
    latest = {"known": 0.5, "strange": 1.5}.get(row.name)
    if latest is not None:
        first = row.first(RELAY) if measured else None
        hit = (first is not None and first <= latest) if measured else None
        got = _number(first, "{:.2f} s") or "none"
        found.append(Demand("first package beyond its bare time", f"at most {latest} s", got, hit))
    if row.name == "brief":
        crossed = row.crossed(RELAY) if measured else {}
        got = ", ".join(f"{count} of {of} {kind}" for kind, (count, of) in crossed.items())
        whole = all(count == of for count, of in crossed.values()) if crossed else None
        found.append(Demand("receipts, notices, statements", "all, in every run", got, whole))
    return found + [_ahead(row, other) for other in OTHERS]


def _ahead(row: Row, other: str) -> Demand:
    """Whether relay is ahead of another program in what the row is about."""
    if RELAY not in row.programs or other not in row.programs:
        return Demand(f"ahead of {other}", "", "", None)
    form, what, mine, theirs = "{:.2f} MB", "useful bytes", row.useful(RELAY) / 1e6, row.useful(other) / 1e6
    if row.name in ("known", "strange"):
        late = [row.first(name) for name in (RELAY, other)]
        form, what, (mine, theirs) = "{:.2f} s", "first package", (99.0 if one is None else one for one in late)
        return Demand(f"ahead of {other} ({what})", form.format(theirs), form.format(mine), mine < theirs)
    if row.name == "brief":
        form, what, mine, theirs = "{:g}", "statements, or tallies", *(_first(row.crossed(n)) for n in (RELAY, other))
    return Demand(f"ahead of {other} ({what})", form.format(theirs), form.format(mine), mine > theirs)


def verdict(row: Row) -> str:
    """Demands as a table in Markdown."""
    lines = ["| must reach | required | got | |", "|---|---|---|---|"]
    return "\n".join(
        [
            *lines,
            *(f"| {one.what} | {one.required} | {one.got} | {_WORDS[one.hit]} |" for one in demands(row)),
        ]
    )


def _first(crossed: dict[str, tuple[int, int]]) -> float:
    return float(next(iter(crossed.values()), (0, 0))[0])


def _least(groups: Iterable[Sequence[float]]) -> float | None:
    return min((statistics.median(values) for values in groups if values), default=None)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
