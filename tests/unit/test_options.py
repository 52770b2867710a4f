"""What commands make of the options that they share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import options, relay
from relay.cli.options import check_owner, print_json
from relay.errors import BadInput


def test_root_leaves_no_files_in_the_folder_of_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_owner(tmp_path, tmp_path.stat().st_uid)
    check_owner(tmp_path / "new", 0)
    monkeypatch.setattr(options, "owner_of", lambda _path: (990, "relay"))
    with pytest.raises(BadInput, match="belongs to relay") as caught:
        check_owner(tmp_path, 0)
    assert "runuser -u relay -- relay" in caught.value.advice
    check_owner(tmp_path, 990)
    check_owner(tmp_path, 991)
    monkeypatch.setattr(options, "owner_of", lambda _path: (0, "root"))
    check_owner(tmp_path, 0)


def test_root_may_look_and_take_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stick may be mounted for root alone."""
    monkeypatch.setattr(options, "owner_of", lambda _path: (990, "relay"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for command in ("list", "export", "submit", "pair"):
        arguments = [command, "--home", str(tmp_path), *(["x"] if command == "export" else [])]
        if command == "submit":
            arguments += ["--tps", "1", "--form", "F", str(__file__)]
        said = str(CliRunner().invoke(relay, arguments).exception)
        assert ("belongs to relay" in said) == (command in ("submit", "pair")), command


def test_a_name_that_is_no_utf_8_is_printed_as_json_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a file on somebody's stick; terminals refuse it."""
    document = {"wrong": [os.fsdecode(b"\xff\xfe.cose"), "Pulau Ké \U0001d11e"]}
    print_json(document)
    printed = capsys.readouterr().out
    assert printed.encode().isascii() is False
    assert json.loads(printed) == document
