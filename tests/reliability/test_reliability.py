"""The one command repeats what the page tells of, and the page tells of what it repeats."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.reliability import __main__ as reliability
from tests.reliability.__main__ import CAMPAIGNS, Campaign

PAGE = (Path(__file__).parents[2] / "docs/reliability.md").read_text()


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda one: one.name)
def test_the_page_tells_of_each_campaign(campaign: Campaign) -> None:
    module, option, *_ = campaign.arguments(12, brief=False)
    assert f"python -m {module} {option}" in PAGE


def test_a_broken_promise_is_the_commands_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "good.py").write_text("print('10 kills: none lost')")
    (tmp_path / "bad.py").write_text("print('10 kills: one lost')\nraise SystemExit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name, status in (("good", 0), ("bad", 1)):
        monkeypatch.setattr(reliability, "CAMPAIGNS", (Campaign(name, name, name, name, r"\d+ kills.*"),))
        monkeypatch.setattr(sys, "argv", ["reliability", "--brief"])
        assert reliability.main() == status
    said = capsys.readouterr().out
    assert "| good | `python -m good` | 10 kills: none lost |" in said
    assert "| bad | `python -m bad` | FAILED (10 kills: one lost) |" in said
