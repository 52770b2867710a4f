"""A picture of what `tests.bench.contact --json FILE` measured: `python -m tests.bench.plot FILE docs/contact.svg`.

Needs matplotlib: `pip install -e '.[bench]'`. What was not measured is said, in the picture and beside it.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import results
from tests.bench.contact import ROWS
from tests.bench.results import Result, Row
from tests.reliability.status import cannot_run

TITLES = {
    "plain": "20 Mbit/s, 10 ms\n10 s",
    "lossy": "20 Mbit/s, 10 ms, 1 % loss\n10 s",
    "fast": "100 Mbit/s, 10 ms\n30 s",
    "both": "20 Mbit/s shared, 10 ms\nboth ways, 10 s",
    "known": "20 Mbit/s, 10 ms, 4 s\nknown from before",
    "strange": "20 Mbit/s, 10 ms, 5 s\nnever met",
}
COLOURS = {"relay": "#0b6e4f", "rsync": "#c8553d", "syncthing": "#588b8b", "nncp": "#f2a65a"}
WIDTH = 0.18


def draw(rows: Sequence[Row], target: Path) -> None:
    """Bars of the medians, with the range of all runs; a panel for each thing that counts."""
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "relay"  # the same results give the same file
    figure, panels = pyplot.subplots(3, 1, figsize=(11, 9), sharex=True)
    for column, row in enumerate(rows):
        late = row.first_of  # the row's own bare time is taken off
        ways: list[Callable[[Result], float | None]] = [lambda one: one.whole, late]
        if row.limit is not None:
            limit = row.limit
            ways.insert(0, lambda one, limit=limit: one.useful[0] / limit)  # type: ignore[misc]
        for axes, way in zip(panels[3 - len(ways) :], ways, strict=True):
            for place, name in enumerate(COLOURS):
                where = column + (place - 1.5) * (WIDTH + 0.02)
                values = [value for one in row.runs(name) if (value := way(one)) is not None]
                missing = "none" if row.runs(name) else "not measured"
                bar(axes, where, values, COLOURS[name], missing)
    for name, colour in COLOURS.items():
        panels[0].bar(0, 0, color=colour, label=name)
    panels[0].axhline(1.0, color="black", linewidth=0.8)
    panels[0].set_ylabel("useful bytes over TCP's")
    panels[1].set_ylabel("whole packages of 3 MB")
    panels[2].set_ylabel("first whole package,\nseconds beyond its bare time")
    panels[2].set_xticks(range(len(rows)), [TITLES[row.name] for row in rows])
    panels[0].legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


def bar(axes: Any, where: float, values: Sequence[float], colour: str, missing: str) -> None:
    """One bar, and a whisker from the least to the most; a word where there is no value."""
    if not values:
        axes.text(where, 0, f" {missing}", rotation=90, ha="center", va="bottom", fontsize=7, color=colour)
        return
    middle = statistics.median(values)
    spread = [[middle - min(values)], [max(values) - middle]]
    axes.bar(where, middle, width=WIDTH, color=colour)
    axes.errorbar(where, middle, yerr=spread, color="black", linewidth=0.8, capsize=2)


def main() -> int:
    """Draw."""
    if importlib.util.find_spec("matplotlib") is None:
        return cannot_run("needs matplotlib: pip install -e '.[bench]'")
    source, target = map(Path, sys.argv[1:3])
    kept = results.load(source)
    rows = [Row(one.name, one.rate, one.seconds, kept) for one in ROWS if one.name in TITLES]
    for row in rows:
        if absent := [name for name in COLOURS if not row.runs(name)]:
            print(f"{row.name}: not measured for {', '.join(absent)}", file=sys.stderr)
    draw(rows, target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
