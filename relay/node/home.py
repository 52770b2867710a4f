"""A node's folder: what lies where, and opening it.

    key.pem          the private key (PKCS #8, mode 0600)      request.pem   what the election office signs
    certificate.pem  this node's certificate                   root.pem      the election's root, public
    config.toml      optional settings                         store/        records and objects
    daemon.lock      held by the running daemon                public/       a receiver's published files
    store-made       says that there was a store: one that is gone is never begun anew under the same key

The private key never leaves the folder. `Home` reads and writes; what the files mean is decided in `relay.trust`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from relay.errors import BadInput, Malformed, Refused, StoreError
from relay.limits import CHAIN_SECONDS, MAX_CONFIG, MAX_REQUEST
from relay.node.config import Config, parse_config
from relay.node.stores import open_store
from relay.records.identifiers import Kind
from relay.store.durable import make_folder, write_durably
from relay.sync.custody import Custody
from relay.trust.admission import Admission
from relay.trust.certificates import Identity, make_request, node_id, read_certificate
from relay.trust.enrolment import Enrolment, pem_block, read_enrolment
from relay.trust.roles import Role


@dataclass(frozen=True, slots=True)
class Member:
    """A node that has joined its election: who it is, its key, the election's root (DER)."""

    identity: Identity
    key: Ed25519PrivateKey
    root: bytes


class Home:
    """A node's folder at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key_file = path / "key.pem"
        self.request_file = path / "request.pem"
        self.certificate_file = path / "certificate.pem"
        self.root_file = path / "root.pem"
        self.config_file = path / "config.toml"
        self.store_folder = path / "store"
        self.public_folder = path / "public"
        self.store_mark = path / "store-made"
        self.restore_mark = path / "restore-unfinished"

    def create(self, name: str, key: Ed25519PrivateKey) -> Path:
        """Make a new node's key and request; the request's path. Raises `BadInput` where a node is already."""
        request = make_request(name, key)
        if self.key_file.exists():
            raise BadInput(
                f"{self.path} is a node already", "Use another folder, or `relay join` to install a newer enrolment."
            )
        if self.restore_mark.exists():
            raise self._half_restored()
        with _explained(self.path):
            make_folder(self.path, mode=0o700)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_durably(self.key_file, pem, mode=0o600)
            write_durably(self.request_file, request)
        return self.request_file

    def config(self) -> Config:
        """The node's settings; the defaults where there is no config.toml. Raises `BadInput`."""
        self._check()
        if not self.config_file.exists():
            return Config()
        return parse_config(_read(self.config_file, MAX_CONFIG + 1))

    def key(self) -> Ed25519PrivateKey:
        """The private key. Raises `BadInput`."""
        self._check()
        try:
            key = load_pem_private_key(_read(self.key_file, MAX_REQUEST), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise BadInput(f"{self.key_file} is damaged", "Restore it from your backup.") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise BadInput(f"{self.key_file} is not an Ed25519 key", "Restore it from your backup.")
        return key

    def member(self) -> Member:
        """Who this node is. Raises `BadInput` before it has joined, or where its files do not fit each other."""
        key = self.key()
        if not self.certificate_file.exists() or not self.root_file.exists():
            raise BadInput(
                f"The node in {self.path} has not joined an election",
                f"Take {self.request_file} to the election office, then `relay join` with the file it returns.",
            )
        certificate = read_pem_certificate(self.certificate_file, _JOIN_AGAIN)
        root = read_pem_certificate(self.root_file, _JOIN_AGAIN)
        try:
            return Member(check_own(certificate, root, key), key, root)
        except (Malformed, Refused) as error:
            raise BadInput(f"{self.certificate_file} or root.pem beside it is damaged", _JOIN_AGAIN) from error

    def install(self, text: bytes) -> Enrolment:
        """Check an enrolment against this node's key and election, then write its certificate and root.

        Raises `BadInput`, `Malformed` or `Refused`; then nothing was written. Notices are the caller's to take.
        """
        enrolment = read_enrolment(text)
        if enrolment.certificate is None or enrolment.root is None:
            self.member()  # notices alone are for nodes that have joined
            return enrolment
        key = self.key()
        check_own(enrolment.certificate, enrolment.root, key)
        if self.root_file.exists() and self._root_is_another(enrolment.root):
            raise Refused(
                "foreign-election",
                f"The enrolment is of another election ({read_certificate(enrolment.root).election})",
                "A node belongs to one election; make a new one with `relay init --home` and another folder.",
            )
        admission = Admission(enrolment.root)
        for raw in enrolment.notices:
            admission.admit(Kind.NOTICE, raw)
        with _explained(self.path):
            write_durably(self.root_file, pem_block("CERTIFICATE", enrolment.root).encode())
            write_durably(self.certificate_file, pem_block("CERTIFICATE", enrolment.certificate).encode())
        return enrolment

    def _root_is_another(self, root: bytes) -> bool:
        try:
            return read_pem_certificate(self.root_file) != root
        except BadInput:  # a damaged one is mended by joining again
            return False

    @asynccontextmanager
    async def custody(
        self, config: Config | None = None, *, reading: bool = False, looking: bool = False
    ) -> AsyncIterator[Custody]:
        """The node's admission and store, loaded; closed on leaving.

        Who is only `reading` is let in on a disk that can only be read, as a failing card becomes; then nothing is
        written. Who is only `looking` reads, and spares the set of all that is held, which only visits and exports
        need. Raises `StoreError`, also where a store was made before and its catalogue is gone.
        """
        member = self.member()
        config = config or self.config()
        writable = self.writable()
        if not (writable or reading or looking):
            raise self.read_only()
        known = self.store_mark.exists() or (self.public_folder / "checkpoint").exists()
        store = await open_store(
            self.store_folder,
            self.public_folder,
            config,
            member.identity,
            known=known,
            reading=not writable,
            looking=looking,
        )
        try:
            if writable and config.database is None and not self.store_mark.exists():
                write_durably(self.store_mark, _STORE_MADE)
            log = member.identity.node if member.identity.role is Role.RECEIVER else None
            custody = Custody(Admission(member.root), store, secrets.randbits(40), log)
            await custody.load()
            try:
                yield custody
            finally:
                await custody.close()
        finally:
            await store.close()

    def writable(self) -> bool:
        """Whether this process may write to the folder and to the store."""
        return all(os.access(one, os.W_OK) for one in (self.path, self.store_folder) if one.exists())

    @contextmanager
    def daemon_lock(self) -> Iterator[None]:
        """Held while the daemon runs. Raises `StoreError` when another one holds it, or nothing can be written."""
        if not self.writable():
            raise self.read_only()
        with self._lock("daemon.lock") as held:
            if not held:
                raise StoreError(
                    f"Another daemon runs on {self.path}", "Stop it first, or give this one its own --home."
                )
            yield

    def daemon_runs(self) -> bool:
        """Whether a daemon holds the folder now. Leaves no trace: the disk may be one that can only be read."""
        try:
            descriptor = os.open(self.path / "daemon.lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @asynccontextmanager
    async def chain_turn(self) -> AsyncIterator[None]:
        """Held while a statement is signed, so that two never take the same place in the device's chain: neither two
        processes nor two tasks of one. It is asked for again and again: waiting for it would stop the event loop."""
        while True:
            with self._lock("chain.lock") as held:
                if held:
                    yield
                    return
            await asyncio.sleep(CHAIN_SECONDS)

    def read_only(self) -> StoreError:
        """The error for a folder that this process cannot write to."""
        return StoreError(
            f"{self.path} cannot be written: its disk is read-only, or the folder belongs to somebody else",
            "Run as its owner. A card that fails turns read-only: `relay export` its packages, then replace it.",
        )

    @contextmanager
    def _lock(self, name: str) -> Iterator[bool]:
        with _explained(self.path):
            descriptor = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def _half_restored(self) -> BadInput:
        return BadInput(
            f"A restore into {self.path} was cut off, and this is no node yet",
            "Run it again, as it was, with the same folder: `relay restore` (a receiver's: `relay receiver restore`).",
        )

    def _check(self) -> None:
        if not self.key_file.exists() and self.restore_mark.exists():
            raise self._half_restored()
        if not self.key_file.exists():
            raise BadInput(f"There is no node in {self.path}", "Make one: relay init --home FOLDER --name NAME")


_JOIN_AGAIN = "Install this node's enrolment once more: relay join FILE."
_STORE_MADE = b"""This node's store was made. While this file is here, a store that is gone is not begun anew:
it would sign a second history. See docs/howto/backup-and-restore.md.
"""


def check_own(certificate: bytes, root: bytes, key: Ed25519PrivateKey) -> Identity:
    """Check that a certificate was issued under `root` for this key. Raises `BadInput`, `Malformed` or `Refused`."""
    identity = Admission(root).identify(certificate)
    if identity.node != node_id(key.public_key()):
        raise BadInput(
            f"The certificate is for another device (it names {identity.name})",
            "Install the enrolment that was made from this device's own request.pem.",
        )
    return identity


def read_pem_certificate(path: Path, advice: str = "Give the root.pem of the election.") -> bytes:
    """The DER of the first certificate in a PEM file. Raises `BadInput` with this advice."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(_read(path, MAX_REQUEST)).public_bytes(Encoding.DER)
    except (ValueError, x509.InvalidVersion) as error:
        raise BadInput(f"{path} is no PEM certificate", advice) from error


def _read(path: Path, limit: int) -> bytes:
    with _explained(path), path.open("rb") as file:
        return file.read(limit)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} cannot be used ({error.strerror})", "Check the folder, its owner and its disk."
        ) from error
