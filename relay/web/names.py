"""Names of things as people read them. Pure."""

from __future__ import annotations

from relay.records.identifiers import DRILL_FORM

_DRILL_RECORD = {"id": "Laporan latihan", "en": "Drill report"}


def form_name(form: str, language: str) -> str:
    """What to call a form: its own name, as it is printed on the paper; what a drill hands in itself has none."""
    return _DRILL_RECORD[language] if form == DRILL_FORM else form
