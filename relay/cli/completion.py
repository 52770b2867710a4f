"""`relay completion`: the few lines that teach a shell to complete relay's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_RELAY_COMPLETE"
"""Set by those lines when they ask `relay` itself what could come next; see click's documentation."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what SHELL needs to complete relay's commands. The Debian package has installed it already.

    For yourself alone: `eval "$(relay completion bash)"` in ~/.bashrc, the same with zsh in ~/.zshrc, or
    `relay completion fish > ~/.config/fish/completions/relay.fish`.
    """
    from relay.cli import relay

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(relay, {}, "relay", VARIABLE).source())
