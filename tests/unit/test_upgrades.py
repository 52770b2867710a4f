"""An upgrade loses nothing: folders that earlier versions left, opened by this one."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from relay.node.home import Home
from relay.store import schema
from tests.upgrades import check_left, kept, unpack

LATER = "CREATE TABLE later (id BLOB PRIMARY KEY, kind INTEGER);\nINSERT INTO later SELECT id, kind FROM records;\n"
SCHEMAS = range(1, schema.VERSION + 1)


def test_a_folder_of_every_schema_is_kept() -> None:
    for version in SCHEMAS:
        assert kept(version).exists(), "keep one before the schema is changed: python -m tests.upgrades"


@pytest.mark.parametrize("version", SCHEMAS)
async def test_what_an_earlier_version_left_is_all_there(version: int, tmp_path: Path) -> None:
    unpack(version, tmp_path)
    await check_left(tmp_path)


@pytest.mark.parametrize("version", SCHEMAS)
async def test_nothing_is_lost_on_the_way_to_a_schema_to_come(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack(version, tmp_path)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, LATER))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    await check_left(tmp_path)
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
    await check_left(tmp_path.with_name("copy"))
