"""What takes part in a contact: packages to carry, the two ends of a link, and a program on both."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.netns.harness import Host

TALLY = "0-tally.json"
"""The file of a tally: whoever goes by names brings it before the photographs of its package."""


@dataclass(frozen=True, slots=True)
class Package:
    """A tally and photographs, as files in a folder of their own."""

    folder: Path

    @property
    def photos(self) -> list[Path]:
        """Its photographs."""
        return sorted(self.folder.glob("*.jpg"))

    @property
    def tally(self) -> Path:
        """Its tally."""
        return self.folder / TALLY


@dataclass(frozen=True, slots=True)
class End:
    """One end of the link: a host, the other's link-local address with its zone, a folder, packages to hand over."""

    host: Host
    other: str
    folder: Path
    packages: Sequence[Package]


@dataclass(frozen=True, slots=True)
class Held:
    """What one end has of the other's packages: bytes that need not be sent again, and whole packages.

    `first`: when the first one was whole, in seconds since 1970, by the file system: the moment at which the last of
    its files came to stand under its own name. So nobody has to look while the link is up. `small`: statements or, of
    programs that know none, tallies.
    """

    bytes: int
    whole: int
    first: float | None = None
    small: int = 0


def held_of(size: int, finished: Sequence[float], small: int) -> Held:
    """`finished` are the moments at which packages were whole."""
    return Held(size, len(finished), min(finished, default=None), small)


class Contestant:
    """A program on both ends. It is loaded and started before the link comes up, and only looked at afterwards."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """Commands that have to be there: a contestant of which one is missing would only lose."""
    package: ClassVar[str]
    """The Debian packages that bring them."""

    def __init__(self, ends: tuple[End, End], *, small_first: bool = False) -> None:
        """`small_first`: what is asked for is tallies, so whoever can be told to brings all of them first."""
        self.ends = ends
        self.small_first = small_first

    def start(self) -> None:
        """Begin on both ends."""
        raise NotImplementedError

    def held(self, end: End) -> Held:
        """What this end has of the other's packages now."""
        raise NotImplementedError

    def other(self, end: End) -> End:
        """The other end."""
        return self.ends[1] if end is self.ends[0] else self.ends[0]

    def _arrived(self, end: End, folder: Path, partial: str) -> Held:
        """Of the other's packages as plain files below `folder`; files whose path matches `partial` are parts."""
        size = 0
        for path in folder.rglob("*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if path.is_file():
                size += min(status.st_size, status.st_blocks * 512) if re.search(partial, path.name) else status.st_size
        packages = [folder / one.folder.name for one in self.other(end).packages]
        sizes = [{file.name: file.stat().st_size for file in one.folder.iterdir()} for one in self.other(end).packages]
        finished = [_finished(*pair) for pair in zip(packages, sizes, strict=True)]
        small = sum(size_of(one / TALLY) == size[TALLY] for one, size in zip(packages, sizes, strict=True))
        return held_of(size, [when for when in finished if when is not None], small)


def _finished(folder: Path, sizes: Mapping[str, int]) -> float | None:
    """When the last of these files was whole; None while one is not."""
    if any(size_of(folder / name) != size for name, size in sizes.items()):
        return None
    return max((folder / name).stat().st_ctime for name in sizes)


def size_of(path: Path) -> int:
    """Bytes of a file; none where there is no such file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
