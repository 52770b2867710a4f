"""What an election of a country's size costs its office and its nodes: processor time, memory, files.

`python -m tests.bench.nation [--stations 435000] [--nodes 100000]`: makes an election with so many polling stations,
enrols a receiver, an operator and a carrier in it, has them join and run, and brings one of them the whole register;
then enrols more operators in an office that has `--nodes` in its ledger already. Beside it: what reading and writing
the same bytes takes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.cli.office import open_office
from relay.records.notice import Station, write_register
from relay.trust.authority import Enrolled, Ledger
from relay.trust.certificates import make_request
from tests.bench.cost import cpu_seconds, resident
from tests.boxes import PASSPHRASE, NodeBox, free_port

NAMES = ("Lalang Jaya", "Manggar", "Batu Penyu", "Gantung", "Buku Limau", "Simpang Renggiang", "Sukamandi")
FEW = 20
"""Enrolments that are timed one after the other."""


def country(count: int) -> Iterator[Station]:
    """So many stations with codes and names as long as real ones, ten to a village."""
    for number in range(count):
        village, place = divmod(number, 10)
        district, in_district = divmod(village, 12)
        regency, in_regency = divmod(district, 14)
        code = f"{11 + regency // 14:02}{1 + regency % 14:02}{1 + in_regency:02}{2001 + in_district:04}{1 + place:03}"
        yield Station(
            code,
            1 + place,
            f"{NAMES[village % 7]} {in_district}",
            f"{NAMES[district % 7]} {in_regency}",
            "",
            100 + number * 7 % 400,
            True,
            f"Provinsi {NAMES[regency // 14 % 7]}",
            f"Kabupaten {NAMES[regency % 7]} {regency}",
        )


def main() -> int:
    """Measure, and print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", type=int, default=435_000)
    parser.add_argument("--nodes", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nation-") as name:
        folder = Path(name)
        stations = list(country(options.stations))
        (folder / "register.csv").write_text(write_register(stations))
        some = [one.tps for one in stations[:: max(1, len(stations) // FEW)]]
        del stations
        print(f"| {options.stations} polling stations | seconds of a processor | memory | file |")
        print("|---|---|---|---|", flush=True)
        _plainly(folder / "register.csv")
        _office(folder, some)
        _more(folder, some, options.nodes)
    return 0


def _plainly(register: Path) -> None:
    begun = time.process_time()
    text = register.read_bytes()
    with register.with_name("copy").open("wb") as file:
        file.write(text)
        os.fsync(file.fileno())
    seconds = time.process_time() - begun
    print(f"| the register read, and written with fsync | {seconds:.2f} | | {_size(register)} |", flush=True)


def _office(folder: Path, some: Sequence[str]) -> None:
    office = folder / "office"
    _step("init", ["authority", "init", office, "--election", "nation", "--register", folder / "register.csv"])
    boxes = {role: NodeBox(folder / role) for role in ("receiver", "operator", "carrier")}
    more = {"receiver": ["--url", "https://127.0.0.1:1"], "operator": ["--tps", some[0]], "carrier": []}
    try:
        for role, box in boxes.items():
            file = folder / f"{role}.pem"
            enrol: list[str | Path] = [
                "authority",
                "enrol",
                office,
                box.init(role),
                "--role",
                role,
                *more[role],
                "-o",
                file,
            ]
            _step(f"enrol, {role}", enrol, file)
            _step(f"join, {role}", ["join", "--home", box.home, file])
            _run(role, box)
        file = folder / "notices.pem"
        _step("notices", ["authority", "notices", office, "-o", file], file)
        _step("import of these, carrier", ["import", "--home", boxes["carrier"].home, file])
        _run("carrier with the register", boxes["carrier"])
    finally:
        for box in boxes.values():
            box.close()
    corrected = folder / "register.csv"
    before, code, after = corrected.read_text().partition(f"\n{some[1]},")
    corrected.write_text(before + code + after.replace(",yes,", ",no,", 1))
    file = folder / "correction.pem"
    _step("register, one line", ["authority", "register", office, corrected, "-o", file], file)


def _run(what: str, box: NodeBox) -> None:
    ports = {key: f"127.0.0.1:{free_port()}" for key in ("listen", "console", "public")}
    box.config(discovery=False, **ports)
    daemon = box.start(within=900)
    print(
        f"| run until ready, {what} | {cpu_seconds(daemon.pid):.2f} | {resident(daemon.pid) / 1e6:.0f} MB | |",
        flush=True,
    )
    box.stop(60)


def _more(folder: Path, some: Sequence[str], nodes: int) -> None:
    """Enrolments in an empty ledger, and in one that is full of operators and of revoked ones."""
    office = folder / "office"
    _enrol_some(folder, some, "an empty ledger")
    lines = (Enrolled(f"box-{number}", f"{number:064x}", "operator", (some[0],)) for number in range(nodes))
    with open_office(office) as kept:
        kept.keep(replace(kept.office, ledger=Ledger(None, {one.node: one for one in lines})))
    _enrol_some(folder, some, f"{nodes} nodes in the ledger")
    print(f"| the ledger | | | {_size(office / 'nodes.db')} |")


def _enrol_some(folder: Path, some: Sequence[str], what: str) -> None:
    seconds = 0.0
    for number, code in enumerate(some[:FEW]):
        name = f"more-{number}-{time.time_ns()}"
        (folder / "request.pem").write_bytes(make_request(name, Ed25519PrivateKey.generate()))
        argv: list[str | Path] = ["authority", "enrol", folder / "office", folder / "request.pem", "--role", "operator"]
        seconds += _relay([*argv, "--tps", code, "-o", folder / "enrolment.pem"])[0]
    print(f"| enrol one more operator, {what} | {seconds / FEW:.2f} | | |", flush=True)


def _step(what: str, arguments: Sequence[str | Path], file: Path | None = None) -> None:
    seconds, peak = _relay(arguments)
    size = _size(file) if file else ""
    print(f"| {what} | {seconds:.2f} | {peak / 1e6:.0f} MB | {size} |", flush=True)


def _relay(arguments: Sequence[str | Path]) -> tuple[float, int]:
    """Run a command; what it took of a processor, in seconds, and the most memory that it had."""
    before = _spent()
    environment = {**os.environ, "RELAY_PASSPHRASE": PASSPHRASE}
    with tempfile.TemporaryFile() as said:
        argv = [sys.executable, "-m", "relay", *map(str, arguments)]
        process = subprocess.Popen(argv, env=environment, stdout=said, stderr=said)
        peak = 0
        while process.poll() is None:
            with suppress(OSError, IndexError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = max(peak, int(status.partition("VmHWM:")[2].split()[0]) * 1024)
            time.sleep(0.02)
        if process.returncode:
            said.seek(0)
            raise SystemExit(said.read().decode())
    return _spent() - before, peak


def _spent() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system


def _size(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.2f} MB"


if __name__ == "__main__":
    sys.exit(main())
