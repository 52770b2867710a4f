"""The asking side of C2SP `tlog-witness`: independent witnesses, over HTTP.

Lives here: the call and its bytes. Does not live here: what a cosignature is worth; whoever asks checks it against the
keys that the election office publishes (`relay.trust.witness`).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import aiohttp

from relay.errors import Malformed, Refused, Unreachable
from relay.limits import MAX_CHECKPOINT, WITNESS_SECONDS

_SIZE = "text/x.tlog.size"


class Behind(Exception):
    """The witness has seen the log at another size than was said: `size` is the one to prove growth from."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


async def add_checkpoint(
    session: aiohttp.ClientSession, url: str, old: int, proof: Sequence[bytes], checkpoint: bytes
) -> bytes:
    """Have the witness at `url` (its submission prefix) cosign a checkpoint that extends the one of `old` entries.

    Its signature lines, unchecked. Raises `Behind`, `Refused` for a witness that will not, `Unreachable`, `Malformed`.
    """
    lines = [f"old {old}\n", *(f"{base64.b64encode(one).decode()}\n" for one in proof), "\n"]
    body = "".join(lines).encode() + checkpoint
    timeout = aiohttp.ClientTimeout(total=WITNESS_SECONDS)
    try:
        async with session.post(f"{url}/add-checkpoint", data=body, timeout=timeout, allow_redirects=False) as response:
            content = await response.content.read(MAX_CHECKPOINT + 1)
            status, kind = response.status, response.content_type
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        said = str(error) or type(error).__name__
        raise Unreachable(f"The witness {url} is out of reach ({said})", "It is asked again later.") from error
    if len(content) > MAX_CHECKPOINT:
        raise Malformed(f"The witness {url} answers without end")
    if status == 409 and kind == _SIZE:
        raise Behind(_size(url, content))
    if status != 200:
        raise Refused(
            "not-cosigned",
            f"The witness {url} does not cosign the log (it answers {status})",
            "404 and 403: give it this log's key. 409 and 422: it saw another log; look into this at once.",
        )
    return content


def _size(url: str, content: bytes) -> int:
    digits = content.removesuffix(b"\n")
    if not digits.isdigit() or len(digits) > 18:
        raise Malformed(f"The witness {url} tells of no size")
    return int(digits)
