"""Small disks of their own, for tests of what happens when one is full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting a small disk needs root: run as root"
)


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """A disk of `size` bytes at `place`; unmounted on leaving."""
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=False)


def fill(disk: Path, name: str = "syslog", leave: int = 0) -> Path:
    """Fill a disk with a file of somebody else's, but for `leave` bytes."""
    file = disk / name
    with file.open("ab", buffering=0) as other:
        try:
            while left(disk) > leave:
                other.write(bytes(min(1 << 20, max(4_096, left(disk) - leave))))
        except OSError:
            pass  # it is full
    return file


def left(disk: Path) -> int:
    """Bytes that are free on it."""
    facts = os.statvfs(disk)
    return facts.f_bavail * facts.f_frsize
