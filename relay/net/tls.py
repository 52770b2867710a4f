"""TLS 1.3 with both sides' certificates on every connection between nodes.

Lives here: the two contexts. Whom to accept is asked of admission, inside the handshake: a stranger and a node of
another election get no further, and a revoked node only as far as to be told so (promise 1). Certificate dates are not
checked (promise 9): the flag is X509_V_FLAG_NO_CHECK_TIME of OpenSSL, for which Python's `ssl` has no name.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from relay.errors import REVOKED, BadInput, Refused, RelayError
from relay.trust.certificates import Identity

_NO_CHECK_TIME = 0x200000

Identify = Callable[[bytes], Identity]
"""Admission's judgement of a DER certificate; raises what a user should know."""


def server_context(certificate: Path, key: Path, root: bytes, identify: Identify) -> ssl.SSLContext:
    """The context of the listening side. `root` is DER. Raises `BadInput` if the files do not belong together.

    A node that was revoked gets through the handshake, and no further: its one answer is why (see `server`).
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, certificate, key, root, identify, tells=True)
    context.num_tickets = 0  # a resumed session would skip the certificates
    return context


def client_context(certificate: Path, key: Path, root: bytes, identify: Identify) -> ssl.SSLContext:
    """The context of the visiting side. Nodes are known by their certificates, not by host names."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, root, identify)


def _context(
    protocol: int, certificate: Path, key: Path, root: bytes, identify: Identify, *, tells: bool = False
) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags = ssl.VerifyFlags(context.verify_flags | _NO_CHECK_TIME)
    context.load_verify_locations(cadata=root)
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise BadInput(
            f"The certificate {certificate.name} and the key {key.name} cannot be used together ({error})",
            "Install this node's own enrolment again with `relay join`.",
        ) from error
    context.sslobject_class = _judging(identify, tells)
    return context


def _judging(identify: Identify, tells: bool) -> type[ssl.SSLObject]:
    class JudgedConnection(ssl.SSLObject):
        """A connection whose handshake fails unless admission identifies the other side: `identity`."""

        identity: Identity | None = None
        barred = False
        """Whether it is a revoked node's, who is only told so."""

        def do_handshake(self) -> None:
            super().do_handshake()
            try:
                self.identity = identify(self.getpeercert(binary_form=True) or b"")
            except RelayError as error:
                self.barred = tells and isinstance(error, Refused) and error.reason == REVOKED
                if self.barred:
                    return
                raise ssl.SSLCertVerificationError(1, error.what) from error

    return JudgedConnection
