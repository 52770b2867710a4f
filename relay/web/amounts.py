"""Amounts as people read them, in their language. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from relay.limits import GIB, MIB
from relay.node.uplink import Uplink


def size(amount: int, language: str) -> str:
    """Bytes in GiB, or in MiB where that says more; Indonesian has a decimal comma."""
    number, unit = (amount / GIB, "GiB") if amount >= GIB else (amount / MIB, "MiB")
    text = f"{number:.1f}" if number < 100 else f"{number:.0f}"
    return f"{text.replace('.', ',') if language == 'id' else text} {unit}"


def span(seconds: int, language: str) -> str:
    """How long something took, or is ago."""
    minutes = max(0, seconds) // 60
    second, minute, hour = ("dtk", "mnt", "jam") if language == "id" else ("s", "min", "h")
    if minutes == 0:
        return f"{max(0, seconds)} {second}"
    return f"{minutes} {minute}" if minutes < 60 else f"{minutes // 60} {hour} {minutes % 60} {minute}"


def way(
    uplink: Uplink | None, now: int, language: str, words: Mapping[str, str], *, all_delivered: bool = False
) -> str:
    """How the way to the receiver is: reached how long ago, or out of reach for how long.

    With `all_delivered` nobody needs to worry where there is none: others brought everything.
    """
    if all_delivered and (uplink is None or (not uplink.works(now) and uplink.reached_at is None)):
        return words["by_others"]
    if uplink is None:
        return words["none_yet"]
    ago = "" if uplink.reached_at is None else span(now - uplink.reached_at, language)
    if uplink.works(now):
        return words["reached_ago"].format(time=ago)
    last = words["last_reached"].format(time=ago) if ago else words["never_reached"]
    if uplink.failing_since is None:
        return last
    return f"{words['out_for'].format(time=span(now - uplink.failing_since, language))}; {last}"
