"""Amounts as people read them, in their language. Pure."""

from __future__ import annotations

from relay.limits import GIB, MIB


def size(amount: int, language: str) -> str:
    """Bytes in GiB, or in MiB where that says more; Indonesian has a decimal comma."""
    number, unit = (amount / GIB, "GiB") if amount >= GIB else (amount / MIB, "MiB")
    text = f"{number:.1f}" if number < 100 else f"{number:.0f}"
    return f"{text.replace('.', ',') if language == 'id' else text} {unit}"
