"""What is printed of the contacts that `tests.bench.contact` measured."""

from __future__ import annotations

import importlib.util

import pytest

from tests.bench import plot
from tests.bench.results import Result, Row, demands, table
from tests.reliability.status import CANNOT_RUN


def test_the_table_tells_how_busy_the_machine_was_beside_each_contestant() -> None:
    measured = [
        Result("plain", "relay", useful=[95], busy=0.08),
        Result("plain", "relay", useful=[97], busy=0.11),
        Result("plain", "nncp", useful=[90], busy=1.0),
        Result("plain", "tcp 1 bbr", useful=[100], busy=0.91),
        Result("plain", "tcp 4 bbr", useful=[99], busy=1.0),
    ]
    said = table(Row("plain", 20, 10, measured))
    assert "everything together took beside relay 8 to 11%, nncp 100%, TCP 91 to 100%." in said


def test_both_ways_at_once_are_held_against_the_links_rate_too() -> None:
    row = Row(
        "both", 20, 10, [Result("both", "relay", useful=[22_200_000]), Result("both", "tcp 4 bbr", useful=[22_300_000])]
    )
    assert [(one.what, one.got, one.hit) for one in demands(row)[:2]] == [
        ("useful bytes over TCP's", "0.996", True),
        ("useful bytes over the link's rate", "0.888", False),
    ]


def test_a_picture_without_matplotlib_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert plot.main() == CANNOT_RUN
    assert capsys.readouterr().err == "needs matplotlib: pip install -e '.[bench]'\n"
