"""An auditor who saw a revocation, or a log, does not forget it because a server would like that (promise 8)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay.cli.audit import audit
from relay.receiver.memory import Memory, Older
from relay.receiver.publishing import NOTICES
from relay.records.notice import Receiver, Receivers, Register, Revocation, Revocations, Topic, Witnesses, sign_notice
from relay.trust.admission import Admission
from relay.trust.enrolment import Enrolment, write_enrolment
from relay.trust.roles import Role
from tests.audit.published import Published
from tests.factory import ELECTION, Node, make_node

HOMES = ("given", "own")


@pytest.fixture
def small(tmp_path: Path) -> Published:
    """A log of three entries."""
    log = Published.make(tmp_path / "public")
    log.publish([log.say(b"photograph %d" % number).raw for number in range(3)])
    return log


@pytest.fixture(params=HOMES)
def options(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the audit remembers: in a file that is given, or in those of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return ["--state", str(tmp_path / "audit.state")] if request.param == "given" else []


def audited(log: Published, options: list[str]) -> tuple[dict[str, Any], str]:
    """What the command says of a log: its document, and what it told beside."""
    arguments = [log.url, "--root", str(log.root_file), "--jobs", "1", "--json", *options]
    done = CliRunner().invoke(audit, arguments, standalone_mode=False)
    assert done.exception is None, done.exception
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["ok"] == (done.return_value == 0)
    return document, done.stderr


def revoke(log: Published, node: Node, version: int = 1) -> None:
    """The election office revokes a node."""
    log.announce(Revocations((Revocation(node.identity.node, node.identity.name, "stolen"),)), version)


def named(node: Node) -> Receiver:
    """What a notice says of a receiver."""
    return Receiver(node.identity.name, ("https://receiver.example:8470",), node.identity.certificate)


def replace_receiver(log: Published, *still: Node) -> Node:
    """The log of another receiver, which the office named, in the place of this one; it has an entry fewer."""
    other = make_node(log.election, "receiver-2", Role.RECEIVER)
    log.announce(Receivers((*map(named, still), named(other))), 2)
    log.receiver = other
    log.rewrite(log.raws[:-1])
    return other


# -- notices


def test_a_revocation_that_was_seen_is_not_taken_back(small: Published, options: list[str]) -> None:
    old = (small.folder / NOTICES).read_bytes()
    assert audited(small, options)[0]["ok"]
    revoke(small, small.receiver)
    assert audited(small, options)[0]["reason"] == "revoked"
    small.put(NOTICES, old)
    small.publish([small.say(b"signed with the stolen key").raw])
    document, told = audited(small, options)
    assert document["reason"] == "revoked"
    assert "revocations/0 is not served any more" in told
    assert audited(small, ["--no-state"])[0]["ok"], "nothing but the memory of it shows it"


def test_an_older_notice_is_told_of_and_the_newer_one_counts(small: Published, options: list[str]) -> None:
    old = (small.folder / NOTICES).read_bytes()
    small.announce(Witnesses(()))
    small.announce(Receivers((named(small.receiver), named(make_node(small.election, "more", Role.RECEIVER)))), 2)
    document, told = audited(small, options)
    assert (document["older_notices"], "served in version" in told) == ([], False)
    small.put(NOTICES, old)
    document, told = audited(small, options)
    assert document["ok"]
    assert [(one["topic"], one["served"], one["seen"]) for one in document["older_notices"]] == [
        ("receivers", 1, 2),
        ("witnesses", 0, 1),
    ]
    assert "receivers/0 is served in version 1, and was seen in version 2" in told


def test_a_revocation_that_the_office_takes_back_is_taken_back(small: Published, options: list[str]) -> None:
    revoke(small, small.receiver)
    assert audited(small, options)[0]["reason"] == "revoked"
    small.announce(Revocations(()), 2)
    document, _ = audited(small, options)
    assert (document["ok"], document["older_notices"]) == (True, [])


def test_a_revocation_from_the_office_counts_though_no_log_shows_it(
    small: Published, options: list[str], tmp_path: Path
) -> None:
    shown = (small.folder / NOTICES).read_bytes()
    revoke(small, small.receiver)
    file = tmp_path / "revocation.pem"
    file.write_bytes(write_enrolment(Enrolment(None, None, tuple(small.notices))))
    small.put(NOTICES, shown)
    assert audited(small, options)[0]["ok"]
    assert audited(small, [*options, "--notices", str(file)])[0]["reason"] == "revoked"
    assert audited(small, options)[0]["reason"] == "revoked"


def test_notices_that_are_not_the_elections_are_not_remembered(small: Published, tmp_path: Path) -> None:
    own = ["--state", str(tmp_path / "audit.state")]
    assert audited(small, own)[0]["ok"]
    stranger = Published.make(tmp_path / "other", 99)
    revoke(stranger, small.receiver)
    small.put(NOTICES, (stranger.folder / NOTICES).read_bytes())
    assert not audited(small, own)[0]["ok"]
    small.put(NOTICES, write_enrolment(Enrolment(None, None, tuple(small.notices))))
    assert audited(small, own)[0]["ok"]


def test_a_register_is_not_missed_where_none_is_published(small: Published) -> None:
    memory = Memory(None, small.election.root)
    register = sign_notice(ELECTION, 0, 1, Register(("F",), ()), small.election.root, small.election.root_key)
    revoke(small, small.device, 3)
    assert memory.keep([register, *small.notices]) == []
    assert memory.keep(small.notices[:-1]) == [Older("revocations", 0, 0, 3)]
    admission = Admission(small.election.root)
    memory.recall(admission)
    assert small.device.identity.node in admission.revoked
    memory.close()


# -- which log is shown where


def test_another_log_in_place_of_one_that_should_be_there_is_a_fault(small: Published, options: list[str]) -> None:
    first, folder = small.receiver, list(small.raws)
    assert audited(small, options)[0]["log"] == "test-2024/receiver"
    replace_receiver(small, first)
    for _ in range(2):
        document, _ = audited(small, options)
        assert document["reason"] == "another-log"
        assert "test-2024/receiver-2 in place of test-2024/receiver" in document["wrong"]
    assert audited(small, ["--no-state"])[0]["ok"]
    small.receiver = first
    small.rewrite(folder)
    assert audited(small, options)[0]["grown_from"] == 3, "what was remembered of the log is remembered still"


def test_the_log_of_a_receiver_that_the_office_replaced_is_told_of(
    small: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    first, raws, notices = small.receiver, list(small.raws), (small.folder / NOTICES).read_bytes()
    assert audited(small, [])[0]["shown_before"] == []
    replace_receiver(small)
    revoke(small, first)
    for _ in range(2):
        document, _ = audited(small, [])
        assert (document["ok"], document["log"]) == (True, "test-2024/receiver-2")
        assert (document["shown_before"], document["missing_of_before"]) == (["test-2024/receiver"], 1)
    shown = CliRunner().invoke(audit, [small.url, "--root", str(small.root_file), "--jobs", "1"])
    assert "before it, the log test-2024/receiver was shown there" in shown.stdout
    assert "1 statements that were checked in the log before it are not in this one" in shown.stdout
    small.receiver = first  # and back, with the notices of then
    small.rewrite(raws)
    small.put(NOTICES, notices)
    assert audited(small, [])[0]["reason"] == "unknown-log"


def test_a_file_that_was_given_is_of_one_log(small: Published, tmp_path: Path) -> None:
    options = ["--state", str(tmp_path / "audit.state")]
    assert audited(small, options)[0]["ok"]
    first = small.receiver
    replace_receiver(small)
    revoke(small, first)
    for _ in range(2):
        document, _ = audited(small, options)
        assert (document["ok"], "state of an audit of another log" in document["wrong"]) == (False, True)


def test_what_was_seen_elsewhere_counts_here(small: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror of the log has no past of its own: neither its notices nor its entries can be older ones."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    mirror = Published(tmp_path / "mirror", small.election, small.receiver, small.device, list(small.notices))
    mirror.put(NOTICES, (small.folder / NOTICES).read_bytes())
    mirror.publish(small.raws)
    for name in (small.folder / "object").iterdir():
        mirror.put(f"object/{name.name}", name.read_bytes())
    assert audited(small, [])[0]["ok"]
    assert audited(mirror, [])[0]["grown_from"] == 3
    revoke(small, small.receiver)
    assert audited(small, [])[0]["reason"] == "revoked"
    assert audited(mirror, [])[0]["reason"] == "revoked"


def test_a_state_file_of_before_there_was_a_memory_is_found(
    small: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert audited(small, [])[0]["grown_from"] == 0
    for file in (tmp_path / "state" / "relay").glob("*.memory"):
        file.unlink()
    assert audited(small, [])[0]["grown_from"] == 3


def test_the_memory_is_kept_also_where_the_checkpoint_is_refused(small: Published, tmp_path: Path) -> None:
    revoke(small, small.receiver)
    options = ["--state", str(tmp_path / "audit.state")]
    assert audited(small, options)[0]["reason"] == "revoked"
    memory = Memory(tmp_path / "audit.state", small.election.root)
    admission = Admission(small.election.root)
    memory.recall(admission)
    memory.close()
    assert admission.version(Topic.REVOCATIONS) == 1
