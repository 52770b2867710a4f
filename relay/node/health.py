"""Health: telling systemd that the daemon is ready and alive, and what room the disk has.

`sd_notify(3)` is a datagram to a socket whose name systemd passes in the environment; nothing is sent without one.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path


def notify(state: str) -> None:
    """Tell systemd `READY=1`, `WATCHDOG=1`, `STOPPING=1`; nothing where systemd did not start this process."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.connect(address)
            channel.sendall(state.encode())
        except OSError:
            return  # systemd went away: there is nobody to tell


def watchdog_seconds() -> float | None:
    """How often systemd expects a sign of life, halved for safety; None when it expects none."""
    text = os.environ.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(text) / 2_000_000


def bytes_free(folder: Path) -> int:
    """Bytes that this user may still write on the folder's file system."""
    return shutil.disk_usage(folder if folder.exists() else folder.parent).free
