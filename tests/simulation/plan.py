"""Contact plans: who is within reach of whom, and when. Numbers only; pure.

Two kinds, as in the literature on delay-tolerant networks: ferries that call at islands by a timetable, and nodes that
wander from place to place (random waypoints).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random


@dataclass(frozen=True, order=True)
class Meeting:
    """Two nodes, by number, are within reach from `start` to `end` (seconds)."""

    start: float
    end: float
    one: int
    other: int


def timetable(
    chance: Random, islands: Sequence[int], boats: Sequence[int], receiver: int, seconds: float
) -> list[Meeting]:
    """Boats call at islands and at the harbour, where the receiver is reached; islands lie alone or in pairs."""
    waiting = list(islands)
    chance.shuffle(waiting)
    places: list[list[int]] = []
    while waiting:
        places.append([waiting.pop() for _ in range(min(len(waiting), chance.choice((1, 1, 2))))])
    stays: list[tuple[float, float, int, int]] = []  # from, to, place, boat; the harbour is place -1
    for boat in boats:
        route = [*chance.sample(range(len(places)), min(len(places), chance.randint(2, 3))), -1]
        now = chance.uniform(0, seconds / 4)
        at = chance.randrange(len(route))
        while now < seconds:
            stay = chance.uniform(8, 60)
            stays.append((now, now + stay, route[at % len(route)], boat))
            now += stay + chance.uniform(seconds / 10, seconds / 3)
            at += 1
    meetings: list[Meeting] = []
    for start, end, place, boat in stays:
        there = [receiver] if place < 0 else places[place]
        meetings += [Meeting(start, end, boat, other) for other in there]
    for left, right in combinations(stays, 2):
        start, end = max(left[0], right[0]), min(left[1], right[1])
        if left[2] == right[2] and start < end and left[3] != right[3]:
            meetings.append(Meeting(start, end, left[3], right[3]))
    for together in places:
        meetings += [Meeting(0, seconds / 2, one, other) for one, other in combinations(together, 2)]
    return sorted(meetings)


def waypoints(chance: Random, nodes: Sequence[int], receiver: int, seconds: float) -> list[Meeting]:
    """Nodes wander on a small grid; who is in the same cell is within reach. One cell has a signal."""
    width = chance.randint(3, 6)
    signal = (chance.randrange(width), chance.randrange(width))
    places = {node: (chance.randrange(width), chance.randrange(width)) for node in nodes}
    goals = dict(places)
    tick = seconds / chance.randint(5, 9)
    meetings: list[Meeting] = []
    now = 0.0
    while now < seconds:
        stay = tick * chance.uniform(0.1, 1.0)
        for one, other in combinations(nodes, 2):
            if places[one] == places[other] and chance.random() < 0.4:
                meetings.append(Meeting(now + chance.uniform(0, 2), now + stay, one, other))
        meetings += [Meeting(now, now + stay, node, receiver) for node in nodes if places[node] == signal]
        for node in nodes:
            if places[node] == goals[node]:
                goals[node] = (chance.randrange(width), chance.randrange(width))
            places[node] = _closer(places[node], goals[node])
        now += tick
    return sorted(meetings)


def web(chance: Random, nodes: Sequence[int], cramped: Sequence[int], receiver: int) -> list[tuple[int, int]]:
    """Who meets whom when all is calm: everybody is joined to everybody else by some way, one or two to the receiver.

    No way leads over the cramped: a node that is full carries nothing on.
    """
    order = list(nodes)
    chance.shuffle(order)
    reach = chance.choice((1, 2, 4, len(order)))
    pairs = [(order[at], order[max(0, at - chance.randint(1, reach))]) for at in range(1, len(order))]
    pairs += [(node, chance.choice(order)) for node in cramped]
    return pairs + [(gate, receiver) for gate in order[: chance.randint(1, 2)]]


def _closer(place: tuple[int, int], goal: tuple[int, int]) -> tuple[int, int]:
    (x, y), (goal_x, goal_y) = place, goal
    return x + (goal_x > x) - (goal_x < x), y + (goal_y > y) - (goal_y < y)
