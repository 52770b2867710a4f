"""What people are told of the way to the receiver."""

from __future__ import annotations

import base64
import json

import pytest

from relay.cli.status import span, uplink_line
from relay.errors import Refused
from relay.limits import CONTACT_SECONDS
from relay.net.client import _named
from relay.net.server import problem
from relay.node.report import all_delivered
from relay.node.uplink import UPLINK, Uplink, read_uplink, tried
from relay.web.amounts import way
from relay.web.pages import texts

URL = "https://receiver.example:8470"


def test_the_first_failure_and_the_last_success_are_kept() -> None:
    first = tried(None, URL, "", 100)
    failing = tried(tried(first, URL, "gone", 200), URL, "still gone", 300)
    assert (failing.reached_at, failing.failing_since, failing.trouble) == (100, 200, "still gone")
    assert tried(failing, URL, "", 400) == Uplink(URL, True, "", 400, 400, None)
    assert tried(None, URL, "gone", 50) == Uplink(URL, False, "gone", 50, None, 50)


def test_it_survives_its_note() -> None:
    uplink = tried(tried(None, URL, "", 100), URL, "gone", 200)
    assert read_uplink({UPLINK: uplink.to_note()}) == uplink
    assert read_uplink({}) is None


def test_a_note_of_an_earlier_version_is_understood() -> None:
    earlier = json.dumps({"url": URL, "reachable": True, "trouble": "", "at": 100})
    assert read_uplink({UPLINK: earlier}) == Uplink(URL, True, "", 100, 100, None)


@pytest.mark.parametrize(
    ("uplink", "now", "said"),
    [
        (None, 0, "none yet"),
        (Uplink(URL, True, "", 100, 100), 112, f"{URL} reached 12 s ago"),
        (Uplink(URL, True, "", 100, 100), 100 + CONTACT_SECONDS, f"{URL} last reached 1 min ago"),
        (Uplink(URL, False, "x", 200, 100, 200), 500, f"{URL} out of reach for 5 min, last reached 6 min ago"),
        (Uplink(URL, False, "x", 200, None, 200), 7_500, f"{URL} out of reach for 2 h 1 min, never reached"),
        (Uplink(URL, True, "", 100, 100), 50, f"{URL} reached 0 s ago"),  # the clock was set back
    ],
)
def test_what_the_terminal_says(uplink: Uplink | None, now: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert uplink_line(uplink, now)[0] == said
    assert span(-1) == "0 s"


@pytest.mark.parametrize("words", ["texts.json", "operator/texts.json"])
def test_what_the_pages_say(words: str) -> None:
    failing = Uplink(URL, False, "x", 200, 100, 200)
    assert (
        way(failing, 500, "id", texts(words)["id"]) == "tidak terjangkau selama 5 mnt; terakhir tersambung 6 mnt lalu"
    )
    assert way(failing, 500, "en", texts(words)["en"]) == "out of reach for 5 min; last reached 6 min ago"
    assert way(Uplink(URL, True, "", 100, 100), 130, "en", texts(words)["en"]) == "reached 30 s ago"


@pytest.mark.parametrize("uplink", [None, Uplink(URL, False, "x", 200, None, 200)])
def test_nobody_is_alarmed_where_others_delivered_everything(
    uplink: Uplink | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    for words in ("texts.json", "operator/texts.json"):
        said = way(uplink, 500, "en", texts(words)["en"], all_delivered=True)
        assert "delivered every package" in said and "never" not in said
    text, colour = uplink_line(uplink, 500, all_delivered=True)
    assert "delivered everything" in text and "never" not in text and colour == "green"
    failing = Uplink(URL, False, "x", 200, 100, 200)  # it was reached before: that is worth knowing
    assert "last reached 6 min ago" in uplink_line(failing, 500, all_delivered=True)[0]


def test_everything_is_delivered_only_where_there_was_something() -> None:
    assert all_delivered({"delivered": 1, "waiting": 0, "partial": 0})
    for counts in ((0, 0, 0), (1, 1, 0), (1, 0, 1)):
        assert not all_delivered(dict(zip(("delivered", "waiting", "partial"), counts, strict=True)))


def test_a_refusal_brings_its_evidence_along() -> None:
    answer = problem(Refused("revoked", "It is revoked", "Ask.", b"\x00notice"))
    document = json.loads(answer.text or "")
    error = _named(document, 403, "It is revoked", "Ask.")
    assert isinstance(error, Refused) and error.evidence == b"\x00notice"
    for junk in ("?", 7, None, base64.b64encode(b"x").decode() + "=="):
        unproved = _named({**document, "evidence": junk}, 403, "It is revoked", "Ask.")
        assert isinstance(unproved, Refused) and b"notice" not in unproved.evidence
