"""notices.js beside the Python that it must agree with: a receiver counts that the office names, and no other, and what
this browser saw once it does not forget."""

from __future__ import annotations

import random
from typing import Any

import pytest

from relay.records.identifiers import Kind
from relay.records.notice import (
    Body,
    Receiver,
    Receivers,
    Register,
    Revocation,
    Revocations,
    Witnesses,
    sign_notice,
)
from relay.trust.admission import Admission
from relay.trust.certificates import Identity
from relay.trust.enrolment import Enrolment, write_enrolment
from relay.trust.roles import Role
from tests.factory import ELECTION, Election, Node, make_election, make_node

HELPERS = """
  const verify = await import("/static/verify.js");
  const notices = await import(`/static/notices.js?${Math.random()}`);  // as a page that is opened anew
  const bytes = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const told = async (work) => {
    try { return await work(); }
    catch (fault) { return fault instanceof verify.Fault ? fault.key : `crash: ${fault}`; }
  };
"""
CHECK = (
    "async ([root, receiver, pem, place]) => {"
    + HELPERS
    + """
  const own = await verify.openRoot(bytes(root));
  const certificate = verify.readCertificate(bytes(receiver));
  const get = async () => new TextEncoder().encode(pem);
  return told(async () => place === null
    ? (await notices.checkReceiver(certificate, get, own)) ?? "ok"
    : notices.checkLog(certificate, get, own, place));
}"""
)
OPEN = (
    "async ([root, raws]) => {"
    + HELPERS
    + """
  const own = await verify.openRoot(bytes(root));
  return Promise.all(raws.map((raw) => told(async () => (await notices.openNotice(bytes(raw), own)).slot)));
}"""
)


@pytest.fixture
def script(page: Any, address: str) -> Any:
    """A page on which the script can be run."""
    page.goto(f"{address}check.html")
    return page


@pytest.fixture(scope="module")
def election() -> Election:
    """An election of its own."""
    return make_election(5)


@pytest.fixture(scope="module")
def receiver(election: Election) -> Node:
    """Its receiver."""
    return make_node(election, "receiver", Role.RECEIVER)


def said(election: Election, body: Body, version: int = 1, part: int = 0) -> bytes:
    """A notice of the election office."""
    return sign_notice(ELECTION, part, version, body, election.root, election.root_key)


def naming(*nodes: Node) -> Receivers:
    """A notice that names these receivers."""
    return Receivers(
        tuple(Receiver(one.identity.name, ("https://r.example:8470",), one.identity.certificate) for one in nodes)
    )


def revoking(*nodes: Node) -> Revocations:
    """A notice that revokes these nodes."""
    return Revocations(tuple(Revocation(one.identity.node, one.identity.name, "stolen") for one in nodes))


def pem(*raws: bytes) -> str:
    """What a server serves as notices.pem."""
    return write_enrolment(Enrolment(None, None, raws)).decode()


def check(script: Any, election: Election, node: Node, served: str, place: str | None = None) -> Any:
    """What the script says of a receiver, or of its log at a place."""
    return script.evaluate(CHECK, [election.root.hex(), node.identity.certificate.hex(), served, place])


def test_a_receiver_counts_that_the_office_names(script: Any, election: Election, receiver: Node) -> None:
    other = make_node(election, "receiver-2", Role.RECEIVER)
    served = pem(said(election, naming(receiver)), said(election, Witnesses(())))
    assert check(script, election, receiver, served) == "ok"
    assert check(script, election, other, served) == "unnamed-receiver"
    thief = make_node(election, "receiver", Role.RECEIVER)  # the same name, another key
    assert check(script, election, thief, served) == "unnamed-receiver"
    assert check(script, election, receiver, served + "\r\n") == "ok"
    assert check(script, election, receiver, "") == "fault"


def test_a_receiver_that_was_revoked_does_not_count(script: Any, election: Election, receiver: Node) -> None:
    named = said(election, naming(receiver))
    served = pem(named, said(election, revoking(receiver)))
    assert check(script, election, receiver, served) == "revoked-receiver"
    assert check(script, election, receiver, served, "here") == "revoked-receiver"


def test_a_revocation_that_was_seen_is_not_taken_back_by_the_server(
    script: Any, election: Election, receiver: Node
) -> None:
    named, revoked = said(election, naming(receiver)), said(election, revoking(receiver), 2)
    assert check(script, election, receiver, pem(named)) == "ok"
    assert check(script, election, receiver, pem(named, revoked)) == "revoked-receiver"
    assert check(script, election, receiver, pem(named)) == "revoked-receiver"
    older = said(election, Revocations(()))
    assert check(script, election, receiver, pem(named, older)) == "revoked-receiver"
    restored = said(election, Revocations(()), 3)
    assert check(script, election, receiver, pem(named, restored, revoked), "here") == {"older": [], "before": []}
    found = check(script, election, receiver, pem(named, older), "here")
    assert found["older"] == [{"slot": "revocations/0", "served": 1, "seen": 3}]
    found = check(script, election, receiver, pem(named), "here")
    assert found["older"] == [{"slot": "revocations/0", "served": 0, "seen": 3}]


@pytest.mark.parametrize("damage", ["{", "[1]", '["AAAA", 7, null]', "null"])
def test_a_memory_that_is_damaged_is_none(script: Any, election: Election, receiver: Node, damage: str) -> None:
    served = pem(said(election, naming(receiver)))
    assert check(script, election, receiver, served, "here") == {"older": [], "before": []}
    script.evaluate(
        "(text) => { for (const key of Object.keys(localStorage)) localStorage.setItem(key, text); }", damage
    )
    assert check(script, election, receiver, served, "here") == {"older": [], "before": []}


def test_a_browser_that_remembers_nothing_still_checks(script: Any, election: Election, receiver: Node) -> None:
    script.evaluate(
        "() => { Storage.prototype.getItem = Storage.prototype.setItem = () => { throw new DOMException('no'); }; }"
    )
    named = said(election, naming(receiver))
    assert check(script, election, receiver, pem(named)) == "ok"
    assert check(script, election, receiver, pem(named, said(election, revoking(receiver)))) == "revoked-receiver"


def test_another_log_in_place_of_one_that_should_be_there(script: Any, election: Election, receiver: Node) -> None:
    other = make_node(election, "receiver-2", Role.RECEIVER)
    both = pem(said(election, naming(receiver, other), 2))
    assert check(script, election, receiver, both, "here")["before"] == []
    assert check(script, election, other, both, "here") == "another-log"
    assert check(script, election, other, both, "elsewhere")["before"] == []
    assert check(script, election, receiver, both, "here")["before"] == []
    replaced = pem(said(election, naming(other), 3), said(election, revoking(receiver)))
    for _ in range(2):
        assert check(script, election, other, replaced, "here")["before"] == ["receiver"]
    assert check(script, election, receiver, both, "here") == "revoked-receiver"


def test_notices_are_the_offices_own(script: Any, election: Election, receiver: Node) -> None:
    other = make_election(6)
    boat = make_node(election, "boat", Role.CARRIER)
    by_a_boat = sign_notice(ELECTION, 0, 1, naming(receiver), boat.identity.certificate, boat.key)
    by_another = said(other, naming(receiver))
    mine = said(election, naming(receiver))
    forged = sign_notice(ELECTION, 0, 1, naming(receiver), election.root, boat.key)
    for raw, why in ((by_a_boat, "role"), (by_another, "role"), (forged, "signature"), (mine[:-1], "fault")):
        assert check(script, election, receiver, pem(raw)) == why
    text = pem(mine)
    for damaged in (text[:-9], text + "x", "x" + text, text.replace("RELAY NOTICE", "CERTIFICATE")):
        assert check(script, election, receiver, damaged) == "fault"


def test_no_altered_notice_crashes_or_passes(script: Any, election: Election, receiver: Node) -> None:
    dice = random.Random(8)
    whole = said(election, naming(receiver))
    altered = [bytearray(whole) for _ in range(400)]
    for one in altered:
        one[dice.randrange(len(one))] ^= 1 << dice.randrange(8)
    cut = [whole[: dice.randrange(len(whole))] for _ in range(100)]
    found = script.evaluate(OPEN, [election.root.hex(), [bytes(one).hex() for one in (whole, *altered, *cut)]])
    assert found[0] == "receivers/0"
    assert set(found[1:]) <= {"fault", "role", "signature", "foreign"}


def test_it_believes_what_admission_believes(script: Any, election: Election) -> None:
    """Notices in any order and of any age, served one set after the other: each time the same receivers count."""
    dice = random.Random(9)
    nodes = [make_node(election, f"receiver-{number}", Role.RECEIVER) for number in range(4)]
    notices = [
        said(election, make(*dice.sample(nodes, dice.randint(0, 4))), version, part)
        for make in (naming, revoking)
        for part in (0, 1)
        for version in (1, 2, 3)
    ]
    notices.append(said(election, Register(("F",), ())))
    admission = Admission(election.root)
    outcomes = set()
    for _ in range(25):
        served = dice.sample(notices, dice.randint(1, 5))
        for raw in served:
            admission.install(admission.admit(Kind.NOTICE, raw))
        for node in nodes:
            found = check(script, election, node, pem(*served))
            outcomes.add(found)
            assert found == _expected(admission, node.identity)
    assert outcomes == {"ok", "revoked-receiver", "unnamed-receiver"}


def _expected(admission: Admission, identity: Identity) -> str:
    if identity.node in admission.revoked:
        return "revoked-receiver"
    return "ok" if identity.node in admission.receiver_nodes else "unnamed-receiver"


def test_the_receiver_of_a_published_site_counts(script: Any) -> None:
    """With what a receiver publishes, fetched as the station page does."""
    found = script.evaluate(
        "async () => {"
        + HELPERS
        + """
      const get = async (path) => new Uint8Array(await (await fetch(`/${path}`)).arrayBuffer());
      const root = await verify.openRoot(verify.fromPem(await get("root.pem")));
      const receiver = await verify.openCertificate(verify.fromPem(await get("receiver.pem")), root, "receiver");
      return told(() => notices.checkLog(receiver, get, root, location.href));
    }"""
    )
    assert found == {"older": [], "before": []}


def test_notices_are_fetched_once_for_a_page(script: Any, election: Election, receiver: Node) -> None:
    found = script.evaluate(
        "async ([root, receiver, pem]) => {"
        + HELPERS
        + """
      const own = await verify.openRoot(bytes(root));
      const certificate = verify.readCertificate(bytes(receiver));
      let asked = 0;
      const get = async () => {
        asked += 1;
        if (asked === 1) throw new verify.Fault("fetch", { path: "notices.pem" });
        return new TextEncoder().encode(pem);
      };
      const first = await told(() => notices.checkReceiver(certificate, get, own));
      for (let time = 0; time < 3; time++) await notices.checkReceiver(certificate, get, own);
      return [first, asked];
    }""",
        [election.root.hex(), receiver.identity.certificate.hex(), pem(said(election, naming(receiver)))],
    )
    assert found == ["fetch", 2]
