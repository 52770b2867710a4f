"""What nodes sign and reconcile: statements, notices, receipts, and their encoding. Pure.

Bytes and values in, bytes and values out: no files, no sockets, no clock. A record that parses here is well formed
and nothing more; whether its signer may say what it says is decided in `relay.trust`.
"""
