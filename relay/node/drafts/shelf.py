"""Drafts on the disk. Every method blocks; what returns has been synced (promise 5).

drafts/<draft>/draft.json        what was typed, the pictures in order, how far it is
drafts/<draft>/<picture>.part    a picture that is arriving
drafts/<draft>/<picture>         a picture that is whole
drafts/<draft>/send/<name>       links by which pictures get their names when the draft is signed
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from relay.errors import DiskFull, StoreError
from relay.limits import DRAFTS_RESERVE, SIGNING_ROOM
from relay.node.drafts.draft import SENT, Draft, Picture, from_json, to_json
from relay.records.identifiers import sha256
from relay.records.pictures import HEAD, is_cut_off, picture_kind
from relay.store.durable import bytes_free, copy_durably, explained, sync_folder, write_all, write_durably


class Shelf:
    """The folder of a node's drafts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read_all(self) -> dict[str, Draft]:
        """Every draft, by id; what was cut off before anything was typed is cleared away. Raises `StoreError`."""
        drafts: dict[str, Draft] = {}
        for folder in sorted(self._folder.glob("*")) if self._folder.exists() else ():
            file = folder / "draft.json"
            if not file.exists():
                shutil.rmtree(folder, ignore_errors=True)
                continue
            with explained(file):
                text = file.read_bytes()
            try:
                drafts[folder.name] = self._with_parts(from_json(text))
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"{file} is damaged", "Move that folder away and start again.") from error
        return drafts

    def write(self, draft: Draft) -> None:
        """Keep a draft. Raises `BadInput` when it is too long, `StoreError`."""
        text = to_json(draft)
        folder = self._folder / draft.id
        if not folder.exists():
            with explained(folder):
                folder.mkdir(parents=True, mode=0o700)
                for one in (folder.parent, self._folder.parent):
                    sync_folder(one)
        write_durably(folder / "draft.json", text, mode=0o600)

    def remove(self, draft_id: str) -> None:
        """Delete a draft and all that belongs to it."""
        shutil.rmtree(self._folder / draft_id, ignore_errors=True)

    # -- its pictures

    def path(self, draft: Draft, picture: Picture) -> Path:
        """Where a picture lies once it is whole."""
        return self._folder / draft.id / picture.id

    def check_room(self, coming: int, signing: int = 0) -> None:
        """Check that so many bytes leave the room that signing takes, which copies so many. Raises `DiskFull`."""
        if bytes_free(self._folder) - coming < max(DRAFTS_RESERVE, signing + SIGNING_ROOM):
            raise DiskFull("The disk of this node is full", "Free some space; what was sent is safe.")

    def append(self, draft: Draft, picture: Picture, offset: int, data: bytes) -> None:
        """Add bytes to a picture that is arriving. Raises `StoreError`."""
        part = self._part(draft, picture)
        with explained(part):
            made = not part.exists()
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, offset)  # what a failed write left behind
                write_all(descriptor, data, offset)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if made:
                sync_folder(part.parent)

    def examine(self, draft: Draft, picture: Picture) -> tuple[str, bool, bytes]:
        """What has arrived: its kind, whether it is cut off, and the SHA-256 of all of it."""
        part = self._part(draft, picture)
        with explained(part):
            content = part.read_bytes()
        cut_off = is_cut_off(lambda offset, size: content[offset : offset + size], len(content))
        return picture_kind(content[:HEAD]), cut_off, sha256(content)

    def complete(self, draft: Draft, picture: Picture) -> None:
        """What has arrived is the picture."""
        target = self.path(draft, picture)
        with explained(target):
            self._part(draft, picture).replace(target)
            sync_folder(target.parent)

    def copy(self, source: Path, draft: Draft, picture: Picture) -> None:
        """Make a picture of a file that is here already. Raises `StoreError`."""
        copy_durably(source, self.path(draft, picture))

    def drop(self, draft: Draft, picture: Picture) -> None:
        """Delete a picture, arrived or arriving."""
        for path in (self.path(draft, picture), self._part(draft, picture)):
            path.unlink(missing_ok=True)

    def name(self, draft: Draft) -> tuple[Path, ...]:
        """Links to the pictures, named as they are to be signed."""
        folder = self._folder / draft.id / "send"
        named = tuple(folder / draft.file_name(picture) for picture in draft.pictures)
        with explained(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for link, picture in zip(named, draft.pictures, strict=True):
                link.symlink_to(Path("..") / picture.id)
        return named

    def clear(self, draft: Draft) -> None:
        """Delete the pictures of a draft that was sent: they are in the store."""
        shutil.rmtree(self._folder / draft.id / "send", ignore_errors=True)
        for picture in draft.pictures:
            with suppress(OSError):
                self.path(draft, picture).unlink(missing_ok=True)

    def _part(self, draft: Draft, picture: Picture) -> Path:
        return self.path(draft, picture).with_suffix(".part")

    def _with_parts(self, draft: Draft) -> Draft:
        """What has arrived of each picture is what is on the disk."""
        pictures: list[Picture] = []
        for picture in draft.pictures:
            path, part = self.path(draft, picture), self._part(draft, picture)
            if draft.state != SENT and picture.whole and not path.exists():
                continue
            if not picture.whole and path.exists():  # whole, and cut off before that was written down
                with path.open("rb") as file:
                    kind = picture_kind(file.read(HEAD))
                pictures.append(replace(picture, kind=kind, received=picture.size))
            elif picture.whole:
                pictures.append(replace(picture, received=picture.size))
            else:
                pictures.append(replace(picture, received=part.stat().st_size if part.exists() else 0))
        return replace(draft, pictures=tuple(pictures))
