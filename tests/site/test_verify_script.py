"""verify.js beside the Python that it must agree with: the same bytes are read, and the same are refused."""

from __future__ import annotations

import random
from typing import Any

import pytest

from relay.errors import RelayError
from relay.log.growth import Tail
from relay.log.merkle import leaf_hash, root_from_inclusion
from relay.log.tiles import TileId
from relay.log.tree import inclusion_proof
from relay.records.encoding import decode, encode
from relay.records.identifiers import sha256
from relay.trust.certificates import read_certificate
from tests.factory import make_election, make_node
from tests.site.election import BUPATI, LONG

RUN = """async ([name, inputs]) => {
  const verify = await import("/static/verify.js");
  const bytes = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const outcome = async (input) => {
    try { return await JUDGES[name](verify, bytes, input); }
    catch (fault) { if (fault instanceof verify.Fault) return null; return `crash: ${fault}`; }
  };
  const JUDGES = {
    cbor: (verify, bytes, input) => { verify.decodeCbor(bytes(input)); return "read"; },
    certificate: (verify, bytes, input) => {
      const found = verify.readCertificate(bytes(input));
      return [found.election, found.name, found.role, found.tps.toSorted()];
    },
    path: async (verify, bytes, [leaf, index, size, path]) =>
      verify.hex(await verify.rootFromPath(bytes(leaf), index, size, path.map(bytes))),
  };
  return Promise.all(inputs.map(outcome));
}"""


@pytest.fixture
def script(page: Any, address: str) -> Any:
    """A page on which the script can be run."""
    page.goto(f"{address}check.html")
    return page


def run(script: Any, name: str, inputs: list[Any]) -> list[Any]:
    """What verify.js says of each input: None where it refuses."""
    found: list[Any] = script.evaluate(RUN, [name, inputs])
    return found


def test_cbor_is_read_as_strictly(script: Any) -> None:
    dice = random.Random(5)
    value = {"seq": 1 << 40, "tally": {"votes": {"1": 12, "2": 0}}, 1: [None, True, False, b"\x00" * 30, -70_000]}
    seeds = [
        encode(value["tally"]),
        encode([value[1], "Pulau Long", 23, 24, 255, 256, 65_536]),
        encode({1: 2, -1: 3, "a": []}),
    ]
    documents = list(seeds)
    for _ in range(1_500):
        altered = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 2)):
            at = dice.randrange(len(altered))
            match dice.randrange(3):
                case 0:
                    altered[at] = dice.randrange(256)
                case 1:
                    del altered[at]
                case _:
                    altered.insert(at, dice.choice((0, 0x18, 0x5B, 0x9F, 0xA1, 0xC0, 0xF4, 0xF9, 0xFF)))
            altered = altered or bytearray(1)
        documents.append(bytes(altered))
    found = run(script, "cbor", [one.hex() for one in documents])
    assert found == ["read" if _reads(one) else None for one in documents]
    assert found.count("read") > 20 < found.count(None)


def _reads(document: bytes) -> bool:
    try:
        decode(document, 60_000)
    except RelayError:
        return False
    return True


def test_deep_and_huge_claims_are_refused(script: Any) -> None:
    hostile = [
        b"\x81" * 5_000,
        b"\x9b" + b"\xff" * 8,
        b"\xbb" + b"\x00\x00\x00\x7f" * 2,
        b"\x5a\x7f\xff\xff\xff",
        b"",
        b"\x80" * 2,
    ]
    assert run(script, "cbor", [one.hex() for one in hostile]) == [None] * len(hostile)


def test_certificates_are_read_the_same(script: Any) -> None:
    election = make_election(4)
    nodes = [
        make_node(election, f"node-{number}", tps=[f"tps-{one}" for one in range(number + 1)]) for number in range(20)
    ]
    certificates = [one.identity.certificate for one in nodes]
    found = run(script, "certificate", [one.hex() for one in certificates])
    for node, one in zip(nodes, found, strict=True):
        identity = node.identity
        assert one == [identity.election, identity.name, str(identity.role), sorted(identity.tps)]


def test_no_altered_certificate_crashes_the_reader(script: Any) -> None:
    dice = random.Random(6)
    whole = make_node(make_election(4), "pulau-long").identity.certificate
    altered = [bytearray(whole) for _ in range(1_000)]
    for one in altered:
        one[dice.randrange(len(one))] = dice.randrange(256)
    cut = [whole[: dice.randrange(len(whole))] for _ in range(200)]
    found = run(script, "certificate", [bytes(one).hex() for one in (*altered, *cut)])
    assert not [one for one in found if isinstance(one, str)]
    assert found[1_000:] == [None] * 200
    for der, one in zip(altered, found, strict=False):
        if one is not None and bytes(der) != whole:  # what is read after a change is read alike, or is not relay's
            assert _same_or_refused(bytes(der), one)


def _same_or_refused(der: bytes, found: list[Any]) -> bool:
    try:
        identity = read_certificate(der)
    except RelayError:
        return True  # the signature over it decides: the script is never easier to please than that
    return found == [identity.election, identity.name, str(identity.role), sorted(identity.tps)]


def test_proofs_lead_to_the_same_roots(script: Any) -> None:
    leaves = [leaf_hash(number.to_bytes(4)) for number in range(70)]

    def read(level: int, index: int) -> bytes:
        if level == 0:
            return leaves[index]
        return sha256(b"\x01" + read(level - 1, 2 * index) + read(level - 1, 2 * index + 1))

    cases = [
        (index, size, inclusion_proof(index, size, read)) for size in (1, 2, 3, 7, 8, 64, 70) for index in range(size)
    ]
    inputs: list[list[Any]] = [
        [leaves[index].hex(), index, size, [one.hex() for one in path]] for index, size, path in cases
    ]
    expected = [root_from_inclusion(leaves[index], index, size, path).hex() for index, size, path in cases]
    assert run(script, "path", inputs) == expected
    longer = [[leaf, index, size, [*path, leaf]] for leaf, index, size, path in inputs]
    shorter = [[leaf, index, size, path[1:]] for leaf, index, size, path in inputs if path]
    assert set(run(script, "path", longer)) | set(run(script, "path", shorter)) == {None}


def test_growth_is_proved_by_tiles(page: Any, address: str) -> None:
    """Trees of every shape, and those that do not begin with what was seen."""
    page.goto(f"{address}check.html")
    tail, roots = Tail(), [sha256(b"")]
    tiles: dict[str, str] = {}
    for number in range(1, 601):
        growth = tail.grow([number.to_bytes(2)])
        tail = growth.tail
        roots.append(tail.edge.root())
        tiles |= {tile.path: content.hex() for tile, content in growth.tiles if tile.level >= 0}
    dice = random.Random(3)
    pairs = [(0, 1), (1, 1), (1, 2), (255, 257), (256, 257), (256, 512), (300, 512), (511, 600), (600, 600)]
    for _ in range(60):
        old, new = sorted((dice.randint(1, 600), dice.randint(1, 600)))
        pairs.append((old, new))
    inputs = [[old, roots[old].hex(), new, roots[new].hex()] for old, new in pairs]
    inputs += [[old, roots[old - 1].hex(), new, roots[new].hex()] for old, new in pairs if old]
    inputs += [[old, roots[old].hex(), new, roots[new - 1].hex()] for old, new in pairs if old]
    found = page.evaluate(
        """async ([inputs, tiles]) => {
          const verify = await import("/static/verify.js");
          const bytes = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
          const outcome = async ([old, oldRoot, now, nowRoot]) => {
            const [before, after] = [{ size: old, root: bytes(oldRoot) }, { size: now, root: bytes(nowRoot) }];
            try { await verify.checkGrowth(before, after, async (path) => bytes(tiles[path])); return true; }
            catch (fault) { if (fault instanceof verify.Fault) return fault.key; return `crash: ${fault}`; }
          };
          return Promise.all(inputs.map(outcome));
        }""",
        [inputs, tiles],
    )
    assert found[: len(pairs)] == [True] * len(pairs)
    assert set(found[len(pairs) :]) == {"rolled-back"}


def test_tiles_are_asked_for_by_their_paths(page: Any, address: str) -> None:
    """Deep in a large log, of which no tile fits: what matters here are their paths."""
    page.goto(f"{address}check.html")
    asked = page.evaluate(
        """async () => {
          const verify = await import("/static/verify.js");
          const asked = [];
          const tile = async (path) => {
            asked.push(path);
            return new Uint8Array(32 * (Number(path.split(".p/")[1]) || 256));
          };
          const checkpoint = { size: 1234067 * 256 + 3, root: new Uint8Array(32) };
          try { await verify.checkInclusion({ raw: new Uint8Array(1) }, 1234067 * 256, checkpoint, tile); } catch {}
          return asked;
        }"""
    )
    size = 1_234_067 * 256 + 3
    widths = {level: (size >> 8 * level) for level in range(4)}
    expected = {TileId(0, 1_234_067, 3).path}
    expected |= {
        TileId(level, count // 256, count % 256).path for level, count in widths.items() if level and count % 256
    }
    assert expected <= set(asked)


def test_a_page_is_what_was_checked(page: Any, address: str) -> None:
    """The pictures shown are the bytes that were hashed, not fetched once more."""
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url) if "/object/" in request.url else None)
    page.goto(f"{address}tps/{LONG}/{BUPATI}.html")
    page.locator("[data-verdict][data-outcome]").nth(1).wait_for()
    assert fetched == []  # a poor link carries no photograph that nobody asked for
    page.locator("[data-photos] > summary").first.click()
    page.locator("[data-step=photographs][data-outcome=ok]").first.wait_for(state="attached")
    assert len(fetched) == len(set(fetched)) == 2
    assert all(one.get_attribute("src").startswith("blob:") for one in page.locator(".statement >> nth=0 >> img").all())
