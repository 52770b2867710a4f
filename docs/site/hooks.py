"""What the site needs beside the pages: the reference of the command line, from the commands themselves.

Called by mkdocs (see mkdocs.yml). The reference is made at every build, so that it never tells of another version.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from relay.cli import COMMANDS, relay

DOCS = Path(__file__).parents[1]
CLI = "reference/cli.md"
INTRODUCTION = """# Commands

Every command answers `--help`, exits with 0 when it has done its work, 1 when it was refused or failed (and says why),
and 2 when it was called wrongly. `--json` prints one JSON document for programs.

A node lives in a folder: give it with `--home`, or once in `RELAY_HOME`. Messages are in Indonesian where the locale
says so (`LANG=id_ID.UTF-8`), in English otherwise, and so is the help; JSON and logs are English everywhere. Colours
are for terminals, and not where `NO_COLOR` is set. Shells complete commands after `relay completion bash` (`zsh`,
`fish`); the Debian package has it installed.
"""


def on_config(config: Any) -> Any:
    """Put pages that the list lacks under Explanation."""
    listed = set(_pages(config.nav))
    rest = sorted(page.name for page in DOCS.glob("*.md") if page.name not in listed)
    config.nav[-1]["Explanation"] += rest
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the reference of the command line."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, CLI, content=commands()))
    return files


def commands() -> str:
    """Every command's help, in the order of the journey."""
    return INTRODUCTION + "".join(_helps(relay, "relay", None, list(COMMANDS)))


def _helps(group: click.Group, path: str, parent: click.Context | None, names: list[str]) -> Iterator[str]:
    context = click.Context(group, info_name=path.rpartition(" ")[2], parent=parent, terminal_width=100)
    for name in names:
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        full = f"{path} {name}"
        own = click.Context(command, info_name=name, parent=context, terminal_width=100)
        yield f"\n## {full}\n\n```text\n{command.get_help(own)}\n```\n"
        if isinstance(command, click.Group):
            yield from _helps(command, full, context, command.list_commands(own))


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list):
        for one in nav:
            yield from _pages(one)
    else:
        for one in nav.values():
            yield from _pages(one)
