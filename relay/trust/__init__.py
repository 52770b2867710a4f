"""Whom to believe: keys, certificates, the election office, and the one place that decides admission.

Above `records` and `log`, below everything that stores or sends. Its logic does no I/O and reads no clock: the only
module here that touches files is `authority`, the office's own folder.
"""
