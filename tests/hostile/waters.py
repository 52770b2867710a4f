"""An election whose nodes are attacked, and what attackers use: raw connections, servers that lie, a look at memory."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from relay.limits import MAX_RESIDENT, MAX_RESIDENT_AT_RECEIVER
from relay.net.client import HttpPeer
from relay.net.routes import PREFIX
from relay.net.server import SyncServer
from relay.net.sockets import listen
from relay.net.tls import server_context
from relay.node.home import Home, read_pem_certificate
from relay.sync.claims import Claims
from relay.sync.custody import Custody
from relay.sync.host import Host
from relay.sync.messages import Hello
from relay.trust.certificates import issue, make_request, read_request
from relay.trust.enrolment import pem_block
from relay.trust.roles import Role
from tests.boxes import PASSPHRASE, NodeBox, free_port
from tests.e2e.visitors import as_node
from tests.e2e.world import World


class Waters(World):
    """A world that looks, at its end, whether every daemon is well."""

    def crew(self, count: int) -> list[NodeBox]:
        """So many enrolled carriers that only call on others, or pose: a key and a certificate each, made here."""
        office = self.election.folder
        root_key = load_pem_private_key((office / "root-key.pem").read_bytes(), PASSPHRASE.encode())
        assert isinstance(root_key, Ed25519PrivateKey)
        root = read_pem_certificate(office / "root.pem")
        boxes: list[NodeBox] = []
        for number in range(count):
            key = Ed25519PrivateKey.generate()
            request = read_request(make_request(f"crew-{number}", key))
            certificate = issue(
                root, root_key, request, Role.CARRIER, (), number + 1, datetime(2024, 11, 1, tzinfo=UTC)
            )
            home = self.folder / f"crew-{number}"
            home.mkdir()
            (home / "certificate.pem").write_text(pem_block("CERTIFICATE", certificate))
            (home / "root.pem").write_bytes((office / "root.pem").read_bytes())
            (home / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            boxes.append(NodeBox(home))
        return boxes

    def __exit__(self, *error: object) -> None:
        boxes = [box for box in self._boxes if box.daemon is not None]
        try:
            if error[0] is None:
                for box in boxes:
                    assert_well(box)
        finally:
            super().__exit__(*error)

    def __enter__(self) -> Self:
        return self


def assert_well(box: NodeBox) -> None:
    """Assert that a daemon never used more memory than is stated, and met nothing that it had no words for.

    One that was not stopped by the test has to run.
    """
    assert box.daemon is not None
    assert "Traceback" not in box.log, box.log[-4000:]
    if box.daemon.poll() == 0:
        return
    assert box.daemon.poll() is None, box.log[-2000:]
    most = peak(box)
    stated = MAX_RESIDENT_AT_RECEIVER if box.home.name == "receiver" else MAX_RESIDENT
    print(f"{box.home.name}: {most >> 20} MiB at most")
    assert most < stated


def peak(box: NodeBox) -> int:
    """The most memory that a daemon ever had, in bytes."""
    assert box.daemon is not None
    status = Path(f"/proc/{box.daemon.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def open_files(box: NodeBox) -> int:
    """How many files and sockets a daemon has open."""
    assert box.daemon is not None
    return len(list(Path(f"/proc/{box.daemon.pid}/fd").iterdir()))


def connection(box: NodeBox, port: int) -> ssl.SSLSocket:
    """A connection in this node's name, for saying what one likes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(box.home / "certificate.pem", box.home / "key.pem")
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20))


def head(path: str, *fields: str) -> bytes:
    """The head of a call."""
    return "\r\n".join([f"POST {PREFIX}{path} HTTP/1.1", "Host: relay", *fields, "", ""]).encode()


def rest(talk: socket.socket) -> bytes:
    """All that is said until the other side closes."""
    said = b""
    with suppress(ConnectionError, ssl.SSLError):
        while part := talk.recv(65_536):
            said += part
    return said


def ask(box: NodeBox, port: int, path: str, body: bytes, *fields: str) -> tuple[int, bytes]:
    """One call: status and body of the answer."""
    with connection(box, port) as talk:
        with suppress(ConnectionError, ssl.SSLError):
            talk.sendall(head(path, f"Content-Length: {len(body)}", "Connection: close", *fields) + body)
        said, _, content = rest(talk).partition(b"\r\n\r\n")
        return int(said.split()[1]) if said else 0, content


def call_on(box: NodeBox, port: int) -> tuple[HttpPeer, Hello]:
    """A visitor in this node's name, and its greeting."""
    context, greeting = as_node(box)
    return HttpPeer(f"https://127.0.0.1:{port}", context), greeting


@asynccontextmanager
async def posing(
    box: NodeBox, port: int, host: Callable[[Custody, Callable[[], Hello], str], Host]
) -> AsyncIterator[None]:
    """Within it, this node answers visitors through a host that lies."""
    home = Home(box.home)
    member = home.member()
    identity = member.identity
    async with home.custody() as custody:

        def greeting() -> Hello:
            news, content = custody.news.count, custody.content
            return Hello(identity.node, identity.name, identity.role, identity.election, 1 << 40, news, content)

        identify = custody.admission.identify
        context = server_context(home.certificate_file, home.key_file, member.root, identify)
        server = SyncServer(lambda visitor: host(custody, greeting, visitor.node.hex()), identify, context)
        await server.start(listen(f"127.0.0.1:{port}"))
        try:
            yield
        finally:
            await server.stop()


class Liar(Host):
    """A host to derive liars from: every answer that is not overridden is honest."""

    def __init__(self, custody: Custody, greeting: Callable[[], Hello], visitor: str) -> None:
        super().__init__(custody, greeting, visitor, Claims(), asyncio.get_running_loop().time)


async def asked_for(reader: asyncio.StreamReader) -> str:
    """Read a visitor's request; its path below the protocol's."""
    request = await reader.readuntil(b"\r\n\r\n")
    fields = request.lower().partition(b"content-length: ")[2]
    await reader.readexactly(int(fields.partition(b"\r\n")[0] or 0))
    return request.split()[1].decode().removeprefix(PREFIX)


@asynccontextmanager
async def answering(box: NodeBox, port: int, answer: Callable[[str], bytes | None]) -> AsyncIterator[list[str]]:
    """Within it, this node answers with bytes of its choice: `answer` has them for a path; None says nothing at all.

    An answer that ends in an ellipsis (`...`) is followed by its last 64 KiB again and again. Yields the paths asked.
    """
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while True:
                path = await asked_for(reader)
                asked.append(path)
                said = answer(path)
                if said is None:
                    await reader.read()
                    break
                writer.write(said.removesuffix(b"..."))
                await writer.drain()
                while said.endswith(b"..."):
                    writer.write(said[-65_539:-3])
                    await writer.drain()
                    await asyncio.sleep(0)  # draining does not wait for a reader that is quick
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(box.home / "certificate.pem", box.home / "key.pem")
    context.verify_mode = ssl.CERT_NONE
    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    try:
        yield asked
    finally:
        server.close()


def good(body: bytes, *fields: str) -> bytes:
    """An answer that HTTP is content with."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


__all__ = ["Liar", "Waters", "answering", "ask", "call_on", "connection", "free_port", "good", "head", "peak", "posing"]
