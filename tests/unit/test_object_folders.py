"""The folders of objects: their own names are on the disk before anything in them counts (promise 5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relay.records.identifiers import ObjectId, sha256
from relay.store import content as files
from relay.store.content import Content

DATA = b"photograph"
OBJECT = ObjectId(sha256(DATA))
LAYOUT = bytes(32)


def by_chunks(content: Content, _folder: Path) -> None:
    """An object becomes whole by its last chunk."""
    content.write_chunk(OBJECT, LAYOUT, 0, DATA)
    content.place(OBJECT, LAYOUT)


def by_copy(content: Content, folder: Path) -> None:
    """A file is handed in."""
    (folder / "form.jpg").write_bytes(DATA)
    copy, _ = content.copy_in(OBJECT, folder / "form.jpg", len(DATA))
    content.place_copy(copy, OBJECT)


@pytest.mark.parametrize("placed", [by_chunks, by_copy])
def test_an_object_in_a_folder_that_somebody_made_just_now_has_that_folders_name_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, placed: Callable[[Content, Path], None]
) -> None:
    """Another thread or process may have made it that instant. Once it is known to be on the disk, it is not synced for
    every object again."""
    synced: list[Path] = []
    content = Content(tmp_path / "store")
    content.prepare()
    content.path(OBJECT).parent.mkdir()
    monkeypatch.setattr(files, "sync_folder", synced.append)
    placed(content, tmp_path)
    objects = tmp_path / "store" / "objects"
    assert content.path(OBJECT).read_bytes() == DATA
    assert synced[:1] == [objects]
    content.remove(OBJECT)
    placed(content, tmp_path)
    assert synced.count(objects) == 1
