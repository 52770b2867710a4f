"""What a person meets at the terminal: completion in each shell, colours, progress, a status that goes on."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.boxes import RELAY, NodeBox
from tests.e2e.world import FORM, TPS, World
from tests.processes import eventually


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A folder for PATH that holds `relay`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "relay"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m relay "$@"\n')
    script.chmod(0o755)
    return folder


BASH = """
source <(relay completion bash)
COMP_WORDS=(relay sub); COMP_CWORD=1; _relay_completion relay; echo "${COMPREPLY[@]}"
COMP_WORDS=(relay completion ""); COMP_CWORD=2; _relay_completion relay; echo "${COMPREPLY[@]}"
"""
FISH = """
relay completion fish | source
complete -C 'relay sub'
complete -C 'relay completion '
"""
ZSH = """
autoload -U compinit; compinit -u -D
eval "$(relay completion zsh)"
whence -w _relay_completion; env COMP_WORDS='relay sub' COMP_CWORD=1 _RELAY_COMPLETE=zsh_complete relay
env COMP_WORDS='relay completion ' COMP_CWORD=2 _RELAY_COMPLETE=zsh_complete relay
"""


@pytest.mark.parametrize(("shell", "script"), [("bash", BASH), ("fish", FISH), ("zsh", ZSH)])
def test_shells_complete_commands_and_arguments(shell: str, script: str, bin_folder: Path, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(
        [shell, "-c", script], capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    said = done.stdout.split()
    assert "submit" in said
    assert {"bash", "zsh", "fish"} <= set(said)
    assert "demo" not in said


def test_colours_and_progress_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        box = world.box("island", "operator", tps=[TPS])
        submit = ["submit", "--home", str(box.home), "--tps", TPS, "--form", FORM, str(world.photo(8_000_000))]
        assert "16.0 MB" in on_terminal(submit), "a bar while the file is read and kept"
        assert "\x1b[" in on_terminal(["list", "--home", str(box.home)])
        assert "\x1b[" not in on_terminal(["list", "--home", str(box.home)], NO_COLOR="1")
        assert "\x1b[" not in box.relay("list").text
        box.export(tmp_path / "stick")
        home = ["--home", str(box.home)]
        for command in (
            ["status", *home],
            ["doctor", *home],
            ["verify", "--root", str(world.election.root), str(tmp_path / "stick")],
        ):
            assert re.search(COLOUR, on_terminal(command)), command
            assert not re.search(COLOUR, on_terminal(command, NO_COLOR="1")), command


def test_status_goes_on_on_a_terminal_until_it_is_interrupted(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        box = world.box("island", "operator", tps=[TPS])
        said = on_terminal(["status", "--watch", "--home", str(box.home)], until="Ctrl-C ends this.", status=130)
        assert "0 waiting" in said
        assert "Traceback" not in said


def test_a_report_that_takes_a_while_says_so(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        box = world.box("receiver", "receiver")
        assert "The log is read" in on_terminal(["receiver", "report", "--home", str(box.home)])
        assert "is read" not in box.host.run([*RELAY, "receiver", "report", "--home", box.home]).stderr


def test_alarms_come_first(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        box = world.box("island", "operator", tps=[TPS])
        alarms = json.dumps([{"what": "log/x signed two different logs of 7 entries", "evidence": []}])
        with sqlite3.connect(box.home / "store" / "catalogue.db") as database:
            database.execute("INSERT INTO notes VALUES ('alarm', ?)", (alarms,))
        database.close()
        done = box.relay("doctor", check=False)
        assert done.status == 1
        first, second, *_ = done.text.splitlines()
        assert "ALARM" in first and "two different logs of 7 entries" in first
        assert "election office" in second
        speaking = {**box._environment(), "LC_ALL": "id_ID.UTF-8"}
        for command in ("doctor", "status"):
            said = box.host.run([*RELAY, command, "--home", box.home], env=speaking, check=False).text
            assert "log/x menandatangani dua log berbeda dengan 7 entri" in said


def test_what_verify_says_in_indonesian_names_files_as_they_are(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        box = world.box("receiver", "operator", tps=[TPS])  # a node may be called so
        box.submit(world.photo(1_000), tps=TPS, form=FORM)
        box.export(tmp_path / "stick")
        next((tmp_path / "stick" / "objects").iterdir()).unlink()
        environment = {**box._environment(), "LC_ALL": "id_ID.UTF-8"}
        command: list[str | Path] = [*RELAY, "verify", "--root", world.election.root, tmp_path / "stick"]
        said = box.host.run(command, env=environment).text
        assert "ditandatangani receiver sebagai no. 1" in said
        assert "belum ada  objects/" in said
        assert said.splitlines()[-1] == "5 terbukti, 2 belum ada, 0 salah"


def test_status_goes_on_and_tells_what_changed(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        box = world.box("island", "operator", tps=[TPS])
        watch = box.host.popen([*RELAY, "status", "--watch", "--home", box.home], name="watch")
        eventually(lambda: "0 waiting" in watch.output, 20, "it shows the node")
        box.submit(world.photo(1_000), tps=TPS, form=FORM)
        eventually(lambda: "1 waiting" in watch.output, 20, "it shows what came", while_running=[watch])
        watch.kill()


def test_a_folder_is_removed_only_when_nothing_is_lost(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        box = world.box("island", "operator", tps=[TPS])
        receiver = world.box("receiver", "receiver")
        fresh = NodeBox(tmp_path / "fresh")
        fresh.init()
        assert removable(fresh)
        assert removable(box)
        box.submit(world.photo(1_000), tps=TPS, form=FORM)
        assert not removable(box)
        box.export(tmp_path / "stick")
        receiver.import_(tmp_path / "stick")
        receiver.start()
        eventually(lambda: [one["state"] for one in receiver.list()] == ["delivered"], 30, "it is logged")
        receiver.export(tmp_path / "stick")
        box.import_(tmp_path / "stick")
        assert removable(box)
        assert receiver.stop() == 0
        assert not removable(receiver), "a receiver's log is nowhere else"


def removable(box: NodeBox) -> bool:
    """What `relay doctor --removal` says."""
    return box.relay("doctor", "--removal", check=False).status == 0


COLOUR = r"\x1b\[[0-9;]*m(?!\x1b)"
"""What switches a colour on or off."""


def on_terminal(arguments: Sequence[str], *, until: str = "", status: int = 0, **environment: str) -> str:
    """Run a command on a terminal of its own; all that it wrote there. It is interrupted once it has said `until`."""
    ours, theirs = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [*RELAY, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**variables, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    said, deadline = b"", time.monotonic() + 60
    try:
        while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
            said += os.read(ours, 65_536)
            if until and until.encode() in said:
                process.send_signal(signal.SIGINT)
                until = ""
    except OSError:
        pass  # the terminal's other end is closed: the command has ended
    finally:
        os.close(ours)
        try:
            assert process.wait(30) == status, said.decode(errors="replace")
        finally:
            process.kill()
    return said.decode(errors="replace")
