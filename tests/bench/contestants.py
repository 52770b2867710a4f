"""Programs that carry packages over the same link: relay, and what people would use instead.

Each is given its best chance: the others know each other's addresses (relay finds its neighbour itself, unless told
otherwise), try again every fifth of a second, and all bytes count that they would not have to send again. Syncthing
is set to look for its neighbour every second instead of every minute, and to fetch by name; nncp's packets have a
niceness by package and are tossed every fifth of a second: so both bring one package after the other, too. Where what
counts is tallies, all three bring those first. All from Debian's packages.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from tests.bench.contestant import TALLY, Contestant, End, Held, held_of, size_of
from tests.boxes import RELAY, Election, NodeBox
from tests.processes import Process

REGISTER = Path(__file__).parents[2] / "relay" / "cli" / "demo" / "data" / "register.csv"
TPS = "1906022011006", "1906012001001"
FORM = "C-HASIL-KWK-BUPATI"
SSHD = "/usr/sbin/sshd"
CONSOLE = "127.0.0.1:8471"


class Relay(Contestant):
    """Two nodes that never met, without any configured address. `lower` is the end that has the lower node id, and so
    visits the other; None leaves it to chance."""

    name = "relay"
    needs = (sys.executable,)
    package = "python3"

    def __init__(self, ends: tuple[End, End], lower: End | None = None, command: Sequence[str] = RELAY) -> None:
        super().__init__(ends)
        self.election = Election(ends[0].folder.parent / "office", REGISTER)
        self.boxes = {end: NodeBox(end.folder / "home", end.host, relay=command) for end in ends}
        requests = {end: box.init(end.host.name) for end, box in self.boxes.items() if end is not lower}
        if lower is not None:
            requests[lower] = self.boxes[lower].init(lower.host.name, below=self.boxes[self.other(lower)])
        for end, tps in zip(self.boxes, TPS, strict=True):
            self.boxes[end].join(self.election.enrol(requests[end], "operator", tps=[tps]))

    def load(self) -> None:
        """Submit the packages."""
        for end, tps in zip(self.ends, TPS, strict=True):
            for one in end.packages:
                self.boxes[end].submit(*one.photos, tps=tps, form=FORM, tally=one.tally)

    def start(self) -> None:
        for box in self.boxes.values():
            box.start()

    def held(self, end: End) -> Held:
        own = sum(photo.stat().st_size for one in end.packages for photo in one.photos)
        store = self.boxes[end].home / "store"
        database = sqlite3.connect(f"file:{store / 'catalogue.db'}?mode=ro", uri=True)
        try:
            size, statements = database.execute(_HELD).fetchone()
            rows = database.execute(_WHOLE).fetchall()
        finally:
            database.close()
        moments: dict[bytes, float] = {}
        for statement, name in rows:
            file = store / "objects" / name.hex()[:2] / name.hex()
            moments[statement] = max(moments.get(statement, 0.0), file.stat().st_ctime)
        # A tally is in its statement, with all that its file says, and as useful there.
        tallies = sum(size_of(one.tally) for one in self.other(end).packages[: int(statements)])
        return held_of(int(size) - own + tallies + self._torn(end), list(moments.values()), int(statements))

    def _torn(self, end: End) -> int:
        """Bytes of chunks of which only the rest is to be sent again."""
        fetch = f"import urllib.request as u; print(u.urlopen('http://{CONSOLE}/metrics').read().decode())"
        told = end.host.run([sys.executable, "-c", fetch]).text
        found = re.search(r"^relay_torn_chunk_bytes (\S+)$", told, re.MULTILINE)
        assert found is not None
        return int(float(found[1]))


_HELD = """
    SELECT (SELECT coalesce(sum(size), 0) FROM objects WHERE state = 1)
        + (SELECT coalesce(sum(held_bytes), 0) FROM layouts), (SELECT count(*) FROM bundles WHERE own = 0)
"""
_WHOLE = """
    SELECT b.statement, f.object FROM bundles b JOIN files f USING (statement)
    WHERE b.own = 0 AND b.completed IS NOT NULL
"""


class Rsync(Contestant):
    """Over SSH, pulled in a loop by the end that is to have the packages; parts of files are kept."""

    name = "rsync"
    needs = ("rsync", "ssh", "ssh-keygen", SSHD)
    package = "rsync openssh-server"

    def start(self) -> None:
        for end in self.ends:
            end.folder.mkdir(parents=True)
            (end.folder / "in").mkdir()
            for name in ("host", "client"):
                end.host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", end.folder / name])
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd(8) wants it
        for end in self.ends:
            other = self.other(end)
            if end.packages:
                options = ["-o", f"HostKey={end.folder / 'host'}", "-o", "PermitRootLogin=yes", "-o", "StrictModes=no"]
                options += ["-o", f"AuthorizedKeysFile={other.folder / 'client.pub'}", "-o", "UsePAM=no", "-p", "2222"]
                end.host.popen([SSHD, "-D", "-f", "/dev/null", *options], name="sshd")
            if other.packages:
                ssh = f"ssh -p 2222 -i {end.folder / 'client'} -o BatchMode=yes -o StrictHostKeyChecking=no"
                ssh += " -o UserKnownHostsFile=/dev/null -o ConnectTimeout=1"
                ssh += " -o ServerAliveInterval=1 -o ServerAliveCountMax=3"
                source = f"'root@[{end.other}]:{other.packages[0].folder.parent}/'"
                pull = f"rsync -a --partial --append-verify --timeout=3 -e '{ssh}' {source} {end.folder / 'in'}/"
                tallies = f"{pull} --include='*/' --include={TALLY} --exclude='*' && " if self.small_first else ""
                end.host.popen(["sh", "-c", f"until {tallies}{pull}; do sleep 0.2; done"], name="rsync")

    def held(self, end: End) -> Held:
        return self._arrived(end, end.folder / "in", r"^\.")


class Syncthing(Contestant):
    """One folder, shared by both ends, scanned before the link comes up."""

    name = "syncthing"
    needs = ("syncthing",)
    package = "syncthing"

    def start(self) -> None:
        identities = {end: self._prepare(end) for end in self.ends}
        self._processes: list[Process] = []
        for end in self.ends:
            home = end.folder / "home"
            self._configure(home / "config.xml", end, identities[end], identities[self.other(end)])
            (end.folder / "shared" / ".stfolder").mkdir()
            argv = ["syncthing", "serve", f"--home={home}", "--no-browser", "--no-restart", "--no-upgrade"]
            self._processes.append(end.host.popen(argv, env={"STNOUPGRADE": "1", "HOME": str(home)}, name="syncthing"))

    def ready(self) -> bool:
        """Whether both ends have scanned what they are to hand over."""
        return all("Completed initial scan" in process.output for process in self._processes)

    def held(self, end: End) -> Held:
        held = self._arrived(end, end.folder / "shared", r"^\.syncthing\.")
        own = sum(file.stat().st_size for one in end.packages for file in one.folder.iterdir())
        return replace(held, bytes=held.bytes - own)

    def _prepare(self, end: End) -> str:
        home = end.folder / "home"
        end.host.run(["syncthing", "generate", f"--home={home}", "--no-default-folder"], env={"HOME": str(home)})
        shared = end.folder / "shared"
        shared.mkdir()
        for one in end.packages:
            shutil.copytree(one.folder, shared / one.folder.name)
        return end.host.run(["syncthing", f"--home={home}", "--device-id"], env={"HOME": str(home)}).text

    def _configure(self, file: Path, end: End, mine: str, theirs: str) -> None:
        tree = ElementTree.parse(file)
        root = tree.getroot()
        options = root.find("options")
        assert options is not None
        for key, value in {
            "globalAnnounceEnabled": "false",
            "relaysEnabled": "false",
            "natEnabled": "false",
            "urAccepted": "-1",
            "crashReportingEnabled": "false",
            "reconnectionIntervalS": "1",
            "listenAddress": "tcp://:22000",
            "startBrowser": "false",
        }.items():
            for old in options.findall(key):
                options.remove(old)
            ElementTree.SubElement(options, key).text = value
        device = ElementTree.SubElement(root, "device", {"id": theirs, "name": "other", "compression": "never"})
        ElementTree.SubElement(device, "address").text = f"tcp://[{end.other.replace('%', '%25')}]:22000"
        shared = {
            "id": "packages",
            "path": str(end.folder / "shared"),
            "type": "sendreceive",
            "fsWatcherEnabled": "true",
        }
        folder = ElementTree.SubElement(root, "folder", shared)
        ElementTree.SubElement(folder, "order").text = "smallestFirst" if self.small_first else "alphabetic"
        for one in (mine, theirs):
            ElementTree.SubElement(folder, "device", {"id": one})
        tree.write(file)


_NICEST, _LEAST_NICE = 1, 255
"""Of nncp's packets: what is nicer goes later."""


class Nncp(Contestant):
    """Packets for the other end in the spool; a daemon on each end, and one calls in a loop."""

    name = "nncp"
    needs = ("nncp-call",)
    package = "nncp"

    def start(self) -> None:
        configs = {end: self._prepare(end) for end in self.ends}
        for end in self.ends:
            text = configs[end]
            neighbour = dict(re.findall(r"^ {4}(id|exchpub|signpub|noisepub): (\w+)$", configs[self.other(end)], re.M))
            keys = "\n".join(f"      {key}: {value}" for key, value in neighbour.items())
            incoming = end.folder / "in"
            incoming.mkdir()
            entry = f'  neigh: {{\n    other: {{\n{keys}\n      incoming: "{incoming}"\n'
            entry += f'      addrs: {{ lan: "[{end.other}]:5400" }}\n    }}\n'
            text = text.replace("  neigh: {\n", entry).replace("/var/spool/nncp", str(end.folder / "spool"))
            self._config(end).write_text(text)
        for end in self.ends:
            command = ("-cfg", str(self._config(end)), "-quiet")
            for place, one in enumerate(end.packages):
                for file in sorted(one.folder.iterdir()):
                    after = 0 if self.small_first and file == one.tally else place
                    nice = str(min(_NICEST + after, _LEAST_NICE))
                    end.host.run(["nncp-file", *command, "-nice", nice, file, f"other:{one.folder.name}/{file.name}"])
            end.host.popen(["nncp-daemon", *command])
            toss = f"nncp-toss {' '.join(command)}"
            end.host.popen(["sh", "-c", f"while :; do {toss}; sleep 0.2; done"], name="nncp-toss")
        caller = self.ends[1]
        call = f"nncp-call -cfg {self._config(caller)} -quiet -onlinedeadline 3 other"
        caller.host.popen(["sh", "-c", f"while :; do {call}; sleep 0.2; done"], name="nncp-call")

    def held(self, end: End) -> Held:
        tossed = self._arrived(end, end.folder / "in", r"^$")
        # A neighbour's spool stands under its id, and under its name as a link.
        spooled = {path.resolve() for path in (end.folder / "spool").glob("*/rx/*") if path.is_file()}
        return replace(tossed, bytes=tossed.bytes + sum(size_of(path) for path in spooled))

    def _prepare(self, end: End) -> str:
        (end.folder / "spool").mkdir(parents=True)
        return end.host.run(["nncp-cfgnew"]).text

    def _config(self, end: End) -> Path:
        return end.folder / "nncp.hjson"


ALL: tuple[type[Contestant], ...] = (Relay, Rsync, Syncthing, Nncp)
