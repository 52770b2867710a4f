"""A diary read as steps: for each polling station who did what, how long it took, and what went wrong. Pure.

Several people work at one box at the same time, each with a phone and a station: every step is timed by its own two
moments, whatever others did meanwhile.

    login      a phone first asked for the page → it was paired
    pictures   the form was begun → its last picture was here, without the time that pictures were on their way
    upload     pictures were on their way from the phone to the box
    numbers    the last picture was here → the package was signed and sent: typing, looking over
    package    the walk began → the package was here, where no phone made it
    receipt    the package was sent → its receipt was back
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from relay.cli.drill.record import Step
from relay.node.diary import Event

_RESTARTED = "the box was started anew meanwhile: not timed"
_SAID = {"wrong-code": "wrong code", "resumed": "upload resumed", "refused": "picture refused"}


def steps_of(diary: Sequence[Event], tps: str, forms: Iterable[str]) -> tuple[Step, ...]:
    """The steps of one station so far."""
    own = [event for event in diary if event.tps == tps]
    people = dict.fromkeys(event.who for event in own if event.what == "began")
    steps = [step for who in people for step in _login(diary, who)]
    for form in forms:
        steps += _form(diary, [event for event in own if event.form == form], f"{form} {tps}")
    steps += [Step(one.form, 0.0, one.detail) for one in diary if one.what == "gave-up"]
    return tuple(steps)


def _login(diary: Sequence[Event], who: str) -> Iterator[Step]:
    """From the first look of whoever paired this phone, after the phone that was paired from there before it."""
    paired = _first(diary, "paired", who)
    if paired is None:
        return
    before = diary[: diary.index(paired)]
    others = [place for place, one in enumerate(before) if one.what == "paired" and one.detail == paired.detail]
    since = others[-1] + 1 if others else 0
    mine = [event for event in before[since:] if event.who == paired.detail]
    yield _step("login", _first(mine, "opened"), paired, who, mine)


def _form(diary: Sequence[Event], events: Sequence[Event], what: str) -> Iterator[Step]:
    began, sent = _first(events, "began"), _first(events, "sent")
    package, delivered = _first(events, "package"), _first(events, "delivered")
    if began is not None and sent is not None:
        arrived = [event for event in events if event.what == "arrived" and event.at <= sent.at]
        last = arrived[-1] if arrived else began
        upload = sum(_on_its_way(events, event) for event in arrived)
        pictures = _step(f"pictures {what}", began, last, began.who, events)
        yield Step(pictures.name, max(0.0, pictures.seconds - upload), pictures.trouble, began.who)
        yield Step(f"upload {what}", upload, "", began.who)
        yield _step(f"numbers {what}", last, sent, sent.who)
    elif package is not None:
        yield _step(f"package {what}", _first(diary, "started"), package)
    if delivered is not None and (since := sent or package) is not None:
        yield _step(f"receipt {what}", since, delivered, since.who)


def _on_its_way(events: Sequence[Event], arrived: Event) -> float:
    """How long a picture took from the phone to the box; 0 where its beginning is not known."""
    began = next(
        (one for one in events if one.what == "arriving" and one.detail and one.detail == arrived.detail), None
    )
    return arrived.at - began.at if began is not None and began.boot == arrived.boot else 0.0


def _step(name: str, since: Event | None, until: Event, who: str = "", events: Iterable[Event] = ()) -> Step:
    known = since is not None and since.boot == until.boot
    seconds = max(0.0, until.at - since.at) if since is not None and known else 0.0
    count = {said: sum(event.what == what for event in events) for what, said in _SAID.items()}
    troubles = [said if times == 1 else f"{said}, {times} times" for said, times in count.items() if times]
    return Step(name, round(seconds, 1), "; ".join(troubles if known else [*troubles, _RESTARTED]), who)


def _first(events: Iterable[Event], what: str, who: str = "") -> Event | None:
    return next((event for event in events if event.what == what and who in ("", event.who)), None)
