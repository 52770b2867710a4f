"""What continuous integration may not skip: a test that can never run there would hide it for ever."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPS = """
import pytest

def test_tool():
    pytest.skip("no such tool: apt-get install such-tool")

def test_machine():
    pytest.skip("IPv6 is switched off")

@pytest.mark.ci
def test_marked():
    pytest.skip("no mirror answers")
"""


@pytest.mark.parametrize(("ci", "failed"), [("1", {"tool", "marked"}), ("", set())])
def test_what_can_be_installed_is_not_skipped_in_ci(tmp_path: Path, ci: str, failed: set[str]) -> None:
    (tmp_path / "test_one.py").write_text(SKIPS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c"]
    done = subprocess.run(
        [*command, ROOT / "pyproject.toml", "--rootdir", tmp_path, "-n0", "-rA", tmp_path],
        env={**os.environ, "CI": ci},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout
    for name in ("tool", "machine", "marked"):
        assert bool(re.search(rf"(?m)^FAILED \S*::test_{name}\b", said)) == (name in failed), said
    assert ("apt-get install such-tool" in said) and ("1 skipped" in said or not ci)
