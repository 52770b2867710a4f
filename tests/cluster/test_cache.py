"""Copies of content that a receiver of a cluster hands out are whole, whoever asks at once, whatever was left there."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from relay.errors import StoreError
from relay.limits import LEFT_OVER_SECONDS, MAX_CACHED_OBJECTS
from relay.records.identifiers import ObjectId
from relay.store.cluster.cache import Cache
from tests.factory import object_of


class Bucket:
    """What is to be copied; counts how often it was asked, and lets nobody have anything before it is `open`."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {object_of(one): one for one in contents}
        self.asked = 0
        self.called = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, object_id: ObjectId) -> bytes | None:
        """What the store fetches."""
        self.asked += 1
        self.called.set()
        await self.open.wait()
        return self.contents.get(object_id)


PHOTO = bytes(range(256)) * 4_000


async def test_many_who_read_one_photograph_at_once_wait_for_one_fetch(tmp_path: Path) -> None:
    bucket = Bucket(PHOTO)
    bucket.open.clear()
    cache = Cache(tmp_path / "cache", bucket.fetch)
    readers = [asyncio.create_task(cache.path(object_of(PHOTO))) for _ in range(8)]
    await bucket.called.wait()
    readers[0].cancel()  # the one for whom it was begun
    bucket.open.set()
    paths = await asyncio.gather(*readers[1:])
    assert [path.read_bytes() == PHOTO for path in paths if path] == [True] * 7
    assert bucket.asked == 1
    assert await cache.path(object_of(PHOTO)) == paths[0]
    assert bucket.asked == 1


async def test_processes_that_keep_one_photograph_at_once_hand_out_all_of_it(tmp_path: Path) -> None:
    buckets = [Bucket(PHOTO) for _ in range(6)]
    caches = [Cache(tmp_path, bucket.fetch) for bucket in buckets]
    for _ in range(10):
        paths = await asyncio.gather(*(cache.path(object_of(PHOTO)) for cache in caches))
        assert [path.read_bytes() == PHOTO for path in paths if path] == [True] * 6
        (tmp_path / object_of(PHOTO).hex()).unlink()


@pytest.mark.parametrize("left", [b"", PHOTO[:1_000], PHOTO[:-1] + b"x"], ids=["empty", "cut off", "of its size"])
async def test_a_copy_that_a_power_cut_left_is_not_handed_out(tmp_path: Path, left: bytes) -> None:
    bucket = Bucket(PHOTO)
    (tmp_path / object_of(PHOTO).hex()).write_bytes(left)
    path = await Cache(tmp_path, bucket.fetch).path(object_of(PHOTO))
    assert path is not None
    assert path.read_bytes() == PHOTO
    again = Cache(tmp_path, Bucket().fetch)  # the next process has it without the bucket
    assert await again.path(object_of(PHOTO)) == path
    path.write_bytes(PHOTO[:5])
    assert await again.path(object_of(PHOTO)) is None


async def test_the_oldest_copies_go_and_no_file_that_is_being_written(tmp_path: Path) -> None:
    bucket = Bucket(PHOTO, b"new")
    for number in range(MAX_CACHED_OBJECTS + 3):
        (tmp_path / f"{number:064x}").write_bytes(b"")
        os.utime(tmp_path / f"{number:064x}", (number, number))
    cache = Cache(tmp_path, bucket.fetch)
    being_written, left_over = tmp_path / ".one.tmp", tmp_path / ".other.tmp"
    for file in (being_written, left_over):
        file.write_bytes(b"")
    path = await cache.path(object_of(PHOTO))
    assert path is not None
    now = path.stat().st_mtime
    os.utime(being_written, (now - LEFT_OVER_SECONDS / 2,) * 2)
    os.utime(left_over, (now - 2 * LEFT_OVER_SECONDS,) * 2)
    await cache.path(object_of(b"new"))
    names = {one.name for one in tmp_path.iterdir()}
    oldest = {f"{number:064x}" for number in range(5)}
    assert names.isdisjoint(oldest)
    assert {being_written.name, path.name, object_of(b"new").hex()} < names
    assert left_over.name not in names
    assert len(names) == MAX_CACHED_OBJECTS + 1


async def test_who_comes_after_a_fetch_that_failed_tries_again(tmp_path: Path) -> None:
    bucket = Bucket(PHOTO)

    async def away(_object: ObjectId) -> bytes | None:
        bucket.asked += 1
        if bucket.asked == 1:
            raise StoreError("The bucket is away", "Wait.")
        return PHOTO

    cache = Cache(tmp_path, away)
    with pytest.raises(StoreError, match="away"):
        await cache.path(object_of(PHOTO))
    assert await cache.path(object_of(PHOTO)) is not None
