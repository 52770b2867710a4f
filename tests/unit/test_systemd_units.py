"""The systemd units: what they promise the daemon, and how little they leave it to break out with."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from relay.cli.audit import NOT_CHECKED, UNUSABLE, WRONG, audit
from relay.limits import AUDIT_PATIENCE_SECONDS

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNITS = ("relay.service", "relay-receiver.service", "relay-audit.service")
MAX_EXPOSURE = 2.0
NEWER_THAN_SOME = ("RestartSteps", "RestartMaxDelaySec")
"""Keys of systemd 254 that an older one reports and ignores; the unit says so."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is missing: apt-get install systemd",
)


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_exposure_is_low(unit: str) -> None:
    report = _analyze("security", "--offline=true", "--no-pager", str(SYSTEMD / unit)).stdout
    overall = re.search(rf"Overall exposure level for {re.escape(unit)}: (\d+\.\d+)", report)
    assert overall is not None, report
    assert float(overall[1]) <= MAX_EXPOSURE, report


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_every_line(unit: str, tmp_path: Path) -> None:
    # relay itself need not be installed for this: any program that exists will do.
    stand_in = shutil.which("true") or "/bin/true"
    copy = tmp_path / unit
    copy.write_text((SYSTEMD / unit).read_text().replace("ExecStart=/usr/bin/relay", f"ExecStart={stand_in}"))
    done = _analyze("verify", str(copy))
    complaints = [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if unit in line and not any(f"'{key}'" in line for key in NEWER_THAN_SOME)
    ]
    assert complaints == []
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("unit", "folder"), [("relay.service", "relay"), ("relay-receiver.service", "relay-receiver")])
def test_unit_keeps_the_daemons_contract(unit: str, folder: str) -> None:
    service = _settings(SYSTEMD / unit)
    assert service["ExecStart"] == [f"/usr/bin/relay run --home /var/lib/{folder}"]
    assert service["StateDirectory"] == [folder]
    assert service["StateDirectoryMode"] == ["0700"]
    assert service["User"] == service["Group"] == ["relay"]
    assert service["Type"] == ["notify"]
    assert service["WatchdogSec"] == ["30"]
    assert service["Restart"] == ["on-failure"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert set(service["RestrictAddressFamilies"][0].split()) == {"AF_INET", "AF_INET6", "AF_NETLINK", "AF_UNIX"}
    assert "MemoryMax" in service


@needs_systemd
def test_the_timer_of_the_audit_is_one(tmp_path: Path) -> None:
    stand_in = shutil.which("true") or "/bin/true"
    service = (SYSTEMD / "relay-audit.service").read_text().replace("ExecStart=/usr/bin/relay", f"ExecStart={stand_in}")
    (tmp_path / "relay-audit.service").write_text(service)
    shutil.copy(SYSTEMD / "relay-audit.timer", tmp_path)
    done = _analyze("verify", str(tmp_path / "relay-audit.timer"))
    assert done.returncode == 0, done.stderr
    assert "relay-audit" not in done.stdout + done.stderr


def test_the_audit_is_tried_again_for_what_passes_and_for_nothing_else() -> None:
    service = _settings(SYSTEMD / "relay-audit.service")
    assert service["Type"] == ["oneshot"]
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == [f"{WRONG} {UNUSABLE} SIGTERM"]
    assert str(NOT_CHECKED) not in service.get("SuccessExitStatus", [])
    (start,) = service["ExecStart"]
    program, command, *arguments = shlex.split(start.replace("${SITE}", "https://results.example"))
    assert (program, command) == ("/usr/bin/relay", "audit")
    assert audit.make_context("audit", arguments).params["state"] is None  # they are options that there are
    assert service["Environment"] == [f"XDG_STATE_HOME=%S/{service['StateDirectory'][0]}"]


def test_an_audit_that_a_site_keeps_busy_ends_and_is_told() -> None:
    """A unit of this type may take for ever by itself; and one that is restarted after that has nobody told."""
    service = _settings(SYSTEMD / "relay-audit.service")
    assert service["TimeoutStartSec"] == [f"{AUDIT_PATIENCE_SECONDS // 3_600}h"]
    assert "SIGTERM" in service["RestartPreventExitStatus"][0].split()


def _settings(unit: Path) -> dict[str, list[str]]:
    """Every setting of a unit with its values in order; systemd allows a key more than once."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
    return subprocess.run(  # our own arguments, no shell
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60, env=environment
    )
