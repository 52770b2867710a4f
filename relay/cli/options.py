"""Options and forms of output that commands share."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from relay.cli.language import told
from relay.errors import BadInput, Malformed, NotHeld
from relay.records.identifiers import HASH_SIZE, parse_hash

Command = Callable[..., Any]
T = TypeVar("T", bound=bytes)
LEAST_DIGITS = 4
_ONLY_LOOK = ("backup", "cat", "doctor", "export", "list", "open", "report", "status")
"""Commands that write nothing into the node's folder: root may need them, for a stick that is root's alone."""
_HEX = "0123456789abcdef"


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


def check_owner(path: Path, user: int) -> None:
    """Refuse root in a node's folder that is a service's: what root writes there, the daemon could not use any more.

    Raises `BadInput`, which names whom to run as.
    """
    try:
        owner, name = owner_of(path)
    except (OSError, KeyError):
        return  # new, or of nobody that this machine knows
    if user == 0 and owner != 0:
        raise BadInput(
            f"{path} belongs to {name}, and root would leave files there that {name} cannot use",
            f"Run the same command as {name}: runuser -u {name} -- relay …",
        )


def owner_of(path: Path) -> tuple[int, str]:
    """Whose a folder is. Raises `OSError` or `KeyError`."""
    owner = path.stat().st_uid
    return owner, pwd.getpwuid(owner).pw_name


def json_option(command: Command) -> Command:
    """`--json`: print one JSON document."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def print_json(document: object) -> None:
    """Print one JSON document on standard output. Half a character, of a file's name for instance, is escaped: no
    terminal takes it, and no UTF-8 has it."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    click.echo(text.encode(errors="backslashreplace").decode())


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


class IdType(click.ParamType[str]):
    """The id of a statement or an object, or its first digits, as people copy them; see `named_by`."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Lower-case digits, or a usage error."""
        digits = str(value).strip().lower()
        if not LEAST_DIGITS <= len(digits) <= 2 * HASH_SIZE or set(digits) - set(_HEX):
            self.fail(told(f"{str(value)[:80]!r} is no id: give at least {LEAST_DIGITS} of its digits."), param, ctx)
        return digits


def named_by(digits: str, ids: Iterable[T], where: str = "See the ids with `relay list`.") -> T:
    """The one id that begins with these digits; `where` tells how to see them.

    Raises `NotHeld` for none, `BadInput` for several.
    """
    found = [one for one in ids if one.hex().startswith(digits)]
    if not found:
        raise NotHeld(f"Nothing on this node has an id that begins with {digits}", where)
    if len(found) > 1:
        raise BadInput(f"{len(found)} ids begin with {digits}", "Give more of its digits.")
    return found[0]


class _HomeType(click.ParamType[Any]):
    name = "folder"

    def convert(self, value: Any, _param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from relay.node.home import Home

        path = Path(value)
        if ctx is None or ctx.command.name not in _ONLY_LOOK:
            check_owner(path, os.geteuid())
        return Home(path)
