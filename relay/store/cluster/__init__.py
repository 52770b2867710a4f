"""The receiver's store at national scale: PostgreSQL for the catalogue and the log, an S3 bucket for content and files.

Any number of receivers work on one such store, each with nothing of its own but a key and a cache. `store` puts it
together; `schema` and `database` are PostgreSQL, `records` and `transfers` what is done there, `bucket` is S3, and
`watch` is how receivers hear of each other and who of them leads.

Needs the extra `cluster` (asyncpg, obstore); nothing else in relay imports this package.
"""
