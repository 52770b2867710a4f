"""Work on a store that a power cut may end at any instant, and the checks of what must be there afterwards.

Each `Work` runs in a process of its own and tells, through `tell`, what it was told is durable: promise 5 is that all
of it is there after the cut. `check` opens the folder as the next start would and raises `Violation` for what is not.
The real stores, sequencer, publisher, capture, import and export do the work; keys and contents follow from a seed.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from relay.log.checkpoint import parse_checkpoint
from relay.log.merkle import leaf_hash
from relay.log.note import parse_note
from relay.log.tiles import ENTRIES, TileId, decode_entries, tiles_to_write
from relay.node.byhand import export_to, import_from, import_notices
from relay.node.capture import Submission, capture
from relay.node.home import Home
from relay.node.retention import free_delivered
from relay.records.identifiers import Kind, ObjectId, RecordId, StatementId, sha256
from relay.records.statement import FileEntry, files_of
from relay.store import schema
from relay.store.interface import State, Store
from relay.store.layouts import chunk_count
from tests.factory import make_file, make_node, make_receipt, make_statement, object_of
from tests.fleet import Fleet, Ship
from tests.naive_tree import root as naive_root

Tell = Callable[..., None]
SIZE = 150_000
FORM = "C-HASIL-KWK-BUPATI"


class Violation(AssertionError):
    """Something that was acknowledged is missing, or something is there twice, or the store does not open."""


class Work:
    """What a process does, again and again on the same folder, until it is cut; `turn` numbers its processes."""

    name: ClassVar[str]

    def prepare(self, folder: Path) -> None:
        """Make what the work begins with. Runs once for a folder, before any cut."""

    async def run(self, folder: Path, turn: int, tell: Tell) -> None:
        """Work, and tell what is durable."""
        raise NotImplementedError

    async def check(self, folder: Path, told: Sequence[list[str]]) -> None:
        """Raise `Violation` unless everything that was told is there."""
        raise NotImplementedError


@asynccontextmanager
async def receiver(folder: Path) -> AsyncIterator[Ship]:
    """A receiver's store and log in `folder`, as they are opened at every start."""
    fleet = Fleet(folder)
    try:
        yield await fleet.receiver()
    finally:
        await fleet.close()


class Intake(Work):
    """A receiver: statements, chunk after chunk, entries of the log, receipts."""

    name = "intake"

    def prepare(self, folder: Path) -> None:
        (folder / "receiver").mkdir()

    async def run(self, folder: Path, turn: int, tell: Tell) -> None:
        dice = random.Random(f"intake {turn}")
        async with receiver(folder) as ship:
            assert ship.log is not None
            ship.election.dice = dice
            island = make_node(ship.election, f"island-{turn}")
            while True:
                contents = [dice.randbytes(SIZE) for _ in range(2)]
                files = [make_file(content, f"{place}.jpg") for place, content in enumerate(contents)]
                statement = make_statement(ship.election, island, *files)
                await ship.take(statement)
                tell("statement", statement.id.hex())
                for content in contents:
                    for index in range(chunk_count(SIZE)):
                        await ship.stage(content, [index])
                        tell("chunk", object_of(content).hex(), index)
                first = (await ship.store.log_state()).size
                for place in range(await ship.log.sequencer.sequence()):
                    (raw,) = await ship.store.log_statements(first + place, 1)
                    tell("entry", sha256(raw).hex(), first + place)

    async def check(self, folder: Path, told: Sequence[list[str]]) -> None:
        check_database(folder / "receiver" / "store" / "catalogue.db")
        async with receiver(folder) as ship:
            store = ship.store
            files = await check_statements(store, [bytes.fromhex(one[1]) for one in told if one[0] == "statement"])
            await check_chunks(
                store, files, [(ObjectId(bytes.fromhex(one[1])), int(one[2])) for one in told if one[0] == "chunk"]
            )
            state = await store.log_state()
            entries = [sha256(raw) for raw in await store.log_statements(0, state.size)]
            if len(set(entries)) != state.size:
                raise Violation("a statement has two entries")
            for _, statement, index in (one for one in told if one[0] == "entry"):
                if entries[int(index)].hex() != statement:
                    raise Violation(f"entry {index} is not what it was")
            published = int((folder / "receiver" / "public" / "checkpoint").read_text().splitlines()[1])
            if published != state.size:
                raise Violation(f"the published log has {published} entries, the store {state.size}")
            if await store.unlogged(1) and not await _sequence(ship):
                raise Violation("what was complete is not logged")


async def _sequence(ship: Ship) -> int:
    assert ship.log is not None
    return await ship.log.sequencer.sequence()


class Submit(Work):
    """An operator's device: packages from its files."""

    name = "submit"

    def __init__(self, template: Path, tps: str) -> None:
        self._template = template
        self._tps = tps

    def prepare(self, folder: Path) -> None:
        shutil.copytree(self._template, folder / "home")

    async def run(self, folder: Path, turn: int, tell: Tell) -> None:
        dice = random.Random(f"submit {turn}")
        home = Home(folder / "home")
        async with home.custody() as custody:
            while True:
                photo = folder / f"photo-{turn}.jpg"
                photo.write_bytes(dice.randbytes(SIZE))
                submission = Submission(
                    self._tps, FORM, (photo,), None, 1_700_000_000, anyway=True, pictures_only=False
                )
                done = await capture(home, home.member(), custody, submission)
                tell("package", done.id.hex(), sha256(photo.read_bytes()).hex())

    async def check(self, folder: Path, told: Sequence[list[str]]) -> None:
        home = Home(folder / "home")
        check_database(folder / "home" / "store" / "catalogue.db")
        async with home.custody() as custody:
            store = custody.store
            await check_statements(store, [bytes.fromhex(one[1]) for one in told])
            for _, statement, photo in told:
                bundle = await store.bundle(StatementId(RecordId(bytes.fromhex(statement))))
                if bundle is None or bundle.state is not State.WAITING:
                    raise Violation(f"package {statement} is not whole")
                path = await store.object_path(bundle.files[0].sha256)
                if path is None or sha256(path.read_bytes()).hex() != photo:
                    raise Violation(f"the photo of {statement} is not what was submitted")
            chain = sorted(bundle.seq for bundle in await store.bundles())
            if chain != list(range(1, len(chain) + 1)):
                raise Violation(f"the device's chain has gaps or forks: {chain}")


class Export(Work):
    """A node that writes everything it holds to one new stick after the other."""

    name = "export"

    def __init__(self, template: Path) -> None:
        self._template = template

    def prepare(self, folder: Path) -> None:
        shutil.copytree(self._template, folder / "home")

    async def run(self, folder: Path, turn: int, tell: Tell) -> None:
        async with Home(folder / "home").custody() as custody:
            for number in itertools.count():
                stick = f"stick-{turn}-{number}"
                await export_to(custody, folder / stick)
                tell("exported", stick)

    async def check(self, folder: Path, told: Sequence[list[str]]) -> None:
        written = {one[1] for one in told}
        async with Home(folder / "home").custody() as custody:
            bundles = await custody.store.bundles()
            held = {f"statements/{bundle.id.hex()}.cose": bundle.id.hex() for bundle in bundles}
            held |= {f"objects/{file.sha256.hex()}": file.sha256.hex() for bundle in bundles for file in bundle.files}
            for name in sorted({path.name for path in folder.glob("stick-*")} | written):
                if name not in written:
                    await export_to(custody, folder / name)  # it goes on from there
                for path, content in held.items():
                    file = folder / name / path
                    if not file.exists() or sha256(file.read_bytes()).hex() != content:
                        raise Violation(f"{name} has not got {path}, or not whole")


class Import(Work):
    """Nodes that take in a stick, one new node after the other."""

    name = "import"

    def __init__(self, template: Path, stick: Path) -> None:
        self._template = template
        self._stick = stick

    async def run(self, folder: Path, turn: int, tell: Tell) -> None:
        for number in itertools.count():
            home = new_home(self._template, folder / f"node-{turn}-{number}")
            tell("made", home.name)
            async with Home(home).custody() as custody:
                await import_from(custody, self._stick)
                for bundle in await custody.store.bundles():
                    tell("imported", home.name, bundle.id.hex())

    async def check(self, folder: Path, told: Sequence[list[str]]) -> None:
        nodes = by_node(told)
        for name, words in nodes.items():
            async with Home(folder / name).custody() as custody:
                held = {bundle.id.hex() for bundle in await custody.store.bundles() if bundle.state is State.WAITING}
                if not {one[2] for one in words if one[0] == "imported"} <= held:
                    raise Violation(f"{name} lost what it had taken in")
                if name == next(reversed(nodes)):
                    await import_from(custody, self._stick)
                    bundles = await custody.store.bundles()
                    if not bundles or any(bundle.state is not State.WAITING for bundle in bundles):
                        raise Violation(f"an import into {name} after a cut does not complete")


RELEASED = len(schema.MIGRATIONS)


class Migrate(Work):
    """Stores of an older schema, opened by a newer relay: each is of the one version or of the other, whole."""

    name = "migrate"
    STEPS = tuple(
        f"CREATE TABLE copy{number} AS SELECT * FROM records;\nCREATE INDEX by{number} ON copy{number} (id);\n"
        for number in range(12)
    )

    def __init__(self, template: Path) -> None:
        self._template = template

    async def run(self, folder: Path, turn: int, tell: Tell) -> None:
        schema.MIGRATIONS = (*schema.MIGRATIONS[:RELEASED], "".join(self.STEPS))
        schema.VERSION = RELEASED + 1
        for number in itertools.count():
            home = new_home(self._template, folder / f"node-{turn}-{number}")
            tell("made", home.name)
            async with Home(home).custody():
                tell("migrated", home.name)

    async def check(self, folder: Path, told: Sequence[list[str]]) -> None:
        for name, words in by_node(told).items():
            database = folder / name / "store" / "catalogue.db"
            if not database.exists():
                raise Violation(f"{name} is gone")
            check_database(database)
            connection = sqlite3.connect(database)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            new = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'copy%'").fetchone()[0]
            connection.close()
            if (version, new) not in {(RELEASED, 0), (RELEASED + 1, len(self.STEPS))}:
                raise Violation(f"a migration stopped half way: version {version}, {new} new tables")
            if ["migrated", name] in words and version == RELEASED:
                raise Violation(f"the migration of {name} is undone")


def by_node(told: Sequence[list[str]]) -> dict[str, list[list[str]]]:
    """What was told of each node, by its name, in the order in which they were made."""
    nodes: dict[str, list[list[str]]] = {}
    for words in told:
        nodes.setdefault(words[1], []).append(words)
    return nodes


def new_home(template: Path, target: Path) -> Path:
    """A copy of a node's folder, durable; its path."""
    shutil.copytree(template, target)
    sync_tree(target)
    return target


def sync_tree(root: Path) -> None:
    """Make a folder, what is in it and its name durable."""
    for folder, _, names in os.walk(root):
        for path in [*(Path(folder, name) for name in names), Path(folder)]:
            sync_path(path)
    sync_path(root.parent)


def sync_path(path: Path) -> None:
    """See fsync(2)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_database(path: Path) -> None:
    """SQLite's own check. Nothing is repaired by it."""
    if not path.exists():
        return
    connection = sqlite3.connect(path)
    try:
        found = connection.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        connection.close()
    if found != "ok":
        raise Violation(f"{path}: {found}")


async def check_statements(store: Store, ids: Iterable[bytes]) -> dict[ObjectId, FileEntry]:
    """Every statement is held, in its bytes. The files that they name."""
    files: dict[ObjectId, FileEntry] = {}
    for one in ids:
        records = await store.read([RecordId(one)], 1)
        if [kind for kind, _, _ in records] != [Kind.STATEMENT] or sha256(records[0][2]) != one:
            raise Violation(f"statement {one.hex()} is lost")
        files |= {file.sha256: file for file in files_of(records[0][2])}
    return files


async def check_chunks(
    store: Store, files: Mapping[ObjectId, FileEntry], chunks: Iterable[tuple[ObjectId, int]]
) -> None:
    """Every chunk is held, with the content of which its statement has the hash; every complete object has its own."""
    complete: set[ObjectId] = set()
    for object_id, index in chunks:
        holding = next(iter(await store.holdings([object_id])), None)
        if holding is None or not (holding.complete or holding.chunks >> index & 1):
            raise Violation(f"chunk {index} of {object_id.hex()} is lost")
        data = await store.read_chunk(object_id, index)
        if data is None:
            raise Violation(f"chunk {index} of {object_id.hex()} cannot be read")
        if sha256(data) != files[object_id].chunks[index]:
            raise Violation(f"chunk {index} of {object_id.hex()} counts as held, and its content is lost")
        if holding.complete and object_id not in complete:
            complete.add(object_id)
            path = await store.object_path(object_id)
            if path is None or sha256(path.read_bytes()) != object_id:
                raise Violation(f"object {object_id.hex()} counts as complete and has another hash")


class FirstStart(Work):
    """New devices, one after the other: the enrolment, the first store, the first package."""

    name = "first start"

    def __init__(self, template: Path, enrolment: Path, tps: str) -> None:
        self._template = template
        self._enrolment = enrolment.read_bytes()
        self._tps = tps

    async def run(self, folder: Path, turn: int, tell: Tell) -> None:
        for number in itertools.count():
            home = new_home(self._template, folder / f"node-{turn}-{number}")
            tell("made", home.name)
            await self._join(Home(home))
            tell("joined", home.name)
            tell("package", home.name, await self._submit(Home(home)))

    async def check(self, folder: Path, told: Sequence[list[str]]) -> None:
        nodes = by_node(told)
        for name, words in nodes.items():
            home = Home(folder / name)
            home.key()
            if ["joined", name] not in words:
                await self._join(home)  # as its user does, who saw nothing
            check_database(folder / name / "store" / "catalogue.db")
            async with home.custody() as custody:
                await check_statements(custody.store, [bytes.fromhex(one[2]) for one in words if one[0] == "package"])
                if not custody.admission.receivers and not custody.admission.stations:
                    raise Violation(f"{name} lost the notices that it joined with")
            if name == next(reversed(nodes)):
                await self._submit(home)

    async def _join(self, home: Home) -> None:
        enrolment = home.install(self._enrolment)
        async with home.custody() as custody:
            await import_notices(custody, enrolment.notices)

    async def _submit(self, home: Home) -> str:
        photo = home.path.with_suffix(".jpg")
        photo.write_bytes(b"\xff\xd8\xff" + os.urandom(9_000))
        submission = Submission(self._tps, FORM, (photo,), None, 1_700_000_000, anyway=True, pictures_only=False)
        async with home.custody() as custody:
            return (await capture(home, home.member(), custody, submission)).id.hex()


class Publish(Work):
    """A receiver that publishes its log, batch after batch: what is published is of the log, whole, and never goes."""

    name = "publish"

    def prepare(self, folder: Path) -> None:
        (folder / "receiver").mkdir()

    async def run(self, folder: Path, turn: int, tell: Tell) -> None:
        async with receiver(folder) as ship:
            assert ship.log is not None
            ship.election.dice = random.Random(f"publish {turn}")
            island = make_node(ship.election, f"island-{turn}")
            while True:
                await ship.take(*(make_statement(ship.election, island) for _ in range(7)))
                await ship.log.sequencer.sequence()
                await ship.log.sequencer.publish()
                tell("published", ship.log.sequencer.published)

    async def check(self, folder: Path, told: Sequence[list[str]]) -> None:
        public = folder / "receiver" / "public"
        before = _published(public) if (public / "checkpoint").exists() else 0
        if before < max((int(one[1]) for one in told), default=0):
            raise Violation(f"of what was published {before} entries are left")
        async with receiver(folder) as ship:
            state = await ship.store.log_state()
            entries = await ship.store.log_statements(0, state.size)
        if _published(public) != state.size:
            raise Violation("the published log is not brought up to the store's")
        held = [raw for tile in tiles_to_write(0, state.size) if tile.level == ENTRIES for raw in _bundle(public, tile)]
        if held != entries:
            raise Violation("the published entries are not those of the store")


def _bundle(public: Path, tile: TileId) -> list[bytes]:
    return decode_entries((public / tile.path).read_bytes())


def _published(public: Path) -> int:
    """How many entries the published checkpoint has; all of them are there, and hash to its root."""
    head = parse_checkpoint(parse_note((public / "checkpoint").read_bytes()))
    tiles = tiles_to_write(0, head.size)
    leaves = [leaf_hash(raw) for tile in tiles if tile.level == ENTRIES for raw in _bundle(public, tile)]
    if naive_root(leaves[: head.size]) != head.root:
        raise Violation(f"the published checkpoint of {head.size} entries is not that of the published entries")
    return head.size


class Free(Work):
    """A boat that frees what was delivered, and keeps what was not."""

    name = "free"

    def prepare(self, folder: Path) -> None:
        (folder / "boat").mkdir()  # a node's own folder is there for good before anything is in it

    async def run(self, folder: Path, turn: int, tell: Tell) -> None:
        fleet = Fleet(folder)
        office = await fleet.receiver()
        boat = await fleet.carrier("boat")
        dice = fleet.election.dice = random.Random(f"free {turn}")
        island = make_node(fleet.election, f"island-{turn}")
        for entry in itertools.count():
            pair = [dice.randbytes(SIZE) for _ in range(2)]
            statements = [make_statement(fleet.election, island, make_file(content)) for content in pair]
            await boat.take(*statements)
            for content in pair:
                await boat.stage(content, range(chunk_count(SIZE)))
            tell("waiting", statements[1].id.hex(), object_of(pair[1]).hex())
            receipt = make_receipt(fleet.election, office.node, statements[0], entry)
            tell("delivering", statements[0].id.hex(), object_of(pair[0]).hex())
            await boat.take(receipt)
            await free_delivered(boat.store, 1 << 40, 0)
            tell("freed", statements[0].id.hex(), object_of(pair[0]).hex())

    async def check(self, folder: Path, told: Sequence[list[str]]) -> None:
        check_database(folder / "boat" / "store" / "catalogue.db")
        fleet = Fleet(folder)
        boat = await fleet.carrier("boat")
        try:
            for word, statement, content in told:
                bundle = await boat.store.bundle(StatementId(RecordId(bytes.fromhex(statement))))
                path = await boat.store.object_path(ObjectId(bytes.fromhex(content)))
                whole = path is not None and sha256(path.read_bytes()).hex() == content
                state = bundle.state if bundle is not None else None
                if word == "waiting" and (state is not State.WAITING or not whole):
                    raise Violation(f"the content of {statement}, which has no receipt, is not whole")
                if word == "freed" and (state is not State.DELIVERED or path is not None):
                    raise Violation(f"what was freed of {statement} is there again")
                if word == "delivering" and (bundle is None or (state is not State.DELIVERED and not whole)):
                    raise Violation(f"the content of {statement} went before its receipt came")
                if path is not None and not whole:
                    raise Violation(f"a part of the content of {statement} counts as whole")
        finally:
            await fleet.close()
