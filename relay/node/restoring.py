"""Restoring a node from its backup (`relay.node.backup`), and the mark that it bears then. What restores blocks.

A backup knows nothing of what was signed after it. So a restored node bears a mark (`RESTORED`) and signs nothing until
somebody says that nothing was: the same number of the device's chain, or a second tree of a receiver's log, is never
signed twice (promises 6 and 7).

While a folder is filled it bears another one, `Home.restore_mark`, and it gets its key last: whatever ended the
restoring, what is there is no node, and the same command begins again.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from relay.errors import BadInput, DiskFull, RelayError, StoreError
from relay.limits import MIB
from relay.node.backup import CATALOGUE, Backup, Progress, is_whole, object_file, read_backup
from relay.node.home import Home
from relay.records.identifiers import NodeId
from relay.store.copying import check_catalogue, leave_note, newest_own, whole_objects
from relay.store.durable import bytes_free, copy_durably, explained, make_folder, write_durably
from relay.store.interface import Store

RESTORED = "restored"
"""The note of a store that came out of a backup, while nobody said that the backup was the newest state."""
_KEY = "key.pem"
_NAMED = 5
"""Damaged files that an error names."""
_HOWTO = "docs/howto/backup-and-restore.md"
_UNFINISHED = b"""A restore into this folder is under way, or was cut off. This is no node yet:
restore it again, into this folder.
"""


def restore(source: Path, home: Home, now: int, progress: Progress) -> Backup:
    """Make the node of a backup in the folder of `home`, which is new or empty, or where that was cut off; it bears the
    mark.

    Every file is checked by its hash. What the backup left out is missing here too, and is taken again from any node
    that has it. Raises `BadInput` and `StoreError`; then the folder is empty again.
    """
    backup = read_backup(source)
    made = _check_target(home, backup)
    try:
        with explained(home.path):
            make_folder(home.path, mode=0o700)
        write_durably(home.restore_mark, _UNFINISHED)
        _Bringing(source, backup, home, progress).bring(now)
        with explained(home.path):
            home.restore_mark.unlink(missing_ok=True)
    except BaseException:
        _empty(home.path, remove=made)
        raise
    return backup


async def check_may_sign(store: Store) -> None:
    """Raises `StoreError` on a node that was restored, and may have signed what it does not know of."""
    if (await store.notes()).get(RESTORED):
        raise StoreError(
            "This node was restored from a backup, and may have signed more than the backup knows",
            "If it signed nothing after the backup: relay restore --home FOLDER --newest. "
            f"If it may have, see {_HOWTO}.",
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


class _Bringing:
    """Brings the files of one backup into a folder. Once one is damaged the rest is only looked at, to name all."""

    def __init__(self, source: Path, backup: Backup, home: Home, progress: Progress) -> None:
        self._copy = source / backup.copy
        self._source = source
        self._backup = backup
        self._home = home
        self._progress = progress
        self._damaged: list[Path] = []

    def bring(self, now: int) -> None:
        """Bring them. Raises `BadInput`, which names the damaged ones, and `StoreError`."""
        for name in self._backup.files:
            if name not in (_KEY, CATALOGUE):
                self._file(name, self._home.path / name)
        catalogue = self._home.store_folder / CATALOGUE
        self._file(CATALOGUE, catalogue)
        if self._copy / CATALOGUE not in self._damaged:
            self._objects(self._copy / CATALOGUE if self._damaged else catalogue)
        if self._damaged:
            self._look_at(self._copy / _KEY, self._backup.files.get(_KEY, ""))
            raise self._error()
        mark = {"made_at": self._backup.made_at, "restored_at": now, "seq": newest_own(catalogue)}
        leave_note(catalogue, RESTORED, json.dumps(mark))
        # The key last: a folder without it is no node, whatever ended this.
        self._file(_KEY, self._home.key_file)
        if self._damaged:
            raise self._error()

    def _objects(self, catalogue: Path) -> None:
        check_catalogue(catalogue)
        objects = whole_objects(catalogue)
        with explained(self._home.path):
            make_folder(self._home.store_folder / "objects")
        left_out = set(self._backup.left_out)
        for done, (object_id, _) in enumerate(objects, 1):
            name = object_id.hex()
            source = object_file(self._source, name)
            target = self._home.store_folder / "objects" / name[:2] / name
            if name not in left_out or source.exists():  # somebody may have put a copy there since
                self._bring(source, target, name, mode=0o644)
            self._progress("objects", done, len(objects))

    def _file(self, name: str, target: Path) -> None:
        self._bring(self._copy / name, target, self._backup.files.get(name, ""), mode=0o600)

    def _bring(self, source: Path, target: Path, digest: str, mode: int) -> None:
        if self._damaged:
            self._look_at(source, digest)
            return
        with explained(target):
            make_folder(target.parent, mode=0o700)
        try:
            if source.is_file() and copy_durably(source, target, mode).hex() == digest:
                return
        except StoreError:
            if is_whole(source, digest):
                raise  # it is the disk that is written to
        self._damaged.append(source)

    def _look_at(self, source: Path, digest: str) -> None:
        if not is_whole(source, digest):
            self._damaged.append(source)

    def _error(self) -> BadInput:
        """Which files are damaged, and what can be done."""
        names = [one.relative_to(self._source).as_posix() for one in self._damaged]
        advice = "Use another backup, or back the old node up again into this folder, with --check."
        if all(one.startswith("objects/") for one in names):
            advice = (
                "Use another backup, or back the old node up again into this folder, with --check. A photograph that "
                f"is whole elsewhere may be put in its place, under the same name ({_HOWTO})."
            )
        if len(names) == 1:
            return BadInput(f"The backup is damaged: {self._damaged[0]} is not what it was", advice)
        named = ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
        return BadInput(
            f"The backup in {self._source} is damaged: {len(names)} files are not what they were: {named}", advice
        )


def _check_target(home: Home, backup: Backup) -> bool:
    """Whether the folder is to be made; one in which a restore was cut off is emptied.

    Raises `BadInput` and `StoreError`.
    """
    made = not home.path.exists()
    if home.key_file.exists():
        raise BadInput(
            f"There is a node in {home.path} already",
            "A backup is restored into a new folder, never over a node: choose another.",
        )
    if home.restore_mark.exists():
        _empty(home.path, remove=False)
    if not made and any(home.path.iterdir()):
        raise BadInput(
            f"{home.path} is not empty",
            "A backup is restored into a new folder: choose another, or empty this one if nothing in it is needed.",
        )
    room, needed = bytes_free(_standing(home.path)), backup.bytes
    if room < needed:
        raise DiskFull(
            f"The backup needs {needed // MIB + 1} MiB, and the disk of {home.path} has {room // MIB}",
            "Free some space, or choose a folder on a larger disk; nothing was written.",
        )
    return made


def _standing(path: Path) -> Path:
    """The nearest folder of a path that exists."""
    return next(one for one in (path, *path.resolve().parents) if one.exists())


def _empty(folder: Path, *, remove: bool) -> None:
    with suppress(OSError, RelayError):
        for one in folder.iterdir():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        if remove:
            folder.rmdir()
