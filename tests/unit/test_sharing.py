"""What several callers ask of a database at once shares a transaction or a query, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from relay.errors import StoreError
from relay.store.cluster.sharing import Shared
from relay.store.interface import Outcome
from relay.trust.admission import Admitted
from tests.store_conformance import Cast


@pytest.fixture
def cast() -> Cast:
    """An election and its nodes."""
    return Cast()


class Shelf:
    """Where records are added, one transaction at a time, each once it `may` go on."""

    def __init__(self) -> None:
        self.may = asyncio.Semaphore(0)
        self.transactions: list[list[Admitted]] = []
        self.refused: set[bytes] = set()
        """Records with which no transaction succeeds."""
        self._held: set[bytes] = set()

    async def add(self, records: Sequence[Admitted]) -> list[Outcome]:
        self.transactions.append(list(records))
        await self.may.acquire()
        if self.refused.intersection(one.id for one in records):
            raise StoreError("The database does not take it", "Try without.")
        outcomes = [Outcome.KNOWN if one.id in self._held else Outcome.NEW for one in records]
        self._held.update(one.id for one in records)
        return outcomes


def shared(shelf: Shelf, most: int = 100) -> Shared[Admitted, Outcome]:
    """Adding to it together."""
    return Shared(shelf.add, most, apart=True)


async def joined(adds: Shared[Admitted, Outcome], *batches: Sequence[Admitted]) -> list[asyncio.Task[list[Outcome]]]:
    """Callers, one after the other, each waiting for its outcomes."""
    callers = []
    for batch in batches:
        callers.append(asyncio.create_task(adds.join(batch)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return callers


async def test_what_comes_while_one_transaction_runs_shares_the_next(cast: Cast) -> None:
    shelf = Shelf()
    one, two, three = (cast.statement() for _ in range(3))
    callers = await joined(shared(shelf), [one], [two, three], [one, three])
    shelf.may.release()
    shelf.may.release()
    outcomes = await asyncio.gather(*callers)
    assert outcomes == [[Outcome.NEW], [Outcome.NEW, Outcome.NEW], [Outcome.KNOWN, Outcome.NEW]]
    assert shelf.transactions == [[one], [two, three, one, three]]


async def test_no_more_than_so_many_share_one(cast: Cast) -> None:
    shelf = Shelf()
    first, one, two, three, four = (cast.statement() for _ in range(5))
    callers = await joined(shared(shelf, most=3), [first], [one], [two, three, four], [first])
    for _ in range(3):
        shelf.may.release()
    outcomes = await asyncio.gather(*callers)
    assert outcomes == [[Outcome.NEW], [Outcome.NEW], [Outcome.NEW] * 3, [Outcome.KNOWN]]
    assert shelf.transactions == [[first], [one, two, three, four], [first]]


async def test_what_one_caller_brings_makes_no_other_fail(cast: Cast) -> None:
    shelf = Shelf()
    first, bad, good = (cast.statement() for _ in range(3))
    shelf.refused = {bad.id}
    callers = await joined(shared(shelf), [first], [bad], [good])
    for _ in range(4):
        shelf.may.release()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert outcomes[0] == outcomes[2] == [Outcome.NEW]
    assert isinstance(outcomes[1], StoreError)
    assert shelf.transactions == [[first], [bad, good], [bad], [good]]


async def test_a_question_that_fails_fails_for_all_who_asked_it_and_is_not_asked_again_for_each(cast: Cast) -> None:
    shelf = Shelf()
    first, bad, good = (cast.statement() for _ in range(3))
    shelf.refused = {bad.id}
    callers = await joined(Shared(shelf.add, 100), [first], [bad], [good])
    for _ in range(4):
        shelf.may.release()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert outcomes[0] == [Outcome.NEW]
    assert isinstance(outcomes[1], StoreError) and isinstance(outcomes[2], StoreError)
    assert shelf.transactions == [[first], [bad, good]]


async def test_who_is_cancelled_takes_nobody_along(cast: Cast) -> None:
    shelf = Shelf()
    adds = shared(shelf)
    one, two, three = (cast.statement() for _ in range(3))
    callers = await joined(adds, [one], [two], [three])
    callers[0].cancel()
    callers[1].cancel()
    shelf.may.release()
    shelf.may.release()
    assert await callers[2] == [Outcome.NEW]
    assert shelf.transactions == [[one], [two, three]]
    later = await joined(adds, [one])
    shelf.may.release()
    assert await later[0] == [Outcome.KNOWN]


async def test_what_somebody_asked_who_is_gone_is_not_asked_any_more(cast: Cast) -> None:
    """A fleet that gave up on a slow database does not keep it busy."""
    shelf = Shelf()
    first, gone, there = (cast.statement() for _ in range(3))
    callers = await joined(Shared(shelf.add, 1), [first], [gone], [there])
    callers[1].cancel()
    await asyncio.sleep(0)
    for _ in range(3):
        shelf.may.release()
    assert await callers[2] == [Outcome.NEW]
    assert shelf.transactions == [[first], [there]]


async def test_closing_waits_for_who_was_there(cast: Cast) -> None:
    shelf = Shelf()
    adds = shared(shelf)
    callers = await joined(adds, [cast.statement()], [cast.statement()])
    closing = asyncio.create_task(adds.finish())
    await asyncio.sleep(0)
    assert not closing.done()
    shelf.may.release()
    shelf.may.release()
    await closing
    assert all(caller.done() for caller in callers)
    await adds.finish()  # with nobody there
