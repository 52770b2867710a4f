"""What the office's notices say, as far as the site needs it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from relay.limits import SITE_WHOLE_FORMS
from relay.records.identifiers import NodeId
from relay.records.notice import Station


@dataclass(frozen=True, slots=True)
class Register:
    """What the notices in force say: stations, forms, and signers whose keys are no longer believed."""

    stations: Mapping[str, Station]
    forms: tuple[str, ...]
    revoked: AbstractSet[NodeId] = frozenset()

    @property
    def is_large(self) -> bool:
        """Whether the election is too large to be offered as one table."""
        return len(self.stations) * len(self.forms) > SITE_WHOLE_FORMS
