"""Drafts: what an operator has photographed and typed, kept on the node until it is signed.

A draft becomes one statement at most (promise 6), and whatever is acknowledged has been synced (promise 5). From the
ground up: `draft` says what a draft is, and is pure; `shelf` puts drafts on the disk; `table` has those that are under
way, and changes one at a time; `pictures` takes pictures in, part by part; `signing` makes a statement of a draft;
`desk` is all of it together, as the operator's page uses it. Does not live here: pages, languages, and who may come in.
"""

from __future__ import annotations

from relay.node.drafts.desk import Drafts
from relay.node.drafts.draft import (
    OPEN,
    SENDING,
    SENT,
    AlreadySent,
    Draft,
    OffsetConflict,
    Picture,
)
from relay.node.drafts.table import standing

__all__ = ["OPEN", "SENDING", "SENT", "AlreadySent", "Draft", "Drafts", "OffsetConflict", "Picture", "standing"]
