"""One visit: reconcile, choose, pull, push; and the visited side of it.

Talks to a `Peer` and a `Store`; no sockets, no files. The order of a visit is in `visit`, what a node answers in
`host`, what crosses the wire in `messages`, how sets are compared in `reconcile`.
"""
