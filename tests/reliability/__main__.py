"""`python -m tests.reliability [--brief] [--seed 12] [--only kills …]`: attack every promise, and print the table.

Runs what docs/reliability.md tells of, one campaign after the other, and prints rows in the form of its table as they
end. `--brief` takes some minutes, all of it several hours. What a machine lacks (FUSE, atheris, PostgreSQL) is told in
its row. Exit status 1 when a promise was broken anywhere.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


_CANNOT = 2
"""The exit status by which a campaign says that this machine lacks what it needs."""


def _nothing() -> str:
    return ""


def _atheris() -> str:
    return "" if importlib.util.find_spec("atheris") else "needs atheris: pip install atheris"


@dataclass(frozen=True, slots=True)
class Campaign:
    """One attack: what it is, its arguments (all of it, and in brief), what of its output is the result."""

    name: str
    what: str
    full: str
    brief: str
    result: str
    """A regular expression; the last line with a match is the result."""
    lacks: Callable[[], str] = _nothing
    """Why it cannot run here; empty where it can."""

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
        "tests.powercuts --visits 40 --seed {seed}",
        "tests.powercuts --visits 3 --seed {seed}",
        r"\d+ cuts of visits .*",
    ),
    Campaign(
        "fuzzing",
        "coverage-guided fuzzing of every decoder, and of what stands behind them",
        "tests.fuzz --runs 500000",
        "tests.fuzz --runs 2000 --seconds 2",
        r"^all +\d+ inputs",
        _atheris,
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
    broken = False
    for campaign in CAMPAIGNS:
        if options.only and campaign.name not in options.only:
            continue
        arguments = campaign.arguments(options.seed, brief=options.brief)
        fault, result = _run(campaign, arguments)
        broken |= fault
        print(f"| {campaign.what} | `python -m {' '.join(arguments)}` | {result} |", flush=True)
    return int(broken)


def _run(campaign: Campaign, arguments: list[str]) -> tuple[bool, str]:
    """Whether it failed, and its row's last column. What failed is shown on standard error as it was said."""
    if lacks := campaign.lacks():
        return False, f"not run: {lacks}"
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
    if done.returncode == _CANNOT and arguments[0] != "pytest":
        return False, f"not run: {done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else 'see there'}"
    if done.returncode:
        sys.stderr.write(done.stdout[-4_000:] + done.stderr[-4_000:])
        return True, f"FAILED ({told or f'exit status {done.returncode}'})"
    return False, told or "done"


if __name__ == "__main__":
    sys.exit(main())
