"""The one command repeats what the page tells of, and the page tells of what it repeats."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability import __main__ as reliability
from tests.reliability.__main__ import CAMPAIGNS, Campaign

PAGE = (Path(__file__).parents[2] / "docs/reliability.md").read_text()


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda one: one.name)
def test_the_page_tells_of_each_campaign(campaign: Campaign) -> None:
    command, _, _ = " ".join(campaign.arguments(12, brief=False)).partition(" --seed ")
    assert f"`python -m {command}" in PAGE


def test_a_broken_promise_is_the_commands_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert ended(monkeypatch, tmp_path, good="print('10 kills: none lost')") == 0
    assert ended(monkeypatch, tmp_path, bad="print('10 kills: one lost')\nraise SystemExit(1)") == 1
    said = capsys.readouterr().out
    assert "| good | `python -m good` | 10 kills: none lost |" in said
    assert "| bad | `python -m bad` | FAILED (10 kills: one lost) |" in said
    assert said.endswith("Not run here: nothing; all were.\n")


def test_a_campaign_that_tells_of_nothing_has_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert ended(monkeypatch, tmp_path, skipped="print('58 skipped in 1s')") == 1
    assert "FAILED (exit status 0, and no word of what was tested)" in capsys.readouterr().out


def test_arguments_that_a_campaign_does_not_know_are_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    unknown = "import argparse\nargparse.ArgumentParser().parse_args(['--no-such-option'])"
    assert ended(monkeypatch, tmp_path, unknown=unknown) == 1
    assert "FAILED (exit status 2" in capsys.readouterr().out


def test_what_cannot_run_here_is_named_last_and_is_a_failure_only_when_nothing_ran(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lacking = "import sys\nprint('no FUSE here', file=sys.stderr)\nraise SystemExit(77)"
    good = "print('10 kills: none lost')"
    assert ended(monkeypatch, tmp_path, lacking=lacking, good=good) == 0
    said = capsys.readouterr().out
    assert "| lacking | `python -m lacking` | not run: no FUSE here |" in said
    assert said.endswith("Not run here: lacking.\n")
    assert ended(monkeypatch, tmp_path, lacking=lacking) == 77
    assert ended(monkeypatch, tmp_path, lacking=lacking, bad="raise SystemExit(1)") == 1


@pytest.mark.parametrize("name", ["lost-writes", "visits", "fuzzing"])
def test_a_campaign_without_the_libraries_that_it_needs_says_so_and_does_not_count_as_run(
    name: str, tmp_path: Path
) -> None:
    module, *rest = next(one for one in CAMPAIGNS if one.name == name).arguments(12, brief=True)
    (tmp_path / "mfusepy.py").write_text("raise ImportError('hidden')")
    hidden = (
        "import importlib.util, runpy, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'atheris' else found(name, *more)\n"
        f"sys.argv = ['x', *{rest!r}]\n"
        f"runpy.run_module({module!r}, run_name='__main__')\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{reliability.ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", hidden], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 77
    assert "pip install" in done.stderr


def ended(monkeypatch: pytest.MonkeyPatch, folder: Path, **programs: str) -> int:
    """The status of the whole command over campaigns that are these programs."""
    for name, text in programs.items():
        (folder / f"{name}.py").write_text(text)
    campaigns = tuple(Campaign(name, name, name, name, r"\d+ kills.*") for name in programs)
    monkeypatch.setattr(reliability, "CAMPAIGNS", campaigns)
    monkeypatch.setattr(sys, "argv", ["reliability", "--brief"])
    return reliability.main()
