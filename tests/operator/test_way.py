"""What the pages say of a package: contradicted by another one, or on its way, with steps that are still to come."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from relay.records.identifiers import StatementId
from relay.store.interface import Bundle
from relay.web.operator import view
from tests.operator.conftest import FORM, TALLY, TPS, Island
from tests.operator.test_board import package


def test_the_packages_that_stand() -> None:
    """All that no other one supersedes: more than one contradict each other."""
    first = package(1)

    def lines(*bundles: Bundle) -> list[int]:
        (card,) = view.station_cards([first.tps], {}, [first.form], [], bundles)
        return [one.seq for one in card.forms[0].bundles]

    other = package(2, tps=first.tps, form=first.form, seq=2)
    correction = package(3, tps=first.tps, form=first.form, seq=3, supersedes=first.id)
    assert lines(first) == [first.seq]
    assert lines(first, other) == [first.seq, 2]
    assert lines(first, other, correction) == [2, 3]
    assert lines(first, correction, package(4, tps="elsewhere", form=first.form)) == [3]
    assert StatementId(first.id) == first.id


def test_only_what_changed_is_kept() -> None:
    """A field that is as the page showed it says nothing, be it blank or not."""
    form = {"a": "1", "was-a": "", "b": "", "was-b": "7", "c": "2", "was-c": "2", "d": "", "was-d": "", "e": "5"}
    assert {k: v for k, v in view.changed(form).items() if not k.startswith("was-")} == {"a": "1", "b": "", "e": "5"}


def test_a_conflict_is_shown(island: Island, phone: Page) -> None:
    """In the list, which then says nothing of "all done", and on both packages' pages."""
    spare = island.world.box("cadangan", "operator", tps=(TPS,))
    spare.submit(tps=TPS, form=FORM, tally={**TALLY, "invalid": 3})
    stick = island.world.folder / "stick"
    spare.export(stick)
    island.box.submit(tps=TPS, form=FORM, tally=TALLY)
    phone.reload()
    expect(phone.get_by_text("Paket bertentangan.")).to_have_count(0)
    island.box.import_(stick)
    phone.reload()
    line = phone.locator(f"section[aria-labelledby='tps-{TPS}'] li", has_text=FORM)
    expect(line).to_contain_text("Ada 2 paket berbeda untuk formulir ini")
    expect(line.get_by_role("link")).to_have_count(2)
    for device, other in (("pulau-long", "cadangan"), ("cadangan", "pulau-long")):
        phone.goto(f"{island.url}/operator")
        line.get_by_role("link", name=device).click()
        expect(phone.locator(".way")).to_contain_text(device)
        expect(phone.locator(".box.problem")).to_contain_text("Paket bertentangan.")
        phone.get_by_role("link", name="Paket yang lain").click()
        expect(phone.locator(".way")).to_contain_text(other)


def test_what_has_not_happened_does_not_read_as_done(island: Island, phone: Page) -> None:
    """Neither in words nor in weight."""
    island.box.submit(tps=TPS, form=FORM, tally=TALLY)
    phone.reload()
    phone.get_by_role("link", name="Lihat perjalanannya").click()
    way = phone.locator(".way li")
    expect(way).to_have_count(3)
    assert [line.split("\n")[1] for line in way.all_inner_texts()[1:]] == ["Belum dibawa", "Belum diterima di daratan"]
    expect(phone.locator(".way li:not(.done) strong")).to_have_count(0)
