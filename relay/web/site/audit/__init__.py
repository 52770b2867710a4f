"""The audit of results: what a site shows of them, held against what its log says (promise 8).

`course` is what is done after what. `entries` takes what the log says into the ledger, and `truth` makes of it the very
documents that the site should show; `served` reads what it does show. `forms`, `regions`, `tables` and `strays` compare
one kind of documents each (`difference`), and `compared` is what it comes to.
"""
