"""The least that taking content in costs: TLS, two hashes of every byte, a file and its fsync, with no protocol at all.

What a receiver cannot be faster than, on the same processors and with the same load beside it: blocking sockets, some
connections, each with a thread that reads chunk by chunk. One process takes, this one gives.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from relay.records.statement import chunk_size_for
from tests.bench.machine import CONTENT

_CONNECTIONS = 8


def plain_intake(folder: Path, certificate: Path, key: Path, files: int) -> tuple[float, float]:
    """Megabytes a second, and processor seconds of who takes for each megabyte, of so many photographs. `certificate`
    and `key` are files of one node, whoever it is: only their bytes on the link matter."""
    here, there = get_context("spawn").Pipe()
    taker = get_context("spawn").Process(target=_take, args=(folder, certificate, key, files, there))
    taker.start()
    try:
        port: int = here.recv()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(certificate, key)

        def give(count: int) -> None:
            with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as link:
                for _ in range(count):
                    link.sendall(CONTENT)
                    link.recv(1)

        shares = [files // _CONNECTIONS + (place < files % _CONNECTIONS) for place in range(_CONNECTIONS)]
        started = time.perf_counter()
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            list(pool.map(give, shares))
        seconds = time.perf_counter() - started
        busy: float = here.recv()
    finally:
        taker.join()
    size = files * len(CONTENT) / 1e6
    return size / seconds, busy / size


def _take(folder: Path, certificate: Path, key: Path, files: int, told: Connection) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(_CONNECTIONS) as pool:
        told.send(listening.getsockname()[1])
        began = time.process_time()
        taking = []
        for _ in range(_CONNECTIONS):
            link = context.wrap_socket(listening.accept()[0], server_side=True, do_handshake_on_connect=False)
            taking.append(pool.submit(_keep, link, folder))
        for one in taking:
            one.result()
        told.send(time.process_time() - began)


def _keep(link: ssl.SSLSocket, folder: Path) -> None:
    block = bytearray(chunk_size_for(len(CONTENT)))
    view, number = memoryview(block), 0
    link.do_handshake()
    with link:
        while True:
            path = folder / f"plain-{link.fileno()}-{number}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                if not _keep_one(link, descriptor, view):
                    return
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
                path.unlink()
            link.sendall(b"1")
            number += 1


def _keep_one(link: ssl.SSLSocket, descriptor: int, view: memoryview) -> bool:
    """Take one photograph chunk by chunk; whether one came."""
    whole, at = hashlib.sha256(), 0
    while at < len(CONTENT):
        size = 0
        while size < min(len(view), len(CONTENT) - at):
            read = link.recv_into(view[size : min(len(view), len(CONTENT) - at)])
            if not read:
                return False
            size += read
        hashlib.sha256(view[:size]).digest()
        whole.update(view[:size])
        os.pwrite(descriptor, view[:size], at)
        at += size
    return True
