"""`python -m tests.powercuts --kills 500 --lost-writes 200 --visits 200 [--seed 1]`: cut the power, many times.

Exit status 1 if it shows. Kills end processes; lost writes also take back what was not synced; visits are cut by
killing daemons that visit each other, one of them on the disk that loses in half of the cuts. Disks that lose need
FUSE. What was found is named with its seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.powercuts.campaign import Campaign
from tests.powercuts.cuts import Tally
from tests.powercuts.losing_fs import why_not
from tests.powercuts.work import Violation
from tests.reliability.status import cannot_run


def main() -> int:
    """Run, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--lost-writes", type=int, default=0)
    parser.add_argument("--visits", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if (options.lost_writes or options.visits) and (reason := why_not()) is not None:
        return cannot_run(reason)
    with tempfile.TemporaryDirectory(prefix="powercuts-") as folder:
        campaign = Campaign(Path(folder))
        for what, cuts, losing in (
            ("kills", options.kills, False),
            ("lost-write cuts", options.lost_writes, True),
            ("cuts of visits", options.visits, False),
        ):
            if not cuts:
                continue
            tally = Tally()
            begun = time.monotonic()
            try:
                if what == "cuts of visits":
                    campaign.run_visits(cuts, options.seed, tally)
                else:
                    campaign.run(cuts, options.seed, tally, losing=losing)
            except Violation as violation:
                print(f"seed {options.seed}, after {tally.cuts} {what}: {violation}", file=sys.stderr)
                return 1
            works = ", ".join(f"{name} {count}" for name, count in sorted(tally.by_work.items()))
            passed = time.monotonic() - begun
            print(
                f"{tally.cuts} {what} ({works}): {tally.told} acknowledgements, none lost; {passed:.0f} s", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
