"""The disk of a simulated node: what survives a crash, and the steps by which anything gets there.

Everything that is durable lies here: the catalogue, synced content, a receiver's published files. Whoever holds a
`Handle` writes in steps; before and after each one the node may crash, and from then on the handle is dead: what it
had not brought here is lost. A full disk refuses steps, but for some that free space or rule (its
ballast), and for as many as what was freed makes room for; a slow one takes its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

from relay.errors import DiskFull, StoreError
from relay.records.identifiers import ObjectId
from relay.store.shelf import FRESH
from tests.simulation.catalogue import Catalogue

T = TypeVar("T")
BALLAST = 8


class Dead(asyncio.CancelledError):
    """The node has crashed: whatever still runs in its name ends here."""


@dataclass
class Temper:
    """How a disk behaves: `slow` is the longest a step takes in seconds, `torn` how often even a read gives way, `bad`
    how often a read fails."""

    slow: float = 0.0
    torn: float = 0.0
    bad: float = 0.0


@dataclass
class Disk:
    """One node's disk. `chance` is the run's; a disk that always behaves needs none."""

    chance: Random | None = None
    temper: Temper = field(default_factory=Temper)
    on_crash: Callable[[], None] = lambda: None
    on_trouble: Callable[[], None] = lambda: None
    """Called when it refuses something."""
    catalogue: Catalogue = field(default_factory=Catalogue)
    content: dict[tuple[ObjectId, bytes], dict[int, bytes]] = field(default_factory=dict)
    """Synced chunks of partial objects, by object and layout. The catalogue says which of them count."""
    files: dict[str, bytes] = field(default_factory=dict)
    """What a receiver has published, by path."""
    bad: set[ObjectId] = field(default_factory=set)
    """Whole objects that cannot be read any more, until they are written anew."""
    rotten: set[ObjectId] = field(default_factory=set)
    """Whole objects of which other bytes are read, without an error, until they are written anew."""
    misplaces: int = 0
    """How many objects that become whole do not come to their place, from now on."""
    full: bool = False
    ballast: int = BALLAST
    """Steps that it takes although it is full, of those that free space or rule."""
    freed: int = 0
    """Steps that it takes although it is full, since something was freed meanwhile."""
    crash_in: int | None = None
    """Steps until the node crashes."""
    crash_after: bool = False
    """Whether that step still takes effect."""
    generation: int = 0
    handles: int = 0
    steps: int = 0

    def crash(self) -> None:
        """Lose what is not here."""
        self.generation += 1
        self.handles = 0
        self.crash_in = None
        self.on_crash()

    def takes(self, *, urgent: bool) -> bool:
        """Whether it takes a step now."""
        if not self.full:
            self.ballast, self.freed = BALLAST, 0
        elif self.freed:
            self.freed -= 1
        elif urgent and self.ballast:
            self.ballast -= 1
        else:
            return self.chance is not None and self.chance.random() >= 0.9
        return True

    def mount(self) -> Handle:
        """Open it. Whoever mounts it while nobody else has it is alone."""
        self.handles += 1
        return Handle(self)


class Handle:
    """A process's hold on a disk, dead after a crash."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.alone = disk.handles == 1
        self._generation = disk.generation

    def check(self) -> None:
        """Raises `Dead` after a crash."""
        if self.disk.generation != self._generation:
            raise Dead

    async def give_way(self) -> None:
        """A read, or a write into memory: others may come between."""
        self.check()
        disk = self.disk
        if disk.chance is not None and disk.temper.torn and disk.chance.random() < disk.temper.torn:
            await asyncio.sleep(disk.temper.slow * disk.chance.random() / 4)
            self.check()
        if disk.chance is not None and disk.temper.bad and disk.chance.random() < disk.temper.bad:
            disk.on_trouble()
            raise StoreError("The disk cannot be read (simulated)", "Look at its cable.")

    async def step(self, act: Callable[[], T], *, urgent: bool = False) -> T:
        """One durable step: all of `act` or nothing. Raises `DiskFull`, for what is `urgent` only where the ballast is
        used up as well, and `Dead` at a crash."""
        self.check()
        disk = self.disk
        await asyncio.sleep(disk.temper.slow * disk.chance.random() if disk.chance is not None else 0)
        self.check()
        return self.step_now(act, urgent=urgent)

    def step_now(self, act: Callable[[], T], *, urgent: bool = False) -> T:
        """`step`, for what runs in a thread of its own."""
        self.check()
        disk = self.disk
        disk.steps += 1
        due = False
        if disk.crash_in is not None:
            disk.crash_in -= 1
            due = disk.crash_in <= 0
        if due and not disk.crash_after:
            disk.crash()
            raise Dead
        if not disk.takes(urgent=urgent):
            disk.on_trouble()
            raise DiskFull("The disk is full (simulated)", "Free some space; what was acknowledged is safe.")
        done = act()
        if due:
            disk.crash()
            raise Dead
        return done

    def unmount(self) -> None:
        """Let go of it."""
        if self.disk.generation == self._generation:
            self.disk.handles -= 1


class DiskShelf:
    """The published files on a disk: a `relay.store.shelf.Shelf`. Every write is one durable step."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def write(
        self, path: str, content: bytes, content_type: str, cache: str = FRESH, *, durable: bool = False
    ) -> None:
        """See `Shelf`."""
        await self._handle.step(lambda: self._handle.disk.files.update({path: content}))

    async def read(self, path: str) -> bytes | None:
        """See `Shelf`."""
        self._handle.check()
        return self._handle.disk.files.get(path)

    async def copy(self, path: str, source: Path, content_type: str, cache: str) -> None:
        """See `Shelf`."""
        await self.write(path, source.read_bytes(), content_type)

    async def holds(self, paths: Sequence[str]) -> bool:
        """See `Shelf`."""
        self._handle.check()
        return all(path in self._handle.disk.files for path in paths)

    async def settle(self) -> None:
        """See `Shelf`."""
