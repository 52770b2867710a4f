"""Drafts: durable, bounded, one statement at most. Without a browser, on a store of its own."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from relay.errors import BadInput, DiskFull, NotHeld, RelayError, StoreError
from relay.limits import (
    BALLAST_CLEARANCE,
    DISK_RESERVE,
    DRAFTS_RESERVE,
    MAX_PICTURE,
    MAX_PICTURES,
    MIB,
    STATEMENTS_RESERVE,
)
from relay.node.capture import Captured, Submission, capture
from relay.node.drafts import (
    OPEN,
    SENDING,
    SENT,
    AlreadySent,
    Draft,
    Drafts,
    OffsetConflict,
    shelf,
    signing,
)
from relay.node.drafts.draft import DamagedPicture, PictureRemoved, UnusablePicture
from relay.node.home import Home
from relay.records.identifiers import sha256
from relay.records.notice import Receiver, Receivers, Register, Station
from relay.records.pictures import HEAD, is_cut_off, picture_kind
from relay.records.tally import Tally
from relay.store.interface import State
from relay.trust.sealing import make_sealing_key, public_sealing_key
from tests.disks import fill, left, needs_mounts, small_disk
from tests.fleet import Fleet, Ship

JPEG = b"\xff\xd8\xff\xda" + bytes(range(256)) * 8 + b"\xff\xd9"
NOW = 1_732_700_000


@dataclass
class Desk:
    """A device with its drafts; `restart` is what a power cut and a new start make of them."""

    home: Home
    ship: Ship
    drafts: Drafts

    async def restart(self) -> Drafts:
        self.drafts = Drafts(self.home, self.ship.member, self.ship.custody)
        await self.drafts.load()
        return self.drafts

    async def with_picture(self, content: bytes = JPEG, form: str = "form-1") -> Draft:
        draft = await self.drafts.begin("tps-1", form)
        await self.drafts.append(draft.id, "00" * 8, len(content), 0, content)
        await self.drafts.finish(draft.id, "00" * 8, sha256(content))
        return self.drafts.get(draft.id)


@pytest.fixture
async def desk(fleet: Fleet) -> AsyncIterator[Desk]:
    """The device, in an election with a register."""
    station = Station("tps-1", 1, "Mentawak", "Manggar", "Pulau Long", 500, signal=False)
    fleet.publish(Register(("form-1", "form-2"), (station, replace(station, tps="tps-2"))))
    ship = await fleet.launch("pulau-long")
    home = Home(ship.folder)
    yield Desk(home, ship, Drafts(home, ship.member, ship.custody))


async def test_there_is_one_draft_for_a_form(desk: Desk) -> None:
    """Of one's own stations and of this election only."""
    first = await desk.drafts.begin("tps-1", "form-1")
    assert (await desk.drafts.begin("tps-1", "form-1")).id == first.id
    assert (await desk.drafts.begin("tps-1", "form-2")).id != first.id
    for tps, form in (("tps-2", "form-1"), ("tps-1", "form-9"), ("../x", "form-1"), ("", "")):
        with pytest.raises(BadInput):
            await desk.drafts.begin(tps, form)


async def test_what_was_acknowledged_outlives_a_power_cut(desk: Desk) -> None:
    """Numbers, whole pictures, and the part of a picture."""
    draft = await desk.with_picture()
    await desk.drafts.save(draft.id, {"voters": " 12 ", "pair-2": "7", "pairs": "3", "rubbish": "x"})
    await desk.drafts.append(draft.id, "11" * 8, 5000, 0, JPEG)
    before = desk.drafts.get(draft.id)
    after = (await desk.restart()).get(draft.id)
    assert (after.counts["voters"], after.votes["2"], after.pairs) == ("12", "7", 3)
    assert "rubbish" not in json.dumps(dict(after.counts))
    assert [(one.whole, one.received) for one in after.pictures] == [(True, len(JPEG)), (False, len(JPEG))]
    assert after.pictures == before.pictures
    picture, path = desk.drafts.picture(draft.id, "00" * 8)
    assert path.read_bytes() == JPEG and picture.kind == "jpg"


async def test_parts_that_come_twice_write_nothing_twice(desk: Desk) -> None:
    """A conflict tells where to go on."""
    draft = await desk.drafts.begin("tps-1", "form-1")
    await desk.drafts.append(draft.id, "22" * 8, len(JPEG), 0, JPEG[:1000])
    for offset in (0, 999, 1001):
        with pytest.raises(OffsetConflict) as conflict:
            await desk.drafts.append(draft.id, "22" * 8, len(JPEG), offset, b"xxxx")
        assert conflict.value.offset == 1000
    with pytest.raises(OffsetConflict):
        await desk.drafts.finish(draft.id, "22" * 8)
    await desk.drafts.append(draft.id, "22" * 8, len(JPEG), 1000, JPEG[1000:])
    assert (await desk.drafts.finish(draft.id, "22" * 8, sha256(JPEG))).whole
    assert (await desk.drafts.finish(draft.id, "22" * 8)).whole
    with pytest.raises(OffsetConflict):
        await desk.drafts.append(draft.id, "22" * 8, len(JPEG), len(JPEG), b"")


async def test_what_is_damaged_or_no_picture_is_dropped(desk: Desk) -> None:
    """What is damaged is awaited once more, what is no picture is not."""
    draft = await desk.drafts.begin("tps-1", "form-1")
    for content, digest in ((JPEG, sha256(b"other")), (b"GIF89a" + bytes(100), sha256(b"other"))):
        await desk.drafts.append(draft.id, "33" * 8, len(content), 0, content)
        with pytest.raises(DamagedPicture):
            await desk.drafts.finish(draft.id, "33" * 8, digest)
        assert [(one.received, one.whole) for one in (await desk.restart()).get(draft.id).pictures] == [(0, False)]
        await desk.drafts.append(draft.id, "33" * 8, len(content), 0, content)
        if content == JPEG:
            assert (await desk.drafts.finish(draft.id, "33" * 8, sha256(JPEG))).whole
            await desk.drafts.discard(draft.id)
            draft = await desk.drafts.begin("tps-1", "form-1")
    with pytest.raises(UnusablePicture):
        await desk.drafts.finish(draft.id, "33" * 8)
    assert desk.drafts.get(draft.id).pictures == ()
    assert list((desk.home.path / "drafts" / draft.id).iterdir()) == [
        desk.home.path / "drafts" / draft.id / "draft.json"
    ]


async def test_a_picture_that_is_cut_off_is_dropped_and_said_to_be(desk: Desk) -> None:
    """It shows the half of a form and a grey box."""
    draft = await desk.drafts.begin("tps-1", "form-1")
    cut = JPEG[:-20]
    await desk.drafts.append(draft.id, "33" * 8, len(cut), 0, cut)
    with pytest.raises(UnusablePicture, match="does not open"):
        await desk.drafts.finish(draft.id, "33" * 8, sha256(cut))
    assert (await desk.restart()).get(draft.id).pictures == ()


async def test_announced_pictures_are_lacking_until_they_are_here(desk: Desk) -> None:
    """In their order, after a power cut, and until somebody removes them: then no phone brings them back."""
    draft = await desk.drafts.begin("tps-1", "form-1")
    names = ["66" * 8, "77" * 8]
    for _ in range(2):
        await desk.drafts.announce(draft.id, [(name, len(JPEG)) for name in names])
    assert [(one.id, one.number) for one in (await desk.restart()).get(draft.id).pictures] == [
        (names[0], 1),
        (names[1], 2),
    ]
    with pytest.raises(BadInput, match="in full"):
        await desk.drafts.send(draft.id, NOW)
    await desk.drafts.append(draft.id, names[1], len(JPEG), 0, JPEG)
    await desk.drafts.finish(draft.id, names[1])
    with pytest.raises(BadInput, match="in full"):
        await desk.drafts.send(draft.id, NOW)
    await desk.drafts.remove(draft.id, names[0])
    await desk.restart()
    await desk.drafts.announce(draft.id, [(names[0], len(JPEG))])
    with pytest.raises(PictureRemoved):
        await desk.drafts.append(draft.id, names[0], len(JPEG), 0, JPEG)
    await desk.drafts.send(draft.id, NOW)


async def test_what_can_be_no_picture_keeps_no_other_from_being_announced(desk: Desk) -> None:
    """Each is bounded as pictures are, and those that are not noted are named."""
    draft = await desk.drafts.begin("tps-1", "form-1")
    for name, size in (("zz" * 8, 5), ("44" * 8, 0), ("44" * 8, MAX_PICTURE + 1)):
        assert list(await desk.drafts.announce(draft.id, [(name, size), ("66" * 8, 5)])) == [name]
        assert [one.id for one in (await desk.restart()).get(draft.id).pictures] == ["66" * 8]
    many = [f"{n:016x}" for n in range(MAX_PICTURES + 1)]
    assert list(await desk.drafts.announce(draft.id, [(name, 5) for name in many])) == many[-2:]
    assert len(desk.drafts.get(draft.id).pictures) == MAX_PICTURES


async def test_pictures_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """In size and number, in their ids, and by the disk."""
    draft = await desk.drafts.begin("tps-1", "form-1")
    for name, size in (("zz" * 8, 5), ("../../../etc", 5), ("44" * 8, 0), ("44" * 8, MAX_PICTURE + 1)):
        with pytest.raises(BadInput):
            await desk.drafts.append(draft.id, name, size, 0, b"")
    for n in range(MAX_PICTURES):
        await desk.drafts.append(draft.id, f"{n:016x}", 5, 0, b"x")
    with pytest.raises(BadInput, match="at most"):
        await desk.drafts.append(draft.id, "44" * 8, 5, 0, b"x")
    monkeypatch.setattr(shelf, "bytes_free", lambda _path: 1000)
    with pytest.raises(StoreError, match="full"):
        await desk.drafts.append(draft.id, f"{1:016x}", 5, 1, b"x")


@needs_mounts
async def test_what_others_brought_keeps_nobody_from_handing_in_his_own(tmp_path: Path) -> None:
    """Content of others stops first, then their statements; a device's own pictures where signing needs the rest."""
    assert DISK_RESERVE > STATEMENTS_RESERVE > BALLAST_CLEARANCE > DRAFTS_RESERVE
    with small_disk(tmp_path / "disk", DISK_RESERVE + 6 * MIB) as disk:
        fleet, others = Fleet(disk), Fleet(tmp_path / "elsewhere")
        others.election = fleet.election
        forms = ("form-1", "form-2", "form-3", "form-4")
        fleet.publish(Register(forms, (Station("tps-1", 1, "Mentawak", "Manggar", "Pulau Long", 500, signal=False),)))
        box, neighbour = await fleet.launch("pulau-long"), await others.launch("pulau-batun")
        for _ in range(8):
            await neighbour.submit(fleet.content(MIB), form="form-5")
        await box.visit(neighbour)
        assert left(disk) < DISK_RESERVE + MIB, "others fill it as far as they may"
        desk = Desk(Home(box.folder), box, Drafts(Home(box.folder), box.member, box.custody))
        photographs = [JPEG[:-2] + fleet.content(3 * MIB) + JPEG[-2:] for _ in forms]
        for leave, form, photograph in zip(
            (left(disk), STATEMENTS_RESERVE, DRAFTS_RESERVE + 4 * MIB), forms, photographs, strict=False
        ):
            syslog = fill(disk, leave=leave)
            draft = await desk.with_picture(photograph, form)
            assert await box.state(await desk.drafts.send(draft.id, NOW)) is State.WAITING
        fill(disk, leave=DRAFTS_RESERVE + MIB)
        with pytest.raises(DiskFull):
            await desk.with_picture(photographs[-1], forms[-1])
        syslog.unlink()
        await desk.with_picture(photographs[-1], forms[-1])
        for ship in (box, neighbour):
            await ship.store.close()


@needs_mounts
@pytest.mark.parametrize("sealed", [False, True])
async def test_pictures_that_were_acknowledged_can_be_signed(tmp_path: Path, sealed: bool) -> None:
    """Also a draft that is larger than what drafts leave alone at the least: signing copies all of it. Each draft is
    signed by itself, the largest last."""
    with small_disk(tmp_path / "disk", DISK_RESERVE) as disk:
        fleet = Fleet(disk)
        station = Station("tps-1", 1, "Mentawak", "Manggar", "Pulau Long", 500, signal=False)
        fleet.publish(Register(("form-1", "form-2"), (station,)))
        box = await fleet.launch("pulau-long")
        try:
            if sealed:
                key = public_sealing_key(make_sealing_key())
                receiver = Receiver("receiver", (), box.node.identity.certificate, key)
                await box.take(fleet.publish(Receivers((receiver,), sealed=True)))
            desk = Desk(Home(box.folder), box, Drafts(Home(box.folder), box.member, box.custody))
            fill(disk, leave=40 * MIB)
            await _photograph_and_sign(desk, [fleet.content(5 * MIB) for _ in range(9)], 2 if sealed else 3)
            assert left(disk) > DRAFTS_RESERVE
        finally:
            await box.store.close()


async def _photograph_and_sign(desk: Desk, contents: Sequence[bytes], fitting: int) -> None:
    """Take pictures until there is no room for more, and sign those."""
    draft = await desk.drafts.begin("tps-1", "form-1")
    taken = 0
    with pytest.raises(DiskFull):
        for taken, content in enumerate(contents):
            await _show(desk, draft, taken, JPEG[:-2] + content + JPEG[-2:])
    assert taken == fitting
    (*_, refused) = desk.drafts.get(draft.id).pictures
    assert refused.received == 0, "it is refused before any of it is here"
    await desk.drafts.remove(draft.id, refused.id)
    small = await desk.with_picture(form="form-2")
    with pytest.raises(DiskFull):
        await desk.drafts.append(small.id, "44" * 8, 9 * MIB, 0, b"x")
    await desk.drafts.remove(small.id, "44" * 8)
    for one in (small, draft):
        assert await desk.ship.state(await desk.drafts.send(one.id, NOW)) is State.WAITING


async def _show(desk: Desk, draft: Draft, number: int, photograph: bytes) -> None:
    """A picture from a phone, part by part."""
    for offset in range(0, len(photograph), MIB):
        part = photograph[offset : offset + MIB]
        await desk.drafts.append(draft.id, f"{number:016x}", len(photograph), offset, part)
    await desk.drafts.finish(draft.id, f"{number:016x}", sha256(photograph))


async def test_a_draft_becomes_one_statement(desk: Desk) -> None:
    """However often it is sent, also after a restart; its pictures are then the store's."""
    draft = await desk.with_picture()
    await desk.drafts.save(draft.id, {"voters": "3"})
    first = await desk.drafts.send(draft.id, NOW)
    assert await desk.drafts.send(draft.id, NOW + 9) == first
    assert await (await desk.restart()).send(draft.id, NOW + 99) == first
    (bundle,) = await desk.ship.store.bundles()
    assert (bundle.id, bundle.captured_at, [file.name for file in bundle.files]) == (first, NOW, ["form-1-1.jpg"])
    assert not (desk.home.path / "drafts" / draft.id / ("00" * 8)).exists()
    with pytest.raises(AlreadySent):
        await desk.drafts.save(draft.id, {"voters": "4"})
    with pytest.raises(AlreadySent):
        await desk.drafts.begin("tps-1", "form-1")


@pytest.mark.parametrize("kept", [True, False])
async def test_a_power_cut_while_signing(desk: Desk, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    """Before the statement is kept the draft is open again; after it, the draft is sent. There is one statement."""

    class PowerCut(BaseException):
        pass

    async def cut(*arguments: Any) -> Captured:
        if kept:
            await capture(*arguments)
        raise PowerCut

    draft = await desk.with_picture()
    with monkeypatch.context() as patched:
        patched.setattr(signing, "capture", cut)
        with pytest.raises(PowerCut):
            await desk.drafts.send(draft.id, NOW)
    assert desk.drafts.get(draft.id).state == SENDING
    after = (await desk.restart()).get(draft.id)
    assert after.state == (SENT if kept else OPEN)
    statement = await desk.drafts.send(draft.id, NOW + 60)
    assert [one.id for one in await desk.ship.store.bundles()] == [statement]


async def test_trouble_while_signing_leaves_the_draft_as_it_was(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """And trouble after the statement was kept is none."""
    draft = await desk.with_picture()

    async def full(*_arguments: Any) -> Captured:
        raise StoreError("The disk is full", "Free some space.")

    async def late(*arguments: Any) -> Captured:
        await capture(*arguments)
        return await full()

    monkeypatch.setattr(signing, "capture", full)
    with pytest.raises(StoreError):
        await desk.drafts.send(draft.id, NOW)
    assert desk.drafts.get(draft.id).state == OPEN
    monkeypatch.setattr(signing, "capture", late)
    statement = await desk.drafts.send(draft.id, NOW)
    assert [one.id for one in await desk.ship.store.bundles()] == [statement]


async def test_what_is_not_complete_is_not_signed(desk: Desk) -> None:
    """A picture in part, a number that is none, nothing at all."""
    draft = await desk.drafts.begin("tps-1", "form-1")
    with pytest.raises(BadInput, match="nothing to submit"):
        await desk.drafts.send(draft.id, NOW)
    await desk.drafts.save(draft.id, {"voters": "1.204"})
    assert desk.drafts.get(draft.id).wrong == ("voters",)
    with pytest.raises(BadInput, match="no number"):
        await desk.drafts.send(draft.id, NOW)
    await desk.drafts.save(draft.id, {"voters": "1204"})
    await desk.drafts.append(draft.id, "55" * 8, 10, 0, b"x")
    with pytest.raises(BadInput, match="in full"):
        await desk.drafts.send(draft.id, NOW)
    await desk.drafts.remove(draft.id, "55" * 8)
    await desk.drafts.send(draft.id, NOW)


async def test_a_correction_begins_with_what_was_sent(desk: Desk) -> None:
    """Its numbers and pictures; it needs a reason; only the newest package is corrected."""
    draft = await desk.with_picture()
    await desk.drafts.save(draft.id, {"voters": "3", "pair-3": "2", "pairs": "3"})
    first = await desk.drafts.send(draft.id, NOW)
    correction = await desk.drafts.correct(first.hex())
    assert (correction.counts["voters"], correction.votes["3"], correction.pairs) == ("3", "2", 3)
    assert [one.whole for one in correction.pictures] == [True]
    assert (await desk.drafts.correct(first.hex())).id == correction.id
    assert (await desk.restart()).get(correction.id) == correction
    with pytest.raises(BadInput, match="reason"):
        await desk.drafts.send(correction.id, NOW)
    await desk.drafts.save(correction.id, {"voters": "4", "reason": "salah ketik"})
    second = await desk.drafts.send(correction.id, NOW)
    bundle = await desk.ship.store.bundle(second)
    assert bundle is not None and bundle.supersedes == first and len(bundle.files) == 1
    with pytest.raises(AlreadySent) as newer:
        await desk.drafts.correct(first.hex())
    assert newer.value.statement == second.hex()


async def test_a_form_that_the_command_line_sent_meanwhile(desk: Desk, tmp_path: Path) -> None:
    """Is not sent a second time."""
    draft = await desk.with_picture()
    submission = Submission("tps-1", "form-1", (), Tally({"voters": 1}), NOW)
    other = await capture(desk.home, desk.ship.member, desk.ship.custody, submission)
    with pytest.raises(AlreadySent) as sent:
        await desk.drafts.send(draft.id, NOW)
    assert sent.value.statement == other.id.hex()


async def test_unknown_drafts_are_named(desk: Desk) -> None:
    """Every method says so."""
    for call in (
        desk.drafts.save("x", {}),
        desk.drafts.send("x", NOW),
        desk.drafts.discard("x"),
        desk.drafts.append("x", "00" * 8, 1, 0, b"x"),
        desk.drafts.correct("00" * 32),
    ):
        with pytest.raises(NotHeld):
            await call
    with pytest.raises(RelayError):
        await desk.drafts.correct("zz")


async def test_a_discarded_draft_is_gone(desk: Desk) -> None:
    """With its files."""
    draft = await desk.with_picture()
    await desk.drafts.discard(draft.id)
    assert (await desk.restart()).under_way() == []
    assert not (desk.home.path / "drafts" / draft.id).exists()


def test_pictures_are_known_by_their_first_bytes() -> None:
    """Not by what they are called."""
    assert picture_kind(JPEG[:16]) == "jpg"
    assert picture_kind(b"\x89PNG\r\n\x1a\n" + bytes(8)) == "png"
    assert picture_kind(b"RIFF\0\0\0\0WEBPVP8 ") == "webp"
    assert picture_kind(b"\0\0\0\x18ftypheic\0\0\0\0") == "heic"
    for other in (b"", b"<svg xmlns=", b"GIF89a", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypmp42"):
        assert picture_kind(other) == ""


def _cut_off(content: bytes) -> bool:
    return is_cut_off(lambda offset, size: content[offset : offset + size], len(content))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("trailer", [b"", bytes(3_000_000)], ids=["plain", "with a film behind"])
def test_a_picture_is_whole_when_its_end_is_there(kind: str, trailer: bytes) -> None:
    """Wherever it is cut; what a camera writes behind it is not asked for."""
    made = io.BytesIO()
    noise = Image.effect_noise((200, 200), 90)
    noise.save(made, kind, exif=noise.getexif())
    content = made.getvalue()
    assert not _cut_off(content + trailer)
    for size in range(HEAD, len(content) - 1, 97):
        assert _cut_off(content[:size]), size
    assert _cut_off(content[:-1])


def test_the_end_of_the_small_picture_within_a_jpeg_is_not_its_own() -> None:
    """Cameras put one before the image."""
    small = b"\xff\xd8\xff\xda\x00\xff\xd9"
    exif = b"\xff\xe1" + (2 + len(small)).to_bytes(2, "big") + small
    photo = b"\xff\xd8" + exif + b"\xff\xff\xda" + bytes(5_000)
    assert _cut_off(photo)
    assert not _cut_off(photo + b"\xff\xd9")
    assert not _cut_off(b"\0\0\0\x18ftypheic")
