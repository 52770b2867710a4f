"""`python -m tests`: style, types, then every test that this machine can run. They wait much: three run at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
STEPS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("pytest", "-n", "3", "--dist", "loadfile"),
)


def main() -> int:
    """Run the steps in order; the first failure ends them. Arguments go to pytest."""
    for step in STEPS:
        arguments = sys.argv[1:] if step[0] == "pytest" else []
        done = subprocess.run([sys.executable, "-m", *step, *arguments], cwd=ROOT, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
