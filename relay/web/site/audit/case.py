"""What an audit of results has before it: what is shown, what it is held against, and the report."""

from __future__ import annotations

from dataclasses import dataclass

from relay.receiver.ledger import Ledger
from relay.web.site.audit.compared import Compared
from relay.web.site.audit.register import AuditedRegister
from relay.web.site.audit.served import AuditedSite
from relay.web.site.audit.truth import Truth


@dataclass(frozen=True, slots=True)
class Case:
    """Each kind of document has a comparer; this is what all of them look at, and note what they find in."""

    site: AuditedSite
    ledger: Ledger
    register: AuditedRegister
    truth: Truth
    report: Compared
