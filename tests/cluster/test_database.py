"""What is wrong with the database is told in words, whatever it is."""

from __future__ import annotations

import pytest

from relay.errors import StoreError
from relay.store.cluster.database import Database, bring_up_to_date


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://relay@127.0.0.1:99999/relay",
        "postgresql://relay@127.0.0.1:-1/relay",
        "postgresql://relay@127.0.0.1:port/relay",
        "postgresql://relay@[::1/relay",
        "postgresql://relay@127.0.0.1:1/relay?sslmode=perhaps",
        "postgresql://relay@127.0.0.1:1/relay?sslmode=verify-full&sslrootcert=/nothing-here",
    ],
)
async def test_a_url_that_names_no_database_is_told_in_words(url: str) -> None:
    for opening in (Database.open(url), bring_up_to_date(url)):
        with pytest.raises(StoreError, match=r"`database` in config\.toml"):
            await opening
