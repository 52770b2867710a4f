"""The command line: one module per group of commands, each imported only when it runs, so that --help is quick."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from relay import __version__
from relay.cli.help import Context, Group, show_error, show_usage_error
from relay.cli.language import told
from relay.errors import RelayError

COMMANDS: dict[str, tuple[str, str]] = {
    "authority": ("relay.cli.authority:authority", "The election office: make an election, enrol and revoke nodes."),
    "init": ("relay.cli.membership:init", "Make a new node: its key and its request."),
    "join": ("relay.cli.membership:join", "Install an enrolment from the election office."),
    "run": ("relay.cli.daemon:run", "Run the daemon in the foreground."),
    "submit": ("relay.cli.packages:submit", "Sign a result package and store it durably."),
    "pair": ("relay.cli.pairing:pair", "Pair a phone with the operator's page."),
    "list": ("relay.cli.packages:list_bundles", "List the bundles on this node."),
    "cat": ("relay.cli.packages:cat", "Write an object's bytes to standard output."),
    "status": ("relay.cli.status:status", "Show what this node holds and whom it sees."),
    "doctor": ("relay.cli.doctor:doctor", "Check this node: what is wrong and what to do."),
    "export": ("relay.cli.byhand:export", "Write bundles, receipts and notices to a stick or card."),
    "import": ("relay.cli.byhand:import_", "Take in a stick, a card or a revocation file."),
    "backup": ("relay.cli.backup:backup", "Copy this node to a folder, also while its daemon runs."),
    "restore": ("relay.cli.backup:restore", "Make a node of its backup."),
    "verify": ("relay.cli.verify:verify", "Check an exported bundle or receipt offline."),
    "audit": ("relay.cli.audit:audit", "Check a published log whole, trusting nobody."),
    "receiver": (
        "relay.cli.receiver:receiver",
        "The receiver's administration: reports, export, sealed packages.",
    ),
    "demo": ("relay.cli.demo.command:demo", "Show the whole journey on this machine."),
    "drill": ("relay.cli.drill.command:drill", "Practise before election day, and see how it went."),
    "simulate": ("relay.cli.simulate.command:simulate", "Tell whether a timetable brings everything in on time."),
    "completion": ("relay.cli.completion:completion", "Print the lines that complete commands in your shell."),
}
"""Name of each command: where it is, and its line in the help. Here, so that the help imports none of them."""


class Commands(Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The commands, in the order of the journey."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        command.context_class = Context
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name without importing any."""
        names = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relay")
def relay() -> None:
    """Brings signed election results from places without signal to a public log.

    A node lives in a folder: give it with --home, or in RELAY_HOME.
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script: exit 0 done, 1 refused or failed with a message, 2 usage.

    `relay audit` has one of its own for what could not be checked now.
    """
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    logging.getLogger("relay").addHandler(logging.NullHandler())  # commands say what matters; the daemon sets up a log
    try:
        result: Any = relay.main(args=arguments, prog_name="relay", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        show_usage_error(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"relay: {told('stopped')}", err=True)
        return 130
    except RelayError as error:
        show_error(error)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f" {error.filename}:" if error.filename else ""
        advice = told("Check the path, its owner and its disk.")
        click.echo(f"relay:{where} {told(error.strerror or str(error))}.\n       {advice}", err=True)
        return 1
    return result if isinstance(result, int) else 0
