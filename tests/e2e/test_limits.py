"""What the program costs when it does nothing: help at once, a small idle daemon; and the demo, whole."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.world import TPS, World

IDLE_LIMIT_KIB = 70 * 1024


def cpu_seconds(command: Sequence[str]) -> float:
    """The processor time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_imports_little_beyond_click() -> None:
    """In turns, of which the least counts: a shared machine is not as quick at one moment as at another."""
    commands = (sys.executable, "-m", "relay", "--help"), (sys.executable, "-c", "import click")
    turns = [[cpu_seconds(command) for command in commands] for _ in range(8)]
    help_time, click_time = (min(times) for times in zip(*turns, strict=True))
    print(f"relay --help: {help_time * 1000:.0f} ms; importing click alone: {click_time * 1000:.0f} ms")
    assert help_time < 2 * click_time


def test_an_idle_daemon_is_small(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        island = world.box("island", "operator", tps=[TPS])
        daemon = island.start()
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
        assert resident < IDLE_LIMIT_KIB
        assert island.stop() == 0


def test_the_demo_delivers_each_package_once() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "relay", "demo", "--once", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ok"]
    assert (result["delivered"], result["receipts_back"], result["hashes_checked"]) == (6, 6, 12)
    assert result["each_once"]
