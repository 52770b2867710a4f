"""The language of what commands say: Indonesian where the locale asks for it, English otherwise.

The program speaks English; `texts.id.json` says the same in Indonesian, text by text. `{}` in a text stands for a value
(a path, a name, a number), which is carried over: errors are translated here, where they are shown, and the rooms that
raise them know nothing of languages. What the catalogue does not have stays English: it has what an operator's node
shows. JSON output and logs are never translated; programs read them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources


def wanted_language(environment: Mapping[str, str]) -> str:
    """`id` or `en`, by the variables that gettext programs follow: LANGUAGE, LC_ALL, LC_MESSAGES, LANG."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        locale = environment.get(name, "")
        if locale:
            break
    if locale in ("", "C", "POSIX") or locale.startswith("C."):
        return "en"
    first = next((one for one in (*environment.get("LANGUAGE", "").split(":"), locale) if one), "")
    return "id" if re.match(r"id(_|\.|@|$)", first) else "en"


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


def told(text: str) -> str:
    """A text in the language of the person at this terminal."""
    return text if wanted_language(os.environ) == "en" else indonesian().translate(text)


@cache
def indonesian() -> Catalogue:
    """The Indonesian catalogue."""
    return Catalogue(json.loads((resources.files("relay.cli") / "texts.id.json").read_text(encoding="utf-8")))


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile("(.*?)".join(re.escape(part) for part in text.split("{}")), re.DOTALL)
