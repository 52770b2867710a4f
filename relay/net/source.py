"""Where a published log is read from: a web server, or a folder (`file://`). Nothing that comes from it is believed.

A `Source` reads whole small files and hashes large ones as they come; every read has its bound, in bytes and in time:
a server that sends hardly anything is one that is away. Such a one is asked again a few times; one that says no (404)
is not. A server that names another place is not followed: what it names may be a machine of the reader's own network.
In a folder, plain files are read, and no links, pipes or devices.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp

from relay.errors import BadInput, Malformed, NotHeld, RelayError, Unreachable
from relay.limits import (
    CONNECT_SECONDS,
    MIB,
    SOURCE_ANSWER_SECONDS,
    SOURCE_LEAST_RATE,
    SOURCE_PATIENCE_SECONDS,
    SOURCE_STALL_SECONDS,
    SOURCE_STREAMS,
    SOURCE_TRIES,
)

_PAGE = re.compile(
    r"(/en)?/((index|flags|downloads|check|strays(-\d+)?)|(region|device)/[^/]+|tps/[^/]+/[^/]+)\.html$", re.ASCII
)
"""The end of the address of a page of the public site."""
_ELSEWHERE = (301, 302, 303, 307, 308)
_LOST = (aiohttp.ClientError, ConnectionError, TimeoutError, OSError)


class Source(Protocol):
    """A published log's files, by their path below it."""

    place: str
    """Its address, by which it is remembered."""

    async def read(self, path: str, limit: int) -> bytes:
        """A file of at most `limit` bytes. Raises `NotHeld`, `Unreachable` or `Malformed`."""

    async def read_all(self, paths: Sequence[str], limit: int) -> list[bytes | NotHeld | Malformed]:
        """Many files of at most `limit` bytes each, in order; where one is not there or too long, the error."""

    async def digest(self, path: str, limit: int) -> tuple[bytes, int]:
        """SHA-256 and size of a file of at most `limit` bytes. Raises as `read` does."""


@asynccontextmanager
async def open_source(url: str) -> AsyncIterator[Source]:
    """The log published at `url`: `https://…`, `http://…`, or `file:///…` for a folder. Raises `BadInput`.

    It may be the address of one of the site's pages, as it is copied from a browser.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:  # [ without ]
        raise _no_place(url) from error
    parts = parts._replace(path=_PAGE.sub("", parts.path), query="", fragment="")
    if parts.scheme == "file" and not parts.netloc:
        yield Folder(Path(unquote(parts.path)))
    elif parts.scheme in ("http", "https") and parts.netloc:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SOURCE_STALL_SECONDS)
        connector = aiohttp.TCPConnector(limit=SOURCE_STREAMS)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=True, headers={"User-Agent": "relay audit"}
        ) as session:
            yield Site(urlunsplit(parts).rstrip("/"), session)
    else:
        raise _no_place(url)


def _no_place(url: str) -> BadInput:
    return BadInput(f"{url[:200]!r} is no place of a log", "Give https://…, or file:///… for a folder.")


class Folder:
    """A log in a folder: what a receiver published, or exported."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.place = path.absolute().as_uri()

    async def read(self, path: str, limit: int) -> bytes:
        """See `Source`."""
        return await asyncio.to_thread(self._read, path, limit)

    async def read_all(self, paths: Sequence[str], limit: int) -> list[bytes | NotHeld | Malformed]:
        """See `Source`."""
        return await asyncio.to_thread(lambda: [_or_fault(self._read, path, limit) for path in paths])

    async def digest(self, path: str, limit: int) -> tuple[bytes, int]:
        """See `Source`."""
        return await asyncio.to_thread(self._digest, path, limit)

    def _read(self, path: str, limit: int) -> bytes:
        try:
            with _open_plain(self._path / path) as file:
                content = file.read(limit + 1)
        except OSError as error:
            raise _absent(path, str(self._path), error) from error
        return _bounded(path, content, limit)

    def _digest(self, path: str, limit: int) -> tuple[bytes, int]:
        whole, size = hashlib.sha256(), 0
        try:
            with _open_plain(self._path / path) as file:
                while block := file.read(MIB):
                    whole.update(block)
                    size = _counted(path, size + len(block), limit)
        except OSError as error:
            raise _absent(path, str(self._path), error) from error
        return whole.digest(), size


class Site:
    """A log on a web server."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = self.place = url
        self._session = session
        self._streams = asyncio.Semaphore(SOURCE_STREAMS)
        """Waited for before a server is asked, so that its time to answer is its own."""

    async def read(self, path: str, limit: int) -> bytes:
        """See `Source`."""
        for attempt in range(SOURCE_TRIES):
            try:
                blocks = [block async for block in self._blocks(path, limit)]
                return b"".join(blocks)
            except aiohttp.ClientConnectorCertificateError as error:
                raise _distrusted(self._url, error) from error
            except _LOST as error:
                await self._pause(attempt, error)
        raise AssertionError("unreachable: the last pause raises")

    async def read_all(self, paths: Sequence[str], limit: int) -> list[bytes | NotHeld | Malformed]:
        """See `Source`."""

        async def one(path: str) -> bytes | NotHeld | Malformed:
            try:
                return await self.read(path, limit)
            except (NotHeld, Malformed) as error:
                return error

        return await asyncio.gather(*map(one, paths))

    async def digest(self, path: str, limit: int) -> tuple[bytes, int]:
        """See `Source`."""
        for attempt in range(SOURCE_TRIES):
            whole, size = hashlib.sha256(), 0
            try:
                async for block in self._blocks(path, limit):
                    whole.update(block)
                    size += len(block)
                return whole.digest(), size
            except aiohttp.ClientConnectorCertificateError as error:
                raise _distrusted(self._url, error) from error
            except _LOST as error:
                await self._pause(attempt, error)
        raise AssertionError("unreachable: the last pause raises")

    async def _blocks(self, path: str, limit: int) -> AsyncIterator[bytes]:
        async with self._streams, await self._answer(f"{self._url}/{path}") as response:
            if response.status in (404, 410):
                raise NotHeld(f"{self._url}/{path} is not there", "Ask the receiver's administrator for it.")
            if response.status in _ELSEWHERE:
                raise self._redirected(path, response.headers.get("Location", ""))
            if response.status != 200:
                raise ConnectionError(f"it answers {response.status}")
            began, size = _now(), 0
            async for block in response.content.iter_any():
                size = _counted(path, size + len(block), limit)
                if _now() - began > SOURCE_STALL_SECONDS + size / SOURCE_LEAST_RATE:
                    raise TimeoutError("it sends hardly anything")
                yield block

    async def _answer(self, url: str) -> aiohttp.ClientResponse:
        """The head of the answer, which has its time as a whole: a byte now and then does not lengthen it."""
        async with asyncio.timeout(SOURCE_ANSWER_SECONDS):
            return await self._session.get(url, allow_redirects=False)

    def _redirected(self, path: str, place: str) -> BadInput:
        base = place.removesuffix(f"/{path}")
        known = urlsplit(base).scheme in ("http", "https") and base != place
        advice = f"If that is the log, give its own address: {base[:200]}" if known else "Give the log's own address."
        return BadInput(f"{self._url}/{path} sends its readers on to {place[:200]!r}, which is not followed", advice)

    async def _pause(self, attempt: int, error: Exception) -> None:
        if attempt + 1 == SOURCE_TRIES:
            said = str(error) or type(error).__name__
            raise Unreachable(
                f"{self._url} cannot be read ({said})", "Try again later: it goes on where it was."
            ) from error
        await asyncio.sleep(SOURCE_PATIENCE_SECONDS * 2**attempt)


def _distrusted(url: str, error: aiohttp.ClientConnectorCertificateError) -> Unreachable:
    """A certificate of the web server, which has nothing to do with those of the election."""
    why = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
    return Unreachable(
        f"The certificate of the web server at {url} does not hold ({why})",
        "See that this machine's date is right, and that the network asks for no sign-in; else tell whoever runs that "
        "web server. The log has nothing to do with it.",
    )


def _open_plain(file: Path) -> BinaryIO:
    """A plain file, to be read. Raises `OSError`, or `Malformed` for a link, a pipe or a device: whoever made the
    folder could have any file of this machine read, or have its reader wait for ever."""
    what = Malformed(f"{file} is no plain file", "Copy the log's own files, and no links.")
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise what from error
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise IsADirectoryError(errno.EISDIR, "it is a folder") if stat.S_ISDIR(mode) else what


def _now() -> float:
    return asyncio.get_running_loop().time()


def _absent(path: str, folder: str, error: OSError) -> RelayError:
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return NotHeld(f"{path} is not in {folder}", "Ask whoever made the folder for it.")
    return Unreachable(f"{folder}/{path} cannot be read ({error.strerror})", "Check the folder and its disk.")


def _or_fault(read: Callable[[str, int], bytes], path: str, limit: int) -> bytes | NotHeld | Malformed:
    try:
        return read(path, limit)
    except (NotHeld, Malformed) as error:
        return error


def _counted(path: str, size: int, limit: int) -> int:
    if size > limit:
        raise Malformed(f"{path} is over the limit of {limit} bytes")
    return size


def _bounded(path: str, content: bytes, limit: int) -> bytes:
    _counted(path, len(content), limit)
    return content
