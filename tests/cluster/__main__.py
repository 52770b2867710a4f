"""`python -m tests.cluster --faults 100 [--seed 1]`: receivers under random faults; exit 1 if a promise breaks.

Needs PostgreSQL, Swift and haproxy, as the tests do.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.cluster import balancer
from tests.cluster import postgres as postgresql
from tests.cluster import swift as s3
from tests.cluster.company import company
from tests.cluster.faults import Campaign
from tests.processes import Failed
from tests.reliability.status import cannot_run


def main() -> int:
    """Run, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-faults-") as name:
        folder = Path(name)
        if reason := postgresql.why_not() or s3.why_not(folder) or balancer.why_not():
            return cannot_run(reason)
        with (
            postgresql.postgres(folder / "postgres") as postgres,
            s3.swift(folder / "s3") as swift,
            company(folder / "company", postgres, swift) as receivers,
        ):
            try:
                tally = asyncio.run(Campaign(receivers, postgres, swift, options.seed).run(options.faults))
            except (AssertionError, ExceptionGroup, Failed) as violation:
                for title, text in receivers.report():
                    print(f"--- {title}\n{text}", file=sys.stderr)
                print(f"seed {options.seed}: {violation!r}", file=sys.stderr)
                return 1
            print(tally.line())
    return 0


if __name__ == "__main__":
    sys.exit(main())
