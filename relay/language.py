"""Indonesian for what the program says in English, text by text: errors, findings, messages, help.

`{}` in a text stands for a value (a path, a name, a number), which is carried over as it is: a node may be called
"receiver". Where a translation says `{:id}`, the value is a text of its own, and is translated.

So an error is translated where it is shown, on a terminal or a page, and the rooms that raise it know nothing of
languages. What stays English are the sentences that describe malformed bytes of a peer (evidence for whoever maintains
it), JSON output and logs. The pages' own texts do not live here but beside the pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources


class Catalogue:
    """Texts and their translations. A text with values is found by what stands between them; where two could fit, the
    one that says more itself is meant."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        with_values = sorted((text for text in texts if "{}" in text), key=lambda text: -len(text.replace("{}", "")))
        self._patterns = [(_pattern(text), text) for text in with_values]

    def find(self, text: str) -> str | None:
        """Which of the texts this is, with `{}` for its values; None where it is none of them."""
        if text in self._texts and "{}" not in text:
            return text
        return next((name for pattern, name in self._patterns if pattern.fullmatch(text)), None)

    def translate(self, text: str) -> str:
        """The translation, or the text itself where there is none."""
        name = self.find(text)
        match = _pattern(name).fullmatch(text) if name is not None else None
        if name is None or match is None:
            return text
        return self._texts[name].format(*(_Value(value, self.translate) for value in match.groups()))


class _Value:
    """A value of a text, to be formatted: `{}` as it is, `{:id}` translated."""

    def __init__(self, text: str, translate: Callable[[str], str]) -> None:
        self._text = text
        self._translate = translate

    def __format__(self, how: str) -> str:
        return self._translate(self._text) if how == "id" else self._text


@cache
def indonesian() -> Catalogue:
    """The Indonesian catalogue."""
    return Catalogue(json.loads((resources.files("relay") / "texts.id.json").read_text(encoding="utf-8")))


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile("(.*?)".join(re.escape(part) for part in text.split("{}")), re.DOTALL)
