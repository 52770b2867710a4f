"""Backup of a node's folder, whose daemon may run meanwhile. Everything here blocks.

    backup.json            whose it is, of when, and the SHA-256 of each file of the copy; written last
    copy-0123abcd/         files of the folder, drafts, and `catalogue.db` as it was at one instant
    objects/ab/abcd…       the objects that the catalogue says are whole, shared by one backup and the next

Drafts are copied before the catalogue, and objects after it: what is signed meanwhile is in the catalogue and still a
draft, and a draft that was signed is found to be so; what is freed meanwhile is looked for in a newer copy of it. A
backup made again into the same folder brings only what is new, and until its last step the one before stays good. What
lies there already is known by its name and size; some of it is read again each time, so that a disk that goes bad is
noticed while the node still has what it holds. An object that the node's own disk does not give is left out, and named:
a disk that fails is what backups are for. `relay.node.restoring` is the way back.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from relay.errors import BadInput, DiskFull, StoreError, Unreadable
from relay.limits import BACKUP_REREAD, MAX_BACKUP_LIST
from relay.node.home import Home
from relay.store.copying import copy_catalogue, whole_objects
from relay.store.durable import TEMPORARY, bytes_free, copy_durably, explained, make_folder, sync_folder, write_durably

MANIFEST = "backup.json"
CATALOGUE = "catalogue.db"
_FORMAT = 1
_TRIES = 5
"""Copies of the catalogue that are taken while objects that it names are freed."""
_LEFT_OUT = (".lock", TEMPORARY, ".log")

Progress = Callable[[str, int, int], None]
"""Told what is done of how many: `(what, done, total)`."""
Mended = Callable[[str], None]
"""Told the name of an object that was damaged in the backup."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What `backup.json` says. `made_at` is the device's clock: a claim."""

    node: str
    node_id: str
    role: str
    election: str
    made_at: int
    copy: str
    files: dict[str, str]
    objects: int
    bytes: int
    format: int = _FORMAT
    left_out: list[str] = field(default_factory=list)
    """The names of objects that the catalogue has and the node's disk did not give."""


def back_up(
    home: Home, target: Path, now: int, progress: Progress, *, check: bool = False, mended: Mended = lambda _name: None
) -> Backup:
    """Copy a node's folder into `target`: a new folder, an empty one, or an earlier backup of the same node.

    With `check` every object that lies there already is read again, else a few; `mended` is told which were damaged,
    and are copied anew. Raises `BadInput` and `StoreError`; then an earlier backup in it is as it was.
    """
    if home.config().database is not None:
        raise BadInput(
            "This receiver's store is in PostgreSQL and a bucket, which have backups of their own",
            "See docs/howto/cluster.md; of this folder keep key.pem and config.toml.",
        )
    identity = home.member().identity
    node_id = identity.node.hex()
    _check_target(home, target, node_id)
    copy = f"copy-{secrets.token_hex(4)}"
    with explained(target):
        make_folder(target, mode=0o700)
        make_folder(target / copy, mode=0o700)
    try:
        files = dict(_copy_files(home.path, target / copy))
        look_again = _Reading(target, progress, mended, every=check)
        objects, left_out = _copy_store(home.store_folder, target, copy, progress, look_again)
        files[CATALOGUE] = _digest(target / copy / CATALOGUE)
    except BaseException as error:
        shutil.rmtree(target / copy, ignore_errors=True)
        if isinstance(error, DiskFull):
            raise DiskFull(error.what, "Use a larger disk; an earlier backup in that folder is as it was.") from error
        raise
    backup = Backup(
        identity.name,
        node_id,
        str(identity.role),
        identity.election,
        now,
        copy,
        files,
        len(objects),
        sum(objects.values()),
        left_out=left_out,
    )
    told = asdict(backup)
    if not left_out:
        del told["left_out"]  # what says nothing new is read by an older relay, too
    write_durably(target / MANIFEST, json.dumps(told, indent=1).encode(), mode=0o600)
    _tidy(target, copy, set(objects))
    return backup


def read_backup(source: Path) -> Backup:
    """What a backup says of itself. Raises `BadInput`."""
    try:
        with (source / MANIFEST).open("rb") as file:
            told: dict[str, Any] = json.loads(file.read(MAX_BACKUP_LIST))
        backup = Backup(**told)
        known = backup.format == _FORMAT and _has_types(backup)
        known = known and all(map(_is_within, (backup.copy, *backup.files)))
    except OSError as error:
        raise BadInput(
            f"{source} holds no whole backup ({error.strerror})", "Give the folder that `relay backup` wrote."
        ) from error
    except (ValueError, TypeError, RecursionError):
        known = False
    if not known:
        raise BadInput(f"{source} holds no backup that this relay knows", "Restore it with a newer relay.")
    return backup


# -- within


def _check_target(home: Home, target: Path, node_id: str) -> None:
    if target.resolve().is_relative_to(home.path.resolve()):
        raise BadInput(f"{target} is within the node's own folder", "Choose a folder on another disk.")
    if any(one.is_symlink() for one in (target / "objects", *target.glob("objects/*"), *target.glob("copy-*"))):
        # What is done there would be done wherever they lead: to files that are none of a backup's, too.
        raise BadInput(f"{target} has links to other folders in it", "Choose a new folder.")
    if (target / MANIFEST).exists():
        if read_backup(target).node_id != node_id:
            raise BadInput(f"{target} holds the backup of another node", "Give each node a folder of its own.")
    elif target.exists() and any(target.iterdir()) and not _is_ours(target):
        raise BadInput(f"{target} is not empty", "Choose a new folder, or one with an earlier backup of this node.")


def _is_ours(target: Path) -> bool:
    """Whether there is nothing but what a first backup leaves that was cut off."""
    return all(one.name.startswith("copy-") or one.name == "objects" for one in target.iterdir())


def _copy_files(home: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Copy what lies in the folder itself, and the drafts; names and hashes. What goes meanwhile is left out."""
    drafts = sorted((home / "drafts").rglob("*"))
    for file in (*sorted(home.iterdir()), *drafts):
        if file.is_symlink() or not file.is_file() or file.name.startswith(".") or file.name.endswith(_LEFT_OUT):
            continue
        name = file.relative_to(home)
        with explained(target):
            make_folder((target / name).parent, mode=0o700)
        try:
            digest = copy_durably(file, target / name, mode=0o600)
        except StoreError:
            if file.exists():
                raise
            continue  # sent or removed just now
        yield name.as_posix(), digest.hex()


class _Reading:
    """Reads again what lies in a backup already: every object, or a few; every one where one of those is damaged.

    What is damaged is removed, so that it is copied anew; the backup before could not have been restored with it.
    """

    def __init__(self, target: Path, progress: Progress, mended: Mended, *, every: bool) -> None:
        self._target = target
        self._progress = progress
        self._mended = mended
        self._every = every
        self._read: set[str] = set()

    def look(self, objects: Mapping[str, int]) -> None:
        """Read those that were not read yet."""
        held = [name for name, size in objects.items() if name not in self._read and is_there(self._target, name, size)]
        few = min(BACKUP_REREAD, len(held))
        chosen = held if self._every else secrets.SystemRandom().sample(held, few)
        if not self._whole(chosen) and not self._every:
            self._every = True
            self.look(objects)

    def _whole(self, names: list[str]) -> bool:
        whole = True
        for done, name in enumerate(names, 1):
            self._read.add(name)
            file = object_file(self._target, name)
            if not is_whole(file, name):
                with explained(file):
                    file.unlink(missing_ok=True)
                self._mended(name)
                whole = False
            self._progress("objects read again", done, len(names))
        return whole


def _copy_store(
    store: Path, target: Path, copy: str, progress: Progress, look_again: _Reading
) -> tuple[dict[str, int], list[str]]:
    """Copy the catalogue, and the objects that it says are whole: name and size of each, and the names of those that
    cannot be read."""
    gone: set[str] = set()
    for _ in range(_TRIES):
        (target / copy / CATALOGUE).unlink(missing_ok=True)
        _copy_catalogue(store / CATALOGUE, target / copy / CATALOGUE)
        objects = {object_id.hex(): size for object_id, size in whole_objects(target / copy / CATALOGUE)}
        look_again.look(objects)
        left_out, missing = [], set()
        for done, (name, size) in enumerate(objects.items(), 1):
            source = store / "objects" / name[:2] / name
            try:
                _copy_object(source, object_file(target, name), name, size)
            except Unreadable:
                left_out.append(name)
                if not os.path.lexists(source):
                    missing.add(name)
            progress("objects", done, len(objects))
        if missing <= gone:  # a newer copy of the catalogue says that they are whole: they were not freed, but lost
            for name in left_out:
                del objects[name]
            return objects, left_out
        gone = missing
    raise StoreError("Objects of this node go faster than they are copied", "Try again when it is less busy.")


def _copy_catalogue(source: Path, target: Path) -> None:
    """Copy the catalogue. The database tells trouble with either disk as trouble with itself."""
    try:
        copy_catalogue(source, target)
    except StoreError as error:
        if bytes_free(target.parent) < source.stat().st_size:
            raise DiskFull(
                f"The disk is full ({target})", "Use a larger disk; an earlier backup in that folder is as it was."
            ) from error
        raise


def _copy_object(source: Path, target: Path, name: str, size: int) -> None:
    """Copy an object, unless it is there. Raises `Unreadable` where it was freed meanwhile, or cannot be read as it
    was, and `StoreError` for the other disk."""
    if target.exists() and target.stat().st_size == size:
        return
    with explained(target):
        make_folder(target.parent, mode=0o700)
    digest = copy_durably(source, target, mode=0o600)
    if digest.hex() != name:
        target.unlink()
        raise Unreadable(f"Object {name} is damaged on this disk", "Check the disk, card or stick.")


def _has_types(backup: Backup) -> bool:
    """Whether each field is what it is to be: a stick may say anything."""
    numbers = (backup.made_at, backup.objects, backup.bytes)
    held = ((backup.files, dict), (backup.left_out, list))
    if not all(isinstance(one, kind) for one, kind in held) or not all(isinstance(one, int) for one in numbers):
        return False
    texts = (backup.node, backup.node_id, backup.role, backup.election, backup.copy, *backup.files.values())
    return all(isinstance(one, str) for one in (*texts, *backup.left_out))


def _is_within(path: str) -> bool:
    """Whether a path leads nowhere but into the backup."""
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and bool(pure.parts)


def object_file(backup: Path, name: str) -> Path:
    """Where an object lies in a backup."""
    return backup / "objects" / name[:2] / name


def is_there(backup: Path, name: str, size: int) -> bool:
    """Whether a backup has an object, by its name and size."""
    file = object_file(backup, name)
    return file.exists() and file.stat().st_size == size


def is_whole(file: Path, digest: str) -> bool:
    """Whether a file can be read, and is what it was."""
    try:
        return file.is_file() and _digest(file) == digest
    except StoreError:
        return False


def _digest(file: Path) -> str:
    with explained(file), file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _tidy(target: Path, copy: str, objects: set[str]) -> None:
    """Remove what the backup that was written just now does not need. What stays for once does no harm."""
    for one in target.glob("copy-*"):
        if one.name != copy:
            shutil.rmtree(one, ignore_errors=True)
    for one in (target / "objects").glob("??/*"):
        if one.name not in objects:
            one.unlink(missing_ok=True)
    with suppress(OSError):
        sync_folder(target)
