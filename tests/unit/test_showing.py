"""Where the findings about a device's chain show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.receiver.chains import Finding, Gap, Link, findings
from relay.receiver.showing import Showing, shown_otherwise
from relay.records.identifiers import NodeId, RecordId, StatementId, sha256

NODES = tuple(NodeId(sha256(name)) for name in (b"one", b"two"))


def name(number: int) -> StatementId:
    """A statement's id."""
    return StatementId(RecordId(sha256(b"%d" % number)))


LINKS = st.lists(
    st.builds(
        lambda number, node, seq, previous: Link(NODES[node], seq, name(number), name(previous) if seq > 1 else None),
        st.integers(0, 99),
        st.integers(0, 1),
        st.integers(1, 6),
        st.integers(0, 12),
    ),
    max_size=14,
    unique_by=lambda link: link.id,
)


def shows(found: Finding, link: Link) -> bool:
    """Whether a finding shows at a statement, as the rule is."""
    if found.node != link.node:
        return False
    if isinstance(found, Gap):
        return link.seq == found.last + 1
    return link.seq == found.seq or (link.seq == found.seq + 1 and link.previous in (*found.held, *found.named))


@given(LINKS)
def test_findings_show_where_the_rule_says(links: list[Link]) -> None:
    found = findings(links)
    showing = Showing(found)
    for link in links:
        assert showing.at(link) == [one for one in found if shows(one, link)]
    among = showing.among(links)
    assert list(among) == [one for one in found if any(shows(one, link) for link in links)]
    assert all(there == [link for link in links if shows(one, link)] for one, there in among.items())


@given(LINKS, st.integers(0, 14))
def test_statements_are_told_of_where_something_else_shows(links: list[Link], known: int) -> None:
    def said(found: list[Finding], link: Link) -> set[tuple[str, int, int]]:
        return {
            ("gap", one.first, one.last) if isinstance(one, Gap) else ("fork", one.seq, 0)
            for one in found
            if shows(one, link)
        }

    before, now = findings(links[:known]), findings(links)
    expected = [link for link in links if said(before, link) != said(now, link)]
    assert shown_otherwise(links, before, now) == expected


def test_one_key_used_a_thousand_times_is_told_at_the_new_end_only() -> None:
    """Each arrival makes the same fork larger: whoever was told of it is not told again."""
    many = [Link(NODES[0], 2, name(number), name(5000 + number)) for number in range(50)]
    new = Link(NODES[0], 2, name(999), name(998))
    assert shown_otherwise([*many, new], findings(many), findings([*many, new])) == [new]
