"""Indonesian for what the program says in English, text by text: errors, findings, messages, help.

`{}` in a text stands for a value (a path, a name, a number), which is carried over. So an error is translated where it
is shown, on a terminal or a page, and the rooms that raise it know nothing of languages. What stays English are the
sentences that describe malformed bytes of a peer (evidence for whoever maintains it), JSON output and logs. The pages'
own texts do not live here but beside the pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources


class Catalogue:
    """Texts and their translations. A text with values is found by what stands between them.

    Where two could fit, the one that says more itself is meant; a value that is a text of its own is translated too.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._plain = {text: said for text, said in texts.items() if "{}" not in text}
        with_values = sorted((text for text in texts if "{}" in text), key=lambda text: -len(text.replace("{}", "")))
        self._with_values = [(_pattern(text), texts[text]) for text in with_values]

    def translate(self, text: str) -> str:
        """The translation, or the text itself where there is none."""
        if text in self._plain:
            return self._plain[text]
        for pattern, said in self._with_values:
            match = pattern.fullmatch(text)
            if match is not None:
                return said.format(*(self._plain.get(value, value) for value in match.groups()))
        return text


@cache
def indonesian() -> Catalogue:
    """The Indonesian catalogue."""
    return Catalogue(json.loads((resources.files("relay") / "texts.id.json").read_text(encoding="utf-8")))


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile("(.*?)".join(re.escape(part) for part in text.split("{}")), re.DOTALL)
