"""`config.toml`: every key, its type, its default. docs/reference/config.md says the same for users.

Pure: text in, `Config` out. An unknown key or a value of a wrong type is an error that names it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.errors import BadInput
from relay.limits import DEFAULT_RETENTION, GIB, KIB, MAX_CONFIG, MAX_PEERS, MIB, QUOTA_BYTES, QUOTA_STATEMENTS
from relay.records.notice import is_receiver_url

_ADVICE = "Correct config.toml (docs/reference/config.md lists the keys) and start again."
_SIZE_UNITS = {"": 1, "b": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1024 * GIB}
_TIME_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True)
class Config:
    """How a node is set up. Addresses are `host:port`; sizes are bytes, times seconds."""

    listen: str = "[::]:8470"
    console: str = "127.0.0.1:8471"
    public: str = "0.0.0.0:8480"
    discovery: bool = True
    interfaces: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    storage_limit: int | None = None
    retention: int = DEFAULT_RETENTION
    quota_bytes: int = field(default=QUOTA_BYTES)
    quota_statements: int = field(default=QUOTA_STATEMENTS)


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
    if not isinstance(value, str) or not re.fullmatch(r"(\[[0-9A-Fa-f:.%\w-]+\]|[\w.-]+):\d{1,5}", value):
        raise _wrong(key, 'an address such as "[::]:8470"')
    if not 0 <= int(value.rpartition(":")[2]) < 65_536:
        raise _wrong(key, "an address with a port up to 65535")
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


def _amount(units: Mapping[str, int], pattern: str, expected: str) -> Callable[[str, object], int]:
    def read(key: str, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        match = re.fullmatch(pattern, value.strip().lower()) if isinstance(value, str) else None
        if match is None:
            raise _wrong(key, expected)
        return int(match[1]) * units[match[2]]

    return read


_size = _amount(_SIZE_UNITS, r"(\d{1,15})\s*([kmgtb]?)(?:i?b)?", 'a number of bytes or a text such as "8 GiB"')
_time = _amount(_TIME_UNITS, r"(\d{1,9})\s*([smhdw]?)[a-z]*", 'a number of seconds or a text such as "90 days"')

_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "listen": _address,
    "console": _address,
    "public": _address,
    "discovery": _flag,
    "interfaces": _texts,
    "peers": _addresses,
    "receivers": _urls,
    "storage_limit": _size,
    "retention": _time,
    "quota_bytes": _size,
    "quota_statements": _amount({"": 1}, r"(\d{1,9})()", "a whole number"),
}
