"""Files that are sent to readers who may be gone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from relay.web.sending import Part


@pytest.mark.parametrize("error", [BrokenPipeError("gone"), AttributeError("no protocol")])
async def test_a_reader_who_goes_in_the_middle_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Python 3.11.2 says of a TLS connection that is gone that it has no protocol."""

    async def goes(_response: web.FileResponse, _request: object) -> None:
        raise error

    monkeypatch.setattr(web.FileResponse, "prepare", goes)
    gone: Any = SimpleNamespace(transport=None)
    with pytest.raises(ConnectionResetError):
        await Part(tmp_path / "photo.jpg").prepare(gone)
    here: Any = SimpleNamespace(transport=object())
    with pytest.raises(ConnectionResetError if isinstance(error, OSError) else AttributeError):
        await Part(tmp_path / "photo.jpg").prepare(here)
