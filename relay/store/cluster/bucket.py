"""The bucket, through obstore: content, pieces of content, and published files.

    public/…                  the published files; public/object/<sha256> is content, where it will be published
    piece/<object>/<name>     chunks of an object that is not whole yet
    store-id                  which database goes with it (`relay.store.cluster.bond`)

What was put is there, durably, when the call returns: that is what an S3 service promises. Nothing is put under a
condition, which not every service knows: so files that change are put by the receiver that leads, as long as it can be
sure to lead (`BucketShelf`). Only `public/` needs to be readable by others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError, GenericError, NotFoundError
from obstore.store import S3Store

from relay.errors import StoreError
from relay.limits import BUCKET_RETRY_SECONDS, BUCKET_SECONDS, CONNECT_SECONDS
from relay.store.durable import reading
from relay.store.shelf import FOR_EVER, FRESH

PUBLIC = "public/"
MARK = "store-id"
"""The file that says which database goes with the bucket. It is not public."""
_BINARY = "application/octet-stream"
_TRIES = 3
_PATIENT: Any = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=BUCKET_RETRY_SECONDS),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}
_IMPATIENT: Any = {**_PATIENT, "max_retries": 0}
_CONTENT = "object/"
_NOTHING_THERE = (NotFoundError, FileNotFoundError)
_NO_BUCKET = "NoSuchBucket"
_ASKED_ONE_BY_ONE = 16


class Bucket:
    """A bucket of an S3 service."""

    def __init__(self, store: Any, impatient: Any = None) -> None:
        """`store` is obstore's; `impatient` the same, but that it makes every call once only."""
        self._store = store
        self._impatient = impatient or store
        self._agreed: Callable[[], Awaitable[None]] | None = None
        self.failures = 0
        """Calls that it did not answer as it should."""

    @classmethod
    def open(cls, name: str, endpoint: str | None, region: str | None) -> Bucket:
        """The bucket `name` of the service at `endpoint` (Amazon's own where it is None).

        The keys come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or from the machine's role.
        Raises `StoreError`.
        """
        settings: dict[str, Any] = {
            "client_options": {
                "allow_http": (endpoint or "").startswith("http://"),
                "timeout": timedelta(seconds=BUCKET_SECONDS),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            },
        }
        if endpoint:
            settings |= {"virtual_hosted_style_request": False, "endpoint": endpoint}
        if region:
            settings["region"] = region
        with _explained(name):
            return cls(
                S3Store(name, retry_config=_PATIENT, **settings), S3Store(name, retry_config=_IMPATIENT, **settings)
            )

    def ask_first(self, agreed: Callable[[], Awaitable[None]]) -> None:
        """From now on nothing but `MARK` is put or given before `agreed` returns; it raises what speaks against."""
        self._agreed = agreed

    async def put(self, path: str, content: bytes, content_type: str = _BINARY, cache: str = FRESH) -> None:
        """Put content there, in place of what was. Raises `StoreError`."""
        await self._put(self._store, path, content, content_type, cache, lambda: None)

    async def replace(
        self, path: str, content: bytes, content_type: str, cache: str, permitted: Callable[[], None]
    ) -> None:
        """Put content there as long as that is permitted, which is asked before each try and raises what speaks
        against. Raises `StoreError`."""
        await self._put(self._impatient, path, content, content_type, cache, permitted)

    async def _put(
        self, store: Any, path: str, content: bytes, content_type: str, cache: str, permitted: Callable[[], None]
    ) -> None:
        await self._ask(path)
        attributes: Any = {"Content-Type": content_type, "Cache-Control": cache}
        for left in reversed(range(_TRIES)):
            permitted()
            with self._explained(path):
                try:
                    await obstore.put_async(store, path, content, attributes=attributes, use_multipart=False)
                except GenericError:  # of two puts of one name at once, Swift's s3api says to one that it is lost
                    if not left:
                        raise
                else:
                    return

    async def get(self, path: str) -> bytes | None:
        """What is there, or None. Raises `StoreError`."""
        await self._ask(path)
        with suppress(*_NOTHING_THERE), self._explained(path):
            found = await obstore.get_async(self._store, path)
            return bytes(await found.bytes_async())
        return None

    async def get_range(self, path: str, offset: int, length: int) -> bytes | None:
        """A part of what is there, or None. Raises `StoreError`."""
        await self._ask(path)
        with suppress(*_NOTHING_THERE), self._explained(path):
            return bytes(await obstore.get_range_async(self._store, path, start=offset, length=length))
        return None

    async def names(self, prefix: str) -> set[str]:
        """The paths of all that is there below a folder. Raises `StoreError`."""
        await self._ask(prefix)
        found: set[str] = set()
        with self._explained(prefix):
            async for some in obstore.list(self._store, prefix, chunk_size=1_000):
                found.update(one["path"] for one in some)
        return found

    async def has(self, path: str) -> bool:
        """Whether anything is there. Raises `StoreError`."""
        await self._ask(path)
        with suppress(*_NOTHING_THERE), self._explained(path):
            await obstore.head_async(self._store, path)
            return True
        return False

    async def remove(self, paths: Sequence[str]) -> None:
        """Take these away, if they are there. Raises `StoreError`."""

        async def one(path: str) -> None:
            await self._ask(path)
            with suppress(*_NOTHING_THERE), self._explained(path):
                await obstore.delete_async(self._store, path)

        await asyncio.gather(*map(one, paths))

    async def _ask(self, path: str) -> None:
        if self._agreed is not None and path != MARK:
            await self._agreed()

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        try:
            with _explained(path):
                yield
        except StoreError:
            self.failures += 1
            raise


class BucketShelf:
    """The published files of a bucket. Content lies there from the beginning: it is not copied."""

    def __init__(self, bucket: Bucket, may_publish: Callable[[], bool] = lambda: True) -> None:
        """`may_publish` says whether files that change may be put: whoever hung while he led, and goes on when another
        one leads, would put an older one in a newer one's place."""
        self._bucket = bucket
        self._may_publish = may_publish

    async def write(
        self,
        path: str,
        content: bytes,
        content_type: str,
        cache: str = FRESH,
        *,
        durable: bool = False,  # noqa: ARG002
    ) -> None:
        """See `relay.store.shelf.Shelf`."""
        if cache == FOR_EVER:
            await self._bucket.put(PUBLIC + path, content, content_type, cache)
        else:
            await self._bucket.replace(PUBLIC + path, content, content_type, cache, self._check)

    def _check(self) -> None:
        if not self._may_publish():
            raise StoreError(
                "This receiver was silent for a while, and another one may lead by now",
                "Nothing needs to be done: whoever leads publishes. Where it comes often, look for what stops this one "
                "for seconds (memory that is swapped, a virtual machine that is paused).",
            )

    async def read(self, path: str) -> bytes | None:
        """See `relay.store.shelf.Shelf`."""
        return await self._bucket.get(PUBLIC + path)

    async def copy(self, path: str, source: Path, content_type: str, cache: str) -> None:
        """See `relay.store.shelf.Shelf`."""
        if not await self._bucket.has(PUBLIC + path):
            with reading(source):
                content = await asyncio.to_thread(source.read_bytes)
            await self._bucket.put(PUBLIC + path, content, content_type, cache)

    async def holds(self, paths: Sequence[str]) -> bool:
        """See `relay.store.shelf.Shelf`. A bucket loses nothing, but somebody may have tidied. Content is believed: it
        was put before the catalogue named it, and is hashed whenever it is read. For many files a folder is listed."""
        asked = [PUBLIC + path for path in paths if not path.startswith(_CONTENT)]
        if len(asked) <= _ASKED_ONE_BY_ONE:
            return all(await asyncio.gather(*map(self._bucket.has, asked)))
        folders = {path.split("/")[1] for path in asked}
        there: set[str] = set().union(*[await self._bucket.names(f"{PUBLIC}{folder}") for folder in folders])
        return there.issuperset(asked)

    async def settle(self) -> None:
        """See `relay.store.shelf.Shelf`. What was put is durable."""


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Within it, trouble with the service is a `StoreError`; that nothing is there passes. That there is no bucket is
    trouble: a service that just started may say so, and nothing is lost by it."""
    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        if isinstance(error, _NOTHING_THERE) and _NO_BUCKET not in str(error):
            raise
        text = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise StoreError(
            f"The bucket does not take or give {path[:100]} ({text})",
            "Check that the S3 service answers and that the bucket and its keys are right; relay goes on when it is "
            "back.",
        ) from error
