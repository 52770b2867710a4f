"""How a campaign ends that could not begin."""

from __future__ import annotations

import sys

CANNOT_RUN = 77
"""Its exit status: nothing was tested, since this machine lacks what it needs. No interpreter, and no parser of
arguments, ends with it by itself; test drivers know it as that of a test that was skipped."""


def cannot_run(reason: str) -> int:
    """Say why, in the last line of standard error; the exit status."""
    print(reason, file=sys.stderr)
    return CANNOT_RUN
