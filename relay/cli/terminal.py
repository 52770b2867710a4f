"""What commands show on a terminal beside their results: colours and progress.

Colours respect NO_COLOR (https://no-color.org) and vanish in pipes; progress goes to standard error, to terminals
only, and is gone when the work is done.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from relay.cli.language import told


def paint(text: str, colour: str, *, bold: bool = False) -> str:
    """A text in a colour of the terminal (`red`, `yellow`, `green`, …), or as it is where none are wanted."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return click.style(text, fg=colour, bold=bold)


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show how many of `total` things are done; yields what to call after each."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show that something is under way whose end cannot be foretold."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(told(what)):
        yield


@contextmanager
def moving(total: int | None = None) -> Iterator[Callable[[str, int], None]]:
    """Show how many bytes moved, of `total` where that is known; yields what to tell `(what, bytes)` as they do."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _what, _size: None
        return
    bar = (BarColumn(),) if total is not None else ()
    columns = (TextColumn("{task.description}"), *bar, DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda what, size: progress.update(task, advance=size, description=told(what))


@contextmanager
def shares() -> Iterator[Callable[[str, int, int], None]]:
    """Show how much of several kinds of things is done; yields what to tell `(what, done, total)` as they are."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _what, _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(told(what), total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield show
