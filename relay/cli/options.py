"""Options and forms of output that commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from relay.cli.language import told
from relay.errors import Malformed
from relay.records.identifiers import parse_hash

Command = Callable[..., Any]


def home_option(command: Command) -> Command:
    """`--home`, or RELAY_HOME: the node's folder, given to the command as `home: Home`."""
    return click.option(
        "--home",
        "home",
        envvar="RELAY_HOME",
        required=True,
        type=_HomeType(),
        help="The node's folder (or set RELAY_HOME).",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`: print one JSON document."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def print_json(document: object) -> None:
    """Print one JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def message(text: str) -> None:
    """Say something to the person at the terminal, on standard error and in their language."""
    click.echo(told(text), err=True)


class HashType(click.ParamType[bytes]):
    """64 hexadecimal digits, given to the command as 32 bytes."""

    name = "sha256"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Parse, or a usage error."""
        if isinstance(value, bytes):
            return value
        try:
            return parse_hash(str(value), "SHA-256")
        except Malformed as error:
            self.fail(f"{error.what}. {error.advice}", param, ctx)


class _HomeType(click.ParamType[Any]):
    name = "folder"

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> Any:
        from relay.node.home import Home

        return Home(Path(value))
