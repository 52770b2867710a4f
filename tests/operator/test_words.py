"""The operator's words: both languages say the same things, none is said nowhere, and one word means one thing."""

from __future__ import annotations

import errno
import json
import re
import string
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from relay.store.durable import disk_error
from relay.trust.roles import Role
from relay.web.operator.answers import explained
from relay.web.operator.view import SECTION_OF, moment

WEB = Path(__file__).parents[2] / "relay" / "web"
TEXTS: dict[str, dict[str, str]] = json.loads((WEB / "templates/operator/texts.json").read_text(encoding="utf-8"))
MADE_UP = {
    *(f"flag_{flag}" for flag in (*SECTION_OF, "incomplete", "negative-number")),
    *(f"role_{role}" for role in Role),
    *(f"step_{step}" for step in ("pictures", "numbers", "review")),
    *(f"part_{part}" for part in ("voters", "ballots")),
}
"""Keys that templates put together."""


def test_every_text_is_said_somewhere() -> None:
    folders = (WEB / "operator", WEB / "templates" / "operator")
    said = "\n".join(
        file.read_text(encoding="utf-8")
        for folder in folders
        for file in sorted(folder.iterdir())
        if file.suffix in (".py", ".html")
    )
    said += (WEB / "amounts.py").read_text(encoding="utf-8")
    keys = set(re.findall(r"\w+", said)) | MADE_UP | {"registered_voters"}
    assert [key for key in TEXTS["id"] if key not in keys] == [], "remove them"
    uses = set(re.findall(r"\bt\.(\w+)", said)) - {"get"}
    assert [key for key in uses if key not in TEXTS["id"]] == [], "say them"


def test_both_languages_say_the_same_with_the_same_values() -> None:
    assert list(TEXTS["id"]) == list(TEXTS["en"])
    for key, text in TEXTS["id"].items():
        assert _holes(text) == _holes(TEXTS["en"][key]), key


def test_a_correction_has_one_name() -> None:
    """Koreksi; what is mistyped before it is sent is something else."""
    assert [text for text in TEXTS["id"].values() if "erbaik" in text] == []
    assert [text for text in TEXTS["id"].values() if "nomor log" in text] == []


def test_a_time_that_no_calendar_has_is_shown_as_it_is_claimed() -> None:
    assert [moment(claim) for claim in (0, -(2**61), 2**61)] == ["", "", str(2**61)]
    assert moment(1_700_000_000).endswith("-11-2023 " + moment(1_700_000_000)[-5:])


def _holes(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_a_full_disk_is_told_to_the_phone_without_its_path(caplog: pytest.LogCaptureFixture) -> None:
    """A path is wider than a phone, and nobody there can do anything with it; the log has it."""
    request = make_mocked_request("POST", "/operator/drafts/00/numbers", headers={"Accept-Language": "id"})
    full = disk_error(OSError(errno.ENOSPC, "No space left on device"), Path("/srv/relay/drafts/00/draft.json"))
    answer = explained(request, full)
    told = json.loads(answer.text or "")
    assert answer.status == 507
    assert told["title"] == "Kotak penuh"
    assert told["detail"] == "Jangan hapus apa pun; hubungi pengelola kotak."
    assert "/srv" not in (answer.text or "") and "/srv/relay/drafts/00/draft.json" in caplog.text
