"""A published site with a bit of everything, and a web server over its folder that knows nothing but files."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from relay.cli.demo.election import example_stations
from relay.limits import SITE_LINKS
from tests.site.election import BATUN, BUPATI, GUBERNUR, KETAPANG, LONG, PublicElection, picture, tally_of

OLD_CHECKPOINT = "old-checkpoint"
"""Beside the receiver: what the log signed when it had one entry."""


async def tell_story(folder: Path, photographs: Sequence[bytes] = ()) -> Path:
    """Pulau Long corrects itself and has photographs, two devices of Pulau Batun contradict each other, from Pulau
    Ketapang the first packages are missing, and most of the mainland has arrived: more than one tile of the log."""
    election = PublicElection(folder)
    try:
        await election.open()
        photographs = photographs or [picture("C.HASIL-KWK-BUPATI 1/2"), picture("C.HASIL-KWK-BUPATI 2/2", 3)]
        wrong = tally_of(LONG, BUPATI, election.stations, valid=999)
        first = await election.submit(LONG, BUPATI, wrong, photographs=photographs)
        await election.publish()
        (folder / OLD_CHECKPOINT).write_bytes((election.public / "checkpoint").read_bytes())
        await election.submit(LONG, BUPATI, photographs=photographs, supersedes=first, reason="Suara sah salah ketik")
        await election.submit(LONG, GUBERNUR, photographs=[picture("C.HASIL-KWK-GUBERNUR")])
        await election.submit(BATUN, BUPATI)
        other = tally_of(BATUN, BUPATI, election.stations, votes={"1": 10, "2": 115})
        await election.submit(BATUN, BUPATI, other, device="laptop-batun")
        await election.submit(KETAPANG, GUBERNUR, seq=3, previous=first)
        for number, tps in enumerate(election.stations):
            if tps not in (LONG, BATUN, KETAPANG):
                for place, form in enumerate((GUBERNUR, BUPATI)):
                    if (number * 7 + place * 5) % 11 < 8:
                        await election.submit(tps, form)
        await election.publish()
        await election.site.write_tables()
        await election.publish_notices()
    finally:
        await election.close()
    return election.public


async def tell_flood(folder: Path) -> Path:
    """One device of Pulau Long signs more than a page can list, and more for each form than its page can show."""
    stations = [one for one in example_stations() if one.tps in (LONG, BATUN)]
    election = PublicElection(folder, stations)
    try:
        await election.open()
        first = await election.submit(LONG, BUPATI)
        for number in range(SITE_LINKS + 1):
            tally = tally_of(LONG, BUPATI, election.stations, valid=number)
            await election.submit(LONG, (GUBERNUR, BUPATI)[number % 2], tally)
        await election.submit(LONG, GUBERNUR, seq=2 * SITE_LINKS, previous=first)
        await election.publish()
        await election.publish_notices()
    finally:
        await election.close()
    return election.public


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Within it, the files of a folder are served at this address."""
    server = _Server(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # more than knock at once: whoever finds it full tries again after 1 s, 3 s, 7 s, 15 s


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""
