"""The language of what commands say: Indonesian where the locale asks for it, English otherwise."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from relay.language import indonesian


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


def told(text: str) -> str:
    """A text in the language of the person at this terminal."""
    return text if wanted_language(os.environ) == "en" else indonesian().translate(text)


def told_in_parts(text: str) -> str:
    """The same for a text that may say where before what: `FILE: what is wrong there`."""
    where, colon, what = text.partition(": ")
    said = told(text)
    if colon and (told(where) != where or said == text):
        return f"{told(where)}: {told(what)}"
    return said
