"""Copies of what is served: made once, bounded together, and the same bytes wherever they are made."""

from __future__ import annotations

import asyncio
import gzip
import threading
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest

from relay.errors import StoreError
from relay.web.copies import Copies, compressed


class Maker:
    """Writes so many bytes, and counts how often."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.made = 0

    def __call__(self, target: BinaryIO) -> None:
        self.made += 1
        target.write(bytes(self.size))


async def size_of(copies: Copies, name: str, make: Maker) -> int:
    """Open a copy, and read it."""
    with await copies.open(name, make) as file:
        return len(file.read())


async def test_a_copy_is_made_once_however_many_ask(tmp_path: Path) -> None:
    copies, make = Copies(tmp_path / "served", 1_000), Maker(100)
    assert await size_of(copies, "a", make) == 100
    assert await asyncio.gather(*(size_of(copies, "a", make) for _ in range(20))) == [100] * 20
    assert make.made == 1


async def test_those_asked_for_longest_ago_go_and_who_reads_one_reads_on(tmp_path: Path) -> None:
    copies, make = Copies(tmp_path / "served", 250), Maker(100)
    first = await copies.open("a", make)
    await size_of(copies, "b", make)
    await size_of(copies, "a", make)
    await size_of(copies, "c", make)
    assert sorted(one.name for one in (tmp_path / "served").iterdir()) == ["a", "c"]
    await size_of(copies, "d", make)
    with first:
        assert len(first.read()) == 100
    assert await copies.held("a") is None


async def test_one_whose_reader_goes_while_it_is_made_counts_as_others_do_and_is_made_in_his_presence(
    tmp_path: Path,
) -> None:
    """Else folders fill with what nobody counts, and as many are made at once as have come and gone."""
    begun, go_on = threading.Event(), threading.Event()

    def make(target: BinaryIO) -> None:
        begun.set()
        assert go_on.wait(30)
        target.write(source.read())

    copies, source = Copies(tmp_path / "served", 250), BytesIO(bytes(100))

    async def ask() -> None:
        with source:
            (await copies.open("a", make)).close()

    reader = asyncio.create_task(ask())
    assert await asyncio.to_thread(begun.wait, 30)
    for _ in range(2):  # his connection is lost, and his time is over
        reader.cancel()
        await asyncio.sleep(0)
    assert not source.closed
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await reader
    there = await copies.held("a")
    assert there is not None
    there.close()
    for name in "bc":
        await size_of(copies, name, Maker(100))
    assert sorted(one.name for one in (tmp_path / "served").iterdir()) == ["b", "c"]


async def test_one_that_somebody_deleted_is_made_again(tmp_path: Path) -> None:
    copies, make = Copies(tmp_path / "served", 1_000), Maker(100)
    await size_of(copies, "a", make)
    (tmp_path / "served" / "a").unlink()
    assert await size_of(copies, "a", make) == 100


async def test_what_an_earlier_process_left_goes(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "old").write_bytes(bytes(10_000))
    await size_of(Copies(tmp_path / "served", 1_000), "a", Maker(1))
    assert [one.name for one in (tmp_path / "served").iterdir()] == ["a"]


async def test_a_copy_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    def fail(target: BinaryIO) -> None:
        target.write(b"half")
        raise OSError(28, "No space left on device")

    copies = Copies(tmp_path / "served", 1_000)
    with pytest.raises(StoreError, match="full"):
        await copies.open("a", fail)
    assert not list((tmp_path / "served").iterdir())
    assert await size_of(copies, "a", Maker(3)) == 3


def test_what_is_compressed_is_the_same_wherever_it_is_done() -> None:
    content = b"a result" * 100_000
    both = [BytesIO(), BytesIO()]
    for target in both:
        compressed(BytesIO(content))(target)
    assert both[0].getvalue() == both[1].getvalue()
    assert gzip.decompress(both[0].getvalue()) == content
