"""A running receiver watched from outside: audited over HTTP, scraped by Prometheus, its log read by a program."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.boxes import RELAY
from tests.e2e.world import FORM, TPS, World, holds


def test_a_receiver_watched_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_LOG_FORMAT", "json")
    with World(tmp_path) as world:
        receiver = world.box("receiver", "receiver")
        receiver.start()
        device = world.box("pulau", "operator", tps=[TPS], receivers=[receiver])
        device.submit(world.photo(90_000), tps=TPS, form=FORM)
        device.start()
        holds(receiver, ("delivered", 0))

        url, state = f"http://127.0.0.1:{world.public['receiver']}", tmp_path / "audit.state"
        command: list[str | Path] = [*RELAY, "audit", url, "--root", world.election.root, "--state", state, "--json"]
        first = receiver.host.run(command).json()
        assert (first["size"], first["checked"]["receipts"], first["checked"]["objects"]) == (1, 1, 1)
        device.submit(world.photo(80_000), tps=TPS, form="C-HASIL-KWK-GUBERNUR")
        holds(receiver, ("delivered", 0), ("delivered", 1))
        again = receiver.host.run(command).json()
        assert (again["grown_from"], again["size"], again["checked"]["objects"]) == (1, 2, 1)

        listening = json.loads((receiver.home / "config.toml").read_text().split("console = ")[1].splitlines()[0])
        with urllib.request.urlopen(f"http://{listening}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            families = {one.name: one for one in text_string_to_metric_families(answer.read().decode())}
        assert families["relay_log_entries"].samples[0].value == 2
        assert families["relay_node_info"].samples[0].labels["role"] == "receiver"

        lines = [json.loads(line) for line in receiver.log.splitlines()]
        assert any(line["message"].startswith("logged entries 0") for line in lines)
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
