"""`python -m tests.reliability [--brief] [--seed 12] [--only kills …]`: attack every promise, and print the table.

Runs what docs/reliability.md tells of, one campaign after the other, and prints rows in the form of its table as they
end. `--brief` takes some minutes, all of it several hours. What a machine lacks (FUSE, atheris, PostgreSQL) is told in
its row; the last line names the campaigns that did not run. Exit status 1 when a promise was broken anywhere, or a
campaign ended without telling what it did; 77 when none could run.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from tests.reliability.status import CANNOT_RUN

ROOT = Path(__file__).parents[2]


class Ending(Enum):
    """How a campaign ended."""

    HELD = auto()
    FAILED = auto()
    NOT_RUN = auto()


@dataclass(frozen=True, slots=True)
class Campaign:
    """One attack: what it is, its arguments (all of it, and in brief), what of its output is the result."""

    name: str
    what: str
    full: str
    brief: str
    result: str
    """A regular expression; the last line with a match is the result. A campaign without one tested nothing."""

    def arguments(self, seed: int, *, brief: bool) -> list[str]:
        """Of `python -m`."""
        return shlex.split((self.brief if brief else self.full).format(seed=seed))


CAMPAIGNS = (
    Campaign(
        "kills",
        "kills at random instants",
        "tests.powercuts --kills 500 --seed {seed}",
        "tests.powercuts --kills 24 --seed {seed}",
        r"\d+ kills .*",
    ),
    Campaign(
        "lost-writes",
        "the same on the disk that loses what was not synced",
        "tests.powercuts --lost-writes 200 --seed {seed}",
        "tests.powercuts --lost-writes 16 --seed {seed}",
        r"\d+ lost-write cuts .*",
    ),
    Campaign(
        "visits",
        "daemons whose power is cut in the middle of a visit",
        "tests.powercuts --visits 200 --seed {seed}",
        "tests.powercuts --visits 6 --seed {seed}",
        r"\d+ cuts of visits .*",
    ),
    Campaign(
        "fuzzing",
        "coverage-guided fuzzing of every decoder, and of what stands behind them",
        "tests.fuzz --runs 500000",
        "tests.fuzz --runs 2000 --seconds 2",
        r"^all +[1-9]\d* inputs",
    ),
    Campaign(
        "simulation",
        "simulated elections of twenty nodes",
        "tests.simulation --seeds 10000",
        "tests.simulation --seeds 30",
        r"\d+ elections, .*",
    ),
    Campaign(
        "hostile",
        "hostile peers against real daemons over TLS",
        "pytest -q tests/hostile",
        "pytest -q tests/hostile/test_records.py tests/hostile/test_claims.py tests/hostile/test_split_view.py",
        r"\d+ (passed|failed).*",
    ),
    Campaign(
        "cluster",
        "receivers that share a database and a bucket, under random faults",
        "tests.cluster --faults 100 --seed {seed}",
        "tests.cluster --faults 5 --seed {seed}",
        r".*\d+ faults.*",
    ),
)


def main() -> int:
    """Run them."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--brief", action="store_true", help="a few of each, in some minutes")
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--only", nargs="+", choices=[one.name for one in CAMPAIGNS], help="these campaigns")
    options = parser.parse_args()
    print("| what | command | result |\n|---|---|---|", flush=True)
    endings: dict[str, Ending] = {}
    for campaign in CAMPAIGNS:
        if options.only and campaign.name not in options.only:
            continue
        arguments = campaign.arguments(options.seed, brief=options.brief)
        endings[campaign.name], result = _run(campaign, arguments)
        print(f"| {campaign.what} | `python -m {' '.join(arguments)}` | {result} |", flush=True)
    not_run = [name for name, ending in endings.items() if ending is Ending.NOT_RUN]
    print(f"\nNot run here: {', '.join(not_run) or 'nothing; all were'}.")
    if Ending.FAILED in endings.values():
        return 1
    return 0 if Ending.HELD in endings.values() else CANNOT_RUN


def _run(campaign: Campaign, arguments: list[str]) -> tuple[Ending, str]:
    """How it ended, and its row's last column. What failed is shown on standard error as it was said."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    lines = [line for line in done.stdout.splitlines() if re.search(campaign.result, line)]
    told = re.sub(r"\s+", " ", lines[-1].strip("= ")) if lines else ""
    if done.returncode == CANNOT_RUN:
        return Ending.NOT_RUN, f"not run: {(done.stderr.strip() or 'it does not say why').splitlines()[-1][:200]}"
    if done.returncode or not told:
        sys.stderr.write(done.stdout[-4_000:] + done.stderr[-4_000:])
        silent = f"exit status {done.returncode}, and no word of what was tested"
        return Ending.FAILED, f"FAILED ({told or silent})"
    return Ending.HELD, told


if __name__ == "__main__":
    sys.exit(main())
