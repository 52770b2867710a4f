"""Backup and restoring of a node's folder, whose daemon may run meanwhile. Everything here blocks.

    backup.json            whose it is, of when, and the SHA-256 of each file of the copy; written last
    copy-0123abcd/         files of the folder, drafts, and `catalogue.db` as it was at one instant
    objects/ab/abcd…       the objects that the catalogue says are whole, shared by one backup and the next

Drafts are copied before the catalogue, and objects after it: what is signed meanwhile is in the catalogue and still a
draft, and a draft that was signed is found to be so; what is freed meanwhile is looked for in a newer copy of it. A
backup made again into the same folder brings only what is new, and until its last step the one before stays good.

A backup knows nothing of what was signed after it. So a restored node bears a mark (`RESTORED`) and signs nothing until
somebody says that nothing was: the same number of the device's chain, or a second tree of a receiver's log, is never
signed twice (promises 6 and 7).
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from relay.errors import BadInput, DiskFull, RelayError, StoreError
from relay.limits import MAX_BACKUP_LIST
from relay.node.home import Home
from relay.records.identifiers import NodeId
from relay.store.copying import check_catalogue, copy_catalogue, leave_note, newest_own, whole_objects
from relay.store.durable import TEMPORARY, copy_durably, explained, make_folder, sync_folder, write_durably
from relay.store.interface import Store

RESTORED = "restored"
"""The note of a store that came out of a backup, while nobody said that the backup was the newest state."""
MANIFEST = "backup.json"
_CATALOGUE = "catalogue.db"
_KEY = "key.pem"
_FORMAT = 1
_TRIES = 5
"""Copies of the catalogue that are taken while objects that it names are freed."""
_LEFT_OUT = (".lock", TEMPORARY, ".log")
_HOWTO = "docs/howto/backup-and-restore.md"

Progress = Callable[[str, int, int], None]
"""Told what is done of how many: `(what, done, total)`."""


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


def back_up(home: Home, target: Path, now: int, progress: Progress) -> Backup:
    """Copy a node's folder into `target`: a new folder, an empty one, or an earlier backup of the same node.

    Raises `BadInput` and `StoreError`; then an earlier backup in it is as it was.
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
        objects = _copy_store(home.store_folder, target, copy, progress)
        files[_CATALOGUE] = _digest(target / copy / _CATALOGUE)
    except BaseException as error:
        shutil.rmtree(target / copy, ignore_errors=True)
        if isinstance(error, DiskFull):
            raise DiskFull(error.what, "Use a larger disk; an earlier backup in that folder is as it was.") from error
        raise
    size = sum(objects.values())
    backup = Backup(identity.name, node_id, str(identity.role), identity.election, now, copy, files, len(objects), size)
    write_durably(target / MANIFEST, json.dumps(asdict(backup), indent=1).encode(), mode=0o600)
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


def restore(source: Path, home: Home, now: int, progress: Progress) -> Backup:
    """Make the node of a backup in the folder of `home`, which is new or empty; it bears the mark.

    Every file is checked by its hash. Raises `BadInput` and `StoreError`; then the folder is empty again.
    """
    backup = read_backup(source)
    if home.path.exists() and any(home.path.iterdir()):
        raise BadInput(
            f"{home.path} is not empty", "A backup is restored into a new folder, never over a node: choose another."
        )
    made = not home.path.exists()
    try:
        with explained(home.path):
            make_folder(home.path, mode=0o700)
            make_folder(home.store_folder / "objects")
        catalogue = home.store_folder / _CATALOGUE
        names = [name for name in backup.files if name not in (_KEY, _CATALOGUE)]
        for name in names:
            _bring(source / backup.copy / name, home.path / name, backup.files[name])
        _bring(source / backup.copy / _CATALOGUE, catalogue, backup.files.get(_CATALOGUE, ""))
        check_catalogue(catalogue)
        objects = whole_objects(catalogue)
        for done, (object_id, _) in enumerate(objects, 1):
            name = object_id.hex()
            _bring(_object(source, name), home.store_folder / "objects" / name[:2] / name, name, mode=0o644)
            progress("objects", done, len(objects))
        mark = {"made_at": backup.made_at, "restored_at": now, "seq": newest_own(catalogue)}
        leave_note(catalogue, RESTORED, json.dumps(mark))
        # The key last: a folder without it is no node, whatever ended this.
        _bring(source / backup.copy / _KEY, home.key_file, backup.files.get(_KEY, ""))
    except BaseException:
        _empty(home.path, remove=made)
        raise
    return backup


async def check_may_sign(store: Store) -> None:
    """Raises `StoreError` on a node that was restored, and may have signed what it does not know of."""
    if (await store.notes()).get(RESTORED):
        raise StoreError(
            "This node was restored from a backup, and may have signed more than the backup knows",
            f"If it signed nothing after the backup: relay restore --newest. If it may have, see {_HOWTO}.",
        )


async def check_newest(store: Store, node: NodeId) -> None:
    """Raises `StoreError` where a package that a restored node signed after its backup came back to it."""
    head = await store.chain_head(node)
    if head is not None and head[0] > json.loads((await store.notes())[RESTORED])["seq"]:
        raise StoreError(
            f"This node did sign after the backup: its package no. {head[0]} came back to it, and there may be more",
            f"Leave it as it is, so that it delivers what it has, and enrol a new node ({_HOWTO}).",
        )


async def take_mark_off(store: Store) -> None:
    """The backup was the newest state: the node goes on where it was."""
    await store.set_note(RESTORED, "")


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


def _copy_store(store: Path, target: Path, copy: str, progress: Progress) -> dict[str, int]:
    """Copy the catalogue, and the objects that it says are whole: name and size of each."""
    for _ in range(_TRIES):
        (target / copy / _CATALOGUE).unlink(missing_ok=True)
        copy_catalogue(store / _CATALOGUE, target / copy / _CATALOGUE)
        objects = {object_id.hex(): size for object_id, size in whole_objects(target / copy / _CATALOGUE)}
        gone = False
        for done, (name, size) in enumerate(objects.items(), 1):
            gone |= not _copy_object(store / "objects" / name[:2] / name, _object(target, name), name, size)
            progress("objects", done, len(objects))
        if not gone:
            return objects
    raise StoreError("Objects of this node go faster than they are copied", "Try again when it is less busy.")


def _copy_object(source: Path, target: Path, name: str, size: int) -> bool:
    """Copy an object, unless it is there; whether it is. False where it was freed meanwhile."""
    if target.exists() and target.stat().st_size == size:
        return True
    with explained(target):
        make_folder(target.parent, mode=0o700)
    try:
        digest = copy_durably(source, target, mode=0o600)
    except StoreError:
        if source.exists():
            raise
        return False
    if digest.hex() != name:
        target.unlink()
        raise StoreError(f"Object {name} is damaged on this disk", "Replace the disk; the backup before is as it was.")
    return True


def _bring(source: Path, target: Path, digest: str, mode: int = 0o600) -> None:
    """Copy a file out of a backup. Raises `BadInput` where it is not what it was."""
    with explained(target):
        make_folder(target.parent, mode=0o700)
    if not source.is_file() or copy_durably(source, target, mode).hex() != digest:
        raise BadInput(f"The backup is damaged: {source} is not what it was", "Use another backup.")


def _has_types(backup: Backup) -> bool:
    """Whether each field is what it is to be: a stick may say anything."""
    numbers = (backup.made_at, backup.objects, backup.bytes)
    if not isinstance(backup.files, dict) or not all(isinstance(one, int) for one in numbers):
        return False
    texts = (backup.node, backup.node_id, backup.role, backup.election, backup.copy, *backup.files.values())
    return all(isinstance(one, str) for one in texts)


def _is_within(path: str) -> bool:
    """Whether a path leads nowhere but into the backup."""
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and bool(pure.parts)


def _object(backup: Path, name: str) -> Path:
    return backup / "objects" / name[:2] / name


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


def _empty(folder: Path, *, remove: bool) -> None:
    with suppress(OSError, RelayError):
        for one in folder.iterdir():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        if remove:
            folder.rmdir()
