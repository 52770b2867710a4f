"""Hostile peers against real daemons, over real mutual TLS: each case of docs/reliability.md is a test of its name.

What a peer can do wrong within one visit is in `tests.promises`, what somebody without a certificate can do in
`tests.e2e.test_strangers`. Here the peer is enrolled, speaks the protocol below its rules, and means harm. After every
test each daemon has to be alive and well: no traceback, and its memory under `MAX_RESIDENT` at its highest.
"""
