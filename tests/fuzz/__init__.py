"""Arbitrary bytes against every decoder and every call of a visit.

`targets` says what each input is given to and what has to hold, `visits` joins a node without sockets, `inputs` makes
seeds and mutations, `corpus` keeps the inputs worth keeping. `python -m tests.fuzz` fuzzes, guided by coverage
(atheris); `test_corpus` replays what was kept and mutates a little, without atheris.
"""
