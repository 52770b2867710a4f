"""`relay run`: the daemon."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import click

from relay.cli.logs import FORMATS, TEXT, set_up_log
from relay.cli.options import home_option
from relay.node.home import Home
from relay.trust.roles import Role

if TYPE_CHECKING:
    from relay.node.daemon import Daemon

_SWITCH_SECONDS = 0.0005
"""How long a thread that computes (pages of the site, hashes of a tree) keeps the interpreter from the loop that
answers visitors. Python's own 5 ms would be waited for at every call of the system, hundreds of times a second."""


@click.command()
@home_option
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@click.option(
    "--log-format", envvar="RELAY_LOG_FORMAT", type=click.Choice(FORMATS), default=TEXT, help="The log's form."
)
def run(home: Home, verbose: bool, log_format: str) -> None:
    """Run the daemon in the foreground; SIGTERM or Ctrl-C stops it cleanly."""
    set_up_log(log_format, verbose=verbose)
    logging.getLogger("aiohttp.server").addFilter(_is_no_rubbish)
    sys.setswitchinterval(_SWITCH_SECONDS)
    asyncio.run(_run(home))


def _is_no_rubbish(record: logging.LogRecord) -> bool:
    """Whether a line of the web server tells of a fault here, and not of a stranger who does not speak HTTP."""
    from aiohttp.http_exceptions import HttpProcessingError

    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


async def _run(home: Home) -> None:
    from relay.node.daemon import run_daemon

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if home.member().identity.role is Role.RECEIVER:
        await _bring_up_to_date(home)
        from relay.receiver.service import receiver_service
        from relay.web.console import console_service
        from relay.web.public import public_service

        await run_daemon(home, stop, [receiver_service, public_service, console_service, _frozen])
    else:
        from relay.web.console import console_service

        await run_daemon(home, stop, [console_service, _frozen])


@asynccontextmanager
async def _frozen(_daemon: Daemon) -> AsyncIterator[None]:
    """What is there when the daemon begins stays until it ends: no garbage is looked for in it again and again."""
    gc.collect()
    gc.freeze()
    yield


async def _bring_up_to_date(home: Home) -> None:
    """Bring the database that receivers share to this version. Nothing else does: a command that looks at the log
    would take the database from receivers of an older version that run."""
    database = home.config().database
    if database is None:
        return
    with home.daemon_lock(), suppress(ImportError):  # a library that is missing is told of when the store is opened
        from relay.store.cluster.database import bring_up_to_date

        await bring_up_to_date(database)
