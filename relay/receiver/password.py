"""The administrator's password: what is kept of it (scrypt, RFC 7914), and whether one is right."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path

from relay.errors import BadInput
from relay.limits import KIB, MAX_PASSWORD, MIB, MIN_PASSWORD
from relay.store.durable import explained, write_durably

FILE = "admin-password.json"
_N, _R, _P = 1 << 15, 8, 3
"""32 MiB and a quarter of a second for each guess."""


def set_password(folder: Path, password: str) -> Path:
    """Keep a password's hash in a receiver's folder. Raises `BadInput` for one that is too short."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise BadInput(
            f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters",
            "Four or five words that do not belong together.",
        )
    salt = secrets.token_bytes(16)
    kept = {"scrypt": [_N, _R, _P], "salt": salt.hex(), "hash": _hash(password, salt, _N, _R, _P).hex()}
    write_durably(folder / FILE, json.dumps(kept).encode(), mode=0o600)
    return folder / FILE


def has_password(folder: Path) -> bool:
    """Whether one was set."""
    return (folder / FILE).exists()


def is_right(folder: Path, password: str) -> bool:
    """Whether this is the password; slow on purpose, in constant time. False where none was set. Raises `BadInput`."""
    file = folder / FILE
    if not file.exists() or len(password) > MAX_PASSWORD:
        return False
    with explained(file):
        text = file.read_bytes()[: 4 * KIB]
    try:
        kept = json.loads(text)
        n, r, p = (int(one) for one in kept["scrypt"])
        salt, expected = bytes.fromhex(kept["salt"]), bytes.fromhex(kept["hash"])
        found = _hash(password, salt, n, r, p)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{file} is damaged", "Set the password again: relay receiver password") from error
    return hmac.compare_digest(found, expected)


def _hash(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "replace"), salt=salt, n=n, r=r, p=p, maxmem=64 * MIB, dklen=32)
