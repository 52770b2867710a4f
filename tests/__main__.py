"""`python -m tests`: style, types, every test that this machine can run (they wait much: four at a time), and then as
many simulated elections of random seeds as fit: in three minutes where `CI` is set, in less elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
STEPS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("pytest", "-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"),
    ("tests.simulation", "--random", "--minutes", "3" if os.environ.get("CI") else "0.33"),
)


def main() -> int:
    """Run the steps in order, with types checked beside them; the first failure ends them. Arguments go to pytest."""
    with subprocess.Popen([sys.executable, "-m", "mypy"], cwd=ROOT) as types:
        for step in STEPS:
            arguments = sys.argv[1:] if step[0] == "pytest" else []
            done = subprocess.run([sys.executable, "-m", *step, *arguments], cwd=ROOT, check=False)
            if done.returncode or types.poll():
                break
    return done.returncode or types.returncode


if __name__ == "__main__":
    sys.exit(main())
