"""Clocks that nobody sets."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from relay import clock
from relay.clock import waited_for_processor


def test_a_thread_that_shares_its_processor_waits_for_it() -> None:
    counts = Path("/proc/thread-self/schedstat")
    if not counts.exists() or counts.read_bytes().split()[2] == b"0":
        pytest.skip("this kernel does not count waiting: one with CONFIG_SCHED_INFO does")
    both = threading.Barrier(2)
    waited: list[float] = []

    def hash_beside_another() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        both.wait()
        before = waited_for_processor()
        for _ in range(100):
            hashlib.sha256(bytes(1 << 20)).digest()  # which lets the other thread run meanwhile
        waited.append(waited_for_processor() - before)

    threads = [threading.Thread(target=hash_beside_another) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert max(waited) > 0.01


@pytest.mark.parametrize("content", [b"", b"nonsense", b"1 two 3", None])
def test_where_nobody_counts_nobody_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    path = tmp_path / "schedstat"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(clock, "_OF_THIS_THREAD", path)
    assert waited_for_processor() == 0.0
