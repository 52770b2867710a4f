"""Photographs of result forms, made up: a sheet on a table, as an operator's phone would take it.

What a real photograph does to paper is done here to the sheet of `paper`: perspective, folds, uneven light, a shadow,
the sensor's noise, JPEG. The noise makes the bytes as incompressible as real ones: transfers in the demo are honest.
The same arguments give the same picture (with the same Pillow); nothing is read from disk, clock or system randomness.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Mapping
from itertools import pairwise

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from relay.cli.demo import paper
from relay.cli.demo.paper import PAGES, Heading

__all__ = ["MAX_PICTURE", "MIN_PICTURE", "PAGES", "Heading", "form_picture"]

WIDTH, HEIGHT = 1560, 2080
"""A phone's picture of three megapixels, upright."""

MIN_PICTURE, MAX_PICTURE = 1_300_000, 1_700_000
"""Bytes of a picture; the quality of the JPEG is chosen to stay between them."""
_AIM = 1_500_000

_WOODS = (
    ((72, 44, 26), (196, 140, 92)),
    ((92, 74, 58), (204, 182, 154)),
    ((48, 34, 28), (142, 100, 74)),
)
"""Darkest and lightest colour of a table."""

_LIGHT = (26, 35)
"""Light and shadow are smooth: computed on a coarse grid and stretched."""


def form_picture(tps: str, form: str, page: int, tally: Mapping[str, object], heading: Heading, seed: int) -> bytes:
    """A JPEG of one page of a filled-in form; it differs with every argument, and in noise with `seed`.

    `page` runs from 1 to `PAGES`; a missing number in `tally` is written as 0. Raises ValueError for another page.
    """
    # One hand fills in a form, yet each page is another photograph.
    draws = random.Random(f"{seed}/{tps}/{form}/{page}")  # noqa: S311  a picture that repeats itself, nothing secret
    sheet = paper.form_sheet(tps, form, page, tally, heading, draws)
    _handled(sheet, draws)
    scene = _photographed(sheet, draws)
    scene = ImageChops.multiply(scene, _light(draws))
    return _jpeg(_sensor_noise(scene, draws))


def _handled(sheet: Image.Image, draws: random.Random) -> None:
    """Two folds, and the violet ink that marks a voter's finger."""
    shade = Image.new("L", (1, 64), 255)
    folds = (0, draws.randint(19, 23), draws.randint(40, 45), 64)
    for n, (top, bottom) in enumerate(pairwise(folds)):
        tilt = draws.uniform(-9, 9)
        for y in range(top, bottom):
            crease = 7 if n and y == top else 0
            shade.putpixel((0, y), round(246 + tilt * (2 * (y - top) / (bottom - top) - 1)) - crease)
    bands = shade.resize(sheet.size, Image.Resampling.BICUBIC)
    sheet.paste(ImageChops.multiply(sheet, Image.merge("RGB", (bands, bands, bands))))
    smudge = Image.new("L", (90, 110))
    ImageDraw.Draw(smudge).ellipse((25, 22, 62, 84), fill=draws.randint(50, 130))
    smudge = smudge.filter(ImageFilter.GaussianBlur(7))
    sheet.paste((86, 50, 140), (draws.randint(0, 1100), draws.randint(1000, 1600)), smudge)


def _photographed(sheet: Image.Image, draws: random.Random) -> Image.Image:
    """The sheet seen in perspective on a table, with the shadow its edges throw."""
    coefficients = _perspective(draws)
    # As "RGBX" the outline goes through the same transformation; "RGBA" would be multiplied out twice, for nothing.
    # Its rim is left clear, so that the paper's edge comes out smooth.
    inside = ImageOps.expand(Image.new("L", (sheet.width - 4, sheet.height - 4), 255), border=2)
    opaque = Image.merge("RGBX", (*sheet.split(), inside))
    seen = opaque.transform((WIDTH, HEIGHT), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
    red, green, blue, outline = seen.split()
    table = _table(draws)
    small = outline.reduce(16).filter(ImageFilter.GaussianBlur(1.1)).point([i * 6 // 10 for i in range(256)])
    shadow = ImageChops.offset(small, draws.choice((-1, 1)), 1)
    table.paste((20, 14, 10), (0, 0), shadow.resize(table.size, Image.Resampling.BILINEAR))
    scene = table.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    scene.paste(Image.merge("RGB", (red, green, blue)), (0, 0), outline)
    return scene


def _perspective(draws: random.Random) -> tuple[float, ...]:
    """Pillow's eight numbers from a picture's point to the sheet's: a turn, a distance, and a camera not quite level.

    About the middles, with (u, v) the picture's point: sheet = (turn (u, v)) / (1 + g u + h v) + the sheet's middle.
    """
    turn = math.radians(draws.uniform(-5.5, 5.5))
    scale = draws.uniform(0.90, 0.95)
    g, h = draws.uniform(-4e-5, 4e-5), draws.uniform(-7e-5, 3e-5)
    cx, cy = WIDTH / 2 + draws.uniform(-25, 25), HEIGHT / 2 + draws.uniform(-30, 30)
    px, py = paper.WIDTH / 2, paper.HEIGHT / 2
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    a, b = cos + px * g, sin + px * h
    d, e = -sin + py * g, cos + py * h
    rows = (a, b, px - a * cx - b * cy, d, e, py - d * cx - e * cy, g, h)
    one = 1 - g * cx - h * cy
    return tuple(value / one for value in rows)


def _table(draws: random.Random) -> Image.Image:
    """Boards of wood: noise drawn out along the grain, and the gaps between them. At half size, being out of focus."""
    size = (WIDTH // 2, HEIGHT // 2)
    grain = Image.blend(_stretched(draws, (5, 520), size), _stretched(draws, (14, 130), size), 0.5)
    dark, light = draws.choice(_WOODS)
    table = ImageOps.colorize(grain, dark, light)
    lines = ImageDraw.Draw(table)
    y = draws.randint(20, 150)
    while y < size[1]:
        lines.line((0, y, size[0], y + draws.randint(-4, 4)), fill=(24, 15, 10), width=draws.randint(2, 3))
        y += draws.randint(150, 210)
    return table


def _stretched(draws: random.Random, grid: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    noise = Image.frombytes("L", grid, draws.randbytes(grid[0] * grid[1]))
    return noise.resize(size, Image.Resampling.BILINEAR)


def _light(draws: random.Random) -> Image.Image:
    """One lamp, the lens's dark corners, the shadow of whoever holds the phone, and the colour of the lamp."""
    columns, rows = _LIGHT
    lamp_x, lamp_y = draws.uniform(-0.2, 1.2), draws.uniform(-0.3, 0.5)
    falling = draws.uniform(0.12, 0.26)
    values = bytearray()
    for row in range(rows):
        for column in range(columns):
            x, y = column / (columns - 1), row / (rows - 1)
            lamp = 1.08 - falling * math.hypot(x - lamp_x, y - lamp_y)
            lens = 1.0 - 0.22 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
            values.append(round(255 * max(0.0, min(1.0, lamp * lens))))
    light = Image.frombytes("L", _LIGHT, bytes(values))
    body = Image.new("L", _LIGHT, 255)
    left = draws.uniform(-6, 18)
    depth = draws.uniform(4, 13)
    ImageDraw.Draw(body).polygon(
        [(left, rows), (left + draws.uniform(0, 4), rows - depth), (left + 11, rows - depth * 0.8), (left + 14, rows)],
        fill=draws.randint(150, 200),
    )
    light = ImageChops.multiply(light, body.filter(ImageFilter.GaussianBlur(1.6)))
    warm, cool = draws.choice(((1.0, 0.88), (1.0, 0.93), (0.99, 0.99), (0.95, 1.0)))
    tint = (warm, (warm + cool) / 2, cool)
    tinted = Image.merge("RGB", tuple(light.point([round(i * k) for i in range(256)]) for k in tint))
    return tinted.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)


def _sensor_noise(scene: Image.Image, draws: random.Random) -> Image.Image:
    """Grain in brightness, softer blotches in colour. The result is YCbCr, which JPEG stores anyway."""
    y, cb, cr = scene.convert("YCbCr").split()
    grain = Image.blend(_noise(draws, 1), _noise(draws, 1), 0.5)
    blotches = [_grainy(band, _noise(draws, 3), 0.06) for band in (cb, cr)]
    return Image.merge("YCbCr", (_grainy(y, grain, 0.145), *blotches))


def _noise(draws: random.Random, coarseness: int) -> Image.Image:
    size = (WIDTH // coarseness, HEIGHT // coarseness)
    noise = Image.frombytes("L", size, draws.randbytes(size[0] * size[1]))
    return noise if coarseness == 1 else noise.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)


def _grainy(band: Image.Image, noise: Image.Image, strength: float) -> Image.Image:
    return ImageChops.add(band, noise.point([round(128 + (i - 127.5) * strength) for i in range(256)]), 1, -128)


def _jpeg(picture: Image.Image) -> bytes:
    """The picture at a quality that makes it as large as a phone's would be."""
    quality = 93
    for _ in range(4):
        out = io.BytesIO()
        # Huffman tables made for this picture: nothing left for a compressor to gain.
        picture.save(out, "JPEG", quality=quality, optimize=True)
        size = out.tell()
        if MIN_PICTURE < size < MAX_PICTURE:
            break
        quality += round((_AIM - size) / 90_000)
        quality = max(50, min(98, quality))
    return out.getvalue()
