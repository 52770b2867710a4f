"""The Wi-Fi between a phone and the box: it gets narrow in the middle of a request, is cut there, and comes back."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import Self


class Wifi:
    """A way to a port of this machine. What it holds back is what a phone sends: pictures are that."""

    def __init__(self, target: int) -> None:
        self.stalled = threading.Event()
        """Set once a connection has sent all that a narrow way lets through."""
        self._target = target
        self._changed = threading.Condition()
        self._each: int | None = None
        self._together: int | None = None
        self._passed = 0
        self._down = False
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.cut()
        self._listening.close()

    def narrow(self, *, each: int | None = None, together: int | None = None) -> None:
        """Let no connection send more than so many bytes, or all of them from here on; what is over waits."""
        self.stalled.clear()
        self._change(each, together, down=False)

    def wide(self) -> None:
        """Let everything through again, and whoever comes."""
        self._change(None, None, down=False)

    def cut(self) -> None:
        """Lose every connection where it is, and take no other."""
        self._change(None, None, down=True)
        with self._changed:
            for one in self._open:
                _reset(one)
            self._open.clear()

    def _change(self, each: int | None, together: int | None, *, down: bool) -> None:
        with self._changed:
            self._each, self._together, self._down, self._passed = each, together, down, 0
            self._changed.notify_all()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                with self._changed:
                    if self._down:
                        _reset(near)
                        continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:  # the box is off
                    _reset(near)
                    continue
                with self._changed:
                    self._open += [near, far]
                threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(16_384):
                passed += len(data)
                if counted:
                    self._wait(passed, len(data))
                sink.sendall(data)
        for one in (source, sink):
            _reset(one)

    def _wait(self, passed: int, more: int) -> None:
        """Wait until a connection may have sent so many bytes, of which some are new."""

        def may() -> bool:
            within = (self._each is None or passed <= self._each) and (
                self._together is None or self._passed <= self._together
            )
            return self._down or within

        with self._changed:
            self._passed += more
            if not may():
                self.stalled.set()
            self._changed.wait_for(may)


def _reset(one: socket.socket) -> None:
    """End a connection as a lost link does: no farewell."""
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        one.close()
