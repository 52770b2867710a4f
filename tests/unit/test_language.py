"""What commands say in Indonesian: the catalogue is whole, true to the program, and chosen by the locale."""

from __future__ import annotations

import ast
import json
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import relay
from relay.cli.language import Catalogue, indonesian, told, wanted_language

RELAY = Path(__file__).parents[2] / "relay"
TEXTS: dict[str, str] = json.loads((RELAY / "cli" / "texts.id.json").read_text(encoding="utf-8"))
SHOWN_TO_OPERATORS = (
    *(f"cli/{name}.py" for name in ("packages", "membership", "byhand", "doctor")),
    *(f"node/{name}.py" for name in ("capture", "home", "byhand")),
    *(f"store/{name}.py" for name in ("durable", "database")),
)
SAYS = ("BadInput", "NotHeld", "StoreError", "Unreachable", "message", "Finding")
NOT_WORDS = ("{}: {}", "{} ({})", "{}  {}")


def test_every_text_is_one_of_the_programs() -> None:
    said = {text for file in RELAY.rglob("*.py") for text in _texts(ast.parse(file.read_text(encoding="utf-8")))}
    parts = "\0".join(said)
    stale = [text for text in TEXTS if text not in said and text not in parts]
    assert stale == [], "these are said nowhere any more: remove them from relay/cli/texts.id.json"


def test_everything_that_an_operators_node_shows_is_translated() -> None:
    missing = []
    for name in SHOWN_TO_OPERATORS:
        for call in ast.walk(ast.parse((RELAY / name).read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and _name(call.func) in SAYS:
                said = [_template(argument) for argument in call.args]
                missing += [(name, text) for text in said if text and " " in text and text not in (*TEXTS, *NOT_WORDS)]
    assert missing == [], "add their Indonesian to relay/cli/texts.id.json"


def test_a_translation_has_the_values_of_its_text() -> None:
    for text, said in TEXTS.items():
        assert _holes(said) == _holes(text), text


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "id_ID.UTF-8"}, "id"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "id_ID.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "id_ID"}, "id"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "id:en"}, "id"),
        ({"LANG": "id_ID.UTF-8", "LANGUAGE": "en"}, "en"),
        ({"LANG": "C", "LANGUAGE": "id"}, "en"),
        ({"LANG": "idle"}, "en"),
        ({"LC_ALL": "", "LANG": "id"}, "id"),
    ],
)
def test_the_locale_chooses(environment: dict[str, str], language: str) -> None:
    assert wanted_language(environment) == language


def test_values_are_carried_over_as_they_are() -> None:
    texts = {"{} is empty": "{} kosong", "{} of {} is empty": "{1}: {0} kosong", "empty": "kosong"}
    catalogue = Catalogue(texts)
    assert catalogue.translate("a{b}.jpg is empty") == "a{b}.jpg kosong"
    assert catalogue.translate("one of two is empty") == "two: one kosong"
    assert catalogue.translate("empty is empty") == "kosong kosong"
    assert catalogue.translate("is full") == "is full"
    assert catalogue.translate("two\nlines is empty") == "two\nlines kosong"


def test_errors_and_status_speak_indonesian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from relay.cli import run

    monkeypatch.setenv("LC_ALL", "id_ID.UTF-8")
    assert told("Nothing on board.") == "Belum ada paket di sini."
    outcome = CliRunner().invoke(relay, ["init", "--home", str(tmp_path / "box"), "--name", "box"])
    assert outcome.exit_code == 0
    assert "Bawa berkas permintaan ke KPU" in outcome.stderr
    assert run(["list", "--home", str(tmp_path / "box")]) == 1
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert told("Nothing on board.") == "Nothing on board."


def test_an_error_in_indonesian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from relay.cli import run

    monkeypatch.setenv("LC_ALL", "id_ID.UTF-8")
    assert run(["status", "--home", str(tmp_path)]) == 1
    assert f"relay: Tidak ada kotak relay di {tmp_path}." in capsys.readouterr().err


def test_every_translation_is_found() -> None:
    for text, said in TEXTS.items():
        values = [f"value {number}" for number in range(text.count("{}"))]
        assert indonesian().translate(text.format(*values)) == said.format(*values)


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if text := _template(node):
            yield text


def _template(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def _name(function: ast.expr) -> str:
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def _holes(text: str) -> int:
    return sum(name is not None for _, name, _, _ in string.Formatter().parse(text))
