"""`python -m tests`: style, types, and every test that this machine can run (they wait much: four at a time). Beside
them simulated elections of random seeds, as many as fit into the time that the processors have left.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
STEPS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("pytest", "-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"),
)
ELECTIONS = ("tests.simulation", "--random", "--idle")
LEAST_SECONDS = 180 if os.environ.get("CI") else 20
"""For how long elections are simulated, also where all else takes less."""


def main() -> int:
    """Run the steps in order, with types checked and elections simulated beside them; the first failure ends them.
    Arguments go to pytest."""
    begun = time.monotonic()
    with _python("mypy") as types, _python(*ELECTIONS, stdout=subprocess.PIPE) as elections:
        for step in STEPS:
            done = _python(*step, *(sys.argv[1:] if step[0] == "pytest" else ())).wait()
            if done or types.poll():
                break
        else:
            with suppress(subprocess.TimeoutExpired):
                elections.wait(max(0.0, begun + LEAST_SECONDS - time.monotonic()))
        elections.terminate()
        print(elections.communicate()[0], end="", flush=True)
    return done or types.returncode or elections.returncode


def _python(*arguments: str, stdout: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, stdout=stdout, text=True)


if __name__ == "__main__":
    sys.exit(main())
