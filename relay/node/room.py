"""How much there is of what a node uses up: memory that its service may take, and the disk of its folder.

Alerts are told in parts of these, so that the same ones fit a box with a card of 16 GB and a receiver of a country.
"""

from __future__ import annotations

import os
from pathlib import Path

from relay.store.durable import explained

_PROC = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def memory_limit(proc: Path = _PROC, groups: Path = _GROUPS) -> int:
    """Bytes of memory from which on the system slows this process down, or ends it: the least of what the control
    groups around it allow (`MemoryHigh=` and `MemoryMax=` of a unit) and what the machine has."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    group = groups / _own_group(proc).lstrip("/")
    while group.is_relative_to(groups):
        limits += [limit for name in ("memory.high", "memory.max") if (limit := _number(group / name)) is not None]
        group = group.parent
    return min(limits)


def disk_size(path: Path) -> int:
    """Bytes of the disk of `path`, as far as this process could write them. Raises `StoreError`."""
    with explained(path):
        facts = os.statvfs(path)
    return (facts.f_blocks - facts.f_bfree + facts.f_bavail) * facts.f_frsize


def _own_group(proc: Path) -> str:
    """The path of this process's group in the one hierarchy of cgroup v2; the top where there is none."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return "/"
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")


def _number(file: Path) -> int | None:
    """What a file says, None where it is not there or says `max`."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
