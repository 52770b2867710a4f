"""The sheet to print for a box without a screen: the code to scan, the code to type, what to do, in both languages."""

from __future__ import annotations

import html
from dataclasses import dataclass

from relay.node.pairing import Offer


@dataclass(frozen=True, slots=True)
class Sheet:
    """What is printed: of which box, under which address its page is, the name of its Wi-Fi and its certificate's
    fingerprint, where there are any."""

    box: str
    page: str
    offer: Offer
    wifi: str = ""
    fingerprint: str = ""

    def html(self, link: str) -> str:
        """The page to print; `link` is what its QR code holds."""
        import segno

        picture = segno.make(link, error="m", micro=False).svg_inline(scale=6, border=2)
        parts = "".join(f'<section lang="{lang}">{self._told(words)}</section>' for lang, words in _WORDS.items())
        mark = f"<p><small>SHA-256: {self.fingerprint}</small></p>" if self.fingerprint else ""
        return f"""<!doctype html>
<html lang="id"><meta charset="utf-8"><title>{_WORDS["id"].title}: {html.escape(self.box)}</title>
<style>
@page {{ size: A4; margin: 1.2cm; }}
body {{ font: 13pt/1.4 sans-serif; max-width: 18cm; margin: 0 auto; }}
h1, h2 {{ margin: .4em 0 .2em; font-size: 1.4em; }}
ol {{ margin: .3em 0; }}
p {{ margin: .4em 0; }}
code {{ font-size: 22pt; letter-spacing: .1em; }}
svg {{ display: block; }}
section + section {{ border-top: 1px solid; margin-top: .8em; }}
small {{ font-size: 9pt; overflow-wrap: anywhere; }}
</style>
<h1>{html.escape(self.box)}</h1>
{picture}
<p><b>{html.escape(self.page)}/operator</b><br><code>{self.offer.spoken}</code></p>
{parts}{mark}</html>
"""

    def _told(self, words: _Words) -> str:
        wifi = words.this_wifi.format(f"<b>{html.escape(self.wifi)}</b>") if self.wifi else words.wifi
        steps = (wifi, words.scan, *((words.warned,) if self.fingerprint else ()), words.tap)
        listed = "".join(f"<li>{step}</li>" for step in steps)
        return f"<h2>{words.title}</h2><ol>{listed}</ol><p>{words.typed}</p><p><small>{words.key}</small></p>"


@dataclass(frozen=True, slots=True)
class _Words:
    title: str
    wifi: str
    this_wifi: str
    scan: str
    warned: str
    tap: str
    typed: str
    key: str


_WORDS = {
    "id": _Words(
        "Pasangkan ponsel",
        "Sambungkan ponsel ke Wi-Fi kotak ini.",
        "Sambungkan ponsel ke Wi-Fi {}.",
        "Pindai kode ini dengan kamera ponsel.",
        "Peramban memberi peringatan satu kali, karena kotak ini tidak dikenal di internet. "
        "Pilih <b>Lanjutan</b>, lalu <b>Lanjutkan</b>.",
        "Tekan <b>Pasangkan</b>.",
        "Tanpa kamera: buka alamat di atas dan ketik kodenya.",
        "Berlaku untuk satu ponsel. Simpan lembar ini seperti kunci.",
    ),
    "en": _Words(
        "Pair a phone",
        "Connect the phone to this box's Wi-Fi.",
        "Connect the phone to the Wi-Fi {}.",
        "Scan this code with the phone's camera.",
        "The browser warns once, since this box is not known on the internet. "
        "Choose <b>Advanced</b>, then <b>Proceed</b>.",
        "Tap <b>Pair</b>.",
        "Without a camera: open the address above and type the code.",
        "It is for one phone. Keep this sheet like a key.",
    ),
}
