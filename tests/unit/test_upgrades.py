"""An upgrade loses nothing: folders that earlier versions left, opened by this one."""

from __future__ import annotations

import shutil
import sqlite3
from hashlib import sha256
from pathlib import Path

import pytest

from relay.node.drafts import Drafts
from relay.node.home import Home
from relay.node.pairing import Pairing
from relay.records.identifiers import RecordId
from relay.records.statement import read_statement
from relay.store import schema
from relay.store.interface import Store
from tests.upgrades import DELIVERED, PICTURE, TPS, VOTERS, WAITING, kept, unpack

LATER = "CREATE TABLE later (id BLOB PRIMARY KEY, kind INTEGER);\nINSERT INTO later SELECT id, kind FROM records;\n"
SCHEMAS = range(1, schema.VERSION + 1)


def test_a_folder_of_every_schema_is_kept() -> None:
    for version in SCHEMAS:
        assert kept(version).exists(), "keep one before the schema is changed: python -m tests.upgrades"


@pytest.mark.parametrize("version", SCHEMAS)
async def test_what_an_earlier_version_left_is_all_there(version: int, tmp_path: Path) -> None:
    unpack(version, tmp_path)
    await check(tmp_path)


@pytest.mark.parametrize("version", SCHEMAS)
async def test_nothing_is_lost_on_the_way_to_a_schema_to_come(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack(version, tmp_path)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, LATER))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    await check(tmp_path)
    database = sqlite3.connect(tmp_path / "store" / "catalogue.db")
    assert database.execute("SELECT count(*) FROM later").fetchone()[0] > 3
    database.close()


async def test_a_migration_that_fails_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack(schema.VERSION, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, LATER + "INSERT INTO nowhere VALUES (1);\n"))
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(Exception, match="nowhere"):
            async with Home(tmp_path).custody():
                pass
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    await check(tmp_path.with_name("copy"))


async def check(folder: Path) -> None:
    """Key, packages, receipt, draft and phone are those that were left, and the device's chain goes on."""
    home = Home(folder)
    member = home.member()
    assert list(member.identity.tps) == [TPS]
    assert [phone.name for phone in Pairing(folder).phones()] == ["Android Redmi Note 8"]
    async with home.custody() as custody:
        store = custody.store
        bundles = {bundle.form: bundle for bundle in await store.bundles()}
        assert {form: (str(one.state), one.entry) for form, one in bundles.items()} == {
            DELIVERED: ("delivered", 0),
            WAITING: ("waiting", None),
        }
        for bundle in bundles.values():
            for file in bundle.files:
                path = await store.object_path(file.sha256)
                assert path is not None and sha256(path.read_bytes()).digest() == file.sha256
            await check_chain(store, bundle.id)
        assert await store.chain_head(member.identity.node) == (2, bundles[WAITING].id)
        drafts = Drafts(home, member, custody)
        await drafts.load()
        (draft,) = drafts.under_way()
        assert (draft.form, draft.counts["voters"], draft.supersedes) == (DELIVERED, VOTERS, bundles[DELIVERED].id.hex())
        assert drafts.picture(draft.id, "00112233aabbccdd")[1].read_bytes() == PICTURE


async def check_chain(store: Store, statement: bytes) -> None:
    """A statement is what its id says, and names the one before it."""
    ((_, _, raw),) = await store.read([RecordId(statement)], 1)
    assert sha256(raw).digest() == statement
    package = read_statement(raw).package
    assert (package.previous is None) == (package.seq == 1)
