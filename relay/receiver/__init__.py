"""The receiver: what is complete gets its entry in the log, its receipt, and is published.

intake (the visited side, `relay.sync.host`) → sequencing → receipts → published site. Each package exactly once
(promise 6).
"""
