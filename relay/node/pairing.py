"""Which phones may use this node's page: offers to pair, and the phones that took one.

An offer has two secrets: one of 130 bits in a link (a QR code), and one of 40 bits that people can type. Whoever shows
either one becomes a paired phone and gets a token for its cookie; then the offer is gone. An offer on the screen lasts
minutes; one on a printed sheet lasts until it is used, or until it is withdrawn.

What is kept is `pairing.json` in the node's folder, and in it only hashes. The command line and the daemon share the
file under a lock. Minutes are counted on the monotonic clock of one boot (promise 9): an offer ends with a restart.
Does not live here: how fast strangers may guess (`Attempts` says it, the page obeys), cookies and pages.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relay.errors import BadInput, StoreError
from relay.limits import (
    MAX_OFFERS,
    MAX_PAIRING,
    MAX_PHONE_NAME,
    MAX_PHONES,
    PAIRING_FIRST_WAIT_SECONDS,
    PAIRING_GUESSES,
    PAIRING_GUESSES_SECONDS,
    PAIRING_MAX_WAIT_SECONDS,
    PAIRING_SECONDS,
    PAIRING_SOURCES,
)
from relay.records.identifiers import sha256
from relay.store.durable import explained, write_durably

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's: no letter that can be taken for a digit."""
SHORT, LONG = 8, 26
_READ = 64
"""Characters of a code that are looked at."""
_MISREAD = str.maketrans("OIL", "011")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Offer:
    """The two secrets of an offer as they are shown, once: `link` for a QR code, `short` for people."""

    link: str
    short: str

    @property
    def spoken(self) -> str:
        """The short code as people read it: `K7QM-2XD9`."""
        return f"{self.short[:4]}-{self.short[4:]}"


@dataclass(frozen=True, slots=True)
class Phone:
    """A paired phone; `id` is what it is unpaired by, `paired_at` is this device's clock: a claim."""

    id: str
    name: str
    paired_at: int
    token: str
    """The hash of its token, in hex."""


class Pairing:
    """Offers and phones of the node in `folder`. `clock` is monotonic, the same for all processes of one `boot`."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic, boot: str | None = None) -> None:
        self._file = folder / "pairing.json"
        self._lock_file = folder / "pairing.lock"
        self._clock = clock
        self._boot = this_boot() if boot is None else boot

    def offer(self, *, sheet: bool = False) -> Offer:
        """Make an offer: for `PAIRING_SECONDS`, or with `sheet` until it is used.

        Of too many on screens the oldest one ends; of too many sheets none does: raises `BadInput`, since each of them
        lies somewhere on paper.
        """
        made = Offer(_secret(LONG), _secret(SHORT))
        with self._changing() as state:
            entry = {"link": _hashed(made.link), "short": _hashed(made.short), "sheet": sheet, "boot": self._boot}
            entry["until"] = self._clock() + PAIRING_SECONDS
            offers = [one for one in state["offers"] if self._stands(one) and one["sheet"] == sheet]
            others = [one for one in state["offers"] if self._stands(one) and one["sheet"] != sheet]
            if sheet and len(offers) >= MAX_OFFERS:
                raise BadInput(
                    f"{MAX_OFFERS} printed sheets wait to be used", "Use one, or end them all: relay pair --withdraw"
                )
            state["offers"] = [*others, *offers[-(MAX_OFFERS - 1) :], entry]
        return made

    def withdraw(self) -> None:
        """End every offer."""
        with self._changing() as state:
            state["offers"] = []

    def redeem(self, code: str, name: str, now: int) -> str | None:
        """Pair a phone that shows one of the codes: its token; None for a wrong code.

        Raises `BadInput` when no more phones can be paired; then the offer stands.
        """
        code = normal(code)
        if self._taken(self._read(), code) is None:  # strangers who guess never hold the lock
            return None
        with self._changing() as state:
            offer = self._taken(state, code)
            if offer is None:
                return None
            if len(state["phones"]) >= MAX_PHONES:
                raise BadInput(f"{MAX_PHONES} phones are paired already", "Unpair one: relay pair --unpair ID")
            token = secrets.token_urlsafe(32)
            name = "".join(c for c in name if c.isprintable()).strip()[:MAX_PHONE_NAME] or "?"
            phone = Phone(secrets.token_hex(4), name, now, _hashed(token))
            state["offers"].remove(offer)
            state["phones"].append(asdict(phone))
        return token

    def phone(self, token: str) -> Phone | None:
        """The paired phone whose token this is. Every one is compared, in constant time."""
        hashed, found = _hashed(token[:128]), None
        for phone in self.phones():
            if hmac.compare_digest(phone.token, hashed):
                found = phone
        return found

    def phones(self) -> list[Phone]:
        """The paired phones, in the order of their pairing."""
        return [Phone(**one) for one in self._read()["phones"]]

    def unpair(self, phone_id: str) -> bool:
        """Forget a phone; whether there was one of this id."""
        with self._changing() as state:
            kept = [one for one in state["phones"] if one["id"] != phone_id]
            found = len(kept) < len(state["phones"])
            state["phones"] = kept
        return found

    def _taken(self, state: dict[str, Any], code: str) -> dict[str, Any] | None:
        hashed, found = _hashed(code), None
        for one in state["offers"]:
            fits = hmac.compare_digest(one["link"], hashed) | hmac.compare_digest(one["short"], hashed)
            if fits and self._stands(one):
                found = one
        return found

    def _stands(self, offer: dict[str, Any]) -> bool:
        left = offer["until"] - self._clock()
        return bool(offer["sheet"] or (offer["boot"] == self._boot and 0 < left <= PAIRING_SECONDS))

    def _read(self) -> dict[str, Any]:
        try:
            with self._file.open("rb") as file:
                text = file.read(MAX_PAIRING + 1)
            state = json.loads(text)
            return {"offers": list(state["offers"]), "phones": list(state["phones"])}
        except FileNotFoundError:
            return {"offers": [], "phones": []}
        except OSError as error:
            raise StoreError(f"{self._file} cannot be read ({error.strerror})", "Check its owner.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self._file} is damaged", "Delete it, and pair the phones again.") from error

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """The state, written durably on leaving unless an error left it."""
        with explained(self._lock_file):
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            state = self._read()
            yield state
            write_durably(self._file, json.dumps(state, indent=1).encode(), mode=0o600)
        finally:
            os.close(descriptor)


class Attempts:
    """How fast short codes may be guessed. Pure: `now` is monotonic seconds.

    A source that was wrong waits, twice as long each time; and all sources together have `PAIRING_GUESSES` wrong
    guesses in `PAIRING_GUESSES_SECONDS`, so that a crowd of addresses gains nothing. Links are too long to guess: they
    need none of this, and a stranger who guesses all night keeps nobody from scanning.
    """

    def __init__(self) -> None:
        self._sources: dict[str, tuple[int, float]] = {}
        self._wrong: list[float] = []

    def wait(self, source: str, now: float) -> float:
        """Seconds until `source` may try; 0 means now."""
        self._wrong = [at for at in self._wrong if now - at < PAIRING_GUESSES_SECONDS]
        count, last = self._sources.get(source, (0, now))
        pause = min(PAIRING_FIRST_WAIT_SECONDS * 2 ** (count - 1), PAIRING_MAX_WAIT_SECONDS) if count else 0.0
        crowd = self._wrong[0] + PAIRING_GUESSES_SECONDS - now if len(self._wrong) >= PAIRING_GUESSES else 0.0
        return max(0.0, last + pause - now, crowd)

    def failed(self, source: str, now: float) -> None:
        """A source was wrong."""
        count, _ = self._sources.pop(source, (0, now))
        self._sources[source] = (min(count + 1, 32), now)
        self._wrong.append(now)
        while len(self._sources) > PAIRING_SOURCES:
            del self._sources[next(iter(self._sources))]

    def succeeded(self, source: str) -> None:
        """A source was right."""
        self._sources.pop(source, None)


def normal(code: str) -> str:
    """A code as it was meant: capitals, without spaces and hyphens, letters that look like digits read as those."""
    plain = re.sub(r"[\s-]", "", code[:_READ]).upper()
    return plain[:_READ].translate(_MISREAD)  # a capital may be two letters: of ß it is SS


def _secret(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _hashed(secret: str) -> str:
    return sha256(b"relay pairing\0" + secret.encode("utf-8", "replace")).hex()


def this_boot() -> str:
    """What tells this boot of the device from others; empty where the kernel does not say."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""
