"""The language of what commands say: Indonesian where the locale asks for it, English otherwise."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from relay.language import indonesian

OF_SYSTEM = (
    "No such file or directory",
    "Is a directory",
    "Not a directory",
    "Permission denied",
    "Operation not permitted",
    "Read-only file system",
    "No space left on device",
    "Input/output error",
    "File name too long",
    "File exists",
    "Too many levels of symbolic links",
    "Name or service not known",
    "Cannot assign requested address",
)
"""What the system says of files and addresses, in errors that quote it."""


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


def number(text: str) -> str:
    """A number as the person at this terminal writes it: Indonesian has a decimal comma."""
    return text if wanted_language(os.environ) == "en" else text.replace(".", ",")


def told_in_parts(text: str) -> str:
    """The same for a text that may say where before what: `FILE: what is wrong there`."""
    where, colon, what = text.partition(": ")
    said = told(text)
    if ": " in (indonesian().find(text) or ""):  # one sentence, with a colon of its own
        return said
    place = told(where) if " " in where else where  # one word is a name
    if colon and (place != where or said == text):
        return f"{place}: {told(what)}"
    return said
