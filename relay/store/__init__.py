"""Where bundles rest: one interface (`interface`), with SQLite and files behind it (`sqlite`), or PostgreSQL and S3
(`cluster`).

Stores what admission has let in, makes it durable before it says so, and answers what is held and what is missing.
Knows nothing of peers, sockets or certificates.
"""
