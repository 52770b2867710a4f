"""What processes cost: CPU time and memory, as the kernel counts them (Linux); and a yardstick of the processor."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from relay.records.cose import Verifier


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, all its threads and the kernel's part for them, to the nanosecond."""
    return time.clock_gettime(~pid << 3 | 2)  # the clock that clock_getcpuclockid(3) names


def main_thread_seconds(pid: int) -> float:
    """Of a process's CPU time what its first thread used, to the hundredth."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def most_resident(pid: int) -> int:
    """Bytes of memory that a process had in use at the most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def busy_seconds() -> float:
    """CPU time that all cores of the machine together have spent on anything."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def verification(by: Callable[[Ed25519PublicKey], Verifier] = lambda key: key) -> float:
    """Processor seconds of an Ed25519 verification, OpenSSL's unless `by` says otherwise. A virtual machine's processor
    may do half as much in one hour as in another: what this tells is what figures of different hours are held against.
    """
    key = Ed25519PrivateKey.generate()
    public, signature, message = by(key.public_key()), key.sign(bytes(800)), bytes(800)
    began, count = time.process_time(), 2_000
    for _ in range(count):
        public.verify(signature, message)
    return (time.process_time() - began) / count
