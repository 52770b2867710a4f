"""Every kept input and a few hundred mutations of good ones, against every target: what CI can run without atheris."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterator

import pytest

from tests.fuzz import corpus, targets
from tests.fuzz.inputs import mutated
from tests.fuzz.targets import TARGETS, Target

MUTATIONS = 300

pytestmark = [
    pytest.mark.filterwarnings("ignore:Parsed a serial number"),
    pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader"),
    pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionParam"),
]


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Refusals are what is wanted here: nobody reads about each of them."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    targets.close()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_was_kept_and_mutations_of_it_end_in_named_errors(target: Target) -> None:
    kept = corpus.kept(target)
    assert kept, "the corpus of this target is missing: python -m tests.fuzz"
    for data in kept:
        target.run(data)
    pool = [*target.seeds(), *kept]
    dice = random.Random(target.name)
    for _ in range(MUTATIONS):
        data = mutated(dice, pool, target.most)
        try:
            target.run(data)
        except BaseException as error:
            error.add_note(f"input: {data.hex()}")
            raise


def test_what_found_a_fault_is_kept_under_its_hash_and_tried_first() -> None:
    found = sorted(corpus.FOLDER.glob("*/found/*"))
    assert {file.parts[-3] for file in found} >= {"upload"}  # forms that end in the middle, parts within parts
    for target in TARGETS:
        own = [file.read_bytes() for file in found if file.parts[-3] == target.name]
        assert corpus.kept(target)[: len(own)] == own
    assert [hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in found] == [file.name for file in found]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_seeds_are_good(target: Target) -> None:
    assert target.seeds()
    for data in target.seeds():
        target.run(data)


def test_the_corpus_is_small_and_every_part_of_it_has_its_target() -> None:
    files = [file for file in corpus.FOLDER.rglob("*") if file.is_file()]
    assert {file.relative_to(corpus.FOLDER).parts[0] for file in files} == {target.name for target in TARGETS}
    assert sum(file.stat().st_size for file in files) < 1_000_000
