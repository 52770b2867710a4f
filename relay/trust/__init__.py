"""Whom to believe: keys, certificates, the election office, and the one place that decides admission.

Above `records` and `log`, below everything that stores or sends. No I/O, and no clock is read: the office's own folder
is `relay.cli.authority`'s.
"""
