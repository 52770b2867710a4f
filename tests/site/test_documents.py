"""The site's documents: what is written can be read back, and what is read back is what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.limits import MAX_SITE_DOCUMENT
from relay.store.shelf import FRESH, FolderShelf
from relay.web.site.documents import DamagedSite, Documents, TooLarge, encode, unseal
from relay.web.site.pages import JSON
from relay.web.site.shortened import shorten
from tests.site.election import BUPATI, GUBERNUR, LONG, PublicElection, tally_of

TEXTS = st.text()
DOCUMENTS = st.dictionaries(
    TEXTS.filter(lambda key: key != "sum"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | TEXTS, lambda one: st.lists(one) | st.dictionaries(TEXTS, one)
    ),
)


@given(DOCUMENTS)
def test_what_is_written_is_read_back(document: dict[str, Any]) -> None:
    assert unseal("x", encode(document)) == document


@given(DOCUMENTS, st.data())
def test_a_document_that_changed_in_any_byte_is_damaged(document: dict[str, Any], data: st.DataObject) -> None:
    content = bytearray(encode(document))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DamagedSite):
        unseal("x", bytes(content))


@given(DOCUMENTS, st.integers(0, 200))
def test_nothing_is_written_that_could_not_be_read_back(document: dict[str, Any], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relay.web.site.documents.MAX_SITE_DOCUMENT", most)
        try:
            content = encode(document)
        except TooLarge:
            return
        assert unseal("x", content) == document


def test_the_bound_of_what_is_written_is_that_of_what_is_read() -> None:
    assert unseal("x", encode({"x": "y" * (MAX_SITE_DOCUMENT - 50)}))
    with pytest.raises(TooLarge):
        encode({"x": "y" * MAX_SITE_DOCUMENT})


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: content.replace(b"1", b"2")])
async def test_a_site_begun_anew_excuses_only_what_was_there_before(tmp_path: Path, damage: Any) -> None:
    """An older document may be damaged; one of this very site that is taken for absent would hide what it told."""
    shelf = FolderShelf(tmp_path)
    for path, generation in (("old.json", "0" * 16), ("own.json", "f" * 16)):
        content = damage(encode({"generation": generation, "entry": 1}))
        await shelf.write(path, content, JSON, FRESH)
    documents = Documents(shelf)
    documents.open("f" * 16)
    await documents.load(["old.json"])
    assert documents.at("old.json") == {}
    assert not documents.found_damage()
    await documents.load(["own.json"])
    assert documents.at("own.json") == {}
    assert documents.found_damage()


async def test_documents_are_let_go_of_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.web.site.documents.SITE_DOCUMENTS_BYTES", 3_000)
    documents = Documents(FolderShelf(tmp_path))
    documents.open("f" * 16)
    for number in range(9):
        documents.put(f"{number}.json", {"x": "y" * 900})
        documents.content(f"{number}.json")
    documents.trim()
    assert documents.at("8.json")["x"]
    with pytest.raises(KeyError):
        documents.at("5.json")


DAMAGES: list[Any] = [
    lambda one: {key: value for key, value in one.items() if key != "generation"},
    lambda one: {**one, "statements": [{}], "links": [{}], "children": {}, "newest": [{}], "revoked": [7]},
    lambda one: {**one, "statements": 5, "links": "x", "children": None, "newest": None, "entries": None},
]
"""What may be wrong in a document that is JSON and says that it is of this site."""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "path",
    [
        "settled.json",
        "region/index.json",
        "region/1906022011.json",
        f"tps/{LONG}/{BUPATI}.json",
        "newest.json",
        "device",
    ],
)
async def test_whatever_is_wrong_in_what_is_read_back_the_site_is_written_again(
    election: PublicElection, path: str, damage: Any
) -> None:
    first = await election.submit(LONG, tally=tally_of(LONG, BUPATI, election.stations, valid=1))
    await election.publish()
    path = f"device/{election.device(LONG).identity.node.hex()}.json" if path == "device" else path
    (election.public / path).write_text(json.dumps(damage(election.document(path)), separators=(",", ":")))
    await election.reopen()
    await election.submit(LONG, GUBERNUR)
    await election.submit(LONG, supersedes=first)
    assert await election.publish() == 3
    assert (election.result()["counted"], election.result()["corrected"]) == (True, True)
    assert election.document("region/index.json")["sums"]["arrived"] == 2


FLAGS = st.lists(
    st.fixed_dictionaries(
        {
            "flag": st.sampled_from(["chain-gap", "two-statements-in-conflict", "negative-number", "mine", "own", "x"]),
            "statements": st.lists(st.sampled_from("abcdefgh"), max_size=8),
            "values": st.sampled_from([{}, {"count": 2}]),
        }
    ),
    max_size=20,
)


@given(FLAGS, st.integers(0, 9), st.integers(1, 8))
def test_flags_that_are_left_out_are_counted(flags: list[dict[str, Any]], more: int, most: int) -> None:
    told, left = shorten(flags, more, most)
    assert len(told) + left == len(flags) + more
    assert len(told) == min(most, len(flags))
    assert shorten(told, left, most) == (told, left)
    if len({flag["flag"] for flag in flags}) <= most:
        assert {flag["flag"] for flag in told} == {flag["flag"] for flag in flags}
    for flag in told:
        whole = [one for one in flags if (one["flag"], one["values"]) == (flag["flag"], flag["values"])]
        assert any(one["statements"][: len(flag["statements"])] == flag["statements"] for one in whole)
        assert flag.get("of", 0) in (0, *(len(one["statements"]) for one in whole))


def test_flags_of_a_device_do_not_take_the_place_of_the_receivers() -> None:
    own = [{"flag": f"{at:02}", "statements": ["a"], "values": {}} for at in range(99)]
    ours = {"flag": "two-statements-in-conflict", "statements": ["a", "b"], "values": {"count": 2}}
    told, left = shorten([*own, ours], 0, 6)
    assert told[0] == ours and left == 94
