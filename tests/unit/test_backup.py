"""A backup of a node that goes on meanwhile: what is freed, sent and damaged while it is copied."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.errors import BadInput, DiskFull, StoreError
from relay.node import backup, restoring
from relay.node.backup import back_up, read_backup
from relay.node.home import Home
from relay.node.restoring import RESTORED, check_may_sign, check_newest, restore, take_mark_off
from relay.records.identifiers import ObjectId
from relay.store.durable import copy_durably
from tests.upgrades import check_left, unpack

NOW = 1_732_700_000


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody looks at."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A node with two packages, a draft and a phone."""
    unpack(1, tmp_path / "home")
    with_store(Home(tmp_path / "home"))
    return Home(tmp_path / "home")


def with_store(home: Home) -> None:
    async def open_it() -> None:
        async with home.custody():
            pass

    asyncio.run(open_it())


def objects(folder: Path) -> list[Path]:
    return sorted(folder.glob("objects/??/*"))


def test_everything_comes_back(home: Home, tmp_path: Path) -> None:
    (home.path / ".may-be-purged").touch()
    (home.path / "drill").mkdir()
    made = back_up(home, tmp_path / "backup", NOW, silent)
    assert (made.node, made.objects, made.made_at) == ("pulau-long", 2, NOW)
    assert not {"daemon.lock", ".may-be-purged"} & set(made.files)
    again = Home(tmp_path / "again")
    restore(tmp_path / "backup", again, NOW + 5, silent)
    assert not (again.path / ".may-be-purged").exists()

    async def look() -> None:
        async with again.custody() as custody:
            mark = json.loads((await custody.store.notes())[RESTORED])
            assert mark == {"made_at": NOW, "restored_at": NOW + 5, "seq": 2}
            with pytest.raises(StoreError, match="restored from a backup"):
                await check_may_sign(custody.store)
            await check_newest(custody.store, again.member().identity.node)
            await take_mark_off(custody.store)
            await check_may_sign(custody.store)

    asyncio.run(look())
    asyncio.run(check_left(again.path))


def test_what_is_freed_while_it_is_copied_is_left_out(home: Home, tmp_path: Path) -> None:
    freed: list[str] = []

    def free(_what: str, _done: int, total: int) -> None:
        if not freed:
            assert total == 2
            last = objects(home.store_folder)[-1]
            freed.append(last.name)
            database = sqlite3.connect(home.store_folder / "catalogue.db")
            database.execute("UPDATE objects SET state = 0 WHERE id = ?", (bytes.fromhex(last.name),))
            database.commit()
            database.close()
            last.unlink()

    made = back_up(home, tmp_path / "backup", NOW, free)
    assert made.objects == 1
    assert freed[0] not in [one.name for one in objects(tmp_path / "backup")]
    restore(tmp_path / "backup", Home(tmp_path / "again"), NOW, silent)


def test_what_goes_faster_than_it_is_copied_makes_no_backup(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup", NOW, silent)
    (tmp_path / "backup" / "copy-0").mkdir()
    others = iter(["aa" * 32, "bb" * 32, "cc" * 32, "dd" * 32, "ee" * 32])

    def gone_now(file: Path) -> list[tuple[ObjectId, int]]:
        return [(ObjectId(bytes.fromhex(next(others))), 1)]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(StoreError, match="faster than they are copied"):
        patch.setattr(backup, "whole_objects", gone_now)
        back_up(home, tmp_path / "backup", NOW + 9, silent)
    assert backup.read_backup(tmp_path / "backup").made_at == NOW
    restore(tmp_path / "backup", Home(tmp_path / "again"), NOW, silent)


def lose(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def make_unreadable(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)  # whoever opens it goes round in circles


@pytest.mark.parametrize("fail", [lose, damage, make_unreadable])
def test_one_object_that_the_disk_does_not_give_is_left_out_and_named(
    home: Home, tmp_path: Path, fail: Callable[[Path], None]
) -> None:
    whole, bad = objects(home.store_folder)
    content = bad.read_bytes()
    fail(bad)
    made = back_up(home, tmp_path / "backup", NOW, silent)
    assert (made.objects, made.left_out) == (1, [bad.name])
    assert read_backup(tmp_path / "backup") == made
    assert [one.name for one in objects(tmp_path / "backup")] == [whole.name]
    restore(tmp_path / "backup", Home(tmp_path / "without"), NOW, silent)
    assert [one.name for one in objects(tmp_path / "without" / "store")] == [whole.name]

    async def what_is_missing(home: Home) -> frozenset[ObjectId]:
        async with home.custody() as custody:
            await custody.store.read_chunk(ObjectId(bytes.fromhex(bad.name)), 0)
            return custody.store.unreadable

    assert asyncio.run(what_is_missing(Home(tmp_path / "without"))) == {bytes.fromhex(bad.name)}
    mended = tmp_path / "backup" / "objects" / bad.name[:2] / bad.name
    mended.parent.mkdir(exist_ok=True)
    mended.write_bytes(content)
    restore(tmp_path / "backup", Home(tmp_path / "with"), NOW, silent)
    assert not asyncio.run(what_is_missing(Home(tmp_path / "with")))


def test_what_the_disk_lost_since_the_last_backup_stays_in_it(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup", NOW, silent)
    lose(objects(home.store_folder)[0])
    assert back_up(home, tmp_path / "backup", NOW + 9, silent).left_out == []
    restore(tmp_path / "backup", Home(tmp_path / "again"), NOW, silent)


def test_a_backup_that_leaves_nothing_out_is_read_by_a_relay_that_knows_of_no_such_thing(
    home: Home, tmp_path: Path
) -> None:
    back_up(home, tmp_path / "backup", NOW, silent)
    assert "left_out" not in json.loads((tmp_path / "backup" / "backup.json").read_text())


def test_a_draft_that_is_sent_meanwhile_does_no_harm(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(source: Path, target: Path, mode: int = 0o644) -> bytes:
        if source.name == "00112233aabbccdd":
            source.unlink()
        return copy_durably(source, target, mode)

    monkeypatch.setattr(backup, "copy_durably", send)
    made = back_up(home, tmp_path / "backup", NOW, silent)
    assert not [name for name in made.files if name.endswith("00112233aabbccdd")]


@pytest.mark.parametrize("name", ["key.pem", "root.pem", "catalogue.db", "backup.json"])
def test_what_is_not_whole_is_not_restored(home: Home, tmp_path: Path, name: str) -> None:
    back_up(home, tmp_path / "backup", NOW, silent)
    (file,) = (tmp_path / "backup").rglob(name)
    content = file.read_bytes()
    for wrong in (content[:-1], b"", content[:40] + bytes([content[40] ^ 0x80]) + content[41:]):
        file.write_bytes(wrong)
        with pytest.raises((BadInput, StoreError)):
            restore(tmp_path / "backup", Home(tmp_path / "again"), NOW, silent)
        assert not (tmp_path / "again").exists()
    file.unlink()
    with pytest.raises((BadInput, StoreError)):
        restore(tmp_path / "backup", Home(tmp_path / "again"), NOW, silent)
    (tmp_path / "again").mkdir(exist_ok=True)
    file.write_bytes(content)
    restore(tmp_path / "backup", Home(tmp_path / "again"), NOW, silent)


def test_a_folder_without_its_key_is_no_node(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine dies in the middle: what was written by then is nobody's node."""
    back_up(home, tmp_path / "backup", NOW, silent)
    again = Home(tmp_path / "again")

    def die(source: Path, target: Path, mode: int = 0o644) -> bytes:
        if source.name == "key.pem":
            raise KeyboardInterrupt
        return copy_durably(source, target, mode)

    with monkeypatch.context() as patched:
        patched.setattr(restoring, "_empty", lambda _folder, remove: None)
        patched.setattr(restoring, "copy_durably", die)
        with pytest.raises(KeyboardInterrupt):
            restore(tmp_path / "backup", again, NOW, silent)
    assert (again.path / "store" / "catalogue.db").exists()
    with pytest.raises(BadInput, match="cut off, and this is no node yet"):
        again.key()
    with pytest.raises(BadInput, match="cut off, and this is no node yet"):
        again.create("pulau-long", Ed25519PrivateKey.generate())
    (again.path / "store" / "catalogue.db-journal").write_bytes(b"of the copy before")
    restore(tmp_path / "backup", again, NOW, silent)
    assert not again.restore_mark.exists()
    assert not (again.path / "store" / "catalogue.db-journal").exists()
    asyncio.run(check_left(again.path))


def test_a_folder_with_something_in_it_is_left_alone(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup", NOW, silent)
    with pytest.raises(BadInput, match="There is a node in"):
        restore(tmp_path / "backup", home, NOW, silent)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    with pytest.raises(BadInput, match="is not empty"):
        restore(tmp_path / "backup", Home(tmp_path / "taken"), NOW, silent)
    assert [one.name for one in (tmp_path / "taken").iterdir()] == ["thesis.txt"]


def test_every_damaged_file_is_named(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup", NOW, silent)
    first, second = objects(tmp_path / "backup")
    first.write_bytes(first.read_bytes()[:-1])
    second.unlink()
    with pytest.raises(BadInput) as caught:
        restore(tmp_path / "backup", Home(tmp_path / "again"), NOW, silent)
    assert "2 files" in caught.value.what
    assert first.name in caught.value.what and second.name in caught.value.what
    assert "whole elsewhere" in caught.value.advice
    (root,) = (tmp_path / "backup").rglob("root.pem")
    root.write_bytes(b"")
    with pytest.raises(BadInput, match=r"3 files.*root\.pem") as caught:
        restore(tmp_path / "backup", Home(tmp_path / "again"), NOW, silent)
    assert "elsewhere" not in caught.value.advice, "a file of the node itself is nowhere else"
    assert not (tmp_path / "again").exists()


def test_a_photograph_from_elsewhere_mends_a_backup(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup", NOW, silent)
    for kept, bad in zip(objects(home.store_folder), objects(tmp_path / "backup"), strict=True):
        bad.write_bytes(b"?")
        shutil.copy(kept, bad)
    restore(tmp_path / "backup", Home(tmp_path / "again"), NOW, silent)


def test_a_backup_that_does_not_fit_is_not_begun(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    back_up(home, tmp_path / "backup", NOW, silent)
    monkeypatch.setattr(restoring, "bytes_free", lambda _path: 1)
    with pytest.raises(DiskFull, match="The backup needs"):
        restore(tmp_path / "backup", Home(tmp_path / "far" / "again"), NOW, silent)
    assert not (tmp_path / "far").exists()


def test_a_disk_that_has_no_room_for_the_catalogue_is_the_one_that_is_named(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, _target: Path) -> None:
        raise StoreError(f"{source} cannot be used (database or disk is full)", "Check it.")

    monkeypatch.setattr(backup, "copy_catalogue", fail)
    monkeypatch.setattr(backup, "bytes_free", lambda _path: 0)
    with pytest.raises(DiskFull, match=r"The disk is full \(.*backup/copy-") as caught:
        back_up(home, tmp_path / "backup", NOW, silent)
    assert "larger disk" in caught.value.advice
    monkeypatch.setattr(backup, "bytes_free", lambda _path: 1 << 30)
    with pytest.raises(StoreError, match="cannot be used"):
        back_up(home, tmp_path / "backup", NOW, silent)


@pytest.mark.parametrize("check", [True, False])
def test_what_went_bad_in_a_backup_is_copied_again(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    """Also where only some of it is read again: one that is damaged gives the others away."""
    if not check:
        monkeypatch.setattr(backup, "BACKUP_REREAD", 1)
    back_up(home, tmp_path / "backup", NOW, silent)
    for one in objects(tmp_path / "backup"):
        one.write_bytes(bytes(one.stat().st_size))
    found: list[str] = []
    back_up(home, tmp_path / "backup", NOW, silent, check=check, mended=found.append)
    assert sorted(found) == [one.name for one in objects(tmp_path / "backup")]
    restore(tmp_path / "backup", Home(tmp_path / "again"), NOW, silent)


def test_only_some_of_a_backup_is_read_again(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "BACKUP_REREAD", 1)
    back_up(home, tmp_path / "backup", NOW, silent)
    read: list[str] = []
    whole = backup.is_whole

    def look(file: Path, name: str) -> bool:
        read.append(name)
        return whole(file, name)

    monkeypatch.setattr(backup, "is_whole", look)
    back_up(home, tmp_path / "backup", NOW, silent)
    assert len(read) == 1
    back_up(home, tmp_path / "backup", NOW, silent, check=True)
    assert len(read) == 3


def test_a_backup_within_the_node_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home.path)
    for target in (home.path, home.path / "store", tmp_path / "link" / "x"):
        with pytest.raises(BadInput, match="own folder"):
            back_up(home, target, NOW, silent)
    shutil.rmtree(home.path / "drafts")
    back_up(home, tmp_path / "backup", NOW, silent)


@pytest.mark.parametrize("link", ["objects", "objects/aa", "copy-00000000"])
def test_a_backup_follows_no_links_to_other_folders(home: Home, tmp_path: Path, link: str) -> None:
    """On a disk that somebody prepared: what is removed there is what no backup needs, and would be other files."""
    other = tmp_path / "other" / "aa"
    other.mkdir(parents=True)
    (other / "precious").touch()
    target = tmp_path / "backup"
    (target / link).parent.mkdir(parents=True)
    (target / link).symlink_to(other.parent if link == "objects" else other)
    with pytest.raises(BadInput, match="links"):
        back_up(home, target, NOW, silent)
    assert [one.name for one in other.iterdir()] == ["precious"]
    assert [one.name for one in other.parent.iterdir()] == ["aa"]


@pytest.mark.parametrize(
    "said", [{"files": ["key.pem"]}, {"files": {"key.pem": 5}}, {"made_at": "today"}, {"node": None}, {"copy": 1}]
)
def test_what_says_of_itself_what_no_backup_says_is_none(home: Home, tmp_path: Path, said: dict[str, object]) -> None:
    back_up(home, tmp_path / "backup", NOW, silent)
    manifest = tmp_path / "backup" / "backup.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | said))
    with pytest.raises(BadInput, match="no backup that this relay knows"):
        read_backup(tmp_path / "backup")


def test_a_list_without_an_end_is_no_backup(tmp_path: Path) -> None:
    (tmp_path / "backup.json").write_text("[" * 100_000)
    with pytest.raises(BadInput, match="no backup that this relay knows"):
        read_backup(tmp_path)
