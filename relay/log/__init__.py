"""The receiver's Merkle log: tree hashing, proofs, signed notes, checkpoints, cosignatures, tile layout. Pure.

Knows nothing of statements, stores, files or clocks: bytes and numbers in, bytes and numbers out.
"""
