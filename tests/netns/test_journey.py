"""A package's whole journey between hosts: real mDNS, IPv6 link-local addresses only, nothing configured."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.boxes import Election, NodeBox
from tests.netns.harness import Lab
from tests.processes import eventually

REGISTER = Path(__file__).parents[2] / "relay" / "cli" / "demo" / "data" / "register.csv"
TPS = "1906022011006"
FORM = "C-HASIL-KWK-BUPATI"


def states(box: NodeBox) -> list[tuple[str, int | None]]:
    """State and log entry of every bundle on a box."""
    return [(bundle["state"], bundle["entry"]) for bundle in box.list()]


def test_island_ferry_harbour_receiver_and_the_receipt_back(lab: Lab, tmp_path: Path) -> None:
    election = Election(tmp_path / "office", REGISTER, election="journey-2024")
    roles = {"island": "operator", "ferry": "carrier", "harbour": "carrier", "receiver": "receiver"}
    hosts = {name: lab.host(name) for name in roles}
    boxes = {name: NodeBox(tmp_path / name, hosts[name]) for name in roles}
    for name, role in roles.items():
        election.admit(boxes[name], role, name=name, tps=(TPS,) if role == "operator" else ())
    beach = lab.link(hosts["island"])
    quay = lab.link(hosts["harbour"])
    lab.link(hosts["harbour"], hosts["receiver"])
    photo = tmp_path / "form.jpg"
    photo.write_bytes(b"\xff\xd8\xff" + os.urandom(1_499_997))
    statement = boxes["island"].submit(photo, tps=TPS, form=FORM)
    for box in boxes.values():
        box.start()

    beach.join(hosts["ferry"])  # the ferry calls at the island
    eventually(lambda: states(boxes["ferry"]) == [("waiting", None)], 30, "the ferry has the package")
    assert states(boxes["harbour"]) == []
    beach.leave(hosts["ferry"])

    quay.join(hosts["ferry"])  # and then at the harbour, which alone has a way on
    eventually(lambda: states(boxes["receiver"]) == [("delivered", 0)], 30, "the receiver logged the package")
    eventually(lambda: states(boxes["ferry"]) == [("delivered", 0)], 30, "the ferry has the receipt")
    assert states(boxes["island"]) == [("waiting", None)]
    quay.leave(hosts["ferry"])

    beach.join(hosts["ferry"])  # on its second round it brings the receipt
    eventually(lambda: states(boxes["island"]) == [("delivered", 0)], 30, "the receipt is back on the island")

    digest = hashlib.sha256(photo.read_bytes()).hexdigest()
    for name, box in boxes.items():
        (bundle,) = box.list()
        assert (bundle["id"], [one["sha256"] for one in bundle["objects"]]) == (statement, [digest])
        assert not (box.home / "config.toml").exists()
        assert "inet " not in hosts[name].run(["ip", "address", "show", "scope", "link"]).text
    assert {name: met(box) for name, box in boxes.items()} == {
        "island": {"ferry"},
        "ferry": {"island", "harbour"},
        "harbour": {"ferry", "receiver"},
        "receiver": {"harbour"},
    }
    for name in ("island", "receiver"):  # those between may have freed what was delivered
        assert boxes[name].cat(digest) == photo.read_bytes()
    assert (boxes["receiver"].home / "public" / "checkpoint").read_text().splitlines()[1] == "1", "one log entry"
    assert [box.stop() for box in boxes.values()] == [0, 0, 0, 0]


def met(box: NodeBox) -> set[str]:
    """The names of the nodes that a box was ever in contact with."""
    return {peer["node"] for peer in box.status()["peers"]}
