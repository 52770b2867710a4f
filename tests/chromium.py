"""The Chromium that pages are opened in: without a window where Debian's package for that is installed, since a page
there takes a quarter of the processor; else the browser itself, which opens a window that nobody sees.
"""

from __future__ import annotations

import shutil

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WHY_NOT = "no chromium: apt-get install chromium-headless-shell"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """Its path; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)
