"""Help and usage errors in the language of the terminal.

The commands' help is written in English beside the commands; what click lays out on a page passes through here, and is
looked up in the catalogue on its way: paragraphs, descriptions of options, headings, and click's own sentences.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable

import click

from relay.cli.language import told, told_in_parts
from relay.errors import RelayError

OF_CLICK = (
    "Usage:",
    "Options",
    "Commands",
    "required",
    "default: {}",
    "Show this message and exit.",
    "Show the version and exit.",
    "Error: {}",
    "Aborted!",
    "Missing option {}.",
    "Missing argument {}.",
    "No such option {}.",
    "No such option {}. Did you mean {}?",
    "No such option {}. (Did you mean one of: {}?)",
    "No such command {}.",
    "No such command {}. Did you mean {}?",
    "No such command {}. (Did you mean one of: {}?)",
    "Option {} requires an argument.",
    "Option {} does not take a value.",
    "Got unexpected extra argument ({})",
    "Got unexpected extra arguments ({})",
    "Invalid value for {}",
    "{} is not in the range {}.",
    "{} is not one of {}.",
    "{} is not a valid integer range.",
    "Directory {} is a file.",
    "Repeat for confirmation",
    "Password",
    "Error: The two entered values do not match.",
)
"""What click itself says that our commands can meet; it has no Indonesian of its own."""


class _Formatter(click.HelpFormatter):
    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, prefix if prefix is not None else f"{told('Usage:')} ")

    def write_heading(self, heading: str) -> None:
        super().write_heading(told(heading))

    def write_text(self, text: str) -> None:
        super().write_text("\n\n".join(told(paragraph) for paragraph in paragraphs(text)))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(term, _described(text)) for term, text in rows], col_max, col_spacing)


class Context(click.Context):
    """A context whose help speaks the language of the terminal."""

    formatter_class = _Formatter


class Group(click.Group):
    """A group of commands, all of whose help speaks it."""

    context_class = Context

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of its commands."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            command.context_class = Context
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with its first sentence."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, told(paragraphs(command.help or "")[0]).partition(". ")[0].rstrip(".") + "."))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a help text, each on one line."""
    return [" ".join(one.split()) for one in inspect.cleandoc(text).split("\n\n")]


def show_usage_error(error: click.ClickException) -> None:
    """Say on standard error how a command was called wrongly, and where its help is."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None and error.format_message() == context.get_help():  # a group without a command
        click.echo(error.format_message(), err=True)
        return
    if context is not None:
        click.echo(context.get_usage(), err=True)
        if context.command.get_help_option(context) is not None:
            click.echo(told(f"Try '{context.command_path} --help' for help."), err=True)
        click.echo(err=True)
    click.echo(told(f"Error: {told_in_parts(error.format_message())}"), err=True)


def show_error(error: RelayError) -> None:
    """Say on standard error what happened, and what to do."""
    click.echo(f"relay: {told_in_parts(error.what)}.\n       {told(error.advice)}", err=True)


def _described(text: str) -> str:
    """The description of an option: what it says, and in brackets what click adds."""
    said, bracket, extra = text.partition("  [")
    if not bracket and said.startswith("["):
        said, extra = "", said[1:]
    items = "; ".join(told(item) for item in extra.removesuffix("]").split("; "))
    return "  ".join(part for part in (told(said), f"[{items}]" if items else "") if part)
