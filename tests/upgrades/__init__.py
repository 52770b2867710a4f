"""Nodes' folders as earlier versions of relay left them, one for each schema of the store: what an upgrade meets."""

from __future__ import annotations

import io
import tarfile
from hashlib import sha256
from pathlib import Path

from relay.node.drafts import Drafts
from relay.node.home import Home
from relay.node.pairing import Pairing
from relay.records.identifiers import RecordId
from relay.records.statement import read_statement
from relay.store.interface import Store

FOLDER = Path(__file__).parent
TPS = "1906022011006"
DELIVERED, WAITING = "C-HASIL-KWK-BUPATI", "C-HASIL-KWK-GUBERNUR"
"""Forms of the two packages that each folder holds; a correction of the first one was begun, and has a picture."""
VOTERS = "101"
"""What was typed into the draft."""
PICTURE = b"\xff\xd8\xff" + bytes(range(256)) * 8
"""Of the draft; where the store has a schema from the third on, with the end that pictures have to have."""
WHOLE_PICTURE = PICTURE + b"\xff\xd9"


def kept(schema: int) -> Path:
    """Where the folder of a node lies whose store has this schema."""
    return FOLDER / f"schema-{schema}.tar.gz"


def unpack(schema: int, target: Path) -> None:
    """Make the folder of a node as it was left: `target` is new, or empty."""
    with tarfile.open(fileobj=io.BytesIO(kept(schema).read_bytes())) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda entry, _path: entry)  # since 3.11.4
        archive.extractall(target)


async def check_left(folder: Path) -> None:
    """Key, packages, receipt, draft and phone are those that were left, and the device's chain goes on."""
    home = Home(folder)
    member = home.member()
    assert list(member.identity.tps) == [TPS]
    assert [phone.name for phone in Pairing(folder).phones()] == ["Android Redmi Note 8"]
    async with home.custody() as custody:
        store = custody.store
        bundles = {bundle.form: bundle for bundle in await store.bundles()}
        assert {form: (str(one.state), one.entry) for form, one in bundles.items()} == {
            DELIVERED: ("delivered", 0),
            WAITING: ("waiting", None),
        }
        for bundle in bundles.values():
            for file in bundle.files:
                path = await store.object_path(file.sha256)
                assert path is not None and sha256(path.read_bytes()).digest() == file.sha256
            await _check_chain(store, bundle.id)
        assert await store.chain_head(member.identity.node) == (2, bundles[WAITING].id)
        drafts = Drafts(home, member, custody)
        await drafts.load()
        (draft,) = drafts.under_way()
        assert (draft.form, draft.counts["voters"], draft.supersedes) == (
            DELIVERED,
            VOTERS,
            bundles[DELIVERED].id.hex(),
        )
        assert drafts.picture(draft.id, "00112233aabbccdd")[1].read_bytes() in (PICTURE, WHOLE_PICTURE)


async def _check_chain(store: Store, statement: bytes) -> None:
    """A statement is what its id says, and names the one before it."""
    ((_, _, raw),) = await store.read([RecordId(statement)], 1)
    assert sha256(raw).digest() == statement
    package = read_statement(raw).package
    assert (package.previous is None) == (package.seq == 1)
