"""What commands say in Indonesian: the catalogue is whole, true to the program, and chosen by the locale."""

from __future__ import annotations

import ast
import errno
import json
import os
import string
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from relay.cli import COMMANDS, relay, run
from relay.cli.help import OF_CLICK, paragraphs
from relay.cli.language import OF_SYSTEM, told, told_in_parts, wanted_language
from relay.language import Catalogue, indonesian

RELAY = Path(__file__).parents[2] / "relay"
TEXTS: dict[str, str] = json.loads((RELAY / "texts.id.json").read_text(encoding="utf-8"))
NOT_SHOWN = (
    "log/",
    "net/client",
    "net/frames",
    "net/server",
    "node/contacts",
    "records/cose",
    "web/site/",
    "sync/host",
)
"""Rooms whose errors are told to a peer or a log."""
SAYS = (
    *(
        "BadInput",
        "NotHeld",
        "StoreError",
        "DiskFull",
        "Outgrown",
        "WrongBucket",
        "Unreachable",
        "Refused",
        "UsageError",
    ),
    *("message", "told", "told_in_parts", "Finding", "_warning", "_line", "_part", "raise_alarm", "_wrong", "is_not"),
    "working",
)
"""What puts its texts before a person. `Malformed` is left out: it describes bytes, to those who know them."""
SPOKEN_BYTES = ("records/tally.py", "sync/custody.py")
"""Where `Malformed` tells people of what they typed or handed in."""
NOT_WORDS = ("{}: {}", "{} ({})", "{}  {}", "{} {}", "/", "chmod 600 {}", "{}, {}{}", "config.toml", "\n       ")


def test_every_text_is_one_of_the_programs() -> None:
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in RELAY.rglob("*.py")]
    parts = "\0".join({" ".join(text.split()) for tree in trees for text in _texts(tree)})
    stale = [text for text in TEXTS if " ".join(text.split()) not in parts]
    assert stale == [], "these are said nowhere any more: remove them from relay/texts.id.json"


def test_all_that_commands_say_is_translated() -> None:
    missing = []
    for file in RELAY.rglob("*.py"):
        name = file.relative_to(RELAY).as_posix()
        tree = ast.parse(file.read_text(encoding="utf-8"))
        says = (*SAYS, "Malformed") if name in SPOKEN_BYTES else SAYS
        if not name.startswith(NOT_SHOWN):
            missing += [(name, text) for text in _said(tree, says) if text not in (*TEXTS, *NOT_WORDS)]
    assert missing == [], "add their Indonesian to relay/texts.id.json"


def test_advice_is_seen_wherever_it_is_held() -> None:
    source = """
_ADVICE = "Look there."
def f(many):
    what = f"{many} are gone" if many else "one is gone"
    raise BadInput(what, advice=_ADVICE)
"""
    assert sorted(_said(ast.parse(source), SAYS)) == ["Look there.", "one is gone", "{} are gone"]


def test_the_help_of_every_command_is_translated() -> None:
    said = [line for _, line in COMMANDS.values()]
    said += [text for command in _commands(relay) for text in _help(command)]
    missing = [text for text in (*said, *OF_CLICK) if text not in TEXTS]
    assert missing == [], "add their Indonesian to relay/texts.id.json"
    assert len(said) > 80


@pytest.mark.parametrize("arguments", [[], ["receiver"], ["drill", "walk", "--help"], ["simulate", "--help"]])
def test_help_is_laid_out_in_indonesian(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "id_ID.UTF-8")
    run(arguments)
    shown = "".join(capsys.readouterr())
    assert "Pemakaian: relay" in shown and "Opsi:" in shown
    assert "Menampilkan bantuan ini lalu selesai." in shown
    for english in ("Usage", "Options", "Commands", "[required]", "[default", "Show ", "the "):
        assert english not in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit", "x"], "Kesalahan: Opsi '--root' harus ada."),
        (["audit"], "Kesalahan: Argumen 'URL' harus ada."),
        (["nothing"], "Kesalahan: Tidak ada perintah 'nothing'."),
        (["simulate", "--draws", "1", "x"], "Kesalahan: Nilai tidak sah untuk '--draws': 1 di luar rentang 10<=x<="),
        (["simulate", "x"], "relay: x tidak dapat dibaca (tidak ada berkas atau folder seperti itu)."),
    ],
)
def test_usage_errors_speak_indonesian(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "id_ID.UTF-8")
    assert run(arguments) in (1, 2)
    assert said in capsys.readouterr().err


def test_what_the_system_says_is_what_is_translated() -> None:
    said = {os.strerror(number) for number in errno.errorcode} | {"Name or service not known"}
    assert set(OF_SYSTEM) <= said
    assert set(OF_SYSTEM) <= set(TEXTS)


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
    texts |= {"{} is a {}": "{} adalah {:id}", "what is told here: {}": "ini: {:id}"}
    catalogue = Catalogue(texts)
    assert catalogue.translate("a{b}.jpg is empty") == "a{b}.jpg kosong"
    assert catalogue.translate("one of two is empty") == "two: one kosong"
    assert catalogue.translate("empty is empty") == "empty kosong", "a node may be called so"
    assert catalogue.translate("empty is a empty") == "empty adalah kosong"
    assert catalogue.translate("what is told here: x.jpg is empty") == "ini: x.jpg kosong"
    assert catalogue.translate("is full") == "is full"
    assert catalogue.translate("two\nlines is empty") == "two\nlines kosong"


def test_a_sentence_with_a_colon_of_its_own_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "id_ID.UTF-8")
    said = told_in_parts("ab12 has no receipt here: nothing shows that it was delivered")
    assert said == "ab12 belum punya tanda terima di sini: belum ada bukti bahwa sudah terkirim"
    assert told_in_parts("x.json: There is no pair '30'") == "x.json: Tidak ada pasangan '30'"
    assert told_in_parts("receiver: Nothing on board.") == "receiver: Belum ada paket di sini."


def test_errors_and_status_speak_indonesian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setenv("LC_ALL", "id_ID.UTF-8")
    assert run(["status", "--home", str(tmp_path)]) == 1
    assert f"relay: Tidak ada kotak relay di {tmp_path}." in capsys.readouterr().err


def test_every_translation_is_found() -> None:
    for text, said in TEXTS.items():
        values = [f"value {number}" for number in range(text.count("{}"))]
        assert indonesian().translate(text.format(*values)) == said.replace("{:id}", "{}").format(*values)


def _said(tree: ast.AST, says: tuple[str, ...]) -> list[str]:
    """The sentences that a module puts before people: in the call, held in a variable that it names, or returned by a
    function of the module."""
    held: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            held.setdefault(node.targets[0].id, []).extend(_templates(node.value))
    returned = {
        function.name: [
            text
            for node in ast.walk(function)
            if isinstance(node, ast.Return) and node.value
            for text in _templates(node.value)
        ]
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
    }
    said: list[str] = []
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _name(call.func) in says:
            for argument in (*call.args, *(one.value for one in call.keywords)):
                if isinstance(argument, ast.Name):
                    said += held.get(argument.id, [])
                elif isinstance(argument, ast.Call):
                    said += returned.get(_name(argument.func), [])
                else:
                    said += _templates(argument)
    return list(dict.fromkeys(text for text in said if " " in text and not text.startswith("<")))


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


def _templates(node: ast.AST) -> list[str]:
    """What an argument may be: a text, or one of two."""
    choices = (node.body, node.orelse) if isinstance(node, ast.IfExp) else (node,)
    return [text for choice in choices if (text := _template(choice))]


def _commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if (below := command.get_command(context, name)) is not None:
                yield from _commands(below)


def _help(command: click.Command) -> list[str]:
    described = [one.help.partition("  [")[0] for one in command.params if isinstance(one, click.Option) and one.help]
    return [*paragraphs(command.help or ""), *described]


def _name(function: ast.expr) -> str:
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def _holes(text: str) -> int:
    return sum(name is not None for _, name, _, _ in string.Formatter().parse(text))
