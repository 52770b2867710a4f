"""A clean Debian in a folder: what a package meets on a machine where nothing else was ever installed.

Made by debootstrap, entered with chroot(8) and a /proc of its own. No daemon of the package starts in it by itself,
since no systemd runs there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

RELEASE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
INCLUDED = "python3,adduser"
"""What the package depends on: here from the beginning, so that what it leaves behind itself is easy to see."""

IGNORED = ("proc", "tmp", "run", "var/log", "var/cache", "var/lib/dpkg", "var/lib/apt", "etc/ld.so.cache")
"""Where dpkg and its friends keep their own books."""


def why_not() -> str | None:
    """Why no clean Debian can be made here, and the command that helps."""
    if os.geteuid() != 0:
        return "a clean Debian needs root: sudo python -m pytest tests/debian"
    missing = [tool for tool in ("debootstrap", "dpkg-deb", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"{missing[0]} is missing: apt-get install debootstrap dpkg util-linux"
    if not Path("/usr/bin/python3").exists() or not Path("/usr/lib/python3/dist-packages").exists():
        return "the package is built on Debian: with its python3 and python3-venv"
    return None


class Refused(Exception):
    """A command in the clean Debian failed; the message holds what it said."""


class Root:
    """The Debian in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Download and unpack it. Raises `Refused`."""
        self.folder.mkdir()
        _run("debootstrap", "--variant=minbase", f"--include={INCLUDED}", RELEASE, str(self.folder), MIRROR)

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> str:
        """Run a command as root in it; what it said on both channels. Raises `Refused` if it fails."""
        apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={self.folder}/proc")
        return _run(*apart, "chroot", str(self.folder), *command, env=env)

    def relay(self, command: str, home: str, *arguments: str) -> str:
        """Run `relay COMMAND --home HOME ARGUMENTS` as the service's user."""
        return self.run("runuser", "-u", "relay", "--", "relay", command, "--home", home, *arguments)

    def popen(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command as the service's user; killing it kills all of it."""
        apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={self.folder}/proc")
        return subprocess.Popen([*apart, "chroot", str(self.folder), "runuser", "-u", "relay", "--", *command])

    def path(self, inside: str) -> Path:
        """Where a path of it lies on this machine."""
        return self.folder / inside.lstrip("/")

    def files(self) -> set[str]:
        """Every path in it that is not some tool's own bookkeeping."""
        found: set[str] = set()
        for folder, folders, names in os.walk(self.folder):
            here = Path(folder).relative_to(self.folder)
            folders[:] = [name for name in folders if str(here / name) not in IGNORED]
            found.update(str(here / name) for name in (*folders, *names) if name != "__pycache__")
        return {path for path in found if "__pycache__" not in path and path not in IGNORED}

    def users(self) -> set[str]:
        """The names of its users."""
        return {line.partition(":")[0] for line in self.path("/etc/passwd").read_text().splitlines()}

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _run(*command: str, env: Mapping[str, str] | None = None) -> str:
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": "/root",
        "DEBIAN_FRONTEND": "noninteractive",
        **{key: value for key, value in os.environ.items() if key.endswith("_proxy")},
        **(env or {}),
    }
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=600, env=environment
    )
    said = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise Refused(f"{' '.join(command)} exited with {done.returncode}:\n{said[-4000:]}")
    return said
