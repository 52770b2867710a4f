"""Crowds of strangers at the operator's page: they take nobody's connections, and guess no faster together."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlencode

from relay.limits import MAX_CONNECTIONS_PER_NODE, PAIRING_GUESSES
from tests.operator.conftest import Island

FORM = "Content-Type: application/x-www-form-urlencoded"


def connection(island: Island, source: str = "127.0.0.1") -> ssl.SSLSocket:
    """A connection from an address of this machine."""
    context = ssl._create_unverified_context()
    plain = socket.create_connection(("127.0.0.1", island.port), 10, source_address=(source, 0))
    return context.wrap_socket(plain)


def said(talk: ssl.SSLSocket, method: str, body: str = "", *fields: str) -> int:
    """One request to the pairing page; the status of the answer."""
    host = f"Host: 127.0.0.1:{talk.getpeername()[1]}"
    origin = f"Origin: https://127.0.0.1:{talk.getpeername()[1]}"
    lines = [f"{method} /operator/pair HTTP/1.1", host, origin, FORM, f"Content-Length: {len(body)}", *fields, "", body]
    talk.sendall("\r\n".join(lines).encode())
    return int(talk.recv(64).split()[1])


def test_strangers_who_say_nothing_more_leave_room_for_others(island: Island) -> None:
    with ExitStack() as crowd:
        for _ in range(MAX_CONNECTIONS_PER_NODE):
            talk = crowd.enter_context(connection(island))
            here = f"127.0.0.1:{island.port}"
            lines = ["POST /operator/pair HTTP/1.1", f"Host: {here}", f"Origin: https://{here}", FORM]
            head = "\r\n".join([*lines, "Content-Length: 100", "", "c"])
            talk.sendall(head.encode())
        another = crowd.enter_context(connection(island, "127.0.0.2"))
        assert said(another, "GET") == 200
        more = crowd.enter_context(connection(island))
        try:
            refused = not more.recv(1)
        except (ConnectionError, ssl.SSLError):
            refused = True
        assert refused, "one address holds no more connections than a node"


def test_guesses_made_at_once_are_judged_no_faster_than_one_after_the_other(island: Island) -> None:
    island.offer()
    guesses = 20
    with ExitStack() as crowd, ThreadPoolExecutor(guesses) as threads:
        talks = [crowd.enter_context(connection(island)) for _ in range(guesses)]
        bodies = [urlencode({"code": f"{'ABCDEFGH'[:7]}{number % 10}"}) for number in range(guesses)]
        answers = list(threads.map(lambda pair: said(pair[0], "POST", pair[1]), zip(talks, bodies, strict=True)))
    assert set(answers) <= {403, 429}, answers
    assert answers.count(403) <= PAIRING_GUESSES
    assert answers.count(429) >= guesses - PAIRING_GUESSES
