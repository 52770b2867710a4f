"""The benchmarks that docs name run to their end on the code as it is: what they say of so little is not looked at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns.harness import why_not

ROOT = Path(__file__).parent.parent.parent
LITTLE = {
    "append": "--entries 3000 --rounds 1 --batch 64",
    "audit": "--entries 16 --tree 500 --jobs 1",
    "intake": "--statements 20 --packages 4 --gateways 2 --crowd 10",
    "profile": "--seconds 1.5 --packages 1",
    "quiet": "--records 200 --visits 1",
    "reconcile": "--records 500 --new 0 10",
    "site": "--stations 100 --entries 300 --arrivals 1",
    "store": "--bundles 50 --records 500",
}
NETNS = {"profile"}


@pytest.mark.parametrize("name", LITTLE)
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    if name in NETNS and (reason := why_not()):
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{name}", *LITTLE[name].split()],
        cwd=ROOT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 1), done.stderr  # 1: a limit was missed
    assert done.stdout.count("\n") > 1
