"""Visiting by script: an enrolled node's own certificate and greeting, for `relay.net.client.HttpPeer`."""

from __future__ import annotations

import ssl

from relay.net.tls import client_context
from relay.node.home import Home
from relay.sync.messages import Hello
from relay.trust.admission import Admission
from tests.boxes import NodeBox


def as_node(box: NodeBox) -> tuple[ssl.SSLContext, Hello]:
    """What it takes to call on nodes in this one's name."""
    home = Home(box.home)
    member = home.member()
    identity = member.identity
    identify = Admission(member.root).identify
    context = client_context(home.certificate_file, home.key_file, member.root, identify)
    return context, Hello(identity.node, identity.name, identity.role, identity.election, 1 << 30)
