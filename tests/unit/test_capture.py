"""Capture: what an operator hands over becomes a signed, durable bundle, or an error that says what to do."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from relay.errors import BadInput, DiskFull, StoreError
from relay.limits import MAX_FILE, MAX_FILES, MAX_REASON, SEALING_OVERHEAD
from relay.node.capture import Captured, Submission, capture
from relay.node.home import Home
from relay.records.encoding import decode
from relay.records.identifiers import Kind, ObjectId, StatementId
from relay.records.notice import Receiver, Receivers, Register, Station
from relay.records.statement import Package, read_statement, sign_statement
from relay.records.tally import Tally
from relay.store.interface import State
from relay.trust.sealing import make_sealing_key, open_sealed, public_sealing_key
from tests.factory import ELECTION
from tests.fleet import Fleet, Ship

JPEG, END = b"\xff\xd8\xff\xda", b"\xff\xd9"
TALLY = Tally({"registered_voters": 500, "voters": 1}, {"01": 1})


def picture(kind: str) -> bytes:
    """A small picture of noise."""
    made = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(made, kind)
    return made.getvalue()


@dataclass
class Desk:
    """An operator's device, its folder and a photograph."""

    fleet: Fleet
    ship: Ship
    home: Home
    photo: Path

    async def capture(self, **changes: object) -> Captured:
        """Hand the photograph over, with some changes."""
        submission = Submission("tps-1", "form-1", (self.photo,), None, 1_700_000_000, anyway=True)
        changed = replace(submission, **changes)  # type: ignore[arg-type]
        return await capture(self.home, self.ship.member, self.ship.custody, changed)

    async def package(self, statement: StatementId) -> Package:
        """What was signed."""
        ((kind, _, raw),) = await self.ship.store.read([statement], 1)
        assert kind is Kind.STATEMENT
        return read_statement(raw).package


@pytest.fixture
async def desk(fleet: Fleet, tmp_path: Path) -> AsyncIterator[Desk]:
    """The device, in an election with a register."""
    station = Station("tps-1", 1, "Mentawak", "Manggar", "Pulau Long", 501, signal=False)
    other = replace(station, tps="tps-2")
    fleet.publish(Register(("form-1", "form-2"), (station, other)))
    ship = await fleet.launch("pulau-long")
    photo = tmp_path / "C-Hasil (1).jpg"
    photo.write_bytes(JPEG + fleet.content() + END)
    yield Desk(fleet, ship, Home(ship.folder), photo)


async def test_a_package_is_signed_and_stored(desk: Desk) -> None:
    captured = await desk.capture(tally=TALLY)
    package = await desk.package(captured.id)
    (entry,) = package.files
    assert (entry.name, entry.media_type, entry.size) == ("C-Hasil (1).jpg", "image/jpeg", desk.photo.stat().st_size)
    assert (package.seq, package.previous, package.captured_at) == (1, None, 1_700_000_000)
    assert package.tally == TALLY
    assert captured.flags == package.flags == ("incomplete", "registered-differs-from-register")
    assert await desk.ship.state(captured.id) is State.WAITING
    path = await desk.ship.store.object_path(entry.sha256)
    assert path is not None
    assert path.read_bytes() == desk.photo.read_bytes()


async def test_the_device_keeps_a_chain(desk: Desk) -> None:
    captured = [await desk.capture(captured_at=at) for at in (1, 2, 3)]
    packages = [await desk.package(one.id) for one in captured]
    assert [one.seq for one in packages] == [1, 2, 3]
    assert [one.previous for one in packages] == [None, captured[0].id, captured[1].id]


async def test_what_a_copy_of_the_key_signed_is_no_part_of_the_chain(desk: Desk) -> None:
    """Else the copy's package would pass for the device's own, without a fork; and one with the largest number there is
    would keep the device from signing any more."""
    first = await desk.capture()
    package = replace(await desk.package(first.id), seq=(1 << 62) - 1, previous=first.id)
    identity = desk.ship.member.identity
    copied = sign_statement(package, identity.uri, identity.certificate, desk.ship.member.key)
    (verdict,) = await desk.ship.custody.take([(Kind.STATEMENT, copied)])
    assert verdict.word == "new"
    second = await desk.package((await desk.capture()).id)
    assert (second.seq, second.previous) == (2, first.id)


async def test_promise_7_a_correction_names_what_it_supersedes(desk: Desk) -> None:
    first = await desk.capture()
    second = await desk.capture(supersedes=first.id, reason="typed 12 for 21")
    package = await desk.package(second.id)
    assert (package.supersedes, package.reason) == (first.id, "typed 12 for 21")
    assert await desk.ship.state(first.id) is State.WAITING


async def test_a_reason_is_one_line(desk: Desk) -> None:
    first = await desk.capture()
    second = await desk.capture(supersedes=first.id, reason=" typed 12\r\nfor\t21 \n")
    assert (await desk.package(second.id)).reason == "typed 12 for 21"


async def test_two_at_once_take_turns_in_the_chain(desk: Desk) -> None:
    """Neither may stop the event loop while it waits for the other."""
    captured = await asyncio.gather(*(desk.capture(captured_at=at) for at in range(3)))
    assert sorted([(await desk.package(one.id)).seq for one in captured]) == [1, 2, 3]


async def test_content_that_cannot_be_kept_after_all_is_told_with_the_packages_id(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its statement is durable by then: to say that nothing was kept would have it signed for twice."""
    store, adopt, calls = desk.ship.store, desk.ship.store.adopt, 0

    async def failing(object_id: ObjectId, source: Path) -> bool:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise StoreError("The disk is full", "Free some space.")
        return await adopt(object_id, source)

    monkeypatch.setattr(store, "adopt", failing)
    with pytest.raises(StoreError, match="is signed and kept") as told:
        await desk.capture()
    (bundle,) = await store.bundles()
    assert bundle.id.hex() in str(told.value)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("where", ["adopt", "add"])
async def test_what_a_submission_copied_that_failed_is_deleted_at_once(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, sealed: bool
) -> None:
    """It may be the room that the next one needs. What a package has stays, though this one mended it."""
    held = tmp_path / "held.jpg"
    held.write_bytes(JPEG + desk.fleet.content() + END)
    first = await desk.capture(files=(held,))
    if sealed:
        entry = Receiver("receiver", (), desk.ship.node.identity.certificate, public_sealing_key(make_sealing_key()))
        await desk.ship.take(desk.fleet.publish(Receivers((entry,), sealed=True)))
    store, real, calls = desk.ship.store, getattr(desk.ship.store, where), 0
    (object_id,) = [file.sha256 for file in (await desk.package(first.id)).files]
    path = await store.object_path(object_id)
    assert path is not None
    path.unlink()
    path.mkdir()
    assert await store.read_chunk(object_id, 0) is None, "a card that does not give it any more"
    path.rmdir()

    async def full(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if where == "add" or calls > 2:
            raise DiskFull("The disk is full", "Free some space.")
        return await real(*arguments, **options)

    other = tmp_path / "other.jpg"
    other.write_bytes(desk.photo.read_bytes() + END)
    with monkeypatch.context() as patch:
        patch.setattr(store, where, full)
        with pytest.raises(DiskFull):
            await desk.capture(files=(held, desk.photo, other), supersedes=first.id, reason="one page more")
    files = [one for one in (desk.ship.folder / "store" / "objects").glob("*/*") if one.is_file()]
    assert [one.name for one in files] == ([] if sealed else [object_id.hex()])
    second = await desk.capture(files=(held, desk.photo, other), supersedes=first.id, reason="one page more")
    bundle = await store.bundle(second.id)
    assert bundle is not None
    assert bundle.state is State.WAITING


async def test_names_are_made_safe_and_different(desk: Desk, tmp_path: Path) -> None:
    paths = []
    for folder, name in enumerate(["a.jpg", "a.jpg", "b\n:\\c.jpg", " .. ", "x" * 250 + ".jpg", "\udcff.jpg"]):
        (tmp_path / str(folder)).mkdir()
        path = tmp_path / str(folder) / name
        path.write_bytes(JPEG + b"content %d" % folder)
        paths.append(path)
    captured = await desk.capture(files=tuple(paths))
    names = [entry.name for entry in (await desk.package(captured.id)).files]
    assert names[:4] == ["a.jpg", "a-2.jpg", "b___c.jpg", "file"]
    assert len(names[4].encode()) <= 255
    assert names[4].endswith(".jpg")
    assert len(set(names)) == 6


Spoil = Callable[[Path], Path]


def empty(folder: Path) -> Path:
    """A file with nothing in it."""
    (folder / "empty.jpg").touch()
    return folder / "empty.jpg"


def pipe(folder: Path) -> Path:
    """A pipe that nobody writes to."""
    os.mkfifo(folder / "pipe.jpg")
    return folder / "pipe.jpg"


def huge(folder: Path) -> Path:
    """A file over the limit, which takes no room."""
    with (folder / "huge.jpg").open("wb") as file:
        file.truncate(MAX_FILE + 1)
    return folder / "huge.jpg"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (empty, "is empty"),
        (pipe, "is not a file"),
        (huge, "too large"),
        (lambda folder: folder, "is not a file"),
        (lambda folder: folder / "nowhere.jpg", "cannot be read"),
        (lambda _folder: Path("/dev/zero"), "is not a file"),
    ],
)
async def test_promise_10_a_bad_file_is_named_and_nothing_kept(
    desk: Desk, tmp_path: Path, spoil: Spoil, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        await desk.capture(files=(desk.photo, spoil(tmp_path)))
    assert await desk.ship.store.bundles() == []
    assert (await desk.ship.store.counts()).bytes_held == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"files": ()}, "nothing to submit"),
        ({"tps": "tps-9"}, "not in the register"),
        ({"tps": "tps-2"}, "not one of this device's"),
        ({"form": "form-9"}, "not of this election"),
        ({"reason": "x" * (MAX_REASON + 1)}, "too long"),
        ({"reason": "\x1b[2J"}, "cannot be printed"),
        ({"reason": "\udcff", "supersedes": StatementId(bytes(32))}, "cannot be printed"),  # type: ignore[arg-type]
        ({"reason": "mistyped"}, "for a correction"),
        ({"supersedes": StatementId(bytes(32)), "reason": "x"}, "not on this device"),  # type: ignore[arg-type]
    ],
)
async def test_promise_10_a_bad_submission_is_named_and_nothing_kept(
    desk: Desk, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        await desk.capture(**changes)
    assert await desk.ship.store.bundles() == []


async def test_too_many_files(desk: Desk) -> None:
    with pytest.raises(BadInput, match="too many"):
        await desk.capture(files=(desk.photo,) * (MAX_FILES + 1))


async def test_a_correction_is_for_the_same_station_and_form(desk: Desk) -> None:
    first = await desk.capture()
    with pytest.raises(BadInput, match="form-1"):
        await desk.capture(form="form-2", supersedes=first.id, reason="x")


async def test_a_sealed_election_seals_files_and_tally(desk: Desk) -> None:
    private = make_sealing_key()
    entry = Receiver("receiver", (), desk.ship.node.identity.certificate, public_sealing_key(private))
    await desk.ship.take(desk.fleet.publish(Receivers((entry,), sealed=True)))
    captured = await desk.capture(tally=TALLY)
    package = await desk.package(captured.id)
    assert (package.sealed, package.tally, package.flags) == (True, None, ())
    subject = f"{ELECTION}/tps-1/form-1"
    assert package.sealed_tally is not None
    assert decode(open_sealed(package.sealed_tally, private, subject), 1_000) == TALLY.to_map()
    path = await desk.ship.store.object_path(package.files[0].sha256)
    assert path is not None
    assert desk.photo.read_bytes() not in path.read_bytes()
    assert open_sealed(path.read_bytes(), private, subject) == desk.photo.read_bytes()
    assert not [file for file in desk.home.path.iterdir() if file.name.startswith(".sealed")]


@pytest.mark.parametrize("size", [MAX_FILE, MAX_FILE - SEALING_OVERHEAD + 1])
async def test_what_sealing_would_make_too_large_is_refused_and_never_cut_short(desk: Desk, size: int) -> None:
    entry = Receiver("receiver", (), desk.ship.node.identity.certificate, public_sealing_key(make_sealing_key()))
    await desk.ship.take(desk.fleet.publish(Receivers((entry,), sealed=True)))
    os.truncate(desk.photo, size)
    with pytest.raises(BadInput, match="too large"):
        await desk.capture()
    assert await desk.ship.store.bundles() == []


async def test_a_file_that_changes_before_it_is_sealed_is_refused(desk: Desk) -> None:
    entry = Receiver("receiver", (), desk.ship.node.identity.certificate, public_sealing_key(make_sealing_key()))
    await desk.ship.take(desk.fleet.publish(Receivers((entry,), sealed=True)))

    def shorten(what: str, _size: int) -> None:
        if what == "read":
            os.truncate(desk.photo, 5)

    submission = Submission("tps-1", "form-1", (desk.photo,), None, 0)
    with pytest.raises(BadInput, match="changed while"):
        await capture(desk.home, desk.ship.member, desk.ship.custody, submission, shorten)
    assert await desk.ship.store.bundles() == []


async def test_a_sealed_election_without_its_key_takes_nothing(desk: Desk) -> None:
    entry = Receiver("receiver", (), desk.ship.node.identity.certificate)
    await desk.ship.take(desk.fleet.publish(Receivers((entry,), sealed=True)))
    with pytest.raises(BadInput, match="sealed"):
        await desk.capture()
    assert await desk.ship.store.bundles() == []


@pytest.mark.parametrize("content", [b"hello", b"%PDF-1.7\n", b"GIF89a", b"RIFF....WAVE"])
async def test_only_photographs_are_signed(desk: Desk, tmp_path: Path, content: bytes) -> None:
    """By their first bytes, whatever they are called."""
    (tmp_path / "text.jpg").write_bytes(content)
    with pytest.raises(BadInput, match="is no photograph") as refused:
        await desk.capture(files=(desk.photo, tmp_path / "text.jpg"))
    assert "JPEG, PNG, WebP or HEIC" in refused.value.advice
    assert await desk.ship.store.bundles() == []


async def test_a_photograph_that_is_cut_off_is_signed_only_anyway(desk: Desk, tmp_path: Path) -> None:
    """A card that was pulled out too early: else the form is a grey box, and nobody is told."""
    desk.photo.write_bytes(picture("PNG")[:-20])
    with pytest.raises(BadInput, match=r"C-Hasil \(1\).jpg is cut off") as refused:
        await desk.capture(anyway=False)
    assert "--anyway" in refused.value.advice
    assert await desk.ship.store.bundles() == []
    await desk.capture(anyway=True)
    desk.photo.write_bytes(picture("PNG"))
    await desk.capture(anyway=False, form="form-2")


async def test_a_form_is_handed_in_once_and_then_corrected_in_a_line(desk: Desk) -> None:
    """Otherwise all the world would see a conflict; whoever wants one has to say so."""
    first = await desk.capture(anyway=False)
    await desk.capture(anyway=False, form="form-2")
    with pytest.raises(BadInput, match=f"exists: {first.id.hex()[:16]}") as twice:
        await desk.capture(anyway=False)
    assert "--supersedes" in twice.value.advice
    for reason in ("", " "):
        with pytest.raises(BadInput, match="needs a reason"):
            await desk.capture(anyway=False, supersedes=first.id, reason=reason)
    second = await desk.capture(anyway=False, supersedes=first.id, reason="retyped")
    with pytest.raises(BadInput, match="corrected already") as again:
        await desk.capture(anyway=False, supersedes=first.id, reason="retyped again")
    assert second.id.hex()[:16] in again.value.advice
    assert len(await desk.ship.store.bundles()) == 3
    await desk.capture(anyway=True, supersedes=first.id, reason="on purpose")
