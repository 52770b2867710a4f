"""config.toml: every key, its values, and what is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput
from relay.limits import DEFAULT_RETENTION, GIB, KIB, MAX_CONFIG, MAX_PEERS, MIB
from relay.node.config import Config, parse_config, read_config
from relay.trust.roles import Role

DAY = 86_400


def test_an_empty_file_is_the_defaults() -> None:
    assert parse_config(b"") == Config()
    assert Config().retention == DEFAULT_RETENTION == 90 * DAY


def test_settings_that_do_nothing_at_a_role_are_known() -> None:
    """They are named at the start: whoever set them waits for a page that nobody serves."""
    config = Config(public="0.0.0.0:80", operator="[::]:8472")
    assert config.idle(Role.CARRIER) == ("operator", "public")
    assert config.idle(Role.OPERATOR) == ("public",)
    assert config.idle(Role.RECEIVER) == ("operator",)
    assert Config().idle(Role.CARRIER) == ()


def test_every_key() -> None:
    text = b"""
        listen = "[::1]:9000"
        console = "127.0.0.1:0"
        public = "relay.example:80"
        discovery = false
        interfaces = ["wlan0", "eth0"]
        peers = ["[fe80::1%wlan0]:8470", "km-bahari.local:8470"]
        receivers = ["https://receiver.example:8470/", "https://[2001:db8::1]:8470"]
        storage_limit = "8 GiB"
        retention = "2 weeks"
        quota_bytes = 1_000_000
        quota_statements = 12
    """
    assert parse_config(text) == Config(
        listen="[::1]:9000",
        console="127.0.0.1:0",
        public="relay.example:80",
        discovery=False,
        interfaces=("wlan0", "eth0"),
        peers=("[fe80::1%wlan0]:8470", "km-bahari.local:8470"),
        receivers=("https://receiver.example:8470", "https://[2001:db8::1]:8470"),
        storage_limit=8 * GIB,
        retention=14 * DAY,
        quota_bytes=1_000_000,
        quota_statements=12,
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("17", 17),
        ("17 b", 17),
        ("3k", 3 * KIB),
        ("3 KB", 3 * KIB),
        ("3 KiB", 3 * KIB),
        ("5M", 5 * MIB),
        (" 8 GiB ", 8 * GIB),
        ("2 TB", 2048 * GIB),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert read_config({"storage_limit": text}).storage_limit == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45", 45),
        ("45s", 45),
        ("10 min", 600),
        ("1 hour", 3600),
        ("36h", 36 * 3600),
        ("90 days", 90 * DAY),
        ("1w", 7 * DAY),
    ],
)
def test_times(text: str, seconds: int) -> None:
    assert read_config({"retention": text}).retention == seconds


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retention", "1 year"),  # not one second
        ("retention", "3 months"),  # not three minutes
        ("retention", "3 m"),
        ("retention", "soon"),
        ("retention", "-1"),
        ("retention", -1),
        ("retention", 1.5),
        ("retention", True),
        ("retention", 10**30),
        ("storage_limit", "8 gigs"),
        ("storage_limit", "8 bb"),
        ("storage_limit", "\u0668 GiB"),
        ("storage_limit", "9" * 15 + " TiB"),
        ("quota_statements", "7 GiB"),
        ("listen", "8470"),
        ("listen", "[::]:65536"),
        ("listen", "[::]:\u0668"),
        ("listen", "[::]:8470\n"),
        ("listen", 8470),
        ("peers", "km-bahari:8470"),
        ("peers", ["km-bahari"]),
        ("peers", ["km-bahari:1"] * (MAX_PEERS + 1)),
        ("receivers", ["http://receiver.example"]),
        ("receivers", ["https://user@receiver.example"]),
        ("receivers", ["https://"]),
        ("interfaces", [1]),
        ("discovery", "yes"),
        ("discovery", 1),
    ],
)
def test_promise_10_a_wrong_value_is_named_by_its_key(key: str, value: object) -> None:
    with pytest.raises(BadInput, match=f"config.toml: {key} is not"):
        read_config({key: value})


def test_promise_10_an_unknown_key_is_named() -> None:
    with pytest.raises(BadInput, match="'listn'"):
        parse_config(b'listn = "[::]:8470"')


@pytest.mark.parametrize("text", [b"listen", b"\xff", b"a" * (MAX_CONFIG + 1), b"[" * 5_000, b"a = 1\na = 2"])
def test_promise_10_what_is_not_toml_is_bad_input(text: bytes) -> None:
    with pytest.raises(BadInput):
        parse_config(text)


@given(st.text() | st.dictionaries(st.sampled_from(sorted(Config.__dataclass_fields__)), st.text()).map(repr))
def test_promise_10_any_text_is_a_config_or_bad_input(text: str) -> None:
    try:
        parse_config(text.encode("utf-8", "replace"))
    except BadInput:
        return
