"""Contacts as the sea gives them: links with delay and loss that flap, peers that stall, many boats at once.

Real daemons, found by mDNS on links of 20 Mbit/s, 10 ms and 1 % loss (`tests.netns.air`). Nothing here
measures seconds: that is `tests.bench.contact`'s.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from relay.limits import STALL_SECONDS, STREAMS
from relay.records.statement import chunk_size_for
from tests.bench.contestants import REGISTER
from tests.bench.trace import TRACED, read_trace
from tests.boxes import RELAY, Election, NodeBox
from tests.netns.harness import Lab, Radio
from tests.processes import eventually

STATIONS = "1906022011006", "1906012001001"
FORM = "C-HASIL-KWK-BUPATI"
PHOTO, SLOW_PHOTO = 1_500_000, 600_000
PATIENCE = 60.0
FULL_FRAME = 1_514
"""Bytes of a frame of Ethernet."""


class Harbour:
    """Boxes on hosts of their own, on one radio link."""

    def __init__(self, lab: Lab, folder: Path, *, shared: bool = False, rate: float = 20, loss: float = 1) -> None:
        """`shared`: all take turns on one medium, as on Wi-Fi. `rate` in Mbit/s, `loss` in per cent."""
        self.lab = lab
        self.radio: Radio = lab.radio(rate_mbit=rate, delay_ms=10, loss_percent=loss, shared=shared, dad=False)
        self._folder = folder
        self._election = Election(folder / "office", REGISTER, election="coast-2024")

    def box(
        self,
        name: str,
        tps: str | None = None,
        photos: int = 0,
        relay: Sequence[str] = RELAY,
        size: int = PHOTO,
        below: NodeBox | None = None,
    ) -> NodeBox:
        """A running node that is not on the link yet; an operator, with packages of one photo of `size` bytes, where
        `tps` is given. It visits the box that it is `below`; of others the lower id, which is anybody's, visits."""
        role, stations = ("operator", [tps]) if tps else ("carrier", [])
        box = NodeBox(self._folder / name, self.lab.host(name), relay=relay)
        self._election.admit(box, role, tps=stations, below=below)
        for number in range(photos):
            photo = self._folder / f"{name}-{number}.jpg"
            photo.write_bytes(b"\xff\xd8\xff" + os.urandom(size - 3))
            box.submit(photo, tps=str(tps), form=FORM)
        box.start()
        return box

    def meet(self, *boxes: NodeBox) -> None:
        """Bring hosts onto the link."""
        for box in boxes:
            host = next(host for host in self.lab.hosts if host.name == box.home.name)
            self.radio.join(host)


@pytest.fixture
def harbour(lab: Lab, tmp_path: Path) -> Harbour:
    return Harbour(lab, tmp_path)


def held(box: NodeBox) -> int:
    """Bytes of content that a box holds, whole or in parts."""
    return sum(int(bundle["bytes_held"]) for bundle in box.list())


def whole(box: NodeBox) -> int:
    """Packages that a box holds whole."""
    return sum(bundle["state"] == "waiting" for bundle in box.list())


def lost(boxes: Iterable[NodeBox], after: float) -> float | None:
    """When the first of these boxes knew that a contact was over, since then."""
    return min((when for box in boxes if (when := read_trace(box.home).lost(after)) is not None), default=None)


def test_a_flapping_link_loses_no_more_than_a_chunk_for_each_stream(lab: Lab, harbour: Harbour) -> None:
    """Here the ferry visits and fetches; that what is brought goes on as well is
    `test_contacts.test_a_photo_goes_on_where_the_link_was_lost_silently`."""
    packages, cuts = 5, 4
    island = harbour.box("island", STATIONS[0], photos=packages, relay=TRACED)
    ferry = harbour.box("ferry", relay=TRACED, below=island)
    harbour.meet(island, ferry)
    there = next(host for host in lab.hosts if host.name == "ferry")
    for cut in range(1, cuts + 1):
        goal = cut * PHOTO - PHOTO // 2  # in the middle of a photo, or of several
        eventually(lambda goal=goal: held(ferry) >= goal, PATIENCE, f"the ferry holds {goal} bytes")  # type: ignore[misc]
        harbour.radio.down(there)
        at = time.monotonic()  # TCP outlives a shorter gap: nothing would be cut
        eventually(lambda at=at: lost((island, ferry), at) is not None, PATIENCE, "the contact is given up")  # type: ignore[misc]
        harbour.radio.up(there)
    eventually(lambda: whole(ferry) == packages, PATIENCE, "the ferry holds every package")
    trace = read_trace(ferry.home)
    assert sum(size for _, _, _, size in trace.chunks) >= packages * PHOTO
    assert trace.again <= cuts * STREAMS * chunk_size_for(PHOTO)


def test_a_peer_that_stalls_holds_nobody_up(harbour: Harbour) -> None:
    island, stalling, ferry = (
        harbour.box("island", STATIONS[0], photos=4),
        harbour.box("stalling"),
        harbour.box("ferry", relay=TRACED),
    )
    harbour.meet(island, stalling)
    eventually(lambda: held(stalling) > 0, PATIENCE, "the first boat has something")
    assert stalling.daemon is not None
    os.kill(stalling.daemon.pid, signal.SIGSTOP)
    try:
        harbour.meet(ferry)
        eventually(lambda: whole(ferry) == 4, PATIENCE, "the second boat has everything")
    finally:
        os.kill(stalling.daemon.pid, signal.SIGCONT)
    eventually(lambda: whole(stalling) == 4, PATIENCE, "the first boat goes on")
    came = sorted(at for at, _, _, _ in read_trace(ferry.home).chunks)
    assert max(after - before for before, after in itertools.pairwise(came)) < STALL_SECONDS, "never stood still"
    assert not read_trace(ferry.home).again


@pytest.mark.parametrize("visitor", ["island", "ferry"])
def test_a_slow_link_without_a_pause_gives_no_call_up(lab: Lab, tmp_path: Path, visitor: str) -> None:
    """What waits in buffers takes longer than a call may stand still, on its way out as on its way in."""
    harbour = Harbour(lab, tmp_path, rate=0.5, loss=0)
    host = {"island": "ferry", "ferry": "island"}[visitor]
    boxes: dict[str, NodeBox] = {}
    for name in (host, visitor):
        tps, photos = (STATIONS[0], 1) if name == "island" else (None, 0)
        boxes[name] = harbour.box(name, tps, photos, relay=TRACED, size=SLOW_PHOTO, below=boxes.get(host))
    harbour.meet(*boxes.values())
    eventually(lambda: whole(boxes["ferry"]) == 1, PATIENCE, "the ferry has the package")
    calls = [call for box in boxes.values() for call in read_trace(box.home).calls]
    assert not [call.name for call in calls if call.failed and call.name.endswith(("_chunks", "_records"))]
    assert not read_trace(boxes["ferry"].home).again


def test_neither_direction_starves_the_other(lab: Lab, tmp_path: Path) -> None:
    harbour = Harbour(lab, tmp_path, shared=True)
    islands = [harbour.box(f"island{number}", tps, photos=4, relay=TRACED) for number, tps in enumerate(STATIONS)]
    harbour.meet(*islands)
    eventually(lambda: min(whole(island) for island in islands) == 8, PATIENCE, "both have everything")
    came = [[(at, size) for at, _, _, size in read_trace(island.home).chunks] for island in islands]
    done = min(max(came[0]), max(came[1]))[0]  # when the first of the two had all of the other's
    assert min(sum(size for at, size in mine if at <= done) for mine in came) >= 4 * PHOTO // 3


def test_acknowledgements_leave_the_air_to_content(lab: Lab, tmp_path: Path) -> None:
    """Of a stream that is read as it comes every second frame is acknowledged: a third of all frames both ways."""
    harbour = Harbour(lab, tmp_path, shared=True, loss=0)
    islands = [harbour.box(f"island{number}", tps, photos=4) for number, tps in enumerate(STATIONS)]
    harbour.meet(*islands)
    eventually(lambda: min(whole(island) for island in islands) == 8, PATIENCE, "both have everything")
    heard = [harbour.radio.traffic(host) for host in harbour.radio.hosts]
    frames = sum(count for count, _ in heard)
    full = sum(size for _, size in heard) / FULL_FRAME
    assert frames - full < frames / 4


def test_ten_boats_at_once_all_get_everything_and_none_waits_for_the_others(harbour: Harbour) -> None:
    photos = 2
    island = harbour.box("island", STATIONS[0], photos=photos)
    boats = [harbour.box(f"boat{number}", relay=TRACED) for number in range(10)]
    harbour.meet(*boats, island)  # who has everything is last: nobody begins before all are there
    eventually(lambda: min(map(whole, boats)) == photos, 2 * PATIENCE, "all have everything")
    # Everybody brings everybody what he has got: much crosses twice then, and it stays within a bound.
    again = sum(read_trace(boat.home).again for boat in boats)
    assert again <= 2 * len(boats) * photos * PHOTO
    came = [sorted(at for at, _, _, _ in read_trace(boat.home).chunks) for boat in boats]
    assert max(times[0] for times in came) < min(times[-1] for times in came), "when one has all, all have begun"
