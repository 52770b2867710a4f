"""A stick as the other side of a visit: everything there and back, and nothing from a stick that was tampered with."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from relay.errors import BadInput, DiskFull
from relay.limits import MAX_RECORD
from relay.node import byhand
from relay.node.byhand import export_to, import_from, import_notices
from relay.records.identifiers import StatementId, receipt_id, sha256
from relay.records.notice import Revocation, Revocations
from relay.store import durable
from relay.store.interface import State
from tests.factory import make_election, make_file, make_node, make_statement, object_of
from tests.fleet import Fleet, Ship


async def journey(fleet: Fleet) -> tuple[Ship, Ship, bytes, StatementId]:
    """An island with a package, a receiver, the content and the statement."""
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    content = fleet.content()
    return receiver, island, content, await island.submit(content, fleet.content(10))


def names(folder: Path) -> list[str]:
    """The files of a stick."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_the_whole_journey_by_stick(fleet: Fleet, tmp_path: Path) -> None:
    receiver, island, content, statement = await journey(fleet)
    stick = tmp_path / "stick"
    out = await export_to(island.custody, stick)
    assert out.objects == 2
    assert f"statements/{statement.hex()}.cose" in names(stick)
    taken = await import_from(receiver.custody, stick)
    assert (taken.objects, taken.refused) == (2, [])
    assert receiver.log is not None
    await receiver.log.sequencer.sequence()
    await export_to(receiver.custody, stick)
    assert f"receipts/{statement.hex()}.cose" in names(stick)
    await import_from(island.custody, stick)
    assert await island.state(statement) is State.DELIVERED
    assert (await receiver.store.read([receipt_id(statement)], 1))[0][2] == (
        stick / "receipts" / f"{statement.hex()}.cose"
    ).read_bytes()
    assert await receiver.read(content) == content


async def test_promise_8_every_object_is_named_by_its_sha256(fleet: Fleet, tmp_path: Path) -> None:
    _, island, _, _ = await journey(fleet)
    await export_to(island.custody, tmp_path / "stick")
    for file in (tmp_path / "stick" / "objects").iterdir():
        assert sha256(file.read_bytes()).hex() == file.name


async def test_exporting_and_importing_again_does_nothing(fleet: Fleet, tmp_path: Path) -> None:
    receiver, island, _, _ = await journey(fleet)
    stick = tmp_path / "stick"
    await export_to(island.custody, stick)
    again = await export_to(island.custody, stick)
    assert (again.records, again.objects, again.bytes) == (0, 0, 0)
    await import_from(receiver.custody, stick)
    again = await import_from(receiver.custody, stick)
    assert (again.records, again.objects, again.bytes, again.refused) == (0, 0, 0, [])


async def test_a_file_cut_short_is_written_again(fleet: Fleet, tmp_path: Path) -> None:
    _, island, content, _ = await journey(fleet)
    stick = tmp_path / "stick"
    await export_to(island.custody, stick)
    file = stick / "objects" / object_of(content).hex()
    file.write_bytes(content[:100])
    await export_to(island.custody, stick)
    assert file.read_bytes() == content


async def test_promise_3_an_altered_object_is_refused_and_named(fleet: Fleet, tmp_path: Path) -> None:
    receiver, island, content, statement = await journey(fleet)
    stick = tmp_path / "stick"
    await export_to(island.custody, stick)
    (stick / "objects" / object_of(content).hex()).write_bytes(b"x" * len(content))
    moved = await import_from(receiver.custody, stick)
    assert moved.objects == 1
    assert len(moved.refused) == 1
    assert object_of(content).hex() in moved.refused[0]
    assert await receiver.state(statement) is State.PARTIAL


async def test_promise_1_what_is_not_signed_in_this_election_is_refused_and_the_rest_kept(
    fleet: Fleet, tmp_path: Path
) -> None:
    receiver, island, _, statement = await journey(fleet)
    stick = tmp_path / "stick"
    await export_to(island.custody, stick)
    pirates = make_election(99)
    foreign = make_statement(pirates, make_node(pirates, "pulau-long"))
    (stick / "statements" / "foreign.cose").write_bytes(foreign.raw)
    (stick / "statements" / "rubbish.cose").write_bytes(b"rubbish")
    (stick / "statements" / "huge.cose").write_bytes(bytes(MAX_RECORD + 1))
    (stick / "statements" / "folder.cose").mkdir()
    (stick / "receipts").mkdir(exist_ok=True)
    (stick / "receipts" / "statement.cose").write_bytes(foreign.raw)
    (stick / "statements" / "link.cose").symlink_to("/etc/passwd")
    os.mkfifo(stick / "statements" / "pipe.cose")
    (stick / "statements" / ".hidden.cose").write_bytes(b"left by a copy that was broken off")
    moved = await import_from(receiver.custody, stick)
    for name in ("foreign", "rubbish", "huge", "folder", "statement", "link", "pipe"):
        assert [line for line in moved.refused if f"/{name}.cose" in line], name
    assert not [line for line in moved.refused if "hidden" in line]
    assert await receiver.state(statement) is State.WAITING
    assert len(await receiver.store.bundles()) == 1


async def test_promise_2_objects_that_no_statement_names_are_not_taken(fleet: Fleet, tmp_path: Path) -> None:
    receiver, _, _, _ = await journey(fleet)
    stick = tmp_path / "stick"
    (stick / "objects").mkdir(parents=True)
    (stick / "statements").mkdir()
    stray = fleet.content(1_000)
    (stick / "objects" / object_of(stray).hex()).write_bytes(stray)
    moved = await import_from(receiver.custody, stick)
    assert (moved.objects, (await receiver.store.counts()).bytes_held) == (0, 0)


async def test_an_object_that_is_a_link_is_passed_over(fleet: Fleet, tmp_path: Path) -> None:
    receiver, island, content, statement = await journey(fleet)
    stick = tmp_path / "stick"
    await export_to(island.custody, stick)
    file = stick / "objects" / object_of(content).hex()
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    await import_from(receiver.custody, stick)
    assert await receiver.state(statement) is State.PARTIAL


async def test_promise_2_an_object_of_a_size_that_no_statement_gives_is_not_taken(fleet: Fleet, tmp_path: Path) -> None:
    """Else a statement that claims one byte would have a node carry as much as a file may have."""
    receiver, island, content, statement = await journey(fleet)
    thief = make_node(fleet.election, "thief")
    for taken in (fleet.content(10), content):
        lie = replace(make_file(taken), size=1, chunks=(sha256(b"a"),))
        await island.take(make_statement(fleet.election, thief, lie, form=f"form-{len(taken)}"))
    stray = fleet.content(1_000_000)
    claim = replace(make_file(stray), size=1, chunks=(sha256(b"b"),))
    await island.take(make_statement(fleet.election, thief, claim, form="form-stray"))
    stick = tmp_path / "stick"
    await export_to(island.custody, stick)
    (stick / "objects" / object_of(stray).hex()).write_bytes(stray)
    moved = await import_from(receiver.custody, stick)
    assert moved.refused == [
        f"objects/{object_of(stray).hex()}: It has 1000000 bytes, which no statement here gives it"
    ]
    assert await receiver.state(statement) is State.WAITING, "what an honest statement gives is taken beside a lie"
    assert (moved.objects, (await receiver.store.counts()).bytes_held) == (2, len(content) + 10)
    assert moved.bytes > len(content)


@pytest.mark.parametrize("name", ["objects", "statements", "notices"])
async def test_nothing_is_exported_through_a_link_to_another_folder(fleet: Fleet, tmp_path: Path, name: str) -> None:
    _, island, _, _ = await journey(fleet)
    stick, elsewhere = tmp_path / "stick", tmp_path / "elsewhere"
    stick.mkdir()
    elsewhere.mkdir()
    (stick / name).symlink_to(elsewhere)
    with pytest.raises(BadInput, match="links to other folders"):
        await export_to(island.custody, stick)
    assert names(stick) == names(elsewhere) == []


async def test_a_file_that_is_a_link_is_exported_anew(fleet: Fleet, tmp_path: Path) -> None:
    _, island, content, statement = await journey(fleet)
    stick = tmp_path / "stick"
    await export_to(island.custody, stick)
    files = [stick / "objects" / object_of(content).hex(), stick / "statements" / f"{statement.hex()}.cose"]
    for place, file in enumerate(files):
        file.rename(tmp_path / f"elsewhere-{place}")
        file.symlink_to(tmp_path / f"elsewhere-{place}")
    again = await export_to(island.custody, stick)
    assert (again.records, again.objects) == (1, 1)
    assert not any(file.is_symlink() for file in files)
    assert files[0].read_bytes() == content


async def test_other_content_of_the_same_size_is_not_taken_for_what_was_exported(fleet: Fleet, tmp_path: Path) -> None:
    _, island, content, _ = await journey(fleet)
    stick = tmp_path / "stick"
    file = stick / "objects" / object_of(content).hex()
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(len(content)))
    await export_to(island.custody, stick)
    assert file.read_bytes() == content


async def test_a_signer_over_its_quota_is_named(fleet: Fleet, tmp_path: Path) -> None:
    island = await fleet.launch("pulau-long")
    boat = await fleet.launch("km-bahari", quota_statements=1)
    for place in range(2):
        await island.submit(form=f"form-{place}")
    await export_to(island.custody, tmp_path / "stick")
    moved = await import_from(boat.custody, tmp_path / "stick")
    assert moved.records == 1
    assert "too much under way" in moved.refused[0]


async def test_a_folder_that_is_no_export(fleet: Fleet, tmp_path: Path) -> None:
    boat = await fleet.carrier("km-bahari")
    with pytest.raises(BadInput, match="no export"):
        await import_from(boat.custody, tmp_path)


async def test_notices_by_hand(fleet: Fleet) -> None:
    boat = await fleet.carrier("km-bahari")
    revoked = Revocations((Revocation(boat.node.identity.node, "x", "lost"),))
    notice = fleet.publish(revoked)
    moved = await import_notices(boat.custody, [notice.raw, b"rubbish"])
    assert (moved.records, len(moved.refused)) == (1, 1)
    again = await import_notices(boat.custody, [notice.raw])
    assert (again.records, again.refused) == (0, [])


async def test_the_export_beside_the_folder_that_was_named_is_told(fleet: Fleet, tmp_path: Path) -> None:
    """The stick instead of the folder on it, or a part of the export instead of all of it."""
    _, island, _, _ = await journey(fleet)
    export = tmp_path / "stick" / "pulau"
    await export_to(island.custody, export)
    for wrong in (tmp_path / "stick", export / "objects"):
        with pytest.raises(BadInput, match="holds no export") as refused:
            await import_from(island.custody, wrong)
        assert f"in {export}:" in refused.value.advice
    with pytest.raises(BadInput) as refused:
        await import_from(island.custody, tmp_path)
    assert "`relay export` wrote" in refused.value.advice


def spoil(path: Path) -> None:
    """Have a file that cannot be read: whoever opens it goes round in circles."""
    path.unlink()
    path.symlink_to(path.name)


async def six_packages(fleet: Fleet) -> tuple[Ship, list[bytes], list[StatementId]]:
    """A device, what it photographed, and its statements."""
    island = await fleet.launch("pulau-long")
    contents = [fleet.content() for _ in range(6)]
    return island, contents, [await island.submit(one) for one in contents]


async def test_what_cannot_be_read_is_left_out_of_an_export_and_all_else_is_in_it(fleet: Fleet, tmp_path: Path) -> None:
    island, contents, statements = await six_packages(fleet)
    for content in contents[:2]:
        path = await island.store.object_path(object_of(content))
        assert path is not None
        spoil(path)
    await island.store.read_chunk(object_of(contents[1]), 0)  # this one is known
    out = await export_to(island.custody, tmp_path / "stick")
    assert (out.objects, out.unreadable) == (4, 2)
    assert sorted(out.refused) == sorted(
        [
            f"objects/{object_of(contents[0]).hex()}: It cannot be read (Too many levels of symbolic links)",
            f"objects/{object_of(contents[1]).hex()}: It cannot be read here",
        ]
    )
    boat = await fleet.carrier("km-bahari")
    taken = await import_from(boat.custody, tmp_path / "stick")
    assert (taken.objects, taken.refused) == (4, [])
    assert [await boat.state(one) for one in statements] == [State.PARTIAL] * 2 + [State.WAITING] * 4


async def test_a_bad_sector_in_the_middle_of_an_object_leaves_no_half_of_it_on_the_stick(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    island, contents, _ = await six_packages(fleet)
    bad = object_of(contents[3]).hex()
    real = durable._next_block

    def read(file: BinaryIO, source: Path) -> bytes:
        block = real(file, source)
        if source.name == bad and not block:
            with durable.reading(source):
                raise OSError(errno.EIO, "Input/output error")
        return block

    monkeypatch.setattr(durable, "_next_block", read)
    out = await export_to(island.custody, tmp_path / "stick")
    assert (out.objects, out.refused) == (5, [f"objects/{bad}: It cannot be read (Input/output error)"])
    on_stick = {path.name for path in (tmp_path / "stick" / "objects").iterdir()}
    assert on_stick == {object_of(one).hex() for one in contents} - {bad}


async def test_a_stick_that_is_full_still_ends_an_export(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    island, _, _ = await six_packages(fleet)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "write_all", full)
    with pytest.raises(DiskFull):
        await export_to(island.custody, tmp_path / "stick")


async def test_a_statement_is_on_the_stick_before_its_objects(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    island, _, statements = await six_packages(fleet)
    written: list[str] = []
    monkeypatch.setattr(byhand, "copy_durably", lambda _source, target: written.append(target.parent.name))
    monkeypatch.setattr(byhand, "write_durably", lambda target, _raw: written.append(target.parent.name))
    await export_to(island.custody, tmp_path / "stick")
    assert [one for one in written if one in ("statements", "objects")] == ["statements", "objects"] * len(statements)


async def test_what_cannot_be_read_on_a_stick_is_named_and_all_else_is_taken(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    island, contents, statements = await six_packages(fleet)
    stick = tmp_path / "stick"
    await export_to(island.custody, stick)
    boat = await fleet.carrier("km-bahari")
    first = sorted(object_of(one).hex() for one in contents)[0]
    last = f"{statements[5].hex()}.cose"
    opened = os.open

    def failing(path: Path, *how: int) -> int:
        if Path(path).name in (first, last):
            raise OSError(errno.EIO, "Input/output error")
        return opened(path, *how)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", failing)
        taken = await import_from(boat.custody, stick)
    assert taken.unreadable == 2
    assert sorted(taken.refused) == [
        f"objects/{first}: It cannot be read (Input/output error)",
        f"statements/{last}: It cannot be read (Input/output error)",
    ]
    again = await import_from(boat.custody, stick)
    assert again.refused == []
    assert [await boat.state(one) for one in statements] == [State.WAITING] * 6
