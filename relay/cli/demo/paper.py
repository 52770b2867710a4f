"""The result form as a sheet of paper: printed lines and labels in Indonesian, filled in with a pen.

Modelled on the kind of form a polling station fills in, without being one: no coat of arms, no names, and CONTOH
("example") printed across it, for the votes on it are made up. How it comes to look photographed is `pictures`' part.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from relay.cli.demo.handwriting import Pen

WIDTH, HEIGHT = 1240, 1754
"""A4 at 150 dots per inch."""
PAGES = 2
MAX_PAIRS_SHOWN = 4

_INK_SCALE = 2
"""The pen writes on a mask of twice the size, shrunk afterwards: smooth strokes at little cost."""
_MARGIN = 96
_PRINT = 42
_BOX = 50
_GROUPS_PER_ROW = 18


@dataclass(frozen=True, slots=True)
class Heading:
    """Where the form was filled in, as printed at its top."""

    number: int
    village: str
    district: str
    regency: str
    province: str


def form_sheet(
    tps: str, form: str, page: int, tally: Mapping[str, object], heading: Heading, draws: random.Random
) -> Image.Image:
    """The filled-in page as an RGB picture of `WIDTH` x `HEIGHT`. Page 1: voters and ballots; page 2: votes."""
    if not 1 <= page <= PAGES:
        raise ValueError(f"a form has pages 1 to {PAGES}, not {page}")
    sheet = _Sheet(draws)
    sheet.marks(f"{tps}/{form}/{page}")
    top = sheet.title(form, page, tps, heading)
    if page == 1:
        _voters_and_ballots(sheet, top, tally)
    else:
        _votes(sheet, top, tally)
    return sheet.finished(draws)


def _voters_and_ballots(sheet: _Sheet, top: int, tally: Mapping[str, object]) -> None:
    y = sheet.section(top, "I.  DATA PEMILIH DAN PENGGUNA HAK PILIH")
    y = sheet.row(y, "A", "Jumlah pemilih dalam Daftar Pemilih Tetap (DPT)", _count(tally, "registered_voters"))
    y = sheet.row(y, "B", "Jumlah pengguna hak pilih yang hadir di TPS", _count(tally, "voters"))
    y = sheet.section(y + 26, "II.  DATA PENGGUNAAN SURAT SUARA")
    for number, text, key in (
        ("1", "Surat suara yang diterima, termasuk cadangan 2,5% dari DPT (2 + 3 + 4)", "ballots_received"),
        ("2", "Surat suara yang digunakan", "ballots_used"),
        ("3", "Surat suara dikembalikan karena rusak atau keliru dicoblos", "ballots_spoiled"),
        ("4", "Surat suara yang tidak digunakan, termasuk sisa cadangan", "ballots_unused"),
    ):
        y = sheet.row(y, number, text, _count(tally, key))
    sheet.signatures(y + 26, "KELOMPOK PENYELENGGARA PEMUNGUTAN SUARA", ["Ketua"] + ["Anggota"] * 6)


def _votes(sheet: _Sheet, top: int, tally: Mapping[str, object]) -> None:
    votes = tally.get("votes")
    pairs = [(str(pair), _whole(count)) for pair, count in votes.items()] if isinstance(votes, Mapping) else []
    pairs = pairs[:MAX_PAIRS_SHOWN]
    y = sheet.section(top, "III.  DATA PEROLEHAN SUARA PASANGAN CALON")
    for pair, count in pairs:
        y = sheet.pair(y, pair, count, rows=5 if len(pairs) <= 2 else 2)
    y = sheet.section(y + 22, "IV.  DATA SUARA SAH DAN TIDAK SAH")
    valid, invalid = _count(tally, "valid"), _count(tally, "invalid")
    y = sheet.row(y, "A", "Jumlah seluruh suara sah", valid)
    y = sheet.row(y, "B", "Jumlah suara tidak sah", invalid)
    y = sheet.row(y, "C", "Jumlah suara sah dan suara tidak sah (A + B)", valid + invalid)
    witnesses = [f"Saksi paslon {pair}" for pair, _ in pairs]
    sheet.signatures(y + 22, "KETUA KPPS DAN SAKSI", ["Ketua", "Anggota", *witnesses])


def _count(tally: Mapping[str, object], key: str) -> int:
    return _whole(tally.get(key))


def _whole(value: object) -> int:
    """What the boxes have room for: a whole number of at most four digits."""
    return min(max(value, 0), 9_999) if isinstance(value, int) else 0


class _Sheet:
    """The paper while it is printed and written on."""

    def __init__(self, draws: random.Random) -> None:
        self._paper = Image.new("L", (WIDTH, HEIGHT), 246)
        self._print = ImageDraw.Draw(self._paper)
        self._ink = Image.new("L", (WIDTH * _INK_SCALE, HEIGHT * _INK_SCALE))
        self._pen = Pen(ImageDraw.Draw(self._ink), draws, width=draws.randint(6, 9))
        self._draws = draws
        self._fonts: dict[int, ImageFont.FreeTypeFont | ImageFont.ImageFont] = {}

    def marks(self, name: str) -> None:
        """What a scanner looks for: squares in the corners, a code of bars and one of dots that name this page."""
        for x in (40, WIDTH - 74):
            for y in (40, HEIGHT - 74):
                self._print.rectangle((x, y, x + 34, y + 34), fill=25)
        digest = hashlib.sha256(name.encode()).digest()
        bits = [byte >> bit & 1 for byte in digest for bit in range(8)]
        x = WIDTH - 480
        for bit in bits[:120]:
            width = 4 if bit else 2
            self._print.rectangle((x, HEIGHT - 84, x + width - 1, HEIGHT - 44), fill=30)
            x += width + (2 if bits[x % 256] else 3)
            if x > WIDTH - 110:
                break
        self._dots(bits)
        self._text(100, HEIGHT - 72, f"{name}   CONTOH, bukan dokumen resmi", 17, 90)

    def _dots(self, bits: list[int]) -> None:
        left, top, dot = WIDTH - 218, 54, 7
        for n, bit in enumerate(bits[:196]):
            x, y = left + n % 14 * dot, top + n // 14 * dot
            if bit:
                self._print.rectangle((x, y, x + dot - 1, y + dot - 1), fill=30)
        for x, y in ((left, top), (left + 10 * dot, top), (left, top + 10 * dot)):
            self._print.rectangle((x, y, x + 4 * dot - 1, y + 4 * dot - 1), fill=30, outline=246)
            self._print.rectangle((x + dot, y + dot, x + 3 * dot - 1, y + 3 * dot - 1), fill=246)
            self._print.rectangle((x + 11, y + 11, x + 16, y + 16), fill=30)

    def title(self, form: str, page: int, tps: str, heading: Heading) -> int:
        office = form.rsplit("-", 1)[-1]
        self._print.rectangle((_MARGIN, 56, _MARGIN + 450, 112), outline=_PRINT, width=3)
        self._text(_MARGIN + 225, 84, "MODEL " + form.replace("C-HASIL", "C.HASIL"), 24, anchor="mm", bold=True)
        self._text(_MARGIN + 470, 70, f"Halaman {page} dari {PAGES}", 20)
        for y, line, size in (
            (170, "BERITA ACARA DAN SERTIFIKAT", 34),
            (212, "HASIL PENGHITUNGAN PEROLEHAN SUARA DI TEMPAT PEMUNGUTAN SUARA", 27),
            (250, f"PEMILIHAN {office} DAN WAKIL {office} TAHUN 2024", 27),
        ):
            self._text(WIDTH // 2, y, line, size, anchor="mm", bold=True)
        for y, label, value in (
            (296, "TPS Nomor", ""),
            (340, "Kode TPS", tps),
            (374, "Desa / Kelurahan", heading.village.upper()),
            (408, "Kecamatan", heading.district.upper()),
            (442, "Kabupaten", heading.regency.upper()),
            (476, "Provinsi", heading.province.upper()),
        ):
            self._text(_MARGIN, y, label, 23)
            self._text(360, y, ":", 23)
            self._text(384, y, value, 23, bold=True)
            if value:
                for x in range(384, WIDTH - _MARGIN, 9):
                    self._print.point((x, y + 29), fill=90)
        self._digits(384, 288, f"{heading.number:03d}", height=44)
        return 528

    def section(self, y: int, text: str) -> int:
        self._print.rectangle((_MARGIN, y, WIDTH - _MARGIN, y + 42), fill=206, outline=_PRINT, width=2)
        self._text(_MARGIN + 14, y + 21, text, 23, anchor="lm", bold=True)
        return y + 42

    def row(self, y: int, number: str, text: str, count: int) -> int:
        bottom = y + 74
        self._print.rectangle((_MARGIN, y, WIDTH - _MARGIN, bottom), outline=_PRINT, width=2)
        self._print.line((_MARGIN + 60, y, _MARGIN + 60, bottom), fill=_PRINT, width=2)
        self._text(_MARGIN + 30, y + 37, number, 23, anchor="mm")
        self._text(_MARGIN + 76, y + 37, text, 22, anchor="lm")
        self._digits(WIDTH - _MARGIN - 16 - 3 * _BOX, y + 10, f"{count:X>3d}", height=54)
        return bottom

    def pair(self, y: int, pair: str, count: int, rows: int) -> int:
        """The block of one pair of candidates: its number, the tally in fives, the total in digits."""
        pitch = 40
        bottom = y + 46 + rows * pitch + 12
        self._print.rectangle((_MARGIN, y, WIDTH - _MARGIN, bottom), outline=_PRINT, width=2)
        self._print.ellipse((_MARGIN + 18, y + 50, _MARGIN + 78, y + 110), outline=_PRINT, width=3)
        self._text(_MARGIN + 48, y + 80, pair, 38, anchor="mm", bold=True)
        self._text(_MARGIN + 110, y + 12, f"PASANGAN CALON NOMOR URUT {pair}", 22, bold=True)
        self._text(WIDTH - _MARGIN - 95, y + 28, "JUMLAH", 20, anchor="mm", bold=True)
        left, cell = _MARGIN + 110, 41
        for n in range(rows * _GROUPS_PER_ROW):
            x, cell_y = left + n % _GROUPS_PER_ROW * cell, y + 46 + n // _GROUPS_PER_ROW * pitch
            self._print.rectangle((x, cell_y, x + cell, cell_y + pitch), outline=150)
            strokes = min(5, count - 5 * n)
            if strokes > 0:
                s = _INK_SCALE
                self._pen.tally(strokes, s * (x + 4), s * (cell_y + 5), s * (cell - 8), s * (pitch - 9))
        self._digits(WIDTH - _MARGIN - 16 - 3 * _BOX, y + 60, f"{count:X>3d}", height=60)
        return bottom

    def signatures(self, y: int, text: str, roles: list[str]) -> None:
        top = self.section(y, text)
        columns = 4
        height = min(176, (HEIGHT - 110 - top) // -(-len(roles) // columns))
        width = (WIDTH - 2 * _MARGIN) // columns
        for n, role in enumerate(roles):
            x, cell_y = _MARGIN + n % columns * width, top + n // columns * height
            self._print.rectangle((x, cell_y, x + width, cell_y + height), outline=_PRINT, width=2)
            self._text(x + 12, cell_y + 8, f"{n + 1}. {role}", 19)
            s, r = _INK_SCALE, self._draws
            self._pen.signature(
                s * (x + r.uniform(30, 60)), s * (cell_y + 40), s * width * r.uniform(0.5, 0.7), s * (height - 60)
            )

    def finished(self, draws: random.Random) -> Image.Image:
        """Print, watermark and ink together, in colour."""
        watermark = Image.new("L", (700, 200))
        ImageDraw.Draw(watermark).text((350, 100), "CONTOH", fill=30, font=self._font(170), anchor="mm")
        watermark = watermark.rotate(38, Image.Resampling.BILINEAR, expand=True)
        place = ((WIDTH - watermark.width) // 2, (HEIGHT - watermark.height) // 2 + 60)
        self._paper.paste(120, (*place, place[0] + watermark.width, place[1] + watermark.height), watermark)
        yellowish = self._paper.point([i * 242 // 246 for i in range(256)])
        sheet = Image.merge("RGB", (self._paper, self._paper, yellowish))
        ink = draws.choice(((24, 38, 120), (18, 28, 92), (30, 30, 38)))
        sheet.paste(ink, (0, 0), self._ink.reduce(_INK_SCALE))
        return sheet

    def _digits(self, x: int, y: int, digits: str, height: int) -> None:
        """Digits by hand, one in each printed box; a fourth digit gets a box to the left."""
        s = _INK_SCALE
        x -= (len(digits) - 3) * _BOX
        for n, digit in enumerate(digits):
            left = x + n * _BOX
            self._print.rectangle((left, y, left + _BOX, y + height), outline=_PRINT, width=2)
            self._pen.sign(digit, s * (left + 12), s * (y + height * 0.17), s * (_BOX - 23), s * height * 0.66)

    def _text(
        self, x: int, y: int, text: str, size: int, fill: int = _PRINT, *, anchor: str = "la", bold: bool = False
    ) -> None:
        self._print.text((x, y), text, fill=fill, font=self._font(size), anchor=anchor, stroke_width=0.5 if bold else 0)

    def _font(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        if size not in self._fonts:
            self._fonts[size] = ImageFont.load_default(size)
        return self._fonts[size]
