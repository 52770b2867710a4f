"""Offers, phones and guesses: what `relay.node.pairing` promises, without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.cli.sheet import Sheet
from relay.errors import BadInput, StoreError
from relay.limits import (
    MAX_OFFERS,
    MAX_PHONES,
    PAIRING_GUESSES,
    PAIRING_GUESSES_SECONDS,
    PAIRING_MAX_WAIT_SECONDS,
    PAIRING_SECONDS,
)
from relay.node.pairing import LONG, SHORT, Attempts, Offer, Pairing, normal


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Somewhere after the boot."""
    return Clock()


@pytest.fixture
def pairing(tmp_path: Path, clock: Clock) -> Pairing:
    """The pairing of an empty folder."""
    return Pairing(tmp_path, clock, "boot-1")


def test_either_code_pairs_one_phone(pairing: Pairing) -> None:
    """And the other code is gone with it."""
    for pick in ("link", "short", "spoken"):
        offer = pairing.offer()
        token = pairing.redeem(getattr(offer, pick), "phone", 1_700_000_000)
        assert token is not None
        phone = pairing.phone(token)
        assert phone is not None and phone.name == "phone"
        assert pairing.redeem(offer.short, "x", 0) is None
        assert pairing.redeem(offer.link, "x", 0) is None
    assert len({phone.id for phone in pairing.phones()}) == 3


def test_codes_are_read_as_they_are_meant(pairing: Pairing) -> None:
    """Small letters, spaces, hyphens, and letters that look like digits."""
    offer = pairing.offer()
    typed = f" {offer.short[:4].lower()} - {offer.short[4:].replace('0', 'o').replace('1', 'l')} "
    assert normal(typed) == offer.short
    assert pairing.redeem(typed, "phone", 0) is not None
    assert (len(offer.short), len(offer.link)) == (SHORT, LONG)


@given(st.text(max_size=100))
@example("0" * 63 + "ß")
def test_any_text_is_a_code(text: str) -> None:
    """Strangers type what they like."""
    assert normal(normal(text)) == normal(text)


def test_an_offer_ends_after_minutes_and_with_the_boot(pairing: Pairing, clock: Clock, tmp_path: Path) -> None:
    """Counted without a wall clock; the printed one stays until it is used or withdrawn."""
    screen, sheet = pairing.offer(), pairing.offer(sheet=True)
    rebooted = Pairing(tmp_path, clock, "boot-2")
    assert rebooted.redeem(screen.link, "x", 0) is None
    clock.now += PAIRING_SECONDS + 1
    assert pairing.redeem(screen.link, "x", 0) is None
    assert rebooted.redeem(sheet.short, "x", 0) is not None
    sheet = pairing.offer(sheet=True)
    pairing.withdraw()
    assert pairing.redeem(sheet.short, "x", 0) is None


def test_the_oldest_of_too_many_offers_ends(pairing: Pairing) -> None:
    """Sheets and screens do not crowd each other out."""
    sheet = pairing.offer(sheet=True)
    offers = [pairing.offer() for _ in range(MAX_OFFERS + 1)]
    assert pairing.redeem(offers[0].link, "x", 0) is None
    assert pairing.redeem(offers[1].link, "x", 0) is not None
    assert pairing.redeem(sheet.link, "x", 0) is not None


def test_no_printed_sheet_ends_another_one(pairing: Pairing) -> None:
    """Each of them lies somewhere, to be used some day; one too many is refused until one is used."""
    sheets = [pairing.offer(sheet=True) for _ in range(MAX_OFFERS)]
    with pytest.raises(BadInput, match="sheets wait"):
        pairing.offer(sheet=True)
    assert pairing.redeem(sheets[0].link, "x", 0) is not None
    pairing.offer(sheet=True)
    assert all(pairing.redeem(sheet.link, "x", 0) is not None for sheet in sheets[1:])


def test_there_are_so_many_phones_and_no_more(pairing: Pairing) -> None:
    """The offer stands, and works once one is unpaired."""
    tokens = [pairing.redeem(pairing.offer().link, str(n), n) for n in range(MAX_PHONES)]
    offer = pairing.offer()
    with pytest.raises(BadInput, match="paired already"):
        pairing.redeem(offer.link, "one more", 0)
    assert pairing.unpair(pairing.phones()[0].id)
    assert not pairing.unpair("nobody")
    assert pairing.phone(str(tokens[0])) is None
    assert pairing.phone(str(tokens[1])) is not None
    assert pairing.redeem(offer.link, "one more", 0) is not None


def test_a_name_is_only_text(pairing: Pairing) -> None:
    """What a browser says of itself ends up in lists and terminals."""
    assert pairing.redeem(pairing.offer().link, "\x1b[31mred\n" + "x" * 500, 0)
    (phone,) = pairing.phones()
    assert phone.name.isprintable() and len(phone.name) <= 60


def test_a_damaged_file_is_told(pairing: Pairing, tmp_path: Path) -> None:
    """It opens no door."""
    (tmp_path / "pairing.json").write_text('{"offers": 7}')
    with pytest.raises(StoreError, match="damaged"):
        pairing.phone("x")


def test_a_source_waits_longer_each_time() -> None:
    """Doubling up to a limit; being right ends it."""
    attempts, now = Attempts(), 0.0
    waits = []
    for _ in range(9):
        attempts.failed("a", now)
        waits.append(attempts.wait("a", now))
        now += 100.0
    assert waits[:3] == [1.0, 2.0, 4.0]
    assert waits[-1] == PAIRING_MAX_WAIT_SECONDS
    assert attempts.wait("b", now) == 0
    attempts.succeeded("a")
    assert attempts.wait("a", now) == 0


def test_a_crowd_is_one_guesser() -> None:
    """A thousand addresses have no more guesses than one."""
    attempts, tried, now = Attempts(), 0, 0.0
    for n in range(20_000):
        now = n * 0.01
        if attempts.wait(f"source-{n}", now) == 0:
            attempts.failed(f"source-{n}", now)
            tried += 1
    assert tried <= PAIRING_GUESSES * (now / PAIRING_GUESSES_SECONDS + 1)
    chance = tried / now * PAIRING_SECONDS / 32**SHORT
    assert chance < 1e-8


def test_a_sheet_says_it_in_both_languages() -> None:
    """Every step, the address and the code; the Wi-Fi and the certificate where they are known."""
    offer = Offer("K" * 26, "K7QM2XD9")
    plain = Sheet("pulau-long", "http://10.55.0.1:8472", offer).html("http://10.55.0.1:8472/operator/pair?code=K")
    assert plain.count("<section") == 2 and 'lang="en"' in plain and 'lang="id"' in plain
    assert "http://10.55.0.1:8472/operator" in plain and "K7QM-2XD9" in plain
    assert "SHA-256" not in plain and "memberi peringatan" not in plain
    whole = Sheet("<box>", "https://10.55.0.1:8472", offer, "<relay>", "AA:BB").html("x")
    for said in ("Wi-Fi <b>&lt;relay&gt;</b>", "&lt;box&gt;", "AA:BB", "memberi peringatan", "The browser warns once"):
        assert said in whole
    assert "<box>" not in whole and "<relay>" not in whole
