"""One contact between two hosts: useful bytes in a window, beside a raw TCP stream on the same link.

`python -m tests.bench.contact [--rate 20] [--seconds 10] [--runs 3]`; needs root, for network namespaces. The link is
shaped by `tc tbf`; it has no delay and no loss of its own. The window begins when both ends' addresses are usable, and
the nodes have never met: the time in which they find each other counts.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.boxes import Election, NodeBox
from tests.netns.harness import Host, Lab, Link, why_not

REGISTER = Path(__file__).parents[2] / "relay" / "cli" / "demo" / "data" / "register.csv"
TPS = "1906022011006"
FORM = "C-HASIL-KWK-BUPATI"
PHOTO = 1_500_000

SEND = "import socket,sys\ns=socket.create_server(('::',9),family=socket.AF_INET6)\nc,_=s.accept()\nb=bytes(1<<16)\n"
SEND += "while True: c.sendall(b)\n"
TAKE = "import socket,sys,time\na=socket.getaddrinfo(sys.argv[1],9)[0]\ns=socket.socket(a[0])\ns.connect(a[4])\n"
TAKE += "n=0\ne=time.monotonic()+float(sys.argv[2])\n"
TAKE += "while time.monotonic()<e: n+=len(s.recv(1<<16))\nprint(n)\n"


def raw_stream(sender: Host, taker: Host, link: Link, seconds: float) -> int:
    """Bytes that one TCP stream moves in so many seconds."""
    sending = sender.popen([sys.executable, "-c", SEND])
    time.sleep(0.5)
    address = link.address(sender, seen_from=taker)
    moved = int(taker.run([sys.executable, "-c", TAKE, address, str(seconds)], within=seconds + 20).text)
    sending.kill()
    return moved


def contact(folder: Path, lab: Lab, rate: float, seconds: float) -> tuple[int, int, float, int]:
    """Useful bytes, whole packages and the time to the first whole one, by relay; bytes by a raw stream."""
    island, ferry = lab.host("island"), lab.host("ferry")
    link = lab.link(island, rate_mbit=rate)
    election = Election(folder / "office", REGISTER)
    giver, taker = NodeBox(folder / "island", island), NodeBox(folder / "ferry", ferry)
    election.admit(giver, "operator", name="island", tps=[TPS])
    election.admit(taker, "carrier", name="ferry")
    for _ in range(int(rate * seconds / 8 / 2 / 1.5 * 1.2) + 1):
        photos = [folder / f"{number}.jpg" for number in range(2)]
        for photo in photos:
            photo.write_bytes(os.urandom(PHOTO))
        giver.submit(*photos, tps=TPS, form=FORM)
    giver.start()
    taker.start()
    link.join(ferry)
    link.ready(island, ferry)
    started = time.monotonic()
    first_whole = float("nan")
    while (passed := time.monotonic() - started) < seconds:
        _, whole = held(taker)
        if whole and first_whole != first_whole:
            first_whole = passed
        time.sleep(0.02)
    useful, whole = held(taker)
    giver.kill()
    taker.kill()
    return useful, whole, first_whole, raw_stream(island, ferry, link, seconds)


def held(box: NodeBox) -> tuple[int, int]:
    """Bytes of checked content on a node, and how many of its packages are whole."""
    sql = "SELECT (SELECT coalesce(sum(size), 0) FROM objects WHERE state = 1) + "
    sql += "(SELECT coalesce(sum(held_bytes), 0) FROM layouts), "
    sql += "(SELECT count(*) FROM bundles WHERE completed IS NOT NULL)"
    database = sqlite3.connect(f"file:{box.home / 'store' / 'catalogue.db'}?mode=ro", uri=True)
    try:
        useful, whole = database.execute(sql).fetchone()
        return int(useful), int(whole)
    finally:
        database.close()


def main() -> int:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="Mbit/s of the link")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the contact")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if (reason := why_not()) is not None:
        print(reason, file=sys.stderr)
        return 1
    ratios: list[float] = []
    print(f"{options.rate:g} Mbit/s, {options.seconds:g} s, never met before\n")
    print("| useful bytes | raw TCP stream | ratio | whole packages | first whole after |\n|---|---|---|---|---|")
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory(prefix="contact-") as folder, Lab(Path(folder) / "lab") as lab:
            useful, whole, first, raw = contact(Path(folder), lab, options.rate, options.seconds)
        ratios.append(useful / raw)
        print(f"| {useful} | {raw} | {ratios[-1]:.3f} | {whole} | {first:.2f} s |")
    print(f"\nmedian ratio {statistics.median(ratios):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
