"""A device that signs more than one page can list: none of it is hidden, and no page of it is heavy."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.limits import KIB, SITE_FLAG_STATEMENTS, SITE_FLAGS, SITE_LINKS
from relay.receiver.results import Logged
from relay.records.identifiers import RecordId, StatementId, sha256
from relay.web.site.documents import encode
from tests.site.election import BUPATI, GUBERNUR, LONG, PublicElection
from tests.site.test_floods import logged, reachable
from tests.site.test_site import files

FORMS = (GUBERNUR, BUPATI)


def name(number: int) -> StatementId:
    """An id."""
    return StatementId(RecordId(sha256(b"link %d" % number)))


def few(monkeypatch: pytest.MonkeyPatch, links: int = 3) -> None:
    """Let a page list so few statements."""
    monkeypatch.setattr("relay.web.site.chain.SITE_LINKS", links)


async def sign(election: PublicElection, *seqs: int) -> list[StatementId]:
    """Let statements with these numbers arrive, each naming the one before as far as it is in the same call."""
    made: dict[int, StatementId] = {}
    signed: list[StatementId] = []
    for place, seq in enumerate(seqs):
        previous = made.get(seq - 1, name(seq - 1)) if seq > 1 else None
        signed.append(await election.submit(LONG, FORMS[place % 2], seq=seq, previous=previous))
        made.setdefault(seq, signed[-1])
    return signed


def head(election: PublicElection) -> dict[str, Any]:
    """The device's own document."""
    return election.document(f"device/{node(election)}.json")


def node(election: PublicElection) -> str:
    """The device that signs here."""
    return election.device(LONG).identity.node.hex()


def pages(election: PublicElection) -> list[list[dict[str, Any]]]:
    """What each page of its chain lists."""
    numbers = range(1, (head(election)["pages"] or 0) + 1)
    return [election.document(f"device/{node(election)}/{number}.json")["links"] for number in numbers]


def of_device(election: PublicElection) -> dict[str, bytes]:
    """All files about devices."""
    return {path: content for path, content in files(election.public).items() if "device/" in path}


async def test_every_statement_of_a_device_is_listed_on_a_page_that_its_own_leads_to(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)
    signed = await sign(election, *range(1, 9))
    await election.publish()
    assert [len(links) for links in pages(election)] == [3, 3, 2]
    assert [link["id"] for links in pages(election) for link in links] == [one.hex() for one in signed]
    assert (head(election)["signed"], head(election)["links"]) == (8, [])
    for language in ("", "en/"):
        found = reachable(election.public, f"{language}index.html")
        listing = [path for path in found if re.fullmatch(f"{language}device/{node(election)}/[0-9]+.html", path)]
        assert len(listing) == 3
        linked = {one for path in listing for one in re.findall("#s-([0-9a-f]{16})", found[path])}
        assert linked == {one.hex()[:16] for one in signed}
        assert all(f'href="../../device/{node(election)}.html"' in found[path] for path in listing)


async def test_a_device_with_few_statements_has_one_page(election: PublicElection) -> None:
    signed = await sign(election, 1, 2, 3)
    await election.publish()
    assert head(election)["pages"] is None
    assert [link["id"] for link in head(election)["links"]] == [one.hex() for one in signed]
    assert not (election.public / f"device/{node(election)}").exists()


async def test_what_shows_at_a_statement_is_told_where_it_is_listed(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 2)
    await sign(election, 1, 4, 4, 5, 9)
    await election.publish()
    gap = {"finding": "gap", "first": 2, "last": 3}
    assert [[link["found"] for link in links] for links in pages(election)] == [
        [[], [gap, {"finding": "fork", "seq": 4}]],
        [[gap, {"finding": "fork", "seq": 4}], [{"finding": "fork", "seq": 4}]],
        [[{"finding": "gap", "first": 6, "last": 8}]],
    ]
    assert "Pernyataan 2 sampai 3" in election.text(f"device/{node(election)}/2.html")
    assert "Statements 6 to 8" in election.text(f"en/device/{node(election)}/3.html")


async def test_pages_say_what_one_page_would_say(election: PublicElection, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as narrow:
        few(narrow)
        await sign(election, 3, 1, 7, 8, 8, 2, 12)
        await election.publish()
        paged = [link for links in pages(election) for link in links]
        told = head(election)["findings"]
    assert len(paged) == 7
    await election.reopen(anew=True)
    await election.publish()
    assert head(election)["links"] == paged
    assert head(election)["findings"] == told


async def test_a_chain_that_grew_is_what_would_be_written_anew(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)
    for seqs in ((3, 1), (7, 8), (2,), (20, 5, 4, 21)):
        await sign(election, *seqs)
        await election.publish()
    grown = of_device(election)
    await election.site.settle()
    settled = election.public / "settled.json"
    settled.write_text(re.sub(r'"entries":\d+', '"entries":0', settled.read_text()))
    await election.reopen()
    await election.publish()
    assert of_device(election) == grown, "an entry brought twice changes nothing"
    await election.reopen(anew=True)
    await election.publish()
    assert without_sums(of_device(election)) == without_sums(grown)


def without_sums(found: dict[str, bytes]) -> dict[str, bytes]:
    """Files without what tells one writing of the site from another."""
    return {path: re.sub(rb'"(sum|generation)":"[0-9a-f]+",', b"", content) for path, content in found.items()}


async def test_what_arrives_in_a_gap_changes_the_page_that_told_of_it(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 2)
    first, *_ = await sign(election, 1, 3, 4, 5, 6)
    await election.publish()
    assert pages(election)[0][1]["found"] == [{"finding": "gap", "first": 2, "last": 2}]
    assert "chain-gap" in election.flags(LONG, BUPATI)
    await election.submit(LONG, GUBERNUR, seq=2, previous=first)
    await election.publish()
    assert not any(found["finding"] == "gap" for links in pages(election) for link in links for found in link["found"])
    assert "chain-gap" not in election.flags(LONG, BUPATI)
    assert "belum masuk" not in election.text(f"device/{node(election)}/1.html").split('<ul class="notes">')[1]


async def test_what_a_long_chain_shows_stays_when_another_device_signs(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 2)
    await sign(election, 1, 3, 4, 5, 6)
    await election.publish()
    await election.submit(LONG, BUPATI, device="another")
    await election.publish()
    assert "chain-gap" in election.flags(LONG, BUPATI)


async def test_an_arrival_writes_the_page_that_lists_it_and_no_other(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)
    await sign(election, *range(2, 40, 4))
    await election.publish()
    before = times(election)
    await sign(election, 50)
    await election.publish()
    now = times(election)
    assert {path for path in now if now[path] != before.get(path)} == {
        f"{language}{node(election)}{page}" for language in ("device/", "en/device/") for page in (".html", "/4.html")
    } | {f"device/{node(election)}{page}" for page in (".json", "/4.json")}


def times(election: PublicElection) -> dict[str, int]:
    """When each file about devices was written."""
    found = [path for path in election.public.rglob("*") if path.is_file() and "device" in path.parts]
    return {str(path.relative_to(election.public)): path.stat().st_mtime_ns for path in found}


def flood(one: Logged, count: int) -> Iterator[Logged]:
    """Many statements of its device, with something missing before each; one number comes a hundred times."""
    for at in range(count):
        entry = one.entry + 1 + at
        seq = 9_999 if at % 10 == 0 else 20 + 2 * at
        yield replace(one, id=name(entry), entry=entry, form=FORMS[at % 2], seq=seq, previous=name(-entry), tally=None)


async def test_a_flood_of_one_device_is_light_and_each_kind_of_finding_is_told_at_once(
    election: PublicElection,
) -> None:
    first = logged(election, 0)
    await election.site.add([first, *flood(first, 4 * SITE_LINKS)])
    written = [path for path in election.public.rglob("*") if path.is_file() and "device" in path.parts]
    assert len(written) == 3 * (5 + 1)
    assert max(path.stat().st_size for path in written) < 64 * KIB
    told = head(election)["findings"]
    assert {one["finding"] for one in told} == {"gap", "fork"}
    assert len(told) == SITE_FLAGS and head(election)["more_findings"] > 2 * SITE_LINKS
    assert max(len(one[key]) for one in told for key in ("held", "named") if key in one) == SITE_FLAG_STATEMENTS
    assert max(one.get("of", 0) for one in told) >= 4 * SITE_LINKS // 10
    assert f"{head(election)['more_findings']:,} more flags" in election.text(f"en/device/{node(election)}.html")


async def test_a_revocation_is_told_at_every_form_of_a_long_chain(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch, 2)
    await election.submit(LONG, GUBERNUR)
    for _ in range(5):
        await election.submit(LONG, BUPATI)
    await election.publish()
    await election.revoke(2, election.device(LONG))
    await election.publish()
    assert "device-revoked" in election.flags(LONG, GUBERNUR)
    assert "device-revoked" in election.flags(LONG, BUPATI)
    assert "dicabut" in election.text(f"device/{node(election)}.html")
    assert head(election)["revoked"]


@pytest.mark.parametrize("content", [None, b"", b"{}"])
async def test_a_page_that_was_lost_is_written_again(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    few(monkeypatch)
    signed = await sign(election, *range(1, 8))
    await election.publish()
    await election.site.settle()
    lost = election.public / f"device/{node(election)}/1.json"
    lost.unlink()
    if content is not None:
        lost.write_bytes(content)
    await election.reopen()
    signed += await sign(election, 8)
    await election.publish()
    assert {link["id"] for links in pages(election) for link in links} == {one.hex() for one in signed}
    assert [len(links) for links in pages(election)] == [3, 3, 2]
    assert head(election)["signed"] == 8


async def test_pages_that_a_power_cut_left_behind_are_taken_as_they_are(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a device's files some are as they were settled, others newer."""
    few(monkeypatch)
    await sign(election, 1, 2, 3)
    await election.publish()
    await election.site.settle()
    old = f"device/{node(election)}.json", "settled.json"
    for at, path in enumerate(old):
        shutil.copy(election.public / path, tmp_path / str(at))
    await sign(election, 4, 5, 6, 7)
    await election.publish()
    right = of_device(election)
    for at, path in enumerate(old):
        shutil.copy(tmp_path / str(at), election.public / path)
    await election.reopen()
    assert election.site.entries == 3
    await election.publish()
    assert of_device(election) == right


async def test_a_long_page_of_an_older_version_becomes_pages(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = await sign(election, 1, 2, 5, 6, 7)
    await election.publish()
    await election.site.settle()
    document = head(election)
    older = {key: document[key] for key in ("generation", "node", "device", "revoked", "findings")}
    links = [{key: one for key, one in link.items() if key != "found"} for link in document["links"]]
    (election.public / f"device/{node(election)}.json").write_bytes(encode({**older, "links": links}))
    few(monkeypatch)
    await election.reopen()
    signed += await sign(election, 8)
    await election.publish()
    assert [link["id"] for links in pages(election) for link in links] == [one.hex() for one in signed]
    assert [link["seq"] for links in pages(election) for link in links if link["found"]] == [5, 7, 8]
