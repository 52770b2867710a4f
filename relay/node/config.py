"""`config.toml`: every key, its type, its default. docs/reference/config.md says the same for users.

Pure: text in, `Config` out. An unknown key or a value of a wrong type is an error that names it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.errors import BadInput
from relay.limits import DEFAULT_RETENTION, KIB, MAX_CONFIG, MAX_PEERS, MAX_URL
from relay.records.notice import is_receiver_url
from relay.store.quota import QUOTA, QUOTA_AT_RECEIVER, Quota
from relay.trust.roles import Role

_ADVICE = "Correct config.toml (docs/reference/config.md lists the keys) and start again."
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%\w-]+\]|[\w.-]+):\d{1,5}", re.ASCII)
_PLACE = re.compile(r"https?://[\w.:\[\]-]+(/[\w.~/-]*)?", re.ASCII)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", re.ASCII)
_AMOUNT = re.compile(r"(\d{1,15})\s*([a-z]*)", re.ASCII)
_SIZE_UNITS = {"": 1, "b": 1} | {
    letter + ending: KIB**power for power, letter in enumerate("kmgt", 1) for ending in ("", "b", "ib")
}
_TIME_UNITS = {"": 1} | {
    word: seconds
    for seconds, words in {
        1: ("s", "second", "seconds"),
        60: ("min", "minute", "minutes"),
        3_600: ("h", "hour", "hours"),
        86_400: ("d", "day", "days"),
        604_800: ("w", "week", "weeks"),
    }.items()
    for word in words
}
_MOST = 1 << 53
"""No amount is larger; every program can read such a number."""


@dataclass(frozen=True, slots=True)
class Config:
    """How a node is set up. Addresses are `host:port`; sizes are bytes, times seconds."""

    listen: str = "[::]:8470"
    console: str = "127.0.0.1:8471"
    board: str | None = None
    public: str = "0.0.0.0:8480"
    operator: str | None = None
    operator_certificate: str | None = None
    operator_key: str | None = None
    discovery: bool = True
    interfaces: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    witnesses: tuple[str, ...] = ()
    database: str | None = None
    bucket: str | None = None
    bucket_endpoint: str | None = None
    bucket_region: str | None = None
    storage_limit: int | None = None
    retention: int = DEFAULT_RETENTION
    quota_bytes: int | None = None
    quota_statements: int | None = None

    def idle(self, role: Role) -> tuple[str, ...]:
        """The settings here that do nothing at a node of this role: pages that only another one has."""
        operator = role is not Role.OPERATOR and self.operator is not None
        public = role is not Role.RECEIVER and self.public != Config().public
        return (*(("operator",) if operator else ()), *(("public",) if public else ()))

    def quota(self, *, at_receiver: bool) -> Quota:
        """What is taken of one signer: the configured amounts, or those of the role."""
        usual = QUOTA_AT_RECEIVER if at_receiver else QUOTA
        return Quota(
            usual.bytes if self.quota_bytes is None else self.quota_bytes,
            usual.statements if self.quota_statements is None else self.quota_statements,
        )


def parse_config(text: bytes) -> Config:
    """Read a configuration. Raises `BadInput` naming the key that is wrong."""
    if len(text) > MAX_CONFIG:
        raise BadInput(f"config.toml is over {MAX_CONFIG} bytes", _ADVICE)
    try:
        document = tomllib.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(f"config.toml is not TOML ({error})", _ADVICE) from error
    return read_config(document)


def read_config(document: Mapping[str, Any]) -> Config:
    """A configuration from decoded TOML. Raises `BadInput`."""
    if unknown := sorted(set(document) - set(_READERS)):
        raise BadInput(f"config.toml has the unknown key {unknown[0][:80]!r}", _ADVICE)
    return Config(**{key: _READERS[key](key, value) for key, value in document.items()})


def _wrong(key: str, expected: str) -> BadInput:
    return BadInput(f"config.toml: {key} is not {expected}", _ADVICE)


def _address(key: str, value: object) -> str:
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise _wrong(key, 'an address such as "[::]:8470"')
    if not 0 <= int(value.rpartition(":")[2]) < 65_536:
        raise _wrong(key, "an address with a port up to 65535")
    return value


def _file(key: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_URL or "\0" in value:
        raise _wrong(key, "the path of a file")
    return value


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(key, "true or false")
    return value


def _texts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_PEERS or not all(isinstance(item, str) for item in value):
        raise _wrong(key, f"a list of at most {MAX_PEERS} texts")
    return tuple(value)


def _addresses(key: str, value: object) -> tuple[str, ...]:
    return tuple(_address(key, item) for item in _texts(key, value))


def _urls(key: str, value: object) -> tuple[str, ...]:
    urls = _texts(key, value)
    if not all(is_receiver_url(url) for url in urls):
        raise _wrong(key, 'a list of addresses such as "https://receiver.example:8470"')
    return tuple(url.rstrip("/") for url in urls)


def _places(key: str, value: object) -> tuple[str, ...]:
    places = _texts(key, value)
    if not all(_PLACE.fullmatch(place) and len(place) <= MAX_URL for place in places):
        raise _wrong(key, 'a list of addresses such as "https://witness.example/w1"')
    return tuple(place.rstrip("/") for place in places)


def _place(key: str, value: object) -> str:
    if not isinstance(value, str) or not _PLACE.fullmatch(value) or len(value) > MAX_URL:
        raise _wrong(key, 'an address such as "https://s3.example"')
    return value.rstrip("/")


def _database(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.startswith(("postgresql://", "postgres://")) or len(value) > MAX_URL:
        raise _wrong(key, 'the URL of a database such as "postgresql://relay@db.example/relay"')
    return value


def _bucket(key: str, value: object) -> str:
    if not isinstance(value, str) or not _BUCKET.fullmatch(value):
        raise _wrong(key, 'a name of letters, digits, dots and dashes such as "election-2026"')
    return value


def _amount(units: Mapping[str, int], expected: str) -> Callable[[str, object], int]:
    def read(key: str, value: object) -> int:
        amount = value if isinstance(value, int) and not isinstance(value, bool) else None
        match = _AMOUNT.fullmatch(value.strip().lower()) if isinstance(value, str) else None
        if match is not None and match[2] in units:
            amount = int(match[1]) * units[match[2]]
        if amount is None or not 0 <= amount <= _MOST:
            raise _wrong(key, expected)
        return amount

    return read


_size = _amount(_SIZE_UNITS, 'a number of bytes or a text such as "8 GiB"')
_time = _amount(_TIME_UNITS, 'a number of seconds or a text such as "90 days"')

_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "listen": _address,
    "console": _address,
    "board": _address,
    "public": _address,
    "operator": _address,
    "operator_certificate": _file,
    "operator_key": _file,
    "discovery": _flag,
    "interfaces": _texts,
    "peers": _addresses,
    "receivers": _urls,
    "witnesses": _places,
    "database": _database,
    "bucket": _bucket,
    "bucket_endpoint": _place,
    "bucket_region": _bucket,
    "storage_limit": _size,
    "retention": _time,
    "quota_bytes": _size,
    "quota_statements": _amount({"": 1}, "a whole number"),
}
