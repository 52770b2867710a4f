"""The public site: static files that any web server or bucket can serve, written as results arrive.

`regions` and `documents` say what is published, `pages` how it looks. `builder` keeps it up to date: a `batch` of
arrivals at a time, or a `layout` of all regions. `service` runs it beside the receiver. Nothing here answers a request.

The other side is `audit`: what any site shows, held against its log.
"""
