"""Sending what lies on the disk: by the kernel, from the file, so that a reader who is slow costs no memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter


@contextmanager
def _readers_gone(request: web.BaseRequest) -> Iterator[None]:
    """Within it, a reader who is gone is one that aiohttp has a word for, whatever the kernel says of it; or Python,
    which before 3.11.4 looks for the protocol of a TLS connection that has none any more."""
    try:
        yield
    except OSError as error:
        raise ConnectionResetError("The reader is gone") from error
    except AttributeError as error:
        if request.transport is not None:
            raise
        raise ConnectionResetError("The reader is gone") from error


class Part(web.FileResponse):
    """A file by its path, or the range of it that is asked for."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it."""
        with _readers_gone(request):
            return await super().prepare(request)


class FromDisk(web.StreamResponse):
    """The whole of an open file, which is closed when it was sent.

    It is sent after its handler is done: its connection lies idle for the door (`relay.net.door`), unless its reader
    reads.
    """

    def __init__(self, file: BinaryIO, headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        self._file = file
        self._size = self.content_length = os.fstat(file.fileno()).st_size

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it all."""
        with self._file as file, _readers_gone(request):
            writer = await super().prepare(request)
            transport = request.transport
            if transport is None:
                raise ConnectionResetError("The reader is gone")
            if request.method != "HEAD":
                await asyncio.get_running_loop().sendfile(transport, file, 0, self._size)
            await super().write_eof()
            return writer
