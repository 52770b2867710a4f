"""Made-up photographs: of a phone's size, incompressible, each another, and the same whenever made again."""

from __future__ import annotations

import io
import random
import zlib

import pytest
from PIL import Image, ImageChops, ImageDraw

from relay.cli.demo import paper
from relay.cli.demo.election import FORMS, PROVINCE, REGENCY, example_tally
from relay.cli.demo.handwriting import SIGNS, Pen
from relay.cli.demo.pictures import MAX_PICTURE, MIN_PICTURE, PAGES, Heading, form_picture

TPS = "1906022011006"
HEADING = Heading(6, "Limbongan", "Gantung", REGENCY, PROVINCE)
TALLY = example_tally(TPS, FORMS[0], 148)


@pytest.fixture(scope="module")
def picture() -> bytes:
    return form_picture(TPS, FORMS[0], 1, TALLY, HEADING, seed=1)


def test_picture_is_a_jpeg_of_a_phones_size(picture: bytes) -> None:
    with Image.open(io.BytesIO(picture)) as opened:
        opened.load()
        assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (1560, 2080))
    assert MIN_PICTURE < len(picture) < MAX_PICTURE


def test_picture_is_incompressible(picture: bytes) -> None:
    assert len(zlib.compress(picture, 9)) > 0.98 * len(picture)


def test_same_arguments_make_the_same_picture(picture: bytes) -> None:
    assert form_picture(TPS, FORMS[0], 1, TALLY, HEADING, seed=1) == picture


@pytest.mark.parametrize(
    ("tps", "form", "page", "seed"),
    [("1906032008004", FORMS[0], 1, 1), (TPS, FORMS[1], 1, 1), (TPS, FORMS[0], 2, 1), (TPS, FORMS[0], 1, 2)],
)
def test_another_form_is_another_picture(picture: bytes, tps: str, form: str, page: int, seed: int) -> None:
    other = form_picture(tps, form, page, TALLY, HEADING, seed)
    assert MIN_PICTURE < len(other) < MAX_PICTURE
    # Nothing in common but the frame of a JPEG: deduplication could not make the demo look faster than it is.
    blocks = {picture[i : i + 64] for i in range(4096, len(picture) - 64, 64)}
    assert not any(other[i : i + 64] in blocks for i in range(4096, len(other) - 64, 64))


@pytest.mark.parametrize("page", [0, PAGES + 1])
def test_a_page_that_no_form_has(page: int) -> None:
    with pytest.raises(ValueError, match="pages 1 to 2"):
        form_picture(TPS, FORMS[0], page, TALLY, HEADING, seed=1)


def test_the_sheet_shows_the_tally() -> None:
    shown = paper.form_sheet(TPS, FORMS[0], 1, TALLY, HEADING, random.Random(1))
    other = paper.form_sheet(TPS, FORMS[0], 1, TALLY | {"voters": 102}, HEADING, random.Random(1))
    box = ImageChops.difference(shown, other).getbbox()
    assert box is not None


def test_a_number_too_long_for_its_boxes_or_missing_is_no_error() -> None:
    for tally in ({}, {"voters": 10**9, "ballots_used": -3, "votes": {"1": "?"}}):
        for page in (1, 2):
            sheet = paper.form_sheet(TPS, FORMS[0], page, tally, HEADING, random.Random(1))
            assert sheet.size == (paper.WIDTH, paper.HEIGHT)


@pytest.mark.parametrize("sign", sorted(SIGNS))
@pytest.mark.parametrize("hand", range(5))
def test_a_sign_stays_near_its_box(sign: str, hand: int) -> None:
    mask = Image.new("L", (300, 300))
    Pen(ImageDraw.Draw(mask), random.Random(hand), width=7).sign(sign, 100, 100, 60, 100)
    box = mask.getbbox()
    assert box is not None
    left, top, right, bottom = box
    assert 70 <= left < right <= 190
    assert 80 <= top < bottom <= 220
    assert bottom - top > 60
