"""A picture of what `tests.bench.contact --json FILE` measured: `python -m tests.bench.plot FILE docs/contact.svg`.

Needs matplotlib (`pip install '.[bench]'`).
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

TITLES = {
    "plain": "20 Mbit/s, 10 ms\n10 s",
    "lossy": "20 Mbit/s, 10 ms, 1 % loss\n10 s",
    "fast": "100 Mbit/s, 10 ms\n30 s",
    "both": "20 Mbit/s shared, 10 ms\nboth ways, 10 s",
    "strange": "20 Mbit/s, 10 ms\n4 s",
}
COLOURS = {"relay": "#0b6e4f", "rsync": "#c8553d", "syncthing": "#588b8b", "nncp": "#f2a65a"}


def draw(results: list[dict[str, Any]], target: Path) -> None:
    """Bars of the medians, with the range of all runs; above, useful bytes, below, whole packages."""
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "relay"  # the same results give the same file
    rows = [row for row in TITLES if any(one["row"] == row for one in results)]
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 6.4), sharex=True)
    for place, name in enumerate(COLOURS):
        for column, row in enumerate(rows):
            mine = [one for one in results if one["row"] == row and one["contestant"] == name]
            if not mine:
                continue
            where = column + (place - 1.5) * 0.2
            label = name if column == 0 else None
            ratios = [one["useful"][0] / one["raw"] for one in mine]
            bar(above, where, ratios, COLOURS[name], label)
            bar(below, where, [one["whole"] for one in mine], COLOURS[name], None)
    above.axhline(1.0, color="black", linewidth=0.8)
    above.set_ylabel("useful bytes over TCP's")
    below.set_ylabel("whole packages of 3 MB")
    below.set_xticks(range(len(rows)), [TITLES[row] for row in rows])
    above.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


def bar(axes: Any, where: float, values: list[float], colour: str, label: str | None) -> None:
    """One bar, and a whisker from the least to the most."""
    middle = statistics.median(values)
    spread = [[middle - min(values)], [max(values) - middle]]
    axes.bar(where, middle, width=0.18, color=colour, label=label)
    axes.errorbar(where, middle, yerr=spread, color="black", linewidth=0.8, capsize=2)


def main() -> int:
    """Draw."""
    source, target = map(Path, sys.argv[1:3])
    draw(json.loads(source.read_text()), target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
